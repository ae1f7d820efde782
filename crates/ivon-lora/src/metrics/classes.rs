//! Predictions whose rows all have the same answers → confusion matrix, and precision, recall, F1 and
//! calibration of each class.

use serde::{Deserialize, Serialize};

use super::Predictions;
use super::calibration::{BINS, bins_of, expected_error};
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
    /// The mean over all rows of the probability of this class; its share of the rows, if the class is
    /// calibrated. None in files that were written without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The ECE of the probability of this class as that of a yes or no, over [`BINS`] bins of all rows
    /// (class-wise ECE: Kull et al., arXiv 1910.12656, whose score is the mean over classes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
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
        .map(|class| ClassScores {
            probability: Some(mean_probability(rows, class)),
            ece: Some(class_ece(rows, predictions.labels(), class)),
            ..told_apart(&confusion[class], class, answered[class])
        })
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

/// The mean over rows of the probability of a class.
fn mean_probability(rows: &[Vec<f64>], class: usize) -> f64 {
    let of_class: Vec<f64> = rows.iter().map(|row| row[class]).collect();
    mean(&of_class)
}

/// Σ share of a bin · |share of the class in it − mean probability of the class in it|.
fn class_ece(rows: &[Vec<f64>], labels: &[usize], class: usize) -> f64 {
    let rows = rows.iter().zip(labels);
    let rows = rows.map(|(row, &label)| (row[class], label == class, 1.0));
    expected_error(&bins_of(rows, BINS))
}

/// The scores of a class from its row of the confusion matrix and the rows that are answered so.
fn told_apart(row: &[usize], class: usize, answered: usize) -> ClassScores {
    let (right, support) = (row[class], row.iter().sum());
    ClassScores {
        support,
        precision: share(right, answered),
        recall: share(right, support),
        f1: share(2 * right, support + answered),
        probability: None,
        ece: None,
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
        // All three are shares that are the same here; certain answers are off by 1 where wrong.
        let class = |support, share, probability, ece| ClassScores {
            support,
            precision: share,
            recall: share,
            f1: share,
            probability: Some(probability),
            ece: Some(ece),
        };
        let expected = [
            class(3, two_thirds, 0.6, 0.4),
            class(2, 0.5, 0.4, 0.4),
            class(0, 0.0, 0.0, 0.0),
        ];
        for (found, expected) in found.classes.iter().zip(expected) {
            let rounded = ClassScores {
                ece: found.ece.map(|ece| (1e9 * ece).round() / 1e9),
                ..*found
            };
            assert_eq!(rounded, expected);
        }
        assert_eq!(
            (found.macro_f1, found.majority),
            ((two_thirds + 0.5) / 2.0, 0.6)
        );
    }

    #[test]
    fn the_calibration_of_a_class_is_of_its_probability_in_all_rows() {
        // Of class 1: four rows at 0.25, of which one has it, and two at 0.65, of which both have it.
        let row = |p: f64| vec![1.0 - p, p];
        let rows = [0.25, 0.25, 0.25, 0.25, 0.65, 0.65].map(row);
        let labels = vec![0, 0, 1, 0, 1, 1];
        let predictions = Predictions::from_probabilities(rows.into(), labels).unwrap();
        let classes = class_scores(&predictions).unwrap().classes;
        let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-9;
        assert!(close(classes[1].probability, 2.3 / 6.0));
        assert!(close(classes[1].ece, 2.0 / 6.0 * 0.35), "{classes:?}");
        // A yes or no: the other class is off by as much.
        assert!(close(classes[0].ece, 2.0 / 6.0 * 0.35));
    }

    #[test]
    fn rows_with_different_numbers_of_choices_have_no_classes() {
        let predictions =
            Predictions::from_probabilities(vec![vec![1.0], vec![0.5, 0.5]], vec![0, 0]).unwrap();
        assert_eq!(class_scores(&predictions), None);
    }
}
