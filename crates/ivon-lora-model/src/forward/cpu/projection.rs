//! Linear layers on slices, forward and backward: W x + b + s · B f(x, A drop(x)), for several
//! projections of one input at a time.

use super::low_rank::{Low, ProjectionGradient};
use super::pass::LayerPass;
use crate::kernel::{Buffer, Output, apply, apply_transposed};
use crate::model::Projection;

impl LayerPass<'_> {
    /// y `[n, out]` = (onto +) W x + b + s · B f(x, A drop(x)) for several projections of the same
    /// x.
    pub fn project<const N: usize>(
        &self,
        projections: [Projection; N],
        x: &[f32],
        onto: Option<&[f32]>,
    ) -> [(Buffer, Option<Low>); N] {
        let weights = projections.map(|projection| &self.weights.linear(projection).weight);
        let mut outputs =
            weights.map(|weight| self.take(x.len() / weight.columns() * weight.rows()));
        let frozen = weights
            .into_iter()
            .zip(&mut outputs)
            .map(|(matrix, y)| Output { matrix, y, onto });
        apply(x, frozen.collect());
        let mut lows = self.add_low(projections, x, &mut outputs).into_iter();
        outputs.map(|y| (y, lows.next().flatten()))
    }

    /// The gradients of [`Self::project`]: writes those of the adapter to `gradient`, and Σ dx over
    /// all projections (if wanted) to `dx`.
    pub fn project_backward(
        &self,
        through: &[ProjectionGradient<'_>],
        x: &[f32],
        mut dx: Option<&mut [f32]>,
        gradient: &mut [f32],
    ) {
        if let Some(dx) = &mut dx {
            let weight =
                |through: &ProjectionGradient<'_>| &self.weights.linear(through.projection).weight;
            let pairs: Vec<_> = through
                .iter()
                .map(|through| (weight(through), through.dy))
                .collect();
            apply_transposed(&pairs, dx, false);
        }
        self.low_backward(through, x, dx, gradient);
    }
}
