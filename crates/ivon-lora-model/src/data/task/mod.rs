//! Rows → examples (prompt, answers and label), for built-in and custom tasks.

mod prompt;
mod example;
mod label;
mod template;
mod ids;
mod schema;
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
pub use example::{DropReason, Example};
pub use form::{Form, Scoring};
pub(super) use ids::ID_FIELDS;
pub use label::LabelReading;
pub use prompt::{Part, Prompt};
pub use question::{Question, Refusal, questions};
pub use reader::{RowOutcome, TaskReader};
