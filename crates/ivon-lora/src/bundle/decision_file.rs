//! `decision.json` in the adapter folder: the rule by which answers are given, deferred or offered as
//! a set, and what it rests on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BundleError, PredictWith};
use crate::decide::{CostMatrix, DecideError, DecisionScore, Rule};
use crate::files;
use crate::posterior::{PosteriorError, check_scale};

/// The file's name in the adapter folder.
pub const DECISION_FILE: &str = "decision.json";
/// The version of the layout that this program writes, and the newest that it reads.
pub const DECISION_FORMAT: u32 = 1;
const LARGEST: u64 = 64 << 20;

/// A rule with what it rests on. Unknown keys are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The version of the layout.
    pub format_version: u32,
    /// The version of the program that wrote it.
    pub program_version: String,
    /// What is promised, in a sentence, for readers of the file.
    pub promise: String,
    /// The rule.
    pub rule: Rule,
    /// The costs by which answers are chosen; without them the most probable one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<CostMatrix>,
    /// The answer words in the order of the classes; empty if every row has its own.
    #[serde(default)]
    pub answers: Vec<String>,
    /// How the predictions are made that the rule is about.
    pub predictions: DecisionPredictions,
    /// Which rows it rests on.
    pub division: Division,
    /// The score that new rows are compared with calibrate by …
    pub score: DecisionScore,
    /// … and its certainties on the rows that the rule rests on; larger is more certain.
    pub certainties: Vec<f64>,
    /// The [`weights_hash`](super::weights_hash) of the adapter that it is about; none in files that
    /// were written without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

/// How the predictions are made that a rule is about: with others it promises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionPredictions {
    /// From the mean or the average over draws.
    pub predict_with: PredictWith,
    /// T, by which their log-probabilities are divided.
    pub temperature: f64,
    /// Number of draws.
    pub samples: usize,
    /// τ, by which the posterior's variance is multiplied.
    pub scale: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// The division of calibrate: rows that chose how to predict cannot also carry the promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Division {
    /// The name of the divided rows.
    pub rows: String,
    /// Seed of the division.
    pub seed: u64,
    /// The share of rows that choose temperature, mean or draws, and the thresholds that are tried.
    pub share: f64,
    /// How many these are.
    pub choosing: usize,
    /// How many rows the rule rests on.
    pub ruling: usize,
}

impl Decision {
    /// Writes the file into an adapter folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), BundleError> {
        Ok(files::write_json(&folder.join(DECISION_FILE), self)?)
    }

    /// Reads the file of an adapter folder; none if there is none.
    ///
    /// # Errors
    /// If it is malformed, of a newer version, or holds numbers that no rule has.
    pub fn read(folder: &Path) -> Result<Option<Self>, BundleError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let path = folder.join(DECISION_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let malformed = |reason: String| BundleError::Malformed {
            path: path.clone(),
            reason,
        };
        let text = files::read_text(&path, LARGEST)?;
        // First of all, since a newer layout need not have the keys of this one.
        let Version { format_version } =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        if format_version > DECISION_FORMAT {
            return Err(PosteriorError::Metadata {
                path,
                key: "format_version",
                expected: format!("at most {DECISION_FORMAT}"),
                found: format!("`{format_version}`"),
            }
            .into());
        }
        let decision: Self =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        check_scale(decision.predictions.scale)?;
        decision
            .check()
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Some(decision))
    }

    /// Checks the numbers.
    fn check(&self) -> Result<(), DecideError> {
        self.rule.check()?;
        let temperature = self.predictions.temperature;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(DecideError::OutOfRange {
                what: "the temperature",
                found: temperature,
                expected: "a finite number above 0",
            });
        }
        match &self.costs {
            Some(costs) => costs.check(self.answers.len()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decide::{Cutoff, Limit, Promise, ThresholdRule};

    fn decision() -> Decision {
        let rule = Rule::Threshold(ThresholdRule {
            score: DecisionScore::Confidence,
            cutoffs: vec![Cutoff::Above(0.1 + 0.7)],
            limits: vec![Limit::Error(0.05)],
            promise: Promise::WithProbability(0.9),
            rows: 3,
            answered: 2,
        });
        let answers = ["no", "yes"].map(String::from).to_vec();
        Decision {
            format_version: DECISION_FORMAT,
            program_version: "0.1.0".into(),
            promise: rule.sentence(&answers),
            rule,
            costs: CostMatrix::new(vec![vec![0.0, 1.0], vec![2.0, 0.0]]).ok(),
            answers,
            predictions: DecisionPredictions {
                predict_with: PredictWith::Samples,
                temperature: 1.25,
                samples: 10,
                scale: 1.0,
                seed: 3,
            },
            division: Division {
                rows: "calibrate".into(),
                seed: 0,
                share: 0.25,
                choosing: 1,
                ruling: 3,
            },
            score: DecisionScore::Confidence,
            certainties: vec![0.5, 0.9, 0.95],
            weights: Some("00ff".into()),
        }
    }

    #[test]
    fn a_decision_reads_back_to_the_bit_and_a_folder_without_one_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Decision::read(folder.path()).unwrap(), None);
        decision().write(folder.path()).unwrap();
        assert_eq!(Decision::read(folder.path()).unwrap(), Some(decision()));
    }

    #[test]
    fn newer_malformed_and_impossible_decisions_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut value = serde_json::to_value(decision()).unwrap();
            change(&mut value);
            std::fs::write(folder.path().join(DECISION_FILE), value.to_string()).unwrap();
            Decision::read(folder.path()).unwrap_err().to_string()
        };
        assert!(
            refused(&|value| *value = json!({ "format_version": 2 }))
                .ends_with("has `2` as `format_version`, expected at most 1")
        );
        assert!(
            refused(&|value| drop(value.as_object_mut().unwrap().remove("rule")))
                .contains("missing field `rule`")
        );
        assert!(
            refused(&|value| value["predictions"]["temperature"] = json!(0))
                .ends_with("the temperature is 0, expected a finite number above 0")
        );
        assert!(
            refused(&|value| value["costs"] = json!([[0.0]]))
                .ends_with("the costs are of 1 classes, expected 2")
        );
        assert!(
            refused(&|value| {
                value["rule"]["threshold"]["promise"] = json!({ "with_probability": 2.0 });
            })
            .ends_with("the confidence is 2, expected a number between 0 and 1")
        );
        assert!(refused(&|value| value["predictions"]["scale"] = json!(-1)).contains("scale"));
    }
}
