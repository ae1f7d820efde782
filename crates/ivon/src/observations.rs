//! What the draws of one step have brought: sums, until the step is taken.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::HessianApproximation;
use crate::draw::{Draw, Gathered, Loss};
use crate::layout::Flats;

/// Sums over the draws of a step, each draw with the weight of its batches.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    /// Σ w ĝ; empty before the first draw.
    gradient: Flats,
    /// Σ w ε ĝ (`price`) or Σ w ĝ² (`gradsq`).
    curvature: Flats,
    weight: f64,
    losses: Vec<(Loss, f64)>,
    /// Which parameters had a gradient at any draw.
    pub present: Vec<bool>,
    pub draws: usize,
}

impl Observations {
    /// Adds a draw and the gradients gathered at it.
    pub fn add<M: Module>(&mut self, draw: Draw<M>, approximation: HessianApproximation) {
        let Draw {
            noise,
            gathered:
                Gathered {
                    gradient,
                    weight,
                    losses,
                    present,
                },
            ..
        } = draw;
        let curvature = gradient
            .iter()
            .zip(noise)
            .map(|(sum, noise)| match approximation {
                // ĝ = sum/w, so w·ε·ĝ = ε·sum and w·ĝ² = sum²/w.
                HessianApproximation::Price => noise * sum.clone(),
                HessianApproximation::GradSq => divide(sum.clone() * sum.clone(), weight),
            });
        add_all(&mut self.curvature, curvature.collect());
        add_all(&mut self.gradient, gradient);
        self.weight += weight;
        self.losses.extend(losses);
        if self.present.is_empty() {
            self.present = present;
        } else {
            self.present
                .iter_mut()
                .zip(present)
                .for_each(|(ever, now)| *ever |= now);
        }
        self.draws += 1;
    }

    /// ḡ and c̄ (or s̄): the weighted means over the draws.
    pub fn means(&mut self) -> (Flats, Flats) {
        let weight = self.weight;
        let mean = |sums: &mut Flats| {
            std::mem::take(sums)
                .into_iter()
                .map(|sum| divide(sum, weight))
                .collect()
        };
        (mean(&mut self.gradient), mean(&mut self.curvature))
    }

    /// The weighted mean of the losses, read from the device if need be.
    pub fn loss(&mut self) -> f64 {
        let weight = self.weight;
        self.losses
            .drain(..)
            .map(|(loss, share)| loss.read() * share)
            .sum::<f64>()
            / weight
    }
}

fn divide(flat: Tensor<1>, number: f64) -> Tensor<1> {
    if number == 1.0 {
        flat
    } else {
        flat.div_scalar(number)
    }
}

fn add_all(sums: &mut Flats, flats: Flats) {
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
