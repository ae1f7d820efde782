//! A message of a conversation, as rows write it.

use serde_json::{Map, Value};

use super::label::shown;
use crate::data::read::json_kind;
use crate::data::speaker::{LARGEST_WEIGHT, MessageFault, Speaker};

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who says it.
    pub speaker: Speaker,
    /// What is said.
    pub content: String,
    /// The weight of its tokens in the loss, if the row gives one.
    pub weight: Option<f32>,
}

impl Message {
    /// A message without a weight of its own.
    pub fn of(speaker: Speaker, content: impl Into<String>) -> Self {
        Self {
            speaker,
            content: content.into(),
            weight: None,
        }
    }

    /// Reads `{"role": …, "content": …}`, or ShareGPT's `{"from": …, "value": …}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(value: &Value) -> Result<Self, MessageFault> {
        let Value::Object(fields) = value else {
            return Err(MessageFault::NoObject {
                found: json_kind(value),
            });
        };
        let unread = |key: &&&str| fields.get(**key).is_some_and(|value| !is_nothing(value));
        if let Some(key) = UNREAD.iter().find(unread) {
            return Err(MessageFault::Unread {
                key: (*key).to_string(),
            });
        }
        let speaker = speaker(fields)?;
        let content = first_of(fields, &["content", "value"]);
        Ok(Self {
            speaker,
            content: content_text(content.ok_or(MessageFault::NoContent)?)?,
            weight: weight(fields, speaker)?,
        })
    }
}

/// Keys that change what a template writes, and that are not read.
const UNREAD: [&str; 6] = [
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "audio",
];

/// Null, or empty: what a table has for rows without a value.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The first of these keys with a value.
fn first_of<'a>(fields: &'a Map<String, Value>, keys: &[&str]) -> Option<&'a Value> {
    let mut values = keys.iter().filter_map(|key| fields.get(*key));
    values.find(|value| !value.is_null())
}

fn speaker(fields: &Map<String, Value>) -> Result<Speaker, MessageFault> {
    let role = first_of(fields, &["role", "from"]).ok_or(MessageFault::NoRole)?;
    let unknown = || MessageFault::UnknownRole { found: shown(role) };
    role.as_str().and_then(Speaker::named).ok_or_else(unknown)
}

/// A text, or text parts joined, as chat templates join them.
fn content_text(content: &Value) -> Result<String, MessageFault> {
    let wrong = |found: String| MessageFault::Content { found };
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| part_text(part).map_err(wrong))
            .collect(),
        other => Err(wrong(json_kind(other).into())),
    }
}

/// The text of `{"type": "text", "text": …}` or of a bare text, or what the part is.
fn part_text(part: &Value) -> Result<&str, String> {
    let kind = part.get("type").filter(|kind| !kind.is_null());
    match (part, part.get("text")) {
        (Value::String(text), _) => Ok(text),
        (_, Some(Value::String(text))) if kind.is_none_or(|kind| kind == "text") => Ok(text),
        _ => Err(match kind {
            Some(kind) => format!("a part of type `{}`", shown(kind)),
            None => format!("a list with {}", json_kind(part)),
        }),
    }
}

fn weight(fields: &Map<String, Value>, speaker: Speaker) -> Result<Option<f32>, MessageFault> {
    let Some(value) = first_of(fields, &["weight"]) else {
        return Ok(None);
    };
    let number = value.as_f64();
    let Some(number) = number.filter(|number| (0.0..=LARGEST_WEIGHT).contains(number)) else {
        return Err(MessageFault::Weight {
            found: shown(value),
        });
    };
    match speaker {
        Speaker::Assistant => Ok(Some(number as f32)),
        // Other messages are only read, which a weight of 0 says too.
        _ if number == 0.0 => Ok(None),
        other => Err(MessageFault::WeightOfOther { role: other.role() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(value: Value) -> String {
        Message::read(&value).unwrap_err().to_string()
    }

    #[test]
    fn a_message_is_read_as_openai_and_sharegpt_write_it() {
        let expected = Message::of(Speaker::Assistant, "Hi there");
        let parts = json!([{"type": "text", "text": "Hi "}, "there"]);
        for value in [
            json!({"role": "assistant", "content": "Hi there"}),
            json!({"from": "gpt", "value": "Hi there", "weight": null, "tool_calls": null}),
            json!({"role": "assistant", "content": parts, "name": "model"}),
        ] {
            assert_eq!(Message::read(&value).unwrap(), expected, "{value}");
        }
        let half = Message::read(&json!({"role": "assistant", "content": "", "weight": 0.5}));
        assert_eq!(half.unwrap().weight, Some(0.5));
        let user = Message::read(&json!({"role": "user", "content": "", "weight": 0}));
        assert_eq!(user.unwrap().weight, None);
    }

    #[test]
    fn each_fault_of_a_message_has_its_sentence() {
        assert_eq!(
            said(json!("Hi")),
            "is text, expected an object with `role` and `content`"
        );
        assert_eq!(said(json!({"content": "Hi"})), "has no `role`");
        assert_eq!(
            said(json!({"role": "developer", "content": "Hi"})),
            "has the role `developer`, expected one of `system`, `user`, `assistant`, `tool`"
        );
        assert_eq!(
            said(json!({"role": "user", "content": null})),
            "has no `content`"
        );
        assert_eq!(
            said(json!({"role": "user", "content": 3})),
            "has a number as content, expected text or a list of text parts"
        );
        assert_eq!(
            said(json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})),
            "has a part of type `image_url` as content, expected text or a list of text parts"
        );
        assert_eq!(
            said(json!({"role": "user", "content": [1]})),
            "has a list with a number as content, expected text or a list of text parts"
        );
        assert_eq!(
            said(json!({"role": "assistant", "content": "", "tool_calls": [{}]})),
            "has `tool_calls`, which is not read"
        );
        for weight in [json!(-1), json!("1"), json!(1e9), json!(true)] {
            let message = said(json!({"role": "assistant", "content": "", "weight": weight}));
            assert!(
                message.contains("expected a number from 0 to 1000"),
                "{message}"
            );
        }
        assert_eq!(
            said(json!({"role": "user", "content": "", "weight": 1})),
            "has a weight and the role `user`, expected weights on the assistant's messages only"
        );
    }
}
