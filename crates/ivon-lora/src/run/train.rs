//! A run from its settings or its data: data → base → adapter → training → calibrate → test → files.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Instant;

use super::advice::{advice, initial_spread};
use super::classes::{missing_classes, weights_note};
use super::config::{check_magnitudes, check_tables};
use super::data::{EncodedRoles, TrainingData};
use super::estimate::Estimate;
use super::finish::Finish;
use super::folder::{self, RunFolder, Start};
use super::memory::available_memory;
use super::ranks::{check_method_on_ranks, check_same_on_ranks, reductions_note};
use super::rows::{RowsOfRun, check_rows};
use super::untuned::UntunedAnswers;
use super::{Provenance, RunConfig, RunError};
use crate::answer::{Base, RunReport, answers_of, open_checkpoint};
use crate::bundle::locate_adapter;
use crate::data::{self, Dataset, Task};
use crate::lora::{Adapter, LoraConfig, PeftAdapter, check_base_tables, read_peft};
use crate::method::{Members, Settings, Setup, train_members};
use crate::model::{Checkpoint, DecoderConfig};
use crate::ranks::{Ranks, Team};
use crate::settings::SettingError;
use crate::train::{
    ChoiceGoal, Goal, GoalExamples, Outcome, TextGoal, TrainError, Training, TrainingEnd,
};
use crate::watch::{Event, Watch};

/// The outcome of a run.
#[derive(Debug)]
pub struct TrainedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Why training ended; after an interruption there is no report.
    pub outcome: Outcome,
    /// Steps taken.
    pub steps: u64,
    /// The step whose weights are kept.
    pub kept_step: u64,
    /// The scores.
    pub report: Option<RunReport>,
}

/// Trains an adapter by the settings and writes the run's folder. `watch` hears what happens and says
/// whether to go on; a stopped run can be resumed with `resume`.
///
/// # Errors
/// Whatever is wrong with settings, data, model, memory, a step, or a file; see [`RunError`].
pub fn train(config: &RunConfig, resume: bool, watch: Watch<'_>) -> Result<TrainedRun, RunError> {
    train_as(None, config, resume, watch)
}

/// As one process, or as a rank of several.
fn train_as(
    team: Option<&Team<'_>>,
    config: &RunConfig,
    resume: bool,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    config.validate()?;
    let task = Task::from_config(&config.data)?;
    let dataset = data::load(&config.data, &task)?;
    let name = config.model.path.as_deref().ok_or_else(|| {
        SettingError::new("model", "absent", "a folder, a `.gguf` file or a hub name")
    })?;
    let start = if resume { Start::Resumed } else { Start::New };
    let data = TrainingData {
        model: name,
        task: &task,
        dataset: &dataset,
        untuned: &UntunedAnswers::default(),
    };
    make_run(team, config, &data, start, watch)
}

/// As [`train`], as one of several ranks, all of which are given the same settings; the first writes the
/// run's folder, which the others must be able to read. With the same examples in each step, the run is
/// that of one process up to rounding, and with the same number of ranks to the bit.
///
/// # Errors
/// As [`train`]; if the ranks have different settings, data or models; if a rank fails or ends; and if
/// the method cannot be trained by several ranks.
pub fn train_on_ranks(
    config: &RunConfig,
    resume: bool,
    ranks: &dyn Ranks,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    let team = Team::new(ranks);
    let team = (ranks.size() > 1).then_some(&team);
    train_as(team, config, resume, watch)
}

/// As [`train`], on rows that are in memory: the files that the settings name are recorded with the
/// run, but not read.
///
/// # Errors
/// As [`train`].
pub fn train_on_data(
    config: &RunConfig,
    data: &TrainingData<'_>,
    start: Start,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    make_run(None, config, data, start, watch)
}

/// A run on rows in memory, as one process or as a rank of several.
fn make_run(
    team: Option<&Team<'_>>,
    config: &RunConfig,
    data: &TrainingData<'_>,
    start: Start,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    config.validate()?;
    if let Some(team) = team {
        check_method_on_ranks(config, team.size())?;
    }
    config.data.chat_template.check()?;
    let out = config.out.as_deref();
    let out =
        out.ok_or_else(|| SettingError::new("out", "absent", "the folder that the run writes"))?;
    let located = with_located_adapter(config, watch)?;
    let folder = RunFolder::take_over(team, out, config, start)?;
    // A run that goes on keeps the settings that were chosen when it began.
    let config = &RunConfig {
        optimizer: folder
            .optimizer
            .clone()
            .unwrap_or_else(|| config.optimizer.clone()),
        ..config.clone()
    };
    if start == Start::Resumed && !folder.resumes && config.train.steps != Some(0) {
        let note = "the run has no checkpoint yet: it begins at its first step";
        watch(Event::Note(note.into()));
    }
    let dataset = &*rows_of(&folder, config, data, start, watch)?;
    for note in &dataset.report.notes {
        watch(Event::Note(note.to_string()));
    }
    for warning in &dataset.report.warnings {
        watch(Event::Warning(warning.clone().into()));
    }
    let data = TrainingData { dataset, ..*data };
    let (base, sets, config) = load(config, &data, watch)?;
    let start = StartingPoint::new(&located, &base)?;
    let notes = start.adapter.notes(base.config());
    for note in start.note.iter().cloned().chain(notes) {
        watch(Event::Note(note));
    }
    let resolved = start.resolved(&config, dataset);
    if let Some(team) = team {
        check_same_on_ranks(team, &resolved)?;
    }
    folder.write_settings(&resolved)?;
    folder.write_json(folder::SPLITS_FILE, &dataset.ids())?;
    let run = Finish {
        config: &resolved,
        base: &base,
        untuned: data.untuned,
        task: data.task,
        dataset,
        sets: &sets,
        folder: &folder,
        team,
    };
    train_and_finish(&run, &start, watch)
}

/// The method must be able to learn from the rows, by the logits that this model gives.
fn check_method(
    method: &dyn Settings,
    task: &Task,
    sets: &EncodedRoles,
    decoder: &DecoderConfig,
) -> Result<(), RunError> {
    let refused = |place: &str, expected: &'static str| {
        let found = format!("`{}` {place}", method.name());
        Err(RunError::Setting(SettingError::new(
            "optimizer",
            found,
            expected,
        )))
    };
    if method.needs_single_tokens() && sets.has_whole_answers() {
        return refused(
            "where answers are scored whole",
            "another method, or `data.scoring = \"token\"` if the first tokens of the answers differ",
        );
    }
    if task.is_text() && !method.learns_texts() {
        return refused(
            "for texts, of which it has no posterior",
            "a method that trains one, such as `ivon`, `adamw` or `ensemble`",
        );
    }
    match decoder.ends.final_logit_softcapping {
        Some(limit) if method.needs_linear_logits() => {
            let place = format!("on a model that limits its logits to ±{limit}");
            refused(&place, "another method")
        }
        _ => Ok(()),
    }
}

/// Encodes the rows, chooses the settings that were left open, reports what the run will need, and
/// loads the base.
fn load(
    config: &RunConfig,
    data: &TrainingData<'_>,
    watch: Watch<'_>,
) -> Result<(Base, EncodedRoles, RunConfig), RunError> {
    let checkpoint = open_checkpoint(data.model, watch)?;
    let sets = EncodedRoles::encode(config, data, &checkpoint, watch)?;
    let chooses = config.optimizer.settings().needs_calibrate();
    if let Some(by) = chooses.filter(|_| sets.calibrate.examples.is_empty()) {
        return Err(RunError::Setting(SettingError::new(
            "data",
            format!("without rows of calibrate, by which {by} chooses"),
            "a file named calibrate, or `data.calibrate_share` above 0",
        )));
    }
    check_method(
        config.optimizer.settings(),
        data.task,
        &sets,
        checkpoint.config(),
    )?;
    let answers = answers_of(data.task);
    for warning in missing_classes(&answers, &sets) {
        watch(warning);
    }
    if let Some(note) = weights_note(&answers, &sets.weights) {
        watch(Event::Note(note));
    }
    let config = with_chosen_settings(config, checkpoint.config(), &sets, watch);
    announce(&config, &checkpoint, &sets, watch)?;
    let mut base = Base::load(&checkpoint, &config.model.base_options())?;
    base.tokenizer = config.data.chat_template.put_into(base.tokenizer)?;
    Ok((base, sets, config))
}

/// The settings with a value for each that the method left open; every choice is reported.
fn with_chosen_settings(
    config: &RunConfig,
    decoder: &DecoderConfig,
    sets: &EncodedRoles,
    watch: Watch<'_>,
) -> RunConfig {
    let examples = sets.train.examples.len();
    let setup = Setup::new(&config.train, examples, config.lora.dropout, config.seed);
    let mut config = config.clone();
    let settings = config.optimizer.settings();
    if let Some((method, reasons)) = settings.chosen(&setup, initial_spread(decoder)) {
        for reason in reasons {
            watch(Event::Note(format!("chosen: {reason}")));
        }
        config.optimizer = method;
    }
    config
}

/// Trains, and does what follows training unless it was interrupted.
fn train_and_finish(
    run: &Finish<'_>,
    start: &StartingPoint<'_>,
    watch: Watch<'_>,
) -> Result<TrainedRun, RunError> {
    let started = Instant::now();
    let (members, end) = start.train_members(run, watch)?;
    if let Some(team) = run.team {
        watch(Event::Note(reductions_note(team, started.elapsed())));
    }
    let ended = TrainedRun {
        folder: run.folder.path().into(),
        outcome: end.outcome,
        steps: end.steps,
        kept_step: end.kept_step,
        report: None,
    };
    if end.outcome == Outcome::Interrupted {
        return Ok(ended);
    }
    match run.run(members, end.kept_step, watch) {
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

/// The rows of the run, which must be those that it was started with. A comparison scores its cells
/// on the same rows, so that there they must also have their present roles.
fn rows_of<'a>(
    folder: &RunFolder,
    config: &RunConfig,
    data: &TrainingData<'a>,
    start: Start,
    watch: Watch<'_>,
) -> Result<Cow<'a, Dataset>, RunError> {
    let dataset = data.dataset;
    let Some(started) = &folder.started else {
        return Ok(Cow::Borrowed(dataset));
    };
    if start == Start::Resumed {
        let rows = RowsOfRun {
            folder: folder.path(),
            provenance: started,
            config: &config.data,
            task: data.task,
        };
        return rows.in_their_roles(dataset, watch);
    }
    check_rows(folder.path(), started, dataset)?;
    Ok(Cow::Borrowed(dataset))
}

/// Where training begins.
struct StartingPoint<'a> {
    /// The settings, in which the folder of an adapter to be trained further replaces its name.
    config: &'a RunConfig,
    /// The adapter of the run's own seed.
    adapter: Adapter,
    lora: LoraConfig,
    /// A note on the folder that the adapter was read from.
    note: Option<String>,
    base: &'a Base,
}

impl<'a> StartingPoint<'a> {
    fn new(config: &'a RunConfig, base: &'a Base) -> Result<Self, RunError> {
        let first = first_adapter(config, config.seed, base)?;
        Ok(Self {
            config,
            adapter: first.adapter,
            lora: first.config,
            note: first.note,
            base,
        })
    }

    /// The settings as they are saved with the run.
    fn resolved(&self, config: &RunConfig, dataset: &Dataset) -> RunConfig {
        RunConfig {
            lora: self.lora.clone(),
            provenance: Some(provenance(self.base, dataset)),
            ..config.clone()
        }
    }

    /// The adapter of the member with this seed.
    fn adapter(&self, seed: u64) -> Result<Adapter, TrainError> {
        if seed == self.config.seed {
            return Ok(self.adapter.clone());
        }
        match first_adapter(self.config, seed, self.base) {
            Ok(first) => Ok(first.adapter),
            Err(RunError::Lora(error)) => Err(error.into()),
            Err(other) => Err(TrainError::Optimizer {
                reason: other.to_string(),
            }),
        }
    }

    /// Trains all members.
    fn train_members(
        &self,
        run: &Finish<'_>,
        watch: Watch<'_>,
    ) -> Result<(Members, TrainingEnd), RunError> {
        let config = run.config;
        let goal = goal(run);
        let training = Training {
            network: &run.base.network,
            goal: goal.as_ref(),
            config: &config.train,
            learning_rate: config.optimizer.learning_rate(),
            dropout: config.lora.dropout,
            seed: config.seed,
            folder: run.folder.path(),
            team: run.team,
        };
        // A run without steps has no checkpoint: what follows training is done again.
        let resume = run.folder.resumes && config.train.steps != Some(0);
        let start = |seed| self.adapter(seed);
        let settings = config.optimizer.settings();
        Ok(train_members(settings, &training, &start, resume, watch)?)
    }
}

/// What a run learns.
fn goal<'a>(run: &'a Finish<'_>) -> Box<dyn Goal + 'a> {
    let config = run.config;
    let examples = GoalExamples {
        network: &run.base.network,
        lora: &config.lora,
        config: &config.train,
        evaluation: config.evaluation_options(),
        weights: &run.sets.weights,
        train: &run.sets.train.examples,
        tune: &run.sets.tune.examples,
        team: run.team,
    };
    match run.task.is_text() {
        true => Box::new(TextGoal(examples)),
        false => Box::new(ChoiceGoal(examples)),
    }
}

/// Reports what the run will need and what its settings mean.
///
/// # Errors
/// [`RunError::Memory`] if it will not fit.
fn announce(
    config: &RunConfig,
    checkpoint: &Checkpoint,
    sets: &EncodedRoles,
    watch: Watch<'_>,
) -> Result<(), RunError> {
    let length = config.train.length(sets.train.examples.len());
    config.train.check_warmup(length.steps)?;
    let evaluated = [&sets.tune, &sets.calibrate, &sets.test].map(|set| &set.examples[..]);
    let estimate = Estimate::of(config, checkpoint, length, &sets.train.examples, evaluated);
    watch(Event::Note(estimate.to_string()));
    if let Some(available) = available_memory().filter(|available| estimate.bytes() > *available) {
        return Err(RunError::Memory {
            needed: estimate.bytes() / 1e9,
            available: available / 1e9,
        });
    }
    let (method, decoder) = (&config.optimizer, checkpoint.config());
    for event in advice(method, &config.train, length, decoder) {
        watch(event);
    }
    Ok(())
}

/// The settings, in which the folder of an adapter to be trained further replaces its name. It is
/// located (or fetched from the hub) once, before there is any work to lose; the settings that are
/// saved with the run keep the name.
fn with_located_adapter(config: &RunConfig, watch: Watch<'_>) -> Result<RunConfig, RunError> {
    let mut located = config.clone();
    if let Some(named) = &mut located.model.adapter {
        *named = locate_adapter(named, watch)?;
    }
    Ok(located)
}

/// The adapter at its start: a new one from this seed, or the one that is to be trained further.
fn first_adapter(config: &RunConfig, seed: u64, base: &Base) -> Result<PeftAdapter, RunError> {
    let device = base.device().clone().autodiff();
    match &config.model.adapter {
        None => {
            let adapter = Adapter::new(&config.lora, base.config(), seed, &device)?;
            let adapter = match config.lora.use_dora {
                true => adapter.with_magnitudes(|path| base.network.row_lengths(path), &device),
                false => adapter,
            };
            let tables = |table| base.network.table(table);
            let adapter =
                adapter.with_whole_tables(&config.lora, base.config(), tables, &device)?;
            check_tables(config.optimizer.settings(), &adapter)?;
            Ok(PeftAdapter {
                adapter,
                config: config.lora.clone(),
                base_model_name_or_path: None,
                note: None,
            })
        }
        Some(folder) => {
            let peft = read_peft(folder, base.config(), &device)?;
            if peft.adapter.has_magnitudes() {
                check_magnitudes(config.optimizer.settings())?;
            }
            check_tables(config.optimizer.settings(), &peft.adapter)?;
            check_base_tables(folder, &peft.adapter, |table, row, out| {
                base.network.table_row(table, row, out);
            })?;
            // Rank and targets are those of the folder; dropout, which only training has, is that of
            // the settings.
            Ok(PeftAdapter {
                config: LoraConfig {
                    dropout: config.lora.dropout,
                    ..peft.config
                },
                ..peft
            })
        }
    }
}

/// The version of Burn; a test compares it with the lock file.
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
