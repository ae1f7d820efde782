//! What texts are written after: prompts as they are, and conversations.

use std::path::Path;

use super::AnswerError;
use crate::data::{
    ChatTemplate, Content, DataError, Message, Row, RowOutcome, Speaker, Task, Tokenizer, read_rows,
};

/// What a text is written after.
#[derive(Clone, Debug, PartialEq)]
pub enum WritingPrompt {
    /// A text, continued as it is or, with a chat template, as what the user says.
    Text(String),
    /// A conversation, in which the assistant answers next.
    Chat(Vec<Message>),
}

impl WritingPrompt {
    /// Its tokens: in the chat template, or as it is with the tokens that the tokenizer begins a text
    /// with.
    ///
    /// # Errors
    /// If there is no template for a conversation, or it or the tokenizer fails.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        chat: Option<&ChatTemplate>,
    ) -> Result<Vec<u32>, AnswerError> {
        let rendered = match (chat, self) {
            (None, Self::Text(text)) => return Ok(tokenizer.encode(text, true)?),
            (Some(chat), Self::Text(text)) => chat.render(text)?,
            (Some(chat), Self::Chat(messages)) => chat.render_messages(messages, true)?,
            (None, Self::Chat(messages)) => {
                ChatTemplate::of(tokenizer)?.render_messages(messages, true)?
            }
        };
        Ok(tokenizer.encode(&rendered, false)?)
    }
}

/// Reads the prompts of a file with the ids of its rows: conversations if `is_chat`, else texts in
/// the field `prompt`, with or without `instruction`, or in `text`. What a row has of an answer is
/// left away.
///
/// # Errors
/// If the file cannot be read, a row has no prompt, or there is none to be answered.
pub fn read_prompts(path: &Path, is_chat: bool) -> Result<Vec<(String, WritingPrompt)>, DataError> {
    let rows = read_rows(path)?.into_iter();
    let prompts = rows.map(|row| prompt_of(row, is_chat));
    let prompts: Vec<_> = prompts
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    match prompts.is_empty() {
        true => Err(DataError::EmptySet {
            what: format!("`{}`", path.display()),
        }),
        false => Ok(prompts),
    }
}

fn prompt_of(row: Row, is_chat: bool) -> Result<Option<(String, WritingPrompt)>, DataError> {
    let has = |field: &str| row.fields.contains_key(field);
    let task = match is_chat {
        true => "chat",
        false if has("text") && !has("prompt") && !has("instruction") => "text",
        false => "completion",
    };
    let RowOutcome::Example(example) = Task::named(task)?.reader()?.question(row)? else {
        return Ok(None);
    };
    let prompt = match example.document.map(|document| document.content) {
        Some(Content::Chat(mut messages)) => {
            while messages.last().is_some_and(is_answer) {
                messages.pop();
            }
            WritingPrompt::Chat(messages)
        }
        _ => WritingPrompt::Text(example.prompt.text()),
    };
    Ok(Some((example.id, prompt)))
}

fn is_answer(message: &Message) -> bool {
    message.speaker == Speaker::Assistant
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rows: &str, is_chat: bool) -> Result<Vec<(String, WritingPrompt)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, rows).unwrap();
        read_prompts(&path, is_chat)
    }

    #[test]
    fn prompts_are_read_from_the_fields_of_texts_and_answers_are_left_away() {
        let rows = "{\"id\": \"a\", \"prompt\": \"one\", \"completion\": \"two\"}\n{\"text\": \"three\"}\n";
        let text = |text: &str| WritingPrompt::Text(text.into());
        let found = read(rows, false).unwrap();
        let expected = [("a".into(), text("one")), ("rows-2".into(), text("three"))];
        assert_eq!(found, expected);
        let rows = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}\n";
        let said = vec![Message::of(Speaker::User, "hi")];
        assert_eq!(
            read(rows, true).unwrap(),
            [("rows-1".into(), WritingPrompt::Chat(said))]
        );
    }

    #[test]
    fn a_file_without_rows_is_named() {
        let message = read("", false).unwrap_err().to_string();
        assert!(message.ends_with("rows.jsonl` has no rows"), "{message}");
    }

    #[test]
    fn a_row_without_a_prompt_is_named() {
        let message = read("{\"answer\": \"two\"}\n", false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("line 1") && message.contains("prompt"),
            "{message}"
        );
    }
}
