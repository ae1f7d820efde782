//! Tests of the whole optimizer, through its public face, and the small modules that they train.

mod covariance;
mod draws;
mod eigenbasis;
mod errors;
mod fisher;
mod gaussian;
mod golden;
mod resume;
mod shared;
mod steps;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{Ivon, IvonConfig, IvonError};

/// Two parameters, of rank 2 and 1, under the loss ½ Σ curvature (θ − target)².
#[derive(Module, Debug)]
pub struct Pair {
    pub first: Param<Tensor<2>>,
    pub second: Param<Tensor<1>>,
}

/// The loss's numbers: `first` and `second` end to end.
#[derive(Clone)]
pub struct Quadratic {
    pub curvature: Vec<f64>,
    pub target: Vec<f64>,
}

pub fn device() -> Device {
    Device::flex().autodiff()
}

pub fn param<const D: usize>(values: &[f64], shape: [usize; D], kind: DType) -> Param<Tensor<D>> {
    Param::from_tensor(tensor(values, shape, kind))
}

pub fn tensor<const D: usize>(values: &[f64], shape: [usize; D], kind: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&device(), kind))
}

pub fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.clone().into_data().iter::<f64>().collect()
}

impl Pair {
    /// `values` fill a `[rows, columns]` tensor, and what is left a `[...]` one.
    pub fn new(values: &[f64], [rows, columns]: [usize; 2], kind: DType) -> Self {
        let (first, second) = values.split_at(rows * columns);
        Self {
            first: param(first, [rows, columns], kind),
            second: param(second, [second.len()], kind),
        }
    }

    /// `[0.1, 0.2, …, 0.6]` as `[2, 2]` and `[2]`.
    pub fn small(kind: DType) -> Self {
        Self::new(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [2, 2], kind)
    }

    pub fn values(&self) -> Vec<f64> {
        [numbers(&self.first.val()), numbers(&self.second.val())].concat()
    }
}

impl Quadratic {
    pub fn small() -> Self {
        Self {
            curvature: vec![1.0, 2.0, 0.5, 1.5, 3.0, 1.0],
            target: vec![1.0, -1.0, 2.0, 0.0, 0.5, -0.5],
        }
    }

    pub fn loss(&self, pair: &Pair) -> Tensor<1> {
        let kind = pair.second.val().dtype();
        let (split, shape) = (pair.first.shape().num_elements(), pair.first.dims());
        let length = self.curvature.len() - split;
        let part = |from: &[f64]| {
            (
                tensor(&from[..split], shape, kind),
                tensor(&from[split..], [length], kind),
            )
        };
        let ((curvature_a, curvature_b), (target_a, target_b)) =
            (part(&self.curvature), part(&self.target));
        let a = (curvature_a * (pair.first.val() - target_a).square()).sum();
        let b = (curvature_b * (pair.second.val() - target_b).square()).sum();
        (a + b).mul_scalar(0.5)
    }

    pub fn evaluate(&self, pair: &Pair) -> Result<(Tensor<1>, GradientsParams), IvonError> {
        let loss = self.loss(pair);
        let gradients = GradientsParams::from_grads(loss.backward(), pair);
        Ok((loss, gradients))
    }
}

/// Settings under which every line of the rule matters.
pub fn lively() -> IvonConfig {
    IvonConfig {
        hessian_init: 0.5,
        beta2: 0.9,
        weight_decay: 1e-2,
        clip_radius: Some(0.5),
        ..IvonConfig::new(50.0)
    }
}

/// An optimizer of the small pair after `steps` steps.
pub fn after(steps: usize, config: IvonConfig, kind: DType) -> Ivon<Pair> {
    let mut ivon = Ivon::new(config, Pair::small(kind)).unwrap();
    for _ in 0..steps {
        ivon.step(0.1, |pair| Quadratic::small().evaluate(pair))
            .unwrap();
    }
    ivon
}

/// Mean, momentum and Hessian, to compare bit for bit.
pub fn everything(ivon: &Ivon<Pair>) -> (Vec<u64>, crate::IvonState) {
    (
        ivon.mean()
            .values()
            .iter()
            .map(|value| value.to_bits())
            .collect(),
        ivon.state(),
    )
}
