//! Who says a message of a conversation, and what can be wrong with a message.

use std::fmt;

use crate::words::listed;

/// The largest weight of a message in the loss.
pub(super) const LARGEST_WEIGHT: f64 = 1000.0;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Instructions before the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the assistant called.
    Tool,
}

impl Speaker {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::System, Self::User, Self::Assistant, Self::Tool];

    /// The role in a chat template.
    pub fn role(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The speaker by a role, or by a name in ShareGPT's `from`.
    pub(in crate::data) fn named(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "user" | "human" => Some(Self::User),
            "assistant" | "gpt" => Some(Self::Assistant),
            "tool" | "observation" => Some(Self::Tool),
            _ => None,
        }
    }
}

/// What is wrong with a message of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageFault {
    /// It is not an object.
    NoObject {
        /// What it is.
        found: &'static str,
    },
    /// It does not say who speaks.
    NoRole,
    /// Its role is none of those known.
    UnknownRole {
        /// The role.
        found: String,
    },
    /// It has no content.
    NoContent,
    /// Its content is neither text nor a list of text parts.
    Content {
        /// What it is.
        found: String,
    },
    /// It has something that changes what it says, and that is not read.
    Unread {
        /// The key.
        key: String,
    },
    /// Its weight is out of range.
    Weight {
        /// The weight.
        found: String,
    },
    /// It has a weight, but is not the assistant's.
    WeightOfOther {
        /// Its role.
        role: &'static str,
    },
}

impl fmt::Display for MessageFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject { found } => write!(
                formatter,
                "is {found}, expected an object with `role` and `content`"
            ),
            Self::NoRole => write!(formatter, "has no `role`"),
            Self::UnknownRole { found } => write!(
                formatter,
                "has the role `{found}`, expected one of {}",
                listed(&Speaker::ALL.map(Speaker::role))
            ),
            Self::NoContent => write!(formatter, "has no `content`"),
            Self::Content { found } => write!(
                formatter,
                "has {found} as content, expected text or a list of text parts"
            ),
            Self::Unread { key } => write!(formatter, "has `{key}`, which is not read"),
            Self::Weight { found } => write!(
                formatter,
                "has the weight {found}, expected a number from 0 to {LARGEST_WEIGHT}"
            ),
            Self::WeightOfOther { role } => write!(
                formatter,
                "has a weight and the role `{role}`, expected weights on the assistant's messages only"
            ),
        }
    }
}
