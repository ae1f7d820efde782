//! The output of `predict`: a line of JSON for each row, or a table as CSV.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::prediction::Prediction;

/// A row with its answer, or the reason why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictedRow {
    /// The row's id.
    pub id: String,
    /// The answer, or the reason as a sentence.
    pub answered: Result<Box<Prediction>, String>,
    /// The columns that are copied from the row.
    pub carried: Map<String, Value>,
}

impl Serialize for PredictedRow {
    /// The prediction's keys, or `id` and `error`; then `carried` if there are carried columns.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            what: What<'a>,
            #[serde(skip_serializing_if = "Map::is_empty")]
            carried: &'a Map<String, Value>,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum What<'a> {
            Answer(&'a Prediction),
            Error { id: &'a str, error: &'a str },
        }
        let what = match &self.answered {
            Ok(prediction) => What::Answer(prediction),
            Err(error) => What::Error {
                id: &self.id,
                error,
            },
        };
        Line {
            what,
            carried: &self.carried,
        }
        .serialize(serializer)
    }
}

/// How predictions are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// A JSON object on each line.
    #[default]
    Jsonl,
    /// A table with a header; a list is JSON in one cell, a carried column is named `carried.NAME`.
    Csv,
}

/// The columns of every table.
const COLUMNS: [&str; 14] = [
    "id",
    "answer",
    "confidence",
    "calibrated_confidence",
    "error",
    "label",
    "answered_with",
    "entropy",
    "mutual_information",
    "disagreement",
    "truncated",
    "choices",
    "probabilities",
    "probabilities_at_mean",
];

/// Writes a line for each row.
///
/// # Errors
/// If `out` cannot be written to.
pub fn write_lines(
    out: &mut dyn Write,
    rows: &[PredictedRow],
    format: LineFormat,
) -> io::Result<()> {
    if format == LineFormat::Csv {
        return write_table(out, rows);
    }
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn write_table(out: &mut dyn Write, rows: &[PredictedRow]) -> io::Result<()> {
    let has_prompt = rows.iter().any(|row| {
        row.answered
            .as_ref()
            .is_ok_and(|prediction| prediction.prompt.is_some())
    });
    let decision = |row: &PredictedRow| row.answered.as_ref().ok()?.decision;
    let decisions: &[&str] = match rows.iter().any(|row| decision(row).is_some()) {
        true => &["decision", "set"],
        false => &[],
    };
    let columns: Vec<&str> = COLUMNS
        .into_iter()
        .chain(decisions.iter().copied())
        .chain(has_prompt.then_some("prompt"))
        .collect();
    let carried: Vec<&String> = rows
        .first()
        .map(|row| row.carried.keys().collect())
        .unwrap_or_default();
    let mut table = csv::Writer::from_writer(out);
    let header = columns
        .iter()
        .map(ToString::to_string)
        .chain(carried.iter().map(|name| format!("carried.{name}")));
    table.write_record(header)?;
    for row in rows {
        let line = serde_json::to_value(row)?;
        let own = columns.iter().map(|name| cell(line.get(name)));
        table.write_record(own.chain(carried.iter().map(|name| cell(row.carried.get(*name)))))?;
    }
    table.flush()
}

/// A value as a cell: text as it is, nothing for null, everything else as JSON.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::PredictWith;

    fn rows() -> Vec<PredictedRow> {
        let prediction = Prediction {
            id: "a".into(),
            label: None,
            choices: vec!["No, \"never\"".into(), "Yes".into()],
            choice_tokens: vec![vec![1], vec![2]],
            probabilities_at_mean: vec![0.25, 0.75],
            probabilities: vec![0.5, 0.5],
            probabilities_of_draws: None,
            answer: "Yes".into(),
            confidence: 0.75,
            calibrated_confidence: None,
            calibrated_on: None,
            answered_with: PredictWith::Mean,
            entropy: 0.5,
            mutual_information: 0.0,
            disagreement: 0.0,
            decision: None,
            set: None,
            truncated: true,
            prompt: None,
        };
        let carried = |value: Value| Map::from_iter([("author".to_string(), value)]);
        vec![
            PredictedRow {
                id: "a".into(),
                answered: Ok(Box::new(prediction)),
                carried: carried("Ann".into()),
            },
            PredictedRow {
                id: "b".into(),
                answered: Err("it is broken".into()),
                carried: carried(Value::Null),
            },
        ]
    }

    #[test]
    fn a_line_of_json_is_a_prediction_or_an_error_with_what_goes_along() {
        let mut out = Vec::new();
        write_lines(&mut out, &rows(), LineFormat::Jsonl).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("{\"id\":\"a\",\"choices\":[")
                && lines[0].ends_with("\"truncated\":true,\"carried\":{\"author\":\"Ann\"}}")
        );
        assert_eq!(
            lines[1],
            "{\"id\":\"b\",\"error\":\"it is broken\",\"carried\":{\"author\":null}}"
        );
    }

    #[test]
    fn a_table_has_a_header_and_a_record_for_each_row() {
        let mut out = Vec::new();
        write_lines(&mut out, &rows(), LineFormat::Csv).unwrap();
        let mut reader = csv::Reader::from_reader(out.as_slice());
        let header = reader.headers().unwrap().clone();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let at = |row: usize, name: &str| {
            records[row][header.iter().position(|column| column == name).unwrap()].to_string()
        };
        assert_eq!(
            (
                at(0, "id"),
                at(0, "answer"),
                at(0, "confidence"),
                at(0, "error")
            ),
            ("a".into(), "Yes".into(), "0.75".into(), String::new())
        );
        assert_eq!(
            (at(0, "choices"), at(0, "truncated")),
            ("[\"No, \\\"never\\\"\",\"Yes\"]".into(), "true".into())
        );
        assert_eq!(
            (at(1, "id"), at(1, "error"), at(1, "confidence")),
            ("b".into(), "it is broken".into(), String::new())
        );
        assert_eq!(
            (at(0, "carried.author"), at(1, "carried.author")),
            ("Ann".into(), String::new())
        );
    }
}
