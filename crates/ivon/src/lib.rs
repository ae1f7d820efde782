#![doc = include_str!("../README.md")]

mod path_pattern;
mod error;
mod sides;
mod config;
pub mod noise;
pub mod paths;
pub mod rule;
pub mod symmetric;
mod layout;
mod basis;
pub mod state;
mod grams;
mod draw;
mod observations;
mod update;
mod posterior;
mod optimizer;
mod shared;

#[doc = include_str!("../docs/choosing-the-settings.md")]
pub mod choosing_the_settings {}

/// The code of the guide's page, as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/burn-model.md")]
mod guide {}

#[cfg(test)]
mod tests;

pub use basis::Rotation;
pub use config::{
    GroupLearningRate, HessianApproximation, IvonConfig, MeanUpdate, NoiseSource, ParameterGroup,
};
pub use draw::{Draw, Loss};
pub use error::{Difference, IvonError};
pub use optimizer::Ivon;
pub use path_pattern::PathPattern;
pub use posterior::Posterior;
pub use sides::{EigenbasisConfig, Sides};
pub use state::IvonState;
pub use update::StepReport;
