//! Reads and checks the file of a comparison: names, ranges, and the settings of every cell.

use std::collections::BTreeSet;
use std::path::Path;

use super::CompareError;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::layout::folder_name;
use super::settings::cell_name;
use ivon_lora::files;

const LARGEST: u64 = 4 << 20;
const MOST_JOBS: usize = 256;

impl CompareConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, is malformed, or has wrong settings.
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

    /// Checks names, ranges, and the settings of every cell.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), CompareError> {
        unique("method", self.methods.iter().map(|method| &method.name))?;
        unique("task", self.tasks.iter().map(|task| &task.name))?;
        let of_tasks = self.tasks.iter().filter_map(|task| task.seeds.as_ref());
        std::iter::once(&self.seeds)
            .chain(of_tasks)
            .try_for_each(|seeds| check_seeds(seeds))?;
        if !(1..=MOST_JOBS).contains(&self.jobs) {
            return wrong("jobs", self.jobs.to_string(), "from 1 to 256");
        }
        for method in &self.methods {
            self.trainer(method)?;
            self.check_labels(method)?;
        }
        if let Some(tuning) = &self.tuning {
            let trials = tuning.trials;
            if !(1..=10_000).contains(&trials) {
                return wrong("tuning.trials", trials.to_string(), "from 1 to 10,000");
            }
            for method in &self.methods {
                self.check_tuning(method)?;
            }
        }
        for task in &self.tasks {
            self.check_methods(task)?;
        }
        for entry in &self.predictions {
            if !self.tasks.iter().any(|task| task.name == entry.task) {
                let found = format!("`{}`", entry.task);
                return wrong("predictions.task", found, "the name of a task of this file");
            }
        }
        self.check_cells()
    }

    /// Checks that the settings of every cell are those of a run.
    fn check_cells(&self) -> Result<(), CompareError> {
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

    /// What a task says of single methods is said of methods of this file.
    fn check_methods(&self, task: &TaskEntry) -> Result<(), CompareError> {
        let is_known = |name: &&String| self.methods.iter().any(|method| method.name == **name);
        match task.methods.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => wrong(
                &format!("methods` of task `{}", task.name),
                format!("of `{name}`"),
                "the names of methods of this file",
            ),
        }
    }

    /// What a method calibrates on are labels of every task, some are left to train on, and the
    /// adapter that it takes has not been trained on them.
    fn check_labels(&self, method: &MethodEntry) -> Result<(), CompareError> {
        let share = method.calibrate_share.unwrap_or(0.0);
        let what = format!("calibrate_share` of method `{}", method.name);
        if !(0.0..1.0).contains(&share) {
            return wrong(&what, share.to_string(), "from 0 to below 1");
        }
        let without = self.tasks.iter().find(|task| task.labels.is_none());
        if let Some(task) = without.filter(|_| share > 0.0) {
            let found = format!("{share} where task `{}` has no labels", task.name);
            return wrong(
                &what,
                found,
                "0, or `labels` in every task that it is taken from",
            );
        }
        let trainer = self.trainer(method)?;
        if trainer.is_some_and(|trainer| trainer.calibrate_share.unwrap_or(0.0) != share) {
            let expected =
                "that of the method that it is `trained_by`, so that both learn from the same rows";
            return wrong(&what, share.to_string(), expected);
        }
        Ok(())
    }

    /// Checks that a method is tuned with as many trials as the others: over ranges of its own, or as
    /// another method; or that it says that it is not.
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
            (None, true) if method.untuned => Ok(()),
            _ if method.untuned => {
                let found = "`untuned` with `tune` or `tuned_as`".into();
                wrong(what, found, "one of them")
            }
            (None, true) => wrong(
                what,
                "without `tune`, `tuned_as`, `trained_by` and `untuned`".into(),
                "one of them, so that all methods are tuned alike or it is said",
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
}

/// The error of a setting of the file.
fn wrong(what: &str, found: String, expected: &str) -> Result<(), CompareError> {
    Err(CompareError::Setting {
        what: format!("`{what}`"),
        found,
        expected: expected.into(),
    })
}

/// Checks that there are seeds, each of them once.
fn check_seeds(seeds: &[u64]) -> Result<(), CompareError> {
    if !seeds.is_empty() && seeds.iter().collect::<BTreeSet<_>>().len() == seeds.len() {
        return Ok(());
    }
    let found: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let found = format!("[{}]", found.join(", "));
    wrong("seeds", found, "at least one, and none twice")
}

/// Checks that there are names, all different even as parts of a folder's name.
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
    fn a_task_may_say_what_differs_of_a_method() {
        let text = FILE.replace(
            "[task.train]",
            "[task.methods.IVON.optimizer]\n        ess = 1e8\n        [task.train]",
        );
        let config = parsed(&text);
        config.validate().unwrap();
        let ess = |task: usize| {
            let cell = config.cell(&config.tasks[task], &config.methods[1], 1);
            toml::Table::try_from(cell.unwrap()).unwrap()["optimizer"]["ess"].as_float()
        };
        assert_eq!([ess(0), ess(1)], [Some(1e7), Some(1e8)]);
        let trial =
            crate::compare::search::trial_config(&config, &config.tasks[1], &config.methods[1], 0);
        let trial = toml::Table::try_from(trial.unwrap()).unwrap();
        assert_eq!(trial["optimizer"]["ess"].as_float(), Some(1e8));
        let unknown = parsed(&text.replace("methods.IVON", "methods.ivon"));
        assert_eq!(
            unknown.validate().unwrap_err().to_string(),
            "`methods` of task `boolq` is of `ivon`, expected the names of methods of this file"
        );
    }

    #[test]
    fn a_share_of_the_labels_needs_labels_and_is_that_of_the_method_it_is_trained_by() {
        let refused = |text: &str| parsed(text).validate().unwrap_err().to_string();
        let text = FILE.replace("name = \"IVON\"", "name = \"IVON\"\ncalibrate_share = 0.25");
        assert_eq!(
            refused(&text),
            "`calibrate_share` of method `IVON` is 0.25 where task `sst2` has no labels, expected 0, or `labels` in every task that it is \
             taken from"
        );
        let labelled = text.replace("[task.data]", "labels = 100\n[task.data]");
        parsed(&labelled).validate().unwrap();
        let task = &parsed(&labelled).tasks[0];
        assert_eq!(
            CompareConfig::calibrate_rows(task, &parsed(&labelled).methods[1]),
            25
        );
        assert!(
            refused(&labelled.replace("0.25", "1.0")).ends_with("is 1, expected from 0 to below 1")
        );
        let after = format!(
            "{labelled}\n[[method]]\nname = 'Laplace'\ntrained_by = 'AdamW'\ncalibrate_share = 0.25\n[method.optimizer]\nname = 'laplace'"
        );
        assert!(refused(&after).contains("that of the method that it is `trained_by`"));
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
                .contains("without `tune`, `tuned_as`, `trained_by` and `untuned`")
        );
        assert!(
            refused("[method.optimizer]", "untuned = true\n[method.optimizer]")
                .contains("`untuned` with `tune` or `tuned_as`")
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
