//! The settings of IVON, checked once before anything is computed.

use serde::{Deserialize, Serialize};

use crate::{EigenbasisConfig, IvonError, PathPattern};

/// The settings of IVON. The effective sample size has no default, because no one value suits
/// every use.
///
/// ```
/// use ivon::IvonConfig;
/// // The recipe of arXiv 2411.04421 for a LoRA adapter.
/// let config = IvonConfig {
///     hessian_init: 1e-3,
///     weight_decay: 0.0,
///     clip_radius: Some(1e-3),
///     rescale_learning_rate: false,
///     ..IvonConfig::new(1e6)
/// };
/// assert!(config.validate().is_ok());
/// assert!((config.initial_standard_deviation() - 0.0316).abs() < 1e-4);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IvonConfig {
    /// N, `ess` in the paper: how many examples the mean loss stands for. The variance is
    /// σ² = 1/(N (h + δ)). Above 0.
    pub effective_sample_size: f64,
    /// h₀, the initial Hessian, 1. Above 0. With N and δ it sets the initial variance.
    #[serde(default = "defaults::hessian_init")]
    pub hessian_init: f64,
    /// β₁, the decay of the momentum, 0.9. In [0, 1).
    #[serde(default = "defaults::beta1")]
    pub beta1: f64,
    /// β₂, the decay of the Hessian, 0.99999. In [0, 1]; at 1 the Hessian is frozen.
    #[serde(default = "defaults::beta2")]
    pub beta2: f64,
    /// δ, the prior's precision per effective example, 1e-4. At least 0.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// How many Monte Carlo draws [`Ivon::step`](crate::Ivon::step) makes, 1.
    #[serde(default = "defaults::mc_samples")]
    pub mc_samples: usize,
    /// Bound on the absolute value of each element of the update, before it is multiplied by the
    /// learning rate; none by default.
    #[serde(default)]
    pub clip_radius: Option<f64>,
    /// Whether the momentum is divided by 1 − β₁ᵗ, true.
    #[serde(default = "defaults::yes")]
    pub debias: bool,
    /// Whether the learning rate is multiplied by h₀ + δ, true: the first steps are then those of
    /// SGD with momentum.
    #[serde(default = "defaults::yes")]
    pub rescale_learning_rate: bool,
    /// Bound on the absolute value of each element of the update, after it is multiplied by the
    /// learning rate, as a multiple of the posterior's standard deviation; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_deviations: Option<f64>,
    /// How the Hessian is estimated from gradients, [`HessianApproximation::Price`].
    #[serde(default)]
    pub hessian_approximation: HessianApproximation,
    /// How the mean's gradient is preconditioned, [`MeanUpdate::Newton`].
    #[serde(default)]
    pub mean_update: MeanUpdate,
    /// Bound on the Euclidean norm of the mean gradient ḡ over all parameters; none by default.
    /// It does not affect the Hessian estimate.
    #[serde(default)]
    pub gradient_clip_norm: Option<f64>,
    /// Bound on the absolute value of each element of the Hessian estimate ĥ, as a multiple of |h|;
    /// none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_limit: Option<f64>,
    /// The basis in which the posterior of a matrix is diagonal; by default that of the weights,
    /// which is IVON. With an eigenbasis it is EVON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eigenbasis: Option<EigenbasisConfig>,
    /// The source of the standard normals of training draws; by default the host with seed 0.
    #[serde(default)]
    pub noise: NoiseSource,
    /// Overrides for some of the parameters. If several groups match a parameter, the last one
    /// applies.
    #[serde(default)]
    pub groups: Vec<ParameterGroup>,
}

/// How the Hessian is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HessianApproximation {
    /// ĥ = N (h + δ) mean(ε ĝ): Price's theorem, an unbiased estimate of the diagonal under the
    /// posterior.
    #[default]
    Price,
    /// ĥ = N mean(ĝ²): the squared gradient of the batch, as in Adam. The factor N is that of the
    /// published code, kept for parity although its users question it.
    GradSq,
    /// ĥ = b mean(ĝ²): the diagonal of the empirical Fisher matrix of a single example, estimated
    /// from gradients that average b examples. h is the weighted average of all estimates so far,
    /// with no start value; h₀ is a floor that is added wherever h is used, so that directions
    /// without curvature keep the spread σ₀.
    Fisher {
        /// b, the number of examples that the gradient at a draw averages; above 0.
        examples: f64,
    },
}

/// How the mean's gradient is preconditioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeanUpdate {
    /// By the posterior's covariance: (ĝ + δ m)/(h + δ), clipped to the clip radius. This is the
    /// natural gradient.
    #[default]
    Newton,
    /// By the gradient's root mean square: ρ (ĝ + δ m)/√(h/b), where ρ is the clip radius, 1 if
    /// there is none. A step moves an element by about lr ρ if its gradient is steady, and by less
    /// if its gradient is noise, whatever the scale of the loss. The fixed point is the same: the
    /// mean at which the expected gradient vanishes. Needs [`HessianApproximation::Fisher`].
    Normalized,
}

/// Where standard normals come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoiseSource {
    /// ChaCha8 on the host, addressed by (seed, step, draw, parameter path): the same numbers on
    /// every machine and device, after a resume, and in any order. See [`noise`](crate::noise).
    Host {
        /// Selects the sequence.
        seed: u64,
    },
    /// The device's own generator: nothing is uploaded, but only `Device::seed` makes it
    /// repeatable, and a resumed run draws other numbers.
    Device,
}

impl Default for NoiseSource {
    fn default() -> Self {
        Self::Host { seed: 0 }
    }
}

/// Settings for some of the parameters; `None` inherits the value of [`IvonConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// The parameters it applies to.
    pub paths: PathPattern,
    /// A learning rate that replaces or multiplies that of the step.
    #[serde(default)]
    pub learning_rate: Option<GroupLearningRate>,
    /// δ of these parameters.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// h₀ of these parameters.
    #[serde(default)]
    pub hessian_init: Option<f64>,
}

impl ParameterGroup {
    /// A group without overrides.
    pub fn new(paths: PathPattern) -> Self {
        Self {
            paths,
            learning_rate: None,
            weight_decay: None,
            hessian_init: None,
        }
    }
}

/// The learning rate of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupLearningRate {
    /// A multiple of the step's learning rate, which follows the schedule.
    Factor(f64),
    /// A learning rate independent of the schedule.
    Fixed(f64),
}

mod defaults {
    pub fn hessian_init() -> f64 {
        1.0
    }
    pub fn beta1() -> f64 {
        0.9
    }
    pub fn beta2() -> f64 {
        0.99999
    }
    pub fn weight_decay() -> f64 {
        1e-4
    }
    pub fn mc_samples() -> usize {
        1
    }
    pub fn yes() -> bool {
        true
    }
}

impl IvonConfig {
    /// The defaults, with this effective sample size.
    pub fn new(effective_sample_size: f64) -> Self {
        Self {
            effective_sample_size,
            hessian_init: defaults::hessian_init(),
            beta1: defaults::beta1(),
            beta2: defaults::beta2(),
            weight_decay: defaults::weight_decay(),
            mc_samples: defaults::mc_samples(),
            clip_radius: None,
            clip_deviations: None,
            debias: true,
            rescale_learning_rate: true,
            hessian_approximation: HessianApproximation::Price,
            mean_update: MeanUpdate::Newton,
            gradient_clip_norm: None,
            estimate_limit: None,
            eigenbasis: None,
            noise: NoiseSource::default(),
            groups: Vec::new(),
        }
    }

    /// EVON with this effective sample size: the defaults, and an eigenbasis on both sides of each
    /// matrix where they are not too wide. Its authors use β₂ from 0.999 to 0.9999 and an
    /// `estimate_limit` of 2.
    pub fn evon(effective_sample_size: f64) -> Self {
        Self {
            eigenbasis: Some(EigenbasisConfig::default()),
            ..Self::new(effective_sample_size)
        }
    }

    /// Sets the effective sample size so that the initial standard deviation is σ₀:
    /// N = 1/(σ₀² (h₀ + δ)).
    pub fn with_initial_standard_deviation(mut self, standard_deviation: f64) -> Self {
        self.effective_sample_size = 1.0
            / (standard_deviation * standard_deviation * (self.hessian_init + self.weight_decay));
        self
    }

    /// σ₀ = 1/√(N (h₀ + δ)), the initial standard deviation of every weight outside groups.
    pub fn initial_standard_deviation(&self) -> f64 {
        (self.effective_sample_size * (self.hessian_init + self.weight_decay))
            .sqrt()
            .recip()
    }

    /// The clip radius where it clips: the normalised update takes it as its size.
    pub(crate) fn newton_radius(&self) -> Option<f64> {
        self.clip_radius
            .filter(|_| self.mean_update == MeanUpdate::Newton)
    }

    /// Whether an element's update may be clipped.
    pub fn clips(&self) -> bool {
        self.newton_radius().is_some() || self.clip_deviations.is_some()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`IvonError::Setting`] names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), IvonError> {
        check(
            "effective_sample_size",
            self.effective_sample_size,
            "above 0",
            |x| x > 0.0,
        )?;
        check("beta1", self.beta1, "in [0, 1)", |x| {
            (0.0..1.0).contains(&x)
        })?;
        check("beta2", self.beta2, "in [0, 1]", |x| {
            (0.0..=1.0).contains(&x)
        })?;
        check("mc_samples", self.mc_samples as f64, "at least 1", |x| {
            x >= 1.0
        })?;
        if let Some(radius) = self.clip_radius {
            check("clip_radius", radius, "above 0 (or none)", |x| x > 0.0)?;
        }
        if let Some(deviations) = self.clip_deviations {
            let expected = "above 0 (or none)";
            check("clip_deviations", deviations, expected, |x| x > 0.0)?;
        }
        self.validate_curvature()?;
        if let Some(norm) = self.gradient_clip_norm {
            check("gradient_clip_norm", norm, "above 0 (or none)", |x| x > 0.0)?;
        }
        if let Some(limit) = self.estimate_limit {
            check("estimate_limit", limit, "above 0 (or none)", |x| x > 0.0)?;
        }
        self.eigenbasis.as_ref().map_or(Ok(()), check_eigenbasis)?;
        check_precision(self.hessian_init, self.weight_decay)?;
        self.groups
            .iter()
            .try_for_each(|group| self.validate_group(group))
    }

    /// The average of squared gradients needs examples and a decay, and the normalised update needs
    /// that average.
    fn validate_curvature(&self) -> Result<(), IvonError> {
        match (self.hessian_approximation, self.mean_update) {
            (HessianApproximation::Fisher { examples }, _) => {
                check("examples", examples, "above 0", |x| x > 0.0)?;
                check("beta2", self.beta2, "below 1 with fisher", |x| x < 1.0)
            }
            (_, MeanUpdate::Normalized) => Err(IvonError::NormalizedWithoutFisher),
            _ => Ok(()),
        }
    }

    fn validate_group(&self, group: &ParameterGroup) -> Result<(), IvonError> {
        if let Some(GroupLearningRate::Factor(rate) | GroupLearningRate::Fixed(rate)) =
            group.learning_rate
        {
            check("learning_rate of a group", rate, "at least 0", |x| x >= 0.0)?;
        }
        check_precision(
            group.hessian_init.unwrap_or(self.hessian_init),
            group.weight_decay.unwrap_or(self.weight_decay),
        )
    }
}

fn check(
    name: &'static str,
    value: f64,
    expected: &'static str,
    holds: impl Fn(f64) -> bool,
) -> Result<(), IvonError> {
    if value.is_finite() && holds(value) {
        Ok(())
    } else {
        Err(IvonError::Setting {
            name,
            value,
            expected,
        })
    }
}

fn check_eigenbasis(config: &EigenbasisConfig) -> Result<(), IvonError> {
    let interval = config.basis_interval as f64;
    check("basis_interval", interval, "at least 1", |x| x >= 1.0)?;
    config.gram_decay.map_or(Ok(()), |decay| {
        check("gram_decay", decay, "in [0, 1) (or none)", |x| {
            (0.0..1.0).contains(&x)
        })
    })
}

/// h₀ > 0 keeps h + δ > 0 in every later step, because a step multiplies it by at least ½.
fn check_precision(hessian_init: f64, weight_decay: f64) -> Result<(), IvonError> {
    check("weight_decay", weight_decay, "at least 0", |x| x >= 0.0)?;
    check("hessian_init", hessian_init, "above 0", |x| x > 0.0)
}

/// The settings of one parameter with defaults and groups resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub learning_rate: GroupLearningRate,
    pub weight_decay: f64,
    pub hessian_init: f64,
    /// Added to h wherever it is used: h₀ with [`HessianApproximation::Fisher`], else 0.
    pub floor: f64,
}

impl Resolved {
    /// The settings of the parameter at `path`.
    pub fn at(config: &IvonConfig, path: &str) -> Self {
        let group = config
            .groups
            .iter()
            .rev()
            .find(|group| group.paths.matches(path));
        let hessian_init = group
            .and_then(|group| group.hessian_init)
            .unwrap_or(config.hessian_init);
        Self {
            learning_rate: group
                .and_then(|group| group.learning_rate)
                .unwrap_or(GroupLearningRate::Factor(1.0)),
            weight_decay: group
                .and_then(|group| group.weight_decay)
                .unwrap_or(config.weight_decay),
            hessian_init,
            floor: match config.hessian_approximation {
                HessianApproximation::Fisher { .. } => hessian_init,
                HessianApproximation::Price | HessianApproximation::GradSq => 0.0,
            },
        }
    }

    /// What is added to h for the precision per effective example: the floor and δ.
    pub fn added(&self) -> f64 {
        self.floor + self.weight_decay
    }

    /// h before the first step.
    pub fn hessian_start(&self) -> f64 {
        self.hessian_init - self.floor
    }

    /// lr′ = lr (h₀ + δ) when rescaled, else lr.
    pub fn learning_rate(&self, step: f64, rescale: bool) -> f64 {
        let rate = match self.learning_rate {
            GroupLearningRate::Factor(factor) => factor * step,
            GroupLearningRate::Fixed(rate) => rate,
        };
        if rescale {
            rate * (self.hessian_init + self.weight_decay)
        } else {
            rate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named_with_its_value_and_its_range() {
        type Spoil = fn(&mut IvonConfig);
        let cases: [(&str, Spoil); 13] = [
            ("effective_sample_size", |c| c.effective_sample_size = 0.0),
            ("effective_sample_size", |c| {
                c.effective_sample_size = f64::NAN
            }),
            ("hessian_init", |c| c.hessian_init = 0.0),
            ("beta1", |c| c.beta1 = 1.0),
            ("beta2", |c| c.beta2 = 1.1),
            ("weight_decay", |c| c.weight_decay = -1.0),
            ("mc_samples", |c| c.mc_samples = 0),
            ("clip_radius", |c| c.clip_radius = Some(f64::INFINITY)),
            ("gradient_clip_norm", |c| c.gradient_clip_norm = Some(0.0)),
            ("estimate_limit", |c| c.estimate_limit = Some(0.0)),
            ("basis_interval", |c| {
                c.eigenbasis = Some(EigenbasisConfig {
                    basis_interval: 0,
                    ..EigenbasisConfig::default()
                });
            }),
            ("gram_decay", |c| {
                c.eigenbasis = Some(EigenbasisConfig {
                    gram_decay: Some(1.0),
                    ..EigenbasisConfig::default()
                });
            }),
            ("learning_rate of a group", |c| {
                c.groups.push(ParameterGroup {
                    learning_rate: Some(GroupLearningRate::Factor(-1.0)),
                    ..ParameterGroup::new(PathPattern::Prefix(String::new()))
                });
            }),
        ];
        for (name, spoil) in cases {
            let mut config = IvonConfig::new(10.0);
            spoil(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
        let message = IvonConfig {
            beta1: 1.5,
            ..IvonConfig::new(1.0)
        }
        .validate()
        .unwrap_err()
        .to_string();
        assert_eq!(message, "`beta1` must be in [0, 1), found 1.5");
    }

    #[test]
    fn the_last_matching_group_applies_and_its_missing_settings_are_inherited() {
        let group = |paths, hessian_init, weight_decay| ParameterGroup {
            hessian_init,
            weight_decay,
            ..ParameterGroup::new(paths)
        };
        let config = IvonConfig {
            groups: vec![
                group(PathPattern::Contains("bias".into()), Some(2.0), Some(0.0)),
                group(PathPattern::Prefix("head.".into()), Some(3.0), None),
            ],
            ..IvonConfig::new(10.0)
        };
        let at = |path| {
            (
                Resolved::at(&config, path).hessian_init,
                Resolved::at(&config, path).weight_decay,
            )
        };
        assert_eq!(at("body.weight"), (1.0, 1e-4));
        assert_eq!(at("body.bias"), (2.0, 0.0));
        assert_eq!(at("head.bias"), (3.0, 1e-4));
    }

    #[test]
    fn settings_survive_json_and_an_unknown_one_is_refused() {
        let config = IvonConfig {
            clip_radius: Some(1e-3),
            noise: NoiseSource::Device,
            ..IvonConfig::evon(1e6)
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<IvonConfig>(&json).unwrap(), config);
        assert_eq!(
            serde_json::from_str::<IvonConfig>(r#"{"effective_sample_size": 7.0}"#).unwrap(),
            IvonConfig::new(7.0)
        );
        let sparse = r#"{"effective_sample_size": 7.0, "eigenbasis": {}}"#;
        assert_eq!(
            serde_json::from_str::<IvonConfig>(sparse).unwrap(),
            IvonConfig::evon(7.0)
        );
        assert!(
            serde_json::from_str::<IvonConfig>(r#"{"effective_sample_size": 7.0, "beta3": 1}"#)
                .is_err()
        );
    }

    #[test]
    fn an_initial_standard_deviation_sets_the_effective_sample_size() {
        let config = IvonConfig::new(1.0).with_initial_standard_deviation(0.01);
        assert!((config.initial_standard_deviation() - 0.01).abs() < 1e-12);
    }
}
