//! The built-in tasks. Everything that depends on the name of a task is here.
//!
//! The prompts are those of arXiv 2411.04421, letter by letter (including WinoGrande's missing full
//! stop after B). docs/adding-a-task.md walks through one task.

use serde_json::{Value, json};

use super::form::{Form, TextFields};
use super::ids::ID_FIELDS;
use super::label::shown;
use super::schema::{choice_question, outside, parse_list, rename};
use super::text_row::{COMPLETION_FIELDS, is_list};
use crate::data::error::DataError;
use crate::data::read::Row;

/// A built-in task.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// How a row becomes a prompt.
    pub wording: Wording,
    /// Renames the fields of a published row to those of the prompt, and the label.
    pub normalise: fn(&mut Row) -> Result<(), DataError>,
    /// Sets of fields by which its rows are recognised; if empty, only the name of their folder
    /// tells.
    pub marks: &'static [&'static [&'static str]],
    /// Another way to recognise a row, by its values.
    pub recognises: fn(&Row) -> bool,
    /// Fields that may hold the label as published, besides the form's own.
    pub other_label_fields: &'static [&'static str],
    /// Which of several training files to read: `s` for `train_s.jsonl`.
    pub train_size: Option<&'static str>,
    /// Whether its authors publish the same rows in several formats.
    pub is_published_twice: bool,
}

/// A [`Form`] as a constant.
#[derive(Debug)]
pub enum Wording {
    /// [`Form::Winogrande`].
    Winogrande,
    /// [`Form::MultipleChoice`].
    MultipleChoice {
        /// The required number of choices; none: any.
        only: Option<usize>,
    },
    /// [`Form::Template`].
    Template {
        /// The template.
        prompt: &'static str,
        /// The answer words in the order of the labels.
        answers: &'static [&'static str],
        /// The field with the label.
        label_field: &'static str,
    },
    /// [`Form::Chat`].
    Chat,
    /// [`Form::Completion`].
    Completion,
    /// [`Form::Text`].
    Text,
}

/// The values that most tasks share.
const PLAIN: BuiltIn = BuiltIn {
    name: "",
    wording: Wording::MultipleChoice { only: None },
    normalise: |_| Ok(()),
    marks: &[],
    recognises: |_| false,
    other_label_fields: &[],
    train_size: None,
    is_published_twice: false,
};

/// WinoGrande (arXiv 1907.10641) with the training set of 640 rows: a sentence with a gap and two
/// options for it; the answer is 1 or 2.
const WINOGRANDE_S: BuiltIn = BuiltIn {
    name: "winogrande_s",
    wording: Wording::Winogrande,
    normalise: winogrande,
    marks: &[&["sentence", "option1", "option2"]],
    train_size: Some("s"),
    ..PLAIN
};

/// WinoGrande with the training set of 2,558 rows.
const WINOGRANDE_M: BuiltIn = BuiltIn {
    name: "winogrande_m",
    marks: &[],
    train_size: Some("m"),
    ..WINOGRANDE_S
};

/// ARC, the easy set (arXiv 1803.05457): science questions from school exams; the few with three or
/// five choices are dropped.
const ARC_EASY: BuiltIn = BuiltIn {
    name: "arc_easy",
    wording: Wording::MultipleChoice { only: Some(4) },
    marks: &[],
    is_published_twice: true,
    ..MULTIPLE_CHOICE
};

/// ARC, the questions that retrieval and co-occurrence answered incorrectly.
const ARC_CHALLENGE: BuiltIn = BuiltIn {
    name: "arc_challenge",
    ..ARC_EASY
};

/// OpenBookQA (arXiv 1809.02789): science questions with four choices.
const OPENBOOKQA: BuiltIn = BuiltIn {
    name: "openbookqa",
    ..ARC_EASY
};

/// BoolQ (arXiv 1905.10044): a question about a passage, answered by true or false; the files of
/// the authors, of SuperGLUE and of the hub.
const BOOLQ: BuiltIn = BuiltIn {
    name: "boolq",
    wording: Wording::Template {
        prompt: "Answer the question with only True or False: {question} Context: {passage}",
        answers: &["False", "True"],
        label_field: "answer",
    },
    normalise: boolq,
    marks: &[&["question", "passage"]],
    other_label_fields: &["label"],
    ..PLAIN
};

/// SST-2 (Socher et al. 2013, as in GLUE): the sentiment of a sentence from a review.
const SST2: BuiltIn = BuiltIn {
    name: "sst2",
    wording: Wording::Template {
        prompt: "Is the sentiment of this review Negative or Positive? Review: {text} Sentiment:",
        answers: &["Negative", "Positive"],
        label_field: "label",
    },
    normalise: sst2,
    ..PLAIN
};

/// RTE (as in GLUE): whether the first sentence entails the second; label 0 means that it does.
const RTE: BuiltIn = BuiltIn {
    name: "rte",
    wording: Wording::Template {
        prompt: "Does the first sentence entail the second, Yes or No? First: {premise} Second: {hypothesis} Answer:",
        answers: &["Yes", "No"],
        label_field: "label",
    },
    normalise: rte,
    marks: &[
        &["premise", "hypothesis", "label"],
        &["sentence1", "sentence2", "label"],
    ],
    ..PLAIN
};

/// Any questions with 2 to 26 choices of their own, with the field names of ARC and OpenBookQA.
const MULTIPLE_CHOICE: BuiltIn = BuiltIn {
    name: "multiple_choice",
    normalise: choice_question,
    marks: &[&["question", "choices"], &["question_stem", "choices"]],
    other_label_fields: &["answerKey", "Answer Key"],
    ..PLAIN
};

/// Conversations, in the chat template: the loss is on what the assistant says.
const CHAT: BuiltIn = BuiltIn {
    name: "chat",
    wording: Wording::Chat,
    marks: &[&["messages"], &["conversations"]],
    recognises: |row| row.fields.get("prompt").is_some_and(is_list),
    ..PLAIN
};

/// Prompts with their completions: the loss is on the completion and the end token.
const COMPLETION: BuiltIn = BuiltIn {
    name: "completion",
    wording: Wording::Completion,
    marks: &COMPLETION_FIELDS,
    ..PLAIN
};

/// Texts: the loss is on all of their tokens.
const TEXT: BuiltIn = BuiltIn {
    name: "text",
    wording: Wording::Text,
    recognises: has_only_text,
    ..PLAIN
};

/// All of them, in the order in which they are listed and recognised.
static BUILT_IN: [BuiltIn; 12] = [
    WINOGRANDE_S,
    WINOGRANDE_M,
    ARC_EASY,
    ARC_CHALLENGE,
    OPENBOOKQA,
    BOOLQ,
    SST2,
    RTE,
    MULTIPLE_CHOICE,
    CHAT,
    COMPLETION,
    TEXT,
];

/// The names of the built-in tasks.
pub fn names() -> Vec<&'static str> {
    BUILT_IN.iter().map(|task| task.name).collect()
}

/// A built-in task by its name.
pub(in crate::data) fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|task| task.name == name)
}

/// The first task that recognises a row.
pub(super) fn recognise(row: &Row) -> Option<&'static BuiltIn> {
    let has = |fields: &&[&str]| fields.iter().all(|field| row.fields.contains_key(*field));
    BUILT_IN
        .iter()
        .find(|task| task.marks.iter().any(has) || (task.recognises)(row))
}

/// Whether a row has a text, and besides it only what tells where it comes from: a column of labels
/// makes it a row to classify.
fn has_only_text(row: &Row) -> bool {
    const ORIGIN: [&str; 9] = [
        "url",
        "title",
        "source",
        "meta",
        "metadata",
        "timestamp",
        "date",
        "language",
        "license",
    ];
    let is_origin = |name: &String| {
        name == "text" || ORIGIN.contains(&name.as_str()) || ID_FIELDS.contains(&name.as_str())
    };
    row.fields.contains_key("text") && row.fields.keys().all(is_origin)
}

impl BuiltIn {
    /// Whether its rows are texts.
    pub(super) fn is_text(&self) -> bool {
        matches!(
            self.wording,
            Wording::Chat | Wording::Completion | Wording::Text
        )
    }

    /// Its form, as it is saved with an adapter.
    pub(super) fn form(&self) -> Form {
        match self.wording {
            Wording::Winogrande => Form::Winogrande,
            Wording::MultipleChoice { only } => Form::MultipleChoice { only },
            Wording::Template {
                prompt,
                answers,
                label_field,
            } => Form::Template {
                prompt: prompt.into(),
                answers: answers.iter().map(ToString::to_string).collect(),
                label_field: label_field.into(),
            },
            Wording::Chat => Form::Chat(TextFields::default()),
            Wording::Completion => Form::Completion(TextFields::default()),
            Wording::Text => Form::Text(TextFields::default()),
        }
    }
}

/// The options are `option1` and `option2`, the answer `1` or `2`, the sentence `sentence`.
fn winogrande(row: &mut Row) -> Result<(), DataError> {
    rename(row, "sentence", "question");
    if row.fields.contains_key("choices") || !row.fields.contains_key("option1") {
        return parse_list(row);
    }
    let options = json!([row.text("option1")?, row.text("option2")?]);
    row.fields.insert("choices".into(), options);
    let answer = match row.fields.get("answer") {
        None | Some(Value::Null) => return Ok(()),
        Some(answer) => match shown(answer).trim() {
            "" | "-1" => return Ok(()),
            "1" => 0,
            "2" => 1,
            other => return Err(outside(row, "answer", other, "`1` or `2`".into())),
        },
    };
    row.fields.insert("answer".into(), json!(answer));
    Ok(())
}

/// BoolQ: the answer is in `answer` (boolean) or, in SuperGLUE, in `label` (0 false, 1 true).
fn boolq(row: &mut Row) -> Result<(), DataError> {
    rename(row, "label", "answer");
    Ok(())
}

/// SST-2: GLUE's column is `sentence`; surrounding white space is removed.
fn sst2(row: &mut Row) -> Result<(), DataError> {
    rename(row, "sentence", "text");
    if let Some(Value::String(text)) = row.fields.get_mut("text") {
        // Python's strip() also removes the four separators that Unicode does not count as white
        // space.
        *text = text
            .trim_matches(|letter: char| {
                letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
            })
            .into();
    }
    Ok(())
}

/// RTE: GLUE's columns are `sentence1` and `sentence2`, its labels are words in the TSV.
fn rte(row: &mut Row) -> Result<(), DataError> {
    rename(row, "sentence1", "premise");
    rename(row, "sentence2", "hypothesis");
    if let Some(Value::String(label)) = row.fields.get("label") {
        let index = match label.trim() {
            "entailment" => 0,
            "not_entailment" => 1,
            _ => return Ok(()),
        };
        row.fields.insert("label".into(), json!(index));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Task;
    use crate::data::place::Place;

    fn brought(task: &str, row: Value) -> Value {
        let mut row = Row::from_json(&row.to_string(), Place::new("f", 1)).unwrap();
        (built_in(task).unwrap().normalise)(&mut row).unwrap();
        Value::Object(row.fields)
    }

    #[test]
    fn every_task_can_read_rows_under_a_name_of_its_own() {
        for task in &BUILT_IN {
            Task::named(task.name).unwrap().reader().unwrap();
            let same = BUILT_IN.iter().filter(|other| other.name == task.name);
            assert_eq!(same.count(), 1, "{}", task.name);
        }
    }

    #[test]
    fn the_page_on_adding_a_task_shows_one_as_it_stands() {
        let page = include_str!("../../../../../docs/adding-a-task.md");
        let file = include_str!("catalogue.rs");
        let (_, after) = file.split_once("/// BoolQ (arXiv").unwrap();
        let (paragraph, _) = after.split_once("\n};").unwrap();
        assert!(page.contains(paragraph));
    }

    #[test]
    fn rows_with_the_marks_of_a_task_are_taken_for_that_task() {
        for task in &BUILT_IN {
            for marks in task.marks {
                let fields = marks.iter().map(|field| (field.to_string(), json!("")));
                let row = Row {
                    fields: fields.collect(),
                    place: Place::new("f", 1),
                };
                assert_eq!(recognise(&row).map(|found| found.name), Some(task.name));
            }
        }
    }

    #[test]
    fn winogrande_s_options_become_choices_and_its_answer_an_index() {
        let row = brought(
            "winogrande_s",
            json!({"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2"}),
        );
        assert_eq!(
            (&row["question"], &row["choices"], &row["answer"]),
            (&json!("a _ b"), &json!(["x", "y"]), &json!(1))
        );
        let mut wrong = Row::from_json(
            r#"{"sentence": "", "option1": "", "option2": "", "answer": "3"}"#,
            Place::new("f", 4),
        )
        .unwrap();
        let message = winogrande(&mut wrong).unwrap_err().to_string();
        assert_eq!(
            message,
            "`f` line 4: label `3` in field `answer` is out of range, expected `1` or `2`"
        );
    }

    #[test]
    fn glue_and_superglue_columns_get_the_schema_s_names() {
        assert_eq!(
            brought("sst2", json!({"sentence": " fine . \u{1c}", "label": "1"}))["text"],
            "fine ."
        );
        let row = brought(
            "rte",
            json!({"index": "0", "sentence1": "a", "sentence2": "b", "label": "not_entailment"}),
        );
        assert_eq!(
            row,
            json!({"index": "0", "label": 1, "premise": "a", "hypothesis": "b"})
        );
        assert_eq!(
            brought(
                "boolq",
                json!({"question": "q", "passage": "p", "label": 0})
            )["answer"],
            0
        );
    }
}
