//! `POST /v1/chat/completions`, in the form of OpenAI's.

use ivon_lora::answer::WritingPrompt;
use ivon_lora::data::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::written::{Choice, Common, TextAnswer, TextToken, Usage};
use crate::error::Refusal;

/// The largest `top_logprobs`.
const MOST_ALTERNATIVES: usize = 20;

/// The body of a request.
#[derive(Debug, Deserialize)]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<Value>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<usize>,
    #[serde(flatten)]
    pub common: Common,
}

impl ChatRequest {
    /// The conversation as the library reads it.
    ///
    /// # Errors
    /// If there is no message, or one is malformed.
    pub fn prompt(&self) -> Result<WritingPrompt, Refusal> {
        if self.messages.is_empty() {
            return Err(Refusal::request(
                "`messages` is empty, expected at least one",
            ));
        }
        let message = |(place, value): (usize, &Value)| {
            Message::read(value)
                .map_err(|fault| Refusal::request(format!("message {} {fault}", place + 1)))
        };
        let messages = self.messages.iter().enumerate().map(message);
        Ok(WritingPrompt::Chat(messages.collect::<Result<_, _>>()?))
    }

    /// Whether the probabilities of tokens are wanted, and of how many alternatives.
    ///
    /// # Errors
    /// If there are too many of these, or they have no effect.
    pub fn alternatives(&self) -> Result<Option<usize>, Refusal> {
        let is_wanted = self.logprobs.unwrap_or(false);
        match self.top_logprobs {
            Some(count) if count > MOST_ALTERNATIVES => Err(Refusal::request(format!(
                "`top_logprobs` is {count}, expected 0 to {MOST_ALTERNATIVES}"
            ))),
            Some(count) if count > 0 && !is_wanted => Err(Refusal::request(
                "`top_logprobs` has no effect without `logprobs`",
            )),
            count => Ok(is_wanted.then(|| count.unwrap_or(0))),
        }
    }
}

/// A whole response.
pub fn chat_response(answer: &TextAnswer, choices: &[Choice], usage: Usage) -> Value {
    let choice = |choice: &Choice| {
        let mut fields = json!({
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": null},
            "logprobs": choice.tokens.as_deref().map(log_probabilities),
            "finish_reason": choice.finish_reason,
        });
        with_uncertainty(&mut fields, choice);
        fields
    };
    json!({
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices.iter().map(choice).collect::<Vec<_>>(),
        "usage": usage,
    })
}

/// A piece of a stream; `is_first` pieces name the role. Without a choice it has the usage alone.
pub fn chat_chunk(
    answer: &TextAnswer,
    choice: Option<&Choice>,
    is_first: bool,
    usage: Option<Usage>,
) -> Value {
    let choices = choice.map(|choice| {
        let mut delta = json!({});
        if is_first {
            delta["role"] = "assistant".into();
        }
        if is_first || !choice.text.is_empty() {
            delta["content"] = choice.text.as_str().into();
        }
        let mut fields = json!({
            "index": choice.index,
            "delta": delta,
            "logprobs": choice.tokens.as_deref().map(log_probabilities),
            "finish_reason": choice.finish_reason,
        });
        with_uncertainty(&mut fields, choice);
        fields
    });
    json!({
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "choices": choices.into_iter().collect::<Vec<_>>(),
        "usage": usage,
    })
}

fn with_uncertainty(fields: &mut Value, choice: &Choice) {
    if let Some(uncertainty) = &choice.uncertainty {
        fields["uncertainty"] = json!(uncertainty);
    }
}

/// The tokens of a text with their probabilities.
fn log_probabilities(tokens: &[TextToken]) -> Value {
    let one = |text: &str, ln: f64| json!({"token": text, "logprob": ln, "bytes": text.as_bytes()});
    let token = |token: &TextToken| {
        let mut fields = one(&token.text, token.log_probability);
        let alternatives = token.alternatives.iter().map(|(text, ln)| one(text, *ln));
        fields["top_logprobs"] = alternatives.collect();
        fields
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}
