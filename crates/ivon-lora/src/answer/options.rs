//! How an adapter's questions are answered.

use super::BaseOptions;
use crate::data::{ChatSetting, LabelReading, Task};

/// How questions are answered. What is absent is taken from the adapter's `ivon_lora.json`.
#[derive(Clone, Debug, Default)]
pub struct AnswerOptions {
    /// Device and precision of the base.
    pub base: BaseOptions,
    /// A task, for an adapter that names none.
    pub task: Option<Task>,
    /// A chat template, in place of the adapter's.
    pub chat_template: Option<ChatSetting>,
    /// How labels are read if there are two ways; by default as the task says.
    pub label_reading: Option<LabelReading>,
    /// The field with a row's id; by default the usual ones.
    pub id_field: Option<String>,
    /// Number of draws.
    pub samples: Option<usize>,
    /// τ.
    pub scale: Option<f64>,
    /// Whether the adapter's decision rule is applied, if it has one: with the draws, τ and
    /// temperature that it is about.
    pub decide: bool,
}
