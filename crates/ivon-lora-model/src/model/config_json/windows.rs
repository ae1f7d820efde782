//! Which layers attend to a sliding window.

use super::fields::Fields;
use crate::model::config::MOST_LAYERS;
use crate::model::error::ModelError;
use crate::model::family::{Family, Windows};

/// `sliding_window` where it is absent, to all families that have windows.
const WINDOW: usize = 4096;
/// `max_window_layers` where it is absent.
const MAX_WINDOW_LAYERS: usize = 28;

/// The window of each layer.
///
/// # Errors
/// [`ModelError::Setting`] for a value of the wrong kind.
pub(super) fn read(
    fields: &Fields,
    family: &Family,
    layers: usize,
    longest: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    // More layers than any decoder may have are refused later, with the other counts.
    let count = layers.min(MOST_LAYERS);
    let Some(window) = width(fields, family)? else {
        return Ok(vec![None; count]);
    };
    let slides = sliding_layers(fields, family, count)?;
    // A window that covers the longest sequence hides nothing: such layers are all of one kind.
    if window >= longest && slides.contains(&false) {
        return Ok(vec![None; count]);
    }
    Ok(slides
        .into_iter()
        .map(|slides| slides.then_some(window))
        .collect())
}

/// The width of the windows; none where no layer has one.
fn width(fields: &Fields, family: &Family) -> Result<Option<usize>, ModelError> {
    let is_on = match family.windows {
        Windows::Never => false,
        Windows::EveryLayer => true,
        Windows::ByLayer => fields.flag("use_sliding_window")?.unwrap_or(false),
    };
    if is_on && !fields.object.contains_key("sliding_window") {
        return Ok(Some(WINDOW));
    }
    let width = match family.windows {
        Windows::Never => None,
        _ => fields.count("sliding_window")?,
    };
    Ok(width.filter(|_| is_on))
}

/// Whether each layer attends to a window, if there is one.
fn sliding_layers(
    fields: &Fields,
    family: &Family,
    layers: usize,
) -> Result<Vec<bool>, ModelError> {
    let types = fields.layer_types()?;
    if family.windows == Windows::EveryLayer {
        return Ok(vec![true; layers]);
    }
    if let Some(types) = types {
        let slides = |name: &&str| *name == "sliding_attention";
        return Ok(types.iter().map(slides).collect());
    }
    let first = fields.count("max_window_layers")?;
    let first = first.unwrap_or(MAX_WINDOW_LAYERS);
    Ok((0..layers).map(|layer| layer >= first).collect())
}
