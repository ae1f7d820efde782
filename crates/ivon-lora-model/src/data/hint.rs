//! What the user can do about an error of this room, in one sentence each.

use super::error::DataError;
use super::speaker::MessageFault;
use crate::sentence::{Sentence, command, sentence, setting, setting_to};
use crate::words::nearest;

impl DataError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::File(error) => error.hint(),
            Self::Tokenizer(_) | Self::Setting(_) => None,
            Self::MalformedLine { .. } | Self::UnclosedQuote { .. } | Self::LineTooLong { .. } => {
                self.hint_on_a_line()
            }
            Self::UnknownExtension { .. }
            | Self::NotRows { .. }
            | Self::MalformedParquet { .. }
            | Self::EmptySet { .. }
            | Self::EmptyStream { .. }
            | Self::NoSplitFiles { .. }
            | Self::AmbiguousFiles { .. } => self.hint_on_files(),
            Self::UnknownTask { .. }
            | Self::NoTask
            | Self::TaskHasItsPrompt { .. }
            | Self::NotForTask { .. }
            | Self::MalformedTemplate { .. }
            | Self::Answers { .. } => self.hint_on_the_task(),
            Self::MissingField { .. }
            | Self::NoRowHas { .. }
            | Self::WrongType { .. }
            | Self::Message { .. }
            | Self::MessageCount { .. }
            | Self::UnreadField { .. }
            | Self::ChoiceCount { .. } => self.hint_on_a_row(),
            Self::MissingLabel { .. }
            | Self::LabelOutOfRange { .. }
            | Self::AmbiguousLabel { .. } => self.hint_on_a_label(),
            Self::TooFewRows { .. }
            | Self::EmptyRole { .. }
            | Self::AnswerWithoutTokens { .. }
            | Self::SameTokens { .. }
            | Self::NoChatTemplate { .. }
            | Self::ChatNeedsTemplate { .. }
            | Self::ChatOfRow { .. }
            | Self::ChatTemplate { .. } => self.hint_on_roles_and_tokens(),
        }
    }

    /// Hints for files that cannot be read.
    fn hint_on_files(&self) -> Option<Sentence> {
        Some(match self {
            Self::UnknownExtension { .. } => {
                "convert the file, or give it the extension of what it holds".into()
            }
            Self::NotRows { found, .. } if found.contains("Git LFS") => {
                "fetch the file itself with `git lfs pull`".into()
            }
            Self::NotRows { .. } => {
                "save it as CSV in UTF-8 or as JSONL, packed with gzip at most".into()
            }
            Self::MalformedParquet { .. } => {
                "download it again, or write it with snappy, gzip, zstd or no \
                 compression"
                    .into()
            }
            Self::EmptySet { .. } => sentence!(
                "check that it is the file you meant, and what was dropped with \
                 `{}`",
                command("data preview")
            ),
            Self::EmptyStream { .. } => "give one prompt or one JSON object on each line".into(),
            Self::NoSplitFiles { .. } => {
                "name the files train.jsonl and test.jsonl (or csv, tsv, parquet), \
                     or give one file instead of a folder"
                    .into()
            }
            Self::AmbiguousFiles { .. } => {
                "move one of them away, or give one file instead of a folder".into()
            }
            _ => return None,
        })
    }

    /// Hints for lines that are no rows.
    fn hint_on_a_line(&self) -> Option<Sentence> {
        Some(match self {
            Self::MalformedLine { reason, .. } if reason.ends_with("not UTF-8 text") => {
                "save the file as UTF-8; it may be in Windows-1252 or Latin-1".into()
            }
            Self::MalformedLine { reason, .. }
                if reason.contains(" twice") || reason.ends_with(" once") =>
            {
                "rename one of the two, or remove it".into()
            }
            Self::MalformedLine { at, .. } if at.file.contains(".jsonl") => {
                "a JSONL file has one JSON object on each line".into()
            }
            Self::MalformedLine { .. } => {
                "every record needs as many columns as the header, in UTF-8".into()
            }
            Self::UnclosedQuote { .. } => {
                "close it, or write a quote that is part of the text doubled, in a \
                 field in quotes"
                    .into()
            }
            Self::LineTooLong { .. } => "is this a file with one example on each line?".into(),
            _ => return None,
        })
    }

    /// Hints for tasks and prompts.
    fn hint_on_the_task(&self) -> Option<Sentence> {
        Some(match self {
            Self::UnknownTask { name, known } => match nearest(name, known.iter().copied()) {
                Some(nearest) => format!("did you mean `{nearest}`?").into(),
                None => sentence!(
                    "for data of your own, set `{}`, `{}` and `{}` instead",
                    setting("prompt"),
                    setting("answers"),
                    setting("label_field")
                ),
            },
            Self::NoTask => sentence!(
                "name one with `{}`, or set `{}`, `{}` and `{}`",
                setting("task"),
                setting("prompt"),
                setting("answers"),
                setting("label_field")
            ),
            Self::TaskHasItsPrompt { .. } => sentence!(
                "leave `{}` out to use a prompt of your own",
                setting("task")
            ),
            Self::NotForTask {
                setting: "chat_template",
                ..
            } => sentence!(
                "`{}` puts prompts and completions into the chat template",
                setting_to("task", "chat")
            ),
            Self::NotForTask { setting: name, .. } => sentence!("leave `{}` out", setting(name)),
            Self::MalformedTemplate { .. } => {
                "write field names in braces, as in `Review: {text} Sentiment:`; a \
                     brace itself is `{{` or `}}`"
                    .into()
            }
            Self::Answers { .. } => {
                sentence!(
                    "give two or more different words in the order of the labels, as in \
                     `{}`",
                    setting_to("answers", "Negative,Positive")
                )
            }
            _ => return None,
        })
    }

    /// Hints for rows that do not fit the task.
    fn hint_on_a_row(&self) -> Option<Sentence> {
        Some(match self {
            Self::MissingField { field, found, .. } => {
                match nearest(field, found.iter().map(String::as_str)) {
                    Some(nearest) => format!("did you mean `{nearest}`?").into(),
                    None => sentence!(
                        "check the task, the prompt template and `{}` against the fields of \
                     the file",
                        setting("label_field")
                    ),
                }
            }
            Self::NoRowHas { .. } => {
                sentence!("`{}` says which fields there are", command("inspect data"))
            }
            Self::WrongType { found, .. } if found == "null" => {
                "remove the row, or write text in place of null (in CSV of the \
                     empty field); `\"\"` is an empty text, which is a row too"
                    .into()
            }
            Self::WrongType { .. } => {
                "compare the row with the others of its file, and the file with the \
                 task"
                    .into()
            }
            Self::ChoiceCount { .. } => "remove the row, or correct its choices".into(),
            Self::Message { fault, .. } => match fault {
                MessageFault::Weight { .. } | MessageFault::WeightOfOther { .. } => {
                    "0 leaves an answer out of the loss, 1 is the default".into()
                }
                MessageFault::Unread { .. } => {
                    "write what it says into `content` as the model should read it, or remove it"
                        .into()
                }
                _ => "a message is `{\"role\": \"user\", \"content\": \"…\"}`, or `{\"from\": \
                      \"human\", \"value\": \"…\"}`"
                    .into(),
            },
            Self::MessageCount { .. } => "remove the row, or divide the conversation".into(),
            Self::UnreadField { .. } => {
                "write what it says into the messages as the model should read it, or remove it"
                    .into()
            }
            _ => return None,
        })
    }

    /// Hints for labels.
    fn hint_on_a_label(&self) -> Option<Sentence> {
        Some(match self {
            Self::MissingLabel { .. } => sentence!(
                "remove the row, or use `{}` for rows without labels",
                command("predict")
            ),
            Self::LabelOutOfRange { .. } => {
                "correct the row, or the answers and the label field".into()
            }
            Self::AmbiguousLabel { .. } => sentence!(
                "say which with `{}` or `{}`, or write the label so that it can be \
                 read in one way",
                setting_to("label_reading", "index"),
                setting_to("label_reading", "word")
            ),
            _ => return None,
        })
    }

    /// Hints for roles, answer tokens and chat templates.
    fn hint_on_roles_and_tokens(&self) -> Option<Sentence> {
        Some(match self {
            Self::TooFewRows { .. } => {
                "give more rows, files for the missing roles, or set a role's share \
                 to 0"
                    .into()
            }
            Self::EmptyRole { .. } => {
                "give a file for this role, or raise its share of the training file".into()
            }
            Self::AnswerWithoutTokens { .. } => "choose another answer word".into(),
            Self::SameTokens { .. } => {
                "choose answer words that this model's vocabulary knows".into()
            }
            Self::NoChatTemplate { named } if named.is_empty() => {
                sentence!(
                    "leave `{}` off, name a file with `{}`, or use an instruction-tuned \
                     checkpoint",
                    setting("chat_template"),
                    setting_to("chat_template", "FILE")
                )
            }
            Self::NoChatTemplate { .. } => sentence!(
                "save the one that you mean as a file and name it with `{}`",
                setting_to("chat_template", "FILE")
            ),
            Self::ChatNeedsTemplate { named } if named.is_empty() => sentence!(
                "name a file with one with `{}`, use an instruction-tuned checkpoint, or write the \
                 rows as prompts with completions (`{}`)",
                setting_to("chat_template", "FILE"),
                setting_to("task", "completion")
            ),
            Self::ChatNeedsTemplate { .. } => sentence!(
                "save the one that you mean as a file and name it with `{}`",
                setting_to("chat_template", "FILE")
            ),
            Self::ChatOfRow { .. } => sentence!(
                "remove the row or correct its messages, or name a file with another template with \
                 `{}`",
                setting_to("chat_template", "FILE")
            ),
            Self::ChatTemplate { .. } => sentence!(
                "leave `{}` off, or name a file with another with `{}`",
                setting("chat_template"),
                setting_to("chat_template", "FILE")
            ),
            _ => return None,
        })
    }
}
