//! Rows of an adapter's training: a warning if they are scored, and the rows of one role.

use std::path::Path;

use super::AnswerError;
use crate::bundle::Sidecar;
use crate::data::{Example, KnownRows, Overlap, Role};
use crate::sentence::{Sentence, sentence, setting_to};
use crate::watch::{Event, Watch};

/// Warns about rows to be scored that were trained on.
pub fn warn_of_trained(
    sidecar: Option<&Sidecar>,
    path: &Path,
    examples: &[Example],
    watch: Watch<'_>,
) {
    let rows = sidecar.and_then(|sidecar| sidecar.rows.as_ref());
    if let Some(warning) = rows.and_then(|rows| warning(rows, path, examples)) {
        watch(Event::Warning(warning));
    }
}

fn warning(rows: &KnownRows, path: &Path, examples: &[Example]) -> Option<Sentence> {
    let Overlap {
        rows: trained,
        is_counted,
    } = rows.train.overlap(examples);
    if trained == 0 {
        return None;
    }
    let held_out = rows.test.overlap(examples).rows;
    let remedy = match held_out {
        0 => Sentence::from("score rows that it has not seen"),
        rows => sentence!(
            "`{}` scores the {} that were held out",
            setting_to("role", "test"),
            rows.to_string()
        ),
    };
    let about = if is_counted { "" } else { "about " };
    let said = format!(
        "{about}{trained} of the {} rows of `{}` were trained on, and the scores say nothing of new ones: ",
        examples.len(),
        path.display()
    );
    Some(Sentence::from(said).then(remedy))
}

/// The examples that had this role in the adapter's training.
///
/// # Errors
/// [`AnswerError::UnknownRole`] if the adapter does not record its rows, or only a sample of them, or
/// if none of these examples had the role.
pub(super) fn of_role(
    sidecar: Option<&Sidecar>,
    role: Role,
    path: &Path,
    examples: Vec<Example>,
) -> Result<Vec<Example>, AnswerError> {
    let unknown = |reason: &str| AnswerError::UnknownRole {
        role,
        path: path.into(),
        reason: reason.into(),
    };
    let rows = sidecar.and_then(|sidecar| sidecar.rows.as_ref());
    let set = rows
        .ok_or_else(|| unknown("the adapter does not say which rows played it"))?
        .role(role);
    if !set.is_whole() {
        return Err(unknown("the adapter keeps only a sample of so many rows"));
    }
    let found: Vec<Example> = examples
        .into_iter()
        .filter(|example| set.holds(example))
        .collect();
    if found.is_empty() {
        Err(unknown(
            "none of them played it when the adapter was trained",
        ))
    } else {
        Ok(found)
    }
}
