//! What follows training: the method's fit → calibrate → test → the files of the run.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::calibrate::CalibrateChoice;
use super::cost::Cost;
use super::data::EncodedRoles;
use super::folder::{self, RunFolder};
use super::untuned::{UntunedAnswers, UntunedQuestion};
use super::{RunConfig, RunError};
use crate::answer::{
    AnswerRule, Base, Details, EVALUATION_FILE, EvaluationReport, PREDICTIONS_FILE, Prediction,
    RunReport, labels, predictions, same_answers, tokens_of, write_predictions,
};
use crate::bundle::{AnswerWord, Bundle, CardFacts, SIDECAR_FORMAT, Sidecar};
use crate::data::{Dataset, EncodedSet, KnownRows, LoadReport, Role, Task};
use crate::lora::Draw;
use crate::method::{CHOSEN_BY, Fit, Members, member_folder};
use crate::metrics::{Bootstrap, Predictions, Scores, score_table};
use crate::posterior::{Posterior, Spread};
use crate::predict::{
    EvaluationOptions, EvaluationSeconds, Predictor, SCALES, ScaleTrial, best_scale,
};
use crate::ranks::Team;
use crate::settings::SettingError;
use crate::train::{METRICS_FILE, TrainError};
use crate::watch::{Event, Progress, Record, Stage, Watch, read_records};

/// A run whose training has ended.
pub(super) struct Finish<'a> {
    pub config: &'a RunConfig,
    pub base: &'a Base,
    pub untuned: &'a UntunedAnswers,
    pub task: &'a Task,
    pub dataset: &'a Dataset,
    pub sets: &'a EncodedRoles,
    pub folder: &'a RunFolder,
    /// The ranks that make the run together; none if one process does.
    pub team: Option<&'a Team<'a>>,
}

impl Finish<'_> {
    /// Fits, calibrates, tests, and writes the files of the run.
    pub fn run(
        &self,
        trained: Members,
        kept_step: u64,
        watch: Watch<'_>,
    ) -> Result<RunReport, RunError> {
        let started = Instant::now();
        let posterior = self.posterior(trained, watch)?;
        if let Some(note) = chosen_precision(posterior.as_ref())? {
            watch(Event::Note(note));
        }
        let fitting_seconds = started.elapsed().as_secs_f64();
        if self.task.is_text() {
            return self.finish_texts(posterior, fitting_seconds, kept_step, watch);
        }
        let options = self.options(posterior.as_ref(), watch)?;
        let predictor =
            Predictor::new(&self.base.network, posterior.as_ref(), &options).over(self.team);
        let rule = self.calibrate(&predictor, watch)?;
        let test = self.test(&predictor, &rule, watch)?;
        let cost = self.cost(posterior.as_ref(), fitting_seconds, test.seconds)?;
        let sidecar = self.sidecar(&options, &rule);
        let scores = score_table(&test.report.rows()).to_markdown();
        let results = RunResults {
            bundle: Bundle::of_run(posterior, self.config.lora.clone(), sidecar),
            card: self.card(scores, kept_step),
            report: RunReport::Choices(Box::new(test.report)),
            predictions: test.predictions,
            cost,
        };
        results.write(self.folder, watch)?;
        Ok(results.report)
    }

    /// What the run has cost.
    pub(super) fn cost(
        &self,
        posterior: &dyn Posterior,
        fitting_seconds: f64,
        prediction: EvaluationSeconds,
    ) -> Result<Cost, RunError> {
        Ok(Cost {
            training_seconds: self.training_seconds()?,
            fitting_seconds,
            prediction_seconds: prediction.all,
            mean_seconds: prediction.mean,
            stored_numbers: stored_numbers(posterior)?,
        })
    }

    /// The time of all steps of all members, including those before a resume, from their records.
    fn training_seconds(&self) -> Result<f64, RunError> {
        let mut seconds = 0.0;
        if !self.folder.writes() {
            return Ok(seconds);
        }
        for member in 0..self.config.optimizer.settings().members() {
            let file = member_folder(self.folder.path(), member).join(METRICS_FILE);
            for record in read_records(&file).map_err(TrainError::from)? {
                if let Record::Step(step) = record {
                    seconds += step.step_seconds;
                }
            }
        }
        Ok(seconds)
    }

    /// The posterior that the method makes of the trained members.
    fn posterior(
        &self,
        trained: Members,
        watch: Watch<'_>,
    ) -> Result<Box<dyn Posterior>, RunError> {
        let mut fit = Fit {
            network: &self.base.network,
            dropout: self.config.lora.dropout,
            seed: self.config.seed,
            batch_tokens: self.config.evaluation.batch_tokens,
            train: &self.sets.train.examples,
            weights: &self.sets.weights,
            calibrate: &self.sets.calibrate.examples,
            watch,
        };
        Ok(self.config.optimizer.settings().finish(trained, &mut fit)?)
    }

    /// The options of the evaluation: how many draws, at which τ.
    fn options(
        &self,
        posterior: &dyn Posterior,
        watch: Watch<'_>,
    ) -> Result<EvaluationOptions, RunError> {
        let options = self.options_of_settings(posterior);
        let scale = self.scale(posterior, &options, watch)?;
        Ok(EvaluationOptions { scale, ..options })
    }

    /// The options of the settings, with at most as many draws as the posterior has.
    pub(super) fn options_of_settings(&self, posterior: &dyn Posterior) -> EvaluationOptions {
        EvaluationOptions {
            samples: posterior.spread().draws(self.config.evaluation.samples),
            ..self.config.evaluation_options()
        }
    }

    /// τ of the settings, unless they ask for a choice and calibrate prefers another.
    fn scale(
        &self,
        posterior: &dyn Posterior,
        options: &EvaluationOptions,
        watch: Watch<'_>,
    ) -> Result<f64, RunError> {
        let set = &self.sets.calibrate;
        if !self.config.evaluation.choose_scale
            || set.examples.is_empty()
            || options.samples == 0
            || posterior.spread() != Spread::Scaled
        {
            return Ok(options.scale);
        }
        let mut scales = SCALES.to_vec();
        let default = scales
            .iter()
            .position(|scale| *scale == options.scale)
            .unwrap_or_else(|| {
                scales.push(options.scale);
                scales.len() - 1
            });
        let predictor = Predictor::new(&self.base.network, posterior, options).over(self.team);
        let total = predictor.trial_passes(&scales) * set.examples.len();
        let mut progress = Progress::new(Stage::ChoosingScale, total, &mut *watch);
        let trials = predictor.scale_trials(&set.examples, &scales, &mut progress)?;
        let (scale, note) = chosen_scale(&trials, default, options.scale);
        watch(Event::Note(note));
        Ok(scale)
    }

    /// Chooses on calibrate between mean and samples, with the temperature of each; without that set
    /// it is the mean, at no temperature.
    fn calibrate(
        &self,
        predictor: &Predictor<'_>,
        watch: Watch<'_>,
    ) -> Result<AnswerRule, RunError> {
        let set = &self.sets.calibrate;
        if set.examples.is_empty() {
            return Ok(AnswerRule::default());
        }
        let evaluated = predictor.evaluate_as(Stage::Calibrate, &set.examples, watch)?;
        let choice = CalibrateChoice::on(&set.examples, evaluated)?;
        choice.events.into_iter().for_each(|event| {
            watch(event);
        });
        Ok(choice.rule)
    }

    /// The scores on test, with those of the untuned base.
    fn test(
        &self,
        predictor: &Predictor<'_>,
        rule: &AnswerRule,
        watch: Watch<'_>,
    ) -> Result<TestScores, RunError> {
        let set = &self.sets.test;
        let options = &predictor.options;
        if set.examples.is_empty() {
            self.dataset.required(Role::Test)?;
            return Err(SettingError::new("test", "empty", "labelled rows to score").into());
        }
        let base = self.untuned(set, predictor, watch)?;
        let evaluated = predictor.evaluate_as(Stage::Test, &set.examples, watch)?;
        let source = source_of(&self.dataset.report, Role::Test);
        let mut report =
            EvaluationReport::new(self.task, &set.examples, &evaluated, options, rule)?
                .of(Role::Test.name(), source);
        report.base = Some(base);
        let details = Details {
            text: self.config.evaluation.include_text,
            ..Details::default()
        };
        let examples = &self.dataset.test;
        Ok(TestScores {
            predictions: predictions(set, examples, &evaluated, rule, details)?,
            report,
            seconds: evaluated.seconds,
        })
    }

    /// The scores of the untuned base.
    fn untuned(
        &self,
        set: &EncodedSet,
        predictor: &Predictor<'_>,
        watch: Watch<'_>,
    ) -> Result<Scores, RunError> {
        let question = UntunedQuestion::new(self.config, &set.examples);
        let found = self.untuned.answers(question, || {
            let mut progress = Progress::new(Stage::Base, set.examples.len(), watch);
            predictor.log_probabilities(&Draw::base(), &set.examples, &mut progress)
        })?;
        let found = Predictions::new(found, labels(&set.examples)?)?;
        Ok(Scores::of(
            &found,
            same_answers(self.task),
            &Bootstrap::default(),
        ))
    }

    pub(super) fn sidecar(&self, options: &EvaluationOptions, rule: &AnswerRule) -> Sidecar {
        let temperatures = rule.temperatures;
        // A conversation has a template, whether or not one is named.
        let has_template = self.config.data.encode_options(self.task).chat_template;
        Sidecar {
            format_version: SIDECAR_FORMAT,
            program_version: env!("CARGO_PKG_VERSION").into(),
            task: self.task.clone(),
            answers: self.answers(),
            max_length: self.config.data.max_length,
            chat_template: has_template,
            chat_template_text: self
                .base
                .tokenizer
                .chat_template
                .clone()
                .filter(|_| has_template),
            method: self.config.optimizer.name().into(),
            method_files: Vec::new(),
            scale: options.scale,
            temperature: temperatures.map_or(1.0, |found| found.mean),
            temperature_of_samples: temperatures.map_or(1.0, |found| found.samples),
            samples: options.samples,
            seed: self.config.seed,
            predict_with: rule.predict_with,
            calibration: temperatures.and_then(|found| found.calibration),
            rows: Some(KnownRows::of(self.dataset)),
            base: self.base.record.clone(),
        }
    }

    /// The answer words with their tokens, if all rows share them.
    fn answers(&self) -> Vec<AnswerWord> {
        let (true, Some(encoded), Some(example)) = (
            same_answers(self.task),
            self.sets.train.examples.first(),
            self.dataset.train.first(),
        ) else {
            return Vec::new();
        };
        let tokens = encoded.choices().map(tokens_of).unwrap_or_default();
        example
            .answers
            .iter()
            .zip(tokens)
            .map(|(word, tokens)| AnswerWord {
                word: word.clone(),
                tokens,
            })
            .collect()
    }

    /// What the model card says; `scores` is a Markdown table.
    pub(super) fn card(&self, scores: String, kept_step: u64) -> CardFacts {
        let files = self.dataset.report.files.iter();
        let files: Vec<String> = files.map(|file| file_name(&file.path)).collect();
        CardFacts {
            base: self.base.record.name.clone(),
            task: self.task.name.clone(),
            data: format!(
                "{} training examples from {}",
                self.sets.train.examples.len(),
                files.join(", ")
            ),
            method: self.config.optimizer.name().to_uppercase(),
            settings: main_settings(self.config, kept_step),
            scores,
            posterior: None,
        }
    }
}

/// The settings on the model card.
fn main_settings(config: &RunConfig, kept_step: u64) -> Vec<(String, String)> {
    let RunConfig {
        lora,
        train,
        optimizer,
        seed,
        ..
    } = config;
    let settings = [
        ("step kept", kept_step.to_string()),
        ("learning rate", optimizer.learning_rate().to_string()),
        (
            "examples per step",
            (train.batch_size * train.accumulation).to_string(),
        ),
        ("rank", lora.rank.to_string()),
        ("alpha", lora.alpha.to_string()),
        ("dropout", lora.dropout.to_string()),
        ("seed", seed.to_string()),
    ];
    settings.map(|(name, value)| (name.into(), value)).into()
}

/// The results of a run; `predictions` are lines of JSON.
pub(super) struct RunResults<P> {
    pub bundle: Bundle,
    pub card: CardFacts,
    pub report: RunReport,
    pub predictions: Vec<P>,
    pub cost: Cost,
}

impl<P: Serialize> RunResults<P> {
    /// Writes the adapter folder, the scores, the cost and the predictions.
    pub fn write(&self, folder: &RunFolder, watch: Watch<'_>) -> Result<(), RunError> {
        if !folder.writes() {
            return Ok(());
        }
        let path = folder.path().join(folder::ADAPTER_FOLDER);
        self.bundle.write(&path, Some(self.card.clone()))?;
        watch(Event::Saved(&path));
        let path = folder.write_json(EVALUATION_FILE, &self.report)?;
        watch(Event::Saved(&path));
        let path = folder.write_json(folder::COST_FILE, &self.cost)?;
        watch(Event::Saved(&path));
        let path = folder.path().join(PREDICTIONS_FILE);
        write_predictions(&path, &self.predictions)?;
        watch(Event::Saved(&path));
        Ok(())
    }
}

/// The scale that trials prefer, and a sentence about it; `own` is the one at `default`.
fn chosen_scale(trials: &[ScaleTrial], default: usize, own: f64) -> (f64, String) {
    let list: Vec<String> = trials
        .iter()
        .map(|trial| format!("{:.3} at {}", trial.nll, trial.scale))
        .collect();
    let found = best_scale(trials, default);
    let said = match &found {
        Err(too_little) => format!("no τ is chosen, it stays {own}: {too_little}"),
        Ok(scale) if *scale == own => {
            format!("τ stays {scale}, than which no other is better by more than a standard error")
        }
        Ok(scale) if SCALES.last() == Some(scale) => format!(
            "τ = {scale} has the lowest NLL and is the largest that is tried: a larger one may be better"
        ),
        Ok(scale) => format!("τ = {scale} has the lowest NLL"),
    };
    let said = format!("calibrate: {said} (NLL {})", list.join(", "));
    (found.unwrap_or(own), said)
}

/// Scores and predictions of the test rows.
struct TestScores {
    report: EvaluationReport,
    predictions: Vec<Prediction>,
    seconds: EvaluationSeconds,
}

/// How many numbers are stored besides the adapter's own.
fn stored_numbers(posterior: &dyn Posterior) -> Result<usize, RunError> {
    let stored = posterior.stored()?.unwrap_or_default();
    let sizes = stored.matrices.values().map(|matrix| matrix.values.len());
    Ok(sizes.sum())
}

/// How the prior precision of a Laplace approximation was chosen, in a sentence.
fn chosen_precision(posterior: &dyn Posterior) -> Result<Option<String>, RunError> {
    let Some(stored) = posterior.stored()? else {
        return Ok(None);
    };
    let fact = |key: &str| stored.facts.get(key);
    let both = fact("prior_precision")
        .zip(fact(CHOSEN_BY))
        .filter(|(_, by)| *by != "setting");
    Ok(both.map(|(precision, by)| format!("prior precision {precision}, chosen by the {by}")))
}

/// Where the rows of a role come from: `carved from train.jsonl`, `of validation.jsonl`.
pub(super) fn source_of(report: &LoadReport, role: Role) -> Option<String> {
    let split = report.sources.get(&role)?;
    let files: Vec<String> = report
        .files
        .iter()
        .filter(|file| file.split == *split)
        .map(|file| file_name(&file.path))
        .collect();
    let how = if report.carved.contains(&role) {
        "carved from"
    } else {
        "of"
    };
    Some(format!("{how} {}", files.join(" and ")))
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(
        || path.to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
