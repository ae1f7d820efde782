//! The rows of a task → by how much the scores of each differ from those of one row, with paired
//! intervals.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::predicted::{Predicted, paired_interval};
use super::rows::{Member, Row, TaskRows};
use ivon_lora::metrics::{ComparedScore, Table};

/// Differences of all rows of a task's table from one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifferenceTable {
    /// The name of that row.
    pub against: String,
    /// The other rows that share a seed with it, without yardsticks.
    pub rows: Vec<DifferenceRow>,
}

/// The differences of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifferenceRow {
    /// That of the row in the task's table.
    pub name: String,
    /// In the order of [`ComparedScore::ALL`]; none of scores that texts do not have.
    pub differences: Vec<Option<Difference>>,
}

/// Score of the row − score of the other, where lower is better: below 0 the row is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean over the seeds that both have.
    pub mean: f64,
    /// Its 95 % interval over seeds and examples.
    pub interval: [f64; 2],
}

const HEAD: [&str; 7] = ["", "error", "NLL", "Brier", "ECE", "AURC", "error at 80 %"];

impl DifferenceTable {
    /// The differences from the row of this name; none if there is none, or no other shares a seed.
    pub(super) fn new(task: &TaskRows, against: &str) -> Option<Self> {
        let other = task.rows.iter().find(|row| row.name == against)?;
        let rows = task.rows.iter();
        let rows = rows.filter(|row| row.form != Form::Yardstick && row.name != against);
        let row = |row: &Row| DifferenceRow {
            name: row.name.clone(),
            differences: ComparedScore::ALL
                .map(|score| difference(row, other, score))
                .into(),
        };
        let mut rows: Vec<DifferenceRow> = rows.map(row).collect();
        rows.retain(|row| row.differences.iter().any(Option::is_some));
        (!rows.is_empty()).then(|| Self {
            against: against.into(),
            rows,
        })
    }

    /// As words.
    pub(super) fn table(&self) -> Table {
        let words = |difference: &Option<Difference>| match difference {
            None => "–".into(),
            Some(Difference { mean, interval }) => {
                format!("{mean:+.3} [{:+.3}, {:+.3}]", interval[0], interval[1])
            }
        };
        let row = |row: &DifferenceRow| {
            let name = std::iter::once(row.name.clone());
            name.chain(row.differences.iter().map(words)).collect()
        };
        Table {
            head: HEAD.map(String::from).into(),
            rows: self.rows.iter().map(row).collect(),
        }
    }

    /// Above the table.
    pub(super) fn heading(&self) -> String {
        format!(
            "difference from {}, lower is better, with the paired 95 % interval over seeds and examples",
            self.against
        )
    }
}

fn difference(row: &Row, other: &Row, score: ComparedScore) -> Option<Difference> {
    let (ours, theirs) = same_seeds(row, other);
    let interval = paired_interval(score, &predicted(&ours), &predicted(&theirs))?;
    let mean = |of: &[&Member]| -> f64 {
        let losses = of.iter().map(|member| member.scores.loss(score));
        losses.sum::<f64>() / of.len() as f64
    };
    Some(Difference {
        mean: rounded(mean(&ours) - mean(&theirs)),
        interval: interval.map(rounded),
    })
}

/// To four places, so that packed predictions, which have seven digits, make the same table.
fn rounded(difference: f64) -> f64 {
    (difference * 1e4).round() / 1e4
}

/// The members of two rows under the seeds that both have, where both have predictions.
pub(super) fn same_seeds<'a>(one: &'a Row, other: &'a Row) -> (Vec<&'a Member>, Vec<&'a Member>) {
    let pair = |member: &'a Member| {
        let mut others = other.members.iter();
        let other = others.find(|other| other.seed == member.seed)?;
        (member.predictions.is_some() && other.predictions.is_some()).then_some((member, other))
    };
    one.members.iter().filter_map(pair).unzip()
}

/// The predictions of members.
pub(super) fn predicted<'a>(members: &[&'a Member]) -> Vec<&'a Predicted> {
    let predictions = members.iter().filter_map(|one| one.predictions.as_ref());
    predictions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::TaskResults;
    use ivon_lora::metrics::Predictions;

    /// Of 100 answers with confidence 0.75 the first `right` are right.
    fn predictions(right: usize) -> Predictions {
        let labels = (0..100).map(|row| usize::from(row >= right)).collect();
        Predictions::from_probabilities(vec![vec![0.75, 0.25]; 100], labels).unwrap()
    }

    #[test]
    fn a_row_that_is_right_ten_times_more_differs_by_a_tenth_of_what_an_error_costs() {
        let mut results = TaskResults::new("t");
        // What was made elsewhere is on the same rows, whose labels differ here only to make errors.
        results.labels = (0..100).map(|row| usize::from(row >= 70)).collect();
        results.ids = (0..100).map(|row| row.to_string()).collect();
        let mut rows = TaskRows::new(&results, false).unwrap();
        for (name, right) in [("plain", 70), ("better", 80)] {
            results.elsewhere.clear();
            results.add_elsewhere(name, 1, &predictions(right));
            results.labels = predictions(right).labels().to_vec();
            rows.rows
                .extend(TaskRows::new(&results, false).unwrap().rows);
        }
        let table = DifferenceTable::new(&rows, "plain").unwrap();
        assert_eq!(table.rows.len(), 1);
        let of = |place: usize| table.rows[0].differences[place].unwrap();
        assert!((of(0).mean + 0.1).abs() < 1e-12 && of(0).interval[1] < 0.0);
        // ln 0.25 − ln 0.75 for each of ten rows.
        assert!((of(1).mean + 0.1 * 3f64.ln()).abs() < 1e-4);
        assert!(table.table().to_text().contains("better  -0.100 [-0.1"));
        assert_eq!(DifferenceTable::new(&rows, "other"), None);
    }
}
