//! A draw: a copy of the module at mean + noise, together with the noise, until gradients come
//! back.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::IvonError;
use crate::layout::{Flats, Layout};
use crate::paths::flat_gradients;

/// A module drawn from the posterior for one gradient estimate.
///
/// Made by [`Ivon::draw`](crate::Ivon::draw), consumed by [`Ivon::observe`](crate::Ivon::observe):
/// so a gradient cannot meet another draw's noise. It can be sent to another thread in between.
#[derive(Debug)]
pub struct Draw<M> {
    module: M,
    pub(crate) noise: Flats,
    pub(crate) layout: Arc<Layout>,
    pub(crate) step: u64,
    number: u64,
    pub(crate) gathered: Gathered,
}

/// What was computed at a draw: sums over the batches, each times its weight.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Σ w ĝ; empty before the first batch.
    pub gradient: Flats,
    /// Σ w.
    pub weight: f64,
    /// The losses with their weights.
    pub losses: Vec<(Loss, f64)>,
    /// Which parameters had a gradient in any batch.
    pub present: Vec<bool>,
}

/// A loss: a number, or a tensor that is read only when the step is taken, so that the device need
/// not stop.
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
        // Without autodiff, or the loss would keep the whole graph alive.
        Self::Tensor(Box::new(tensor.inner()))
    }
}

impl Loss {
    pub(crate) fn read(self) -> f64 {
        match self {
            Self::Value(value) => value,
            // Not a number is what a loss that cannot be read amounts to: the step refuses it.
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
            gathered: Gathered::default(),
        }
    }

    /// The module at mean + noise: the place for the forward and the backward pass.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// The number of this draw within its step, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Adds the mean loss and its gradients from one batch at this draw, with a weight: for
    /// micro-batches of unequal size their numbers of examples. All batches of a draw share its
    /// noise.
    ///
    /// The gradients are those of the *mean* loss of the batch, taken at [`module`](Self::module).
    /// Parameters without a gradient count as 0 here; those without any in the whole step are left
    /// alone.
    ///
    /// # Errors
    /// If the weight is not positive, or a gradient has another shape than its parameter; nothing
    /// is added then.
    pub fn accumulate(
        &mut self,
        loss: impl Into<Loss>,
        gradients: GradientsParams,
        weight: f64,
    ) -> Result<(), IvonError> {
        if !(weight.is_finite() && weight > 0.0) {
            return Err(IvonError::Weight { found: weight });
        }
        let mut found = flat_gradients(&self.module, gradients);
        let layout = &self.layout;
        let mut present = vec![false; layout.entries.len()];
        for (entry, present) in layout.entries.iter().zip(&mut present) {
            if let Some((shape, _)) = found.get(&entry.id) {
                if *shape != entry.shape {
                    let (expected, found) = (entry.shape.clone(), shape.clone());
                    return Err(IvonError::GradientShape {
                        path: entry.path.clone(),
                        expected,
                        found,
                    });
                }
                *present = true;
            }
        }
        let gradient = layout.gather(|entry| match found.remove(&layout.entries[entry].id) {
            Some((_, gradient)) => gradient,
            None => layout.zeros(entry),
        });
        self.gathered.add(gradient, present, loss.into(), weight);
        Ok(())
    }
}

impl Gathered {
    fn add(&mut self, gradient: Flats, present: Vec<bool>, loss: Loss, weight: f64) {
        let weighted = |flat: Tensor<1>| {
            if weight == 1.0 {
                flat
            } else {
                flat.mul_scalar(weight)
            }
        };
        self.losses.push((loss, weight));
        self.weight += weight;
        if self.gradient.is_empty() {
            self.gradient = gradient.into_iter().map(weighted).collect();
            self.present = present;
        } else {
            self.gradient = std::mem::take(&mut self.gradient)
                .into_iter()
                .zip(gradient)
                .map(|(sum, flat)| sum + weighted(flat))
                .collect();
            self.present
                .iter_mut()
                .zip(present)
                .for_each(|(ever, now)| *ever |= now);
        }
    }
}
