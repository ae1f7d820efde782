//! The weights of an adapter, changed and checked on the host.

use burn::tensor::{Tensor, TensorData};

use super::PosteriorError;
use crate::lora::{Adapter, HostMatrix, LoraError};

/// The adapter with each matrix changed on the host by `change`, which is given its path.
///
/// # Errors
/// If the device does not return its data, or a changed weight is not finite.
pub(super) fn map_weights(
    adapter: &Adapter,
    mut change: impl FnMut(&str, &mut HostMatrix),
) -> Result<Adapter, PosteriorError> {
    let mut matrices = adapter.to_matrices()?.into_iter();
    adapter.try_map(|path, tensor| {
        let Some((_, mut matrix)) = matrices.next() else {
            return Ok(tensor);
        };
        change(path, &mut matrix);
        if matrix.values.iter().any(|value| !value.is_finite()) {
            return Err(PosteriorError::Lora(LoraError::NotFinite {
                name: path.into(),
                rounded: false,
            }));
        }
        Ok(Tensor::from_data(
            TensorData::new(matrix.values, matrix.shape),
            &tensor.device(),
        ))
    })
}

/// The adapter with the weights set to 0 for which `kept`, in the order of [`Adapter::flatten`], is
/// false.
///
/// # Errors
/// If `kept` has another length than the adapter has weights, or the device does not return its
/// data.
pub fn only_kept(adapter: &Adapter, kept: &[bool]) -> Result<Adapter, PosteriorError> {
    let expected = adapter.parameter_count();
    if kept.len() != expected {
        return Err(PosteriorError::Kept {
            expected,
            found: kept.len(),
        });
    }
    let mut kept = kept.iter();
    map_weights(adapter, |_, matrix| {
        for (value, kept) in matrix.values.iter_mut().zip(&mut kept) {
            *value = if *kept { *value } else { 0.0 };
        }
    })
}

/// Checks that every variance is finite and not negative.
pub(super) fn check_variance(variance: &Adapter) -> Result<(), PosteriorError> {
    for (path, matrix) in variance.to_matrices()? {
        let is_wrong = |value: &&f32| !(value.is_finite() && **value >= 0.0);
        if let Some(&found) = matrix.values.iter().find(is_wrong) {
            return Err(PosteriorError::Variance { path, found });
        }
    }
    Ok(())
}

/// Checks that `other` has the paths and shapes of `mean` in the same order; `what` names it in the
/// error.
pub(super) fn check_parameters(
    what: &'static str,
    mean: &Adapter,
    other: &Adapter,
) -> Result<(), PosteriorError> {
    let (expected, found) = (described(mean), described(other));
    let differs = |place: &usize| expected.get(*place) != found.get(*place);
    let Some(place) = (0..expected.len().max(found.len())).find(differs) else {
        return Ok(());
    };
    let at = |list: &[String]| {
        let entry = list.get(place).cloned();
        entry.unwrap_or_else(|| "nothing more".into())
    };
    Err(PosteriorError::Parameters {
        what,
        expected: at(&expected),
        found: at(&found),
    })
}

/// Path and shape of each parameter.
fn described(adapter: &Adapter) -> Vec<String> {
    adapter
        .parameters()
        .map(|(path, parameter)| format!("`{path}` {:?}", parameter.val().dims()))
        .collect()
}
