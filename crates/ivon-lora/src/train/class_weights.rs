//! What each class counts in the loss: w_y ℓ in place of the loss ℓ of a row with the label y.
//!
//! The loss of a step is (1/B) Σ w_y ℓ over its B rows, not divided by the sum of their weights: the
//! weights of a batch with a single class would cancel. Over an epoch it is the negative logarithm of
//! the weighted likelihood Π p(y | x)^w_y over N, in which a row of the weight 2 is a row that is there
//! twice.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::settings::SettingError;

/// The setting: which weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// By a rule.
    Rule(WeightRule),
    /// One for each answer, in the order of the task's answers.
    ByAnswer(Vec<f64>),
}

/// A rule by which weights follow from the training rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightRule {
    /// n/(K n_k) for a class with n_k of the n rows, where K classes have rows: all classes count
    /// alike, and the weights of all rows sum to n.
    Balanced,
}

impl ClassWeights {
    /// Checks everything that does not depend on the rows.
    ///
    /// # Errors
    /// If a weight is not a finite number above 0.
    pub fn validate(&self) -> Result<(), SettingError> {
        let Self::ByAnswer(weights) = self else {
            return Ok(());
        };
        match weights.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
            None => Ok(()),
            Some(found) => {
                let expected = "a finite number above 0 for each answer";
                Err(SettingError::value("class_weights", found, expected))
            }
        }
    }

    /// The weight of each class, whose number of training rows is in `rows`.
    ///
    /// # Errors
    /// If there are not as many weights as classes.
    pub fn of(&self, rows: &[usize]) -> Result<LossWeights, SettingError> {
        match self {
            Self::Rule(WeightRule::Balanced) => Ok(LossWeights(balanced(rows))),
            Self::ByAnswer(weights) if weights.len() == rows.len() => {
                Ok(LossWeights(weights.clone()))
            }
            Self::ByAnswer(weights) => Err(SettingError::new(
                "class_weights",
                format!("{} weights for {} answers", weights.len(), rows.len()),
                "one for each answer",
            )),
        }
    }
}

/// n/(K n_k); 1 for a class without rows.
fn balanced(rows: &[usize]) -> Vec<f64> {
    let total: usize = rows.iter().sum();
    let classes = rows.iter().filter(|count| **count > 0).count();
    let weight = |&count: &usize| match count {
        0 => 1.0,
        _ => total as f64 / (classes * count) as f64,
    };
    rows.iter().map(weight).collect()
}

/// The weight of each class in the loss, by label; by default all rows count once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossWeights(Vec<f64>);

impl LossWeights {
    /// Whether all rows count once.
    pub fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// The weight of a row with this label.
    pub fn of(&self, label: usize) -> f64 {
        self.0.get(label).copied().unwrap_or(1.0)
    }

    /// The weights by class; empty if all rows count once.
    pub fn by_class(&self) -> &[f64] {
        &self.0
    }

    /// Σ w² / Σ w over rows with these labels. A squared gradient of weighted losses has w² where the
    /// curvature of the weighted loss has w: on average over the classes it is this much too large.
    pub fn of_squares(&self, labels: impl Iterator<Item = usize>) -> f64 {
        if self.is_plain() {
            return 1.0;
        }
        let (mut sum, mut squares) = (0.0, 0.0);
        for weight in labels.map(|label| self.of(label)) {
            sum += weight;
            squares += weight * weight;
        }
        if sum > 0.0 { squares / sum } else { 1.0 }
    }

    /// Σ w x / Σ w over rows with these labels: a mean in which each row counts as in the loss.
    pub fn mean(&self, values: &[f64], labels: impl Iterator<Item = usize>) -> f64 {
        let (mut sum, mut total) = (0.0, 0.0);
        for (value, label) in values.iter().zip(labels) {
            sum += self.of(label) * value;
            total += self.of(label);
        }
        sum / total
    }
}

/// (1/B) Σ w x over a column `[B, 1]`, `[1]`; the mean where there are no weights.
pub fn weighted_mean(column: Tensor<2>, weights: Option<&[f32]>) -> Tensor<1> {
    let Some(weights) = weights else {
        return column.mean();
    };
    let rows = weights.len();
    let weights = TensorData::new(weights.to_vec(), [rows, 1]);
    let weights = Tensor::<2>::from_data(weights, &column.device().without_autodiff());
    (column * weights).sum() / rows as f64
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn balanced_weights_are_n_over_k_n_k_and_sum_to_n_over_the_rows() {
        let balanced = ClassWeights::Rule(WeightRule::Balanced);
        let weights = balanced.of(&[95, 5]).unwrap();
        assert_eq!(weights.by_class(), [100.0 / 190.0, 10.0]);
        let sum = 95.0 * weights.of(0) + 5.0 * weights.of(1);
        assert!((sum - 100.0).abs() < 1e-9);
        // A class without rows is none of the K.
        let weights = balanced.of(&[10, 0, 30]).unwrap();
        assert_eq!(weights.by_class(), [2.0, 1.0, 40.0 / 60.0]);
        assert_eq!(balanced.of(&[7, 7]).unwrap().by_class(), [1.0, 1.0]);
    }

    #[test]
    fn weights_by_answer_are_taken_as_they_are_and_must_be_as_many_as_answers() {
        let given = ClassWeights::ByAnswer(vec![0.5, 4.0]);
        given.validate().unwrap();
        assert_eq!(given.of(&[3, 1]).unwrap().by_class(), [0.5, 4.0]);
        assert_eq!(
            given.of(&[3, 1, 1]).unwrap_err().to_string(),
            "`class_weights` is 2 weights for 3 answers, expected one for each answer"
        );
        let wrong = ClassWeights::ByAnswer(vec![1.0, 0.0]);
        assert_eq!(
            wrong.validate().unwrap_err().to_string(),
            "`class_weights` is `0`, expected a finite number above 0 for each answer"
        );
    }

    #[test]
    fn a_setting_is_a_word_or_a_list() {
        #[derive(Deserialize, Serialize)]
        struct File {
            class_weights: ClassWeights,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.class_weights);
        let rule = ClassWeights::Rule(WeightRule::Balanced);
        assert_eq!(read("class_weights = 'balanced'").unwrap(), rule);
        let list = ClassWeights::ByAnswer(vec![1.0, 19.0]);
        assert_eq!(read("class_weights = [1, 19]").unwrap(), list);
        assert!(read("class_weights = 'equal'").is_err());
        for class_weights in [rule, list] {
            let text = toml::to_string(&File {
                class_weights: class_weights.clone(),
            });
            assert_eq!(read(&text.unwrap()).unwrap(), class_weights);
        }
    }

    #[test]
    fn means_weigh_each_row_by_its_class() {
        let weights = LossWeights(vec![1.0, 3.0]);
        let labels = || [0, 1, 1].into_iter();
        assert_eq!(weights.of_squares(labels()), 19.0 / 7.0);
        assert_eq!(
            weights.mean(&[7.0, 1.0, 3.0], labels()),
            (7.0 + 3.0 * 4.0) / 7.0
        );
        let plain = LossWeights::default();
        assert!(plain.is_plain());
        assert_eq!((plain.of(4), plain.of_squares(labels())), (1.0, 1.0));
        let column = || Tensor::<2>::from_data([[7.0], [1.0], [3.0]], &Device::flex());
        let mean = |weights: Option<&[f32]>| weighted_mean(column(), weights).into_scalar::<f32>();
        assert_eq!(mean(Some(&[1.0, 3.0, 3.0])), 19.0 / 3.0);
        assert_eq!(mean(None), 11.0 / 3.0);
    }
}
