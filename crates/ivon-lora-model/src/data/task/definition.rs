//! A task: what is asked about a row. A [`Task`] is saved with the adapter, so that later commands
//! need not name it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalogue::{built_in, names, recognise};
use super::document::LossOn;
use super::form::{Form, Scoring};
use super::label::LabelReading;
use crate::data::error::DataError;
use crate::data::read::Row;

/// The name of a task made from a user's template.
pub const CUSTOM: &str = "custom";

/// A task: how a row becomes a prompt, answers and a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The built-in name, or `custom`.
    pub name: String,
    /// How a row becomes a prompt.
    pub form: Form,
    /// How the answers are scored.
    #[serde(default)]
    pub scoring: Scoring,
    /// How to read labels that could be either indices or answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_reading: Option<LabelReading>,
    /// What of a text the loss is on.
    #[serde(default, skip_serializing_if = "LossOn::is_default")]
    pub loss_on: LossOn,
}

impl Task {
    /// A built-in task by its name.
    ///
    /// # Errors
    /// [`DataError::UnknownTask`] with the existing names.
    pub fn named(name: &str) -> Result<Self, DataError> {
        let Some(task) = built_in(name) else {
            return Err(DataError::UnknownTask {
                name: name.into(),
                known: names(),
            });
        };
        Ok(Self::of(name, task.form()))
    }

    fn of(name: &str, form: Form) -> Self {
        Self {
            name: name.into(),
            form,
            scoring: Scoring::default(),
            label_reading: None,
            loss_on: LossOn::default(),
        }
    }

    /// A custom task.
    ///
    /// # Errors
    /// If the template or the answers are invalid.
    pub fn custom(
        prompt: &str,
        answers: Vec<String>,
        label_field: &str,
    ) -> Result<Self, DataError> {
        let form = Form::Template {
            prompt: prompt.into(),
            answers,
            label_field: label_field.into(),
        };
        let task = Self::of(CUSTOM, form);
        task.reader()?;
        Ok(task)
    }

    /// The same task with another scoring.
    pub fn with_scoring(mut self, scoring: Scoring) -> Self {
        self.scoring = scoring;
        self
    }

    /// The same task with another reading of labels.
    pub fn with_label_reading(mut self, reading: Option<LabelReading>) -> Self {
        self.label_reading = reading;
        self
    }

    /// The field with the label.
    pub fn label_field(&self) -> &str {
        match &self.form {
            Form::Winogrande | Form::MultipleChoice { .. } => "answer",
            Form::Template { label_field, .. } => label_field,
            Form::Chat(fields) | Form::Completion(fields) => {
                fields.label_field.as_deref().unwrap_or("completion")
            }
            Form::Text(_) => "text",
        }
    }

    /// Whether its rows are texts, without choices.
    pub fn is_text(&self) -> bool {
        self.form.text_fields().is_some()
    }

    /// The same task with the loss on other tokens of a text.
    pub fn with_loss_on(mut self, loss_on: LossOn) -> Self {
        self.loss_on = loss_on;
        self
    }

    /// The name of the task that the data seem to belong to: that of their folder, or else the
    /// first one that recognises the first row.
    pub fn detect(path: &Path, first: Option<&Row>) -> Option<&'static str> {
        let folder = if path.extension().is_some() {
            path.parent()
        } else {
            Some(path)
        };
        let folder = folder.and_then(Path::file_name)?.to_string_lossy();
        let folder = folder.to_lowercase().replace('-', "_");
        // Texts are told by their fields alone: a folder `text` may hold anything.
        let named = built_in(&folder).filter(|task| !task.is_text());
        let task = named.or_else(|| recognise(first?));
        task.map(|task| task.name)
    }
}
