//! Scores of classes → tables and sentences, which show what an accuracy alone hides.

use super::classes::Classes;
use super::finding::{Finding, Severity};
use super::scores::Scores;
use super::table::Table;

/// The most classes of a table, which then has the most frequent ones.
const MOST: usize = 30;
/// The most classes whose confusion matrix is shown.
const MOST_CONFUSED: usize = 12;

/// The name of a class: its answer word, or its number if words are not known.
fn name(answers: &[String], class: usize) -> String {
    answers
        .get(class)
        .cloned()
        .unwrap_or_else(|| class.to_string())
}

/// Precision, recall and F1 of each class, with the number of rows that have it as their label and as
/// their answer; the share of the rows that have it beside its mean probability, and its ECE.
pub fn class_table(classes: &Classes, answers: &[String]) -> Table {
    let head = [
        "class",
        "rows",
        "answered",
        "precision",
        "recall",
        "F1",
        "share",
        "mean probability",
        "ECE",
    ];
    let mut order: Vec<usize> = (0..classes.classes.len()).collect();
    if order.len() > MOST {
        order.sort_by_key(|&class| std::cmp::Reverse(classes.classes[class].support));
        order.truncate(MOST);
    }
    Table {
        head: head.map(String::from).to_vec(),
        rows: order
            .into_iter()
            .map(|class| class_row(classes, answers, class))
            .collect(),
    }
}

fn class_row(classes: &Classes, answers: &[String], class: usize) -> Vec<String> {
    let scores = classes.classes[class];
    let answered: usize = classes.confusion.iter().map(|row| row[class]).sum();
    let rows: usize = classes.classes.iter().map(|class| class.support).sum();
    let known = |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
    vec![
        name(answers, class),
        scores.support.to_string(),
        answered.to_string(),
        share(scores.precision, answered),
        share(scores.recall, scores.support),
        share(scores.f1, scores.support + answered),
        share(scores.support as f64 / rows as f64, rows),
        known(scores.probability),
        known(scores.ece),
    ]
}

/// A share of this many rows; a dash if there are none.
fn share(value: f64, of: usize) -> String {
    match of {
        0 => "–".to_string(),
        _ => format!("{value:.3}"),
    }
}

/// The confusion matrix, rows by label and columns by answer; none if there are too many classes to
/// look at.
pub fn confusion_table(classes: &Classes, answers: &[String]) -> Option<Table> {
    let count = classes.classes.len();
    if count > MOST_CONFUSED {
        return None;
    }
    let answer = |class: usize| format!("answered {}", name(answers, class));
    let head = std::iter::once("label".to_string())
        .chain((0..count).map(answer))
        .collect();
    let row = |class: usize| {
        std::iter::once(name(answers, class))
            .chain(classes.confusion[class].iter().map(usize::to_string))
            .collect()
    };
    Some(Table {
        head,
        rows: (0..count).map(row).collect(),
    })
}

/// "the most frequent label, `Positive`, has 91.7 % of the rows: accuracy without a model".
pub fn majority_sentence(classes: &Classes, answers: &[String]) -> String {
    let count = classes.classes.len();
    let support = |class: usize| classes.classes[class].support;
    let most = (0..count).fold(0, |most, class| {
        if support(class) > support(most) {
            class
        } else {
            most
        }
    });
    let left_out = count.saturating_sub(MOST);
    let others = if left_out == 0 {
        String::new()
    } else {
        format!("; {left_out} rarer classes are not shown")
    };
    format!(
        "the most frequent label, `{}`, has {:.1} % of the rows, the accuracy of a guess without a model{others}",
        name(answers, most),
        100.0 * classes.majority
    )
}

/// What the accuracy of an evaluation hides.
pub fn class_findings(scores: &Scores, answers: &[String], split: &str) -> Vec<Finding> {
    let Some(classes) = &scores.classes else {
        return Vec::new();
    };
    let count = classes.classes.len();
    let has_rows = |class: usize| classes.classes[class].support > 0;
    let label = only(count, has_rows);
    let answer = only(count, |class| {
        classes.confusion.iter().any(|row| row[class] > 0)
    });
    let mut found = Vec::new();
    if let Some(label) = label {
        found.push(one_label(scores.n, split, &name(answers, label)));
    } else if let Some(answer) = answer {
        let share = classes.classes[answer].support as f64 / scores.n as f64;
        found.push(one_answer(scores.n, split, &name(answers, answer), share));
    } else if scores.accuracy <= classes.majority {
        found.push(not_above_majority(scores.accuracy, split, classes.majority));
    }
    let missing = (0..count).filter(|&class| label.is_none() && !has_rows(class));
    found.extend(missing.map(|class| no_row(split, &name(answers, class))));
    found
}

/// The only one of several classes of which `has` holds.
fn only(count: usize, has: impl Fn(usize) -> bool) -> Option<usize> {
    let mut with = (0..count).filter(|&class| has(class));
    with.next().filter(|_| with.next().is_none() && count > 1)
}

fn one_label(n: usize, split: &str, label: &str) -> Finding {
    Finding {
        severity: Severity::Problem,
        what: format!("all {n} rows of {split} have the label `{label}`: no score says anything"),
        remedy: "add rows of the other labels, and check that labels are read from the right field"
            .into(),
    }
}

/// `share` is the share of rows whose label is that answer.
fn one_answer(n: usize, split: &str, answer: &str, share: f64) -> Finding {
    let share = 100.0 * share;
    Finding {
        severity: Severity::Problem,
        what: format!(
            "one answer for all: `{answer}` is the answer to each of the {n} rows of {split}, and the label of {share:.1} %"
        ),
        remedy: "train for more steps or with a higher learning rate, or add rows of the other labels; go by precision and recall, not accuracy"
            .into(),
    }
}

fn not_above_majority(accuracy: f64, split: &str, majority: f64) -> Finding {
    Finding {
        severity: Severity::Warning,
        what: format!(
            "the accuracy of {accuracy:.3} on {split} is not above {majority:.3}, the share of the most frequent label"
        ),
        remedy: "train for more steps, or add rows of the rarer labels; go by precision and recall, not accuracy"
            .into(),
    }
}

fn no_row(split: &str, label: &str) -> Finding {
    Finding {
        severity: Severity::Note,
        what: format!(
            "no row of {split} has the label `{label}`: how well it is told apart is not known"
        ),
        remedy: "add rows with that label".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Bootstrap, Predictions};

    /// Scores of answers that are certain.
    fn scores(labels: &[usize], answers: &[usize]) -> Scores {
        let certain = |answer: &usize| {
            (0..3)
                .map(|choice| if choice == *answer { 0.8 } else { 0.1 })
                .collect()
        };
        let predictions =
            Predictions::from_probabilities(answers.iter().map(certain).collect(), labels.to_vec());
        Scores::of(
            &predictions.unwrap(),
            true,
            &Bootstrap {
                resamples: 2,
                ..Bootstrap::default()
            },
        )
    }

    fn words() -> Vec<String> {
        ["No", "Yes", "Maybe"].map(String::from).to_vec()
    }

    #[test]
    fn a_table_shows_what_each_class_gets() {
        let found = scores(&[0, 0, 0, 1, 1], &[0, 0, 1, 1, 0]).classes.unwrap();
        let text = class_table(&found, &words()).to_text();
        assert_eq!(
            text,
            "class  rows  answered  precision  recall     F1  share  mean probability    ECE\n\
             No        3         3      0.667   0.667  0.667  0.600             0.520  0.240\n\
             Yes       2         2      0.500   0.500  0.500  0.400             0.380  0.260\n\
             Maybe     0         0          –       –      –  0.000             0.100  0.100\n"
        );
        let confusion = confusion_table(&found, &words()).unwrap().to_text();
        assert_eq!(
            confusion,
            "label  answered No  answered Yes  answered Maybe\n\
             No               2             1               0\n\
             Yes              1             1               0\n\
             Maybe            0             0               0\n"
        );
        assert_eq!(
            majority_sentence(&found, &words()),
            "the most frequent label, `No`, has 60.0 % of the rows, the accuracy of a guess without a model"
        );
    }

    #[test]
    fn of_many_classes_the_most_frequent_are_shown_and_no_matrix() {
        let confusion: Vec<Vec<usize>> = (0..40)
            .map(|label| {
                (0..40)
                    .map(|answer| if label == answer { label } else { 0 })
                    .collect()
            })
            .collect();
        let class = |support| crate::metrics::ClassScores {
            support,
            precision: 1.0,
            recall: 1.0,
            f1: 1.0,
            probability: None,
            ece: None,
        };
        let classes = Classes {
            confusion,
            classes: (0..40).map(class).collect(),
            macro_f1: 1.0,
            majority: 0.05,
        };
        let table = class_table(&classes, &[]);
        assert_eq!((table.rows.len(), table.rows[0][0].as_str()), (MOST, "39"));
        assert_eq!(confusion_table(&classes, &[]), None);
        assert!(majority_sentence(&classes, &[]).ends_with("10 rarer classes are not shown"));
    }

    #[test]
    fn one_answer_for_all_and_an_accuracy_no_better_than_a_guess_are_found() {
        let of = |labels: &[usize], answers: &[usize]| {
            class_findings(&scores(labels, answers), &words(), "test")
        };
        let one = of(&[0, 0, 0, 1, 2], &[0, 0, 0, 0, 0]);
        assert_eq!(
            one[0].what,
            "one answer for all: `No` is the answer to each of the 5 rows of test, and the label of 60.0 %"
        );
        let guess = of(&[0, 0, 0, 1, 2], &[0, 0, 1, 0, 2]);
        assert_eq!(guess.len(), 1);
        assert!(
            guess[0]
                .what
                .starts_with("the accuracy of 0.600 on test is not above 0.600"),
            "{guess:?}"
        );
        let label = of(&[1, 1, 1], &[0, 1, 1]);
        assert_eq!(label.len(), 1);
        assert_eq!(
            label[0].what,
            "all 3 rows of test have the label `Yes`: no score says anything"
        );
        let lacking = of(&[0, 1, 1], &[0, 1, 1]);
        assert_eq!(
            lacking[0].what,
            "no row of test has the label `Maybe`: how well it is told apart is not known"
        );
        assert_eq!(of(&[0, 1, 2], &[0, 1, 2]), []);
    }
}
