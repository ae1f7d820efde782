//! A task of a comparison with its rows.

use super::CompareError;
use super::config::{CompareConfig, TaskEntry};
use super::tables::{merge, resolved};
use ivon_lora::data::{self, Dataset, Task};
use ivon_lora::run::{RunError, UntunedAnswers};
use ivon_lora::settings::Wrong;

/// A task of a comparison with its rows.
pub(super) struct TaskData<'a> {
    pub entry: &'a TaskEntry,
    pub task: Task,
    pub dataset: Dataset,
    /// The rows for trials, with tune in place of test, so that no trial uses a test row.
    pub trial_dataset: Dataset,
    pub model: String,
    /// The untuned base's predictions of its rows.
    pub untuned: UntunedAnswers,
}

impl<'a> TaskData<'a> {
    /// Reads the rows of a task.
    ///
    /// # Errors
    /// Whatever is wrong with its data, and if there are no tune rows to choose settings on.
    pub fn load(config: &CompareConfig, entry: &'a TaskEntry) -> Result<Self, CompareError> {
        let mut table = config.run.clone();
        merge(&mut table, &entry.settings);
        let run = resolved(table, 0, || entry.name.clone())?;
        let task = Task::from_config(&run.data)?;
        let dataset = data::load(&run.data, &task)?;
        if config.tuning.is_some() && dataset.tune.is_empty() {
            return Err(CompareError::NothingToTuneOn {
                task: entry.name.clone(),
            });
        }
        let model = run.model.path.ok_or_else(|| {
            let expected = "a folder, a `.gguf` file or a hub name, in `[run.model]`";
            RunError::from(Wrong::new("model.path", "absent", expected))
        })?;
        let trial_dataset = Dataset {
            test: dataset.tune.clone(),
            calibrate: Vec::new(),
            ..dataset.clone()
        };
        Ok(Self {
            entry,
            task,
            dataset,
            trial_dataset,
            model,
            untuned: UntunedAnswers::default(),
        })
    }
}
