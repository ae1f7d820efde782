//! A finished cell and sets that its task is not about → how uncertain it is of their rows, beside
//! its own test rows: what an AUROC tells apart.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::config::OtherSetEntry;
use super::digits::with_digits;
use super::form::Form;
use crate::report::{Measure, ShiftAnswers, Uncertainties, uncertainties_of_answers};
use crate::study::{OtherSet, answers_to};
use ivon_lora::answer::{
    AnswerOptions, Answerer, EVALUATION_FILE, EvaluationReport, PREDICTIONS_FILE, Prediction,
    Temperatures, labelled_files, read_predictions,
};
use ivon_lora::data::{Example, TaskReader};
use ivon_lora::files;
use ivon_lora::metrics::{LogProbabilities, at_temperature};
use ivon_lora::run::{ADAPTER_FOLDER, RunConfig, RunError};
use ivon_lora::watch::Watch;

/// The file of a cell's folder that keeps what it says of other sets.
const OTHER_SETS_FILE: &str = "other_sets.json";
const LARGEST: u64 = 64 << 20;
/// Significant digits of an uncertainty.
const DIGITS: usize = 5;

/// One uncertainty of the rows of another set and of the task's test rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetUncertainty {
    /// The other set.
    pub set: String,
    /// How the rows were answered.
    pub form: Form,
    pub measure: Measure,
    /// Of the task's test rows.
    pub own: Vec<f64>,
    /// Of the other set's rows.
    pub other: Vec<f64>,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherSets {
    sets: Vec<OtherSetEntry>,
    uncertainties: Vec<SetUncertainty>,
}

/// What a finished cell says of other sets; none where it was not asked of them yet.
///
/// # Errors
/// If the file is malformed.
pub(super) fn read_other_sets(
    folder: &Path,
    sets: &[OtherSetEntry],
) -> Result<Option<Vec<SetUncertainty>>, CompareError> {
    let path = folder.join(OTHER_SETS_FILE);
    if sets.is_empty() {
        return Ok(Some(Vec::new()));
    }
    if !path.exists() {
        return Ok(None);
    }
    let found: OtherSets = read_json(&path)?;
    Ok((found.sets == sets).then_some(found.uncertainties))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CompareError> {
    let malformed = |error: serde_json::Error| RunError::Malformed {
        path: path.into(),
        reason: error.to_string(),
    };
    let text = files::read_text(path, LARGEST)?;
    Ok(serde_json::from_str(&text).map_err(malformed)?)
}

/// Asks a finished cell of other sets, unless it was asked before.
///
/// # Errors
/// Whatever is wrong with the cell or the rows of a set.
pub(super) fn ask_of_other_sets(
    folder: &Path,
    config: &RunConfig,
    model: &str,
    sets: &[OtherSetEntry],
    watch: Watch<'_>,
) -> Result<(), CompareError> {
    if read_other_sets(folder, sets)?.is_some() {
        return Ok(());
    }
    let report: EvaluationReport = read_json(&folder.join(EVALUATION_FILE))?;
    let lines = read_predictions(&folder.join(PREDICTIONS_FILE))?;
    let temperatures = report.at_temperature.map(|found| found.temperatures);
    let options = AnswerOptions {
        base: config.model.base_options(),
        ..AnswerOptions::default()
    };
    let answerer = Answerer::open(model, folder.join(ADAPTER_FOLDER), &options, watch)?;
    let own = own_rows(&lines, !report.samples.is_empty(), temperatures);
    let mut uncertainties = Vec::new();
    for entry in sets {
        let answers = answers_to(&answerer, &entry.set(), entry.limit, watch)?;
        let other = forms(&answers, temperatures);
        for ((form, own), (_, other)) in own.iter().zip(&other) {
            for ((measure, own), (_, other)) in own.iter().zip(other) {
                uncertainties.push(SetUncertainty {
                    set: entry.name.clone(),
                    form: *form,
                    measure: *measure,
                    own: rounded(own),
                    other: rounded(other),
                });
            }
        }
    }
    let found = OtherSets {
        sets: sets.to_vec(),
        uncertainties,
    };
    Ok(files::write_json(&folder.join(OTHER_SETS_FILE), &found)?)
}

/// With so few digits that they take little room, and enough to keep their order.
fn rounded(values: &[f64]) -> Vec<f64> {
    let rounded = |value: &f64| with_digits(*value, DIGITS);
    values.iter().map(rounded).collect()
}

/// The uncertainties in each form.
type ByForm = Vec<(Form, Vec<Uncertainties>)>;

/// Those of a cell's own test rows, from its lines.
fn own_rows(lines: &[Prediction], has_draws: bool, temperatures: Option<Temperatures>) -> ByForm {
    let logs = |of: fn(&Prediction) -> &Vec<f64>| -> LogProbabilities {
        let row = |line| of(line).iter().map(|value| value.ln()).collect();
        lines.iter().map(row).collect()
    };
    let mean = logs(|line| &line.probabilities_at_mean);
    let mut found = both(Form::Mean, &mean, Vec::new(), temperatures.map(|t| t.mean));
    if has_draws {
        let samples = logs(|line| &line.probabilities);
        let information = lines.iter().map(|line| line.mutual_information).collect();
        let information = vec![(Measure::MutualInformation, information)];
        let temperature = temperatures.map(|found| found.samples);
        found.extend(both(Form::Samples, &samples, information, temperature));
    }
    found
}

/// Those of answers at the mean, and averaged over draws where there are any.
fn forms(answers: &[ShiftAnswers], temperatures: Option<Temperatures>) -> ByForm {
    let temperatures = [
        temperatures.map(|t| t.mean),
        temperatures.map(|t| t.samples),
    ];
    let ways = [Form::Mean, Form::Samples].into_iter().zip(temperatures);
    let way = |(answers, (form, temperature)): (&ShiftAnswers, (Form, Option<f64>))| {
        let all = answers.uncertainties().iter();
        let information = all.filter(|(measure, _)| *measure == Measure::MutualInformation);
        let information = information.cloned().collect();
        both(form, answers.log_probabilities(), information, temperature)
    };
    answers.iter().zip(ways).flat_map(way).collect()
}

/// One form as it is, and at its temperature, if it has one. The weights' own uncertainty knows no
/// temperature.
fn both(
    form: Form,
    logs: &[Vec<f64>],
    information: Vec<Uncertainties>,
    temperature: Option<f64>,
) -> ByForm {
    let of = |logs: &[Vec<f64>]| [uncertainties_of_answers(logs), information.clone()].concat();
    let scaled = temperature.map(|t| (form.scaled(), of(&at_temperature(logs, t))));
    std::iter::once((form, of(logs))).chain(scaled).collect()
}

impl OtherSetEntry {
    /// Its rows, as examples of a task.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub(super) fn examples(&self, task: &TaskReader) -> Result<Vec<Example>, CompareError> {
        let set = self.set();
        let (_, mut source) = labelled_files(&set.path, None, task, &set.fields)?;
        source.examples.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(source.examples)
    }

    fn set(&self) -> OtherSet {
        let field = |(field, column): (&String, &String)| (field.clone(), column.clone());
        OtherSet {
            name: self.name.clone(),
            path: self.path.clone(),
            fields: self.fields.iter().map(field).collect(),
        }
    }
}
