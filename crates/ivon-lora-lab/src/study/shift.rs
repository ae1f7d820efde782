//! The command `shift`: the scores of a finished run on sets that it was not trained for, and how well
//! its uncertainty tells them from its own held-out rows.

use std::path::PathBuf;

use super::StudyError;
use super::subject::{Subject, SubjectRequest};
use crate::report::{SHIFT_FILE, ShiftAnswers, ShiftReport, ShiftSet};
use ivon_lora::answer::{AnswerError, Answerer, ExampleSet, labelled_files, warn_of_trained};
use ivon_lora::files;
use ivon_lora::watch::{Event, Stage, Watch};

/// The inputs of `shift`.
#[derive(Clone, Debug, Default)]
pub struct ShiftRequest {
    /// Adapter, base, and the held-out rows.
    pub subject: SubjectRequest,
    /// The other sets.
    pub to: Vec<OtherSet>,
    /// The file for the report as JSON.
    pub out: Option<PathBuf>,
}

/// A set that the run was not trained for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherSet {
    /// Its name.
    pub name: String,
    /// A folder of data files, or a file.
    pub path: PathBuf,
    /// Fields of the run's task, each with the column that it is filled from, so that the rows fit the
    /// run's own prompt; they have no labels then. Empty if the rows are of the run's task.
    pub fields: Vec<(String, String)>,
}

/// Answers the held-out rows and each of the other sets. The result for a run is kept in the run's
/// folder.
///
/// # Errors
/// Whatever is wrong with base, adapter or rows, and if a set is empty.
pub fn shift(request: &ShiftRequest, watch: Watch<'_>) -> Result<ShiftReport, StudyError> {
    if let Some(out) = &request.out {
        files::check_can_write(out)?;
    }
    let subject = Subject::open(&request.subject, watch)?;
    let answerer = &subject.answerer;
    if answerer.task().is_text() {
        return Err(StudyError::Texts);
    }
    // All sets are read before the first answer, so that errors in them come early.
    let limit = request.subject.limit;
    let others = request.to.iter();
    let others = others.map(|other| rows_of(answerer, other, limit, watch));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    let set = &subject.scored;
    let own = ShiftAnswers::of(answerer.log_probabilities(&set.encoded, Stage::HeldOut, watch)?)?;
    let (task, labels) = (&answerer.task().name, set.labels()?);
    let mut sets = vec![ShiftSet::new(task, &set.name, &own, Some(&labels), None)?];
    for (other, (split, set)) in request.to.iter().zip(&others) {
        let evaluated = answerer.log_probabilities(&set.encoded, Stage::OtherSets, watch)?;
        let answered = ShiftAnswers::of(evaluated)?;
        let labels = labels_if_all(set);
        let (name, labels) = (&other.name, labels.as_deref());
        sets.push(ShiftSet::new(name, split, &answered, labels, Some(&own))?);
    }
    let options = answerer.options();
    let report = ShiftReport::new(options.seed, options.scale, sets);
    let of_run = subject.run.as_ref().map(|run| run.join(SHIFT_FILE));
    for path in of_run.iter().chain(&request.out) {
        files::write_json(path, &report)?;
        watch(Event::Saved(path));
    }
    Ok(report)
}

/// What an adapter says to another set: at the mean, and averaged over draws where there are any.
///
/// # Errors
/// Whatever is wrong with the set's rows, and that it has none.
pub fn answers_to(
    answerer: &Answerer,
    other: &OtherSet,
    limit: Option<usize>,
    watch: Watch<'_>,
) -> Result<Vec<ShiftAnswers>, StudyError> {
    let (_, set) = rows_of(answerer, other, limit, watch)?;
    let evaluated = answerer.log_probabilities(&set.encoded, Stage::OtherSets, watch)?;
    Ok(ShiftAnswers::of(evaluated)?)
}

/// The labels of a set, if every row has one.
fn labels_if_all(set: &ExampleSet) -> Option<Vec<usize>> {
    let examples = set.encoded.examples.iter();
    examples.map(|example| example.label()).collect()
}

/// The rows of another set, with their split's name.
fn rows_of(
    answerer: &Answerer,
    other: &OtherSet,
    limit: Option<usize>,
    watch: Watch<'_>,
) -> Result<(String, ExampleSet), StudyError> {
    let (split, source) = labelled_files(&other.path, None, answerer.task_reader(), &other.fields)?;
    warn_of_trained(
        answerer.bundle().sidecar.as_ref(),
        &other.path,
        &source.examples,
        watch,
    );
    let set = answerer.example_set(&other.name, source, limit, watch)?;
    match set.is_empty() {
        true => Err(AnswerError::NoRows {
            set: other.name.clone(),
            path: other.path.clone(),
        }
        .into()),
        false => Ok((split, set)),
    }
}
