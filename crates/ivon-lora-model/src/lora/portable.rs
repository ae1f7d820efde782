//! An adapter as other programs multiply it: A and B of each linear layer with one factor, and nothing
//! besides.

use super::{Adapter, HostMatrix, LoraError};
use crate::model::LinearPath;

/// A and B of a linear layer.
pub(super) struct PortablePair {
    pub path: LinearPath,
    /// `[r, in]`.
    pub a: HostMatrix,
    /// `[out, r]`.
    pub b: HostMatrix,
    /// The factor s of B A.
    pub scale: f64,
}

/// The pairs of an adapter that has nothing else.
///
/// # Errors
/// [`LoraError::NotPortable`] if it changes tables, has magnitudes or sides, or adapts nothing; if the
/// device does not return its data.
pub(super) fn portable_pairs(
    adapter: &Adapter,
    format: &'static str,
) -> Result<Vec<PortablePair>, LoraError> {
    let refused = |what| Err(LoraError::NotPortable { format, what });
    if adapter.has_sides() {
        return refused("an addition between A and B");
    }
    if adapter.has_magnitudes() {
        return refused("magnitudes (`use_dora`)");
    }
    if adapter.tables().next().is_some() {
        return refused("changes of embeddings or output layer");
    }
    let pair = |(path, pair): (LinearPath, &super::LoraPair)| {
        let read = |part: &str, tensor| HostMatrix::read(&path.part(part), tensor);
        Ok(PortablePair {
            path,
            a: read("lora_A", pair.lora_A.val())?,
            b: read("lora_B", pair.lora_B.val())?,
            scale: adapter.scaling.of(path),
        })
    };
    let pairs: Vec<PortablePair> = adapter
        .pairs()
        .map(pair)
        .collect::<Result<_, LoraError>>()?;
    match pairs.is_empty() {
        true => refused("no layer"),
        false => Ok(pairs),
    }
}

impl HostMatrix {
    /// All numbers times a factor.
    pub(super) fn times(mut self, factor: f64) -> Self {
        if factor != 1.0 {
            let scaled = |value: &mut f32| *value = (f64::from(*value) * factor) as f32;
            self.values.iter_mut().for_each(scaled);
        }
        self
    }
}
