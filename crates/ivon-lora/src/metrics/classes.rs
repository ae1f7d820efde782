//! Predictions whose rows all have the same answers → confusion matrix, and precision, recall and
//! F1 of each class.

use serde::{Deserialize, Serialize};

use super::Predictions;
use super::predictions::mean;

/// The scores of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Rows with this label.
    pub support: usize,
    /// Share of the rows with this answer that have this label; 0 if no row has this answer.
    pub precision: f64,
    /// Share of the rows with this label that have this answer; 0 if no row has this label.
    pub recall: f64,
    /// Harmonic mean of both; 0 if both are.
    pub f1: f64,
}

/// How well the classes are told apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    /// `confusion[label][answer]`: number of rows.
    pub confusion: Vec<Vec<usize>>,
    /// One entry per class.
    pub classes: Vec<ClassScores>,
    /// Mean of F1 over the classes that some row has as label or answer.
    pub macro_f1: f64,
    /// Share of the most frequent label: the accuracy of a guess without a model.
    pub majority: f64,
}

/// The scores of each class; none if rows differ in their number of choices. The caller knows whether
/// a choice means the same in all rows, which the letters of multiple choice do not.
pub fn class_scores(predictions: &Predictions) -> Option<Classes> {
    let rows = predictions.probabilities();
    let count = rows.first()?.len();
    if rows.iter().any(|row| row.len() != count) {
        return None;
    }
    let mut confusion = vec![vec![0usize; count]; count];
    for (&label, answer) in predictions.labels().iter().zip(predictions.answers()) {
        confusion[label][answer] += 1;
    }
    let answered: Vec<usize> = (0..count)
        .map(|class| confusion.iter().map(|row| row[class]).sum())
        .collect();
    let classes: Vec<ClassScores> = (0..count)
        .map(|class| class_of(&confusion[class], class, answered[class]))
        .collect();
    let present = classes.iter().zip(answered);
    let present = present.filter(|(class, answered)| class.support + answered > 0);
    let present: Vec<f64> = present.map(|(class, _)| class.f1).collect();
    let largest = classes.iter().map(|class| class.support).max();
    Some(Classes {
        macro_f1: mean(&present),
        majority: largest.unwrap_or(0) as f64 / predictions.len() as f64,
        confusion,
        classes,
    })
}

/// The scores of a class from its row of the confusion matrix and the rows that are answered so.
fn class_of(row: &[usize], class: usize, answered: usize) -> ClassScores {
    let (right, support) = (row[class], row.iter().sum());
    ClassScores {
        support,
        precision: share(right, answered),
        recall: share(right, support),
        f1: share(2 * right, support + answered),
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confusion_matrix_that_can_be_done_by_hand() {
        let certain = |answer: usize| {
            (0..3)
                .map(|choice| f64::from(u8::from(choice == answer)))
                .collect::<Vec<f64>>()
        };
        let (labels, answers) = ([0, 0, 0, 1, 1], [0, 0, 1, 1, 0]);
        let predictions =
            Predictions::from_probabilities(answers.map(certain).into(), labels.into()).unwrap();
        let found = class_scores(&predictions).unwrap();
        assert_eq!(found.confusion, [[2, 1, 0], [1, 1, 0], [0, 0, 0]]);
        let two_thirds = 2.0 / 3.0;
        assert_eq!(
            found.classes[0],
            ClassScores {
                support: 3,
                precision: two_thirds,
                recall: two_thirds,
                f1: two_thirds
            }
        );
        assert_eq!(
            found.classes[1],
            ClassScores {
                support: 2,
                precision: 0.5,
                recall: 0.5,
                f1: 0.5
            }
        );
        assert_eq!(
            found.classes[2],
            ClassScores {
                support: 0,
                precision: 0.0,
                recall: 0.0,
                f1: 0.0
            }
        );
        assert_eq!(
            (found.macro_f1, found.majority),
            ((two_thirds + 0.5) / 2.0, 0.6)
        );
    }

    #[test]
    fn rows_with_different_numbers_of_choices_have_no_classes() {
        let predictions =
            Predictions::from_probabilities(vec![vec![1.0], vec![0.5, 0.5]], vec![0, 0]).unwrap();
        assert_eq!(class_scores(&predictions), None);
    }
}
