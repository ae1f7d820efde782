//! How roles without a file are carved from the training file.
//!
//! Rows with the same prompt and rows of the same group stay in one role, so that no role gives
//! away an answer of another; apart from that the split is stratified: each role gets its share of
//! every class.

use std::collections::{BTreeMap, HashMap};

use super::error::DataError;
use super::role::Role;
use crate::random::{Purpose, shuffle, stream};

/// What decides which rows stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ties<'a> {
    /// The prompt.
    pub text: &'a str,
    /// The group.
    pub group: Option<&'a str>,
    /// The class, if answers mean the same in every row; the split is stratified by it.
    pub class: Option<usize>,
}

/// Assigns a role to each row of the training file.
///
/// `wanted` are the roles to carve, each with its share of the rows, above 0; the shares sum to
/// less than 1. Bundles of tied rows are shuffled by `seed`. Each role in turn takes the bundles
/// that fit into round(share · rows), at least one row, and of each class as many rows as its share
/// of the file (by largest remainders); the rest is train. If the bundles do not fit both, as with
/// large groups of mixed classes, the number of rows matters more than the classes. Bundles
/// entirely after the first `spared` rows are taken first, so that a run limited to the first N
/// rows trains on just those whenever the file is long enough.
///
/// # Errors
/// [`DataError::TooFewRows`] if there are fewer bundles than roles.
pub fn carve(
    rows: &[Ties<'_>],
    wanted: &[(Role, f64)],
    spared: usize,
    seed: u64,
) -> Result<Vec<Role>, DataError> {
    let mut roles = vec![Role::Train; rows.len()];
    if wanted.is_empty() {
        return Ok(roles);
    }
    let mut bundles = bundles(rows);
    check_count(bundles.len(), wanted)?;
    shuffle(&mut stream(seed, Purpose::Split, 0, 0, ""), &mut bundles);
    // The sort is stable, so each half stays shuffled.
    bundles.sort_by_key(|bundle| bundle.first().is_some_and(|&first| first < spared));
    for (place, (role, portion)) in wanted.iter().enumerate() {
        let goal = ((portion * rows.len() as f64).round() as usize).max(1);
        // At least one bundle is kept for train and for each role still to come.
        let reserved = wanted.len() - place;
        let mut share = Share {
            rows,
            goal,
            of_class: class_goals(rows, goal, seed, role.name()),
            most: bundles.len() - reserved,
            taken: Vec::new(),
            count: 0,
        };
        bundles = share.fill(bundles, spared);
        for row in share.taken.into_iter().flatten() {
            roles[row] = *role;
        }
    }
    Ok(roles)
}

/// There must be a bundle for each role, including train.
fn check_count(bundles: usize, wanted: &[(Role, f64)]) -> Result<(), DataError> {
    if bundles > wanted.len() {
        return Ok(());
    }
    let names: Vec<&str> = std::iter::once("train")
        .chain(wanted.iter().map(|(role, _)| role.name()))
        .collect();
    Err(DataError::TooFewRows {
        found: bundles,
        needed: names.len(),
        roles: names.join(", "),
    })
}

/// The number of rows of each class for a role of `goal` rows: goal · rows of the class / rows,
/// rounded by largest remainders. Ties between remainders are broken at random for each role, so
/// that no class always loses.
fn class_goals(
    rows: &[Ties<'_>],
    goal: usize,
    seed: u64,
    role: &str,
) -> BTreeMap<Option<usize>, usize> {
    let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    rows.iter()
        .for_each(|row| *counts.entry(row.class).or_default() += 1);
    let mut drawn: Vec<(Option<usize>, usize)> = counts
        .iter()
        .map(|(class, count)| (*class, goal * count))
        .collect();
    shuffle(&mut stream(seed, Purpose::Split, 1, 0, role), &mut drawn);
    drawn.sort_by_key(|(_, share)| std::cmp::Reverse(share % rows.len()));
    let mut goals: BTreeMap<_, _> = drawn
        .iter()
        .map(|(class, share)| (*class, share / rows.len()))
        .collect();
    let missing = goal - goals.values().sum::<usize>();
    for (class, _) in drawn.into_iter().take(missing) {
        *goals.entry(class).or_default() += 1;
    }
    goals
}

/// The rows of a role while they are taken.
struct Share<'a> {
    rows: &'a [Ties<'a>],
    /// The number of rows it may take.
    goal: usize,
    /// The number of rows of each class it may still take.
    of_class: BTreeMap<Option<usize>, usize>,
    /// The number of bundles it may take.
    most: usize,
    taken: Vec<Vec<usize>>,
    count: usize,
}

impl Share<'_> {
    /// Takes bundles, first among those after the first `spared` rows, then among the others, which
    /// come last; returns the rest.
    fn fill(&mut self, mut bundles: Vec<Vec<usize>>, spared: usize) -> Vec<Vec<usize>> {
        let inside = bundles.iter().position(|bundle| bundle[0] < spared);
        let spared_ones = bundles.split_off(inside.unwrap_or(bundles.len()));
        let mut left = self.take(bundles);
        left.extend(self.take(spared_ones));
        self.take_smallest_if_none(&mut left);
        left
    }

    /// Takes, in order, the bundles that fit by class, then those that fit by number; returns the
    /// others.
    fn take(&mut self, bundles: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        let left = self.take_if(bundles, Self::fits_its_classes);
        self.take_if(left, |_, _| true)
    }

    fn take_if(
        &mut self,
        bundles: Vec<Vec<usize>>,
        fits: fn(&Self, &[usize]) -> bool,
    ) -> Vec<Vec<usize>> {
        let mut left = Vec::new();
        for bundle in bundles {
            let has_room = self.count + bundle.len() <= self.goal && self.taken.len() < self.most;
            if has_room && fits(self, &bundle) {
                self.add(bundle);
            } else {
                left.push(bundle);
            }
        }
        left
    }

    fn fits_its_classes(&self, bundle: &[usize]) -> bool {
        let mut of_class: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        bundle
            .iter()
            .for_each(|&row| *of_class.entry(self.rows[row].class).or_default() += 1);
        of_class
            .iter()
            .all(|(class, count)| self.of_class.get(class).is_some_and(|room| count <= room))
    }

    fn add(&mut self, bundle: Vec<usize>) {
        for &row in &bundle {
            if let Some(room) = self.of_class.get_mut(&self.rows[row].class) {
                *room = room.saturating_sub(1);
            }
        }
        self.count += bundle.len();
        self.taken.push(bundle);
    }

    /// Takes the smallest bundle, if none was small enough.
    fn take_smallest_if_none(&mut self, left: &mut Vec<Vec<usize>>) {
        let smallest = (0..left.len()).min_by_key(|&index| left[index].len());
        if let Some(smallest) = smallest.filter(|_| self.taken.is_empty()) {
            let bundle = left.remove(smallest);
            self.add(bundle);
        }
    }
}

/// The connected components of tied rows: bundles of row indices in ascending order, sorted by
/// their first row.
fn bundles(rows: &[Ties<'_>]) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..rows.len()).collect();
    let (mut texts, mut groups) = (HashMap::new(), HashMap::new());
    for (index, row) in rows.iter().enumerate() {
        let same_text = *texts.entry(row.text).or_insert(index);
        let same_group = row
            .group
            .map_or(index, |group| *groups.entry(group).or_insert(index));
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

/// The root of a row's bundle, with path halving.
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
        texts
            .iter()
            .map(|text| Ties {
                text,
                group: None,
                class: None,
            })
            .collect()
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
        let message = carve(&plain(&texts[1..]), &WANTED, 0, 1)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "3 separate rows or groups cannot be divided into 4 roles (train, test, calibrate, tune)"
        );
    }

    #[test]
    fn a_group_too_large_for_a_role_stays_in_train() {
        let texts = numbered(100);
        let rows: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| Ties {
                text,
                group: Some(if index < 90 { "large" } else { text.as_str() }),
                class: None,
            })
            .collect();
        for seed in 0..20 {
            let roles = carve(&rows, &[(Role::Tune, 0.05)], 0, seed).unwrap();
            assert_eq!(count(&roles, Role::Tune), 5);
            assert!(roles[..90].iter().all(|role| *role == Role::Train));
        }
    }

    /// Row i has class `class(i)`.
    fn classed(texts: &[String], class: fn(usize) -> usize) -> Vec<Ties<'_>> {
        texts
            .iter()
            .enumerate()
            .map(|(index, text)| Ties {
                text,
                group: None,
                class: Some(class(index)),
            })
            .collect()
    }

    #[test]
    fn each_role_has_its_share_of_every_class() {
        let texts = numbered(200);
        // 160, 30 and 10 rows; a tenth of them is 16, 3 and 1, a fifth 32, 6 and 2.
        let rows = classed(&texts, |index| {
            [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
                .get(index % 10)
                .map_or(0, |class| *class + usize::from(index % 40 > 37))
        });
        let of = |roles: &[Role], role: Role| {
            let mut found = [0; 3];
            roles
                .iter()
                .zip(&rows)
                .filter(|(one, _)| **one == role)
                .for_each(|(_, row)| found[row.class.unwrap()] += 1);
            found
        };
        for seed in 0..10 {
            let roles = carve(&rows, &WANTED, 0, seed).unwrap();
            let found = Role::ALL.map(|role| of(&roles, role));
            assert_eq!(
                found,
                [[96, 18, 6], [16, 3, 1], [16, 3, 1], [32, 6, 2]],
                "seed {seed}"
            );
        }
    }

    #[test]
    fn a_share_that_is_no_whole_number_is_rounded_and_no_class_always_goes_without() {
        let texts = numbered(30);
        let rows = classed(&texts, |index| index % 2);
        let mut of_class_0 = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let roles = carve(&rows, &[(Role::Tune, 0.1)], 0, seed).unwrap();
            assert_eq!(count(&roles, Role::Tune), 3);
            of_class_0.insert(
                (0..30)
                    .step_by(2)
                    .filter(|&row| roles[row] == Role::Tune)
                    .count(),
            );
        }
        assert_eq!(of_class_0.into_iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_first_rows_are_spared_before_classes_are_looked_at() {
        let texts = numbered(100);
        // Class 1 occurs only among the first 50 rows, which are spared.
        let rows = classed(&texts, |index| usize::from(index < 20));
        let roles = carve(&rows, &WANTED, 50, 1).unwrap();
        assert!(roles[..50].iter().all(|role| *role == Role::Train));
    }

    proptest! {
        #[test]
        fn tied_rows_share_a_role_every_role_has_rows_and_the_seed_decides(
            rows in prop::collection::vec((0u8..40, prop::option::of(0u8..12), 0usize..3), 1..120),
            spared in 0usize..60,
            seed: u64,
        ) {
            let owned: Vec<(String, Option<String>, usize)> = rows.iter()
                .map(|(text, group, class)| (text.to_string(), group.map(|group| group.to_string()), *class)).collect();
            let ties: Vec<Ties<'_>> =
                owned.iter().map(|(text, group, class)| Ties { text, group: group.as_deref(), class: Some(*class) }).collect();
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
