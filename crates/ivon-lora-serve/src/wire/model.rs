//! `GET /v1/models`: what is served.

use serde::Serialize;

/// A served model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelCard {
    /// The name by which requests ask for it.
    pub id: String,
    /// `model`, as OpenAI's clients expect.
    pub object: &'static str,
    /// Seconds since 1970 at which it was opened.
    pub created: u64,
    /// `ivon-lora`.
    pub owned_by: &'static str,
    /// `predict` or `write`.
    pub does: &'static str,
    /// The base model.
    pub base: String,
    /// The method that trained the adapter; none for a base or an adapter of another program.
    pub method: Option<String>,
    /// The name of the task; none for a base or an adapter of another program.
    pub task: Option<String>,
    /// The columns of its rows; none for a task of texts.
    pub columns: Vec<String>,
    /// Answers that are the same in every row.
    pub answers: Vec<String>,
    /// The number of draws from the posterior.
    pub draws: usize,
    /// Its decision rule and what this promises.
    pub decision: Option<String>,
}
