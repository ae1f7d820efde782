//! The command `shift`: a finished run and sets that it was not trained for → its scores there, and
//! how well its uncertainty tells them from its own held-out rows.

use std::path::PathBuf;

use super::subject::{Subject, SubjectRequest};
use crate::data::EncodedSet;
use crate::files;
use crate::report::{Answered, SHIFT_FILE, ShiftReport, ShiftSet};
use crate::run::{
    RunError, RunEvent, Stage, Watch, labels, rows_filled, warn_of_trained, write_json,
};

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
pub fn shift(request: &ShiftRequest, watch: Watch<'_>) -> Result<ShiftReport, RunError> {
    if let Some(out) = &request.out {
        files::check_can_write(out)?;
    }
    let subject = Subject::open(&request.subject, watch)?;
    let opened = &subject.opened;
    // What is wrong with a set is said before the first answer.
    let limit = request.subject.how.eval_limit;
    let others = request
        .to
        .iter()
        .map(|other| rows_of(&subject, other, limit, watch))
        .collect::<Result<Vec<_>, _>>()?;
    let (split, set) = &subject.scored;
    let own = Answered::of(opened.evaluate(set, Stage::HeldOut, watch)?)?;
    let mut sets = vec![ShiftSet::new(
        &opened.task.name,
        split,
        &own,
        Some(&labels(&set.examples)?),
        None,
    )?];
    for (other, (split, set)) in request.to.iter().zip(&others) {
        let answered = Answered::of(opened.evaluate(set, Stage::OtherSets, watch)?)?;
        let labels: Option<Vec<usize>> =
            set.examples.iter().map(|example| example.label()).collect();
        sets.push(ShiftSet::new(
            &other.name,
            split,
            &answered,
            labels.as_deref(),
            Some(&own),
        )?);
    }
    let report = ShiftReport::new(opened.options.seed, opened.options.scale, sets);
    if let Some(run) = &subject.run {
        watch(RunEvent::Saved(&write_json(
            &run.join(SHIFT_FILE),
            &report,
        )?));
    }
    if let Some(out) = &request.out {
        watch(RunEvent::Saved(&write_json(out, &report)?));
    }
    Ok(report)
}

/// The rows of another set, with their split's name.
fn rows_of(
    subject: &Subject,
    other: &OtherSet,
    limit: Option<usize>,
    watch: Watch<'_>,
) -> Result<(String, EncodedSet), RunError> {
    let (split, source) = rows_filled(&other.path, None, &subject.opened.prepared, &other.fields)?;
    warn_of_trained(
        subject.opened.adapter.sidecar.as_ref(),
        &other.path,
        &source.examples,
        watch,
    );
    let (_, set) = subject
        .opened
        .encode_rows(&other.name, source, limit, watch)?;
    match set.examples.is_empty() {
        true => Err(RunError::NoRows {
            set: other.name.clone(),
            path: other.path.clone(),
        }),
        false => Ok((split, set)),
    }
}
