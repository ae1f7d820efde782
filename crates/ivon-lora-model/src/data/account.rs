//! Counts of the rows of a data set by what happened to them, with the ids of the first few, and
//! the sentences that report them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::task::DropReason;

/// The number of ids kept for each count.
const SHOWN: usize = 3;

/// Rows that something happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many there are.
    pub count: usize,
    /// The ids of the first rows, at most three.
    pub first: Vec<String>,
}

impl Tally {
    /// Counts one row.
    pub fn add(&mut self, id: &str) {
        self.merge(&Self {
            count: 1,
            first: vec![id.into()],
        });
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the rows of another tally after its own.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first.extend(
            other
                .first
                .iter()
                .take(SHOWN.saturating_sub(self.first.len()))
                .cloned(),
        );
    }

    /// `set: 2 of 9 rows {are} {what} (ids)`, with `is` for one row; none for no rows.
    pub fn sentence(
        &self,
        set: &str,
        total: usize,
        [is, are]: [&str; 2],
        what: &str,
    ) -> Option<String> {
        let rows = if total == 1 { "row" } else { "rows" };
        let verb = if self.count == 1 { is } else { are };
        (self.count > 0).then(|| {
            format!(
                "{set}: {} of {total} {rows} {verb} {what} ({self})",
                self.count
            )
        })
    }
}

impl FromIterator<String> for Tally {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        ids.into_iter().fold(Self::default(), |mut counted, id| {
            counted.add(&id);
            counted
        })
    }
}

impl fmt::Display for Tally {
    /// `a`, `b`, `c` and 7 more, in backticks.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self
            .first
            .iter()
            .map(|id| format!("`{}`", id.chars().take(60).collect::<String>()))
            .collect();
        formatter.write_str(&ids.join(", "))?;
        match self.count.saturating_sub(ids.len()) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// The dropped rows, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops(BTreeMap<DropReason, Tally>);

impl Drops {
    /// Counts one row.
    pub fn add(&mut self, reason: DropReason, id: &str) {
        self.0.entry(reason).or_default().add(id);
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (reason, rows) in &other.0 {
            self.0.entry(reason.clone()).or_default().merge(rows);
        }
    }

    /// Each reason with its rows.
    pub fn iter(&self) -> impl Iterator<Item = (&DropReason, &Tally)> {
        self.0.iter()
    }

    /// The number of dropped rows.
    pub fn total(&self) -> usize {
        self.0.values().map(|rows| rows.count).sum()
    }

    /// A sentence for each reason, for a data set of `total` rows.
    pub fn sentences(&self, set: &str, total: usize) -> Vec<String> {
        let said = |(reason, rows): (&DropReason, &Tally)| {
            rows.sentence(set, total, ["is", "are"], &format!("left out: {reason}"))
        };
        self.0.iter().filter_map(said).collect()
    }
}

impl Serialize for Drops {
    /// A map from the reason in words to the rows.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(reason, rows)| (reason.to_string(), rows)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_how_many_of_how_many_why_and_which() {
        let mut drops = Drops::default();
        (0..5).for_each(|row| {
            drops.add(
                DropReason::ChoiceCount { found: 5, kept: 4 },
                &format!("q{row}"),
            )
        });
        drops.add(DropReason::NoTokens, "e");
        let expected = [
            "test: 5 of 9 rows are left out: 5 choices where the task keeps 4 (`q0`, `q1`, `q2` and 2 more)",
            "test: 1 of 9 rows is left out: the prompt has no tokens (`e`)",
        ];
        assert_eq!(
            (drops.sentences("test", 9), drops.total()),
            (expected.map(String::from).to_vec(), 6)
        );
        assert_eq!(
            Tally::default().sentence("test", 9, ["is", "are"], "shortened"),
            None
        );
        let saved = serde_json::to_value(&drops).unwrap();
        assert_eq!(
            saved["the prompt has no tokens"],
            serde_json::json!({"count": 1, "first": ["e"]})
        );
    }
}
