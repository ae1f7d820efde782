//! Draws observed by several workers as one list of numbers, whose sum is what one worker would have
//! observed at all of them.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::draw::Loss;
use crate::layout::{Flats, Layout, upload};
use crate::{Ivon, IvonError};

/// Numbers at the end of the list that are of no parameter: weight, loss, and how many draws.
const OF_ALL: usize = 3;

impl<M: Module> Ivon<M> {
    /// The draws observed since the last step as numbers to be added to those of other workers at the
    /// same step, in f32: sums of gradients and curvature over the draws, which parameters had a
    /// gradient, and weight, loss and number of the draws. A worker without a draw gives zeros.
    ///
    /// A step of `n` workers is that of one with all their draws, if each takes draws of its own by
    /// [`draw_numbered`](Self::draw_numbered), weighs their batches so that all weights sum to 1 (or to
    /// the same at every step), and observes the sum of all lists by
    /// [`observe_sum`](Self::observe_sum).
    pub fn observed(&self) -> Vec<f32> {
        let observations = &self.observations;
        let elements = self.layout.elements();
        let mut numbers = Vec::with_capacity(2 * elements + self.layout.entries.len() + OF_ALL);
        for flats in [&observations.gradient, &observations.curvature] {
            match flats.is_empty() {
                true => numbers.resize(numbers.len() + elements, 0.0),
                false => flats.iter().for_each(|flat| {
                    numbers.extend(flat.clone().into_data().iter::<f32>());
                }),
            }
        }
        let mut present = observations.present.iter();
        let is_present = |_| {
            present
                .next()
                .map_or(0.0, |present| f32::from(u8::from(*present)))
        };
        numbers.extend(self.layout.entries.iter().map(is_present));
        let losses = observations.losses.iter().cloned();
        let loss: f64 = losses.map(|(loss, weight)| loss.read() * weight).sum();
        numbers.extend([
            observations.weight as f32,
            loss as f32,
            observations.draws as f32,
        ]);
        numbers
    }

    /// Replaces the draws observed since the last step by those of all workers, of whose
    /// [`observed`](Self::observed) lists `sum` is the sum.
    ///
    /// # Errors
    /// If it has another length than those lists, or no worker had a draw. Nothing changes then.
    pub fn observe_sum(&mut self, sum: &[f32]) -> Result<(), IvonError> {
        let (elements, entries) = (self.layout.elements(), self.layout.entries.len());
        let expected = 2 * elements + entries + OF_ALL;
        if sum.len() != expected {
            return Err(IvonError::SharedLength {
                expected,
                found: sum.len(),
            });
        }
        let (gradient, rest) = sum.split_at(elements);
        let (curvature, rest) = rest.split_at(elements);
        let (present, of_all) = rest.split_at(entries);
        let &[weight, loss, draws] = of_all else {
            return Ok(());
        };
        if draws < 1.0 {
            return Err(IvonError::NoGradients { trainable: entries });
        }
        let observations = &mut self.observations;
        observations.gradient = flats(&self.layout, gradient);
        observations.curvature = flats(&self.layout, curvature);
        observations.present = present.iter().map(|count| *count > 0.0).collect();
        observations.weight = f64::from(weight);
        // The sum over all batches, as one batch of weight 1.
        observations.losses = vec![(Loss::Value(f64::from(loss)), 1.0)];
        observations.draws = draws as usize;
        Ok(())
    }
}

/// Numbers of all parameters as flat tensors.
fn flats(layout: &Layout, numbers: &[f32]) -> Flats {
    let mut rest = numbers;
    let next = |bucket: &crate::layout::Bucket| -> Tensor<1> {
        let (own, after) = rest.split_at(bucket.length);
        rest = after;
        upload(own.to_vec(), bucket)
    };
    layout.buckets.iter().map(next).collect()
}
