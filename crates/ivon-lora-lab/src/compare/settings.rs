//! The settings of a cell: those of `[run]`, overridden by those of its task, and these by those of its
//! method. A method that is fitted to another's adapter has the settings of that one below its own.

use toml::Table;

use super::CompareError;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::layout::cell_folder;
use super::tables::{merge, resolved};
use ivon_lora::method::Method;
use ivon_lora::run::{ADAPTER_FOLDER, RunConfig};
use ivon_lora::words::joined;

impl CompareConfig {
    /// The settings of a cell, before any are chosen by trials.
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
        let name = || cell_name(task, method, Some(seed));
        resolved(self.tables(task, method), seed, name)
    }

    /// The tables of a cell: those of `[run]`, over them those of its task, then of its method, then
    /// what the task says of that method.
    pub(super) fn tables(&self, task: &TaskEntry, method: &MethodEntry) -> Table {
        let mut table = self.run.clone();
        let of_both = task.methods.get(&method.name);
        for over in [&task.settings, &method.settings]
            .into_iter()
            .chain(of_both)
        {
            merge(&mut table, over);
        }
        table
    }

    /// The method whose adapters `method` takes; none if it trains its own.
    ///
    /// # Errors
    /// If there is no such method, if that one takes adapters itself, or if the settings of both would
    /// be tuned.
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

    /// The settings of a cell that takes the adapter of another method's cell: those of that cell,
    /// overridden by its own.
    ///
    /// # Errors
    /// If the other method does not train with AdamW, or this one cannot be fitted after training.
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
        if !matches!(trained.optimizer, Method::Adamw(_)) {
            return Err(wrong(
                trainer,
                trained.optimizer.name(),
                "`adamw`, as the adapters of another method are `trained_by` it",
            ));
        }
        let seed = trained.seed;
        let table = fitted_table(trained, task, method);
        let name = || cell_name(task, method, Some(seed));
        let mut config = resolved(table, seed, name)?;
        if !config.optimizer.settings().fits_afterwards() {
            let expected = format!(
                "one that can be fitted to an adapter, as it is `trained_by` another: {}",
                joined(&Method::fitted_afterwards(), "or")
            );
            return Err(wrong(method, config.optimizer.name(), &expected));
        }
        config.model.adapter =
            Some(cell_folder(&self.out, &task.name, &trainer.name, seed).join(ADAPTER_FOLDER));
        config.train.steps = Some(0);
        Ok(config)
    }
}

/// The tables of a cell that trains, overridden by those of a method that is fitted to its adapter. Of
/// the optimizer's table, which names another method, the settings of training stay.
fn fitted_table(trained: &RunConfig, task: &TaskEntry, method: &MethodEntry) -> Table {
    let mut table = Table::try_from(trained).unwrap_or_default();
    let training = table.get("optimizer").and_then(toml::Value::as_table);
    let training = training.cloned().unwrap_or_default();
    merge(&mut table, &method.settings);
    if let Some(of_both) = task.methods.get(&method.name) {
        merge(&mut table, of_both);
    }
    if let Some(toml::Value::Table(own)) = table.get_mut("optimizer") {
        for (key, value) in training {
            own.entry(key).or_insert(value);
        }
    }
    table
}

/// `sst2, IVON, seed 21`.
pub(super) fn cell_name(task: &TaskEntry, method: &MethodEntry, seed: Option<u64>) -> String {
    let seed = seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
    format!("{}, {}{seed}", task.name, method.name)
}
