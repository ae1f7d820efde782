#![doc = include_str!("../README.md")]

mod path_pattern;
pub mod error;
pub mod config;
pub mod noise;
pub mod paths;
pub mod rule;
mod layout;
pub mod state;
mod draw;
mod observations;
mod update;
mod posterior;
mod optimizer;

#[doc = include_str!("../docs/choosing-the-settings.md")]
pub mod choosing_the_settings {}

#[cfg(test)]
mod tests;

pub use config::{
    GroupLearningRate, HessianApproximation, IvonConfig, NoiseSource, ParameterGroup,
};
pub use draw::{Draw, Loss};
pub use error::IvonError;
pub use optimizer::Ivon;
pub use path_pattern::PathPattern;
pub use posterior::Posterior;
pub use state::IvonState;
pub use update::StepReport;
