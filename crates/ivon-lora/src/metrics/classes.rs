//! Predictions whose rows all have the same answers → confusion matrix, and precision, recall and
//! F1 of each class.

use serde::{Deserialize, Serialize};

use super::Predictions;
use super::predictions::mean;

/// How one class fares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Rows with this label.
    pub support: usize,
    /// Share of rows answered so that have this label; 0 where none is answered so.
    pub precision: f64,
    /// Share of rows with this label that are answered so; 0 where none has it.
    pub recall: f64,
    /// Harmonic mean of both; 0 where both are.
    pub f1: f64,
}

/// How the classes are told apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    /// `confusion[label][answer]`: number of rows.
    pub confusion: Vec<Vec<usize>>,
    /// One entry per class.
    pub classes: Vec<ClassScores>,
    /// Mean of F1 over the classes that some row has as label or answer.
    pub macro_f1: f64,
    /// Share of the most frequent label: what a guess without a model reaches.
    pub majority: f64,
}

/// Class by class scores; none where rows differ in their number of choices. Whether equal numbers
/// mean equal answers the caller knows: for letters of multiple choice they do not.
pub fn class_scores(predictions: &Predictions) -> Option<Classes> {
    let count = predictions.probabilities().first()?.len();
    if predictions
        .probabilities()
        .iter()
        .any(|row| row.len() != count)
    {
        return None;
    }
    let mut confusion = vec![vec![0usize; count]; count];
    for (&label, answer) in predictions.labels().iter().zip(predictions.answers()) {
        confusion[label][answer] += 1;
    }
    let share = |part: usize, whole: usize| {
        if whole == 0 {
            0.0
        } else {
            part as f64 / whole as f64
        }
    };
    let score = |class: usize| {
        let right = confusion[class][class];
        let support: usize = confusion[class].iter().sum();
        let answered: usize = confusion.iter().map(|row| row[class]).sum();
        let f1 = share(2 * right, support + answered);
        (
            ClassScores {
                support,
                precision: share(right, answered),
                recall: share(right, support),
                f1,
            },
            answered,
        )
    };
    let scored: Vec<_> = (0..count).map(score).collect();
    let present: Vec<f64> = scored
        .iter()
        .filter(|(class, answered)| class.support + answered > 0)
        .map(|(class, _)| class.f1)
        .collect();
    let classes: Vec<ClassScores> = scored.into_iter().map(|(class, _)| class).collect();
    let majority = classes.iter().map(|class| class.support).max().unwrap_or(0) as f64
        / predictions.len() as f64;
    Some(Classes {
        confusion,
        classes,
        macro_f1: mean(&present),
        majority,
    })
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
