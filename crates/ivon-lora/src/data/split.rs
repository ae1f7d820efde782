//! The four roles of rows, and how those that no file provides are carved from the training file.
//!
//! *train* is learnt from; *tune* chooses settings and stops early; *calibrate* sets scale, temperature and
//! thresholds; *test* is read once, at the end. Rows with the same prompt, and rows of the same group, stay in one
//! role, so that no role knows an answer of another.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::DataError;
use crate::random::{Purpose, shuffle, stream};

/// What rows are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To learn from.
    Train,
    /// To choose settings and stop early by.
    Tune,
    /// To choose scale, temperature and thresholds by.
    Calibrate,
    /// To be scored on, once.
    Test,
}

impl Role {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::Train, Self::Tune, Self::Calibrate, Self::Test];

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Calibrate => "calibrate",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What ties a row to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ties<'a> {
    /// Its prompt.
    pub text: &'a str,
    /// Its group.
    pub group: Option<&'a str>,
}

/// Gives each row of the training file a role.
///
/// `wanted` names the roles to carve with their share of the rows, each above 0; the sum stays below 1. Bundles of
/// tied rows are shuffled by `seed`; each role in turn takes those that fit into round(share · rows), at least one
/// row; whatever remains is train. Bundles that lie wholly behind the first `spared` rows are taken first, so that
/// a run limited to the first N rows trains on just those wherever the file is long enough.
///
/// # Errors
/// [`DataError::TooFewRows`] if there are fewer bundles than roles.
pub fn carve(rows: &[Ties<'_>], wanted: &[(Role, f64)], spared: usize, seed: u64) -> Result<Vec<Role>, DataError> {
    let mut roles = vec![Role::Train; rows.len()];
    if wanted.is_empty() {
        return Ok(roles);
    }
    let mut bundles = bundles(rows);
    if bundles.len() <= wanted.len() {
        let names: Vec<&str> = std::iter::once("train").chain(wanted.iter().map(|(role, _)| role.name())).collect();
        return Err(DataError::TooFewRows { found: bundles.len(), needed: names.len(), roles: names.join(", ") });
    }
    shuffle(&mut stream(seed, Purpose::Split, 0, 0, ""), &mut bundles);
    // The sort is stable: within each half the order stays that of the shuffle.
    bundles.sort_by_key(|bundle| bundle.first().is_some_and(|&first| first < spared));
    for (place, (role, share)) in wanted.iter().enumerate() {
        let goal = ((share * rows.len() as f64).round() as usize).max(1);
        // Train and each role that is still to come keep a bundle at least.
        let reserved = wanted.len() - place;
        for row in take(&mut bundles, goal, reserved).into_iter().flatten() {
            roles[row] = *role;
        }
    }
    Ok(roles)
}

/// Takes bundles of at most `goal` rows together, in order, and leaves `reserved` bundles; the smallest bundle if
/// none is that small.
fn take(bundles: &mut Vec<Vec<usize>>, goal: usize, reserved: usize) -> Vec<Vec<usize>> {
    let (mut taken, mut kept, mut count) = (Vec::new(), Vec::new(), 0);
    let total = bundles.len();
    for bundle in bundles.drain(..) {
        if count + bundle.len() <= goal && taken.len() + reserved < total {
            count += bundle.len();
            taken.push(bundle);
        } else {
            kept.push(bundle);
        }
    }
    if taken.is_empty()
        && let Some(smallest) = (0..kept.len()).min_by_key(|&index| kept[index].len())
    {
        taken.push(kept.remove(smallest));
    }
    *bundles = kept;
    taken
}

/// Rows that are tied to each other, directly or through others, by their indices in order; the bundles in the
/// order of their first rows.
fn bundles(rows: &[Ties<'_>]) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..rows.len()).collect();
    let (mut texts, mut groups) = (HashMap::new(), HashMap::new());
    for (index, row) in rows.iter().enumerate() {
        let same_text = *texts.entry(row.text).or_insert(index);
        let same_group = row.group.map_or(index, |group| *groups.entry(group).or_insert(index));
        for tied in [same_text, same_group] {
            let (first, second) = (root(&mut parent, index), root(&mut parent, tied));
            parent[first.max(second)] = first.min(second);
        }
    }
    let mut bundles: Vec<Vec<usize>> = Vec::new();
    let mut place = HashMap::new();
    for index in 0..rows.len() {
        let root = root(&mut parent, index);
        let at = *place.entry(root).or_insert_with(|| {
            bundles.push(Vec::new());
            bundles.len() - 1
        });
        bundles[at].push(index);
    }
    bundles
}

/// The representative of a row's bundle, paths halved on the way.
fn root(parent: &mut [usize], mut index: usize) -> usize {
    while parent[index] != index {
        parent[index] = parent[parent[index]];
        index = parent[index];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(roles: &[Role], role: Role) -> usize {
        roles.iter().filter(|found| **found == role).count()
    }

    const WANTED: [(Role, f64); 3] = [(Role::Test, 0.2), (Role::Calibrate, 0.1), (Role::Tune, 0.1)];

    fn plain(texts: &[String]) -> Vec<Ties<'_>> {
        texts.iter().map(|text| Ties { text, group: None }).collect()
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("text {index}")).collect()
    }

    #[test]
    fn each_role_gets_its_share_and_train_the_rest() {
        let texts = numbered(100);
        let roles = carve(&plain(&texts), &WANTED, 0, 1).unwrap();
        assert_eq!(Role::ALL.map(|role| count(&roles, role)), [60, 10, 10, 20]);
        assert_ne!(roles, carve(&plain(&texts), &WANTED, 0, 2).unwrap());
    }

    #[test]
    fn the_first_rows_are_spared_where_the_file_is_long_enough() {
        let texts = numbered(100);
        let roles = carve(&plain(&texts), &WANTED, 50, 1).unwrap();
        assert!(roles[..50].iter().all(|role| *role == Role::Train));
        let roles = carve(&plain(&texts), &WANTED, 80, 1).unwrap();
        assert_eq!(count(&roles[80..], Role::Train), 0);
    }

    #[test]
    fn four_rows_are_enough_for_four_roles_and_three_are_not() {
        let texts = numbered(4);
        let roles = carve(&plain(&texts), &WANTED, 0, 1).unwrap();
        assert_eq!(Role::ALL.map(|role| count(&roles, role)), [1; 4]);
        let message = carve(&plain(&texts[1..]), &WANTED, 0, 1).unwrap_err().to_string();
        assert_eq!(message, "3 separate rows or groups cannot be divided into 4 roles (train, test, calibrate, tune)");
    }

    #[test]
    fn a_group_too_large_for_a_role_stays_in_train() {
        let texts = numbered(100);
        let rows: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| Ties { text, group: Some(if index < 90 { "large" } else { text.as_str() }) })
            .collect();
        for seed in 0..20 {
            let roles = carve(&rows, &[(Role::Tune, 0.05)], 0, seed).unwrap();
            assert_eq!(count(&roles, Role::Tune), 5);
            assert!(roles[..90].iter().all(|role| *role == Role::Train));
        }
    }

    proptest! {
        #[test]
        fn tied_rows_share_a_role_every_role_has_rows_and_the_seed_decides(
            rows in prop::collection::vec((0u8..40, prop::option::of(0u8..12)), 1..120),
            spared in 0usize..60,
            seed: u64,
        ) {
            let owned: Vec<(String, Option<String>)> = rows.iter()
                .map(|(text, group)| (text.to_string(), group.map(|group| group.to_string()))).collect();
            let ties: Vec<Ties<'_>> = owned.iter().map(|(text, group)| Ties { text, group: group.as_deref() }).collect();
            let Ok(roles) = carve(&ties, &WANTED, spared, seed) else {
                prop_assert!(bundles(&ties).len() < 4);
                return Ok(());
            };
            prop_assert_eq!(roles.len(), rows.len());
            for role in Role::ALL {
                prop_assert!(roles.contains(&role));
            }
            for (first, one) in ties.iter().enumerate() {
                for (second, other) in ties.iter().enumerate() {
                    if one.text == other.text || (one.group.is_some() && one.group == other.group) {
                        prop_assert_eq!(roles[first], roles[second]);
                    }
                }
            }
            prop_assert_eq!(&roles, &carve(&ties, &WANTED, spared, seed).unwrap());
        }
    }
}
