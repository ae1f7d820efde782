//! What is asked of a row: the six tasks of the paper, `sst2` and `rte`, questions with choices
//! from anyone, and a user's own template. A [`Task`] is saved beside the adapter, so that later
//! commands need no name.
//!
//! Prompts are those of arXiv 2411.04421, letter by letter (WinoGrande's missing full stop after B
//! included).

mod prompt;
mod example;
mod label;
mod template;
mod official;
mod question;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::DataError;
use super::place::Place;
use super::read::Row;
use crate::words::listed;
use label::{Reading, among_choices, among_words, composed, is_withheld, shown};
use template::Template;

pub use example::{DropReason, Example};
pub use label::LabelReading;
pub use prompt::{Part, Prompt};
pub use question::{Question, Refusal, questions};

/// The fewest and the most choices of a question; the answers are letters, of which there are 26.
const CHOICES: std::ops::RangeInclusive<usize> = 2..=26;

/// The fields that may have a row's id, the first one first.
pub(in crate::data) const ID_FIELDS: [&str; 6] = ["id", "ID", "qID", "question_id", "idx", "index"];

/// The most answer words of a task.
const MOST_ANSWERS: usize = 10_000;

/// The tasks that have a name.
const NAMES: [&str; 9] = [
    "winogrande_s",
    "winogrande_m",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "boolq",
    "sst2",
    "rte",
    "multiple_choice",
];

/// The name of a task that a user's template makes.
pub const CUSTOM: &str = "custom";

/// The names of the built-in tasks.
pub fn names() -> Vec<&'static str> {
    NAMES.to_vec()
}

/// How answers are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// By one token of each answer, where no two answers of the question share it; else as
    /// [`Scoring::Answer`].
    #[default]
    Token,
    /// By the log-probability of all tokens of each answer.
    Answer,
}

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
    /// What labels are, where they could be read in two ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_reading: Option<LabelReading>,
}

/// The form of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Form {
    /// A sentence with a gap under `question`, two options under `choices`; answers A and B.
    Winogrande,
    /// `question`, `choices` and `answer`; answers A, B, …
    MultipleChoice {
        /// Questions with another number of choices are left out; none: all of 2 to 26 are kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<usize>,
    },
    /// A template with field names in braces.
    Template {
        /// The template, for instance `Review: {text} Sentiment:`.
        prompt: String,
        /// The answer words in the order of the labels.
        answers: Vec<String>,
        /// The field with the label: an index from 0, a truth value, or the answer word.
        label_field: String,
    },
}

impl Task {
    /// A built-in task by its name.
    ///
    /// # Errors
    /// [`DataError::UnknownTask`] with the nearest name.
    pub fn named(name: &str) -> Result<Self, DataError> {
        let template = |prompt: &str, answers: [&str; 2], label_field: &str| Form::Template {
            prompt: prompt.into(),
            answers: answers.map(String::from).to_vec(),
            label_field: label_field.into(),
        };
        let form = match name {
            "winogrande_s" | "winogrande_m" => Form::Winogrande,
            "arc_easy" | "arc_challenge" | "openbookqa" => Form::MultipleChoice { only: Some(4) },
            "multiple_choice" => Form::MultipleChoice { only: None },
            "boolq" => template(
                "Answer the question with only True or False: {question} Context: {passage}",
                ["False", "True"],
                "answer",
            ),
            "sst2" => template(
                "Is the sentiment of this review Negative or Positive? Review: {text} Sentiment:",
                ["Negative", "Positive"],
                "label",
            ),
            "rte" => template(
                "Does the first sentence entail the second, Yes or No? First: {premise} Second: {hypothesis} Answer:",
                ["Yes", "No"],
                "label",
            ),
            _ => {
                return Err(DataError::UnknownTask {
                    name: name.into(),
                    known: names(),
                });
            }
        };
        Ok(Self {
            name: name.into(),
            form,
            scoring: Scoring::default(),
            label_reading: None,
        })
    }

    /// A user's own task.
    ///
    /// # Errors
    /// If the template or the answers cannot be used.
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
        let task = Self {
            name: CUSTOM.into(),
            form,
            scoring: Scoring::default(),
            label_reading: None,
        };
        task.prepare()?;
        Ok(task)
    }

    /// The same task with another scoring.
    pub fn with_scoring(mut self, scoring: Scoring) -> Self {
        self.scoring = scoring;
        self
    }

    /// The same task with labels read in one way alone.
    pub fn with_label_reading(mut self, reading: Option<LabelReading>) -> Self {
        self.label_reading = reading;
        self
    }

    /// The field that has the label.
    pub fn label_field(&self) -> &str {
        match &self.form {
            Form::Winogrande | Form::MultipleChoice { .. } => "answer",
            Form::Template { label_field, .. } => label_field,
        }
    }

    /// The name of the task that data look like: that of their folder, or one whose fields the
    /// first row has.
    pub fn detect(path: &Path, first: Option<&Row>) -> Option<&'static str> {
        let folder = if path.extension().is_some() {
            path.parent()
        } else {
            Some(path)
        };
        let folder = folder
            .and_then(Path::file_name)?
            .to_string_lossy()
            .to_lowercase()
            .replace('-', "_");
        let by_folder = NAMES.into_iter().find(|name| *name == folder);
        let has = |fields: &[&str]| {
            first.is_some_and(|row| fields.iter().all(|field| row.fields.contains_key(*field)))
        };
        by_folder
            .or_else(|| has(&["question", "passage"]).then_some("boolq"))
            .or_else(|| has(&["sentence", "option1", "option2"]).then_some("winogrande_s"))
            .or_else(|| {
                (has(&["premise", "hypothesis", "label"])
                    || has(&["sentence1", "sentence2", "label"]))
                .then_some("rte")
            })
            .or_else(|| {
                (has(&["question", "choices"]) || has(&["question_stem", "choices"]))
                    .then_some("multiple_choice")
            })
    }

    /// The task made ready to read rows.
    ///
    /// # Errors
    /// If its template or its answers cannot be used; a task read from a file may hold anything.
    pub fn prepare(&self) -> Result<Prepared, DataError> {
        let (template, answers) = match &self.form {
            Form::Template {
                prompt, answers, ..
            } => (Some(Template::parse(prompt)?), checked_answers(answers)?),
            Form::MultipleChoice { only: Some(only) } if !CHOICES.contains(only) => {
                let found = only.to_string();
                return Err(DataError::Setting {
                    name: "only",
                    found,
                    expected: "2 to 26 choices",
                });
            }
            Form::Winogrande | Form::MultipleChoice { .. } => (None, Arc::default()),
        };
        let letters = |count: usize| ('A'..='Z').take(count).map(String::from).collect();
        Ok(Prepared {
            task: self.clone(),
            id_field: None,
            template,
            answers,
            letters: (0..=*CHOICES.end()).map(letters).collect(),
        })
    }
}

/// Two or more different words.
fn checked_answers(answers: &[String]) -> Result<Arc<[String]>, DataError> {
    let wrong = |reason: String| Err(DataError::Answers { reason });
    if answers.len() < 2 || answers.len() > MOST_ANSWERS {
        return wrong(format!(
            "there are {}, expected 2 to {MOST_ANSWERS}",
            answers.len()
        ));
    }
    let mut seen = std::collections::HashSet::new();
    for answer in answers {
        if answer.trim().is_empty() {
            return wrong("one of them is empty".into());
        }
        if answer.trim() != answer {
            return wrong(format!("`{answer}` begins or ends with a blank"));
        }
        if !seen.insert(composed(answer)) {
            return wrong(format!("`{answer}` is given twice"));
        }
    }
    Ok(answers.into())
}

/// A task that reads rows.
#[derive(Clone, Debug)]
pub struct Prepared {
    task: Task,
    /// The field with a row's id, where one is named.
    id_field: Option<String>,
    template: Option<Template>,
    /// The answers of a template.
    answers: Arc<[String]>,
    /// The first n letters, at n.
    letters: Vec<Arc<[String]>>,
}

/// What a row became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
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

impl Prepared {
    /// The task that was made ready.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Takes ids from this field alone; from the usual ones, or the row's place, where none is
    /// named.
    pub fn with_id_field(mut self, field: Option<&str>) -> Self {
        self.id_field = field.map(String::from);
        self
    }

    /// The answers for a finished prompt: the task's words, or the first `count` letters (at most
    /// 26) for questions with choices of their own.
    pub fn answers(&self, count: usize) -> Arc<[String]> {
        match &self.template {
            Some(_) => self.answers.clone(),
            None => self
                .letters
                .get(count.min(*CHOICES.end()))
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Whether rows with these fields can be asked: what the prompt is made of is there.
    pub(crate) fn reads(&self, fields: &[String]) -> bool {
        let mut row = Row {
            fields: fields
                .iter()
                .map(|field| (field.clone(), Value::from("")))
                .collect(),
            place: Place::new("", 1),
        };
        // A label or choices that are no more than a name are not what is asked here.
        let _ = self.brought_into_schema(&mut row);
        let needed = self
            .template
            .as_ref()
            .map_or(vec!["question", "choices"], |template| template.fields());
        needed
            .into_iter()
            .all(|field| row.fields.contains_key(field))
    }

    /// Whether a row of a test file comes without its label, as in splits whose answers are not
    /// public.
    pub fn is_withheld(&self, row: &Row) -> bool {
        let field = |name: &str| is_withheld(row.fields.get(name), &self.answers);
        match &self.task.form {
            Form::Winogrande => field("answer"),
            Form::MultipleChoice { .. } => {
                field("answer") && field("answerKey") && field("Answer Key")
            }
            Form::Template { label_field, .. } => {
                field(label_field) && (self.task.name != "boolq" || field("label"))
            }
        }
    }

    /// Turns a row into an example; `group_field` names the field of what must stay together. The
    /// label is none where the row has none.
    ///
    /// # Errors
    /// If a field is missing or of another kind, a label out of range or to be read in two ways, a
    /// number of choices not to be asked.
    pub fn example(&self, row: Row, group_field: Option<&str>) -> Result<Made, DataError> {
        let group = group_field.map(|field| row.text(field)).transpose()?;
        self.made(row, group, true)
    }

    /// Turns a row into an example to be answered: a label that cannot be read is none.
    ///
    /// # Errors
    /// As [`Prepared::example`], but for labels.
    pub fn question(&self, row: Row) -> Result<Made, DataError> {
        self.made(row, None, false)
    }

    fn made(
        &self,
        mut row: Row,
        group: Option<String>,
        needs_label: bool,
    ) -> Result<Made, DataError> {
        let id = self.id(&row)?;
        match self.brought_into_schema(&mut row) {
            Err(DataError::LabelOutOfRange { .. }) if !needs_label => {
                row.fields.remove("answer");
            }
            done => done?,
        }
        let label = |reading, answers: &[String]| match self.label(&row, reading, answers) {
            Err(_) if !needs_label => Ok(None),
            label => label,
        };
        let settled = self.task.label_reading;
        let (prompt, answers, label) = match (&self.task.form, &self.template) {
            (Form::Template { label_field, .. }, Some(template)) => {
                let reading = among_words(row.fields.get(label_field), &self.answers, settled);
                (
                    template.fill(&row)?,
                    self.answers.clone(),
                    label(reading, &self.answers)?,
                )
            }
            (form, _) => {
                let (question, choices) = (row.text("question")?, choices_of(&row)?);
                if let Some(reason) = self.left_out(&row, choices.len())? {
                    return Ok(Made::Dropped { id, reason });
                }
                // The place among the labels of its own choices leaves no other reading.
                let reading = among_choices(row.fields.get("answer"), &choices, settled);
                let letters = self.letters.get(choices.len()).cloned().unwrap_or_default();
                let label = label(reading, &letters)?;
                let prompt = if *form == Form::Winogrande {
                    gap_prompt(&question, &choices)
                } else {
                    choice_prompt(&question, &choices)
                };
                (prompt, letters, label)
            }
        };
        Ok(Made::Example(Example {
            id,
            prompt,
            answers,
            label,
            group,
        }))
    }

    /// Gives a row of a public data set the names and values of the one schema.
    fn brought_into_schema(&self, row: &mut Row) -> Result<(), DataError> {
        match self.task.name.as_str() {
            "winogrande_s" | "winogrande_m" => official::winogrande(row),
            "arc_easy" | "arc_challenge" | "openbookqa" | "multiple_choice" => {
                official::choice_question(row)
            }
            "boolq" => official::boolq(row),
            "sst2" => official::sst2(row),
            "rte" => official::rte(row),
            _ => Ok(()),
        }
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

    /// The row's id: from the field that was named, else see [`id_of`].
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

    fn label(
        &self,
        row: &Row,
        reading: Reading,
        answers: &[String],
    ) -> Result<Option<usize>, DataError> {
        match reading {
            Reading::Index(index) => Ok(Some(index)),
            Reading::Absent => Ok(None),
            Reading::Two(first, second) => {
                let field = self.task.label_field();
                let value = row.fields.get(field).map(shown).unwrap_or_default();
                Err(DataError::AmbiguousLabel {
                    at: row.place.clone(),
                    field: field.into(),
                    value,
                    first,
                    second,
                })
            }
            Reading::Outside => {
                let field = self.task.label_field();
                Err(DataError::LabelOutOfRange {
                    at: row.place.clone(),
                    field: field.into(),
                    value: row.fields.get(field).map(shown).unwrap_or_default(),
                    allowed: format!(
                        "an index from 0 to {} or one of {}",
                        answers.len().saturating_sub(1),
                        listed(answers)
                    ),
                })
            }
        }
    }
}

/// `Select one … {question} Choices: A. {a} B. {b} … Answer:`
fn choice_prompt(question: &str, choices: &[String]) -> Prompt {
    let listed: Vec<String> = ('A'..='Z')
        .zip(choices)
        .map(|(letter, choice)| format!("{letter}. {}", sentence(choice)))
        .collect();
    Prompt::fixed(SELECT)
        .then_field(question)
        .then(format!(" Choices: {} Answer:", listed.join(" ")))
}

/// `Select one … {question} Choices: A. {a}. B {b}. Answer:`, the paper's wording for WinoGrande.
fn gap_prompt(question: &str, choices: &[String]) -> Prompt {
    let option = |index: usize| choices.get(index).map_or("", String::as_str);
    Prompt::fixed(SELECT).then_field(question).then(format!(
        " Choices: A. {}. B {}. Answer:",
        option(0),
        option(1)
    ))
}

const SELECT: &str = "Select one of the choices that answers the following question: ";

/// A text with a capital first letter, and a full stop if it has none.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let mut sentence: String = letters
        .next()
        .map(|first| first.to_uppercase().collect())
        .unwrap_or_default();
    sentence.push_str(letters.as_str());
    if !text.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

/// The texts under `choices`.
fn choices_of(row: &Row) -> Result<Vec<String>, DataError> {
    let field = row.field("choices")?;
    let Value::Array(choices) = field else {
        return Err(row.wrong_type("choices", "a list", field));
    };
    let text = |choice: &Value| match choice {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(row.wrong_type("choices", "a list of texts", other)),
    };
    choices.iter().map(text).collect()
}

/// The row's own id as text; a bare number (GLUE's running index) or none gets the file's name in
/// front, so that ids of several files differ.
pub(super) fn id_of(row: &Row) -> String {
    let own = ID_FIELDS
        .iter()
        .find_map(|name| match row.fields.get(*name) {
            Some(Value::String(id)) if !id.trim().is_empty() => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        });
    match own {
        Some(id) if !id.bytes().all(|byte| byte.is_ascii_digit()) => id,
        Some(number) => format!("{}-{number}", stem(&row.place)),
        None => id_at(&row.place),
    }
}

/// The id of a row without one: the file's name and the line.
pub(super) fn id_at(place: &Place) -> String {
    format!("{}-{}", stem(place), place.line)
}

/// The name of a file without its extension, whether it is packed or not.
fn stem(place: &Place) -> String {
    let name = Path::new(&*place.file)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Path::new(name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
