//! What is asked of a row: the six tasks of the paper, `sst2` and `rte`, questions with choices from anyone, and a
//! user's own template. A [`Task`] is saved beside the adapter, so that later commands need no name.
//!
//! Prompts are those of arXiv 2411.04421, letter by letter (WinoGrande's missing full stop after B included).

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{DataError, listed, nearest};
use super::example::{DropReason, Example};
use super::label::{Reading, among_choices, among_words, is_withheld, shown};
use super::official;
use super::prompt::Prompt;
use super::read::Row;
use super::template::Template;

/// The fewest and the most choices of a question; the answers are letters, of which there are 26.
const CHOICES: std::ops::RangeInclusive<usize> = 2..=26;

/// The fields that may have a row's id, the first one first.
pub(super) const ID_FIELDS: [&str; 6] = ["id", "ID", "qID", "question_id", "idx", "index"];

/// The most answer words of a task.
const MOST_ANSWERS: usize = 10_000;

/// The tasks that have a name.
const NAMES: [&str; 9] =
    ["winogrande_s", "winogrande_m", "arc_easy", "arc_challenge", "openbookqa", "boolq", "sst2", "rte", "multiple_choice"];

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
    /// By one token of each answer, where no two answers of the question share it; else as [`Scoring::Answer`].
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
            "boolq" => template("Answer the question with only True or False: {question} Context: {passage}", ["False", "True"], "answer"),
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
            _ => return Err(DataError::UnknownTask { name: name.into(), nearest: nearest(name, NAMES.into_iter()) }),
        };
        Ok(Self { name: name.into(), form, scoring: Scoring::default() })
    }

    /// A user's own task.
    ///
    /// # Errors
    /// If the template or the answers cannot be used.
    pub fn custom(prompt: &str, answers: Vec<String>, label_field: &str) -> Result<Self, DataError> {
        let form = Form::Template { prompt: prompt.into(), answers, label_field: label_field.into() };
        let task = Self { name: CUSTOM.into(), form, scoring: Scoring::default() };
        task.prepare()?;
        Ok(task)
    }

    /// The same task with another scoring.
    pub fn with_scoring(mut self, scoring: Scoring) -> Self {
        self.scoring = scoring;
        self
    }

    /// The field that has the label.
    pub fn label_field(&self) -> &str {
        match &self.form {
            Form::Winogrande | Form::MultipleChoice { .. } => "answer",
            Form::Template { label_field, .. } => label_field,
        }
    }

    /// The name of the task that data look like: that of their folder, or one whose fields the first row has.
    pub fn detect(path: &Path, first: Option<&Row>) -> Option<&'static str> {
        let folder = if path.extension().is_some() { path.parent() } else { Some(path) };
        let folder = folder.and_then(Path::file_name)?.to_string_lossy().to_lowercase().replace('-', "_");
        let by_folder = NAMES.into_iter().find(|name| *name == folder);
        let has = |fields: &[&str]| first.is_some_and(|row| fields.iter().all(|field| row.fields.contains_key(*field)));
        by_folder
            .or_else(|| has(&["question", "passage"]).then_some("boolq"))
            .or_else(|| has(&["sentence", "option1", "option2"]).then_some("winogrande_s"))
            .or_else(|| (has(&["premise", "hypothesis", "label"]) || has(&["sentence1", "sentence2", "label"])).then_some("rte"))
            .or_else(|| (has(&["question", "choices"]) || has(&["question_stem", "choices"])).then_some("multiple_choice"))
    }

    /// The task made ready to read rows.
    ///
    /// # Errors
    /// If its template or its answers cannot be used; a task read from a file may hold anything.
    pub fn prepare(&self) -> Result<Prepared, DataError> {
        let (template, answers) = match &self.form {
            Form::Template { prompt, answers, .. } => (Some(Template::parse(prompt)?), checked_answers(answers)?),
            Form::MultipleChoice { only: Some(only) } if !CHOICES.contains(only) => {
                let found = only.to_string();
                return Err(DataError::Setting { name: "only", found, expected: "2 to 26 choices" });
            }
            Form::Winogrande | Form::MultipleChoice { .. } => (None, Arc::default()),
        };
        let letters = |count: usize| ('A'..='Z').take(count).map(String::from).collect();
        Ok(Prepared { task: self.clone(), template, answers, letters: (0..=*CHOICES.end()).map(letters).collect() })
    }
}

/// Two or more different words.
fn checked_answers(answers: &[String]) -> Result<Arc<[String]>, DataError> {
    let wrong = |reason: String| Err(DataError::Answers { reason });
    if answers.len() < 2 || answers.len() > MOST_ANSWERS {
        return wrong(format!("there are {}, expected 2 to {MOST_ANSWERS}", answers.len()));
    }
    let mut seen = std::collections::HashSet::new();
    for answer in answers {
        if answer.trim().is_empty() {
            return wrong("one of them is empty".into());
        }
        if answer.trim() != answer {
            return wrong(format!("`{answer}` begins or ends with a blank"));
        }
        if !seen.insert(answer) {
            return wrong(format!("`{answer}` is given twice"));
        }
    }
    Ok(answers.into())
}

/// A task that reads rows.
#[derive(Clone, Debug)]
pub struct Prepared {
    task: Task,
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
    Dropped(DropReason),
}

impl Prepared {
    /// The task that was made ready.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The answers for a finished prompt: the task's words, or the first `count` letters (at most 26) for questions
    /// with choices of their own.
    pub fn answers(&self, count: usize) -> Arc<[String]> {
        match &self.template {
            Some(_) => self.answers.clone(),
            None => self.letters.get(count.min(*CHOICES.end())).cloned().unwrap_or_default(),
        }
    }

    /// Whether a row of a test file comes without its label, as in splits whose answers are not public.
    pub fn is_withheld(&self, row: &Row) -> bool {
        let field = |name: &str| is_withheld(row.fields.get(name));
        match &self.task.form {
            Form::Winogrande => field("answer"),
            Form::MultipleChoice { .. } => field("answer") && field("answerKey") && field("Answer Key"),
            Form::Template { label_field, .. } => field(label_field) && (self.task.name != "boolq" || field("label")),
        }
    }

    /// Turns a row into an example; `group_field` names the field of what must stay together. The label is none
    /// where the row has none.
    ///
    /// # Errors
    /// If a field is missing or of another kind, a label out of range, a number of choices not to be asked.
    pub fn example(&self, mut row: Row, group_field: Option<&str>) -> Result<Made, DataError> {
        let group = group_field.map(|field| row.text(field)).transpose()?;
        let id = id_of(&row);
        match self.task.name.as_str() {
            "winogrande_s" | "winogrande_m" => official::winogrande(&mut row)?,
            "arc_easy" | "arc_challenge" | "openbookqa" | "multiple_choice" => official::choice_question(&mut row)?,
            "boolq" => official::boolq(&mut row)?,
            "sst2" => official::sst2(&mut row)?,
            "rte" => official::rte(&mut row)?,
            _ => {}
        }
        let (prompt, answers, label) = match (&self.task.form, &self.template) {
            (Form::Template { label_field, .. }, Some(template)) => {
                let reading = among_words(row.fields.get(label_field), &self.answers);
                (template.fill(&row)?, self.answers.clone(), self.label(&row, reading, &self.answers)?)
            }
            (form, _) => {
                let (question, choices) = (row.text("question")?, choices_of(&row)?);
                let only = match form {
                    Form::MultipleChoice { only } => *only,
                    _ => None,
                };
                let allowed = if *form == Form::Winogrande { 2..=2 } else { CHOICES };
                if let Some(kept) = only.filter(|only| *only != choices.len()) {
                    return Ok(Made::Dropped(DropReason::ChoiceCount { found: choices.len(), kept }));
                }
                if !allowed.contains(&choices.len()) {
                    let (fewest, most) = (*allowed.start(), *allowed.end());
                    return Err(DataError::ChoiceCount { at: row.place, found: choices.len(), fewest, most });
                }
                let reading = among_choices(row.fields.get("answer"), &choices);
                let letters = self.letters.get(choices.len()).cloned().unwrap_or_default();
                let label = self.label(&row, reading, &letters)?;
                let prompt = if *form == Form::Winogrande { gap_prompt(&question, &choices) } else { choice_prompt(&question, &choices) };
                (prompt, letters, label)
            }
        };
        Ok(Made::Example(Example { id, prompt, answers, label, group }))
    }

    fn label(&self, row: &Row, reading: Reading, answers: &[String]) -> Result<Option<usize>, DataError> {
        match reading {
            Reading::Index(index) => Ok(Some(index)),
            Reading::Absent => Ok(None),
            Reading::Outside => {
                let field = self.task.label_field();
                Err(DataError::LabelOutOfRange {
                    at: row.place.clone(),
                    field: field.into(),
                    value: row.fields.get(field).map(shown).unwrap_or_default(),
                    allowed: format!("an index from 0 to {} or one of {}", answers.len().saturating_sub(1), listed(answers)),
                })
            }
        }
    }
}

/// `Select one … {question} Choices: A. {a} B. {b} … Answer:`
fn choice_prompt(question: &str, choices: &[String]) -> Prompt {
    let listed: Vec<String> = ('A'..='Z').zip(choices).map(|(letter, choice)| format!("{letter}. {}", sentence(choice))).collect();
    Prompt::fixed(SELECT).then_field(question).then(format!(" Choices: {} Answer:", listed.join(" ")))
}

/// `Select one … {question} Choices: A. {a}. B {b}. Answer:`, the paper's wording for WinoGrande.
fn gap_prompt(question: &str, choices: &[String]) -> Prompt {
    let option = |index: usize| choices.get(index).map_or("", String::as_str);
    Prompt::fixed(SELECT).then_field(question).then(format!(" Choices: A. {}. B {}. Answer:", option(0), option(1)))
}

const SELECT: &str = "Select one of the choices that answers the following question: ";

/// A text with a capital first letter, and a full stop if it has none.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let mut sentence: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    sentence.push_str(letters.as_str());
    if !text.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

/// The texts under `choices`.
fn choices_of(row: &Row) -> Result<Vec<String>, DataError> {
    let field = row.field("choices")?;
    let Value::Array(choices) = field else { return Err(row.wrong_type("choices", "a list", field)) };
    let text = |choice: &Value| match choice {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(row.wrong_type("choices", "a list of texts", other)),
    };
    choices.iter().map(text).collect()
}

/// The row's own id as text; a bare number (GLUE's running index) or none gets the file's name in front, so that
/// ids of several files differ.
fn id_of(row: &Row) -> String {
    let own = ID_FIELDS.iter().find_map(|name| match row.fields.get(*name) {
        Some(Value::String(id)) if !id.trim().is_empty() => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    });
    match own {
        Some(id) if !id.bytes().all(|byte| byte.is_ascii_digit()) => id,
        number => {
            let stem = Path::new(&*row.place.file).file_stem().unwrap_or_default().to_string_lossy();
            format!("{stem}-{}", number.unwrap_or_else(|| row.place.line.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::error::Place;
    use serde_json::json;

    fn made(task: &Task, row: Value) -> Result<Made, DataError> {
        task.prepare()?.example(Row::from_json(&row.to_string(), Place::new("train.jsonl", 7)).unwrap(), None)
    }

    fn example(name: &str, row: Value) -> Example {
        match made(&Task::named(name).unwrap(), row).unwrap() {
            Made::Example(example) => example,
            Made::Dropped(reason) => panic!("dropped: {reason}"),
        }
    }

    #[test]
    fn every_prompt_is_worded_as_in_the_paper() {
        let row = json!({"id": "w-1", "question": "The _ is smaller.", "choices": ["home", "house"], "answer": 1});
        let winogrande = example("winogrande_s", row);
        assert_eq!(
            winogrande.prompt.text(),
            "Select one of the choices that answers the following question: The _ is smaller. Choices: A. home. B house. Answer:"
        );
        assert_eq!(
            (winogrande.id.as_str(), winogrande.label, &winogrande.answers[..]),
            ("w-1", Some(1), &["A".to_string(), "B".into()][..])
        );
        let row = json!({"question": "Predators eat", "choices": ["lions", "humans.", "éclairs", ""], "answer": 2});
        let arc = example("arc_easy", row);
        assert_eq!(
            arc.prompt.text(),
            "Select one of the choices that answers the following question: Predators eat Choices: A. Lions. B. Humans. C. Éclairs. D. . Answer:"
        );
        assert_eq!(arc.id, "train-7");
        let boolq = example("boolq", json!({"question": "is it", "passage": "It -- it is.", "answer": true}));
        assert_eq!(boolq.prompt.text(), "Answer the question with only True or False: is it Context: It -- it is.");
        assert_eq!((boolq.label, boolq.answers[1].as_str()), (Some(1), "True"));
        let sst2 = example("sst2", json!({"text": "fine . ", "label": 1}));
        assert_eq!(sst2.prompt.text(), "Is the sentiment of this review Negative or Positive? Review: fine . Sentiment:");
        let rte = example("rte", json!({"premise": "A.", "hypothesis": "B.", "label": 0}));
        assert_eq!(rte.prompt.text(), "Does the first sentence entail the second, Yes or No? First: A. Second: B. Answer:");
        assert_eq!(rte.answers[0], "Yes");
    }

    #[test]
    fn arc_and_openbookqa_keep_only_four_choices_and_anyone_s_questions_two_to_twenty_six() {
        let row = |count: usize| json!({"question": "q", "choices": vec!["x"; count], "answer": 0});
        for name in ["arc_easy", "arc_challenge", "openbookqa"] {
            let dropped = made(&Task::named(name).unwrap(), row(5)).unwrap();
            assert_eq!(dropped, Made::Dropped(DropReason::ChoiceCount { found: 5, kept: 4 }));
        }
        for count in [2, 3, 26] {
            assert_eq!(example("multiple_choice", row(count)).answers.len(), count);
        }
        for count in [0, 1, 27] {
            let message = made(&Task::named("multiple_choice").unwrap(), row(count)).unwrap_err().to_string();
            assert_eq!(message, format!("`train.jsonl` line 7 has {count} choices, expected 2 to 26"));
        }
        let message = made(&Task::named("winogrande_m").unwrap(), row(3)).unwrap_err().to_string();
        assert!(message.ends_with("has 3 choices, expected 2 to 2"), "{message}");
    }

    #[test]
    fn a_label_out_of_range_names_file_line_value_and_what_is_allowed() {
        let task = Task::custom("Text: {text} Topic:", vec!["sport".into(), "art".into()], "topic").unwrap();
        let message = made(&task, json!({"text": "t", "topic": 2})).unwrap_err().to_string();
        assert_eq!(
            message,
            "`train.jsonl` line 7: label `2` in field `topic` is out of range, expected an index from 0 to 1 or one of `sport`, `art`"
        );
        assert!(matches!(made(&task, json!({"text": "t", "topic": "art"})).unwrap(), Made::Example(Example { label: Some(1), .. })));
        assert!(matches!(made(&task, json!({"text": "t"})).unwrap(), Made::Example(Example { label: None, .. })));
        let message =
            made(&Task::named("arc_easy").unwrap(), json!({"question": "", "choices": ["a", "b", "c", "d"], "answer": 4})).unwrap_err();
        assert!(message.to_string().contains("label `4` in field `answer` is out of range"), "{message}");
    }

    #[test]
    fn a_finished_prompt_gets_the_task_s_words_or_letters() {
        let answers = |name: &str, count| Task::named(name).unwrap().prepare().unwrap().answers(count).join(" ");
        assert_eq!(
            (answers("boolq", 9), answers("arc_easy", 4), answers("multiple_choice", 99).len()),
            ("False True".into(), "A B C D".into(), 51)
        );
    }

    #[test]
    fn a_missing_field_says_which_fields_there_are() {
        let message = made(&Task::named("boolq").unwrap(), json!({"question": "q", "answer": true})).unwrap_err().to_string();
        assert_eq!(message, "`train.jsonl` line 7 has no field `passage`, found `question`, `answer`");
    }

    #[test]
    fn an_unknown_task_suggests_the_nearest_name() {
        let error = Task::named("arc-easy").unwrap_err();
        assert!(error.to_string().starts_with("unknown task `arc-easy`, expected one of `winogrande_s`"), "{error}");
        assert_eq!(error.hint().unwrap(), "did you mean `arc_easy`?");
        assert!(Task::named("translation").unwrap_err().hint().unwrap().contains("--prompt"));
    }

    #[test]
    fn answers_that_cannot_be_used_are_refused() {
        let answers = |words: &[&str]| Task::custom("{a}", words.iter().map(ToString::to_string).collect(), "l").unwrap_err().to_string();
        assert_eq!(answers(&["one"]), "the answers cannot be used: there are 1, expected 2 to 10000");
        assert!(answers(&["a", "b", "a"]).ends_with("`a` is given twice"));
        assert!(answers(&["a", " "]).ends_with("one of them is empty"));
        assert!(answers(&["a", "b "]).ends_with("begins or ends with a blank"));
    }

    #[test]
    fn a_task_comes_back_from_its_sidecar_as_it_was() {
        let own = Task::custom("{text}:", vec!["a".into(), "b".into()], "label").unwrap().with_scoring(Scoring::Answer);
        for task in names().into_iter().map(|name| Task::named(name).unwrap()).chain([own]) {
            let text = serde_json::to_string(&task).unwrap();
            assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task, "{text}");
            let text = toml::to_string(&task).unwrap();
            assert_eq!(toml::from_str::<Task>(&text).unwrap(), task, "{text}");
        }
        let hostile = r#"{"name": "x", "form": {"multiple_choice": {"only": 99}}}"#;
        assert!(serde_json::from_str::<Task>(hostile).unwrap().prepare().is_err());
    }

    #[test]
    fn a_task_is_told_by_its_folder_or_its_fields() {
        let row = Row::from_json(r#"{"question": "q", "passage": "p"}"#, Place::new("f", 1)).unwrap();
        assert_eq!(Task::detect(Path::new("/data/ARC-Easy"), None), Some("arc_easy"));
        assert_eq!(Task::detect(Path::new("/data/sst2/train.jsonl"), Some(&row)), Some("sst2"));
        assert_eq!(Task::detect(Path::new("/data/mine"), Some(&row)), Some("boolq"));
        assert_eq!(Task::detect(Path::new("/data/mine"), None), None);
    }
}
