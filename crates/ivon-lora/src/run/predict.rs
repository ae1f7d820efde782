//! The command `predict`: rows or prompts → a line for each, in their order; what cannot be
//! answered has a line that says why.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apply::{EvaluateRequest, Opened, files_of};
use super::evaluation::predictions;
use super::lines::{LineFormat, PredictedRow, mark_truncated, write_lines};
use super::train::Watch;
use super::{RunError, RunEvent, Stage};
use crate::data::{
    self, DataError, Drops, EncodedSet, Example, Question, Refusal, Rows, Stream, StreamFormat,
};
use crate::files;

/// Where the rows of a prediction come from.
pub enum Input {
    /// Rows of a data file or of a split of a folder; labels are not needed.
    Data(PathBuf, Option<String>),
    /// Finished prompts, for tasks whose answers are the same in every row.
    Prompts(Vec<String>),
    /// Rows or finished prompts of a stream, such as standard input.
    Stream {
        /// What stands for it in messages and ids.
        name: String,
        /// The stream.
        reader: Box<dyn Read + Send>,
        /// What it holds; told by its first line where absent.
        format: Option<StreamFormat>,
    },
}

/// What `predict` is asked for.
pub struct PredictRequest {
    /// As for `evaluate`; its data and split are not read.
    pub common: EvaluateRequest,
    /// The rows.
    pub input: Input,
    /// The columns of the rows that go along with their answers.
    pub carry: Vec<String>,
    /// How the file of `common.out` is written.
    pub format: LineFormat,
}

/// Predicts rows or prompts and gives a line for each, in their order. A row that cannot be
/// answered does not end the others.
///
/// # Errors
/// Whatever is wrong with base, adapter or the data as a whole.
pub fn predict(request: PredictRequest, watch: Watch<'_>) -> Result<Vec<PredictedRow>, RunError> {
    let PredictRequest {
        common,
        input,
        carry,
        format,
    } = request;
    if let Some(out) = &common.out {
        files::check_can_write(out)?;
    }
    let opened = Opened::open(&common, watch)?;
    let asked = asked(
        input,
        &opened,
        &carry,
        common.eval_limit.unwrap_or(usize::MAX),
        watch,
    )?;
    let examples: Vec<Example> = asked
        .questions
        .iter()
        .filter_map(|question| question.asked.as_ref().ok().cloned())
        .collect();
    let set = data::encode_any(&examples, &opened.base.tokenizer, opened.encode_options())?;
    for said in left_out(&asked).into_iter().chain(set.account(
        &asked.name,
        &examples,
        opened.encode_options().max_length,
    )) {
        watch(RunEvent::Warning(said.into()));
    }
    let mut lines = Vec::new();
    if !set.examples.is_empty() {
        let evaluated = opened.evaluate(&set, Stage::Predicting, watch)?;
        let words: Vec<&Example> = set.kept.iter().map(|&index| &examples[index]).collect();
        lines = predictions(
            &set.examples,
            &words,
            &evaluated,
            opened.chosen,
            opened.temperatures,
            common.include_text,
        )?;
        mark_truncated(&mut lines, &set);
    }
    let rows = in_order(asked.questions, set, lines);
    if let Some(out) = &common.out {
        files::write_with(out, |file| write_lines(file, &rows, format))?;
        watch(RunEvent::Saved(out));
    }
    Ok(rows)
}

/// The questions, under the name of where they come from.
struct Asked {
    name: String,
    questions: Vec<Question>,
}

/// Reads what shall be answered.
fn asked(
    input: Input,
    opened: &Opened,
    carry: &[String],
    limit: usize,
    watch: Watch<'_>,
) -> Result<Asked, RunError> {
    let is_stream = matches!(input, Input::Stream { .. });
    let (name, questions) = match input {
        Input::Prompts(prompts) => (
            "the prompts".into(),
            prompts_of(prompts.into_iter().map(Ok), opened, carry, limit)?,
        ),
        Input::Data(path, split) => of_files(&path, split.as_deref(), opened, carry, limit, watch)?,
        Input::Stream {
            name,
            reader,
            format,
        } => {
            let is_header = |names: &[String]| opened.prepared.reads(names);
            let questions =
                match data::stream(Arc::from(name.as_str()), reader, format, &is_header)? {
                    Stream::Rows(rows) => of_rows(rows, opened, carry, limit, watch)?,
                    Stream::Lines(lines) => prompts_of(
                        lines.map(|line| line.map(|(line, _)| line)),
                        opened,
                        carry,
                        limit,
                    )?,
                };
            (name, questions)
        }
    };
    match (questions.is_empty(), is_stream) {
        (true, true) => Err(DataError::EmptyStream { name }.into()),
        (true, false) => Err(DataError::EmptySet {
            what: format!("`{name}`"),
        }
        .into()),
        (false, _) => Ok(Asked { name, questions }),
    }
}

fn of_files(
    path: &Path,
    split: Option<&str>,
    opened: &Opened,
    carry: &[String],
    limit: usize,
    watch: Watch<'_>,
) -> Result<(String, Vec<Question>), RunError> {
    let found = files_of(path, split, &opened.task.name)?;
    found
        .aside
        .into_iter()
        .for_each(|said| _ = watch(RunEvent::Note(said)));
    let mut questions = Vec::new();
    for path in &found.paths {
        questions.extend(of_rows(
            Rows::open(path)?,
            opened,
            carry,
            limit - questions.len(),
            watch,
        )?);
    }
    Ok((found.name, questions))
}

fn of_rows(
    mut rows: Rows,
    opened: &Opened,
    carry: &[String],
    limit: usize,
    watch: Watch<'_>,
) -> Result<Vec<Question>, RunError> {
    let questions = data::questions(&mut rows, &opened.prepared, carry, limit)?;
    rows.notes()
        .into_iter()
        .for_each(|said| _ = watch(RunEvent::Note(said)));
    Ok(questions)
}

/// Prompts as questions whose answers are the task's.
fn prompts_of(
    prompts: impl Iterator<Item = Result<String, DataError>>,
    opened: &Opened,
    carry: &[String],
    limit: usize,
) -> Result<Vec<Question>, RunError> {
    let wrong = |name, found: String, expected| {
        Err(RunError::Setting {
            name,
            found,
            expected,
        })
    };
    if !carry.is_empty() {
        return wrong(
            "carry",
            format!("`{}` and there are only finished prompts", carry.join(",")),
            "rows with these columns",
        );
    }
    let data::Form::Template { answers, .. } = &opened.task.form else {
        let found = format!("`{}`, whose rows bring their own choices", opened.task.name);
        return wrong(
            "task",
            found,
            "a task with the same answers in every row, or rows in place of prompts",
        );
    };
    let answers: Arc<[String]> = answers.clone().into();
    let question = |(index, prompt): (usize, Result<String, DataError>)| {
        let id = format!("prompt-{}", index + 1);
        match prompt {
            Ok(prompt) => Ok(Question::of(Example::from_prompt(
                id,
                prompt,
                Arc::clone(&answers),
            ))),
            Err(error) if error.is_of_a_row() => Ok(Question {
                id,
                asked: Err(Refusal::Unreadable(error.to_string())),
                carried: Default::default(),
            }),
            Err(error) => Err(error.into()),
        }
    };
    prompts.take(limit).enumerate().map(question).collect()
}

/// Which rows have no answer and why, in the words of every command.
fn left_out(asked: &Asked) -> Vec<String> {
    let mut drops = Drops::default();
    let mut first = None;
    for question in &asked.questions {
        if let Err(refusal) = &question.asked {
            drops.add(refusal.reason(), &question.id);
            if let Refusal::Unreadable(sentence) = refusal {
                first.get_or_insert(sentence);
            }
        }
    }
    let mut said = drops.sentences(&asked.name, asked.questions.len());
    said.extend(
        first.map(|sentence| format!("{}: the first that is not readable: {sentence}", asked.name)),
    );
    said
}

/// Gives each question its prediction, or why there is none. `lines` are those of the examples that
/// were kept, both in order.
fn in_order(
    questions: Vec<Question>,
    set: EncodedSet,
    lines: Vec<super::Prediction>,
) -> Vec<PredictedRow> {
    let (mut kept, mut lines, mut dropped) = (
        set.kept.into_iter().peekable(),
        lines.into_iter(),
        set.dropped.into_iter(),
    );
    let mut place = 0;
    let mut answered = |question: Question| {
        let answered = match question.asked {
            Err(refusal) => Err(refusal.to_string()),
            Ok(_) => {
                place += 1;
                let line = if kept.next_if_eq(&(place - 1)).is_some() {
                    lines.next()
                } else {
                    None
                };
                line.map(Box::new).ok_or_else(|| {
                    dropped
                        .next()
                        .map_or_else(String::new, |dropped| dropped.reason.to_string())
                })
            }
        };
        PredictedRow {
            id: question.id,
            answered,
            carried: question.carried,
        }
    };
    questions.into_iter().map(&mut answered).collect()
}
