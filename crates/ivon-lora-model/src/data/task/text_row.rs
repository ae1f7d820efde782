//! Rows of text by their fields: conversations, prompts with completions, plain texts.

use serde_json::Value;

use super::document::{Content, LossOn};
use super::message::Message;
use super::prompt::Prompt;
use super::template::Template;
use crate::data::error::DataError;
use crate::data::read::{LONGEST_LINE, Row, json_value};
use crate::data::speaker::Speaker;

/// The maximum number of messages of a conversation.
const MOST_MESSAGES: usize = 1000;

/// Sets of fields of which a row has one, for each kind of text.
pub(super) const CHAT_FIELDS: [&[&str]; 4] = [
    &["messages"],
    &["conversations"],
    &["prompt", "completion"],
    &["instruction", "output"],
];
pub(super) const COMPLETION_FIELDS: [&[&str]; 3] = [
    &["prompt", "completion"],
    &["prompt", "references"],
    &["instruction", "output"],
];
pub(super) const TEXT_FIELDS: [&[&str]; 1] = [&["text"]];

/// Fields that change what a row says, and that are not read.
const UNREAD: [&str; 3] = ["tools", "functions", "history"];

/// Reads rows of text: the user's template with the field of the completion, else the usual fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextReader<'a> {
    /// The template of the prompt, if there is one.
    pub template: Option<&'a Template>,
    /// The field with the completion to it; by default `completion`.
    pub label_field: Option<&'a str>,
    /// Whether a row without a completion is refused.
    pub needs_completion: bool,
    /// What the loss is on.
    pub loss_on: LossOn,
}

impl TextReader<'_> {
    /// The conversation of a row, and what is read before its last answer.
    ///
    /// # Errors
    /// If the row has none, or a message of it cannot be read.
    pub fn chat(&self, row: &Row) -> Result<(Prompt, Content), DataError> {
        check_unread(row)?;
        let mut messages = self.messages(row)?;
        if let Some(system) = given(row, "system").filter(|_| !starts_with_system(&messages)) {
            let system = system.as_str();
            let system =
                system.ok_or_else(|| row.wrong_type("system", "text", &row.fields["system"]))?;
            messages.insert(0, Message::of(Speaker::System, system));
        }
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        check_length(row, bytes)?;
        let content = Content::Chat(messages);
        Ok((spoken(content.asked()), content))
    }

    fn messages(&self, row: &Row) -> Result<Vec<Message>, DataError> {
        if let Some(template) = self.template {
            return self.turn(row, template.fill(row)?.text());
        }
        for field in ["messages", "conversations"] {
            if given(row, field).is_some() {
                return read_messages(row, field);
            }
        }
        if given(row, "prompt").is_some() {
            return self.prompt_and_completion(row);
        }
        if row.fields.contains_key("instruction") {
            return self.turn(row, instruction(row)?);
        }
        Err(missing(row, "messages"))
    }

    /// `prompt` and `completion` as texts, or as lists of messages; unless the loss is on all tokens,
    /// those of the prompt are only read.
    fn prompt_and_completion(&self, row: &Row) -> Result<Vec<Message>, DataError> {
        if !is_list(row.field("prompt")?) {
            return self.turn(row, row.text("prompt")?);
        }
        let mut messages = read_messages(row, "prompt")?;
        for message in &mut messages {
            let is_answer = message.speaker == Speaker::Assistant;
            let weight = self.loss_on.weight_of_others();
            message.weight = is_answer.then_some(weight);
        }
        if given(row, "completion").is_none() && given(row, "references").is_some() {
            let answer = self.completion_of(row)?;
            messages.extend(answer.map(|answer| Message::of(Speaker::Assistant, answer)));
        } else if self.needs_completion || given(row, "completion").is_some() {
            messages.extend(read_messages(row, "completion")?);
        }
        Ok(messages)
    }

    /// One question and its answer.
    fn turn(&self, row: &Row, question: String) -> Result<Vec<Message>, DataError> {
        let answer = self.completion_of(row)?;
        let answer = answer.map(|answer| Message::of(Speaker::Assistant, answer));
        let messages = std::iter::once(Message::of(Speaker::User, question));
        Ok(messages.chain(answer).collect())
    }

    /// The prompt of a row and its completions.
    ///
    /// # Errors
    /// If a field is missing or of the wrong type.
    pub fn completion(&self, row: &Row) -> Result<(Prompt, Content), DataError> {
        check_unread(row)?;
        let mut completion = self.completion_of(row)?;
        let prompt = match self.template {
            Some(template) => {
                let prompt = template.fill(row)?;
                completion = completion.map(|completion| space_apart(&prompt.text(), completion));
                prompt
            }
            None => Prompt::default().then_field(plain_prompt(row)?),
        };
        let bytes = completion.as_ref().map_or(0, String::len);
        check_length(row, prompt.text().len() + bytes)?;
        Ok((prompt, Content::Completion(completion)))
    }

    /// The completion of a row; where there are references only, the first of them.
    fn completion_of(&self, row: &Row) -> Result<Option<String>, DataError> {
        let field = match self.label_field {
            Some(field) => field,
            None if given(row, "completion").is_some() => "completion",
            None if given(row, "output").is_some() => "output",
            None if given(row, "references").is_some() => {
                return Ok(references(row)?.into_iter().next());
            }
            None if row.fields.contains_key("instruction") => "output",
            None => "completion",
        };
        match given(row, field) {
            None if self.needs_completion => Err(missing(row, field)),
            None => Ok(None),
            Some(_) => text_of(row, field).map(Some),
        }
    }

    /// The right answers of a row: that of its content, and its references.
    ///
    /// # Errors
    /// If the references are no texts.
    pub fn references(&self, row: &Row, content: &Content) -> Result<Vec<String>, DataError> {
        let mut found: Vec<String> = content.answer().map(String::from).into_iter().collect();
        if given(row, "references").is_some() && self.label_field.is_none() {
            let others = references(row)?;
            found.extend(
                others
                    .into_iter()
                    .filter(|other| content.answer() != Some(other)),
            );
        }
        Ok(found)
    }

    /// The text of a row.
    ///
    /// # Errors
    /// If it has none.
    pub fn text(&self, row: &Row) -> Result<(Prompt, Content), DataError> {
        let prompt = match self.template {
            Some(template) => template.fill(row)?,
            None => Prompt::default().then_field(text_of(row, "text")?),
        };
        check_length(row, prompt.text().len())?;
        Ok((prompt, Content::Text))
    }
}

/// Whether a row has no completion, as in test files whose answers are not public.
pub(super) fn lacks_completion(row: &Row, label_field: Option<&str>) -> bool {
    match label_field {
        Some(field) => given(row, field).is_none(),
        None => ["completion", "references", "output"]
            .iter()
            .all(|field| given(row, field).is_none()),
    }
}

/// A field that is neither missing nor null.
fn given<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    row.fields.get(field).filter(|value| !value.is_null())
}

/// A list, also one that a CSV file has as JSON.
pub(super) fn is_list(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::String(text) => {
            matches!(json_value(text), Ok(Value::Array(items)) if items.iter().any(Value::is_object))
        }
        _ => false,
    }
}

fn starts_with_system(messages: &[Message]) -> bool {
    let first = messages.first();
    first.is_some_and(|message| message.speaker == Speaker::System)
}

fn read_messages(row: &Row, field: &str) -> Result<Vec<Message>, DataError> {
    let value = row.field(field)?;
    let parsed = match value {
        Value::String(text) => json_value(text).ok(),
        _ => None,
    };
    let value = parsed.as_ref().unwrap_or(value);
    let wrong = |found| row.wrong_type(field, "a list of messages, in a CSV file as JSON", found);
    let Value::Array(messages) = value else {
        return Err(wrong(value));
    };
    if messages.is_empty() || messages.len() > MOST_MESSAGES {
        return Err(DataError::MessageCount {
            at: row.place.clone(),
            field: field.into(),
            found: messages.len(),
            most: MOST_MESSAGES,
        });
    }
    let read = |(index, message)| {
        Message::read(message).map_err(|fault| DataError::Message {
            at: row.place.clone(),
            field: field.into(),
            number: index + 1,
            fault,
        })
    };
    messages.iter().enumerate().map(read).collect()
}

/// `instruction` and, if it is there, `input`, with an empty line between.
fn instruction(row: &Row) -> Result<String, DataError> {
    let (instruction, input) = (row.text("instruction")?, input(row)?);
    Ok(match input {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    })
}

fn input(row: &Row) -> Result<Option<String>, DataError> {
    let input = given(row, "input").map(|_| row.text("input")).transpose()?;
    Ok(input.filter(|input| !input.is_empty()))
}

/// The prompt of a row without a template: `prompt`, or Alpaca's around `instruction` and `input`.
fn plain_prompt(row: &Row) -> Result<String, DataError> {
    if given(row, "prompt").is_some() || !row.fields.contains_key("instruction") {
        return text_of(row, "prompt");
    }
    let instruction = row.text("instruction")?;
    Ok(match input(row)? {
        Some(input) => format!(
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        ),
        None => format!(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
        ),
    })
}

/// A field that must be text, where conversations are lists.
fn text_of(row: &Row, field: &str) -> Result<String, DataError> {
    let value = row.field(field)?;
    match value.is_array() {
        true => Err(row.wrong_type(field, "text (messages are rows of the task `chat`)", value)),
        false => row.text(field),
    }
}

/// `references`: a list of texts, or one.
fn references(row: &Row) -> Result<Vec<String>, DataError> {
    let value = row.field("references")?;
    let parsed = match value {
        Value::String(text) if text.starts_with('[') => json_value(text).ok(),
        _ => None,
    };
    match parsed.as_ref().unwrap_or(value) {
        Value::Array(texts) if !texts.is_empty() => {
            let text = |value: &Value| value.as_str().map(String::from);
            let texts: Option<Vec<String>> = texts.iter().map(text).collect();
            texts.ok_or_else(|| row.wrong_type("references", "a list of texts", value))
        }
        Value::Array(_) => Err(missing(row, "completion")),
        _ => Ok(vec![row.text("references")?]),
    }
}

/// A completion with a space before it where neither it nor the prompt before it has one, as between
/// a prompt and its answer words.
fn space_apart(prompt: &str, completion: String) -> String {
    let is_apart =
        prompt.ends_with(char::is_whitespace) || completion.starts_with(char::is_whitespace);
    match is_apart {
        true => completion,
        false => format!(" {completion}"),
    }
}

/// The messages as one text, each after its role.
fn spoken(messages: &[Message]) -> Prompt {
    messages.iter().fold(Prompt::default(), |prompt, message| {
        let separator = if prompt.parts.is_empty() { "" } else { "\n" };
        let start = format!("{separator}{}: ", message.speaker.role());
        prompt.then(start).then_field(message.content.clone())
    })
}

fn missing(row: &Row, field: &str) -> DataError {
    match row.fields.get(field) {
        Some(value) => row.wrong_type(field, "a value", value),
        None => DataError::MissingField {
            at: row.place.clone(),
            field: field.into(),
            found: row.names(),
        },
    }
}

fn check_unread(row: &Row) -> Result<(), DataError> {
    let is_nothing = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty() || text == "[]",
        other => other.is_null(),
    };
    let found = UNREAD.iter().find(|field| {
        let value = row.fields.get(**field);
        value.is_some_and(|value| !is_nothing(value))
    });
    match found {
        Some(field) => Err(DataError::UnreadField {
            at: row.place.clone(),
            field: (*field).to_string(),
        }),
        None => Ok(()),
    }
}

fn check_length(row: &Row, bytes: usize) -> Result<(), DataError> {
    match bytes > LONGEST_LINE {
        true => Err(DataError::LineTooLong {
            at: row.place.clone(),
            limit: LONGEST_LINE,
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
