//! `POST /v1/predict`: rows or prompts in, predictions out.

use ivon_lora::answer::{PredictedRow, RowOptions, RowRequest, RowSource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Refusal;

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// The model's name; may be absent where one model predicts.
    pub model: Option<String>,
    /// Finished prompts, for a task whose answers are the same in every row.
    pub prompts: Option<Vec<String>>,
    /// Rows of the task, the fields of each by name.
    pub rows: Option<Vec<Map<String, Value>>>,
    /// Whether the probabilities under each draw are wanted.
    #[serde(default)]
    pub draws: bool,
    /// Whether prompts are written as well.
    #[serde(default)]
    pub include_text: bool,
    /// The columns of the rows that are written beside their answers.
    #[serde(default)]
    pub carry: Vec<String>,
}

impl PredictRequest {
    /// The number of rows or prompts.
    pub fn count(&self) -> usize {
        let prompts = self.prompts.as_ref().map_or(0, Vec::len);
        prompts + self.rows.as_ref().map_or(0, Vec::len)
    }

    /// As the library asks for it.
    ///
    /// # Errors
    /// If there are both prompts and rows or neither, or more than `most`.
    pub fn into_rows(self, most: usize) -> Result<RowRequest, Refusal> {
        let count = self.count();
        let options = RowOptions {
            carry: self.carry,
            include_text: self.include_text,
            include_draws: self.draws,
            ..RowOptions::default()
        };
        let source = match (self.prompts, self.rows) {
            (Some(prompts), None) => RowSource::Prompts(prompts),
            (None, Some(rows)) => RowSource::Memory(rows),
            (prompts, _) => {
                let found = if prompts.is_some() { "both" } else { "neither" };
                let message = format!("the request has {found}, expected `prompts` or `rows`");
                return Err(Refusal::request(message));
            }
        };
        match count {
            0 => Err(Refusal::request(
                "the request has no row, expected at least one",
            )),
            count if count > most => Err(Refusal::request(format!(
                "the request has {count} rows, expected at most {most}"
            ))
            .with_hint("send them in several requests")),
            _ => Ok(RowRequest { source, options }),
        }
    }
}

/// The body of a response.
#[derive(Debug, Serialize)]
pub struct PredictResponse {
    /// The model that answered.
    pub model: String,
    /// A line for each row or prompt, in their order: a prediction, or `id` and `error`.
    pub predictions: Vec<PredictedRow>,
    /// Sentences about rows that were left out or shortened, and about a decision that promises
    /// nothing for these rows.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let request: PredictRequest = serde_json::from_str(body).unwrap();
        request.into_rows(2).err().unwrap().message
    }

    #[test]
    fn a_request_has_prompts_or_rows_and_not_too_many() {
        assert_eq!(
            refused(r#"{"prompts": ["a"], "rows": [{}]}"#),
            "the request has both, expected `prompts` or `rows`"
        );
        assert_eq!(
            refused("{}"),
            "the request has neither, expected `prompts` or `rows`"
        );
        assert_eq!(
            refused(r#"{"rows": []}"#),
            "the request has no row, expected at least one"
        );
        assert_eq!(
            refused(r#"{"prompts": ["a", "b", "c"]}"#),
            "the request has 3 rows, expected at most 2"
        );
    }
}
