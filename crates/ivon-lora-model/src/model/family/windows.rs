//! The layers with a sliding attention window.

use super::description::{Family, Windows};
use crate::model::config::MOST_LAYERS;
use crate::model::error::ModelError;
use crate::model::fields::Fields;

/// The kinds of layers.
pub(super) const LAYER_TYPES: [&str; 2] = ["full_attention", "sliding_attention"];
/// The default of `sliding_window` in all families that have windows.
const WINDOW: usize = 4096;
/// The default of `max_window_layers`.
const MAX_WINDOW_LAYERS: usize = 28;

/// The window of each layer.
///
/// # Errors
/// [`ModelError::Setting`] for a value of the wrong type.
pub(super) fn read(
    fields: &Fields,
    family: &Family,
    layers: usize,
    longest: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    // Too many layers are refused later, with the other counts.
    let count = layers.min(MOST_LAYERS);
    let Some(window) = width(fields, family)? else {
        return Ok(vec![None; count]);
    };
    let slides = sliding_layers(fields, family, count)?;
    // A window that covers the longest sequence has no effect: all layers are then of one kind.
    if window >= longest && slides.contains(&false) {
        return Ok(vec![None; count]);
    }
    Ok(slides
        .into_iter()
        .map(|slides| slides.then_some(window))
        .collect())
}

/// The width of the windows; none if no layer has one.
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

/// Whether each layer has a window, if there are windows.
fn sliding_layers(
    fields: &Fields,
    family: &Family,
    layers: usize,
) -> Result<Vec<bool>, ModelError> {
    let types = fields.layer_types(&LAYER_TYPES)?;
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
