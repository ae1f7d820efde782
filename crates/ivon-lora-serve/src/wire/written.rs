//! What the two endpoints that write have in common.

use ivon_lora::generate::{FinishReason, Sampling, WriteOptions, WrittenToken};
use ivon_lora::predict::WrittenAnswer;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::Refusal;
use crate::limits::Limits;

/// Fields of OpenAI's requests that change nothing here.
const WITHOUT_EFFECT: [&str; 8] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "best_of",
];

/// The fields that both requests have.
#[derive(Debug, Default, Deserialize)]
pub struct Common {
    /// The model's name; may be absent where one model writes.
    pub model: Option<String>,
    /// The number of texts for each prompt.
    pub n: Option<usize>,
    pub max_tokens: Option<usize>,
    pub max_completion_tokens: Option<usize>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<usize>,
    pub min_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub seed: Option<i64>,
    #[serde(default, deserialize_with = "one_or_several")]
    pub stop: Vec<String>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    /// Whether each text is scored under draws of the posterior.
    pub uncertainty: Option<bool>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What is sent at the end of a stream.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct StreamOptions {
    pub include_usage: Option<bool>,
}

fn one_or_several<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum Stop {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Option::<Stop>::deserialize(input)? {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Several(stops)) => stops,
    })
}

impl Common {
    /// The number of texts for each prompt.
    ///
    /// # Errors
    /// If it is zero or above the limit.
    pub fn samples(&self, limits: &Limits) -> Result<usize, Refusal> {
        within("n", self.n.unwrap_or(1), limits.texts)
    }

    /// Whether the texts are sent as they are written.
    pub fn is_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with the number of tokens.
    pub fn with_usage(&self) -> bool {
        let options = self.stream_options.unwrap_or_default();
        options.include_usage.unwrap_or(false)
    }

    /// Whether each text is scored under draws of the posterior.
    pub fn with_uncertainty(&self) -> bool {
        self.uncertainty.unwrap_or(false)
    }

    /// How texts are written; `default` tokens at most if the request does not say.
    ///
    /// # Errors
    /// If a number is out of range, or a field is not known.
    pub fn options(
        &self,
        default: usize,
        alternatives: usize,
        limits: &Limits,
    ) -> Result<WriteOptions, Refusal> {
        self.known()?;
        let tokens = self.max_completion_tokens.or(self.max_tokens);
        let tokens = tokens.unwrap_or(default.min(limits.tokens));
        if self.stop.len() > limits.texts {
            let message = format!(
                "`stop` has {} texts, expected at most {}",
                self.stop.len(),
                limits.texts
            );
            return Err(Refusal::request(message));
        }
        let sampling = Sampling::default();
        let options = WriteOptions {
            max_tokens: within("max_tokens", tokens, limits.tokens)?,
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(sampling.top_k),
                top_p: self.top_p.unwrap_or(sampling.top_p),
                min_p: self.min_p.unwrap_or(sampling.min_p),
                repetition_penalty: self
                    .repetition_penalty
                    .unwrap_or(sampling.repetition_penalty),
                // The same bits: a negative seed is one like others.
                seed: self.seed.unwrap_or(0) as u64,
            },
            stop: self.stop.clone(),
            alternatives,
            ..WriteOptions::default()
        };
        options.validate().map_err(|error| {
            let message = format!(
                "`{}` is {}, expected {}",
                error.key, error.found, error.expected
            );
            Refusal::request(message)
        })?;
        Ok(options)
    }

    /// Refuses a field that would change the text, but is not known here.
    fn known(&self) -> Result<(), Refusal> {
        let is_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty() || text == "none",
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => {
                fields.is_empty() || fields.get("type").is_some_and(|kind| kind == "text")
            }
            Value::Bool(true) => false,
        };
        let has_effect = |(key, value): &(&String, &Value)| {
            !WITHOUT_EFFECT.contains(&key.as_str()) && !is_nothing(value)
        };
        match self.other.iter().find(has_effect) {
            None => Ok(()),
            Some((key, _)) => Err(Refusal::request(format!(
                "the field `{key}` is not known to this server"
            ))
            .with_hint("`GET /openapi.json` lists those that are; leave this one away")),
        }
    }
}

/// A number from 1 to a limit.
fn within(key: &str, found: usize, most: usize) -> Result<usize, Refusal> {
    match (1..=most).contains(&found) {
        true => Ok(found),
        false => Err(Refusal::request(format!(
            "`{key}` is {found}, expected 1 to {most}"
        ))),
    }
}

/// Tokens that were read and written.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
}

impl Usage {
    pub fn of(prompt_tokens: usize, completion_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
        }
    }
}

/// A token with its text, as responses show it.
#[derive(Clone, Debug)]
pub struct TextToken {
    pub text: String,
    pub log_probability: f64,
    pub alternatives: Vec<(String, f64)>,
}

/// A text of a response, complete or a piece of it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Its place among the texts of the request.
    pub index: usize,
    pub text: String,
    /// Its tokens, if their probabilities are wanted.
    pub tokens: Option<Vec<TextToken>>,
    pub finish_reason: Option<FinishReason>,
    pub uncertainty: Option<WrittenAnswer>,
}

impl TextToken {
    /// A token that was written, with `text` of any token.
    pub fn of(token: &WrittenToken, text: impl Fn(u32) -> String) -> Self {
        let alternatives = token.alternatives.iter();
        Self {
            text: text(token.token),
            log_probability: token.log_probability,
            alternatives: alternatives
                .map(|(token, ln)| (text(*token), *ln))
                .collect(),
        }
    }
}

/// What identifies a response.
#[derive(Clone, Debug)]
pub struct TextAnswer {
    pub id: String,
    pub created: u64,
    pub model: String,
}
