//! The lines of a run's `metrics.jsonl`: one per step, and one per evaluation.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::main_scores::{MainScores, nan_for_null};
use crate::files::{self, FileError};
use crate::sentence::Sentence;

const LARGEST: u64 = 4 << 30;

/// The record of a training step. Values that the optimizer does not have are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: u64,
    /// Mean loss over the step's examples at the draw, nats.
    #[serde(deserialize_with = "nan_for_null")]
    pub loss: f64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Wall-clock time of the step, seconds.
    pub step_seconds: f64,
    /// Tokens of the step's examples.
    pub tokens: u64,
    /// Root mean square of the update over all weights.
    #[serde(deserialize_with = "nan_for_null")]
    pub update_rms: f64,
    /// Share of the weights whose update was clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clipped_share: Option<f64>,
    /// Euclidean norm of the gradient over all weights, before clipping.
    #[serde(deserialize_with = "nan_for_null")]
    pub gradient_norm: f64,
    /// Euclidean norm of all A together.
    #[serde(deserialize_with = "nan_for_null")]
    pub norm_a: f64,
    /// Euclidean norm of all B together.
    #[serde(deserialize_with = "nan_for_null")]
    pub norm_b: f64,
    /// 5 %, 50 % and 95 % quantiles of h/h₀ over all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hessian_ratio: Option<[f64; 3]>,
}

/// The record of an evaluation during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The number of steps taken.
    pub step: u64,
    /// Its scores.
    pub evaluation: Evaluation,
}

/// Scores on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The role of the rows, such as `tune`.
    pub split: String,
    /// Number of rows.
    pub n: usize,
    /// At the mean.
    pub mean: MainScores,
    /// Averaged over draws, if the run asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<SampledScores>,
}

/// Scores of an average over draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledScores {
    /// Number of draws.
    pub samples: usize,
    /// Their scores.
    #[serde(flatten)]
    pub scores: MainScores,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// Of an evaluation.
    Evaluation(EvaluationRecord),
    /// Of a step.
    Step(StepRecord),
}

/// A run's records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A line is not a record.
    #[error("line {line} of `{}` is no step and no evaluation: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The parser's message.
        reason: String,
    },
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RecordError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Line { .. } => Some("is it the `metrics.jsonl` of a run of this program?".into()),
            Self::File(error) => error.hint(),
        }
    }
}

/// Reads `metrics.jsonl`. An incomplete last line, left by an interrupted run, is ignored. If a
/// resumed run wrote a step again, the later line counts.
///
/// # Errors
/// If the file cannot be read or another line is not a record.
pub fn read_records(path: &Path) -> Result<Vec<Record>, RecordError> {
    let text = files::read_text(path, LARGEST)?;
    let mut records: Vec<Record> = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let (whole, line) = (line.ends_with('\n'), line.trim());
        if line.is_empty() {
            continue;
        }
        match parse(line) {
            Ok(record) => {
                while records
                    .last()
                    .is_some_and(|older| older.place() > record.place() || older.is_again(&record))
                {
                    records.pop();
                }
                records.push(record);
            }
            Err(_) if !whole => break,
            Err(error) => {
                return Err(RecordError::Line {
                    path: path.into(),
                    line: index + 1,
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok(records)
}

/// As an untagged enum would, but with the error of the variant that the line resembles.
fn parse(line: &str) -> serde_json::Result<Record> {
    let value: serde_json::Value = serde_json::from_str(line)?;
    if value.get("evaluation").is_some() {
        serde_json::from_value(value).map(Record::Evaluation)
    } else {
        serde_json::from_value(value).map(Record::Step)
    }
}

impl Record {
    /// The step of the record.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(record) => record.step,
            Self::Evaluation(record) => record.step,
        }
    }

    /// Sort key: the evaluation of a step comes after the step.
    fn place(&self) -> (u64, bool) {
        (self.step(), matches!(self, Self::Evaluation(_)))
    }

    /// Whether both are about the same step, or the same split after the same step.
    fn is_again(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Evaluation(one), Self::Evaluation(two)) => {
                one.step == two.step && one.evaluation.split == two.evaluation.split
            }
            _ => self.place() == other.place(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, loss: f64) -> Record {
        Record::Step(StepRecord {
            step,
            loss,
            ..StepRecord::default()
        })
    }

    fn evaluation(step: u64) -> Record {
        let mean = MainScores {
            accuracy: 0.5,
            nll: 0.7,
            ece: 0.1,
            brier: 0.5,
        };
        let sampled = Some(SampledScores {
            samples: 3,
            scores: mean,
        });
        Record::Evaluation(EvaluationRecord {
            step,
            evaluation: Evaluation {
                split: "tune".into(),
                n: 4,
                mean,
                sampled,
            },
        })
    }

    fn read(text: &str) -> Result<Vec<Record>, RecordError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        read_records(&path)
    }

    fn lines(records: &[Record]) -> String {
        records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap() + "\n")
            .collect()
    }

    #[test]
    fn records_read_back_and_a_torn_last_line_is_passed_over() {
        let records = [step(1, 0.5), step(2, 0.25), evaluation(2)];
        assert_eq!(read(&lines(&records)).unwrap(), records);
        assert_eq!(
            read(&(lines(&records) + "{\"step\": 3, \"lo")).unwrap(),
            records
        );
        assert!(lines(&records).contains(r#""sampled":{"samples":3,"accuracy":0.5,"#));
    }

    #[test]
    fn what_a_resumed_run_wrote_again_counts_once() {
        let records = [
            step(1, 0.5),
            step(2, 0.25),
            evaluation(2),
            step(3, 9.0),
            step(2, 0.125),
            evaluation(2),
            step(3, 0.1),
        ];
        assert_eq!(
            read(&lines(&records)).unwrap(),
            [step(1, 0.5), step(2, 0.125), evaluation(2), step(3, 0.1)]
        );
    }

    #[test]
    fn a_loss_that_is_not_finite_is_kept_as_such() {
        let records = read(&lines(&[step(1, f64::NAN)])).unwrap();
        assert!(matches!(&records[..], [Record::Step(step)] if step.loss.is_nan()));
    }

    #[test]
    fn a_strange_line_is_refused_by_its_number() {
        let error = read(&(lines(&[step(1, 0.5)]) + "{\"step\": 2}\n")).unwrap_err();
        assert!(
            error.to_string().starts_with("line 2 of `")
                && error.to_string().contains("missing field `loss`"),
            "{error}"
        );
        assert!(matches!(
            read_records(Path::new("/nowhere")),
            Err(RecordError::File(_))
        ));
    }
}
