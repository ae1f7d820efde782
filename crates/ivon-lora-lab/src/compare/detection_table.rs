//! The rows of a task → how well the uncertainty of each tells other sets from the test rows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::detection::SetUncertainty;
use super::rows::{Member, Row, TaskRows};
use super::scores::ScoreEntry;
use crate::report::Measure;
use ivon_lora::metrics::{
    Bootstrap, ScoredRows, Table, auroc, mean_and_standard_error, paired_auroc_over_seeds,
};

/// AUROC of other sets' rows against the task's test rows, by the uncertainty of each row of the
/// table: ½ for one that says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionTable {
    /// The columns.
    pub columns: Vec<DetectionColumn>,
    /// One for each row of the task's table that was asked of other sets.
    pub rows: Vec<DetectionRow>,
}

/// One set, told by one uncertainty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DetectionColumn {
    /// The other set.
    pub set: String,
    /// The uncertainty.
    pub uncertainty: Measure,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionRow {
    /// That of the row in the task's table.
    pub name: String,
    /// One for each column; none where the row has no such uncertainty.
    pub auroc: Vec<Option<ScoreEntry>>,
}

impl DetectionTable {
    /// The table of a task's rows; none where no other set was asked of.
    pub(super) fn new(task: &TaskRows) -> Option<Self> {
        let members = task.rows.iter().flat_map(|row| &row.members);
        let all = members.flat_map(|member| &member.other_sets);
        let columns: BTreeSet<DetectionColumn> = all.map(column_of).collect();
        let columns: Vec<DetectionColumn> = columns.into_iter().collect();
        let rows: Vec<&Row> = task
            .rows
            .iter()
            .filter(|row| {
                row.members
                    .iter()
                    .any(|member| !member.other_sets.is_empty())
            })
            .collect();
        let entries: Vec<Vec<Option<ScoreEntry>>> = columns
            .iter()
            .map(|column| entries(&rows, column))
            .collect();
        let row = |(index, row): (usize, &&Row)| DetectionRow {
            name: row.name.clone(),
            auroc: entries.iter().map(|entries| entries[index]).collect(),
        };
        let rows: Vec<DetectionRow> = rows.iter().enumerate().map(row).collect();
        (!rows.is_empty()).then_some(Self { columns, rows })
    }
}

impl DetectionTable {
    /// As words.
    pub(super) fn table(&self, cell: &impl Fn(&ScoreEntry) -> String) -> Table {
        let words = |entry: &Option<ScoreEntry>| entry.as_ref().map_or_else(|| "–".into(), cell);
        let row = |row: &DetectionRow| {
            let words = row.auroc.iter().map(words);
            std::iter::once(row.name.clone()).chain(words).collect()
        };
        let columns = self.columns.iter().map(DetectionColumn::name);
        Table {
            head: std::iter::once(String::new()).chain(columns).collect(),
            rows: self.rows.iter().map(row).collect(),
        }
    }
}

impl DetectionColumn {
    /// `premises by entropy`.
    pub(super) fn name(&self) -> String {
        format!("{} by {}", self.set, self.uncertainty.name())
    }
}

fn column_of(one: &SetUncertainty) -> DetectionColumn {
    DetectionColumn {
        set: one.set.clone(),
        uncertainty: one.measure,
    }
}

/// The scores of a member's rows in a column, test rows first; none where it has no such
/// uncertainty.
fn scored<'m>(member: &'m Member, column: &DetectionColumn) -> Option<ScoredRows<'m>> {
    let mut all = member.other_sets.iter();
    let found = all.find(|one| one.set == column.set && one.measure == column.uncertainty)?;
    Some([&found.own, &found.other])
}

fn auroc_of([own, other]: ScoredRows<'_>) -> Option<f64> {
    let is_other: Vec<bool> = (0..own.len() + other.len())
        .map(|row| row >= own.len())
        .collect();
    auroc(&[own, other].concat(), &is_other)
}

/// A column: mean over seeds, and whether it is told apart from the best row.
fn entries(rows: &[&Row], column: &DetectionColumn) -> Vec<Option<ScoreEntry>> {
    let of_row = |row: &&Row| {
        let members = row.members.iter();
        let values: Vec<f64> = members
            .filter_map(|one| auroc_of(scored(one, column)?))
            .collect();
        (!values.is_empty()).then(|| mean_and_standard_error(&values))
    };
    let means: Vec<Option<(f64, Option<f64>)>> = rows.iter().map(of_row).collect();
    let known = means.iter().enumerate();
    let known = known.filter_map(|(index, mean)| Some((index, mean.as_ref()?.0)));
    let best = known
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(index, _)| index);
    let entry = |(index, mean): (usize, &Option<(f64, Option<f64>)>)| {
        let (mean, standard_error) = (*mean)?;
        Some(ScoreEntry {
            mean,
            standard_error,
            is_bold: best.is_some_and(|best| {
                best == index || !is_told_apart(rows[index], rows[best], column)
            }),
        })
    };
    means.iter().enumerate().map(entry).collect()
}

/// Whether the paired interval of two rows' difference lacks 0; so it is where they share no seed.
fn is_told_apart(row: &Row, best: &Row, column: &DetectionColumn) -> bool {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for member in &row.members {
        let other = best.members.iter().find(|other| other.seed == member.seed);
        let scores =
            other.and_then(|other| Some((scored(member, column)?, scored(other, column)?)));
        if let Some((our, their)) = scores {
            ours.push(our);
            theirs.push(their);
        }
    }
    let interval = paired_auroc_over_seeds(&ours, &theirs, &Bootstrap::default());
    interval.is_none_or(|[low, high]| low > 0.0 || high < 0.0)
}
