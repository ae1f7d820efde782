//! What the table of a comparison is made of: the test rows of each task, what its finished cells
//! predicted, and what was made elsewhere.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::cell_results::CellResults;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::detection::read_other_sets;
use super::finished_cell::{FinishedCell, no_label};
use super::scores::RowScores;
use ivon_lora::data::{Dataset, Example};
use ivon_lora::metrics::Predictions;
use ivon_lora::run::RunError;

/// The results of all methods on one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResults {
    pub name: String,
    /// The ids of the examples that were scored; empty before the first cell.
    pub ids: Vec<String>,
    /// Their labels; empty of texts.
    pub labels: Vec<usize>,
    /// The frequency of each answer in training, each counted once more so that none is 0; none
    /// where rows differ in their number of choices.
    pub majority: Option<Vec<f64>>,
    /// The scores of the untuned base, once it is known.
    pub base: Option<RowScores>,
    pub cells: Vec<CellResults>,
    /// Predictions that were made elsewhere.
    pub elsewhere: Vec<ElsewhereResults>,
}

/// Predictions that were made elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElsewhereResults {
    pub method: String,
    pub seed: u64,
    pub probabilities: Vec<Vec<f64>>,
    pub scores: RowScores,
}

impl TaskResults {
    /// Without a cell.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ids: Vec::new(),
            labels: Vec::new(),
            majority: None,
            base: None,
            cells: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Adds a finished cell.
    ///
    /// # Errors
    /// If the cell cannot be read, or was scored on other examples than those before.
    pub fn add_cell(
        &mut self,
        method: &MethodEntry,
        seed: u64,
        task: &TaskEntry,
        folder: &Path,
    ) -> Result<(), CompareError> {
        let mut cell = FinishedCell::read(method, seed, folder)?;
        cell.calibrate_labels = CompareConfig::calibrate_rows(task, method);
        cell.other_sets = read_other_sets(folder, &task.other_sets)?.unwrap_or_default();
        let scored = &cell.scored;
        if self.ids.is_empty() {
            self.ids = scored.ids.clone();
            self.labels = scored.labels.clone();
        } else if self.ids != scored.ids || self.labels != scored.labels {
            return Err(RunError::Malformed {
                path: folder.into(),
                reason: "it was scored on other examples than the cells before".into(),
            }
            .into());
        }
        let results = cell.results()?;
        self.base = self.base.or(scored.base);
        self.cells.push(results);
        Ok(())
    }

    /// The test rows that the cells were scored on; all of them before the first cell.
    pub fn scored<'d>(&self, dataset: &'d Dataset) -> Vec<&'d Example> {
        let ids: std::collections::HashSet<&String> = self.ids.iter().collect();
        let is_scored = |example: &&Example| ids.is_empty() || ids.contains(&example.id);
        dataset.test.iter().filter(is_scored).collect()
    }

    /// Takes what is known without a cell: the test rows, and of questions their labels and the
    /// frequencies of those of training.
    ///
    /// # Errors
    /// If a question has no label.
    pub fn add_rows(
        &mut self,
        train: &[Example],
        test: &[&Example],
        are_texts: bool,
    ) -> Result<(), CompareError> {
        if self.ids.is_empty() {
            self.ids = test.iter().map(|example| example.id.clone()).collect();
            if !are_texts {
                self.labels = test
                    .iter()
                    .map(|example| example.label.ok_or_else(|| no_label(&example.id)))
                    .collect::<Result<_, _>>()?;
            }
        }
        if !are_texts {
            self.majority = majority(train, test);
        }
        Ok(())
    }

    /// The names of the rows that come once more at a temperature: those that have one under some
    /// seed, or labels that were given for it.
    pub fn scaled_rows(&self) -> impl Iterator<Item = &str> {
        let rows = self
            .cells
            .iter()
            .flat_map(|cell| cell.rows.iter().map(move |row| (cell, row)));
        rows.filter(|(cell, row)| cell.calibrate_labels > 0 || row.at_temperature.is_some())
            .map(|(_, row)| row.name.as_str())
    }

    /// Adds predictions that were made elsewhere.
    pub fn add_elsewhere(&mut self, method: &str, seed: u64, predictions: &Predictions) {
        self.elsewhere.push(ElsewhereResults {
            method: method.into(),
            seed,
            probabilities: predictions.probabilities().to_vec(),
            scores: RowScores::from(predictions),
        });
    }
}

/// The frequency of each label in training, each counted once more so that none is 0; none where
/// rows differ in their number of choices.
fn majority(train: &[Example], test: &[&Example]) -> Option<Vec<f64>> {
    let choices = test.first()?.answers.len();
    let mut rows = train.iter().chain(test.iter().copied());
    if choices == 0 || rows.any(|example| example.answers.len() != choices) {
        return None;
    }
    let mut counts = vec![1.0; choices];
    train
        .iter()
        .filter_map(|example| example.label)
        .filter(|label| *label < choices)
        .for_each(|label| counts[label] += 1.0);
    let total: f64 = counts.iter().sum();
    Some(counts.into_iter().map(|count| count / total).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_class_answers_by_the_frequencies_of_training() {
        let answers: std::sync::Arc<[String]> = ["no".to_string(), "yes".into()].into();
        let row = |label| Example {
            label: Some(label),
            ..Example::from_prompt(format!("{label}"), "?", std::sync::Arc::clone(&answers))
        };
        let train = vec![row(1), row(1), row(0), row(1), row(1), row(1)];
        let test = [row(1), row(0), row(1)];
        let mut results = TaskResults::new("t");
        let test: Vec<&Example> = test.iter().collect();
        results.add_rows(&train, &test, false).unwrap();
        // (1 + 1) / 8 and (5 + 1) / 8.
        assert_eq!(results.majority, Some(vec![0.25, 0.75]));
        assert_eq!(results.labels, [1, 0, 1]);
    }
}
