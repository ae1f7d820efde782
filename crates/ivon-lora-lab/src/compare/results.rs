//! What the table of a comparison is made of: of each finished cell its settings, its predictions on
//! the test rows and what it took.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::cell::{Seconds, read_seconds};
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::detection::{SetUncertainty, read_other_sets};
use super::form::Form;
use super::scores::RowScores;
use crate::report::RunRecord;
use ivon_lora::answer::{AnswerError, EvaluationReport, Prediction, Temperatures};
use ivon_lora::bundle::Sidecar;
use ivon_lora::data::{Dataset, Example};
use ivon_lora::files;
use ivon_lora::metrics::{Predictions, at_temperature};
use ivon_lora::run::{ADAPTER_FOLDER, RUN_FILE, RunError};

/// The largest `run.toml` that is read, in bytes.
const LARGEST_SETTINGS: u64 = 1 << 20;

/// The results of all methods on one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResults {
    pub name: String,
    /// The ids of the examples that were scored; empty before the first cell.
    pub ids: Vec<String>,
    /// Their labels.
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

/// One finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellResults {
    pub method: String,
    pub seed: u64,
    pub optimizer: String,
    /// Its `run.toml`.
    pub settings: String,
    /// Seconds of training.
    pub seconds: f64,
    /// How many of the labels it calibrated on, where these are not the task's own rows beside them.
    pub calibrate_labels: usize,
    /// At the mean, where that is its own, and averaged over draws, where it has some.
    pub rows: Vec<RowResults>,
    /// How uncertain it is of sets that the task is not about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_sets: Vec<SetUncertainty>,
}

/// A cell's predictions in one form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowResults {
    pub form: Form,
    /// Stands before the row.
    pub name: String,
    /// Of each test example over its choices `[N][C]`.
    pub probabilities: Vec<Vec<f64>>,
    pub scores: RowScores,
    /// What the run chose on calibrate, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_temperature: Option<ScoresAtTemperature>,
    /// Seconds of prediction, where they were measured.
    pub seconds: Option<f64>,
    /// Numbers stored beside the adapter; none where unknown.
    pub extra: Option<u64>,
}

/// The scores of the same predictions at a temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoresAtTemperature {
    pub temperature: f64,
    pub scores: RowScores,
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
        let cell = FinishedCell {
            calibrate_labels: CompareConfig::calibrate_rows(task, method),
            other_sets: read_other_sets(folder, &task.other_sets)?.unwrap_or_default(),
            ..FinishedCell::read(method, seed, folder)?
        };
        let labels = cell.labels()?;
        let ids = || cell.lines.iter().map(|line| &line.id);
        if self.ids.is_empty() {
            self.ids = ids().cloned().collect();
            self.labels = labels.clone();
        } else if !self.ids.iter().eq(ids()) || self.labels != labels {
            return Err(RunError::Malformed {
                path: folder.into(),
                reason: "it was scored on other examples than the cells before".into(),
            }
            .into());
        }
        let base = cell.report.base.as_ref().map(RowScores::from);
        let results = cell.results(&labels)?;
        self.base = self.base.or(base);
        self.cells.push(results);
        Ok(())
    }

    /// The test rows that the cells were scored on; all of them before the first cell.
    pub fn scored<'d>(&self, dataset: &'d Dataset) -> Vec<&'d Example> {
        let ids: std::collections::HashSet<&String> = self.ids.iter().collect();
        let is_scored = |example: &&Example| ids.is_empty() || ids.contains(&example.id);
        dataset.test.iter().filter(is_scored).collect()
    }

    /// Takes what is known without a cell: the labels of the test rows, and the frequencies of
    /// those of training.
    ///
    /// # Errors
    /// If a test row has no label.
    pub fn add_labels(&mut self, train: &[Example], test: &[&Example]) -> Result<(), CompareError> {
        if self.ids.is_empty() {
            self.ids = test.iter().map(|example| example.id.clone()).collect();
            self.labels = test
                .iter()
                .map(|example| example.label.ok_or_else(|| no_label(&example.id)))
                .collect::<Result<_, _>>()?;
        }
        self.majority = majority(train, test);
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

fn no_label(id: &str) -> AnswerError {
    AnswerError::NoLabel { id: id.into() }
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

/// A finished cell, read from its folder.
struct FinishedCell<'a> {
    method: &'a MethodEntry,
    seed: u64,
    optimizer: &'static str,
    settings: String,
    /// Whether the mean is no row of its own: it is that of the method that trained it, or a member
    /// alone, which is no ensemble.
    is_mean_of_another: bool,
    report: EvaluationReport,
    lines: Vec<Prediction>,
    seconds: Seconds,
    calibrate_labels: usize,
    other_sets: Vec<SetUncertainty>,
    /// Numbers stored beside the adapter; none where unknown.
    extra: Option<u64>,
}

impl<'a> FinishedCell<'a> {
    fn read(method: &'a MethodEntry, seed: u64, folder: &Path) -> Result<Self, CompareError> {
        let run = RunRecord::read(folder)?;
        let seconds = read_seconds(folder)?;
        let report = run.evaluation.ok_or_else(|| RunError::Malformed {
            path: folder.into(),
            reason: "it has no evaluation".into(),
        })?;
        let settings = run.config.optimizer.settings();
        Ok(Self {
            method,
            seed,
            optimizer: run.config.optimizer.name(),
            settings: files::read_text(&folder.join(RUN_FILE), LARGEST_SETTINGS)?,
            is_mean_of_another: method.trained_by.is_some() || settings.members() > 1,
            report,
            lines: run.predictions,
            seconds,
            calibrate_labels: 0,
            other_sets: Vec::new(),
            extra: extra_numbers(&folder.join(ADAPTER_FOLDER)),
        })
    }

    /// The label of each example.
    fn labels(&self) -> Result<Vec<usize>, AnswerError> {
        let label = |line: &Prediction| line.label.ok_or_else(|| no_label(&line.id));
        self.lines.iter().map(label).collect()
    }

    fn results(&self, labels: &[usize]) -> Result<CellResults, CompareError> {
        let rows = [self.at_mean(labels), self.sampled(labels)];
        Ok(CellResults {
            method: self.method.name.clone(),
            seed: self.seed,
            optimizer: self.optimizer.into(),
            settings: self.settings.clone(),
            seconds: self.seconds.training,
            calibrate_labels: self.calibrate_labels,
            other_sets: self.other_sets.clone(),
            rows: rows
                .into_iter()
                .flatten()
                .collect::<Result<Vec<_>, CompareError>>()?,
        })
    }

    /// Seconds of predicting at the mean. A posterior of the linearised model predicts mean and
    /// draws in one pass, whose time is that of the draws.
    fn seconds_at_mean(&self) -> Option<f64> {
        match self.report.samples.is_empty() {
            true => Some(self.seconds.prediction),
            false => self.seconds.mean,
        }
    }

    fn temperatures(&self) -> Option<Temperatures> {
        Some(self.report.at_temperature.as_ref()?.temperatures)
    }

    /// The row at the mean; none where that is another's.
    fn at_mean(&self, labels: &[usize]) -> Option<Result<RowResults, CompareError>> {
        let is_alone = self.report.samples.is_empty();
        if !is_alone && self.is_mean_of_another {
            return None;
        }
        let name = &self.method.name;
        let name = match is_alone {
            true => name.clone(),
            false => format!("{name}, mean"),
        };
        let temperature = self.temperatures().map(|found| found.mean);
        let row = self.row(labels, temperature, |line| &line.probabilities_at_mean);
        Some(row.map(|row| RowResults {
            form: Form::Mean,
            name,
            seconds: self.seconds_at_mean(),
            extra: Some(0),
            ..row
        }))
    }

    /// The row averaged over draws; none without draws.
    fn sampled(&self, labels: &[usize]) -> Option<Result<RowResults, CompareError>> {
        let samples = self.report.samples.len();
        if samples == 0 {
            return None;
        }
        let seconds = self.seconds.prediction - self.seconds_at_mean().unwrap_or(0.0);
        let temperature = self.temperatures().map(|found| found.samples);
        let row = self.row(labels, temperature, |line| &line.probabilities);
        Some(row.map(|row| RowResults {
            form: Form::Samples,
            name: format!("{}, {samples} samples", self.method.name),
            seconds: Some(seconds),
            extra: self.extra,
            ..row
        }))
    }

    /// A row's predictions and their scores, as they are and at a temperature; its name, form and
    /// costs are the caller's.
    fn row(
        &self,
        labels: &[usize],
        temperature: Option<f64>,
        probabilities: fn(&Prediction) -> &Vec<f64>,
    ) -> Result<RowResults, CompareError> {
        let probabilities: Vec<Vec<f64>> = self
            .lines
            .iter()
            .map(|line| probabilities(line).clone())
            .collect();
        let predictions = Predictions::from_probabilities(probabilities.clone(), labels.to_vec())?;
        let at_temperature = |temperature| {
            Ok::<_, CompareError>(ScoresAtTemperature {
                temperature,
                scores: RowScores::from(&scaled(&predictions, temperature)?),
            })
        };
        Ok(RowResults {
            form: Form::Mean,
            name: String::new(),
            scores: RowScores::from(&predictions),
            at_temperature: temperature.map(at_temperature).transpose()?,
            probabilities,
            seconds: None,
            extra: None,
        })
    }
}

/// The same predictions at a temperature.
pub(super) fn scaled(
    predictions: &Predictions,
    temperature: f64,
) -> Result<Predictions, CompareError> {
    let rows = at_temperature(predictions.log_probabilities(), temperature);
    Ok(Predictions::new(rows, predictions.labels().to_vec())?)
}

/// The numbers in the files of a method beside its adapter, four bytes each.
fn extra_numbers(adapter: &Path) -> Option<u64> {
    let sidecar = Sidecar::read(adapter).ok()??;
    let bytes = |file: &String| Some(adapter.join(file).metadata().ok()?.len());
    let total: Option<u64> = sidecar.method_files.iter().map(bytes).sum();
    Some(total? / 4)
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
        results.add_labels(&train, &test).unwrap();
        // (1 + 1) / 8 and (5 + 1) / 8.
        assert_eq!(results.majority, Some(vec![0.25, 0.75]));
        assert_eq!(results.labels, [1, 0, 1]);
    }
}
