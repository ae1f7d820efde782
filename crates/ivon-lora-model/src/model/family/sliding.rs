//! Families whose layers alternate: some with a window, every n-th without.

use super::sizes::Sizes;
use super::windows::LAYER_TYPES;
use crate::model::error::ModelError;
use crate::model::fields::Fields;

/// Which layers have a window if `layer_types` does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// All but every layer of this number.
    pub interval: usize,
    /// The default of `sliding_window`.
    pub window: Option<usize>,
}

/// The window of each layer.
///
/// # Errors
/// [`ModelError::Setting`] for a value of the wrong type.
pub(super) fn sliding_layers(
    fields: &Fields,
    sizes: &Sizes,
    pattern: Pattern,
) -> Result<Vec<Option<usize>>, ModelError> {
    let window = match fields.object.contains_key("sliding_window") {
        true => fields.count("sliding_window")?,
        false => pattern.window,
    };
    let slides = slides(fields, sizes, pattern.interval)?.into_iter();
    Ok(slides.map(|slides| window.filter(|_| slides)).collect())
}

/// Whether each layer has a window, if there are windows: those of `layer_types`, else all but every
/// `interval`-th.
///
/// # Errors
/// [`ModelError::Setting`] for a list of the wrong type or length.
pub(super) fn slides(
    fields: &Fields,
    sizes: &Sizes,
    interval: usize,
) -> Result<Vec<bool>, ModelError> {
    let interval = interval.max(1);
    let types = fields.layer_types(&LAYER_TYPES)?;
    let slides = |index: usize| match &types {
        Some(types) => types.get(index) == Some(&"sliding_attention"),
        None => !(index + 1).is_multiple_of(interval),
    };
    Ok((0..sizes.described_layers()).map(slides).collect())
}
