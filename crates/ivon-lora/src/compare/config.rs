//! The file of a comparison: methods, tasks, seeds, how each method is tuned, and predictions that
//! were made elsewhere.
//!
//! A cell's settings are those of `[run]`, over them those of its task, over them those of its
//! method: tables of a run's own file, so that whatever a run can be told a comparison can be told,
//! of methods that this file has never heard of as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

use super::CompareError;
use super::plan::cell_folder;
use super::search::Range;
use crate::files;
use crate::run::{ADAPTER_FOLDER, RunConfig};

const LARGEST: u64 = 4 << 20;
const MOST_JOBS: usize = 256;

/// A comparison as its file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    /// The folder of everything that is made.
    pub out: PathBuf,
    /// Each method is trained once with each of these on each task.
    pub seeds: Vec<u64>,
    /// How many runs are made at once, as far as memory allows.
    #[serde(default = "one")]
    pub jobs: usize,
    /// Whether every row of a method has a second one with the temperature that was chosen on
    /// *calibrate*.
    #[serde(default = "yes")]
    pub temperature: bool,
    /// What the runs have in common: the tables of a run's file.
    #[serde(default)]
    pub run: Table,
    /// The columns of the table.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskEntry>,
    /// The rows of the table.
    #[serde(rename = "method")]
    pub methods: Vec<MethodEntry>,
    /// How settings are chosen; none for the settings as they stand.
    #[serde(default)]
    pub tuning: Option<Tuning>,
    /// Predictions that were made elsewhere.
    #[serde(default)]
    pub predictions: Vec<Elsewhere>,
}

/// One task: a name, and the tables of a run's file that differ from `[run]`, `data` among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// Stands over its columns; part of folder names.
    pub name: String,
    /// Seeds of its own in place of those of the whole comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// `data`, `train`, … as in a run's file.
    #[serde(flatten)]
    pub settings: Table,
}

/// One method: a name, and the tables of a run's file that differ, `optimizer` among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodEntry {
    /// Stands before its rows; part of folder names.
    pub name: String,
    /// Ranges by setting, such as `learning_rate` or `train.steps`; a name without a point is the
    /// optimizer's.
    #[serde(default)]
    pub tune: std::collections::BTreeMap<String, Range>,
    /// Another method, whose chosen settings this one takes over in place of trials of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned_as: Option<String>,
    /// Another method, trained with AdamW: this one takes its adapter of the same seed, and only
    /// does what it does after training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_by: Option<String>,
    /// `optimizer`, `train`, … as in a run's file.
    #[serde(flatten)]
    pub settings: Table,
}

/// How settings are chosen: by the lowest NLL on *tune*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Trials of each method on each task; the same for all.
    pub trials: u32,
    /// Names the search, and is the seed of every trial's run.
    #[serde(default)]
    pub seed: u64,
    /// Tables of a run's file that differ in trials, such as fewer steps.
    #[serde(default)]
    pub run: Table,
}

/// A file of predictions on the test rows of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// The row that it belongs to.
    pub method: String,
    /// The task's name.
    pub task: String,
    /// The seed that it was made with.
    pub seed: u64,
    /// The file.
    pub path: PathBuf,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl CompareConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or asks for what cannot be.
    pub fn read(path: &Path) -> Result<Self, CompareError> {
        let text = files::read_text(path, LARGEST)?;
        let malformed = |error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or_else(String::new, |before| {
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            CompareError::Malformed {
                path: path.into(),
                reason: format!("{line}{}", error.message().replace('\n', " ")),
            }
        };
        let config: Self = toml::from_str(&text).map_err(malformed)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks names, ranges, and that the settings of every cell are a run's.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), CompareError> {
        unique("method", self.methods.iter().map(|method| &method.name))?;
        unique("task", self.tasks.iter().map(|task| &task.name))?;
        let wrong = |what: &str, found: String, expected: &str| {
            Err(CompareError::Setting {
                what: format!("`{what}`"),
                found,
                expected: expected.into(),
            })
        };
        for seeds in std::iter::once(&self.seeds)
            .chain(self.tasks.iter().filter_map(|task| task.seeds.as_ref()))
        {
            if seeds.is_empty() || seeds.iter().collect::<BTreeSet<_>>().len() < seeds.len() {
                let found = seeds
                    .iter()
                    .map(u64::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                return wrong(
                    "seeds",
                    format!("[{found}]"),
                    "at least one, and none twice",
                );
            }
        }
        if !(1..=MOST_JOBS).contains(&self.jobs) {
            return wrong("jobs", self.jobs.to_string(), "from 1 to 256");
        }
        for method in &self.methods {
            self.trainer(method)?;
        }
        if let Some(tuning) = &self.tuning {
            if !(1..=10_000).contains(&tuning.trials) {
                return wrong(
                    "tuning.trials",
                    tuning.trials.to_string(),
                    "from 1 to 10,000",
                );
            }
            for method in &self.methods {
                self.check_tuning(method)?;
            }
        }
        for entry in &self.predictions {
            if !self.tasks.iter().any(|task| task.name == entry.task) {
                return wrong(
                    "predictions.task",
                    format!("`{}`", entry.task),
                    "the name of a task of this file",
                );
            }
        }
        for task in &self.tasks {
            for method in &self.methods {
                let cell = self.cell(task, method, self.seeds[0])?;
                cell.validate().map_err(|source| CompareError::Cell {
                    name: cell_name(task, method, None),
                    source: Box::new(source),
                })?;
            }
        }
        Ok(())
    }

    /// Every method is tuned with as many trials as the others: over ranges of its own, or as
    /// another.
    fn check_tuning(&self, method: &MethodEntry) -> Result<(), CompareError> {
        let wrong = |what: String, found: String, expected: &str| {
            Err(CompareError::Setting {
                what,
                found,
                expected: expected.into(),
            })
        };
        let what = format!("method `{}`", method.name);
        if method.trained_by.is_some() {
            return Ok(());
        }
        match (&method.tuned_as, method.tune.is_empty()) {
            (None, true) => wrong(
                what,
                "without `tune`, `tuned_as` and `trained_by`".into(),
                "one of them, so that all methods are tuned alike",
            ),
            (Some(_), false) => wrong(what, "with `tune` and `tuned_as`".into(), "one of them"),
            (Some(other), true) => match self.methods.iter().find(|one| one.name == *other) {
                Some(one) if !one.tune.is_empty() => Ok(()),
                _ => wrong(
                    format!("`tuned_as` of {what}"),
                    format!("`{other}`"),
                    "a method of this file that is tuned over ranges of its own",
                ),
            },
            (None, false) => method
                .tune
                .iter()
                .try_for_each(|(key, range)| range.check(&format!("{what}, `{key}`"))),
        }
    }

    /// The seeds that each method is trained with on a task.
    pub fn seeds_of<'a>(&'a self, task: &'a TaskEntry) -> &'a [u64] {
        task.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// The settings of one run of the comparison, before any are chosen.
    ///
    /// # Errors
    /// If the tables are not those of a run, or the method cannot be fitted to what another one
    /// trained.
    pub fn cell(
        &self,
        task: &TaskEntry,
        method: &MethodEntry,
        seed: u64,
    ) -> Result<RunConfig, CompareError> {
        if let Some(trainer) = self.trainer(method)? {
            return self.fitted_after(task, method, trainer, &self.cell(task, trainer, seed)?);
        }
        let mut table = self.run.clone();
        merge(&mut table, &task.settings);
        merge(&mut table, &method.settings);
        resolved(table, seed, || cell_name(task, method, Some(seed)))
    }
}

impl CompareConfig {
    /// The threads of `[run.model]`, where runs are made one after the other on the program's own;
    /// several at once have theirs each.
    pub fn threads(&self) -> Option<u32> {
        let threads = self.run.get("model")?.get("threads")?.as_integer()?;
        u32::try_from(threads).ok().filter(|_| self.jobs <= 1)
    }

    /// The method whose adapters another one takes; none where it trains its own.
    ///
    /// # Errors
    /// If there is no such method, it takes those of yet another, or the settings of both would be
    /// tuned.
    pub(super) fn trainer(
        &self,
        method: &MethodEntry,
    ) -> Result<Option<&MethodEntry>, CompareError> {
        let Some(name) = &method.trained_by else {
            return Ok(None);
        };
        let wrong = |what: String, found: String, expected: &str| {
            Err(CompareError::Setting {
                what,
                found,
                expected: expected.into(),
            })
        };
        if method.tuned_as.is_some() || !method.tune.is_empty() {
            let expected = "`trained_by` alone, since the settings are those of what it takes";
            return wrong(
                format!("method `{}`", method.name),
                "with `trained_by` beside `tune` or `tuned_as`".into(),
                expected,
            );
        }
        match self.methods.iter().find(|one| one.name == *name) {
            Some(trainer) if trainer.trained_by.is_none() => Ok(Some(trainer)),
            _ => wrong(
                format!("`trained_by` of method `{}`", method.name),
                format!("`{name}`"),
                "another method of this file that trains adapters of its own",
            ),
        }
    }

    /// The settings of a cell that takes what the cell of another method with these settings
    /// trained: those, and over them its own.
    ///
    /// # Errors
    /// If the other trains with something else than AdamW, or this one cannot be fitted after
    /// training.
    pub(super) fn fitted_after(
        &self,
        task: &TaskEntry,
        method: &MethodEntry,
        trainer: &MethodEntry,
        trained: &RunConfig,
    ) -> Result<RunConfig, CompareError> {
        let wrong = |method: &MethodEntry, found: &str, expected: &str| CompareError::Setting {
            what: format!("the optimizer of method `{}`", method.name),
            found: format!("`{found}`"),
            expected: expected.into(),
        };
        if trained.optimizer.name() != "adamw" {
            return Err(wrong(
                trainer,
                trained.optimizer.name(),
                "`adamw`, as the adapters of another method are `trained_by` it",
            ));
        }
        let seed = trained.seed;
        let mut table = Table::try_from(trained).unwrap_or_default();
        let training = table
            .get("optimizer")
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        merge(&mut table, &method.settings);
        if let Some(toml::Value::Table(own)) = table.get_mut("optimizer") {
            for (key, value) in training {
                own.entry(key).or_insert(value);
            }
        }
        let name = || cell_name(task, method, Some(seed));
        let mut config = resolved(table, seed, name)?;
        if !config.optimizer.settings().fits_afterwards() {
            let expected = "one that can be fitted to an adapter, as it is `trained_by` another: laplace, tfb, mc-dropout or adamw-noise";
            return Err(wrong(method, config.optimizer.name(), expected));
        }
        config.model.adapter =
            Some(cell_folder(&self.out, task, trainer, seed).join(ADAPTER_FOLDER));
        config.train.steps = Some(0);
        Ok(config)
    }
}

/// A run's settings from their tables.
pub(super) fn resolved(
    mut table: Table,
    seed: u64,
    name: impl Fn() -> String,
) -> Result<RunConfig, CompareError> {
    let seed = i64::try_from(seed).unwrap_or(i64::MAX);
    table.insert("seed".into(), seed.into());
    table.remove("out");
    table
        .try_into()
        .map_err(|error: toml::de::Error| CompareError::CellSettings {
            name: name(),
            reason: error.message().replace('\n', " "),
        })
}

/// `sst2, IVON, seed 21`.
pub(super) fn cell_name(task: &TaskEntry, method: &MethodEntry, seed: Option<u64>) -> String {
    let seed = seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
    format!("{}, {}{seed}", task.name, method.name)
}

/// Lays tables over tables; a table that names another optimizer takes the place of the one before.
pub(super) fn merge(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(there)), toml::Value::Table(here)) => {
                let is_other = here
                    .get("name")
                    .zip(there.get("name"))
                    .is_some_and(|(here, there)| here != there);
                if is_other {
                    *there = here.clone();
                } else {
                    merge(there, here);
                }
            }
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Names are there, unique, and can be part of a folder's name.
fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), CompareError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if folder_name(name).is_empty() || !seen.insert(folder_name(name)) {
            return Err(CompareError::Setting {
                what: format!("`{what}.name`"),
                found: format!("`{name}`"),
                expected: "a name of its own, with a letter or a digit in it".into(),
            });
        }
    }
    if seen.is_empty() {
        return Err(CompareError::Setting {
            what: format!("`{what}`"),
            found: "absent".into(),
            expected: format!("at least one `[[{what}]]`"),
        });
    }
    Ok(())
}

/// A name as part of a path: small letters, digits and dashes alone.
pub(super) fn folder_name(name: &str) -> String {
    let dashed: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    dashed
        .split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const FILE: &str = r#"
        out = "runs/comparison"
        seeds = [1, 2]
        [run.model]
        path = "model"
        [run.train]
        steps = 40
        [[task]]
        name = "sst2"
        [task.data]
        path = "data/sst2"
        task = "sst2"
        [[task]]
        name = "boolq"
        [task.data]
        path = "data/boolq"
        task = "boolq"
        [task.train]
        steps = 80
        [[method]]
        name = "AdamW"
        [method.optimizer]
        name = "adamw"
        [method.tune]
        learning_rate = { from = 1e-5, to = 1e-3 }
        "train.steps" = [20, 40]
        [[method]]
        name = "IVON"
        [method.optimizer]
        name = "ivon"
        ess = 1e7
        [method.tune]
        learning_rate = { from = 0.01, to = 1.0 }
        [tuning]
        trials = 4
    "#;

    fn parsed(text: &str) -> CompareConfig {
        toml::from_str(text).unwrap()
    }

    fn refused(from: &str, to: &str) -> String {
        let text = FILE.replacen(from, to, 1);
        assert_ne!(text, FILE, "{from}");
        match toml::from_str::<CompareConfig>(&text) {
            Ok(config) => config.validate().unwrap_err().to_string(),
            Err(error) => error.message().to_string(),
        }
    }

    #[test]
    fn the_threads_of_the_runs_are_those_of_the_program_unless_several_run_at_once() {
        let of = |jobs: usize, threads: &str| {
            let text = FILE.replace("path = \"model\"", &format!("path = \"model\"\n{threads}"));
            CompareConfig {
                jobs,
                ..toml::from_str(&text).unwrap()
            }
            .threads()
        };
        assert_eq!(
            [of(1, "threads = 3"), of(2, "threads = 3"), of(1, "")],
            [Some(3), None, None]
        );
    }

    #[test]
    fn a_cell_is_the_run_with_its_task_and_its_method_over_it() {
        let config = parsed(FILE);
        config.validate().unwrap();
        let cell = config
            .cell(&config.tasks[1], &config.methods[1], 2)
            .unwrap();
        assert_eq!(
            (cell.seed, cell.train.steps, cell.optimizer.name()),
            (2, Some(80), "ivon")
        );
        assert_eq!(cell.data.task.as_deref(), Some("boolq"));
        assert_eq!(
            config
                .cell(&config.tasks[0], &config.methods[0], 1)
                .unwrap()
                .train
                .steps,
            Some(40)
        );
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        assert!(
            refused("name = \"IVON\"", "name = \"adamw\"")
                .starts_with("`method.name` is `adamw`, expected a name of its own")
        );
        assert!(
            refused("[1, 2]", "[1, 1]").starts_with("`seeds` is [1, 1], expected at least one")
        );
        assert!(
            refused("name = \"boolq\"", "name = \"boolq\"\nseeds = []")
                .starts_with("`seeds` is [], expected at least one")
        );
        assert_eq!(
            refused("seeds =", "jobs = 0\nseeds ="),
            "`jobs` is 0, expected from 1 to 256"
        );
        assert!(refused("trials = 4", "trials = 0").starts_with("`tuning.trials` is 0"));
        assert!(refused("from = 0.01", "from = 2.0").contains("method `IVON`, `learning_rate`"));
        assert!(refused("ess = 1e7", "ess = -1.0").starts_with("the cell sst2, IVON"));
        assert!(refused("ess = 1e7", "esss = 1.0").starts_with(
            "the settings of sst2, IVON, seed 1 are not those of a run: unknown field"
        ));
        assert!(
            refused("learning_rate = { from = 0.01, to = 1.0 }", "")
                .contains("without `tune`, `tuned_as` and `trained_by`")
        );
        assert!(
            refused(
                "learning_rate = { from = 0.01, to = 1.0 }",
                "learning_rate = { from = 0.01 }"
            )
            .contains("range")
        );
        assert!(refused("seeds", "seds").contains("unknown field"));
    }

    #[test]
    fn a_method_that_is_trained_by_another_takes_its_adapter_and_its_settings() {
        let more = "[[method]]\nname = 'Laplace'\ntrained_by = 'AdamW'\n[method.optimizer]\nname = 'laplace'\nlaplace_layers = 'last'\n";
        let text = FILE
            .replace("[tuning]", &format!("{more}[tuning]"))
            .replace("name = \"adamw\"", "name = \"adamw\"\nweight_decay = 0.5");
        let config = parsed(&text);
        config.validate().unwrap();
        let cell = config
            .cell(&config.tasks[1], &config.methods[2], 2)
            .unwrap();
        assert_eq!(
            (cell.seed, cell.train.steps, cell.optimizer.name()),
            (2, Some(0), "laplace")
        );
        assert_eq!(
            cell.model.adapter,
            Some("runs/comparison/cells/boolq/adamw/2/adapter".into())
        );
        let optimizer = toml::Table::try_from(&cell.optimizer).unwrap();
        assert_eq!(
            (
                optimizer["weight_decay"].as_float(),
                optimizer["laplace_layers"].as_str()
            ),
            (Some(0.5), Some("last"))
        );
        let refused = |from: &str, to: &str| {
            parsed(&text.replacen(from, to, 1))
                .validate()
                .unwrap_err()
                .to_string()
        };
        let other =
            "is `Adam`, expected another method of this file that trains adapters of its own";
        assert_eq!(
            refused("trained_by = 'AdamW'", "trained_by = 'Adam'"),
            format!("`trained_by` of method `Laplace` {other}")
        );
        assert!(
            refused("trained_by = 'AdamW'", "trained_by = 'Laplace'")
                .starts_with("`trained_by` of method `Laplace` is `Laplace`")
        );
        assert!(
            refused("trained_by = 'AdamW'", "trained_by = 'IVON'")
                .starts_with("the optimizer of method `IVON` is `ivon`, expected `adamw`")
        );
        assert!(
            refused("name = 'laplace'\nlaplace_layers = 'last'", "name = 'swag'")
                .starts_with("the optimizer of method `Laplace` is `swag`")
        );
        assert!(
            refused(
                "trained_by = 'AdamW'",
                "trained_by = 'AdamW'\ntuned_as = 'AdamW'"
            )
            .contains("with `trained_by` beside `tune`")
        );
    }

    #[test]
    fn the_file_of_the_documentation_is_a_comparison() {
        let page = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/comparison.md"
        ))
        .unwrap();
        let file = page
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let config = parsed(file);
        config.validate().unwrap();
        assert_eq!(
            (
                config.methods.len(),
                config.tasks.len(),
                config.predictions.len()
            ),
            (2, 1, 1)
        );
        assert_eq!(
            config
                .cell(&config.tasks[0], &config.methods[1], 42)
                .unwrap()
                .data
                .train_limit,
            Some(200)
        );
    }

    #[test]
    fn folder_names_are_plain() {
        assert_eq!(folder_name("IVON, 10 samples (τ=1)"), "ivon-10-samples-1");
        assert_eq!(folder_name("../.."), "");
    }
}
