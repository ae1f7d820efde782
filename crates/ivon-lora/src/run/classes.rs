//! What is said, before anything is trained, about labels that are missing from a role, and about the
//! weights of the classes.

use super::data::EncodedRoles;
use crate::data::{EncodedSet, Role};
use crate::train::LossWeights;
use crate::watch::Event;
use crate::words::joined;

/// The largest number of labels in a message.
const NAMED: usize = 5;

/// Warnings about roles in which a label is missing; none if every row has answers of its own.
pub(super) fn missing_classes(answers: &[String], sets: &EncodedRoles) -> Vec<Event<'static>> {
    let sets = [
        (Role::Train, &sets.train),
        (Role::Tune, &sets.tune),
        (Role::Calibrate, &sets.calibrate),
        (Role::Test, &sets.test),
    ];
    warnings(answers, &sets)
        .into_iter()
        .map(|warning| Event::Warning(warning.into()))
        .collect()
}

/// What each class counts in the loss, if not all rows count once.
pub(super) fn weights_note(answers: &[String], weights: &LossWeights) -> Option<String> {
    let weights = weights.by_class();
    let class = |(answer, weight): (&String, &f64)| format!("`{answer}` {weight:.3}");
    let mut named: Vec<String> = answers.iter().zip(weights).take(NAMED).map(class).collect();
    if weights.len() > NAMED {
        named.push(format!("{} others", weights.len() - NAMED));
    }
    (!named.is_empty()).then(|| format!("weights in the loss: {}", joined(&named, "and")))
}

/// One sentence for all roles that lack the same labels.
fn warnings(answers: &[String], sets: &[(Role, &EncodedSet)]) -> Vec<String> {
    let mut found: Vec<(Vec<Role>, Vec<usize>)> = Vec::new();
    for (role, set) in sets.iter().filter(|(_, set)| !set.examples.is_empty()) {
        let has = |class: usize| {
            set.examples
                .iter()
                .any(|example| example.label() == Some(class))
        };
        let missing: Vec<usize> = (0..answers.len()).filter(|&class| !has(class)).collect();
        match found.iter_mut().find(|(_, classes)| *classes == missing) {
            _ if missing.is_empty() => {}
            Some((roles, _)) => roles.push(*role),
            None => found.push((vec![*role], missing)),
        }
    }
    found
        .into_iter()
        .map(|(roles, missing)| sentence(answers, &roles, &missing))
        .collect()
}

fn sentence(answers: &[String], roles: &[Role], missing: &[usize]) -> String {
    let roles = joined(
        &roles
            .iter()
            .map(|role| role.name().to_string())
            .collect::<Vec<_>>(),
        "and",
    );
    let mut present = (0..answers.len()).filter(|class| !missing.contains(class));
    if let (Some(only), None) = (present.next(), present.next()) {
        return format!(
            "every row of {roles} has the label `{}`: there is nothing to tell apart, and no score says anything; is the label in the \
             field that is read?",
            answers[only]
        );
    }
    let mut named: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|&class| format!("`{}`", answers[class]))
        .collect();
    if missing.len() > NAMED {
        named.push(format!("{} others", missing.len() - NAMED));
    }
    format!(
        "no row of {roles} has the label {}: how it is answered is not learned, chosen or scored there",
        joined(&named, "or")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Choices, Encoded, Target};
    use crate::train::ClassWeights;

    fn set(labels: &[usize]) -> EncodedSet {
        let example = |(row, &label): (usize, &usize)| Encoded {
            id: row.to_string(),
            key: row as u64,
            tokens: vec![1],
            target: Target::Choice {
                choices: Choices::Tokens(vec![2, 3]),
                label: Some(label),
            },
        };
        EncodedSet {
            examples: labels.iter().enumerate().map(example).collect(),
            ..EncodedSet::default()
        }
    }

    fn said(answers: &[&str], train: &[usize], tune: &[usize], test: &[usize]) -> Vec<String> {
        let answers: Vec<String> = answers.iter().map(|word| word.to_string()).collect();
        let (train, tune, test) = (set(train), set(tune), set(test));
        warnings(
            &answers,
            &[
                (Role::Train, &train),
                (Role::Tune, &tune),
                (Role::Test, &test),
            ],
        )
    }

    #[test]
    fn one_label_alone_is_warned_of_once_for_all_roles() {
        let found = said(&["No", "Yes"], &[1, 1], &[1], &[1]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(
                "every row of train, tune and test has the label `Yes`: there is nothing"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_label_that_a_role_lacks_is_named_with_the_role() {
        let found = said(&["No", "Yes", "Maybe"], &[0, 1, 2], &[0, 2], &[0, 1]);
        let starts = [
            "no row of tune has the label `Yes`: ",
            "no row of test has the label `Maybe`: ",
        ];
        assert!(
            found
                .iter()
                .zip(starts)
                .all(|(found, start)| found.starts_with(start)),
            "{found:?}"
        );
        assert_eq!(
            said(&["No", "Yes"], &[0, 1], &[], &[1, 0]),
            Vec::<String>::new()
        );
        assert_eq!(said(&[], &[0, 1], &[1], &[1]), Vec::<String>::new());
    }

    #[test]
    fn weights_are_named_with_their_answers() {
        let words = |count: usize| (0..count).map(|word| word.to_string()).collect::<Vec<_>>();
        let said = |weights: Vec<f64>| {
            let rows = vec![1; weights.len()];
            let weights = ClassWeights::ByAnswer(weights).of(&rows).unwrap();
            weights_note(&words(rows.len()), &weights)
        };
        let two = said(vec![100.0 / 190.0, 10.0]);
        assert_eq!(
            two.unwrap(),
            "weights in the loss: `0` 0.526 and `1` 10.000"
        );
        assert!(
            said(vec![1.0; 7])
                .unwrap()
                .ends_with("`4` 1.000 and 2 others")
        );
        assert_eq!(weights_note(&words(2), &LossWeights::default()), None);
    }

    #[test]
    fn of_many_labels_a_few_are_named() {
        let words: Vec<String> = (0..9).map(|word| word.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let found = said(&words, &[0, 1], &[0, 1], &[0, 1]);
        assert!(
            found[0].contains("`2`, `3`, `4`, `5`, `6` or 2 others"),
            "{found:?}"
        );
    }
}
