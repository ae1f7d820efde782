//! Sources → roles: each file has the role it is named after, rows that also occur in a later role
//! are dropped from the earlier one, and roles without a file are carved.

use std::collections::{BTreeMap, HashSet};

use super::account::Drops;
use super::config::DataConfig;
use super::error::DataError;
use super::first_rows::unlike_the_whole;
use super::folder::Split;
use super::load_report::LoadReport;
use super::role::Role;
use super::source::Source;
use super::split::{Ties, carve};
use super::task::{DropReason, Example, Form, Task};

/// The examples of each role.
pub(super) type Roles = BTreeMap<Role, Vec<Example>>;

/// Gives each source the role of its name.
pub(super) fn assign(
    config: &DataConfig,
    sources: &mut BTreeMap<Split, Source>,
    report: &mut LoadReport,
) -> Roles {
    if sources
        .get(&Split::Test)
        .is_some_and(|test| test.unlabelled)
    {
        sources.remove(&Split::Test);
        report.test_is_unlabelled = true;
        let note = "the test file has no labels and is left aside";
        report.notes.push(note.into());
    }
    let mut plan = vec![
        (Role::Train, Split::Train),
        (Role::Tune, Split::Tune),
        (Role::Calibrate, Split::Calibrate),
    ];
    match role_of_validation(config, sources, report) {
        Some(Role::Test) => plan.push((Role::Test, Split::Validation)),
        role => {
            plan.push((Role::Test, Split::Test));
            plan.extend(role.map(|role| (role, Split::Validation)));
        }
    }
    let mut roles = Roles::new();
    for (role, split) in plan {
        if let Some(source) = sources.remove(&split) {
            report.sources.insert(role, split);
            roles.insert(role, source.examples);
        }
    }
    roles
}

/// Test or tune, if there is a validation file and it is used.
fn role_of_validation(
    config: &DataConfig,
    sources: &BTreeMap<Split, Source>,
    report: &mut LoadReport,
) -> Option<Role> {
    let has = |split| sources.contains_key(&split);
    if !has(Split::Validation) {
        return None;
    }
    let (role, note) = match config.test_from {
        Some(Split::Validation) => (
            Some(Role::Test),
            Some("validation is the test set, as asked for"),
        ),
        None if !has(Split::Test) => (
            Some(Role::Test),
            Some("no test file is there, so validation is the test set"),
        ),
        _ if has(Split::Tune) => (
            None,
            Some("the validation file is not used, since there are files for tune and test"),
        ),
        _ => (Some(Role::Tune), None),
    };
    report.validation_is_test = role == Some(Role::Test);
    report.notes.extend(note.map(String::from));
    role
}

/// The prompts and groups of later roles.
#[derive(Default)]
struct Later {
    texts: BTreeMap<Role, HashSet<String>>,
    groups: BTreeMap<Role, HashSet<String>>,
}

impl Later {
    /// Why an example must be dropped, if it must: the first later role that has its prompt, or
    /// else its group.
    fn reason(&self, example: &Example) -> Option<DropReason> {
        let text = example.own_text();
        let mut texts = self.texts.iter();
        if let Some((role, _)) = texts.find(|(_, texts)| texts.contains(&text)) {
            return Some(DropReason::TextAlsoIn(*role));
        }
        let group = example.group.as_ref()?;
        let mut groups = self.groups.iter();
        let (role, _) = groups.find(|(_, groups)| groups.contains(group))?;
        Some(DropReason::GroupAlsoIn(*role))
    }

    fn add(&mut self, role: Role, examples: &[Example]) {
        let texts = examples.iter().map(|example| example.own_text());
        self.texts.insert(role, texts.collect());
        let groups = examples.iter().filter_map(|example| example.group.clone());
        self.groups.insert(role, groups.collect());
    }
}

/// Drops from each role the examples that also occur in a later one.
pub(super) fn close_leaks(roles: &mut Roles, report: &mut LoadReport) {
    let mut later = Later::default();
    for (role, examples) in roles.iter_mut().rev() {
        let before = examples.len();
        let mut dropped = Drops::default();
        examples.retain(|example| match later.reason(example) {
            Some(reason) => {
                dropped.add(reason, &example.id);
                false
            }
            None => true,
        });
        report.notes.extend(dropped.sentences(role.name(), before));
        report.dropped.merge(&dropped);
        if *role == Role::Train {
            break;
        }
        later.add(*role, examples);
    }
}

/// Carves the roles without a file from train, if there is a train file.
pub(super) fn carve_missing(
    config: &DataConfig,
    task: &Task,
    roles: &mut Roles,
    report: &mut LoadReport,
) -> Result<(), DataError> {
    // In the order of importance: with few rows, test is the last to go without.
    let shares = [
        (Role::Test, config.test_share),
        (Role::Calibrate, config.calibrate_share),
        (Role::Tune, config.tune_share),
    ];
    let wanted: Vec<(Role, f64)> = shares
        .into_iter()
        .filter(|(role, share)| *share > 0.0 && !roles.contains_key(role))
        .collect();
    let Some(train) = roles.remove(&Role::Train).filter(|train| !train.is_empty()) else {
        return Ok(());
    };
    let spared = config.train_limit.unwrap_or(0);
    let carved = carved(task, &train, &wanted, spared, config.seed)?;
    for (example, role) in train.into_iter().zip(carved) {
        roles.entry(role).or_default().push(example);
    }
    report.carved = wanted.iter().map(|(role, _)| *role).collect();
    report.carved.sort_unstable();
    for role in &report.carved {
        report.sources.insert(*role, Split::Train);
    }
    Ok(())
}

/// What decides which of the `examples`, with these prompts, stay together.
fn ties<'a>(task: &Task, texts: &'a [String], examples: &'a [Example]) -> Vec<Ties<'a>> {
    // The letters of multiple choice mean something different in every row, so they are no classes.
    let has_classes = matches!(task.form, Form::Template { .. });
    let rows = texts.iter().zip(examples);
    rows.map(|(text, example)| Ties {
        text,
        group: example.group.as_deref(),
        class: example.label.filter(|_| has_classes),
    })
    .collect()
}

/// The role of each row where these shares of them are carved.
fn carved(
    task: &Task,
    rows: &[Example],
    wanted: &[(Role, f64)],
    spared: usize,
    seed: u64,
) -> Result<Vec<Role>, DataError> {
    let texts: Vec<String> = rows.iter().map(|example| example.own_text()).collect();
    let ties = ties(task, &texts, rows);
    carve(&ties, wanted, spared, seed)
}

/// Divides rows in two by a seed, as roles are carved: `count` of them, with its share of each class
/// and equal prompts and groups together, and the others. Both keep their order.
///
/// # Errors
/// [`DataError::TooFewRows`] if there are not enough rows that are not tied to each other.
pub fn divide(
    task: &Task,
    rows: &[Example],
    count: usize,
    seed: u64,
) -> Result<[Vec<Example>; 2], DataError> {
    if count == 0 || count >= rows.len() {
        let (taken, left) = rows.split_at(count.min(rows.len()));
        return Ok([taken.to_vec(), left.to_vec()]);
    }
    let share = count as f64 / rows.len() as f64;
    let roles = carved(task, rows, &[(Role::Calibrate, share)], 0, seed)?;
    let of = |is_taken: bool| {
        let rows = rows.iter().zip(&roles);
        let rows = rows.filter(|(_, role)| (**role == Role::Calibrate) == is_taken);
        rows.map(|(example, _)| example.clone()).collect()
    };
    Ok([of(true), of(false)])
}

/// Keeps the first examples of each role, up to the limits.
pub(super) fn limit(config: &DataConfig, roles: &mut Roles, report: &mut LoadReport) {
    for role in Role::ALL {
        let limit = match role {
            Role::Train => config.train_limit,
            _ => config.eval_limit,
        };
        let examples = roles.entry(role).or_default();
        if let Some(limit) = limit.filter(|limit| *limit < examples.len()) {
            report.beyond_limit.insert(role, examples.len() - limit);
            let warning = unlike_the_whole(role.name(), examples, limit);
            report.warnings.extend(warning);
            examples.truncate(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataConfig;

    #[test]
    fn rows_are_divided_with_the_share_of_each_class() {
        let config = DataConfig {
            task: Some("sst2".into()),
            ..DataConfig::default()
        };
        let task = Task::from_config(&config).unwrap();
        let answers: std::sync::Arc<[String]> = ["Negative".to_string(), "Positive".into()].into();
        // A file that is sorted by label, a quarter positive.
        let row = |index: usize| Example {
            label: Some(usize::from(index >= 60)),
            ..Example::from_prompt(
                index.to_string(),
                index.to_string(),
                std::sync::Arc::clone(&answers),
            )
        };
        let rows: Vec<Example> = (0..80).map(row).collect();
        let positive = |rows: &[Example]| rows.iter().filter(|row| row.label == Some(1)).count();
        let [taken, left] = divide(&task, &rows, 20, 0).unwrap();
        assert_eq!([taken.len(), left.len()], [20, 60]);
        assert_eq!([positive(&taken), positive(&left)], [5, 15]);
        let ids = |rows: &[Example]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&divide(&task, &rows, 20, 0).unwrap()[0]), ids(&taken));
        assert_ne!(ids(&divide(&task, &rows, 20, 1).unwrap()[0]), ids(&taken));
        for count in [0, 80] {
            assert_eq!(divide(&task, &rows, count, 0).unwrap()[0].len(), count);
        }
    }
}
