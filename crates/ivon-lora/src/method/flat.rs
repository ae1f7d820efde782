//! All weights of an adapter as one flat tensor, and back: an element-wise optimizer needs few
//! operations on it.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use crate::lora::Adapter;
use crate::train::TrainError;

/// All weights end to end, without autodiff, `[P]`.
pub fn values(adapter: &Adapter) -> Tensor<1> {
    let parts = adapter
        .parameters()
        .map(|(_, parameter)| parameter.val().inner().flatten::<1>(0, 1));
    Tensor::cat(parts.collect(), 0)
}

/// The gradients of all weights end to end, `[P]`; zeros for a parameter without one.
pub fn gradients(adapter: &Adapter, gradients: &mut GradientsParams) -> Tensor<1> {
    let parts =
        adapter
            .parameters()
            .map(|(_, parameter)| match gradients.remove::<2>(parameter.id) {
                Some(gradient) => gradient.flatten::<1>(0, 1),
                None => parameter.val().inner().zeros_like().flatten::<1>(0, 1),
            });
    Tensor::cat(parts.collect(), 0)
}

/// The device of an adapter's weights, without autodiff.
pub fn device(adapter: &Adapter) -> Device {
    let first = adapter.parameters().next();
    first
        .map(|(_, parameter)| parameter.val().inner().device())
        .unwrap_or_default()
}

/// The adapter with the weights `values` `[P]`; gradients are tracked as before.
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

/// The adapter with other weights at some paths, each `rows · columns` long; gradients are tracked as
/// before, and parameters keep their ids.
pub fn with_parameters(adapter: &Adapter, mut values: HashMap<String, Vec<f32>>) -> Adapter {
    let device = device(adapter);
    ivon::paths::replace(adapter.clone(), move |path, _, shape: &[usize]| {
        let len: usize = shape.iter().product();
        let values = values.remove(path).filter(|values| values.len() == len)?;
        Some(Tensor::from_data(TensorData::new(values, [len]), &device))
    })
}

/// The gradient of one parameter on the host, if it has one.
///
/// # Errors
/// If the device does not return its data.
pub fn gradient(gradients: &GradientsParams, id: ParamId) -> Result<Option<Vec<f32>>, TrainError> {
    let Some(gradient) = gradients.get::<2>(id) else {
        return Ok(None);
    };
    to_host(gradient.flatten::<1>(0, 1)).map(Some)
}

/// Numbers as a tensor on the CPU, `[len]`.
pub fn on_cpu(values: Vec<f32>) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &Device::flex())
}

/// The numbers of a tensor.
///
/// # Errors
/// If the device does not return its data.
pub fn to_host(tensor: Tensor<1>) -> Result<Vec<f32>, TrainError> {
    let values = tensor.into_data().try_to_vec::<f32>();
    values.map_err(|error| TrainError::Device {
        reason: error.to_string(),
    })
}
