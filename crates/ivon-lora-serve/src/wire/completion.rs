//! `POST /v1/completions`, in the form of OpenAI's.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::written::{Choice, Common, TextAnswer, TextToken, Usage};
use crate::error::Refusal;
use crate::limits::Limits;

/// The largest `logprobs`.
const MOST_ALTERNATIVES: usize = 5;

/// The body of a request.
#[derive(Debug, Deserialize)]
pub struct CompletionRequest {
    /// The texts to be continued.
    #[serde(deserialize_with = "prompts")]
    pub prompt: Vec<String>,
    pub logprobs: Option<usize>,
    #[serde(flatten)]
    pub common: Common,
}

fn prompts<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a prompt or a list of prompts, as texts")]
    enum Prompts {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Prompts::deserialize(input)? {
        Prompts::One(prompt) => vec![prompt],
        Prompts::Several(prompts) => prompts,
    })
}

impl CompletionRequest {
    /// The texts to be continued.
    ///
    /// # Errors
    /// If there are none, or too many.
    pub fn prompts(&self, limits: &Limits) -> Result<&[String], Refusal> {
        let (count, most) = (self.prompt.len(), limits.texts);
        match (1..=most).contains(&count) {
            true => Ok(&self.prompt),
            false => Err(Refusal::request(format!(
                "`prompt` has {count} texts, expected 1 to {most}"
            ))),
        }
    }

    /// Whether the probabilities of tokens are wanted, and of how many alternatives.
    ///
    /// # Errors
    /// If there are too many of these.
    pub fn alternatives(&self) -> Result<Option<usize>, Refusal> {
        match self.logprobs {
            Some(count) if count > MOST_ALTERNATIVES => Err(Refusal::request(format!(
                "`logprobs` is {count}, expected 0 to {MOST_ALTERNATIVES}"
            ))),
            count => Ok(count),
        }
    }
}

/// A whole response.
pub fn completion_response(answer: &TextAnswer, choices: &[Choice], usage: Usage) -> Value {
    let choices: Vec<Value> = choices.iter().map(of_choice).collect();
    body(answer, choices, Some(usage))
}

/// A piece of a stream. Without a choice it has the usage alone.
pub fn completion_chunk(
    answer: &TextAnswer,
    choice: Option<&Choice>,
    usage: Option<Usage>,
) -> Value {
    body(answer, choice.map(of_choice).into_iter().collect(), usage)
}

fn body(answer: &TextAnswer, choices: Vec<Value>, usage: Option<Usage>) -> Value {
    json!({
        "id": answer.id,
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        "usage": usage,
    })
}

fn of_choice(choice: &Choice) -> Value {
    let mut fields = json!({
        "index": choice.index,
        "text": choice.text,
        "logprobs": choice.tokens.as_deref().map(log_probabilities),
        "finish_reason": choice.finish_reason,
    });
    if let Some(uncertainty) = &choice.uncertainty {
        fields["uncertainty"] = json!(uncertainty);
    }
    fields
}

/// The tokens of a text with their probabilities, in lists.
fn log_probabilities(tokens: &[TextToken]) -> Value {
    let top = |token: &TextToken| {
        let alternatives = token.alternatives.iter();
        alternatives
            .map(|(text, ln)| (text.clone(), Value::from(*ln)))
            .collect::<serde_json::Map<_, _>>()
    };
    let starts = tokens.iter().scan(0, |end, token| {
        let start = *end;
        *end += token.text.chars().count();
        Some(start)
    });
    json!({
        "tokens": tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.log_probability).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": starts.collect::<Vec<usize>>(),
    })
}
