//! The command `train`: data → base → adapter → training → calibrate → test → files.

use std::borrow::Cow;
use std::path::PathBuf;

use super::advice::advice;
use super::classes::missing_classes;
use super::estimate::Estimate;
use super::finish::Finish;
use super::folder::{self, RunFolder, Start};
use super::memory::available_memory;
use super::rows::{check_rows, in_their_roles};
use super::untuned::UntunedAnswers;
use super::{Provenance, RunConfig, RunError};
use crate::answer::{Base, EvaluationReport, answers_of, open_checkpoint};
use crate::bundle::locate_adapter;
use crate::data::{self, Dataset, EncodedSet, Example, Role, Task};
use crate::lora::{Adapter, LoraConfig, read_peft};
use crate::method::train_members;
use crate::model::Checkpoint;
use crate::posterior::Posterior;
use crate::predict::EvaluationOptions;
use crate::train::{ChoiceGoal, Outcome, TrainError, Trained, Training};
use crate::watch::{Event, Watch};

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

/// Trains an adapter as the settings say and writes the run's folder. `watch` hears what happens
/// and says whether to go on; after a stop the run can be resumed with `resume`.
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
    let start = if resume { Start::Resumed } else { Start::New };
    let data = TrainingData {
        model: name,
        task: &task,
        dataset: &dataset,
        untuned: &UntunedAnswers::default(),
    };
    train_on(config, &data, start, watch)
}

/// What a run is made from when its rows are in memory already.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    /// The base: a folder, a GGUF file or a hub name.
    pub model: &'a str,
    /// What is asked of each row.
    pub task: &'a Task,
    /// The examples of each role.
    pub dataset: &'a Dataset,
    /// What the untuned base said to the test rows in earlier runs; it is not asked again.
    pub untuned: &'a UntunedAnswers,
}

/// As [`train`], on examples that are in memory: what the settings say of base and files is written
/// down with the run, and nothing is read from there.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    config: &RunConfig,
    data: &TrainingData<'_>,
    start: Start,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    let &TrainingData {
        model,
        task,
        dataset,
        untuned,
    } = data;
    config.validate()?;
    config.data.chat_template.check()?;
    let out = config.out.as_deref().ok_or(RunError::Setting {
        name: "out",
        found: "absent".into(),
        expected: "the folder that the run writes",
    })?;
    let located = with_located_adapter(config, watch)?;
    let folder = RunFolder::take(out, config, start)?;
    if start == Start::Resumed && !folder.resumes && config.train.steps != Some(0) {
        watch(Event::Note(
            "the run has no checkpoint yet: it begins at its first step".into(),
        ));
    }
    let dataset = &*rows_of(&folder, config, task, dataset, start, watch)?;
    for note in &dataset.report.notes {
        watch(Event::Note(note.to_string()));
    }
    let checkpoint = open_checkpoint(model, watch)?;
    let sets = Sets::encode(config, task, dataset, &checkpoint, watch)?;
    if let Some(by) = config
        .optimizer
        .settings()
        .needs_calibrate()
        .filter(|_| sets.calibrate.examples.is_empty())
    {
        return Err(RunError::Setting {
            name: "data",
            found: format!("without rows of calibrate, by which {by} chooses"),
            expected: "a file named calibrate, or `data.calibrate_share` above 0",
        });
    }
    for said in missing_classes(&answers_of(task), &sets) {
        watch(said);
    }
    announce(config, &checkpoint, &sets, watch)?;
    let mut base = Base::load(&checkpoint, &config.model.base_options())?;
    base.tokenizer = config.data.chat_template.put_into(base.tokenizer)?;
    drop(checkpoint);
    let (adapter, lora) = first_adapter(&located, config.seed, &base)?;
    let resolved = RunConfig {
        lora: lora.clone(),
        provenance: Some(provenance(&base, dataset)),
        ..config.clone()
    };
    folder.write_settings(&resolved)?;
    folder.write_json(folder::SPLITS_FILE, &dataset.ids())?;

    let goal = ChoiceGoal {
        network: &base.network,
        lora: &lora,
        config: &config.train,
        evaluation: options(config),
        train: &sets.train.examples,
        tune: &sets.tune.examples,
    };
    let training = Training {
        network: &base.network,
        goal: &goal,
        config: &config.train,
        learning_rate: config.optimizer.learning_rate(),
        dropout: lora.dropout,
        seed: config.seed,
        folder: folder.path(),
    };
    let (posteriors, trained) =
        train_all(&located, &training, &base, &adapter, folder.resumes, watch)?;
    let ended = TrainedRun {
        folder: out.into(),
        outcome: trained.outcome,
        steps: trained.steps,
        kept_step: trained.kept_step,
        report: None,
    };
    if trained.outcome == Outcome::Interrupted {
        return Ok(ended);
    }
    let finish = Finish {
        config: &resolved,
        base: &base,
        untuned,
        task,
        dataset,
        sets: &sets,
        lora: &lora,
        folder: &folder,
    };
    match finish.run(posteriors, trained.kept_step, watch) {
        Err(error) if error.is_stop() => Ok(TrainedRun {
            outcome: Outcome::Interrupted,
            ..ended
        }),
        report => Ok(TrainedRun {
            report: Some(report?),
            ..ended
        }),
    }
}

/// The rows of the run: those of a run that goes on must be the same. A comparison scores its cells
/// on the same rows, so there the roles must be those of today, too.
fn rows_of<'a>(
    folder: &RunFolder,
    config: &RunConfig,
    task: &Task,
    dataset: &'a Dataset,
    start: Start,
    watch: Watch<'_>,
) -> Result<Cow<'a, Dataset>, RunError> {
    let Some(started) = &folder.started else {
        return Ok(Cow::Borrowed(dataset));
    };
    if start == Start::Resumed {
        return in_their_roles(folder.path(), started, &config.data, task, dataset, watch);
    }
    check_rows(folder.path(), started, dataset)?;
    Ok(Cow::Borrowed(dataset))
}

/// Takes the steps of all members; gives what each can be drawn from.
fn train_all(
    config: &RunConfig,
    training: &Training<'_>,
    base: &Base,
    adapter: &Adapter,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(Vec<Box<dyn Posterior>>, Trained), RunError> {
    let settings = config.optimizer.settings();
    let begin = |seed: u64| match seed == config.seed {
        true => Ok(adapter.clone()),
        false => first_adapter(config, seed, base)
            .map(|(adapter, _)| adapter)
            .map_err(|error| match error {
                RunError::Lora(error) => error.into(),
                other => TrainError::Optimizer {
                    reason: other.to_string(),
                },
            }),
    };
    // Without a step there is no checkpoint: what comes after training is made anew.
    let resume = resume && config.train.steps != Some(0);
    Ok(train_members(settings, training, &begin, resume, watch)?)
}

/// Says what the run will need and what its settings mean; refuses what cannot fit.
fn announce(
    config: &RunConfig,
    checkpoint: &Checkpoint,
    sets: &Sets,
    watch: Watch<'_>,
) -> Result<(), RunError> {
    let length = config.train.length(sets.train.examples.len());
    config.train.check_warmup(length.steps)?;
    let estimate = Estimate::of(
        config,
        checkpoint,
        length,
        &sets.train.examples,
        [
            &sets.tune.examples,
            &sets.calibrate.examples,
            &sets.test.examples,
        ],
    );
    watch(Event::Note(estimate.to_string()));
    if let Some(available) = available_memory().filter(|available| estimate.bytes() > *available) {
        return Err(RunError::Memory {
            needed: estimate.bytes() / 1e9,
            available: available / 1e9,
        });
    }
    for said in advice(
        &config.optimizer,
        &config.train,
        length,
        checkpoint.config(),
    ) {
        watch(said);
    }
    Ok(())
}

/// The encoded examples of each role.
pub(super) struct Sets {
    pub train: EncodedSet,
    pub tune: EncodedSet,
    pub calibrate: EncodedSet,
    pub test: EncodedSet,
}

impl Sets {
    fn encode(
        config: &RunConfig,
        task: &Task,
        dataset: &Dataset,
        checkpoint: &Checkpoint,
        watch: Watch<'_>,
    ) -> Result<Self, RunError> {
        let tokenizer = config
            .data
            .chat_template
            .put_into(checkpoint.tokenizer()?)?;
        let options = config.data.encode_options(task);
        let mut encode = |role: Role, examples: &[Example]| -> Result<EncodedSet, RunError> {
            if examples.is_empty() {
                return Ok(EncodedSet::default());
            }
            let set = data::encode_all(examples, &tokenizer, options)?;
            let tokens: usize = set
                .examples
                .iter()
                .map(|example| example.tokens.len())
                .sum();
            let said = format!(
                "{role}: {} examples, {:.0} tokens each on average",
                set.examples.len(),
                tokens as f64 / set.examples.len() as f64
            );
            watch(Event::Note(said));
            for said in set.account(role.name(), examples, options.max_length) {
                watch(Event::Note(said));
            }
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

/// The settings with the folder of the adapter that is trained on in place of its name, which may
/// be the hub's: looked for once, and before there is any work to lose. What is saved with the run
/// keeps the name.
fn with_located_adapter(config: &RunConfig, watch: Watch<'_>) -> Result<RunConfig, RunError> {
    let mut located = config.clone();
    if let Some(named) = &mut located.model.adapter {
        *named = locate_adapter(named, watch)?;
    }
    Ok(located)
}

/// The adapter at its start: a new one from the run's seed, or one that is trained on, whose folder
/// is known.
fn first_adapter(
    config: &RunConfig,
    seed: u64,
    base: &Base,
) -> Result<(Adapter, LoraConfig), RunError> {
    let device = base.device().clone().autodiff();
    match &config.model.adapter {
        None => Ok((
            Adapter::new(&config.lora, base.config(), seed, &device)?,
            config.lora.clone(),
        )),
        Some(folder) => {
            let peft = read_peft(folder, base.config(), &device)?;
            // Rank and targets are those of the folder; what only training has comes from the
            // settings.
            Ok((
                peft.adapter,
                LoraConfig {
                    dropout: config.lora.dropout,
                    ..peft.config
                },
            ))
        }
    }
}

/// How the settings evaluate.
pub(super) fn options(config: &RunConfig) -> EvaluationOptions {
    EvaluationOptions {
        samples: config.evaluation.samples,
        scale: config.evaluation.scale,
        seed: config.seed,
        batch_tokens: config.evaluation.batch_tokens,
    }
}

/// Of the library that computes; a test compares it with what the workspace is locked to.
const BURN_VERSION: &str = "0.22.1";

fn provenance(base: &Base, dataset: &Dataset) -> Provenance {
    Provenance {
        program: env!("CARGO_PKG_VERSION").into(),
        burn: BURN_VERSION.into(),
        base: base.record.name.clone(),
        base_hash: base.record.fingerprint.hash.clone(),
        files: dataset
            .report
            .files
            .iter()
            .map(|file| (file.path.clone(), file.sha256.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_that_a_run_names_is_the_one_in_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock: toml::Table = std::fs::read_to_string(lock).unwrap().parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let burn = packages
            .iter()
            .find(|package| package["name"].as_str() == Some("burn"))
            .unwrap();
        assert_eq!(burn["version"].as_str(), Some(BURN_VERSION));
    }
}
