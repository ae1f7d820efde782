//! The errors of this room.

use std::path::PathBuf;

use super::place::Place;
use super::role::Role;
use super::speaker::MessageFault;
use crate::files::FileError;
use crate::settings::SettingError;
use crate::words::listed;

/// A text could not be tokenized, or tokens could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed on `{text}`: {reason}")]
pub struct TokenizerError {
    /// The start of the text.
    pub text: String,
    /// The tokenizer's message.
    pub reason: String,
}

/// Data could not be read, understood or split.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A text could not be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The format follows from the file's extension, and this one is unknown.
    #[error("`{}` has the extension `{found}`, expected `jsonl`, `csv`, `tsv` or `parquet`", path.display())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
        /// Its extension, empty if it has none.
        found: String,
    },
    /// A line does not conform to its format.
    #[error("{at} is malformed: {reason}")]
    MalformedLine {
        /// The line.
        at: Place,
        /// The parser's message.
        reason: String,
    },
    /// A line is longer than any example needs to be.
    #[error("{at} is longer than {limit} bytes")]
    LineTooLong {
        /// The line.
        at: Place,
        /// The maximum length of a line in bytes.
        limit: usize,
    },
    /// A CSV file ends inside quotes.
    #[error("{at}: a quote is opened here and never closed")]
    UnclosedQuote {
        /// The line with the opening quote.
        at: Place,
    },
    /// The content of a file does not fit its extension.
    #[error("`{file}` is {found}, expected {expected}")]
    NotRows {
        /// The file.
        file: String,
        /// What it contains.
        found: &'static str,
        /// What it should contain.
        expected: &'static str,
    },
    /// A parquet file is damaged or uses a feature that this build cannot read.
    #[error("`{}` is not a readable parquet file: {reason}", path.display())]
    MalformedParquet {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// It is empty.
    #[error("{what} has no rows")]
    EmptySet {
        /// The file or role, with the reason if one is known.
        what: String,
    },
    /// A stream is empty.
    #[error("`{name}` has no lines")]
    EmptyStream {
        /// The name of the stream.
        name: String,
    },
    /// No file of a folder is named after a role.
    #[error("`{}` has no file named train, tune, calibrate, validation or test, found {}", folder.display(), listed(found))]
    NoSplitFiles {
        /// The folder.
        folder: PathBuf,
        /// The files in it.
        found: Vec<String>,
    },
    /// Two files are named after the same role.
    #[error("both `{}` and `{}` could be the {role} file, expected one", first.display(), second.display())]
    AmbiguousFiles {
        /// The role.
        role: String,
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// There is no task of this name.
    #[error("unknown task `{name}`, expected one of {}", listed(known))]
    UnknownTask {
        /// The name.
        name: String,
        /// The existing names.
        known: Vec<&'static str>,
    },
    /// Neither a task nor a prompt template is given.
    #[error("no task is named and no prompt template is given")]
    NoTask,
    /// A prompt, answers or a label field are given for a task that has its own.
    #[error("task `{task}` has a prompt of its own, `{setting}` cannot be set beside it")]
    TaskHasItsPrompt {
        /// The task.
        task: String,
        /// The setting.
        setting: &'static str,
    },
    /// A prompt template is invalid.
    #[error("the prompt template `{template}` cannot be used: {reason}")]
    MalformedTemplate {
        /// The template.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer words are invalid.
    #[error("the answers cannot be used: {reason}")]
    Answers {
        /// What is wrong with them.
        reason: String,
    },
    /// A row lacks a field.
    #[error("{at} has no field `{field}`, found {}", listed(found))]
    MissingField {
        /// The row.
        at: Place,
        /// The field that the task needs.
        field: String,
        /// The fields of the row.
        found: Vec<String>,
    },
    /// No row has a field that is needed.
    #[error("no row of `{file}` has a field `{field}`")]
    NoRowHas {
        /// The file.
        file: String,
        /// The field.
        field: String,
    },
    /// A field has the wrong type.
    #[error("{at}: field `{field}` is {found}, expected {expected}")]
    WrongType {
        /// The row.
        at: Place,
        /// The field.
        field: String,
        /// What the task needs.
        expected: &'static str,
        /// What it contains.
        found: String,
    },
    /// A row for training or scoring has no label.
    #[error("{at} has no label in field `{field}`")]
    MissingLabel {
        /// The row.
        at: Place,
        /// The label field.
        field: String,
    },
    /// A label is none of the answers.
    #[error("{at}: label `{value}` in field `{field}` is out of range, expected {allowed}")]
    LabelOutOfRange {
        /// The row.
        at: Place,
        /// The label field.
        field: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A label can be read in two ways.
    #[error("{at}: label `{value}` in field `{field}` can be read as {first} or as {second}")]
    AmbiguousLabel {
        /// The row.
        at: Place,
        /// The label field.
        field: String,
        /// Its value.
        value: String,
        /// One reading, with the answer it selects.
        first: String,
        /// The other reading.
        second: String,
    },
    /// A question has too few or too many choices.
    #[error("{at} has {found} choices, expected {fewest} to {most}")]
    ChoiceCount {
        /// The row.
        at: Place,
        /// Its number of choices.
        found: usize,
        /// The minimum.
        fewest: usize,
        /// The maximum.
        most: usize,
    },
    /// A message of a conversation cannot be read.
    #[error("{at}: message {number} of `{field}` {fault}")]
    Message {
        /// The row.
        at: Place,
        /// The field with the conversation.
        field: String,
        /// The message, from 1.
        number: usize,
        /// What is wrong with it.
        fault: MessageFault,
    },
    /// A conversation is empty, or has too many messages.
    #[error("{at}: field `{field}` has {found} messages, expected 1 to {most}")]
    MessageCount {
        /// The row.
        at: Place,
        /// The field with the conversation.
        field: String,
        /// Its number of messages.
        found: usize,
        /// The maximum.
        most: usize,
    },
    /// A row has a field that changes what it says, and that is not read.
    #[error("{at} has a field `{field}`, which is not read")]
    UnreadField {
        /// The row.
        at: Place,
        /// The field.
        field: String,
    },
    /// A setting has no meaning for a task.
    #[error("the task `{task}` has no use for `{setting}`")]
    NotForTask {
        /// The task.
        task: String,
        /// The setting.
        setting: &'static str,
    },
    /// A setting is out of its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The missing roles cannot be carved from so few rows or groups.
    #[error("{found} separate rows or groups cannot be divided into {needed} roles ({roles})")]
    TooFewRows {
        /// The number of rows, with equal prompts and whole groups counted once.
        found: usize,
        /// The number of roles to fill, train included.
        needed: usize,
        /// Their names.
        roles: String,
    },
    /// A required role has no rows.
    #[error("the {role} role has no rows: {reason}")]
    EmptyRole {
        /// The role.
        role: Role,
        /// Why.
        reason: String,
    },
    /// The tokenizer makes no token of an answer word.
    #[error("the answer `{answer}` has no tokens of its own after `{after}`")]
    AnswerWithoutTokens {
        /// The answer.
        answer: String,
        /// The end of the prompt.
        after: String,
    },
    /// The tokens of two answers are the same.
    #[error(
        "the answers `{first}` and `{second}` have the same tokens, so that \
             the model cannot tell them apart"
    )]
    SameTokens {
        /// One answer.
        first: String,
        /// The other.
        second: String,
    },
    /// A chat template was requested, but the checkpoint has none.
    #[error("the model's tokenizer has {}", no_template(named))]
    NoChatTemplate {
        /// The names of its templates, none of which is the default.
        named: Vec<String>,
    },
    /// Conversations are to be read, but the checkpoint has no chat template.
    #[error(
        "conversations need a chat template, and the model's tokenizer has {}",
        no_template(named)
    )]
    ChatNeedsTemplate {
        /// The names of its templates, none of which is the default.
        named: Vec<String>,
    },
    /// The chat template fails on a row.
    #[error("the chat template failed on row `{id}`: {reason}")]
    ChatOfRow {
        /// The row's id.
        id: String,
        /// The message of the template engine, or of the template itself.
        reason: String,
    },
    /// The chat template fails.
    #[error("the chat template failed: {reason}")]
    ChatTemplate {
        /// The message of the template engine, or of the template itself.
        reason: String,
    },
}

impl DataError {
    /// The row concerned.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::MalformedLine { at, .. }
            | Self::LineTooLong { at, .. }
            | Self::UnclosedQuote { at }
            | Self::MissingField { at, .. }
            | Self::WrongType { at, .. }
            | Self::MissingLabel { at, .. }
            | Self::LabelOutOfRange { at, .. }
            | Self::AmbiguousLabel { at, .. }
            | Self::ChoiceCount { at, .. }
            | Self::Message { at, .. }
            | Self::MessageCount { at, .. }
            | Self::UnreadField { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Whether only one row is concerned, so that reading can go on with the next.
    pub fn is_of_a_row(&self) -> bool {
        self.place().is_some() && !matches!(self, Self::UnclosedQuote { .. })
    }
}

fn no_template(named: &[String]) -> String {
    match named {
        [] => "no chat template".into(),
        named => format!(
            "several chat templates, {}, and none of them is named `default`",
            listed(named)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_says_which_there_are_and_which_is_meant() {
        let error = DataError::MissingField {
            at: Place::new("a.csv", 3),
            field: "label".into(),
            found: vec!["text".into(), "labels".into()],
        };
        assert_eq!(
            error.to_string(),
            "`a.csv` line 3 has no field `label`, found `text`, `labels`"
        );
        assert_eq!(error.hint().unwrap().to_string(), "did you mean `labels`?");
    }
}
