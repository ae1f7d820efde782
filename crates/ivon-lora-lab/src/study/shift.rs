//! The command `shift`: a finished run and sets that it was not trained for → its scores there, and
//! how well its uncertainty tells them from its own held-out rows.

use std::path::PathBuf;

use super::StudyError;
use super::subject::{Subject, SubjectRequest};
use crate::report::{SHIFT_FILE, ShiftAnswers, ShiftReport, ShiftSet};
use ivon_lora::answer::{AnswerError, ExampleSet, labelled_files, warn_of_trained};
use ivon_lora::files;
use ivon_lora::watch::{Event, Stage, Watch};

/// What `shift` is asked for.
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
    /// What it is called.
    pub name: String,
    /// A folder of data files, or a file.
    pub path: PathBuf,
    /// Fields of the run's task, each with the column that it is filled from: the rows are then put
    /// into the run's own prompt and have no labels. Empty where the rows are of the run's task.
    pub fields: Vec<(String, String)>,
}

/// Answers the held-out rows and each of the other sets. Of a run the result is kept in its folder.
///
/// # Errors
/// Whatever is wrong with base, adapter or rows, and a set without a row.
pub fn shift(request: &ShiftRequest, watch: Watch<'_>) -> Result<ShiftReport, StudyError> {
    if let Some(out) = &request.out {
        files::check_can_write(out)?;
    }
    let subject = Subject::open(&request.subject, watch)?;
    let answerer = &subject.answerer;
    // What is wrong with a set is said before the first answer.
    let limit = request.subject.limit;
    let others = request
        .to
        .iter()
        .map(|other| rows_of(&subject, other, limit, watch))
        .collect::<Result<Vec<_>, _>>()?;
    let set = &subject.scored;
    let own = ShiftAnswers::of(answerer.log_probabilities(&set.encoded, Stage::HeldOut, watch)?)?;
    let mut sets = vec![ShiftSet::new(
        &answerer.task().name,
        &set.name,
        &own,
        Some(&set.labels()?),
        None,
    )?];
    for (other, (split, set)) in request.to.iter().zip(&others) {
        let evaluated = answerer.log_probabilities(&set.encoded, Stage::OtherSets, watch)?;
        let answered = ShiftAnswers::of(evaluated)?;
        let encoded = &set.encoded.examples;
        let labels: Option<Vec<usize>> = encoded.iter().map(|example| example.label()).collect();
        sets.push(ShiftSet::new(
            &other.name,
            split,
            &answered,
            labels.as_deref(),
            Some(&own),
        )?);
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

/// The rows of another set, with their split's name.
fn rows_of(
    subject: &Subject,
    other: &OtherSet,
    limit: Option<usize>,
    watch: Watch<'_>,
) -> Result<(String, ExampleSet), StudyError> {
    let answerer = &subject.answerer;
    let (split, source) = labelled_files(&other.path, None, answerer.prepared(), &other.fields)?;
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
