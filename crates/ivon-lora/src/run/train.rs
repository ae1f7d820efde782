//! The command `train`: data → base → adapter → training → calibrate → test → files.

use std::path::{Path, PathBuf};

use super::advice::advice;
use super::estimate::{Estimate, available_memory};
use super::evaluation::{EvaluationReport, predictions};
use super::folder::{self, AdapterFolder, RunFolder, card_scores, write_predictions};
use super::{Base, Provenance, RunConfig, RunError, RunEvent};
use crate::data::{self, Dataset, EncodedSet, Example, Form, Role, Task};
use crate::lora::{Adapter, LoraConfig, read_peft};
use crate::metrics::{Predictions, mean_of_draws};
use crate::model::Checkpoint;
use crate::posterior::{Answer, CardFacts, Posterior, PredictWith, SIDECAR_FORMAT, Sidecar};
use crate::predict::{Evaluated, EvaluationOptions, PredictError, evaluate, log_probabilities};
use crate::train::{self, Event, Outcome, Training};

/// A run that ended.
#[derive(Debug)]
pub struct TrainedRun {
    /// Where everything is.
    pub folder: PathBuf,
    /// How it ended; after an interruption there is no report.
    pub outcome: Outcome,
    /// Steps taken.
    pub steps: u64,
    /// The step whose weights are kept.
    pub kept_step: u64,
    /// The scores.
    pub report: Option<EvaluationReport>,
}

/// Watches a run and says whether to go on.
pub(super) type Watch<'w> = &'w mut dyn FnMut(RunEvent<'_>) -> bool;

/// Trains an adapter as the settings say and writes the run's folder. `watch` hears what happens and says whether
/// to go on; after a stop the run can be resumed with `resume`.
///
/// # Errors
/// Whatever is wrong with settings, data, model, memory, a step, or a file; see [`RunError`].
pub fn train(config: &RunConfig, resume: bool, watch: Watch<'_>) -> Result<TrainedRun, RunError> {
    config.validate()?;
    let task = Task::from_config(&config.data)?;
    let dataset = data::load(&config.data, &task)?;
    let name = config.model.path.as_deref().ok_or(RunError::Setting {
        name: "model",
        found: "absent".into(),
        expected: "a folder, a `.gguf` file or a hub name",
    })?;
    train_on(config, name, &task, &dataset, resume, watch)
}

/// As [`train`], on examples that are already here.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    config: &RunConfig,
    model: &str,
    task: &Task,
    dataset: &Dataset,
    resume: bool,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    config.validate()?;
    let out = config.out.as_deref().ok_or(RunError::Setting {
        name: "out",
        found: "absent".into(),
        expected: "the folder that the run writes",
    })?;
    let folder = RunFolder::take(out, config, resume)?;
    for note in &dataset.report.notes {
        watch(RunEvent::Note(note.to_string()));
    }
    let checkpoint = Checkpoint::open(model)?;
    let sets = Sets::encode(config, task, dataset, &checkpoint, watch)?;
    announce(config, &checkpoint, &sets, watch)?;
    let base = Base::load(&checkpoint, &config.model)?;
    drop(checkpoint);
    let (adapter, lora) = start(config, &base)?;
    let resolved = RunConfig { lora: lora.clone(), provenance: Some(provenance(&base, dataset)), ..config.clone() };
    folder.write_settings(&resolved)?;
    folder.write_json(folder::SPLITS_FILE, &dataset.ids())?;

    let mut optimizer = config.optimizer.start(adapter, config.seed)?;
    let training = Training {
        network: &base.network,
        config: &config.train,
        learning_rate: config.optimizer.learning_rate(),
        scaling: lora.scaling(),
        dropout: lora.dropout,
        seed: config.seed,
        evaluation: options(config),
        train: &sets.train.examples,
        tune: &sets.tune.examples,
        folder: folder.path(),
    };
    let trained = train::train(&training, optimizer.as_mut(), resume, &mut |event| {
        watch(match event {
            Event::Step(record, steps) => RunEvent::Step(record, steps),
            Event::Evaluation(record) => RunEvent::Evaluation(record),
            Event::Saved(path) => RunEvent::Saved(path),
            Event::Evaluating(done, total) => RunEvent::Progress { what: "evaluating tune", done, total },
        })
    })?;
    let ended =
        TrainedRun { folder: out.into(), outcome: trained.outcome, steps: trained.steps, kept_step: trained.kept_step, report: None };
    if trained.outcome == Outcome::Interrupted {
        return Ok(ended);
    }
    let finish = Finish { config: &resolved, base: &base, task, dataset, sets: &sets, lora: &lora, folder: &folder };
    match finish.run(optimizer.posterior().as_ref(), trained.kept_step, watch) {
        Err(RunError::Predict(PredictError::Stopped { .. })) => Ok(TrainedRun { outcome: Outcome::Interrupted, ..ended }),
        report => Ok(TrainedRun { report: Some(report?), ..ended }),
    }
}

/// Says what the run will need and what its settings mean; refuses what cannot fit.
fn announce(config: &RunConfig, checkpoint: &Checkpoint, sets: &Sets, watch: Watch<'_>) -> Result<(), RunError> {
    let length = config.train.length(sets.train.examples.len());
    let estimate = Estimate::of(
        config,
        checkpoint,
        length,
        &sets.train.examples,
        [&sets.tune.examples, &sets.calibrate.examples, &sets.test.examples],
    );
    watch(RunEvent::Note(estimate.to_string()));
    if let Some(available) = available_memory().filter(|available| estimate.bytes() > *available) {
        return Err(RunError::Memory { needed: estimate.bytes() / 1e9, available: available / 1e9 });
    }
    for said in advice(&config.optimizer, &config.train, length, checkpoint.config()) {
        watch(said);
    }
    Ok(())
}

/// The encoded examples of each role.
struct Sets {
    train: EncodedSet,
    tune: EncodedSet,
    calibrate: EncodedSet,
    test: EncodedSet,
}

impl Sets {
    fn encode(config: &RunConfig, task: &Task, dataset: &Dataset, checkpoint: &Checkpoint, watch: Watch<'_>) -> Result<Self, RunError> {
        let tokenizer = checkpoint.tokenizer()?;
        let options = config.data.encode_options(task);
        let mut encode = |role: Role, examples: &[Example]| -> Result<EncodedSet, RunError> {
            if examples.is_empty() {
                return Ok(EncodedSet::default());
            }
            let set = data::encode_all(examples, &tokenizer, options)?;
            let tokens: usize = set.examples.iter().map(|example| example.tokens.len()).sum();
            let mut said =
                format!("{role}: {} examples, {:.0} tokens each on average", set.examples.len(), tokens as f64 / set.examples.len() as f64);
            if set.truncated > 0 {
                said += &format!(", {} shortened to {}", set.truncated, options.max_length);
            }
            if !set.dropped.is_empty() {
                said += &format!(", {} dropped", set.dropped.len());
            }
            watch(RunEvent::Note(said));
            Ok(set)
        };
        Ok(Self {
            train: encode(Role::Train, dataset.required(Role::Train)?)?,
            tune: encode(Role::Tune, &dataset.tune)?,
            calibrate: encode(Role::Calibrate, &dataset.calibrate)?,
            test: encode(Role::Test, &dataset.test)?,
        })
    }
}

/// The adapter at its start: a new one from the run's seed, or one that is trained on.
fn start(config: &RunConfig, base: &Base) -> Result<(Adapter, LoraConfig), RunError> {
    let device = base.device().clone().autodiff();
    match &config.model.adapter {
        None => Ok((Adapter::new(&config.lora, base.config(), config.seed, &device)?, config.lora.clone())),
        Some(folder) => {
            let peft = read_peft(folder, base.config(), &device)?;
            // Rank and targets are those of the folder; what only training has comes from the settings.
            Ok((peft.adapter, LoraConfig { dropout: config.lora.dropout, ..peft.config }))
        }
    }
}

fn options(config: &RunConfig) -> EvaluationOptions {
    EvaluationOptions {
        samples: config.evaluation.samples,
        scale: config.evaluation.scale,
        seed: config.seed,
        batch_tokens: config.evaluation.batch_tokens,
    }
}

fn provenance(base: &Base, dataset: &Dataset) -> Provenance {
    Provenance {
        program: env!("CARGO_PKG_VERSION").into(),
        burn: "0.22.1".into(),
        base: base.record.name.clone(),
        base_hash: base.record.fingerprint.hash.clone(),
        files: dataset.report.files.iter().map(|file| (file.path.clone(), file.sha256.clone())).collect(),
    }
}

/// Whether choice c means the same word in every row of a task.
pub(super) fn same_answers(task: &Task) -> bool {
    matches!(task.form, Form::Template { .. })
}

/// What stands when training has ended.
struct Finish<'a> {
    config: &'a RunConfig,
    base: &'a Base,
    task: &'a Task,
    dataset: &'a Dataset,
    sets: &'a Sets,
    lora: &'a LoraConfig,
    folder: &'a RunFolder,
}

impl Finish<'_> {
    fn run(&self, posterior: &dyn Posterior, kept_step: u64, watch: Watch<'_>) -> Result<EvaluationReport, RunError> {
        // A point estimate has nothing to draw: all draws would be the mean.
        let samples = if posterior.variance().is_some() { self.config.evaluation.samples } else { 0 };
        let options = EvaluationOptions { samples, ..options(self.config) };
        let chosen = self.choose(posterior, &options, watch)?;
        let (report, evaluated) = self.test(posterior, &options, chosen, watch)?;
        let words: Vec<&Example> = self.sets.test.kept.iter().map(|&index| &self.dataset.test[index]).collect();
        let lines = predictions(&self.sets.test.examples, &words, &evaluated, chosen, self.config.evaluation.include_text)?;
        let folder = AdapterFolder {
            method: &self.config.optimizer,
            posterior,
            lora: self.lora,
            sidecar: self.sidecar(samples, chosen),
            card: self.card(&report, kept_step),
        };
        let path = self.folder.path().join(folder::ADAPTER_FOLDER);
        folder.write(&path)?;
        watch(RunEvent::Saved(&path));
        watch(RunEvent::Saved(&self.folder.write_json(folder::EVALUATION_FILE, &report)?));
        watch(RunEvent::Saved(&write_predictions(&self.folder.path().join(folder::PREDICTIONS_FILE), &lines)?));
        Ok(report)
    }

    fn evaluate(
        &self,
        posterior: &dyn Posterior,
        set: &EncodedSet,
        options: &EvaluationOptions,
        what: &'static str,
        watch: Watch<'_>,
    ) -> Result<Evaluated, RunError> {
        let mut watch = |done, total| watch(RunEvent::Progress { what, done, total });
        Ok(evaluate(&self.base.network, posterior, self.lora.scaling(), &set.examples, options, &mut watch)?)
    }

    /// Mean or samples: whichever has the lower NLL on calibrate; the mean where there is no such set.
    fn choose(&self, posterior: &dyn Posterior, options: &EvaluationOptions, watch: Watch<'_>) -> Result<PredictWith, RunError> {
        let set = &self.sets.calibrate;
        if set.examples.is_empty() || options.samples == 0 {
            return Ok(PredictWith::Mean);
        }
        let evaluated = self.evaluate(posterior, set, options, "evaluating calibrate", watch)?;
        let labels = super::evaluation::labels(&set.examples)?;
        let mean = Predictions::new(evaluated.mean, labels.clone())?.nll();
        let sampled = Predictions::new(mean_of_draws(&evaluated.draws)?, labels)?.nll();
        watch(RunEvent::Note(format!("calibrate: NLL {mean:.3} at the mean, {sampled:.3} with {} samples", options.samples)));
        Ok(if sampled < mean { PredictWith::Samples } else { PredictWith::Mean })
    }

    /// Scores on test, beside those of the untuned base.
    fn test(
        &self,
        posterior: &dyn Posterior,
        options: &EvaluationOptions,
        chosen: PredictWith,
        watch: Watch<'_>,
    ) -> Result<(EvaluationReport, Evaluated), RunError> {
        let set = &self.sets.test;
        if set.examples.is_empty() {
            return Err(self.dataset.required(Role::Test).map(|_| ()).map_or_else(RunError::from, |()| RunError::Setting {
                name: "test",
                found: "empty".into(),
                expected: "labelled rows to score",
            }));
        }
        let untuned = Adapter { layers: Vec::new() };
        let low_rank = crate::forward::LowRank { adapter: &untuned, scaling: 0.0, dropout: None };
        let total = set.examples.len();
        let base = log_probabilities(&self.base.network, low_rank, &set.examples, options.batch_tokens, &mut |done| {
            watch(RunEvent::Progress { what: "evaluating the base", done, total })
        })?;
        let evaluated = self.evaluate(posterior, set, options, "evaluating test", watch)?;
        let split = self.dataset.report.sources.get(&Role::Test).map_or("test", |split| split.name());
        let mut report =
            EvaluationReport::new(split, &set.examples, &evaluated, same_answers(self.task), options.seed, options.scale, chosen)?;
        let labels = super::evaluation::labels(&set.examples)?;
        let base = Predictions::new(base, labels)?;
        report.base = Some(crate::metrics::Scores::of(&base, same_answers(self.task), &Default::default()));
        Ok((report, evaluated))
    }

    fn sidecar(&self, samples: usize, chosen: PredictWith) -> Sidecar {
        Sidecar {
            format_version: SIDECAR_FORMAT,
            program_version: env!("CARGO_PKG_VERSION").into(),
            task: serde_json::to_value(self.task).unwrap_or_default(),
            answers: self.answers(),
            max_length: self.config.data.max_length,
            chat_template: self.config.data.chat_template,
            method: self.config.optimizer.name().into(),
            method_files: Vec::new(),
            scale: self.config.evaluation.scale,
            temperature: 1.0,
            samples,
            seed: self.config.seed,
            predict_with: chosen,
            base: self.base.record.clone(),
        }
    }

    /// The answer words with their tokens, where all rows share them.
    fn answers(&self) -> Vec<Answer> {
        let (true, Some(encoded), Some(example)) = (same_answers(self.task), self.sets.train.examples.first(), self.dataset.train.first())
        else {
            return Vec::new();
        };
        let tokens: Vec<Vec<u32>> = match &encoded.choices {
            data::Choices::Tokens(tokens) => tokens.iter().map(|&token| vec![token]).collect(),
            data::Choices::Answers(answers) => answers.clone(),
        };
        example.answers.iter().zip(tokens).map(|(word, tokens)| Answer { word: word.clone(), tokens }).collect()
    }

    fn card(&self, report: &EvaluationReport, kept_step: u64) -> CardFacts {
        let config = self.config;
        let files: Vec<String> = self.dataset.report.files.iter().map(|file| file_name(&file.path)).collect();
        CardFacts {
            base: self.base.record.name.clone(),
            task: self.task.name.clone(),
            data: format!("{} training examples from {}", self.sets.train.examples.len(), files.join(", ")),
            method: config.optimizer.name().to_uppercase(),
            settings: vec![
                ("step kept".into(), kept_step.to_string()),
                ("learning rate".into(), config.optimizer.learning_rate().to_string()),
                ("examples per step".into(), (config.train.batch_size * config.train.accumulation).to_string()),
                ("rank".into(), self.lora.rank.to_string()),
                ("alpha".into(), self.lora.alpha.to_string()),
                ("dropout".into(), self.lora.dropout.to_string()),
                ("seed".into(), config.seed.to_string()),
            ],
            scores: card_scores(report),
            has_posterior: false,
        }
    }
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_string(), |name| name.to_string_lossy().into_owned())
}
