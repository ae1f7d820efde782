//! The settings of IVON in a run, and what they come to.

use ivon::{HessianApproximation, IvonConfig, MeanUpdate, NoiseSource};
use serde::{Deserialize, Serialize};

use crate::method::adamw::AdamwConfig;
use crate::method::settings::Setup;
use crate::settings::{Key, Kind};

/// IVON's settings in a run. What is absent comes from the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IvonMethodConfig {
    /// Where settings that are absent come from.
    pub recipe: Recipe,
    /// The learning rate before the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// The effective sample size; the posterior's variance is 1 / (ess · (h + δ)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ess: Option<f64>,
    /// σ₀, the posterior's standard deviation at the start: where given, it sets `ess` = 1 / (σ₀²
    /// (h₀ + δ)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posterior_sd: Option<f64>,
    /// h₀.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hess_init: Option<f64>,
    /// β₁, decay of the momentum.
    pub beta1: f64,
    /// β₂, decay of the Hessian.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// δ, the prior's precision per effective example.
    pub weight_decay: f64,
    /// How the mean's gradient is preconditioned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<MeanUpdate>,
    /// The largest size of a newton update before the learning rate, 0 for no limit; the usual size
    /// of a normalized one.
    pub clip_radius: f64,
    /// Draws per step.
    pub mc_samples: usize,
    /// Whether the learning rate is multiplied by h₀ + δ.
    pub rescale_lr: bool,
    /// Whether the momentum is debiased.
    pub debias: bool,
    /// How the Hessian is estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hess_approx: Option<HessianEstimate>,
    /// The largest norm of the mean gradient; 0 for no limit. Never touches the Hessian's estimate.
    pub max_grad_norm: f64,
    /// Control: the Hessian stays at h₀, so that all weights keep the variance that they start
    /// with.
    pub frozen_hessian: bool,
    /// Control: gradients are taken at the mean, without noise. There is nothing to estimate the
    /// Hessian from then: it stays at h₀, too.
    pub no_noise: bool,
    /// Learn δ of each matrix from its own weights (arXiv 2506.14280): ess·δ = P / (‖m‖² + Σσ²)
    /// over its P weights, after a tenth of the steps and every ten from there. Before that B is
    /// too near 0, and each update would add h to δ.
    pub learn_prior: bool,
    /// With gradient accumulation: one draw for all micro-batches of a step, or one for each.
    pub draw_per: DrawPer,
}

impl IvonMethodConfig {
    /// A row for each of its keys.
    pub const KEYS: [Key; 19] = [
        Key::new(
            "recipe",
            Kind::OneOf(&["rule", "paper"]),
            "Where absent settings come from: a rule from the run's length and data, or the paper.",
        )
        .with_flag("recipe", "rule|paper"),
        AdamwConfig::LEARNING_RATE.with_example("0.5"),
        Key::new(
            "ess",
            Kind::Number,
            "The effective sample size: a weight's variance is 1 / (ess · (h + weight_decay)).",
        )
        .with_flag("ess", "X")
        .with_example("1e7")
        .instead_of("posterior_sd"),
        Key::new(
            "posterior_sd",
            Kind::Number,
            "The posterior's standard deviation at the start; where given, it sets ess.",
        )
        .with_flag("posterior-sd", "X")
        .with_example("0.03"),
        Key::new("hess_init", Kind::Number, "The Hessian at the start, h₀.")
            .with_flag("hess-init", "X")
            .with_example("7e-4"),
        AdamwConfig::BETA1,
        AdamwConfig::BETA2.with_example("0.999"),
        AdamwConfig::WEIGHT_DECAY,
        Key::new(
            "update",
            Kind::OneOf(&["newton", "normalized"]),
            "The mean's step: by the posterior's covariance, clipped; or by the gradient's size.",
        )
        .with_flag("update", "newton|normalized")
        .with_example("'normalized'"),
        Key::new(
            "clip_radius",
            Kind::Number,
            "Size of an update before the learning rate: newton's largest (0: none), normalized's usual.",
        )
        .with_flag("clip-radius", "X"),
        Key::new(
            "mc_samples",
            Kind::Whole,
            "Draws per step; each costs a forward and a backward pass.",
        )
        .with_flag("mc-samples", "N"),
        Key::new(
            "rescale_lr",
            Kind::Switch,
            "Multiply the learning rate by hess_init + weight_decay.",
        )
        .with_flag("rescale-lr", "true|false"),
        Key::new("debias", Kind::Switch, "Debias the momentum."),
        Key::new(
            "hess_approx",
            Kind::OneOf(&["price", "gradsq", "fisher"]),
            "The Hessian's estimate: price, the squared gradient, or its average as Fisher matrix.",
        )
        .with_example("'fisher'"),
        AdamwConfig::MAX_GRAD_NORM,
        Key::new(
            "frozen_hessian",
            Kind::Switch,
            "Control: the Hessian stays as it is at the start.",
        ),
        Key::new(
            "no_noise",
            Kind::Switch,
            "Control: train without noise; the Hessian stays as it is, too.",
        ),
        Key::new(
            "learn_prior",
            Kind::Switch,
            "Learn the prior precision of each matrix of A and B, after a tenth of the steps.",
        ),
        Key::new(
            "draw_per",
            Kind::OneOf(&["step", "micro-batch"]),
            "With accumulation: one draw for a whole step, or one for each of its forward passes.",
        ),
    ];
}

/// Where settings that are absent come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// A rule from what is known before the first step: steps, rows, A's initial spread.
    #[default]
    Rule,
    /// arXiv 2411.04421.
    Paper,
}

/// How the Hessian is estimated; see [`HessianApproximation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HessianEstimate {
    /// Price's theorem: unbiased.
    #[default]
    Price,
    /// The squared gradient times ess, as in the published code.
    Gradsq,
    /// The average of the squared gradients, as the Fisher matrix of a single example.
    Fisher,
}

/// How many draws a step with several micro-batches makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrawPer {
    /// All micro-batches of a step see the same draw.
    #[default]
    Step,
    /// Each micro-batch has a draw of its own.
    MicroBatch,
}

impl Default for IvonMethodConfig {
    fn default() -> Self {
        Self {
            recipe: Recipe::Rule,
            learning_rate: None,
            ess: None,
            posterior_sd: None,
            hess_init: None,
            beta1: 0.9,
            beta2: None,
            weight_decay: 0.0,
            update: None,
            clip_radius: 1e-3,
            mc_samples: 1,
            rescale_lr: false,
            debias: true,
            hess_approx: None,
            max_grad_norm: 0.0,
            frozen_hessian: false,
            no_noise: false,
            learn_prior: false,
            draw_per: DrawPer::Step,
        }
    }
}

// The recipe of arXiv 2411.04421, for whatever is given nowhere.
const PAPER_LEARNING_RATE: f64 = 0.03;
const PAPER_ESS: f64 = 1e6;
const PAPER_HESS_INIT: f64 = 1e-3;
const PAPER_BETA2: f64 = 0.99999;

impl IvonMethodConfig {
    /// The paper's recipe (arXiv 2411.04421), with every setting in it.
    pub fn paper() -> Self {
        Self {
            recipe: Recipe::Paper,
            learning_rate: Some(PAPER_LEARNING_RATE),
            ess: Some(PAPER_ESS),
            hess_init: Some(PAPER_HESS_INIT),
            beta2: Some(PAPER_BETA2),
            update: Some(MeanUpdate::Newton),
            hess_approx: Some(HessianEstimate::Price),
            ..Self::default()
        }
    }

    /// The names of the settings that are left open.
    pub(super) fn open_settings(&self) -> Vec<&'static str> {
        let is_open = [
            ("learning_rate", self.learning_rate.is_none()),
            ("ess", self.ess.is_none() && self.posterior_sd.is_none()),
            ("hess_init", self.hess_init.is_none()),
            ("beta2", self.beta2.is_none()),
            ("update", self.update.is_none()),
            ("hess_approx", self.hess_approx.is_none()),
        ];
        let open = is_open.into_iter().filter(|(_, is_open)| *is_open);
        open.map(|(name, _)| name).collect()
    }

    /// The learning rate before the schedule.
    pub fn rate(&self) -> f64 {
        self.learning_rate.unwrap_or(PAPER_LEARNING_RATE)
    }

    /// h₀.
    pub fn initial_hessian(&self) -> f64 {
        self.hess_init.unwrap_or(PAPER_HESS_INIT)
    }

    /// β₂.
    pub fn hessian_decay(&self) -> f64 {
        self.beta2.unwrap_or(PAPER_BETA2)
    }

    /// ess, from `posterior_sd` where that is given.
    pub fn effective_sample_size(&self) -> f64 {
        let precision = self.initial_hessian() + self.weight_decay;
        match self.posterior_sd {
            Some(sd) => 1.0 / (sd * sd * precision),
            None => self.ess.unwrap_or(PAPER_ESS),
        }
    }

    /// σ₀ = 1 / √(ess · (h₀ + δ)).
    pub fn initial_sd(&self) -> f64 {
        let precision = self.initial_hessian() + self.weight_decay;
        1.0 / (self.effective_sample_size() * precision).sqrt()
    }

    /// Whether the Hessian is the average of all squared gradients.
    pub fn is_averaged(&self) -> bool {
        self.hessian_estimate() == HessianEstimate::Fisher
    }

    /// How the Hessian is estimated: by default as the update needs it.
    fn hessian_estimate(&self) -> HessianEstimate {
        let usual = match self.update.unwrap_or_default() {
            MeanUpdate::Newton => HessianEstimate::Price,
            MeanUpdate::Normalized => HessianEstimate::Fisher,
        };
        self.hess_approx.unwrap_or(usual)
    }

    /// The settings of the crate `ivon`; a draw's gradient averages so many examples.
    pub(in crate::method) fn optimizer_config(&self, seed: u64, examples: f64) -> IvonConfig {
        let limit = |value: f64| (value != 0.0).then_some(value);
        let is_frozen = self.frozen_hessian || self.no_noise;
        let estimate = match self.hessian_estimate() {
            HessianEstimate::Price => HessianApproximation::Price,
            HessianEstimate::Gradsq => HessianApproximation::GradSq,
            HessianEstimate::Fisher => HessianApproximation::Fisher {
                examples: examples.max(f64::MIN_POSITIVE),
            },
        };
        IvonConfig {
            hessian_init: self.initial_hessian(),
            beta1: self.beta1,
            beta2: if is_frozen && !self.is_averaged() {
                1.0
            } else {
                self.hessian_decay()
            },
            weight_decay: self.weight_decay,
            mc_samples: self.mc_samples,
            clip_radius: limit(self.clip_radius),
            debias: self.debias,
            rescale_learning_rate: self.rescale_lr,
            hessian_approximation: estimate,
            mean_update: self.update.unwrap_or_default(),
            gradient_clip_norm: limit(self.max_grad_norm),
            noise: NoiseSource::Host { seed },
            ..IvonConfig::new(self.effective_sample_size())
        }
    }

    /// The examples that the gradient at a draw averages: those of a batch, or as many as its weights
    /// leave, B Σ w / Σ w². The average of B squared gradients is then the curvature of the weighted
    /// loss where squares do not differ between classes.
    pub(in crate::method) fn examples_per_draw(&self, setup: &Setup) -> f64 {
        let examples = match self.draw_per {
            DrawPer::Step => setup.batch_size * setup.accumulation,
            DrawPer::MicroBatch => setup.batch_size,
        };
        examples.max(1) as f64 / setup.weight_of_squares
    }

    /// The setting by which the Hessian is the squared gradient of a batch, whatever it averages.
    pub(in crate::method) fn squared_batches(&self) -> Option<&'static str> {
        (self.hessian_estimate() == HessianEstimate::Gradsq).then_some("`hess_approx` = `gradsq`")
    }
}
