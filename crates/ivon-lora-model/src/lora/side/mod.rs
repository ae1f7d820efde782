//! What may stand beside the A and B of a projection and change what goes through them. A file each
//! has all of its kind: parameters, plain form, CPU forward and backward pass, penalty.
//!
//! With h = A drop(x), the output of the projection is W x + s · B f(x, h) in the place of
//! W x + s · B h. A kind that is new is a file here, a variant of [`Side`], and its line in the
//! functions of [`Side`]; nothing else knows the kinds.

mod form;
mod flipout;
mod clora;

use burn::module::Module;
use burn::tensor::Device;

pub use clora::{CloraDraw, CloraNetwork, CloraNoise, CloraStart, Divergence};
pub use flipout::{Flipout, Signs};
use form::SideForm;
pub(crate) use form::{CpuRows, CpuSide, GivenRows, PlainRows, PlainSide};

use super::{HostMatrix, LoraError};

/// What stands beside A and B. In files its parts have the names that each kind gives them; those
/// that Burn makes of a variant's name stand in no file.
#[derive(Module, Debug)]
pub enum Side {
    /// Noise on A with signs of its own for each token.
    Flipout(Flipout),
    /// A network that predicts a matrix between A and B from A's output.
    Clora(CloraNetwork),
}

impl Side {
    /// Its kind's functions.
    pub(crate) fn form(&self) -> &dyn SideForm {
        match self {
            Self::Flipout(flipout) => flipout,
            Self::Clora(network) => network,
        }
    }

    /// As [`form`](Self::form), to change its parameters.
    pub(crate) fn form_mut(&mut self) -> &mut dyn SideForm {
        match self {
            Self::Flipout(flipout) => flipout,
            Self::Clora(network) => network,
        }
    }

    /// The side of the layer at `path` with A and B of rank `rank`, of the matrices that `take`
    /// gives by their paths; none where it gives none. Flipout is noise of a training step, so no
    /// file has it.
    pub(super) fn from_matrices(
        path: &str,
        rank: usize,
        device: &Device,
        take: &mut dyn FnMut(&str) -> Option<HostMatrix>,
    ) -> Result<Option<Self>, LoraError> {
        Ok(CloraNetwork::from_matrices(path, rank, device, take)?.map(Self::Clora))
    }
}
