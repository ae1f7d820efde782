//! Rows → an order: the labelled ones most likely mislabelled first, or the unlabelled ones most worth a
//! label.

use serde::{Deserialize, Serialize};

use super::answerer::Answerer;
use super::error::AnswerError;
use super::example_set::ExampleSet;
use crate::metrics::{
    Uncertainty, entropy, first_largest, leave_one_out_losses, mean_of_draws, uncertainties,
};
use crate::settings::SettingError;
use crate::watch::{Stage, Watch};

/// What rows are ordered by, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankedBy {
    /// The loss of the row's label without training on the row, by the memory-perturbation equation.
    #[default]
    LeaveOneOut,
    /// The loss of the row's label at the mean.
    Loss,
    /// Mutual information of answer and weights (BALD), for which no label is needed.
    MutualInformation,
    /// Entropy of the averaged probabilities, for which no label is needed.
    Entropy,
}

impl RankedBy {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::LeaveOneOut,
        Self::Loss,
        Self::MutualInformation,
        Self::Entropy,
    ];

    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaveOneOut => "leave-one-out",
            Self::Loss => "loss",
            Self::MutualInformation => "mutual-information",
            Self::Entropy => "entropy",
        }
    }

    /// Whether rows must have labels.
    pub fn needs_labels(self) -> bool {
        matches!(self, Self::LeaveOneOut | Self::Loss)
    }

    /// The fewest draws that it can be computed from.
    fn fewest_draws(self) -> usize {
        match self {
            Self::LeaveOneOut | Self::MutualInformation => 2,
            Self::Loss | Self::Entropy => 0,
        }
    }
}

/// A row in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedRow {
    /// Its id.
    pub id: String,
    /// What it is ranked by, nats.
    pub score: f64,
    /// Its label, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The most probable answer at the mean.
    pub answer: String,
    /// Its probability there.
    pub confidence: f64,
}

impl Answerer {
    /// The rows of a set in order, the largest score first; rows that tie stay in their order.
    ///
    /// # Errors
    /// If a label is needed and a row has none, draws are needed and the posterior has none, a
    /// probability is not a number, and if `watch` says stop.
    pub fn rank(
        &self,
        set: &ExampleSet,
        by: RankedBy,
        watch: Watch<'_>,
    ) -> Result<Vec<RankedRow>, AnswerError> {
        if self.task().is_text() {
            let expected = "questions with choices, whose answers have a probability";
            return Err(SettingError::new("task", "of texts", expected).into());
        }
        let labels = by.needs_labels().then(|| set.labels()).transpose()?;
        let found = self.log_probabilities(&set.encoded, Stage::Evaluating, watch)?;
        if found.draws.len() < by.fewest_draws() {
            let expected = "at least 2 draws from a posterior";
            let draws = found.draws.len().to_string();
            return Err(SettingError::new("samples", draws, expected).into());
        }
        let scores = match (by, labels) {
            (RankedBy::LeaveOneOut, Some(labels)) => {
                leave_one_out_losses(&found.mean, &found.draws, &labels)?
            }
            (RankedBy::Loss, Some(labels)) => {
                let rows = found.mean.iter().zip(labels);
                rows.map(|(row, label)| -row[label]).collect()
            }
            (RankedBy::MutualInformation, _) => {
                let all = uncertainties(&found.draws)?;
                all.iter()
                    .map(|one: &Uncertainty| one.mutual_information)
                    .collect()
            }
            _ if found.draws.is_empty() => found.mean.iter().map(|row| entropy(row)).collect(),
            _ => mean_of_draws(&found.draws)?
                .iter()
                .map(|row| entropy(row))
                .collect(),
        };
        let row =
            |(place, score): (usize, &f64)| ranked_row(set, place, &found.mean[place], *score);
        let mut rows: Vec<RankedRow> = scores.iter().enumerate().map(row).collect();
        rows.sort_by(|one, other| other.score.total_cmp(&one.score));
        Ok(rows)
    }
}

fn ranked_row(set: &ExampleSet, place: usize, mean: &[f64], score: f64) -> RankedRow {
    let example = &set.examples[set.encoded.kept[place]];
    let answer = first_largest(mean);
    let word = |choice: usize| example.answers.get(choice).cloned();
    RankedRow {
        id: example.id.clone(),
        score,
        label: example.label.and_then(word),
        answer: word(answer).unwrap_or_default(),
        confidence: mean[answer].exp(),
    }
}
