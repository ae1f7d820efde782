//! AdamW, IVON and every alternative of the paper's table, one file each: how it trains, what it
//! can draw.
//!
//! Adding a method is adding a file with its [`Settings`], an
//! [`Optimizer`](crate::train::Optimizer) where it trains in a way of its own, a
//! [`Posterior`](crate::posterior::Posterior) where it draws in a way of its own, and a variant
//! here. A method can live outside of this library just as well: see `docs/adding-a-method.md`.

mod settings;
mod bytes;
mod flat;
mod with_posterior;
mod members;
mod adamw;
mod ivon;
mod mc_dropout;
mod adamw_noise;
mod laplace;
mod tfb;
mod blob;
mod scalabl;
mod clora;
mod ensemble;
mod swag;
pub mod conformance;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};

pub use adamw::{Adamw, AdamwConfig};
pub use adamw_noise::AdamwNoiseConfig;
pub use blob::BlobConfig;
pub use clora::CloraConfig;
pub use ensemble::EnsembleConfig;
pub use ivon::{DrawPer, IvonMethodConfig};
pub use laplace::{
    CHOSEN_BY, LaplaceConfig, LaplaceLayers, LaplaceStructure, PrecisionChoice, trial_precisions,
};
pub use mc_dropout::McDropoutConfig;
pub use members::{MEMBERS_FOLDER, member_folder, member_seed, train_members};
pub use scalabl::ScalablConfig;
pub use settings::{Fit, Passes, Settings, Setup};
pub use swag::SwagConfig;
pub use tfb::TfbConfig;
pub use with_posterior::WithPosterior;

/// The method of a run with its own settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Method {
    /// The variational optimizer of the paper.
    Ivon(IvonMethodConfig),
    /// The usual optimizer: a point estimate.
    Adamw(AdamwConfig),
    /// AdamW whose dropout stays on in prediction.
    McDropout(McDropoutConfig),
    /// AdamW, and the path of its last steps.
    Swag(SwagConfig),
    /// AdamW, and the curvature at its end.
    Laplace(LaplaceConfig),
    /// AdamW, and as much noise as its training examples bear.
    Tfb(TfbConfig),
    /// Bayes by backprop over A.
    Blob(BlobConfig),
    /// Bayes by backprop over a few numbers a layer.
    Scalabl(ScalablConfig),
    /// Bayes by backprop over a matrix that each token has between A and B.
    Clora(CloraConfig),
    /// Several AdamW runs.
    Ensemble(EnsembleConfig),
    /// AdamW with noise of one size on all weights: a control.
    AdamwNoise(AdamwNoiseConfig),
}

impl Default for Method {
    fn default() -> Self {
        Self::Ivon(IvonMethodConfig::default())
    }
}

impl Method {
    /// Every method by name.
    pub const NAMES: [&str; 11] = [
        "ivon",
        "adamw",
        "mc-dropout",
        "swag",
        "laplace",
        "tfb",
        "blob",
        "scalabl",
        "clora",
        "ensemble",
        "adamw-noise",
    ];

    /// Every method with its default settings, in the order of [`NAMES`](Self::NAMES).
    pub fn all() -> [Self; 11] {
        [
            Self::Ivon(Default::default()),
            Self::Adamw(Default::default()),
            Self::McDropout(Default::default()),
            Self::Swag(Default::default()),
            Self::Laplace(Default::default()),
            Self::Tfb(Default::default()),
            Self::Blob(Default::default()),
            Self::Scalabl(Default::default()),
            Self::Clora(Default::default()),
            Self::Ensemble(Default::default()),
            Self::AdamwNoise(Default::default()),
        ]
    }

    /// A method by name with its default settings.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|method| method.name() == name)
    }

    /// Its settings.
    pub fn settings(&self) -> &dyn Settings {
        match self {
            Self::Ivon(settings) => settings,
            Self::Adamw(settings) => settings,
            Self::McDropout(settings) => settings,
            Self::Swag(settings) => settings,
            Self::Laplace(settings) => settings,
            Self::Tfb(settings) => settings,
            Self::Blob(settings) => settings,
            Self::Scalabl(settings) => settings,
            Self::Clora(settings) => settings,
            Self::Ensemble(settings) => settings,
            Self::AdamwNoise(settings) => settings,
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
        let still: Vec<&str> = Method::NAMES
            .into_iter()
            .filter(|name| !Method::named(name).unwrap().settings().draws())
            .collect();
        assert_eq!(still, ["adamw"]);
    }

    #[test]
    fn what_a_method_adds_to_adamw_after_training_can_be_added_to_an_adapter_that_is_there() {
        let after: Vec<&str> = Method::NAMES
            .into_iter()
            .filter(|name| Method::named(name).unwrap().settings().fits_afterwards())
            .collect();
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
