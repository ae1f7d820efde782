//! A matrix of an adapter on the host, and its transfer to and from the device.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

use super::LoraError;

/// A matrix on the host, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct HostMatrix {
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// `rows · columns` numbers.
    pub values: Vec<f32>,
}

impl HostMatrix {
    pub(super) fn new(shape: [usize; 2], values: Vec<f32>) -> Self {
        Self { shape, values }
    }

    /// The values of a tensor; `path` names it in an error.
    ///
    /// # Errors
    /// [`LoraError::Device`] if the device does not return its data.
    pub(crate) fn read(path: &str, tensor: Tensor<2>) -> Result<Self, LoraError> {
        let failed = |reason: String| LoraError::Device {
            path: path.into(),
            reason,
        };
        let shape = tensor.dims();
        let data = tensor
            .try_into_data_as::<f32>()
            .map_err(|error| failed(error.to_string()))?;
        let values = data
            .try_into_vec::<f32>()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { shape, values })
    }

    /// Rows as columns.
    pub(super) fn transposed(&self) -> Self {
        let [rows, columns] = self.shape;
        let column = |column: usize| (0..rows).map(move |row| row * columns + column);
        let places = (0..columns).flat_map(column);
        let values = places.map(|place| self.values[place]).collect();
        Self::new([columns, rows], values)
    }

    /// A trainable parameter on `device` with these numbers.
    pub(super) fn parameter(self, device: &Device) -> Param<Tensor<2>> {
        Param::from_tensor(Tensor::from_data(
            TensorData::new(self.values, self.shape),
            device,
        ))
    }

    /// Refuses a matrix of another shape; `name` is its name in the error.
    ///
    /// # Errors
    /// [`LoraError::Shape`].
    pub(super) fn check_shape(&self, name: &str, expected: [usize; 2]) -> Result<(), LoraError> {
        if self.shape == expected {
            return Ok(());
        }
        Err(LoraError::Shape {
            name: name.into(),
            expected: expected.into(),
            found: self.shape.into(),
        })
    }
}
