//! Rows → examples (prompt, answers and label), for built-in and custom tasks.

mod prompt;
mod label;
mod template;
mod ids;
mod schema;
mod message;
mod document;
mod example;
mod text_row;
mod form;
mod catalogue;
mod definition;
mod multiple_choice;
mod reader;
mod question;
#[cfg(test)]
mod tests;

pub(super) use catalogue::built_in;
pub use catalogue::names;
pub use definition::{CUSTOM, Task};
pub use document::{Content, Document, LossOn};
pub use example::{DropReason, Example};
pub use form::{Form, Scoring, TextFields};
pub(super) use ids::ID_FIELDS;
pub use label::LabelReading;
pub use message::Message;
pub use prompt::{Part, Prompt};
pub use question::{Question, Refusal, questions};
pub use reader::{RowOutcome, TaskReader};
