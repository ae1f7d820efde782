//! Rows → hashes of their prompts, by which an adapter recognises its training data without storing
//! their text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::dataset::Dataset;
use super::role::Role;
use super::task::Example;

/// The maximum number of hashes of a set. Of more rows the smallest hashes are kept, which are a
/// uniform sample.
const MOST_HASHES: usize = 1 << 16;
/// Hexadecimal digits of a 64-bit hash.
const DIGITS: usize = 16;

/// The rows of each role, by their prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownRows {
    /// Of train.
    pub train: RowSet,
    /// Of tune.
    pub tune: RowSet,
    /// Of calibrate.
    pub calibrate: RowSet,
    /// Of test.
    pub test: RowSet,
}

impl KnownRows {
    /// The rows of a data set.
    pub fn of(dataset: &Dataset) -> Self {
        let of = |role| RowSet::of(dataset.role(role));
        Self {
            train: of(Role::Train),
            tune: of(Role::Tune),
            calibrate: of(Role::Calibrate),
            test: of(Role::Test),
        }
    }

    /// The rows of a role.
    pub fn role(&self, role: Role) -> &RowSet {
        match role {
            Role::Train => &self.train,
            Role::Tune => &self.tune,
            Role::Calibrate => &self.calibrate,
            Role::Test => &self.test,
        }
    }
}

/// A set of prompts, by their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    /// The number of distinct prompts.
    count: usize,
    /// Their hashes in ascending order, at most the smallest [`MOST_HASHES`].
    hashes: Vec<u64>,
}

/// The number of rows that are in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The number of rows.
    pub rows: usize,
    /// Whether it was counted, not estimated from a sample.
    pub is_counted: bool,
}

impl RowSet {
    /// The prompts of these examples.
    pub fn of(examples: &[Example]) -> Self {
        let mut hashes: Vec<u64> = examples.iter().map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let count = hashes.len();
        hashes.truncate(MOST_HASHES);
        Self { count, hashes }
    }

    /// Whether the hash of every prompt is kept.
    pub fn is_whole(&self) -> bool {
        self.hashes.len() == self.count
    }

    /// Whether the hash of an example's prompt is kept.
    pub fn holds(&self, example: &Example) -> bool {
        self.hashes.binary_search(&hash(example)).is_ok()
    }

    /// The number of these examples that are in the set.
    pub fn overlap(&self, examples: &[Example]) -> Overlap {
        let found = examples
            .iter()
            .filter(|example| self.holds(example))
            .count();
        if self.is_whole() {
            return Overlap {
                rows: found,
                is_counted: true,
            };
        }
        // Hashes are uniform: the proportion of known rows is the same below the largest kept hash
        // and above it.
        let kept = self.hashes.len() as f64 / self.count as f64;
        let rows = ((found as f64 / kept).round() as usize).min(examples.len());
        Overlap {
            rows,
            is_counted: false,
        }
    }
}

/// The first 64 bits of the SHA-256 of a prompt's text.
fn hash(example: &Example) -> u64 {
    let digest = Sha256::digest(example.own_text().as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

/// The serialised form of a set: one string of hexadecimal digits, 16 for each hash.
#[derive(Serialize, Deserialize)]
struct RowSetRecord {
    count: usize,
    hashes: String,
}

impl Serialize for RowSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hashes = self
            .hashes
            .iter()
            .map(|hash| format!("{hash:016x}"))
            .collect();
        RowSetRecord {
            count: self.count,
            hashes,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RowSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let RowSetRecord { count, hashes } = RowSetRecord::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom("the hashes of rows are no groups of 16 hexadecimal digits");
        if !hashes.len().is_multiple_of(DIGITS) || !hashes.is_ascii() {
            return Err(wrong());
        }
        let number =
            |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let read: Option<Vec<u64>> = hashes.as_bytes().chunks(DIGITS).map(number).collect();
        let mut hashes = read.ok_or_else(wrong)?;
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() > count {
            return Err(D::Error::custom(format!(
                "there are {} hashes of {count} rows",
                hashes.len()
            )));
        }
        Ok(Self { count, hashes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(range: std::ops::Range<usize>) -> Vec<Example> {
        let answers: std::sync::Arc<[String]> = ["no".to_string(), "yes".into()].into();
        range
            .map(|row| {
                Example::from_prompt(row.to_string(), format!("prompt {row}"), answers.clone())
            })
            .collect()
    }

    #[test]
    fn rows_are_known_by_their_prompt_whatever_their_id() {
        let set = RowSet::of(&examples(0..40));
        let mut others = examples(30..100);
        others
            .iter_mut()
            .for_each(|example| example.id = "other".into());
        assert_eq!(
            set.overlap(&others),
            Overlap {
                rows: 10,
                is_counted: true
            }
        );
        assert!(set.is_whole() && set.holds(&others[0]) && !set.holds(&others[10]));
        assert_eq!(
            RowSet::default().overlap(&others),
            Overlap {
                rows: 0,
                is_counted: true
            }
        );
    }

    #[test]
    fn of_more_rows_than_are_kept_the_number_is_worked_out() {
        let all = examples(0..MOST_HASHES + MOST_HASHES / 2);
        let set = RowSet::of(&all);
        assert_eq!((set.hashes.len(), set.count), (MOST_HASHES, all.len()));
        let half = set.overlap(&all[..all.len() / 2]);
        // 49,152 rows, two thirds of which are kept: a standard deviation of 0.2 %.
        assert!(
            !half.is_counted && half.rows.abs_diff(all.len() / 2) < 500,
            "{half:?}"
        );
        assert_eq!(set.overlap(&examples(200_000..200_100)).rows, 0);
    }

    #[test]
    fn what_is_written_reads_back_and_what_is_no_set_is_refused() {
        let known = KnownRows {
            train: RowSet::of(&examples(0..3)),
            ..KnownRows::default()
        };
        let text = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<KnownRows>(&text).unwrap(), known);
        let message = |text: &str| {
            serde_json::from_str::<RowSet>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(
            message(r#"{"count": 1, "hashes": "12"}"#)
                .starts_with("the hashes of rows are no groups of 16")
        );
        assert!(
            message(r#"{"count": 1, "hashes": "123456789012345x"}"#)
                .starts_with("the hashes of rows")
        );
        assert!(
            message(r#"{"count": 0, "hashes": "1234567890123456"}"#)
                .starts_with("there are 1 hashes of 0 rows")
        );
    }
}
