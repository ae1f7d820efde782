//! Reads the rows of a task as examples.

use std::sync::Arc;

use serde_json::Value;

use super::catalogue::{BuiltIn, built_in};
use super::definition::Task;
use super::document::{Document, LossOn};
use super::example::{DropReason, Example};
use super::form::{CHOICES, Form, checked_answers};
use super::ids::id_of;
use super::label::{Reading, among_choices, among_words, is_withheld, shown};
use super::multiple_choice::{choice_prompt, choices_of, gap_prompt};
use super::prompt::Prompt;
use super::template::Template;
use super::text_row::{CHAT_FIELDS, COMPLETION_FIELDS, TEXT_FIELDS, TextReader, lacks_completion};
use crate::data::error::DataError;
use crate::data::place::Place;
use crate::data::read::Row;
use crate::settings::SettingError;
use crate::words::listed;

/// Reads rows by a task.
#[derive(Clone, Debug)]
pub struct TaskReader {
    task: Task,
    /// Its entry in the catalogue; none for a custom task.
    built_in: Option<&'static BuiltIn>,
    /// The field with a row's id, if it is given.
    id_field: Option<String>,
    template: Option<Template>,
    /// The answers of a template.
    answers: Arc<[String]>,
    /// The first n letters, at n.
    letters: Vec<Arc<[String]>>,
}

impl Task {
    /// The reader of this task.
    ///
    /// # Errors
    /// If its template or its answers are invalid, as in a task read from a file.
    pub fn reader(&self) -> Result<TaskReader, DataError> {
        let (template, answers) = match &self.form {
            Form::Template {
                prompt, answers, ..
            } => (Some(Template::parse(prompt)?), checked_answers(answers)?),
            Form::MultipleChoice { only: Some(only) } if !CHOICES.contains(only) => {
                let found = only.to_string();
                return Err(DataError::Setting(SettingError::new(
                    "only",
                    found,
                    "2 to 26 choices",
                )));
            }
            Form::Winogrande | Form::MultipleChoice { .. } => (None, Arc::default()),
            Form::Chat(fields) | Form::Completion(fields) | Form::Text(fields) => {
                let template = fields.prompt.as_deref().map(Template::parse).transpose()?;
                (template, Arc::default())
            }
        };
        let letters = |count: usize| ('A'..='Z').take(count).map(String::from).collect();
        Ok(TaskReader {
            task: self.clone(),
            built_in: built_in(&self.name),
            id_field: None,
            template,
            answers,
            letters: (0..=*CHOICES.end()).map(letters).collect(),
        })
    }
}

/// What a row became.
#[derive(Clone, Debug, PartialEq)]
pub enum RowOutcome {
    /// An example.
    Example(Example),
    /// Nothing, and why.
    Dropped {
        /// The row's id.
        id: String,
        /// Why.
        reason: DropReason,
    },
}

/// Prompt, answers and label of a row.
type Question = (Prompt, Arc<[String]>, Option<usize>);

impl TaskReader {
    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Takes ids from this field only; if it is none, from the usual fields or the row's place.
    pub fn with_id_field(mut self, field: Option<&str>) -> Self {
        self.id_field = field.map(String::from);
        self
    }

    /// The answers for a finished prompt: the task's words, or the first `count` letters (at most
    /// 26) for questions with their own choices.
    pub fn answers(&self, count: usize) -> Arc<[String]> {
        match &self.template {
            None if self.task.is_text() => Arc::default(),
            Some(_) => self.answers.clone(),
            None => self
                .letters
                .get(count.min(*CHOICES.end()))
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Whether rows with these fields can be asked: all fields of the prompt are present.
    pub fn reads(&self, fields: &[String]) -> bool {
        let mut row = Row {
            fields: fields
                .iter()
                .map(|field| (field.clone(), Value::from("")))
                .collect(),
            place: Place::new("", 1),
        };
        if let Some(sets) = self.sets_of_text_fields() {
            let has = |set: &&[&str]| set.iter().all(|field| row.fields.contains_key(*field));
            return sets.iter().any(has);
        }
        // Errors of labels or choices do not matter here, where only the names of the fields are
        // known.
        let _ = self.normalise(&mut row);
        let mut needed = self.columns().into_iter();
        needed.all(|field| row.fields.contains_key(field))
    }

    /// The fields that a question is made of; for a task of texts without a template, those of its
    /// first form.
    pub fn columns(&self) -> Vec<&str> {
        match (&self.template, self.sets_of_text_fields()) {
            (Some(template), _) => template.fields(),
            (None, Some(sets)) => sets.first().map_or_else(Vec::new, |set| set.to_vec()),
            (None, None) => vec!["question", "choices"],
        }
    }

    /// The sets of fields of which a row of text has one, if the task is one of texts without a
    /// template.
    fn sets_of_text_fields(&self) -> Option<&'static [&'static [&'static str]]> {
        match (&self.task.form, &self.template) {
            (Form::Chat(_), None) => Some(&CHAT_FIELDS),
            (Form::Completion(_), None) => Some(&COMPLETION_FIELDS),
            (Form::Text(_), None) => Some(&TEXT_FIELDS),
            _ => None,
        }
    }

    /// Whether a row of a test file has no label, as in splits whose answers are not public.
    pub fn is_withheld(&self, row: &Row) -> bool {
        match &self.task.form {
            Form::Completion(fields) => {
                return lacks_completion(row, fields.label_field.as_deref());
            }
            Form::Chat(fields) => {
                let field = fields.label_field.as_deref();
                return field.is_some_and(|field| lacks_completion(row, Some(field)));
            }
            Form::Text(_) => return false,
            Form::Winogrande | Form::MultipleChoice { .. } | Form::Template { .. } => {}
        }
        let others = self
            .built_in
            .map_or(&[][..], |task| task.other_label_fields);
        let mut fields = std::iter::once(self.task.label_field()).chain(others.iter().copied());
        fields.all(|field| is_withheld(row.fields.get(field), &self.answers))
    }

    /// Turns a row into an example, without a label if the row has none; `group_field` is the field
    /// with its group.
    ///
    /// # Errors
    /// If a field is missing or has the wrong type, a label is out of range or ambiguous, or the
    /// number of choices is not allowed.
    pub fn example(&self, row: Row, group_field: Option<&str>) -> Result<RowOutcome, DataError> {
        let group = group_field.map(|field| row.text(field)).transpose()?;
        self.outcome(row, group, true)
    }

    /// Turns a row into an example to be answered; a label that cannot be read counts as missing.
    ///
    /// # Errors
    /// As [`TaskReader::example`], except for labels.
    pub fn question(&self, row: Row) -> Result<RowOutcome, DataError> {
        self.outcome(row, None, false)
    }

    fn outcome(
        &self,
        mut row: Row,
        group: Option<String>,
        needs_label: bool,
    ) -> Result<RowOutcome, DataError> {
        let id = self.id(&row)?;
        if self.task.is_text() {
            return Ok(RowOutcome::Example(self.document(
                &row,
                id,
                group,
                needs_label,
            )?));
        }
        match self.normalise(&mut row) {
            Err(DataError::LabelOutOfRange { .. }) if !needs_label => {
                row.fields.remove("answer");
            }
            done => done?,
        }
        let asked = match &self.template {
            Some(template) => self.fill(template, &row, needs_label)?,
            None => match self.ask(&row, needs_label)? {
                Ok(asked) => asked,
                Err(reason) => return Ok(RowOutcome::Dropped { id, reason }),
            },
        };
        let (prompt, answers, label) = asked;
        Ok(RowOutcome::Example(Example {
            id,
            prompt,
            answers,
            label,
            group,
            document: None,
        }))
    }

    /// The document of a row of text.
    fn document(
        &self,
        row: &Row,
        id: String,
        group: Option<String>,
        needs_completion: bool,
    ) -> Result<Example, DataError> {
        let fields = self.task.form.text_fields();
        let loss_on = match self.task.form {
            Form::Text(_) => LossOn::All,
            _ => self.task.loss_on,
        };
        let reader = TextReader {
            template: self.template.as_ref(),
            label_field: fields.and_then(|fields| fields.label_field.as_deref()),
            needs_completion,
            loss_on,
        };
        let (prompt, content) = match self.task.form {
            Form::Chat(_) => reader.chat(row)?,
            Form::Completion(_) => reader.completion(row)?,
            _ => reader.text(row)?,
        };
        Ok(Example {
            id,
            prompt,
            answers: Arc::default(),
            label: None,
            group,
            document: Some(Document {
                references: reader.references(row, &content)?,
                content,
                loss_on,
            }),
        })
    }

    /// Renames the fields and converts the values of a row of a public data set to the common
    /// schema.
    fn normalise(&self, row: &mut Row) -> Result<(), DataError> {
        self.built_in.map_or(Ok(()), |task| (task.normalise)(row))
    }

    /// Prompt, answers and label of a row for a template.
    fn fill(
        &self,
        template: &Template,
        row: &Row,
        needs_label: bool,
    ) -> Result<Question, DataError> {
        let value = row.fields.get(self.task.label_field());
        let reading = among_words(value, &self.answers, self.task.label_reading);
        Ok((
            template.fill(row)?,
            self.answers.clone(),
            self.label(row, reading, &self.answers, needs_label)?,
        ))
    }

    /// Prompt, letters and label of a question with its own choices; or why the task does not ask
    /// it.
    fn ask(&self, row: &Row, needs_label: bool) -> Result<Result<Question, DropReason>, DataError> {
        let (question, choices) = (row.text("question")?, choices_of(row)?);
        if let Some(reason) = self.left_out(row, choices.len())? {
            return Ok(Err(reason));
        }
        // As the position of a choice, the label has only one reading.
        let value = row.fields.get("answer");
        let reading = among_choices(value, &choices, self.task.label_reading);
        let letters = self.letters.get(choices.len()).cloned().unwrap_or_default();
        let label = self.label(row, reading, &letters, needs_label)?;
        let prompt = match self.task.form {
            Form::Winogrande => gap_prompt(&question, &choices),
            _ => choice_prompt(&question, &choices),
        };
        Ok(Ok((prompt, letters, label)))
    }

    /// Why the task does not ask a question with this number of choices, if it does not.
    ///
    /// # Errors
    /// If no task can ask it.
    fn left_out(&self, row: &Row, found: usize) -> Result<Option<DropReason>, DataError> {
        if let Form::MultipleChoice { only: Some(kept) } = self.task.form {
            return Ok((kept != found).then_some(DropReason::ChoiceCount { found, kept }));
        }
        let allowed = if self.task.form == Form::Winogrande {
            2..=2
        } else {
            CHOICES
        };
        if allowed.contains(&found) {
            return Ok(None);
        }
        let (fewest, most) = (*allowed.start(), *allowed.end());
        Err(DataError::ChoiceCount {
            at: row.place.clone(),
            found,
            fewest,
            most,
        })
    }

    /// The row's id: from the given field, otherwise see [`id_of`].
    pub(super) fn id(&self, row: &Row) -> Result<String, DataError> {
        let Some(field) = &self.id_field else {
            return Ok(id_of(row));
        };
        let id = row.text(field)?;
        if id.trim().is_empty() {
            return Err(DataError::WrongType {
                at: row.place.clone(),
                field: field.clone(),
                expected: "an id",
                found: "empty".into(),
            });
        }
        Ok(id)
    }

    /// The label; one that cannot be read counts as missing if none is needed.
    fn label(
        &self,
        row: &Row,
        reading: Reading,
        answers: &[String],
        needs_label: bool,
    ) -> Result<Option<usize>, DataError> {
        match reading {
            Reading::Index(index) => Ok(Some(index)),
            Reading::Absent => Ok(None),
            Reading::Two(..) | Reading::Outside if !needs_label => Ok(None),
            Reading::Two(first, second) => Err(self.ambiguous_label(row, first, second)),
            Reading::Outside => Err(self.label_out_of_range(row, answers)),
        }
    }

    fn ambiguous_label(&self, row: &Row, first: String, second: String) -> DataError {
        let field = self.task.label_field();
        DataError::AmbiguousLabel {
            at: row.place.clone(),
            field: field.into(),
            value: row.fields.get(field).map(shown).unwrap_or_default(),
            first,
            second,
        }
    }

    fn label_out_of_range(&self, row: &Row, answers: &[String]) -> DataError {
        let field = self.task.label_field();
        let last = answers.len().saturating_sub(1);
        DataError::LabelOutOfRange {
            at: row.place.clone(),
            field: field.into(),
            value: row.fields.get(field).map(shown).unwrap_or_default(),
            allowed: format!("an index from 0 to {last} or one of {}", listed(answers)),
        }
    }
}
