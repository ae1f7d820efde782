//! Linear layers on slices, forward and backward: W x + b + s · B f(x, A drop(x)), for several
//! projections of one input at a time.

use super::low_rank::{Low, ProjectionGradient};
use super::pass::LayerPass;
use crate::kernel::{self, Buffer, Output, apply, apply_to_few, apply_transposed};
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
        // What is added to a product comes after the scaling of its rows.
        let late = projections.map(|projection| self.has_magnitudes(projection));
        let frozen = weights.into_iter().zip(&mut outputs).zip(late);
        let frozen = frozen.map(|((matrix, y), is_late)| Output {
            matrix,
            y,
            onto: onto.filter(|_| !is_late),
        });
        match self.is_step() {
            true => apply_to_few(x, frozen.collect()),
            false => apply(x, frozen.collect()),
        }
        let mut lows = self.add_low(projections, x, &mut outputs).into_iter();
        for (y, _) in outputs.iter_mut().zip(late).filter(|(_, is_late)| *is_late) {
            onto.into_iter().for_each(|onto| kernel::add(y, onto));
        }
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
            let scaled: Vec<Option<Vec<f32>>> = through
                .iter()
                .map(|through| through.low?.scaled_gradient(through.dy))
                .collect();
            let pairs: Vec<_> = through
                .iter()
                .zip(&scaled)
                .map(|(through, scaled)| (weight(through), scaled.as_deref().unwrap_or(through.dy)))
                .collect();
            apply_transposed(&pairs, dx, false);
        }
        self.low_backward(through, x, dx, gradient);
    }

    /// The gradient of the input x of one projection; writes those of its adapter to `gradient`.
    pub fn input_gradient(
        &self,
        through: ProjectionGradient<'_>,
        x: &[f32],
        gradient: &mut [f32],
    ) -> Buffer {
        let mut dx = self.take(x.len());
        self.project_backward(&[through], x, Some(&mut dx), gradient);
        dx
    }
}
