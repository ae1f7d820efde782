//! The settings of training that do not depend on the method.

use serde::{Deserialize, Serialize};

use super::{ClassWeights, Schedule, TrainError};
use crate::settings::{Key, Kind, SettingError};

/// How long, how fast and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Number of optimizer steps; if absent, `epochs` decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the training examples; read if `steps` is absent.
    pub epochs: f64,
    /// Examples per forward pass.
    pub batch_size: usize,
    /// Forward passes per optimizer step.
    pub accumulation: usize,
    /// What each class counts in the loss; if absent, all rows count once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0.
    pub warmup: u64,
    /// Steps between evaluations on tune; if absent, there are ten evaluations over the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_interval: Option<u64>,
    /// Steps between checkpoints; if absent, there is one at every evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<u64>,
    /// How many of the newest checkpoints are kept.
    pub keep_checkpoints: usize,
    /// The score on tune by which the best step is kept; if absent, the last step is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<Score>,
    /// Stop after this many evaluations in a row without a better score; needs `keep_best`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// Draws in the evaluations on tune; 0 for the mean alone.
    pub eval_samples: usize,
}

impl TrainConfig {
    /// A row for each key.
    pub const KEYS: [Key; 13] = [
        Key::new(
            "steps",
            Kind::Whole,
            "Optimizer steps; where absent, epochs decides; 0 to fit a method to an adapter.",
        )
        .with_flag("steps", "N")
        .with_example("400"),
        Key::new(
            "epochs",
            Kind::Number,
            "Passes over the training examples; read where steps is absent.",
        )
        .with_flag("epochs", "X")
        .instead_of("steps"),
        Key::new("batch_size", Kind::Whole, "Examples per forward pass.")
            .with_flag("batch-size", "N"),
        Key::new(
            "accumulation",
            Kind::Whole,
            "Forward passes per optimizer step.",
        )
        .with_flag("accumulation", "N"),
        Key::new(
            "class_weights",
            Kind::WordOrNumbers(&["balanced"]),
            "What each class counts in the loss: balanced, n/(K n_k) for n_k of n rows in K classes, or a number for each answer; docs/methods.md.",
        )
        .with_flag("class-weights", "balanced|W,W")
        .with_example("\"balanced\""),
        Key::new(
            "schedule",
            Kind::OneOf(&["constant", "linear", "cosine"]),
            "How the learning rate changes after the warm-up.",
        )
        .with_flag("schedule", "NAME"),
        Key::new(
            "warmup",
            Kind::Whole,
            "Steps over which the learning rate rises from 0.",
        )
        .with_flag("warmup", "N"),
        Key::new(
            "eval_interval",
            Kind::Whole,
            "Steps between evaluations on tune; ten over the run by default.",
        )
        .with_flag("eval-interval", "N")
        .with_example("50"),
        Key::new(
            "checkpoint_interval",
            Kind::Whole,
            "Steps between checkpoints; one at every evaluation by default.",
        )
        .with_flag("checkpoint-interval", "N")
        .with_example("50"),
        Key::new(
            "keep_checkpoints",
            Kind::Whole,
            "The newest checkpoints that are kept.",
        ),
        Key::new(
            "keep_best",
            Kind::OneOf(&["nll", "accuracy", "brier", "ece"]),
            "The score on tune by which the best step is kept; the last step by default.",
        )
        .with_flag("keep-best", "SCORE")
        .with_example("\"nll\""),
        Key::new(
            "patience",
            Kind::Whole,
            "Stop after this many evaluations in a row without a better score; needs keep_best.",
        )
        .with_flag("patience", "N")
        .with_example("3"),
        Key::new(
            "eval_samples",
            Kind::Whole,
            "Draws in the evaluations on tune; 0 for the mean alone.",
        ),
    ];
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: 3.0,
            batch_size: 4,
            accumulation: 1,
            class_weights: None,
            schedule: Schedule::Linear,
            warmup: 0,
            eval_interval: None,
            checkpoint_interval: None,
            keep_checkpoints: 2,
            keep_best: None,
            patience: None,
            eval_samples: 0,
        }
    }
}

/// A score on tune by which the best step is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Score {
    Nll,
    Accuracy,
    Brier,
    Ece,
}

/// The length of a run in steps, from its settings and its number of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Length {
    /// Optimizer steps.
    pub steps: u64,
    /// Steps between evaluations.
    pub eval_interval: u64,
    /// Steps between checkpoints.
    pub checkpoint_interval: u64,
}

impl TrainConfig {
    /// Checks everything that does not depend on the data.
    ///
    /// # Errors
    /// [`TrainError::Setting`] with the setting, its value and what is allowed.
    pub fn validate(&self) -> Result<(), TrainError> {
        for (name, value) in [
            ("batch_size", self.batch_size),
            ("accumulation", self.accumulation),
            ("keep_checkpoints", self.keep_checkpoints),
        ] {
            if value == 0 {
                return Err(SettingError::value(name, "0", "at least 1").into());
            }
        }
        for (name, value) in [
            ("eval_interval", self.eval_interval),
            ("checkpoint_interval", self.checkpoint_interval),
            ("patience", self.patience),
        ] {
            if value == Some(0) {
                return Err(SettingError::value(name, "0", "at least 1").into());
            }
        }
        if self.steps.is_none() && !(self.epochs > 0.0 && self.epochs <= 1e6) {
            let expected = "a number above 0 and at most 1e6";
            return Err(SettingError::value("epochs", self.epochs, expected).into());
        }
        if let Some(weights) = &self.class_weights {
            weights.validate()?;
        }
        if let (Some(patience), None) = (self.patience, self.keep_best) {
            let found = format!("`{patience}` without `keep_best`");
            let expected = "a score to watch beside it, such as `nll`";
            return Err(SettingError::new("patience", found, expected).into());
        }
        self.steps.map_or(Ok(()), |steps| self.check_warmup(steps))
    }

    /// Checks that a run of this many steps is longer than its warm-up.
    ///
    /// # Errors
    /// [`TrainError::LongWarmup`] if it is not.
    pub fn check_warmup(&self, steps: u64) -> Result<(), TrainError> {
        // A run without steps needs no warm-up.
        match steps > 0 && self.warmup >= steps {
            true => Err(TrainError::LongWarmup {
                warmup: self.warmup,
                steps,
            }),
            false => Ok(()),
        }
    }

    /// The steps of a run over `examples` training examples.
    pub fn length(&self, examples: usize) -> Length {
        let per_step = (self.batch_size * self.accumulation) as f64;
        let steps = self
            .steps
            .unwrap_or_else(|| ((self.epochs * examples as f64 / per_step).round() as u64).max(1));
        let eval_interval = self
            .eval_interval
            .unwrap_or_else(|| steps.div_ceil(10).max(1));
        Length {
            steps,
            eval_interval,
            checkpoint_interval: self.checkpoint_interval.unwrap_or(eval_interval),
        }
    }
}

impl Score {
    /// The score, negated if necessary so that lower is better.
    pub fn loss(self, scores: &crate::watch::MainScores) -> f64 {
        match self {
            Self::Nll => scores.nll,
            Self::Accuracy => -scores.accuracy,
            Self::Brier => scores.brier,
            Self::Ece => scores.ece,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_become_steps_and_intervals_follow() {
        let config = TrainConfig {
            epochs: 2.0,
            batch_size: 4,
            ..TrainConfig::default()
        };
        assert_eq!(
            config.length(200),
            Length {
                steps: 100,
                eval_interval: 10,
                checkpoint_interval: 10
            }
        );
        let config = TrainConfig {
            steps: Some(7),
            eval_interval: Some(3),
            ..config
        };
        assert_eq!(
            config.length(200),
            Length {
                steps: 7,
                eval_interval: 3,
                checkpoint_interval: 3
            }
        );
    }

    #[test]
    fn a_setting_out_of_range_is_named_with_what_is_allowed() {
        let config = TrainConfig {
            batch_size: 0,
            ..TrainConfig::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "`batch_size` is `0`, expected at least 1"
        );
        let config = TrainConfig {
            epochs: f64::NAN,
            ..TrainConfig::default()
        };
        assert!(config.validate().is_err());
        let config = TrainConfig {
            patience: Some(2),
            ..TrainConfig::default()
        };
        let error = config.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`patience` is `2` without `keep_best`, expected a score to watch beside it, such as `nll`"
        );
    }

    #[test]
    fn a_warmup_that_outlasts_the_run_is_refused() {
        let config = TrainConfig {
            steps: Some(10),
            warmup: 10,
            ..TrainConfig::default()
        };
        let error = config.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the learning rate warms up for 10 steps in a run of 10, expected fewer"
        );
        assert!(error.hint().unwrap().contains("`warmup`"));
        let config = TrainConfig {
            steps: None,
            epochs: 1.0,
            batch_size: 4,
            warmup: 26,
            ..TrainConfig::default()
        };
        assert!(
            config.validate().is_ok() && config.check_warmup(config.length(100).steps).is_err()
        );
        assert!(
            TrainConfig {
                steps: Some(10),
                warmup: 9,
                ..TrainConfig::default()
            }
            .validate()
            .is_ok()
        );
    }
}
