//! Rows from files, memory, finished prompts or a stream → the questions or labelled examples that a
//! task makes of them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::AnswerError;
use crate::data::{
    self, DataError, Example, Form, Question, Refusal, Row, Rows, Source, Split, Stream,
    StreamFormat, TaskReader,
};
use crate::settings::SettingError;
use crate::watch::{Event, Watch};

/// The name of rows in memory, in messages and ids.
const IN_MEMORY: &str = "the rows";

/// Where the rows to be answered come from. Labels are not needed.
pub enum RowSource {
    /// A data file, or a split of a folder: the one that is named, or else test, or else validation.
    Files {
        /// The file or the folder.
        path: PathBuf,
        /// The split's name.
        split: Option<String>,
    },
    /// Rows in memory: the fields of each by name.
    Memory(Vec<Map<String, Value>>),
    /// Finished prompts, for a task whose answers are the same in every row.
    Prompts(Vec<String>),
    /// Rows or finished prompts of a stream, such as standard input.
    Stream {
        /// Its name in messages and ids.
        name: String,
        /// The stream.
        reader: Box<dyn Read + Send>,
        /// Its format; if absent, it is told from the first line.
        format: Option<StreamFormat>,
    },
}

impl<const N: usize> From<[&str; N]> for RowSource {
    /// Finished prompts.
    fn from(prompts: [&str; N]) -> Self {
        Self::Prompts(prompts.map(String::from).into())
    }
}

impl From<Vec<Map<String, Value>>> for RowSource {
    fn from(rows: Vec<Map<String, Value>>) -> Self {
        Self::Memory(rows)
    }
}

/// Which rows are read, and what is written beside their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowOptions {
    /// The largest number of rows; all if absent.
    pub limit: Option<usize>,
    /// The columns of the rows that are written beside their answers.
    pub carry: Vec<String>,
    /// Whether prompts are written as well.
    pub include_text: bool,
    /// Whether the probabilities under each draw are written as well.
    pub include_draws: bool,
}

/// Questions in the order of their rows, under the name of their source.
pub(super) struct Questions {
    pub name: String,
    pub questions: Vec<Question>,
}

impl Questions {
    /// Reads the questions of a source.
    ///
    /// # Errors
    /// Whatever is wrong with the rows as a whole, and if there are none.
    pub fn read(
        source: RowSource,
        task: &TaskReader,
        options: &RowOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let reader = QuestionReader { task, options };
        let is_stream = matches!(source, RowSource::Stream { .. });
        let (name, questions) = match source {
            RowSource::Prompts(prompts) => {
                let prompts = prompts.into_iter().map(Ok);
                ("the prompts".into(), reader.prompts(prompts)?)
            }
            RowSource::Memory(rows) => (IN_MEMORY.into(), reader.memory(rows)?),
            RowSource::Files { path, split } => reader.files(&path, split.as_deref(), watch)?,
            RowSource::Stream {
                name,
                reader: stream,
                format,
            } => {
                let questions = reader.stream(&name, stream, format, watch)?;
                (name, questions)
            }
        };
        if questions.is_empty() {
            let what = format!("`{name}`");
            return Err(match is_stream {
                true => DataError::EmptyStream { name }.into(),
                false => DataError::EmptySet { what }.into(),
            });
        }
        Ok(Self { name, questions })
    }

    /// The examples that can be asked, in order.
    pub fn examples(&self) -> Vec<Example> {
        let asked = |question: &Question| question.asked.as_ref().ok().cloned();
        self.questions.iter().filter_map(asked).collect()
    }

    /// Sentences about the rows that have no answer, and why.
    pub fn left_out(&self) -> Vec<String> {
        let mut drops = data::Drops::default();
        let mut first = None;
        for question in &self.questions {
            if let Err(refusal) = &question.asked {
                drops.add(refusal.reason(), &question.id);
                if let Refusal::Unreadable(sentence) = refusal {
                    first.get_or_insert(sentence);
                }
            }
        }
        let mut said = drops.sentences(&self.name, self.questions.len());
        said.extend(
            first.map(|sentence| {
                format!("{}: the first that is not readable: {sentence}", self.name)
            }),
        );
        said
    }
}

/// Rows of any kind → questions of a task.
struct QuestionReader<'a> {
    task: &'a TaskReader,
    options: &'a RowOptions,
}

impl QuestionReader<'_> {
    fn limit(&self) -> usize {
        self.options.limit.unwrap_or(usize::MAX)
    }

    fn files(
        &self,
        path: &Path,
        split: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<(String, Vec<Question>), AnswerError> {
        let files = SplitPaths::find(path, split, &self.task.task().name)?;
        if let Some(aside) = files.aside {
            watch(Event::Note(aside));
        }
        let mut questions = Vec::new();
        for path in &files.paths {
            let left = self.limit() - questions.len();
            questions.extend(self.rows(Rows::open(path)?, left, watch)?);
        }
        Ok((files.name, questions))
    }

    fn rows(
        &self,
        mut rows: Rows,
        limit: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Question>, AnswerError> {
        let name = rows.name().clone();
        let questions = data::questions(&name, &mut rows, self.task, &self.options.carry, limit)?;
        for note in rows.notes() {
            watch(Event::Note(note));
        }
        Ok(questions)
    }

    fn memory(&self, rows: Vec<Map<String, Value>>) -> Result<Vec<Question>, AnswerError> {
        let mut rows = Row::in_memory(IN_MEMORY, rows).map(Ok);
        let carry = &self.options.carry;
        Ok(data::questions(
            IN_MEMORY,
            &mut rows,
            self.task,
            carry,
            self.limit(),
        )?)
    }

    fn stream(
        &self,
        name: &str,
        reader: Box<dyn Read + Send>,
        format: Option<StreamFormat>,
        watch: Watch<'_>,
    ) -> Result<Vec<Question>, AnswerError> {
        let is_header = |names: &[String]| self.task.reads(names);
        match data::stream(Arc::from(name), reader, format, &is_header)? {
            Stream::Rows(rows) => self.rows(rows, self.limit(), watch),
            Stream::Lines(lines) => self.prompts(lines.map(|line| line.map(|(line, _)| line))),
        }
    }

    /// Prompts as questions whose answers are the task's.
    fn prompts(
        &self,
        prompts: impl Iterator<Item = Result<String, DataError>>,
    ) -> Result<Vec<Question>, AnswerError> {
        let carry = &self.options.carry;
        if !carry.is_empty() {
            return Err(AnswerError::Setting(SettingError::new(
                "carry",
                format!("`{}` and there are only finished prompts", carry.join(",")),
                "rows with these columns",
            )));
        }
        let task = self.task.task();
        let Form::Template { answers, .. } = &task.form else {
            return Err(AnswerError::Setting(SettingError::new(
                "task",
                format!("`{}`, whose rows bring their own choices", task.name),
                "a task with the same answers in every row, or rows in place of prompts",
            )));
        };
        let answers: Arc<[String]> = answers.clone().into();
        prompts
            .take(self.limit())
            .enumerate()
            .map(|(index, prompt)| question_of(index, prompt, &answers))
            .collect()
    }
}

fn question_of(
    index: usize,
    prompt: Result<String, DataError>,
    answers: &Arc<[String]>,
) -> Result<Question, AnswerError> {
    let id = format!("prompt-{}", index + 1);
    match prompt {
        Ok(prompt) => {
            let example = Example::from_prompt(id, prompt, Arc::clone(answers));
            Ok(Question::of(example))
        }
        Err(error) if error.is_of_a_row() => Ok(Question {
            id,
            asked: Err(Refusal::Unreadable(error.to_string())),
            carried: Map::new(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// The rows of a file, or of a split of a folder, with the name of that file or split. If there are
/// `fields`, pairs of field and column, the task's fields are filled from these columns.
///
/// # Errors
/// If there is no such split, or whatever is wrong with its rows.
pub fn labelled_files(
    path: &Path,
    split: Option<&str>,
    task: &TaskReader,
    fields: &[(String, String)],
) -> Result<(String, Source), AnswerError> {
    let files = SplitPaths::find(path, split, &task.task().name)?;
    let mut all = Source {
        notes: files.aside.into_iter().collect(),
        ..Source::default()
    };
    for path in &files.paths {
        all.extend(match fields.is_empty() {
            true => data::load_file_by(path, task)?,
            false => data::load_file_filled(path, task, fields)?,
        });
    }
    Ok((files.name, all))
}

/// The files of one split.
struct SplitPaths {
    /// The name of the split or of the file.
    name: String,
    paths: Vec<PathBuf>,
    /// A sentence about files that are ignored.
    aside: Option<String>,
}

impl SplitPaths {
    /// A file, or the files of a split of a folder: by default test, or else validation.
    fn find(path: &Path, split: Option<&str>, task: &str) -> Result<Self, AnswerError> {
        let files = data::find_files(path, task)?;
        let of = |name: &str| files.iter().find(|file| file.split.name() == name);
        let found = match split {
            Some(name) => of(name),
            None if path.is_file() => files.first(),
            None => of(Split::Test.name())
                .or_else(|| of(Split::Validation.name()))
                .or(files.first()),
        };
        let found = found.ok_or_else(|| {
            let there: Vec<&str> = files.iter().map(|file| file.split.name()).collect();
            let (split, there) = (split.unwrap_or(""), there.join(", "));
            let found = format!("`{split}` where the folder has {there}");
            AnswerError::Setting(SettingError::new("split", found, "one of these"))
        })?;
        let name = path.file_name().filter(|_| path.is_file());
        let name = name.map_or_else(
            || found.split.name().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        Ok(Self {
            name,
            paths: found.paths.clone(),
            aside: found.alone(task)?,
        })
    }
}
