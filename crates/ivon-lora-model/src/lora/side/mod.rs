//! Sides: additions to a pair that change the data between A and B. Each file has everything about
//! one kind: parameters, plain form, forward and backward pass on the CPU, penalty.
//!
//! With h = A drop(x), the output of the projection is W x + s · B f(x, h) instead of W x + s · B
//! h. A new kind is a file here, a variant of [`Side`], and a line in the functions of [`Side`];
//! nothing else depends on the kinds.

mod form;
mod flipout;
mod clora;

use burn::module::Module;
use burn::tensor::Device;

pub use clora::{CloraDraw, CloraNetwork, CloraNoise, CloraStart, Divergence};
pub use flipout::{Flipout, Signs};
use form::SideForm;
pub(crate) use form::{BackwardRows, CpuRows, CpuSide, PlainRows, PlainSide};

use super::{HostMatrix, LoraError};

/// An addition to a pair. In files each kind names its parts; the names that Burn derives from
/// variants are not used.
#[derive(Module, Debug)]
pub enum Side {
    /// Noise on A with different signs for each token.
    Flipout(Flipout),
    /// A network that predicts a matrix between A and B from A's output.
    Clora(CloraNetwork),
}

impl Side {
    /// The functions of its kind.
    pub(crate) fn form(&self) -> &dyn SideForm {
        match self {
            Self::Flipout(flipout) => flipout,
            Self::Clora(network) => network,
        }
    }

    /// [`form`](Self::form), mutable.
    pub(crate) fn form_mut(&mut self) -> &mut dyn SideForm {
        match self {
            Self::Flipout(flipout) => flipout,
            Self::Clora(network) => network,
        }
    }

    /// The side of the layer at `path` for rank `rank`, from the matrices that `take` returns for
    /// its paths; none if it returns none. Flipout is noise of a training step, so no file contains
    /// it.
    pub(super) fn from_matrices(
        path: &str,
        rank: usize,
        device: &Device,
        take: &mut dyn FnMut(&str) -> Option<HostMatrix>,
    ) -> Result<Option<Self>, LoraError> {
        Ok(CloraNetwork::from_matrices(path, rank, device, take)?.map(Self::Clora))
    }
}
