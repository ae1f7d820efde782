//! The folder of a finished cell → what the table takes from it.

use std::path::Path;

use super::CompareError;
use super::cell::{Seconds, read_seconds};
use super::cell_results::{CellResults, RowResults, ScoresAtTemperature, predicted, scaled};
use super::config::MethodEntry;
use super::detection::SetUncertainty;
use super::form::Form;
use super::predicted::Predicted;
use super::scores::RowScores;
use crate::report::RunRecord;
use ivon_lora::answer::{
    AnswerError, EvaluationReport, PREDICTIONS_FILE, Prediction, Temperatures, TextPrediction,
    TextReport, read_text_predictions,
};
use ivon_lora::bundle::Sidecar;
use ivon_lora::files;
use ivon_lora::metrics::TokenSums;
use ivon_lora::run::{ADAPTER_FOLDER, RUN_FILE, RunError};

/// The largest `run.toml` that is read, in bytes.
const LARGEST_SETTINGS: u64 = 1 << 20;

/// A finished cell, read from its folder.
pub(super) struct FinishedCell<'a> {
    method: &'a MethodEntry,
    seed: u64,
    optimizer: &'static str,
    settings: String,
    /// Whether the mean is no row of its own: it is that of the method that trained it, or a member
    /// alone, which is no ensemble.
    is_mean_of_another: bool,
    pub scored: CellPredictions,
    seconds: Seconds,
    pub calibrate_labels: usize,
    pub other_sets: Vec<SetUncertainty>,
    /// Numbers stored beside the adapter; none where unknown.
    extra: Option<u64>,
}

/// The test rows of a cell with their predictions.
pub(super) struct CellPredictions {
    pub ids: Vec<String>,
    /// The labels of questions; empty of texts.
    pub labels: Vec<usize>,
    /// The scores of the untuned base, if it was evaluated.
    pub base: Option<RowScores>,
    /// At the mean.
    mean: RowPredictions,
    /// Averaged over draws, and their number; none without draws.
    sampled: Option<(RowPredictions, usize)>,
    temperatures: Option<Temperatures>,
}

/// Predictions of all test rows in one form; one of the two lists is empty.
#[derive(Clone)]
struct RowPredictions {
    probabilities: Vec<Vec<f64>>,
    tokens: Vec<TokenSums>,
}

impl CellPredictions {
    /// Those of questions.
    ///
    /// # Errors
    /// If a row has no label.
    fn of_questions(report: &EvaluationReport, lines: &[Prediction]) -> Result<Self, AnswerError> {
        let label = |line: &Prediction| line.label.ok_or_else(|| no_label(&line.id));
        let of = |probabilities: fn(&Prediction) -> &Vec<f64>| RowPredictions {
            probabilities: lines
                .iter()
                .map(|line| probabilities(line).clone())
                .collect(),
            tokens: Vec::new(),
        };
        let samples = report.samples.len();
        Ok(Self {
            ids: lines.iter().map(|line| line.id.clone()).collect(),
            labels: lines.iter().map(label).collect::<Result<_, _>>()?,
            base: report.base.as_ref().map(RowScores::from),
            mean: of(|line| &line.probabilities_at_mean),
            sampled: (samples > 0).then(|| (of(|line| &line.probabilities), samples)),
            temperatures: report
                .at_temperature
                .as_ref()
                .map(|found| found.temperatures),
        })
    }

    /// Those of texts; none if a line has no sums, as those of older versions.
    fn of_texts(report: &TextReport, lines: &[TextPrediction]) -> Option<Self> {
        let of = |sums: fn(&TextPrediction) -> Option<TokenSums>| {
            Some(RowPredictions {
                probabilities: Vec::new(),
                tokens: lines.iter().map(sums).collect::<Option<_>>()?,
            })
        };
        let base = report.base_tokens.as_ref();
        Some(Self {
            ids: lines.iter().map(|line| line.id.clone()).collect(),
            labels: Vec::new(),
            base: base.map(|scores| RowScores::from(scores.main_scores())),
            mean: of(|line| line.sums)?,
            sampled: match report.samples {
                0 => None,
                samples => Some((of(|line| line.sums_of_samples)?, samples)),
            },
            temperatures: None,
        })
    }
}

pub(super) fn no_label(id: &str) -> AnswerError {
    AnswerError::NoLabel { id: id.into() }
}

impl<'a> FinishedCell<'a> {
    pub fn read(method: &'a MethodEntry, seed: u64, folder: &Path) -> Result<Self, CompareError> {
        let run = RunRecord::read(folder)?;
        let settings = run.config.optimizer.settings();
        Ok(Self {
            method,
            seed,
            optimizer: run.config.optimizer.name(),
            settings: files::read_text(&folder.join(RUN_FILE), LARGEST_SETTINGS)?,
            is_mean_of_another: method.trained_by.is_some() || settings.members() > 1,
            seconds: read_seconds(folder)?,
            calibrate_labels: 0,
            other_sets: Vec::new(),
            extra: extra_numbers(&folder.join(ADAPTER_FOLDER)),
            scored: predictions_of(&run, folder)?,
        })
    }

    /// What the table takes.
    ///
    /// # Errors
    /// If predictions are no distributions over the labels' choices.
    pub fn results(&self) -> Result<CellResults, CompareError> {
        let rows = [self.at_mean(), self.sampled()];
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
        match self.scored.sampled {
            None => Some(self.seconds.prediction),
            Some(_) => self.seconds.mean,
        }
    }

    /// The row at the mean; none where that is another's.
    fn at_mean(&self) -> Option<Result<RowResults, CompareError>> {
        let is_alone = self.scored.sampled.is_none();
        if !is_alone && self.is_mean_of_another {
            return None;
        }
        let name = &self.method.name;
        let name = match is_alone {
            true => name.clone(),
            false => format!("{name}, mean"),
        };
        let temperature = self.scored.temperatures.map(|found| found.mean);
        let row = self.row(&self.scored.mean, temperature);
        Some(row.map(|row| RowResults {
            form: Form::Mean,
            name,
            seconds: self.seconds_at_mean(),
            extra: Some(0),
            ..row
        }))
    }

    /// The row averaged over draws; none without draws.
    fn sampled(&self) -> Option<Result<RowResults, CompareError>> {
        let (predictions, samples) = self.scored.sampled.as_ref()?;
        let seconds = self.seconds.prediction - self.seconds_at_mean().unwrap_or(0.0);
        let temperature = self.scored.temperatures.map(|found| found.samples);
        let row = self.row(predictions, temperature);
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
        predictions: &RowPredictions,
        temperature: Option<f64>,
    ) -> Result<RowResults, CompareError> {
        let RowPredictions {
            probabilities,
            tokens,
        } = predictions.clone();
        let predicted = predicted(&probabilities, &tokens, &self.scored.labels)?;
        let at_temperature = match (temperature, &predicted) {
            (Some(temperature), Predicted::Choices(choices)) => Some(ScoresAtTemperature {
                temperature,
                scores: RowScores::from(&scaled(choices, temperature)?),
            }),
            _ => None,
        };
        Ok(RowResults {
            form: Form::Mean,
            name: String::new(),
            scores: predicted.scores(),
            at_temperature,
            probabilities,
            tokens,
            seconds: None,
            extra: None,
        })
    }
}

/// The test rows of a run's folder with their predictions.
fn predictions_of(run: &RunRecord, folder: &Path) -> Result<CellPredictions, CompareError> {
    let malformed = |reason: &str| RunError::Malformed {
        path: folder.into(),
        reason: reason.into(),
    };
    if let Some(report) = &run.evaluation {
        return Ok(CellPredictions::of_questions(report, &run.predictions)?);
    }
    let report = run.texts.as_ref();
    let report = report.ok_or_else(|| malformed("it has no evaluation"))?;
    let lines = read_text_predictions(&folder.join(PREDICTIONS_FILE))?;
    let scored = CellPredictions::of_texts(report, &lines);
    Ok(scored.ok_or_else(|| malformed("its predictions have no sums over tokens"))?)
}

/// The numbers in the files of a method beside its adapter, four bytes each.
fn extra_numbers(adapter: &Path) -> Option<u64> {
    let sidecar = Sidecar::read(adapter).ok()??;
    let bytes = |file: &String| Some(adapter.join(file).metadata().ok()?.len());
    let total: Option<u64> = sidecar.method_files.iter().map(bytes).sum();
    Some(total? / 4)
}
