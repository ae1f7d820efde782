//! The optimizer: keeps the mean of the weights, hands out draws, and takes steps from their
//! gradients.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::config::{IvonConfig, NoiseSource};
use crate::draw::{Draw, Loss};
use crate::layout::{Flats, Layout, upload};
use crate::noise::{Address, Purpose};
use crate::observations::Observations;
use crate::paths::trainable_parameters;
use crate::posterior::Posterior;
use crate::state::{IvonState, ParameterState, Values, differences};
use crate::update::{Evidence, StepReport, Update, Variables};
use crate::{IvonError, rule};

/// IVON for a module: the mean of the weights, the momentum, the Hessian and the step count.
///
/// The module given to [`new`](Self::new) is the mean's start. It stays whole whatever happens in a
/// step: draws are copies. Parameters that do not keep gradients are neither drawn nor updated.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use ivon::{Ivon, IvonConfig, IvonError};
///
/// # fn main() -> Result<(), IvonError> {
/// let device = Device::flex().autodiff();
/// let x = Tensor::<2>::from_data([[0.0], [1.0], [2.0]], &device);
/// let y = Tensor::<2>::from_data([[1.0], [3.0], [5.0]], &device);
/// let mut ivon = Ivon::new(IvonConfig::new(3.0), LinearConfig::new(1, 1).init(&device))?;
/// for _ in 0..500 {
///     ivon.step(0.1, |model: &Linear| {
///         let loss = (model.forward(x.clone()) - y.clone()).square().mean();
///         let gradients = GradientsParams::from_grads(loss.backward(), model);
///         Ok::<_, IvonError>((loss, gradients))
///     })?;
/// }
/// let slope = ivon.mean().weight.val().into_scalar::<f32>();
/// assert!((slope - 2.0).abs() < 0.5, "{slope}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ivon<M> {
    config: IvonConfig,
    mean: M,
    layout: Arc<Layout>,
    variables: Variables,
    step: u64,
    /// How many draws have been made since the last step.
    draws: u64,
    observations: Observations,
}

impl<M: Module> Ivon<M> {
    /// An optimizer that starts at `mean`, momentum 0, Hessian h₀.
    ///
    /// # Errors
    /// If a setting is out of range, no parameter keeps gradients, or a group matches none.
    pub fn new(config: IvonConfig, mean: M) -> Result<Self, IvonError> {
        config.validate()?;
        let parameters = trainable_parameters(&mean);
        let layout = Layout::new(&parameters, &config);
        if layout.entries.is_empty() {
            return Err(IvonError::NoTrainableParameters);
        }
        if let Some(group) = config.groups.iter().find(|group| {
            !layout
                .entries
                .iter()
                .any(|entry| group.paths.matches(&entry.path))
        }) {
            return Err(IvonError::UnmatchedGroup {
                pattern: group.paths.clone(),
                trainable: layout.entries.len(),
            });
        }
        let filled = |value: fn(&crate::layout::Bucket) -> f64| -> Flats {
            let full =
                |bucket: &crate::layout::Bucket| upload(vec![value(bucket); bucket.length], bucket);
            layout.buckets.iter().map(full).collect()
        };
        let variables = Variables {
            mean: read_mean(&layout, &mean),
            momentum: filled(|_| 0.0),
            hessian: filled(|bucket| bucket.settings.hessian_init),
        };
        Ok(Self {
            config,
            mean,
            layout: Arc::new(layout),
            variables,
            step: 0,
            draws: 0,
            observations: Observations::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &IvonConfig {
        &self.config
    }

    /// The mean of the posterior: the module to predict with at no extra cost.
    pub fn mean(&self) -> &M {
        &self.mean
    }

    /// The mean, with everything else dropped.
    pub fn into_mean(self) -> M {
        self.mean
    }

    /// How many steps have been taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Takes one step: calls `evaluate` at `mc_samples` draws, and updates the mean and the state.
    ///
    /// `evaluate` gets the module at mean + noise and gives the mean loss of the batch there (a
    /// number or a tensor `[1]`) and its gradients.
    ///
    /// # Errors
    /// The closure's own error, and those of [`apply`](Self::apply). The mean and the state are
    /// then what they were, to the bit.
    pub fn step<L, E>(
        &mut self,
        learning_rate: f64,
        mut evaluate: impl FnMut(&M) -> Result<(L, GradientsParams), E>,
    ) -> Result<StepReport, E>
    where
        L: Into<Loss>,
        E: From<IvonError>,
    {
        if self.observations.draws > 0 {
            return Err(IvonError::PendingObservations {
                count: self.observations.draws,
            }
            .into());
        }
        self.draws = 0;
        let taken = (|| {
            for _ in 0..self.config.mc_samples {
                let draw = self.draw();
                let (loss, gradients) = evaluate(draw.module())?;
                self.observe(draw, loss, gradients)?;
            }
            Ok(self.apply(learning_rate)?)
        })();
        if taken.is_err() {
            self.discard();
        }
        taken
    }

    /// The next draw of this step, with noise from the configured source.
    pub fn draw(&mut self) -> Draw<M> {
        let number = self.draws;
        self.draws += 1;
        self.draw_numbered(number)
    }

    /// Draw number `number` of this step. Workers that share a seed take different numbers and so
    /// different noise.
    pub fn draw_numbered(&self, number: u64) -> Draw<M> {
        let seed = if let NoiseSource::Host { seed } = self.config.noise {
            seed
        } else {
            0
        };
        let address = Address {
            seed,
            purpose: Purpose::Training,
            step: self.step,
            draw: number,
        };
        self.draw_at(self.layout.normals(self.config.noise, address), number)
    }

    /// A draw from standard normals z that the caller supplies: `supply` is asked for each
    /// trainable parameter, by path and shape, and answers in row-major order.
    ///
    /// # Errors
    /// If an answer does not have the parameter's number of elements.
    pub fn draw_from(
        &mut self,
        supply: impl FnMut(&str, &[usize]) -> Vec<f64>,
    ) -> Result<Draw<M>, IvonError> {
        let normals = self.layout.supplied_normals(supply)?;
        self.draws += 1;
        Ok(self.draw_at(normals, self.draws - 1))
    }

    /// ε = z σ, and the module at mean + ε.
    fn draw_at(&self, normals: Flats, number: u64) -> Draw<M> {
        let noise: Flats = normals
            .into_iter()
            .zip(self.variances())
            .map(|(normal, variance)| normal * variance.sqrt())
            .collect();
        let perturbed: Flats = self
            .variables
            .mean
            .iter()
            .zip(&noise)
            .map(|(mean, noise)| noise.clone() + mean.clone())
            .collect();
        let module = self.layout.write(self.mean.clone(), &perturbed);
        Draw::new(module, noise, self.layout.clone(), self.step, number)
    }

    /// Hands back a draw with the mean loss of a batch and its gradients there.
    ///
    /// # Errors
    /// Those of [`Draw::accumulate`] and [`observe_accumulated`](Self::observe_accumulated).
    pub fn observe(
        &mut self,
        mut draw: Draw<M>,
        loss: impl Into<Loss>,
        gradients: GradientsParams,
    ) -> Result<(), IvonError> {
        draw.accumulate(loss, gradients, 1.0)?;
        self.observe_accumulated(draw)
    }

    /// Hands back a draw with what was gathered at it by [`Draw::accumulate`]. Draws count in
    /// proportion to the weights of their batches.
    ///
    /// # Errors
    /// If the draw was made by another optimizer or before the last step, or nothing was
    /// accumulated.
    pub fn observe_accumulated(&mut self, draw: Draw<M>) -> Result<(), IvonError> {
        if !Arc::ptr_eq(&draw.layout, &self.layout) {
            return Err(IvonError::ForeignDraw);
        }
        if draw.step != self.step {
            return Err(IvonError::StaleDraw {
                drawn: draw.step,
                now: self.step,
            });
        }
        if draw.gathered.gradient.is_empty() {
            return Err(IvonError::NoGradients {
                trainable: self.layout.entries.len(),
            });
        }
        self.observations
            .add(draw, self.config.hessian_approximation);
        Ok(())
    }

    /// Forgets the draws observed since the last step.
    pub fn discard(&mut self) {
        self.observations = Observations::default();
        self.draws = 0;
    }

    /// Takes a step from the draws observed since the last one.
    ///
    /// Parameters without any gradient keep mean, momentum and Hessian.
    ///
    /// # Errors
    /// If the learning rate is out of range; if no gradient was observed; if the loss, a gradient
    /// or the update is not finite. Nothing is updated then, and all but the first forget the
    /// observations.
    pub fn apply(&mut self, learning_rate: f64) -> Result<StepReport, IvonError> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(IvonError::LearningRate {
                found: learning_rate,
            });
        }
        let mut observations = std::mem::take(&mut self.observations);
        self.draws = 0;
        if !observations.present.contains(&true) {
            return Err(IvonError::NoGradients {
                trainable: self.layout.entries.len(),
            });
        }
        let step = self.step + 1;
        let (gradient, curvature) = observations.means();
        let loss = observations.loss();
        if !loss.is_finite() {
            return Err(IvonError::NonFiniteLoss { step, found: loss });
        }
        let evidence = Evidence {
            gradient,
            curvature,
            present: observations.present,
            loss,
            draws: observations.draws,
        };
        let update = Update {
            layout: &self.layout,
            config: &self.config,
            learning_rate,
            step,
        };
        let (new, report) = update.take(&self.variables, evidence)?;
        self.mean = self.layout.write(self.mean.clone(), &new.mean);
        self.variables = new;
        for (mean, bucket) in self.variables.mean.iter_mut().zip(&self.layout.buckets) {
            // Parameters of a narrower type hold the rounded mean, and the next step starts from
            // what they hold: so a resumed run, which has only the parameters, takes the same
            // steps.
            *mean = mean
                .clone()
                .cast(bucket.parameter_type)
                .cast(bucket.state_type);
        }
        self.step = step;
        Ok(report)
    }

    /// σ² of every trainable parameter.
    fn variances(&self) -> Flats {
        let of = |(hessian, bucket): (&Tensor<1>, &crate::layout::Bucket)| {
            rule::variance(
                hessian.clone(),
                self.config.effective_sample_size,
                bucket.settings.weight_decay,
            )
        };
        self.variables
            .hessian
            .iter()
            .zip(&self.layout.buckets)
            .map(of)
            .collect()
    }

    /// The posterior N(mean, σ²) as it stands, as a value of its own.
    pub fn posterior(&self) -> Posterior<M> {
        Posterior::from_flats(
            self.mean.valid(),
            self.layout.clone(),
            self.variables.mean.clone(),
            self.variances(),
        )
    }

    /// Quantiles of h/h₀ over all elements, for shares in [0, 1] (0 the least, 1 the largest).
    /// Reads the Hessian from the device and sorts it: for once in a while.
    pub fn hessian_quantiles(&self, shares: &[f64]) -> Vec<f64> {
        let mut ratios = Vec::with_capacity(self.layout.elements());
        for (hessian, bucket) in self.variables.hessian.iter().zip(&self.layout.buckets) {
            ratios.extend(
                hessian
                    .clone()
                    .into_data()
                    .iter::<f64>()
                    .map(|h| h / bucket.settings.hessian_init),
            );
        }
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        shares
            .iter()
            .map(|share| ratios[((share.clamp(0.0, 1.0) * last as f64).round() as usize).min(last)])
            .collect()
    }

    /// Settings, step count, momentum and Hessian by path, on the host. The mean is the module's
    /// own to save.
    pub fn state(&self) -> IvonState {
        let read = |flats: &Flats| {
            flats
                .iter()
                .map(|flat| Values::read(flat.clone()))
                .collect::<Vec<_>>()
        };
        let (momentum, hessian) = (
            read(&self.variables.momentum),
            read(&self.variables.hessian),
        );
        let of = |entry: &crate::layout::Entry| {
            let range = entry.offset..entry.offset + entry.length;
            let state = ParameterState {
                shape: entry.shape.clone(),
                momentum: momentum[entry.bucket].slice(range.clone()),
                hessian: hessian[entry.bucket].slice(range),
            };
            (entry.path.clone(), state)
        };
        IvonState {
            config: self.config.clone(),
            step: self.step,
            parameters: self.layout.entries.iter().map(of).collect(),
        }
    }

    /// Takes over a saved state: with the mean that belongs to it, the next steps are those that
    /// would have followed, bit for bit on the CPU.
    ///
    /// # Errors
    /// If settings, parameters, shapes or number types differ, a value cannot be, or observed draws
    /// wait for `apply`. Nothing changes then.
    pub fn restore(&mut self, state: &IvonState) -> Result<(), IvonError> {
        if self.observations.draws > 0 {
            return Err(IvonError::PendingObservations {
                count: self.observations.draws,
            });
        }
        let differences = differences(&state.config, &self.config);
        if !differences.is_empty() {
            return Err(IvonError::StateSettings { differences });
        }
        if let Some(path) = state
            .parameters
            .keys()
            .find(|path| !self.layout.entries.iter().any(|entry| entry.path == **path))
        {
            return Err(IvonError::UnknownParameter { path: path.clone() });
        }
        let mut momentum = Flats::new();
        let mut hessian = Flats::new();
        for bucket in &self.layout.buckets {
            let (mut momenta, mut hessians) = (Vec::new(), Vec::new());
            for entry in bucket
                .entries
                .iter()
                .map(|&entry| &self.layout.entries[entry])
            {
                let saved =
                    state
                        .parameters
                        .get(&entry.path)
                        .ok_or_else(|| IvonError::StateMissing {
                            path: entry.path.clone(),
                        })?;
                saved.check(entry, bucket)?;
                saved.momentum.append_to(&mut momenta);
                saved.hessian.append_to(&mut hessians);
            }
            // Through f64: every f32 survives it unchanged.
            momentum.push(upload(momenta, bucket));
            hessian.push(upload(hessians, bucket));
        }
        self.variables.momentum = momentum;
        self.variables.hessian = hessian;
        self.step = state.step;
        self.draws = 0;
        Ok(())
    }
}

/// The values of the trainable parameters in the state's type.
fn read_mean<M: Module>(layout: &Layout, mean: &M) -> Flats {
    let mut values: Vec<Option<Tensor<1>>> = vec![None; layout.entries.len()];
    for parameter in trainable_parameters(mean) {
        if let Some(entry) = layout.find(parameter.id) {
            values[entry] = Some(parameter.values);
        }
    }
    layout.gather(|entry| values[entry].take().unwrap_or_else(|| layout.zeros(entry)))
}
