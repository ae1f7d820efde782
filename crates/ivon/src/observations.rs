//! The gradients and losses observed at the draws of one step, summed until the step is taken.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::HessianApproximation;
use crate::basis::Basis;
use crate::draw::{BatchSums, Draw, Loss, add_all, mark_present};
use crate::layout::{Flats, Layout};

/// Sums over the draws of a step, each draw with the weight of its batches.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    /// Σ w ĝ; empty before the first draw.
    pub gradient: Flats,
    /// Σ w ε ĝ (`price`) or Σ w ĝ² (`gradsq`, `fisher`), in the coordinates of the basis.
    pub curvature: Flats,
    pub weight: f64,
    pub losses: Vec<(Loss, f64)>,
    /// Which parameters had a gradient at any draw.
    pub present: Vec<bool>,
    pub draws: usize,
}

impl Observations {
    /// Adds a draw, whose noise is in the coordinates of `basis`, and the gradients accumulated at
    /// it.
    pub fn add<M: Module>(
        &mut self,
        draw: Draw<M>,
        approximation: HessianApproximation,
        layout: &Layout,
        basis: &Basis,
    ) {
        let Draw { noise, sums, .. } = draw;
        let BatchSums {
            gradient,
            weight,
            losses,
            present,
        } = sums;
        let curvature =
            basis
                .inward(layout, &gradient)
                .into_iter()
                .zip(noise)
                .map(|(sum, noise)| match approximation {
                    // ĝ = sum/w, so w·ε·ĝ = ε·sum and w·ĝ² = sum²/w.
                    HessianApproximation::Price => noise * sum,
                    HessianApproximation::GradSq | HessianApproximation::Fisher { .. } => {
                        divide(sum.clone() * sum.clone(), weight)
                    }
                });
        add_all(&mut self.curvature, curvature.collect());
        add_all(&mut self.gradient, gradient);
        self.weight += weight;
        self.losses.extend(losses);
        mark_present(&mut self.present, present);
        self.draws += 1;
    }

    /// ḡ and c̄ (or s̄): the weighted means over the draws.
    pub fn means(&mut self) -> (Flats, Flats) {
        let [gradient, curvature] = [&mut self.gradient, &mut self.curvature].map(|sums| {
            let sums = std::mem::take(sums).into_iter();
            sums.map(|sum| divide(sum, self.weight)).collect()
        });
        (gradient, curvature)
    }

    /// The weighted mean of the losses, which may have to be read from the device.
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
