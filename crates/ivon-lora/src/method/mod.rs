//! IVON, AdamW and every alternative of the paper's table, one file each: how it trains and what it
//! draws from.
//!
//! A new method is a file with its [`Settings`], an [`Optimizer`](crate::train::Optimizer) if it
//! trains in a way of its own, a [`Posterior`](crate::posterior::Posterior) if it draws in a way of
//! its own, and a variant here. It can just as well live outside this library: see
//! `docs/adding-a-method.md`.

mod settings;
mod bytes;
mod flat;
mod with_posterior;
mod members;
mod adamw;
mod adamw_vector;
mod ivon;
mod evon;
mod mc_dropout;
mod adamw_noise;
mod laplace;
mod tfb;
mod blob;
mod scalabl;
mod clora;
mod dalorra;
mod last_layer;
mod ensemble;
mod swag;
pub mod conformance;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};

pub use ::ivon::Sides;
pub use adamw::{Adamw, AdamwConfig};
pub use adamw_noise::AdamwNoiseConfig;
pub use blob::BlobConfig;
pub use clora::CloraConfig;
pub use dalorra::DalorraConfig;
pub use ensemble::EnsembleConfig;
pub use evon::EvonMethodConfig;
pub use ivon::{DrawPer, HessianEstimate, IvonMethodConfig, Recipe};
pub(crate) use laplace::CHOSEN_BY;
pub use laplace::{LaplaceConfig, LaplaceLayers, LaplaceStructure, PrecisionChoice};
pub use last_layer::LastLayerConfig;
pub use mc_dropout::McDropoutConfig;
pub(crate) use members::member_folder;
pub use members::train_members;
pub use scalabl::ScalablConfig;
pub use settings::{Fit, Members, Passes, Settings, Setup};
pub use swag::SwagConfig;
pub use tfb::TfbConfig;
pub use with_posterior::WithPosterior;

/// The enum of all methods, from one line each: variant, settings, name.
macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $name:literal),+ $(,)?) => {
        /// A method with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name")]
        pub enum Method {
            $($(#[$doc])* #[serde(rename = $name)] $variant($config)),+
        }

        impl Method {
            /// Every method by name.
            pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

            /// Every method with its default settings, in the order of [`NAMES`](Self::NAMES).
            pub fn all() -> [Self; Self::NAMES.len()] {
                [$(Self::$variant(Default::default())),+]
            }

            /// Its settings.
            pub fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$variant(settings) => settings),+
                }
            }
        }
    };
}

methods! {
    /// The variational optimizer of the paper.
    Ivon(IvonMethodConfig) = "ivon",
    /// IVON in an eigenbasis of each matrix.
    Evon(EvonMethodConfig) = "evon",
    /// The usual optimizer: a point estimate.
    Adamw(AdamwConfig) = "adamw",
    /// AdamW whose dropout stays on in prediction.
    McDropout(McDropoutConfig) = "mc-dropout",
    /// AdamW, and a normal distribution fitted to the path of its last steps.
    Swag(SwagConfig) = "swag",
    /// AdamW, and a normal distribution from the curvature at its end.
    Laplace(LaplaceConfig) = "laplace",
    /// AdamW, and as much noise as its training loss tolerates.
    Tfb(TfbConfig) = "tfb",
    /// Bayes by backprop over A.
    Blob(BlobConfig) = "blob",
    /// Bayes by backprop over a few numbers a layer.
    Scalabl(ScalablConfig) = "scalabl",
    /// Bayes by backprop over a matrix between A and B, one for each token.
    Clora(CloraConfig) = "clora",
    /// Bernoulli masks on the rank dimensions.
    Dalorra(DalorraConfig) = "dalorra",
    /// AdamW, and noise on the output layer that a closed-form bound learns.
    LastLayer(LastLayerConfig) = "last-layer",
    /// Several AdamW runs.
    Ensemble(EnsembleConfig) = "ensemble",
    /// AdamW with noise of one size on all weights: a control.
    AdamwNoise(AdamwNoiseConfig) = "adamw-noise",
}

impl Default for Method {
    fn default() -> Self {
        Self::Ivon(IvonMethodConfig::default())
    }
}

impl Method {
    /// The method of this name with its default settings.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|method| method.name() == name)
    }

    /// The names of the methods of which `is_so` holds.
    pub fn names_where(is_so: impl Fn(&dyn Settings) -> bool) -> Vec<&'static str> {
        let methods = Self::all().into_iter();
        methods
            .filter(|method| is_so(method.settings()))
            .map(|method| method.name())
            .collect()
    }

    /// The names of the methods that can be fitted to an adapter trained by AdamW.
    pub fn fitted_afterwards() -> Vec<&'static str> {
        Self::names_where(|settings| settings.fits_afterwards() && settings.draws())
    }

    /// The settings of IVON that it trains with, if it is of its kind.
    pub fn as_ivon(&self) -> Option<&IvonMethodConfig> {
        match self {
            Self::Ivon(ivon) => Some(ivon),
            Self::Evon(evon) => Some(&evon.ivon),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.settings().name()
    }

    /// The learning rate before the schedule.
    pub fn learning_rate(&self) -> f64 {
        self.settings().learning_rate()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::with_learning_rate;
    use super::*;

    #[test]
    fn names_settings_and_files_agree() {
        for (name, method) in Method::NAMES.into_iter().zip(Method::all()) {
            assert_eq!(method.name(), name);
            assert_eq!(Method::named(name), Some(method.clone()));
            let text = toml::to_string(&method).unwrap();
            assert!(text.starts_with(&format!("name = \"{name}\"\n")), "{text}");
            assert_eq!(toml::from_str::<Method>(&text).unwrap(), method);
            assert!(
                toml::from_str::<Method>(&format!("{text}wrong = 1\n")).is_err(),
                "{name}"
            );
            assert_eq!(with_learning_rate(&method, 1.0).learning_rate(), 1.0);
            method.settings().validate().unwrap();
        }
        assert_eq!(Method::named("sgd"), None);
    }

    #[test]
    fn a_point_estimate_alone_has_nothing_to_draw() {
        let still = Method::names_where(|settings| !settings.draws());
        assert_eq!(still, ["adamw"]);
    }

    #[test]
    fn what_a_method_adds_to_adamw_after_training_can_be_added_to_an_adapter_that_is_there() {
        let after = Method::names_where(|settings| settings.fits_afterwards());
        assert_eq!(
            after,
            ["adamw", "mc-dropout", "laplace", "tfb", "adamw-noise"]
        );
    }

    #[test]
    fn a_learning_rate_of_zero_is_refused_by_all() {
        for method in Method::all() {
            let method = with_learning_rate(&method, 0.0);
            assert_eq!(
                method.settings().validate().unwrap_err().to_string(),
                "`learning_rate` is `0`, expected a finite number above 0",
                "{}",
                method.name()
            );
        }
    }
}
