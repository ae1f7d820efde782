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
pub(super) fn cast(
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
    let wants_validation = config.test_from == Some(Split::Validation);
    let lacks_test = config.test_from.is_none() && !sources.contains_key(&Split::Test);
    report.validation_is_test =
        sources.contains_key(&Split::Validation) && (wants_validation || lacks_test);
    let mut plan = vec![
        (Role::Train, Split::Train),
        (Role::Tune, Split::Tune),
        (Role::Calibrate, Split::Calibrate),
    ];
    if report.validation_is_test {
        report.notes.push(if wants_validation {
            "validation is the test set, as asked for".into()
        } else {
            "no test file is there, so validation is the test set".into()
        });
        plan.push((Role::Test, Split::Validation));
    } else {
        plan.push((Role::Test, Split::Test));
        let has_tune = sources.contains_key(&Split::Tune);
        match sources.contains_key(&Split::Validation) {
            true if has_tune => {
                let note =
                    "the validation file is not used, since there are files for tune and test";
                report.notes.push(note.into());
            }
            true => plan.push((Role::Tune, Split::Validation)),
            false => {}
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
    // The letters of multiple choice mean something different in every row, so they are no classes.
    let class = |example: &Example| {
        example
            .label
            .filter(|_| matches!(task.form, Form::Template { .. }))
    };
    let rows = texts.iter().zip(&train);
    let ties: Vec<Ties<'_>> = rows
        .map(|(text, example)| Ties {
            text,
            group: example.group.as_deref(),
            class: class(example),
        })
        .collect();
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
