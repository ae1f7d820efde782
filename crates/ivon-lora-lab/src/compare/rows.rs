//! Finished cells → the rows of a task: predictions on the same test rows, by seed, with their cost.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::cell::{Seconds, read_seconds};
use super::config::MethodEntry;
use crate::report::RunRecord;
use ivon_lora::answer::{AnswerError, EvaluationReport, Prediction, Temperatures};
use ivon_lora::bundle::Sidecar;
use ivon_lora::data::{Dataset, Example};
use ivon_lora::metrics::{MainScores, Predictions, at_temperature};
use ivon_lora::run::{ADAPTER_FOLDER, RunError};

/// How a row predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As a yardstick, which is never the best.
    Yardstick,
    /// In an unknown way: it was made elsewhere.
    #[default]
    #[serde(alias = "other")]
    Elsewhere,
    /// At the mean.
    Mean,
    /// At the mean, its log-probabilities divided by a temperature.
    ScaledMean,
    /// Averaged over draws.
    Samples,
    /// Averaged over draws, divided by a temperature.
    ScaledSamples,
}

impl Form {
    /// Every form of a method that was trained here, in the order of the rows.
    pub const TRAINED: [Self; 4] = [
        Self::Mean,
        Self::ScaledMean,
        Self::Samples,
        Self::ScaledSamples,
    ];

    /// At a temperature.
    fn scaled(self) -> Self {
        match self {
            Self::Mean => Self::ScaledMean,
            Self::Samples => Self::ScaledSamples,
            form => form,
        }
    }
}

/// One row on one task.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    /// The method, which may have several rows.
    pub method: String,
    pub form: Form,
    /// The optimizer, if it was trained here.
    pub optimizer: Option<String>,
    /// One for each seed.
    pub members: Vec<Member>,
}

/// A row under one seed.
#[derive(Clone, Debug)]
pub struct Member {
    pub seed: u64,
    pub scores: MainScores,
    /// None if only scores are known.
    pub predictions: Option<Predictions>,
    /// Seconds of training and of prediction, if they were measured.
    pub seconds: [Option<f64>; 2],
    /// Numbers stored beside the adapter; none where unknown.
    pub extra: Option<u64>,
}

/// All rows of a task.
#[derive(Clone, Debug)]
pub struct TaskRows {
    pub name: String,
    pub n: usize,
    pub rows: Vec<Row>,
    /// The ids of the examples that were scored; empty before the first cell.
    ids: Vec<String>,
}

impl TaskRows {
    /// A task without rows.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            n: 0,
            rows: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// The test rows that the cells were scored on; all of them before the first cell.
    pub fn scored<'d>(&self, dataset: &'d Dataset) -> Vec<&'d Example> {
        let ids: HashSet<&String> = self.ids.iter().collect();
        dataset
            .test
            .iter()
            .filter(|example| ids.is_empty() || ids.contains(&example.id))
            .collect()
    }

    /// Puts a row before all others that predicts the frequency of each answer in training.
    ///
    /// # Errors
    /// If a test row has no label.
    pub fn add_majority(
        &mut self,
        train: &[Example],
        test: &[&Example],
    ) -> Result<(), CompareError> {
        self.n = test.len();
        if let Some(predictions) = majority(train, test)? {
            let members = vec![Member::of(0, predictions)];
            self.rows
                .insert(0, Row::yardstick("majority class", members));
        }
        Ok(())
    }

    /// Adds predictions that were made elsewhere.
    pub fn add_external(&mut self, method: &str, seed: u64, predictions: Predictions) {
        let row = Row {
            name: method.into(),
            method: method.into(),
            form: Form::Elsewhere,
            optimizer: None,
            members: Vec::new(),
        };
        self.add(row, Member::of(seed, predictions));
    }

    /// Checks that a cell was scored on the examples of the first one.
    ///
    /// # Errors
    /// If it was not.
    fn take_ids(&mut self, lines: &[Prediction], folder: &Path) -> Result<(), CompareError> {
        let ids: Vec<String> = lines.iter().map(|line| line.id.clone()).collect();
        if self.ids.is_empty() {
            self.ids = ids;
        } else if self.ids != ids {
            return Err(RunError::Malformed {
                path: folder.into(),
                reason: "it was scored on other examples than the cells before".into(),
            }
            .into());
        }
        Ok(())
    }

    /// Puts the row of the untuned base before all others, once.
    fn add_base(&mut self, seed: u64, scores: MainScores) {
        if self.rows.iter().any(|row| row.name == BASE) {
            return;
        }
        let member = Member {
            seed,
            scores,
            predictions: None,
            seconds: [None; 2],
            extra: None,
        };
        self.rows.insert(0, Row::yardstick(BASE, vec![member]));
    }

    /// Adds a member to the row of this name, or to a new one.
    fn add(&mut self, row: Row, member: Member) {
        match self.rows.iter_mut().find(|there| there.name == row.name) {
            Some(there) => there.members.push(member),
            None => self.rows.push(Row {
                members: vec![member],
                ..row
            }),
        }
    }
}

impl Row {
    fn yardstick(name: &str, members: Vec<Member>) -> Self {
        Self {
            name: name.into(),
            method: name.into(),
            form: Form::Yardstick,
            optimizer: None,
            members,
        }
    }
}

impl Member {
    fn of(seed: u64, predictions: Predictions) -> Self {
        Self {
            seed,
            scores: predictions.main_scores(),
            predictions: Some(predictions),
            seconds: [None; 2],
            extra: None,
        }
    }
}

/// The frequency of each label in training as predictions, each label counted once more so that none
/// has 0; none if rows differ in their number of choices.
fn majority(train: &[Example], test: &[&Example]) -> Result<Option<Predictions>, CompareError> {
    let choices = test.first().map_or(0, |example| example.answers.len());
    if choices == 0
        || train
            .iter()
            .chain(test.iter().copied())
            .any(|example| example.answers.len() != choices)
    {
        return Ok(None);
    }
    let mut counts = vec![1.0; choices];
    train
        .iter()
        .filter_map(|example| example.label)
        .filter(|label| *label < choices)
        .for_each(|label| counts[label] += 1.0);
    let total: f64 = counts.iter().sum();
    let row: Vec<f64> = counts.into_iter().map(|count| count / total).collect();
    let label = |example: &&Example| {
        example.label.ok_or_else(|| AnswerError::NoLabel {
            id: example.id.clone(),
        })
    };
    let labels = test.iter().map(label).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Predictions::from_probabilities(
        vec![row; test.len()],
        labels,
    )?))
}

const BASE: &str = "base, untuned";
/// The end of the name of a row whose log-probabilities are divided by a temperature.
const SCALED: &str = "T on calibrate";

/// Adds a finished cell: its mean, if it is its own, and its average over draws, if it has some. With
/// `temperature`, each of them is followed by one at the temperature that the run chose on calibrate, if
/// any. The untuned base is added once per task.
///
/// # Errors
/// If the cell cannot be read, or was scored on other examples than those before.
pub fn add_cell(
    rows: &mut TaskRows,
    method: &MethodEntry,
    seed: u64,
    folder: &Path,
    temperature: bool,
) -> Result<(), CompareError> {
    let cell = FinishedCell::read(method, seed, folder)?;
    rows.take_ids(&cell.lines, folder)?;
    if let Some(base) = &cell.report.base {
        rows.add_base(seed, base.into());
    }
    for row in [cell.at_mean()?, cell.sampled()?].into_iter().flatten() {
        let scaled = match row.temperature.filter(|_| temperature) {
            Some(temperature) => Some(row.at(temperature)?),
            None => None,
        };
        for row in std::iter::once(row).chain(scaled) {
            cell.add_to(rows, row);
        }
    }
    Ok(())
}

/// A finished cell, read from its folder.
struct FinishedCell<'a> {
    method: &'a MethodEntry,
    seed: u64,
    optimizer: &'static str,
    /// Whether the mean gets no row of its own, because it is that of the method that trained it, or a
    /// single member of an ensemble.
    is_mean_of_another: bool,
    report: EvaluationReport,
    lines: Vec<Prediction>,
    seconds: Seconds,
    /// Numbers stored beside the adapter; none where unknown.
    extra: Option<u64>,
}

/// A cell's part of a row.
struct CellRow {
    form: Form,
    name: String,
    predictions: Predictions,
    /// The temperature that the run chose for it.
    temperature: Option<f64>,
    /// Seconds of prediction.
    seconds: Option<f64>,
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
            is_mean_of_another: method.trained_by.is_some() || settings.members() > 1,
            report,
            lines: run.predictions,
            seconds,
            extra: extra_numbers(&folder.join(ADAPTER_FOLDER)),
        })
    }

    /// Seconds of predicting at the mean. In the linearised model mean and draws come from one pass,
    /// which is counted for the draws.
    fn seconds_at_mean(&self) -> Option<f64> {
        match self.report.samples.is_empty() {
            true => Some(self.seconds.prediction),
            false => self.seconds.mean,
        }
    }

    fn temperatures(&self) -> Option<Temperatures> {
        Some(self.report.at_temperature.as_ref()?.temperatures)
    }

    /// The row at the mean; none if it belongs to another method.
    fn at_mean(&self) -> Result<Option<CellRow>, CompareError> {
        let is_alone = self.report.samples.is_empty();
        if !is_alone && self.is_mean_of_another {
            return Ok(None);
        }
        let name = &self.method.name;
        Ok(Some(CellRow {
            form: Form::Mean,
            name: match is_alone {
                true => name.clone(),
                false => format!("{name}, mean"),
            },
            predictions: predictions(&self.lines, |line| &line.probabilities_at_mean)?,
            temperature: self.temperatures().map(|found| found.mean),
            seconds: self.seconds_at_mean(),
            extra: Some(0),
        }))
    }

    /// The row averaged over draws; none without draws.
    fn sampled(&self) -> Result<Option<CellRow>, CompareError> {
        let samples = self.report.samples.len();
        if samples == 0 {
            return Ok(None);
        }
        let seconds = self.seconds.prediction - self.seconds_at_mean().unwrap_or(0.0);
        Ok(Some(CellRow {
            form: Form::Samples,
            name: format!("{}, {samples} samples", self.method.name),
            predictions: predictions(&self.lines, |line| &line.probabilities)?,
            temperature: self.temperatures().map(|found| found.samples),
            seconds: Some(seconds),
            extra: self.extra,
        }))
    }

    fn add_to(&self, rows: &mut TaskRows, row: CellRow) {
        let member = Member {
            seconds: [Some(self.seconds.training), row.seconds],
            extra: row.extra,
            ..Member::of(self.seed, row.predictions)
        };
        let row = Row {
            name: row.name,
            method: self.method.name.clone(),
            form: row.form,
            optimizer: Some(self.optimizer.into()),
            members: Vec::new(),
        };
        rows.add(row, member);
    }
}

impl CellRow {
    /// The same predictions at a temperature.
    fn at(&self, temperature: f64) -> Result<Self, CompareError> {
        Ok(Self {
            form: self.form.scaled(),
            name: format!("{}, {SCALED}", self.name),
            predictions: scaled(&self.predictions, temperature)?,
            temperature: None,
            ..*self
        })
    }
}

/// The same predictions at a temperature.
fn scaled(predictions: &Predictions, temperature: f64) -> Result<Predictions, CompareError> {
    let rows = at_temperature(predictions.log_probabilities(), temperature);
    Ok(Predictions::new(rows, predictions.labels().to_vec())?)
}

fn predictions(
    lines: &[Prediction],
    probabilities: fn(&Prediction) -> &Vec<f64>,
) -> Result<Predictions, CompareError> {
    let label = |line: &Prediction| {
        line.label.ok_or_else(|| AnswerError::NoLabel {
            id: line.id.clone(),
        })
    };
    let labels = lines.iter().map(label).collect::<Result<_, _>>()?;
    Ok(Predictions::from_probabilities(
        lines
            .iter()
            .map(|line| probabilities(line).clone())
            .collect(),
        labels,
    )?)
}

/// How many numbers the files of a method hold besides its adapter, at four bytes each.
fn extra_numbers(adapter: &Path) -> Option<u64> {
    let sidecar = Sidecar::read(adapter).ok()??;
    let bytes = |file: &String| Some(adapter.join(file).metadata().ok()?.len());
    Some(
        sidecar
            .method_files
            .iter()
            .map(bytes)
            .sum::<Option<u64>>()?
            / 4,
    )
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
        let test = vec![row(1), row(0), row(1)];
        let dataset = Dataset {
            train,
            tune: vec![],
            calibrate: vec![],
            test,
            report: Default::default(),
        };
        let mut rows = TaskRows::new("t");
        rows.add_majority(&dataset.train, &rows.scored(&dataset))
            .unwrap();
        let scores = rows.rows[0].members[0].scores;
        // (1 + 1) / 8 and (5 + 1) / 8.
        assert!((scores.accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert!((scores.nll - (-(0.75f64.ln()) * 2.0 - 0.25f64.ln()) / 3.0).abs() < 1e-12);
        assert_eq!(rows.rows[0].form, Form::Yardstick);
    }
}
