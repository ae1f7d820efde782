//! The contract of the kinds of sides: their parameters, and f(x, h) in two forms.

use std::fmt::Debug;
use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::kernel::{Buffer, Pool, Threads};

/// What every kind of side implements.
pub(crate) trait SideForm {
    /// Its parameters in order, by the ends of their paths.
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)>;

    /// The same parameters in the same order, mutable.
    fn parameters_mut(&mut self) -> Vec<&mut Param<Tensor<2>>>;

    /// f(x, h) in plain Burn operations, with A's input x `[n, in]` and output h `[n, r]`.
    fn plain(&self, rows: &PlainRows<'_>, x: Tensor<2>, h: Tensor<2>) -> PlainSide;

    /// The same on slices, without the parameters: forward and backward pass on the CPU.
    fn on_cpu(&self) -> Arc<dyn CpuSide>;
}

/// The rows of a projection, in plain operations.
pub(crate) struct PlainRows<'a> {
    /// The path of the layer, which addresses its noise.
    pub path: &'a str,
    /// The prefix key of each row, see [`crate::data::Batch::prefix_keys`].
    pub keys: &'a [u64],
    /// The rows that the decoder needs after this projection; none: all.
    pub needed: Option<&'a [usize]>,
    /// The device for constants.
    pub device: &'a Device,
}

/// The output of a side in plain operations.
pub(crate) struct PlainSide {
    /// f(x, h), `[n, r]`.
    pub low: Tensor<2>,
    /// Its penalty for the batch, `[1]`, nats, if its draw has one.
    pub penalty: Option<Tensor<1>>,
}

/// A side without its parameters, which the CPU operation has as slices.
///
/// `weights` and `gradient` are the parameters concatenated in the order of
/// [`SideForm::parameters`].
pub(crate) trait CpuSide: Debug + Send + Sync {
    /// Whether it needs the prefix key of each row.
    fn reads_keys(&self) -> bool;

    /// Whether its draw has a penalty.
    fn has_penalty(&self) -> bool {
        false
    }

    /// f(x, h) of h, which may be changed in place.
    fn forward(&self, rows: &CpuRows<'_>, x: &[f32], h: &mut Buffer) -> CpuForward;

    /// Writes the gradients of its parameters to `gradient`, which is zero before.
    fn backward(
        &self,
        rows: &CpuRows<'_>,
        given: BackwardRows<'_>,
        gradient: &mut [f32],
    ) -> CpuBackward;
}

/// The rows of a projection on the CPU.
pub(crate) struct CpuRows<'a> {
    /// The pool of buffers.
    pub pool: &'a Pool,
    /// The path of the layer, which addresses its noise.
    pub path: &'a str,
    /// The prefix key of each row; empty if no side needs it.
    pub keys: &'a [u64],
    /// The number of rows, n.
    pub count: usize,
    /// r.
    pub rank: usize,
    /// The side's parameters.
    pub weights: &'a [f32],
    /// The threads of products.
    pub threads: Threads,
}

/// The result of a forward pass.
pub(crate) struct CpuForward {
    /// f(x, h) `[n, r]`, unless it is in h.
    pub low: Option<Buffer>,
    /// Its penalty for the batch, nats.
    pub penalty: f64,
}

/// The input of a backward pass.
pub(crate) struct BackwardRows<'a> {
    /// The input of A, `[n, in]`.
    pub x: &'a [f32],
    /// h after the forward pass, `[n, r]`.
    pub h: &'a [f32],
    /// The gradient of f(x, h), `[n, r]`.
    pub d_low: Buffer,
    /// The gradient of the penalty.
    pub d_penalty: f32,
}

/// The result of a backward pass.
pub(crate) struct CpuBackward {
    /// f(x, h) again, unless it is h.
    pub low: Option<Buffer>,
    /// The gradient of A's output, `[n, r]`.
    pub d_h: Buffer,
    /// The side's own contribution to the gradient of x, `[n, in]`.
    pub d_x: Option<Buffer>,
}
