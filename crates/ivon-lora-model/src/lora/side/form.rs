//! The contract of a kind of side: its parameters, and f(x, h) in two forms.

use std::fmt::Debug;
use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::kernel::{Buffer, Pool, Threads};

/// What every kind of side brings.
pub(crate) trait SideForm {
    /// Its parameters in order, by the ends of their paths.
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)>;

    /// The same parameters in the same order, to be changed.
    fn parameters_mut(&mut self) -> Vec<&mut Param<Tensor<2>>>;

    /// f(x, h) in plain Burn operations, x `[n, in]` being what A has read and h `[n, r]` what it
    /// gave.
    fn plain(&self, rows: &PlainRows<'_>, x: Tensor<2>, h: Tensor<2>) -> PlainSide;

    /// The same on slices: what is no parameter, with the CPU's forward and backward pass.
    fn on_cpu(&self) -> Arc<dyn CpuSide>;
}

/// The rows that go through a projection, in plain operations.
pub(crate) struct PlainRows<'a> {
    /// The path of the layer, which names its noise.
    pub path: &'a str,
    /// What each row has read, see [`crate::data::Batch::prefix_keys`].
    pub keys: &'a [u64],
    /// The rows that the decoder needs past this projection; all where absent.
    pub needed: Option<&'a [usize]>,
    /// Where constants go.
    pub device: &'a Device,
}

/// What a side gives in plain operations.
pub(crate) struct PlainSide {
    /// f(x, h), `[n, r]`.
    pub low: Tensor<2>,
    /// What it adds to the loss of the batch, `[1]`, nats, where its draw wants it.
    pub penalty: Option<Tensor<1>>,
}

/// A side without its parameters, which the CPU operation has as slices.
///
/// Where `weights` and `gradient` stand, the parameters lie end to end, in the order of
/// [`SideForm::parameters`].
pub(crate) trait CpuSide: Debug + Send + Sync {
    /// Whether it asks what each row has read.
    fn reads_keys(&self) -> bool;

    /// Whether its draw wants a penalty.
    fn has_penalty(&self) -> bool {
        false
    }

    /// f(x, h) of h, which may be changed in place.
    fn forward(&self, rows: &CpuRows<'_>, x: &[f32], h: &mut Buffer) -> CpuForward;

    /// The gradients of its parameters are written to `gradient`, which is zero.
    fn backward(
        &self,
        rows: &CpuRows<'_>,
        given: GivenRows<'_>,
        gradient: &mut [f32],
    ) -> CpuBackward;
}

/// The rows that go through a projection on the CPU.
pub(crate) struct CpuRows<'a> {
    /// Where buffers come from.
    pub pool: &'a Pool,
    /// The path of the layer, which names its noise.
    pub path: &'a str,
    /// What each row has read; empty where no side asks.
    pub keys: &'a [u64],
    /// The number of rows, n.
    pub count: usize,
    /// r.
    pub rank: usize,
    /// The side's parameters.
    pub weights: &'a [f32],
    /// How products are shared out.
    pub threads: Threads,
}

/// What a forward pass gives.
pub(crate) struct CpuForward {
    /// f(x, h) `[n, r]`, where it is not what h has become.
    pub low: Option<Buffer>,
    /// What it adds to the loss of the batch, nats.
    pub penalty: f64,
}

/// What a backward pass is given.
pub(crate) struct GivenRows<'a> {
    /// What A has read, `[n, in]`.
    pub x: &'a [f32],
    /// What h became in the forward pass, `[n, r]`.
    pub h: &'a [f32],
    /// The gradient of f(x, h), `[n, r]`.
    pub d_low: Buffer,
    /// That of the penalty.
    pub d_penalty: f32,
}

/// What a backward pass gives.
pub(crate) struct CpuBackward {
    /// f(x, h) again, where it is not h.
    pub low: Option<Buffer>,
    /// The gradient of A's output, `[n, r]`.
    pub d_h: Buffer,
    /// What the side itself adds to the gradient of x, `[n, in]`.
    pub d_x: Option<Buffer>,
}
