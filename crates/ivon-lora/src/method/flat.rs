//! All numbers of an adapter as one flat tensor, and back: element-wise optimizers work on it in a few operations.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::lora::Adapter;

/// All parameters end to end, without autodiff, `[P]`.
pub fn values(adapter: &Adapter) -> Tensor<1> {
    let parts = adapter.parameters().map(|(_, parameter)| parameter.val().inner().flatten::<1>(0, 1));
    Tensor::cat(parts.collect(), 0)
}

/// The gradients of all parameters end to end, `[P]`; zeros where a parameter has none.
pub fn gradients(adapter: &Adapter, gradients: &mut GradientsParams) -> Tensor<1> {
    let parts = adapter.parameters().map(|(_, parameter)| match gradients.remove::<2>(parameter.id) {
        Some(gradient) => gradient.flatten::<1>(0, 1),
        None => parameter.val().inner().zeros_like().flatten::<1>(0, 1),
    });
    Tensor::cat(parts.collect(), 0)
}

/// An adapter like this one with the numbers of `values` `[P]`; it tracks gradients as this one does.
pub fn with_values(adapter: &Adapter, values: &Tensor<1>) -> Adapter {
    ivon::paths::replace(adapter.clone(), {
        let mut start = 0;
        move |_, _, shape: &[usize]| {
            let len: usize = shape.iter().product();
            start += len;
            Some(values.clone().narrow(0, start - len, len))
        }
    })
}
