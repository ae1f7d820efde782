//! The errors of this crate; each says what was expected and what was found.

use std::path::PathBuf;

use crate::PathPattern;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum IvonError {
    /// A setting is out of its range.
    #[error("`{name}` must be {expected}, found {value}")]
    Setting {
        /// The field of [`IvonConfig`](crate::IvonConfig).
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range it must lie in.
        expected: &'static str,
    },
    /// The normalised update lacks the average of squared gradients that it divides by.
    #[error("the normalised update of the mean needs the Hessian approximation `fisher`")]
    NormalizedWithoutFisher,
    /// No parameter of the module keeps gradients.
    #[error("the module has no parameter that keeps gradients")]
    NoTrainableParameters,
    /// A group's pattern matches no parameter that keeps gradients.
    #[error("the parameter group `{pattern}` matches none of the {trainable} trainable parameters")]
    UnmatchedGroup {
        /// The group's pattern.
        pattern: PathPattern,
        /// How many parameters it was tried on.
        trainable: usize,
    },
    /// The learning rate is negative, infinite or not a number.
    #[error("the learning rate must be finite and at least 0, found {found}")]
    LearningRate {
        /// The value.
        found: f64,
    },
    /// A weight of gradients is not a positive number.
    #[error("the weight of gradients must be finite and above 0, found {found}")]
    Weight {
        /// The value.
        found: f64,
    },
    /// A sum of observations is not one of this module's.
    #[error("the sum of observations has {found} numbers, expected {expected}")]
    SharedLength {
        /// Of this module.
        expected: usize,
        /// Of the sum.
        found: usize,
    },
    /// The scale of a posterior draw is negative, infinite or not a number.
    #[error("the scale of the variance must be finite and at least 0, found {found}")]
    Scale {
        /// The value.
        found: f64,
    },
    /// A loss is infinite or not a number; nothing was updated.
    #[error("the loss is {found} at step {step}, nothing was updated")]
    NonFiniteLoss {
        /// The step that was not taken, counted from 1.
        step: u64,
        /// The loss.
        found: f64,
    },
    /// A gradient is infinite, not a number, or too large to be squared; nothing was updated.
    #[error("the gradient of `{path}` is not finite at step {step}, nothing was updated")]
    NonFiniteGradient {
        /// The step that was not taken, counted from 1.
        step: u64,
        /// The first parameter concerned.
        path: String,
    },
    /// The update is not finite although the gradients are; nothing was updated.
    #[error("the update of `{path}` is not finite at step {step}, nothing was updated")]
    NonFiniteUpdate {
        /// The step that was not taken, counted from 1.
        step: u64,
        /// The first parameter concerned.
        path: String,
    },
    /// No parameter received a gradient.
    #[error("no gradient was observed for any of the {trainable} trainable parameters")]
    NoGradients {
        /// How many parameters there are.
        trainable: usize,
    },
    /// A gradient does not have its parameter's shape.
    #[error("the gradient of `{path}` has shape {found:?}, expected {expected:?}")]
    GradientShape {
        /// The parameter.
        path: String,
        /// Its shape.
        expected: Vec<usize>,
        /// The gradient's shape.
        found: Vec<usize>,
    },
    /// A draw comes back after the step that it was made for.
    #[error("the draw was made after {drawn} steps, and {now} have been taken since the start")]
    StaleDraw {
        /// Steps taken when it was made.
        drawn: u64,
        /// Steps taken now.
        now: u64,
    },
    /// A draw comes back to another optimizer than made it.
    #[error("the draw was made by another optimizer")]
    ForeignDraw,
    /// Draws were observed by hand, and then something was asked that would lose or mix them.
    #[error("{count} observed draws wait for `apply`")]
    PendingObservations {
        /// How many.
        count: usize,
    },
    /// Supplied normals do not fit the parameter.
    #[error("{found} normals were supplied for `{path}`, expected {expected}")]
    NormalsLength {
        /// The parameter.
        path: String,
        /// Its number of elements.
        expected: usize,
        /// How many were supplied.
        found: usize,
    },
    /// The bytes are not a saved state of this optimizer.
    #[error("this is not a saved IVON state: {reason}")]
    StateFormat {
        /// What is wrong with them.
        reason: String,
    },
    /// The settings of the saved state differ from those of the optimizer.
    #[error("the saved state has other settings: {}", list(differences))]
    StateSettings {
        /// Each setting that differs.
        differences: Vec<Difference>,
    },
    /// The saved state lacks a parameter of the module.
    #[error("the saved state lacks the parameter `{path}`")]
    StateMissing {
        /// The parameter.
        path: String,
    },
    /// The saved state, or the variances of a posterior, name a parameter that the module lacks or
    /// does not train.
    #[error("the module has no such parameter to restore as `{path}`")]
    UnknownParameter {
        /// The parameter.
        path: String,
    },
    /// A saved tensor has another shape than the module's parameter.
    #[error("the saved state of `{path}` has shape {found:?}, expected {expected:?}")]
    StateShape {
        /// The parameter.
        path: String,
        /// Its shape in the module.
        expected: Vec<usize>,
        /// Its shape in the state.
        found: Vec<usize>,
    },
    /// A saved tensor has another number type than the optimizer keeps for this parameter.
    #[error("the saved state of `{path}` is {found}, expected {expected}")]
    StateType {
        /// The parameter.
        path: String,
        /// `f32` or `f64`.
        expected: &'static str,
        /// `f32`, `f64`, or the file's name for another type.
        found: String,
    },
    /// A saved value is outside the range that the optimizer can produce.
    #[error("the saved {what} of `{path}` holds {found}, expected {expected}")]
    StateValue {
        /// `momentum` or `hessian`.
        what: &'static str,
        /// The parameter.
        path: String,
        /// The first value out of range.
        found: f64,
        /// The range.
        expected: &'static str,
    },
    /// A variance is negative, infinite or not a number.
    #[error("the variance of `{path}` holds {found}, expected finite values of at least 0")]
    Variance {
        /// The parameter.
        path: String,
        /// The first invalid value.
        found: f64,
    },
    /// A variance does not have as many elements as its parameter.
    #[error("the variance of `{path}` has {found} elements, expected {expected}")]
    VarianceLength {
        /// The parameter.
        path: String,
        /// The parameter's number of elements.
        expected: usize,
        /// The variance's.
        found: usize,
    },
    /// A rotation does not have the width of its parameter's side.
    #[error(
        "the {side} rotation of `{path}` has shape {found:?}, which turns no side of {shape:?}"
    )]
    RotationShape {
        /// The parameter.
        path: String,
        /// `left` or `right`.
        side: &'static str,
        /// The parameter's shape.
        shape: Vec<usize>,
        /// The rotation's.
        found: Vec<usize>,
    },
    /// The columns of a rotation are not orthonormal.
    #[error("the {side} rotation of `{path}` is off an orthogonal matrix by {found}")]
    Rotation {
        /// The parameter.
        path: String,
        /// `left` or `right`.
        side: &'static str,
        /// The largest entry of |QᵀQ − 1|.
        found: f64,
    },
    /// A file could not be read or written.
    #[error("could not {action} `{}`: {source}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// A setting that differs between a saved state and the optimizer that is to be restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The field of [`IvonConfig`](crate::IvonConfig).
    pub name: String,
    /// Its value in the saved state, as JSON.
    pub saved: String,
    /// Its value in the optimizer, as JSON.
    pub here: String,
}

fn list(differences: &[Difference]) -> String {
    let one = |d: &Difference| format!("`{}` was {}, here {}", d.name, d.saved, d.here);
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl IvonError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoTrainableParameters => {
                "make the module on an autodiff device (`device.autodiff()`), and unfreeze what should learn"
            }
            Self::UnmatchedGroup { .. } => "`ivon::paths::trainable_parameters` lists the paths",
            Self::NonFiniteLoss { .. } | Self::NonFiniteGradient { .. } => {
                "lower the learning rate, or set `clip_radius` or `gradient_clip_norm`; the mean is still the last good one"
            }
            Self::NonFiniteUpdate { .. } => {
                "raise `hessian_init` or `weight_decay`, or lower `effective_sample_size`"
            }
            Self::NoGradients { .. } => {
                "take the gradients with `GradientsParams::from_grads(loss.backward(), model)` at the module that was drawn"
            }
            Self::StaleDraw { .. } => "make a new draw after each `apply`",
            Self::PendingObservations { .. } => "call `apply` or `discard` first",
            Self::StateSettings { .. } => {
                "restore with the settings of the saved state; to change them on purpose, put them into the state's `config` first"
            }
            Self::StateMissing { .. } | Self::UnknownParameter { .. } | Self::StateShape { .. } => {
                "does this state belong to this module, with the same parameters frozen?"
            }
            Self::StateValue { .. } | Self::StateFormat { .. } | Self::Rotation { .. } => {
                "take an older copy of the file"
            }
            _ => return None,
        };
        Some(hint.to_string())
    }
}
