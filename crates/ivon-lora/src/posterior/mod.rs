//! What adapter weights can be drawn from.

mod error;
mod stored;
mod gaussian;
mod mc_dropout;
mod ensemble;
mod laplace;
mod kronecker;
mod scalabl;
mod swag;
mod clora;

pub use clora::Clora;
pub use ensemble::Ensemble;
pub use error::PosteriorError;
pub use gaussian::Gaussian;
pub(crate) use gaussian::check_scale;
pub use gaussian::only_kept;
pub use kronecker::{Eigenpairs, KroneckerBlock, KroneckerLaplace};
pub use laplace::{Laplace, LaplacePrediction};
pub use mc_dropout::McDropout;
pub use scalabl::Scalabl;
pub use stored::{Restore, Stored, StoredKind};
pub use swag::Swag;

use burn::tensor::Device;

use crate::lora::{Adapter, Draw};
use crate::model::DecoderConfig;

/// What can be drawn from. Draw number `sample` under `seed` at scale τ is always the same
/// function.
pub trait Posterior: Send + Sync {
    /// Draw number `sample` under `seed`; `scale` (τ, at least 0) multiplies the variance, and at 0
    /// the draw is the mean.
    ///
    /// # Errors
    /// If `scale` is negative or not finite, or the device gives no data back.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError>;

    /// The adapter that stands for all: the mean, or the point estimate.
    fn mean(&self) -> &Adapter;

    /// The variance of each parameter, where there is such a thing.
    fn variance(&self) -> Option<&Adapter>;

    /// How its draws differ from the mean.
    fn spread(&self) -> Spread {
        if self.variance().is_some() {
            Spread::Scaled
        } else {
            Spread::None
        }
    }

    /// The linearised model, where the posterior predicts in it rather than by draws of the
    /// weights.
    fn linearised(&self) -> Option<&dyn Linearised> {
        None
    }

    /// The same posterior with some weights fixed at 0, in every draw and at the mean. `kept` says
    /// of each weight, in the order of [`Adapter::flatten`], whether it stays as it is.
    ///
    /// # Errors
    /// [`PosteriorError::NotPruned`] of a kind that has no such form, which is what a kind says
    /// that does not have this method; [`PosteriorError::Kept`] if `kept` is of another length.
    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let _ = kept;
        Err(PosteriorError::NotPruned)
    }

    /// What its file holds beside the mean; none for a point estimate.
    ///
    /// # Errors
    /// If the device gives no data back.
    fn stored(&self) -> Result<Option<Stored>, PosteriorError>;
}

/// A normal distribution over weights as one over logits, by way of their Jacobian at the mean.
pub trait Linearised {
    /// J Σ Jᵀ for the rows of a Jacobian `[K][P]`, weights in the order of [`Adapter::flatten`]:
    /// `[K²]` row by row.
    ///
    /// # Errors
    /// If the device does not give its data back.
    fn covariance(&self, jacobian: &[Vec<f32>]) -> Result<Vec<f64>, PosteriorError>;

    /// The lowest decoder layer whose weights are random: of a Jacobian's columns those below it
    /// are not looked at.
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
    /// Not at all: a point estimate.
    None,
    /// By noise whose variance τ multiplies.
    Scaled,
    /// By something that τ only turns on (above 0) or off (0).
    Fixed,
    /// Each of so many members is a draw; τ = 0 is the first.
    Members(usize),
}

impl Spread {
    /// The number of draws worth making where `asked` are asked for.
    pub fn draws(self, asked: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Scaled | Self::Fixed => asked,
            Self::Members(count) => asked.min(count),
        }
    }
}

/// The enum of all built-in kinds of posteriors that have a file, from one line each.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $kind:expr),+ $(,)?) => {
        /// A built-in kind of posterior.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $variant),+
        }

        impl Kind {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];

            /// What is to be known of it.
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
}

impl Kind {
    /// The kind with this tag; none for that of another program.
    pub fn of(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// What `content` says in its file.
    pub fn tag(self) -> &'static str {
        self.stored().tag
    }
}

/// The posterior of one of the built-in kinds, from what its file holds.
///
/// # Errors
/// If it is malformed, or of a kind not known here.
pub fn restore(
    stored: &Stored,
    mean: Adapter,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<Box<dyn Posterior>, PosteriorError> {
    let Some(kind) = Kind::of(&stored.content) else {
        let tags = Kind::ALL.map(|kind| format!("`{}`", kind.tag()));
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
        gaussian::check_scale(scale)?;
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
