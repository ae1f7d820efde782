//! The optimizer: it keeps the mean of the weights, makes draws, and takes steps from the gradients
//! at them.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::basis::Basis;
use crate::config::{IvonConfig, NoiseSource, Resolved};
use crate::draw::{Draw, Loss};
use crate::grams::Grams;
use crate::layout::{Bucket, Entry, Flats, Layout, upload};
use crate::noise::{Address, Purpose};
use crate::observations::Observations;
use crate::paths::trainable_parameters;
use crate::posterior::Posterior;
use crate::state::{IvonState, ParameterState, Values, differences};
use crate::update::{Evidence, StepReport, Update, Variables};
use crate::{IvonError, rule};

/// IVON for a module: the mean of the weights, the momentum, the Hessian and the step count.
///
/// The module given to [`new`](Self::new) is the initial mean. Draws are copies, so a failed step
/// leaves the mean intact. Parameters that do not keep gradients are neither drawn nor updated.
///
/// With an [`eigenbasis`](IvonConfig::eigenbasis) it is EVON: noise, momentum and Hessian are in the
/// coordinates of the basis, and gradients are turned into them.
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
    pub(crate) layout: Arc<Layout>,
    basis: Basis,
    /// The averages that the basis is made of.
    grams: Grams,
    variables: Variables,
    step: u64,
    /// How many draws have been made since the last step.
    draws: u64,
    pub(crate) observations: Observations,
}

impl<M: Module> Ivon<M> {
    /// An optimizer that starts at `mean`, with momentum 0 and Hessian h₀ (0 with `fisher`).
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
        check_groups(&config, &layout)?;
        let variables = Variables {
            mean: read_mean(&layout, &mean),
            momentum: filled(&layout, |_| 0.0),
            hessian: filled(&layout, |bucket| bucket.settings.hessian_start()),
        };
        Ok(Self {
            basis: Basis::identity(&layout),
            grams: Grams::new(&config, &layout),
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

    /// The mean of the posterior: predictions with it cost one forward pass, as with any optimizer.
    pub fn mean(&self) -> &M {
        &self.mean
    }

    /// The mean; everything else is dropped.
    pub fn into_mean(self) -> M {
        self.mean
    }

    /// How many steps have been taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Takes one step: calls `evaluate` at `mc_samples` draws, and updates the mean and the state.
    ///
    /// `evaluate` takes the module at mean + noise and returns the mean loss of the batch there (a
    /// number or a tensor `[1]`) and its gradients.
    ///
    /// # Errors
    /// The closure's own error, and those of [`apply`](Self::apply). The mean and the state are
    /// then unchanged, to the bit.
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

    /// Draw number `number` of this step. Workers that share a seed take different numbers, to get
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

    /// A draw from standard normals z that the caller supplies: `supply` gets the path and shape of
    /// each trainable parameter and returns its normals in row-major order, with an eigenbasis in
    /// its coordinates.
    ///
    /// # Errors
    /// If `supply` returns another number of elements than the parameter has.
    pub fn draw_from(
        &mut self,
        supply: impl FnMut(&str, &[usize]) -> Vec<f64>,
    ) -> Result<Draw<M>, IvonError> {
        let normals = self.layout.supplied_normals(supply)?;
        self.draws += 1;
        Ok(self.draw_at(normals, self.draws - 1))
    }

    /// ε = z σ in the coordinates of the basis, and the module at mean + Q_L ε Q_Rᵀ.
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
            .zip(self.basis.outward(&self.layout, &noise))
            .map(|(mean, noise)| noise + mean.clone())
            .collect();
        let module = self.layout.write(self.mean.clone(), &perturbed);
        Draw::new(module, noise, self.layout.clone(), self.step, number)
    }

    /// Records the mean loss of a batch and its gradients at a draw.
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

    /// Records a draw with the losses and gradients that [`Draw::accumulate`] added to it. Draws
    /// are weighted by the total weight of their batches.
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
        if draw.sums.gradient.is_empty() {
            return Err(IvonError::NoGradients {
                trainable: self.layout.entries.len(),
            });
        }
        let approximation = self.config.hessian_approximation;
        self.observations
            .add(draw, approximation, &self.layout, &self.basis);
        Ok(())
    }

    /// Discards the draws observed since the last step.
    pub fn discard(&mut self) {
        self.observations = Observations::default();
        self.draws = 0;
    }

    /// Takes a step from the draws observed since the last one.
    ///
    /// Parameters without any gradient keep their mean, momentum and Hessian.
    ///
    /// # Errors
    /// If the learning rate is out of range; if no gradient was observed; if the loss, a gradient
    /// or the update is not finite. Nothing is updated then, and all but the first of these discard
    /// the observations.
    pub fn apply(&mut self, learning_rate: f64) -> Result<StepReport, IvonError> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(IvonError::LearningRate {
                found: learning_rate,
            });
        }
        let evidence = self.take_evidence()?;
        let grams = self.grams.observed(
            &self.layout,
            &evidence.gradient,
            &self.variables.mean,
            &evidence.present,
        );
        let update = Update {
            layout: &self.layout,
            basis: &self.basis,
            config: &self.config,
            learning_rate,
            step: self.step + 1,
        };
        let (new, report) = update.take(&self.variables, evidence)?;
        self.mean = self.layout.write(self.mean.clone(), &new.mean);
        self.variables = new;
        self.round_mean();
        self.grams = grams;
        self.step += 1;
        self.refresh_basis();
        Ok(report)
    }

    /// Takes over the basis that the averages give, where one is due, and turns momentum and
    /// Hessian into it.
    fn refresh_basis(&mut self) {
        let refreshed = self.grams.refreshed(&self.layout, &self.basis, self.step);
        let Some(refreshed) = refreshed else { return };
        let (variables, turns) = (&mut self.variables, refreshed.turns);
        variables.momentum = turns.outward(&self.layout, &variables.momentum);
        variables.hessian = turns.marginal(&self.layout, &variables.hessian);
        self.basis = refreshed.basis;
    }

    /// The means over the draws observed, which are forgotten whether they can be used or not.
    fn take_evidence(&mut self) -> Result<Evidence, IvonError> {
        let mut observations = std::mem::take(&mut self.observations);
        self.draws = 0;
        if !observations.present.contains(&true) {
            return Err(IvonError::NoGradients {
                trainable: self.layout.entries.len(),
            });
        }
        let (gradient, curvature) = observations.means();
        let loss = observations.loss();
        if !loss.is_finite() {
            return Err(IvonError::NonFiniteLoss {
                step: self.step + 1,
                found: loss,
            });
        }
        Ok(Evidence {
            gradient,
            curvature,
            present: observations.present,
            loss,
            draws: observations.draws,
        })
    }

    /// Rounds the mean to the parameters' type. The next step must start from the values that the
    /// module holds, because a resumed run has only those.
    fn round_mean(&mut self) {
        for (mean, bucket) in self.variables.mean.iter_mut().zip(&self.layout.buckets) {
            *mean = mean
                .clone()
                .cast(bucket.parameter_type)
                .cast(bucket.state_type);
        }
    }

    /// σ² of every trainable parameter, in the coordinates of the basis.
    fn variances(&self) -> Flats {
        let hessians = self.variables.hessian.iter().zip(&self.layout.buckets);
        hessians
            .map(|(hessian, bucket)| {
                rule::variance(
                    hessian.clone(),
                    self.config.effective_sample_size,
                    bucket.settings.added(),
                )
            })
            .collect()
    }

    /// A copy of the current posterior N(mean, σ²), with an eigenbasis N(mean, Q diag(σ²) Qᵀ).
    pub fn posterior(&self) -> Posterior<M> {
        Posterior::from_flats(
            self.mean.valid(),
            self.layout.clone(),
            self.basis.clone(),
            self.variables.mean.clone(),
            self.variances(),
        )
    }

    /// Quantiles of h/h₀ over all elements, with `fisher` of (h + h₀)/h₀, for shares in [0, 1] (0 is
    /// the minimum, 1 the maximum).
    /// Reads the whole Hessian from the device and sorts it, so not for every step.
    pub fn hessian_quantiles(&self, shares: &[f64]) -> Vec<f64> {
        let mut ratios = Vec::with_capacity(self.layout.elements());
        self.each_hessian(|h, settings| ratios.push((h + settings.floor) / settings.hessian_init));
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        shares
            .iter()
            .map(|share| ratios[((share.clamp(0.0, 1.0) * last as f64).round() as usize).min(last)])
            .collect()
    }

    /// The share of the posterior's precision that comes from observed curvature, in [0, 1]: the
    /// mean over all elements of 1 − (h₀ + δ)/(h + δ), clipped at 0. At 0 every element still has
    /// its initial spread. Reads the whole Hessian from the device, so not for every step.
    pub fn curvature_share(&self) -> f64 {
        let mut sum = 0.0;
        self.each_hessian(|h, settings| {
            let initial = settings.hessian_init + settings.weight_decay;
            let precision = h + settings.added();
            sum += (1.0 - initial / precision).max(0.0);
        });
        sum / self.layout.elements() as f64
    }

    /// Calls `take` with h and the settings of each element.
    fn each_hessian(&self, mut take: impl FnMut(f64, &Resolved)) {
        for (hessian, bucket) in self.variables.hessian.iter().zip(&self.layout.buckets) {
            let numbers = hessian.clone().into_data();
            numbers
                .iter::<f64>()
                .for_each(|h| take(h, &bucket.settings));
        }
    }

    /// Settings, step count, momentum and Hessian by path, on the host. The mean is not part of it:
    /// save the module.
    pub fn state(&self) -> IvonState {
        let momentum = read_all(&self.variables.momentum);
        let hessian = read_all(&self.variables.hessian);
        let parameters = self.layout.entries.iter().map(|entry| {
            let range = entry.offset..entry.offset + entry.length;
            let state = ParameterState {
                shape: entry.shape.clone(),
                momentum: momentum[entry.bucket].slice(range.clone()),
                hessian: hessian[entry.bucket].slice(range),
            };
            (entry.path.clone(), state)
        });
        IvonState {
            config: self.config.clone(),
            step: self.step,
            parameters: parameters.collect(),
            sides: self.grams.saved(&self.layout, &self.basis),
        }
    }

    /// Restores a saved state: from the mean that belongs to it, the next steps are those that
    /// would have followed, bit for bit on the CPU.
    ///
    /// # Errors
    /// If settings, parameters, shapes or number types differ, a value is out of range, or observed
    /// draws wait for `apply`. Nothing changes then.
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
        let entries = &self.layout.entries;
        let mut saved = state.parameters.keys();
        if let Some(path) = saved.find(|path| !entries.iter().any(|entry| entry.path == **path)) {
            return Err(IvonError::UnknownParameter { path: path.clone() });
        }
        let mut momentum = Flats::new();
        let mut hessian = Flats::new();
        for bucket in &self.layout.buckets {
            let (momenta, hessians) = upload_state(state, bucket, entries)?;
            momentum.push(momenta);
            hessian.push(hessians);
        }
        (self.basis, self.grams) = self.grams.restored(&self.layout, &state.sides)?;
        self.variables.momentum = momentum;
        self.variables.hessian = hessian;
        self.step = state.step;
        self.draws = 0;
        Ok(())
    }
}

/// Every group must match a trainable parameter.
fn check_groups(config: &IvonConfig, layout: &Layout) -> Result<(), IvonError> {
    for group in &config.groups {
        let mut paths = layout.entries.iter().map(|entry| &entry.path);
        if !paths.any(|path| group.paths.matches(path)) {
            return Err(IvonError::UnmatchedGroup {
                pattern: group.paths.clone(),
                trainable: layout.entries.len(),
            });
        }
    }
    Ok(())
}

/// Flat tensors with one value in each bucket.
fn filled(layout: &Layout, value: impl Fn(&Bucket) -> f64) -> Flats {
    let buckets = layout.buckets.iter();
    buckets
        .map(|bucket| upload(vec![value(bucket); bucket.length], bucket))
        .collect()
}

/// The flat tensors on the host.
fn read_all(flats: &Flats) -> Vec<Values> {
    flats.iter().cloned().map(Values::read).collect()
}

/// The saved momentum and Hessian of a bucket's parameters, checked, as flat tensors.
fn upload_state(
    state: &IvonState,
    bucket: &Bucket,
    entries: &[Entry],
) -> Result<(Tensor<1>, Tensor<1>), IvonError> {
    // In f64, which holds every f32 exactly.
    let (mut momenta, mut hessians) = (Vec::new(), Vec::new());
    for entry in bucket.entries.iter().map(|&entry| &entries[entry]) {
        let Some(saved) = state.parameters.get(&entry.path) else {
            return Err(IvonError::StateMissing {
                path: entry.path.clone(),
            });
        };
        saved.check(entry, bucket)?;
        saved.momentum.append_to(&mut momenta);
        saved.hessian.append_to(&mut hessians);
    }
    Ok((upload(momenta, bucket), upload(hessians, bucket)))
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
