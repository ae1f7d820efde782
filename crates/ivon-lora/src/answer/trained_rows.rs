//! Rows that an adapter knows from its training: a warning where they are scored, and the rows of
//! one of its roles.

use std::path::Path;

use super::AnswerError;
use crate::bundle::Sidecar;
use crate::data::{Example, Overlap, Role};
use crate::sentence::{Sentence, sentence, setting_to};
use crate::watch::{Event, Watch};

/// Warns where rows that are to be scored were trained on.
pub fn warn_of_trained(
    sidecar: Option<&Sidecar>,
    path: &Path,
    examples: &[Example],
    watch: Watch<'_>,
) {
    let Some(rows) = sidecar.and_then(|sidecar| sidecar.rows.as_ref()) else {
        return;
    };
    let Overlap {
        rows: trained,
        is_counted,
    } = rows.train.overlap(examples);
    if trained == 0 {
        return;
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
    watch(Event::Warning(Sentence::from(said).then(remedy)));
}

/// Those of the examples that played this role when the adapter was trained.
///
/// # Errors
/// [`AnswerError::UnknownRole`] if the adapter does not say, keeps too few of so many rows, or none of
/// these played it.
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
