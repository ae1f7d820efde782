//! The results of a task → the rows of its table: predictions on the same test rows, by seed, with
//! what they cost.

use std::collections::HashSet;

use super::CompareError;
use super::cell_results::{CellResults, RowResults, scaled};
use super::detection::SetUncertainty;
use super::form::Form;
use super::predicted::Predicted;
use super::results::{ElsewhereResults, TaskResults};
use super::scores::RowScores;
use ivon_lora::metrics::Predictions;

/// One row on one task.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    /// The method, which may have several rows.
    pub method: String,
    pub form: Form,
    /// The optimizer, where it was trained here.
    pub optimizer: Option<String>,
    /// One for each seed.
    pub members: Vec<Member>,
}

/// A row under one seed.
#[derive(Clone, Debug)]
pub struct Member {
    pub seed: u64,
    pub scores: RowScores,
    /// None where only scores are known.
    pub predictions: Option<Predicted>,
    /// Seconds of training and of prediction, each where it was measured.
    pub seconds: [Option<f64>; 2],
    /// Numbers stored beside the adapter; none where unknown.
    pub extra: Option<u64>,
    /// How uncertain it is of sets that the task is not about.
    pub other_sets: Vec<SetUncertainty>,
    /// Whether it should be at a temperature, and calibrate could not carry one: it is at T = 1.
    pub is_refused: bool,
}

/// All rows of a task.
#[derive(Clone, Debug)]
pub struct TaskRows {
    pub name: String,
    pub n: usize,
    pub rows: Vec<Row>,
}

const MAJORITY: &str = "majority class";
const BASE: &str = "base, untuned";
/// After the name of a row whose log-probabilities are divided by a temperature.
const SCALED: &str = "T on calibrate";

impl TaskRows {
    /// The rows of a task: who knows no more than how frequent each answer is in training, the
    /// untuned base, the methods, and what was made elsewhere. With `temperature` each row of a
    /// method follows once more at the temperature that was chosen for it on calibrate, if any.
    ///
    /// # Errors
    /// If predictions are no distributions over the labels' choices.
    pub fn new(results: &TaskResults, temperature: bool) -> Result<Self, CompareError> {
        let mut rows = Self {
            name: results.name.clone(),
            n: results.ids.len(),
            rows: Vec::new(),
        };
        let labels = &results.labels;
        if let Some(frequencies) = &results.majority {
            let probabilities = vec![frequencies.clone(); labels.len()];
            let predictions = Predictions::from_probabilities(probabilities, labels.clone())?;
            let scores = RowScores::from(&predictions);
            let member = Member::new(0, scores, Some(Predicted::Choices(predictions)));
            rows.add(Row::yardstick(MAJORITY), member);
        }
        if let Some(scores) = results.base {
            rows.add(Row::yardstick(BASE), Member::new(0, scores, None));
        }
        let scaled: HashSet<&str> = results.scaled_rows().collect();
        for cell in &results.cells {
            for row in &cell.rows {
                let is_scaled = temperature && scaled.contains(row.name.as_str());
                rows.add_trained(cell, row, labels, is_scaled)?;
            }
        }
        for elsewhere in &results.elsewhere {
            rows.add_elsewhere(elsewhere, labels)?;
        }
        Ok(rows)
    }

    /// Adds a row of a cell, and the same at its temperature; at T = 1 where it has none but others
    /// have, or labels were given for one.
    fn add_trained(
        &mut self,
        cell: &CellResults,
        row: &RowResults,
        labels: &[usize],
        is_scaled: bool,
    ) -> Result<(), CompareError> {
        let predictions = row.predicted(labels)?;
        let at_temperature = match (row.at_temperature, &predictions) {
            _ if !is_scaled => None,
            (Some(at), Predicted::Choices(predictions)) => {
                let scaled = scaled(predictions, at.temperature)?;
                Some((Predicted::Choices(scaled), at.scores))
            }
            _ => Some((predictions.clone(), row.scores)),
        };
        let other_sets = |form: Form| -> Vec<SetUncertainty> {
            let of_form = cell.other_sets.iter().filter(|one| one.form == form);
            of_form.cloned().collect()
        };
        let member = |scores, predictions| Member {
            other_sets: other_sets(row.form),
            seconds: [Some(cell.seconds), row.seconds],
            extra: row.extra,
            ..Member::new(cell.seed, scores, Some(predictions))
        };
        let trained = Row {
            name: row.name.clone(),
            method: cell.method.clone(),
            form: row.form,
            optimizer: Some(cell.optimizer.clone()),
            members: Vec::new(),
        };
        self.add(trained.clone(), member(row.scores, predictions));
        if let Some((predictions, scores)) = at_temperature {
            let scaled = Row {
                name: format!("{}, {SCALED}", row.name),
                form: row.form.scaled(),
                ..trained
            };
            let is_refused = row.at_temperature.is_none();
            let form = if is_refused {
                row.form
            } else {
                row.form.scaled()
            };
            let member = Member {
                is_refused,
                other_sets: other_sets(form),
                ..member(scores, predictions)
            };
            self.add(scaled, member);
        }
        Ok(())
    }

    /// Adds predictions that were made elsewhere.
    fn add_elsewhere(
        &mut self,
        results: &ElsewhereResults,
        labels: &[usize],
    ) -> Result<(), CompareError> {
        let row = Row {
            name: results.method.clone(),
            method: results.method.clone(),
            form: Form::Elsewhere,
            optimizer: None,
            members: Vec::new(),
        };
        let predictions =
            Predictions::from_probabilities(results.probabilities.clone(), labels.to_vec())?;
        let predictions = Some(Predicted::Choices(predictions));
        let member = Member::new(results.seed, results.scores, predictions);
        self.add(row, member);
        Ok(())
    }

    /// Adds a member to the row of this name, which is a new one if there is none.
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
    fn yardstick(name: &str) -> Self {
        Self {
            name: name.into(),
            method: name.into(),
            form: Form::Yardstick,
            optimizer: None,
            members: Vec::new(),
        }
    }
}

impl Member {
    /// Without costs.
    fn new(seed: u64, scores: RowScores, predictions: Option<Predicted>) -> Self {
        Self {
            seed,
            scores,
            predictions,
            seconds: [None; 2],
            extra: None,
            other_sets: Vec::new(),
            is_refused: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yardsticks_come_first_and_each_row_is_followed_by_itself_at_its_temperature() {
        let mut results = TaskResults::new("t");
        results.labels = vec![1, 0, 1];
        results.ids = ["a", "b", "c"].map(String::from).into();
        results.majority = Some(vec![0.25, 0.75]);
        let theirs = Predictions::from_probabilities(vec![vec![0.5; 2]; 3], vec![1, 0, 1]).unwrap();
        results.add_elsewhere("Theirs", 1, &theirs);
        let rows = TaskRows::new(&results, true).unwrap();
        let scores = rows.rows[0].members[0].scores;
        assert!((scores.accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert!((scores.nll - (-(0.75f64.ln()) * 2.0 - 0.25f64.ln()) / 3.0).abs() < 1e-12);
        let forms: Vec<Form> = rows.rows.iter().map(|row| row.form).collect();
        assert_eq!(forms, [Form::Yardstick, Form::Elsewhere]);
    }
}
