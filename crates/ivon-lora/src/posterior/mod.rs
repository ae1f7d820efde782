//! Distributions over adapters: what can be drawn from them, and what a folder holds of them.

mod error;
mod stored;
mod weights;
mod noise;
mod output_noise;
mod gaussian;
mod rotated;
mod mc_dropout;
mod ensemble;
mod laplace;
mod kronecker;
mod scalabl;
mod swag;
mod clora;
mod dalorra;
mod last_layer;

pub use clora::Clora;
pub use dalorra::Dalorra;
pub(crate) use dalorra::{LARGEST_LOGIT, MaskAddress, logistic, scale_rows};
pub use ensemble::Ensemble;
pub use error::PosteriorError;
pub use gaussian::Gaussian;
pub use kronecker::{Eigenpairs, KroneckerBlock, KroneckerLaplace};
pub use laplace::{Laplace, LaplacePrediction};
pub use last_layer::LastLayer;
pub use mc_dropout::McDropout;
pub(crate) use noise::check_scale;
pub use output_noise::OutputNoise;
pub use rotated::{Rotated, Rotation};
pub use scalabl::Scalabl;
pub use stored::{Restore, Stored, StoredKind};
pub use swag::Swag;
pub use weights::only_kept;

use std::collections::BTreeMap;

use burn::tensor::Device;

use crate::lora::{Adapter, Draw, HostMatrix};
use crate::model::DecoderConfig;

/// A distribution over adapters. Draw number `sample` under `seed` at scale τ is always the same
/// adapter.
pub trait Posterior: Send + Sync {
    /// Draw number `sample` under `seed`; `scale` (τ, at least 0) multiplies the variance, and at 0
    /// the draw is the mean.
    ///
    /// # Errors
    /// If `scale` is negative or not finite, or the device does not return its data.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError>;

    /// The adapter that stands for all draws: the mean, or the point estimate.
    fn mean(&self) -> &Adapter;

    /// The variance of each weight, if it has one.
    fn variance(&self) -> Option<&Adapter>;

    /// How its draws differ from the mean.
    fn spread(&self) -> Spread {
        if self.variance().is_some() {
            Spread::Scaled
        } else {
            Spread::None
        }
    }

    /// The linearised model, for a posterior that predicts in it rather than by draws of the
    /// weights.
    fn linearised(&self) -> Option<&dyn Linearised> {
        None
    }

    /// The noise on the output layer, for a posterior that has no other: logits are then normal given
    /// the hidden state, and prediction draws them after a single pass.
    fn output_noise(&self) -> Option<&OutputNoise> {
        None
    }

    /// The same posterior with some weights fixed at 0, in every draw and at the mean. `kept` says
    /// of each weight, in the order of [`Adapter::flatten`], whether it stays as it is.
    ///
    /// # Errors
    /// [`PosteriorError::NotPruned`] for a kind that cannot be pruned, such as one that does not
    /// implement this method; [`PosteriorError::Kept`] if `kept` has another length.
    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let _ = kept;
        Err(PosteriorError::NotPruned)
    }

    /// The contents of its file, which holds all but the mean; none for a point estimate.
    ///
    /// # Errors
    /// If the device does not return its data.
    fn stored(&self) -> Result<Option<Stored>, PosteriorError>;
}

/// A normal distribution over weights as one over logits, through their Jacobian at the mean.
pub trait Linearised {
    /// J Σ Jᵀ `[K²]`, row by row, of a Jacobian `[K][P]` with the weights in the order of
    /// [`Adapter::flatten`].
    ///
    /// # Errors
    /// If the device does not return its data.
    fn covariance(&self, jacobian: &[Vec<f32>]) -> Result<Vec<f64>, PosteriorError>;

    /// The lowest decoder layer with random weights: a Jacobian's columns below it are not read.
    fn first_layer(&self) -> usize {
        0
    }

    /// How probabilities are averaged over the logits.
    fn form(&self) -> LinearisedForm;
}

/// How probabilities are averaged over normal logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearisedForm {
    /// Over draws of the logits.
    Samples,
    /// In MacKay's closed form.
    Probit,
}

/// How the draws of a posterior differ from its mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// They do not: a point estimate.
    None,
    /// By noise whose variance is multiplied by τ.
    Scaled,
    /// By something that τ only turns on (above 0) or off (0).
    Fixed,
    /// Each of this many members is a draw; at τ = 0 it is the first.
    Members(usize),
}

impl Spread {
    /// The number of draws to make where `wanted` are wanted: there is no use in more than differ.
    pub fn draws(self, wanted: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Scaled | Self::Fixed => wanted,
            Self::Members(count) => wanted.min(count),
        }
    }
}

/// The enum of the built-in kinds of posteriors with a file, from one line each.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $kind:expr),+ $(,)?) => {
        /// A built-in kind of posterior with a file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum PosteriorKind {
            $($(#[$doc])* $variant),+
        }

        impl PosteriorKind {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];

            /// Its tag, its description, and how it is read back.
            pub fn stored(self) -> &'static StoredKind {
                match self {
                    $(Self::$variant => const { &$kind }),+
                }
            }
        }
    };
}

kinds! {
    /// [`Gaussian`].
    Gaussian = gaussian::KIND,
    /// [`Rotated`].
    Rotated = rotated::KIND,
    /// [`McDropout`].
    McDropout = mc_dropout::KIND,
    /// [`Ensemble`].
    Ensemble = ensemble::KIND,
    /// [`Laplace`].
    Laplace = laplace::KIND,
    /// [`KroneckerLaplace`].
    KroneckerLaplace = kronecker::KIND,
    /// [`Scalabl`].
    Scalabl = scalabl::KIND,
    /// [`Swag`].
    Swag = swag::KIND,
    /// [`Clora`].
    Clora = clora::KIND,
    /// [`Dalorra`].
    Dalorra = dalorra::KIND,
    /// [`LastLayer`].
    LastLayer = last_layer::KIND,
}

impl PosteriorKind {
    /// The kind with this tag, if it is a built-in one.
    pub fn of(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// The variance of every weight under the weight's own name, from the matrices of its file; none
    /// if the file does not have them.
    pub fn weight_variances(
        self,
        matrices: BTreeMap<String, HostMatrix>,
    ) -> BTreeMap<String, HostMatrix> {
        match self {
            Self::Rotated => rotated::weight_variances(&matrices),
            _ if self.stored().has_variances => matrices,
            _ => BTreeMap::new(),
        }
    }

    /// The `content` of its file.
    pub fn tag(self) -> &'static str {
        self.stored().tag
    }
}

/// The posterior of a built-in kind, from the contents of its file.
///
/// # Errors
/// If they are malformed, or of another kind.
pub fn restore(
    stored: &Stored,
    mean: Adapter,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<Box<dyn Posterior>, PosteriorError> {
    let Some(kind) = PosteriorKind::of(&stored.content) else {
        let tags = PosteriorKind::ALL.map(|kind| format!("`{}`", kind.tag()));
        return Err(PosteriorError::Metadata {
            path: stored.path.clone(),
            key: "content",
            expected: format!("one of {}", tags.join(", ")),
            found: format!("`{}`", stored.content),
        });
    };
    (kind.stored().restore)(mean, stored, decoder, device)
}

/// An adapter without uncertainty: every draw is itself.
#[derive(Clone, Debug)]
pub struct PointEstimate {
    /// The adapter.
    pub adapter: Adapter,
}

impl Posterior for PointEstimate {
    fn draw(&self, _: u64, _: u64, scale: f64) -> Result<Draw, PosteriorError> {
        check_scale(scale)?;
        Ok(Draw::of(self.adapter.clone()))
    }

    fn mean(&self) -> &Adapter {
        &self.adapter
    }

    fn variance(&self) -> Option<&Adapter> {
        None
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(Self {
            adapter: only_kept(&self.adapter, kept)?,
        }))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
