//! LFM2's short convolution in plain operations, and a causal convolution along the segments of a
//! batch.

use burn::tensor::Tensor;

use super::pass::Pass;
use crate::model::{LayerVector, Projection, ShortConvolution};

impl Pass<'_> {
    /// y of x `[N, H]`: out(C ⊙ convolution(B ⊙ v)).
    pub fn short_convolution(
        &self,
        index: usize,
        convolution: &ShortConvolution,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let hidden = x.dims()[1];
        let parts = self.project(Some(index), Projection::ConvolutionIn, x);
        let [b, c, v] = [0, 1, 2].map(|part| parts.clone().narrow(1, part * hidden, hidden));
        let convolved = self.convolve(index, LayerVector::Convolution, convolution.kernel, b * v);
        self.project(Some(index), Projection::ConvolutionOut, c * convolved)
    }

    /// Each channel of x `[N, C]` convolved with its own filter, along each segment and what it
    /// continues.
    pub fn convolve(
        &self,
        index: usize,
        filters: LayerVector,
        kernel: usize,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let Some(weight) = self.plain.layers[index].vector(filters) else {
            return x;
        };
        let [_, channels] = x.dims();
        let weight = weight.clone().reshape([channels, kernel]);
        let segments = 0..self.batch.segments.len();
        let convolved = segments.map(|segment| {
            let (run, before) = self.with_inputs_before(&x, segment, kernel - 1);
            let tokens = run.dims()[0] - before;
            let tap = |tap: usize| {
                let filter = weight.clone().narrow(1, tap, 1).transpose();
                run.clone().narrow(0, tap, tokens) * filter
            };
            let first = tap(0);
            (1..kernel).fold(first, |sum, next| sum + tap(next))
        });
        Tensor::cat(convolved.collect(), 0)
    }

    /// The rows of a segment after the `count` rows before it in its sequence, zeros at its start;
    /// and `count`.
    fn with_inputs_before(
        &self,
        x: &Tensor<2>,
        segment: usize,
        count: usize,
    ) -> (Tensor<2>, usize) {
        let mut runs = self.batch.above(segment);
        let own = &self.batch.segments[segment];
        let mut parts = Vec::new();
        let mut missing = count;
        while let Some(run) = runs.pop().filter(|_| missing > 0) {
            let taken = missing.min(run.len());
            parts.push(x.clone().narrow(0, run.end - taken, taken));
            missing -= taken;
        }
        if missing > 0 {
            let zeros = Tensor::zeros([missing, x.dims()[1]], &self.plain.device);
            parts.push(zeros);
        }
        parts.reverse();
        parts.push(x.clone().narrow(0, own.start, own.len));
        (Tensor::cat(parts, 0), count)
    }
}
