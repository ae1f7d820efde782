//! A draw: a copy of the module at mean + noise, kept with its noise until its gradients are
//! observed.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::IvonError;
use crate::layout::{Flats, Layout};
use crate::paths::{FlatGradients, flat_gradients};

/// A module drawn from the posterior for one gradient estimate.
///
/// [`Ivon::draw`](crate::Ivon::draw) makes it and [`Ivon::observe`](crate::Ivon::observe) consumes
/// it, so a gradient is never paired with another draw's noise. In between it can be sent to
/// another thread.
#[derive(Debug)]
pub struct Draw<M> {
    module: M,
    pub(crate) noise: Flats,
    pub(crate) layout: Arc<Layout>,
    pub(crate) step: u64,
    number: u64,
    pub(crate) sums: BatchSums,
}

/// Sums over the batches of a draw, each batch times its weight.
#[derive(Debug, Default)]
pub(crate) struct BatchSums {
    /// Σ w ĝ; empty before the first batch.
    pub gradient: Flats,
    /// Σ w.
    pub weight: f64,
    /// The losses with their weights.
    pub losses: Vec<(Loss, f64)>,
    /// Which parameters had a gradient in any batch.
    pub present: Vec<bool>,
}

/// A loss: a number, or a tensor that is read only when the step is taken, so that the host does
/// not wait for the device.
#[derive(Clone, Debug)]
pub enum Loss {
    /// A number on the host.
    Value(f64),
    /// A tensor `[1]` on the device.
    Tensor(Box<Tensor<1>>),
}

impl From<f64> for Loss {
    fn from(value: f64) -> Self {
        Self::Value(value)
    }
}

impl From<f32> for Loss {
    fn from(value: f32) -> Self {
        Self::Value(f64::from(value))
    }
}

impl From<Tensor<1>> for Loss {
    fn from(tensor: Tensor<1>) -> Self {
        // Without autodiff: the loss would keep the whole graph alive.
        Self::Tensor(Box::new(tensor.inner()))
    }
}

impl Loss {
    pub(crate) fn read(self) -> f64 {
        match self {
            Self::Value(value) => value,
            // A loss that cannot be read becomes NaN, which the step refuses.
            Self::Tensor(tensor) => tensor.try_into_scalar::<f64>().unwrap_or(f64::NAN),
        }
    }
}

impl<M: Module> Draw<M> {
    pub(crate) fn new(
        module: M,
        noise: Flats,
        layout: Arc<Layout>,
        step: u64,
        number: u64,
    ) -> Self {
        Self {
            module,
            noise,
            layout,
            step,
            number,
            sums: BatchSums::default(),
        }
    }

    /// The module at mean + noise, for the forward and the backward pass.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// The number of this draw within its step, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Adds the mean loss of one batch and its gradients at this draw. `weight` is the number of
    /// examples when micro-batches differ in size. All batches of a draw share its noise.
    ///
    /// The gradients are those of the *mean* loss of the batch, taken at [`module`](Self::module).
    /// A missing gradient counts as 0; a parameter without a gradient in the whole step is not
    /// updated.
    ///
    /// # Errors
    /// If the weight is not positive, or the shape of a gradient differs from its parameter's;
    /// nothing is added then.
    pub fn accumulate(
        &mut self,
        loss: impl Into<Loss>,
        gradients: GradientsParams,
        weight: f64,
    ) -> Result<(), IvonError> {
        if !(weight.is_finite() && weight > 0.0) {
            return Err(IvonError::Weight { found: weight });
        }
        let layout = &self.layout;
        let mut gradients = flat_gradients(&self.module, gradients);
        let present = which_present(layout, &gradients)?;
        let gradient = layout.gather(|entry| match gradients.remove(&layout.entries[entry].id) {
            Some((_, gradient)) => gradient,
            None => layout.zeros(entry),
        });
        self.sums.add(gradient, present, loss.into(), weight);
        Ok(())
    }
}

/// Which parameters have a gradient; each gradient must have the shape of its parameter.
fn which_present(layout: &Layout, gradients: &FlatGradients) -> Result<Vec<bool>, IvonError> {
    let mut present = vec![false; layout.entries.len()];
    for (entry, present) in layout.entries.iter().zip(&mut present) {
        if let Some((shape, _)) = gradients.get(&entry.id) {
            if *shape != entry.shape {
                return Err(IvonError::GradientShape {
                    path: entry.path.clone(),
                    expected: entry.shape.clone(),
                    found: shape.clone(),
                });
            }
            *present = true;
        }
    }
    Ok(present)
}

impl BatchSums {
    fn add(&mut self, gradient: Flats, present: Vec<bool>, loss: Loss, weight: f64) {
        let weighted = gradient.into_iter().map(|flat| match weight {
            1.0 => flat,
            weight => flat.mul_scalar(weight),
        });
        add_all(&mut self.gradient, weighted.collect());
        mark_present(&mut self.present, present);
        self.losses.push((loss, weight));
        self.weight += weight;
    }
}

/// Adds `flats` to `sums`, which may still be empty.
pub(crate) fn add_all(sums: &mut Flats, flats: Flats) {
    *sums = if sums.is_empty() {
        flats
    } else {
        std::mem::take(sums)
            .into_iter()
            .zip(flats)
            .map(|(sum, flat)| sum + flat)
            .collect()
    };
}

/// Marks in `ever`, which may still be empty, the parameters that have a gradient `now`.
pub(crate) fn mark_present(ever: &mut Vec<bool>, now: Vec<bool>) {
    if ever.is_empty() {
        *ever = now;
    } else {
        ever.iter_mut()
            .zip(now)
            .for_each(|(ever, now)| *ever |= now);
    }
}
