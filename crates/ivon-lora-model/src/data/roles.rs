//! Sources → roles: each file has the role it is named after, rows that also occur in a later role
//! are dropped from the earlier one, and roles without a file are carved.

use std::collections::{BTreeMap, HashSet};

use super::account::Drops;
use super::config::DataConfig;
use super::error::DataError;
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
        let text = example.prompt.text();
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
        let texts = examples.iter().map(|example| example.prompt.text());
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
    let texts: Vec<String> = train.iter().map(|example| example.prompt.text()).collect();
    let ties = ties(task, &texts, &train);
    let carved = carve(&ties, &wanted, config.train_limit.unwrap_or(0), config.seed)?;
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
            examples.truncate(limit);
        }
    }
}
