//! A causal convolution along the tokens of a sequence, one filter a channel:
//!
//! ```text
//! z_t = b + Σ over j < K of w_j ⊙ x_{t−(K−1)+j}      y = z, or silu(z)
//! ```
//!
//! The K − 1 inputs before a run of tokens are zeros at the start of a sequence; a sequence that
//! continues another one takes them from it ([`Convolution::tail`]).

use rayon::prelude::*;

use super::rows::exp;
use super::simd::wide;

/// Rows of a task.
const ROWS: usize = 16;
/// Channels that are completed at once: their sums stay in the L1 cache.
const BLOCK: usize = 512;

/// The filters of all channels.
#[derive(Clone, Debug)]
pub struct Convolution {
    /// w `[K, C]`: the last row weighs the current token.
    taps: Vec<f32>,
    /// b `[C]`.
    bias: Option<Vec<f32>>,
    channels: usize,
    silu: bool,
}

/// The inputs of a run of tokens.
#[derive(Clone, Copy)]
pub struct ConvolutionInputs<'a> {
    /// The inputs `[T, C]`.
    pub x: &'a [f32],
    /// The K − 1 inputs before them, `[K − 1, C]`; none: zeros.
    pub before: Option<&'a [f32]>,
}

impl ConvolutionInputs<'_> {
    /// The input at a token, counted from the first of `before`.
    #[inline(always)]
    fn row(&self, place: usize, [before, channels]: [usize; 2]) -> Option<&[f32]> {
        let (values, row) = match place.checked_sub(before) {
            Some(row) => (self.x, row),
            None => (self.before?, place),
        };
        Some(&values[row * channels..][..channels])
    }
}

impl Convolution {
    /// From the weights `[C, K]`, as checkpoints store them, the bias `[C]`, and whether silu
    /// follows.
    pub fn new(weight: &[f32], channels: usize, bias: Option<Vec<f32>>, silu: bool) -> Self {
        let width = weight.len() / channels;
        let taps = (0..weight.len()).map(|i| weight[i % channels * width + i / channels]);
        Self {
            taps: taps.collect(),
            bias,
            channels,
            silu,
        }
    }

    /// C, the number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// K − 1, the number of earlier tokens that a token sees.
    pub fn reach(&self) -> usize {
        self.taps.len() / self.channels - 1
    }

    fn sizes(&self) -> [usize; 2] {
        [self.reach(), self.channels]
    }

    /// y `[T, C]`.
    pub fn apply(&self, inputs: ConvolutionInputs<'_>, y: &mut [f32]) {
        assert!(
            inputs.x.len() == y.len(),
            "as many outputs as inputs of a convolution"
        );
        let rows = y.par_chunks_mut(ROWS * self.channels).enumerate();
        rows.for_each(|(task, y)| {
            wide(
                #[inline(always)]
                || {
                    for (row, y) in y.chunks_exact_mut(self.channels).enumerate() {
                        self.row(inputs, task * ROWS + row, y);
                        if self.silu {
                            for y in y {
                                *y /= 1.0 + exp(-*y);
                            }
                        }
                    }
                },
            );
        });
    }

    /// z at a token.
    #[inline(always)]
    fn row(&self, inputs: ConvolutionInputs<'_>, token: usize, z: &mut [f32]) {
        match &self.bias {
            Some(bias) => z.copy_from_slice(bias),
            None => z.fill(0.0),
        }
        for (block, z) in z.chunks_mut(BLOCK).enumerate() {
            let columns = block * BLOCK..block * BLOCK + z.len();
            for (tap, weights) in self.taps.chunks_exact(self.channels).enumerate() {
                if let Some(x) = inputs.row(token + tap, self.sizes()) {
                    add_product(z, &weights[columns.clone()], &x[columns.clone()]);
                }
            }
        }
    }

    /// The gradients of [`Self::apply`]: dx `[T, C]`, and that of the inputs before it `[K − 1, C]`
    /// if it is needed, from that of y, which is replaced by that of z.
    ///
    /// dz = dy · σ(z) · (1 + z · (1 − σ(z))) through silu, and dx_t = Σ w_j ⊙ dz_{t+(K−1)−j}.
    pub fn apply_backward(
        &self,
        inputs: ConvolutionInputs<'_>,
        dy: &mut [f32],
        dx: &mut [f32],
        d_before: Option<&mut [f32]>,
    ) {
        assert!(
            inputs.x.len() == dy.len() && dy.len() == dx.len(),
            "as many gradients as inputs of a convolution"
        );
        if self.silu {
            self.silu_backward(inputs, dy);
        }
        self.spread(dy, self.reach(), dx);
        if let Some(d_before) = d_before {
            self.spread(dy, 0, d_before);
        }
    }

    /// dz in place of dy.
    fn silu_backward(&self, inputs: ConvolutionInputs<'_>, dy: &mut [f32]) {
        let rows = dy.par_chunks_mut(ROWS * self.channels).enumerate();
        rows.for_each_init(Vec::new, |z, (task, dy)| {
            z.resize(self.channels, 0.0);
            wide(
                #[inline(always)]
                || {
                    for (row, dy) in dy.chunks_exact_mut(self.channels).enumerate() {
                        self.row(inputs, task * ROWS + row, z);
                        for (dy, &z) in dy.iter_mut().zip(z.iter()) {
                            let sigma = 1.0 / (1.0 + exp(-z));
                            *dy *= sigma * (1.0 + z * (1.0 - sigma));
                        }
                    }
                },
            );
        });
    }

    /// The gradients of consecutive inputs, of which the first stands at `place` counted from the
    /// first of the K − 1 inputs before the run.
    fn spread(&self, dz: &[f32], place: usize, dx: &mut [f32]) {
        let tokens = dz.len() / self.channels;
        let rows = dx.par_chunks_mut(ROWS * self.channels).enumerate();
        rows.for_each(|(task, dx)| {
            wide(
                #[inline(always)]
                || {
                    for (row, dx) in dx.chunks_exact_mut(self.channels).enumerate() {
                        dx.fill(0.0);
                        let place = place + task * ROWS + row;
                        for (tap, weights) in self.taps.chunks_exact(self.channels).enumerate() {
                            // Token t reads the input at t + tap.
                            let token = place.checked_sub(tap).filter(|&token| token < tokens);
                            if let Some(token) = token {
                                let dz = &dz[token * self.channels..][..self.channels];
                                add_product(dx, weights, dz);
                            }
                        }
                    }
                },
            );
        });
    }

    /// The last K − 1 inputs of a run, or of what is before it: what a sequence that continues it
    /// takes as its inputs before, `[K − 1, C]`.
    pub fn tail(&self, inputs: ConvolutionInputs<'_>, out: &mut [f32]) {
        let tokens = inputs.x.len() / self.channels;
        for (row, out) in out.chunks_exact_mut(self.channels).enumerate() {
            match inputs.row(tokens + row, self.sizes()) {
                Some(x) => out.copy_from_slice(x),
                None => out.fill(0.0),
            }
        }
    }

    /// Adds the gradient of [`Self::tail`] to those of the run's inputs and of those before it.
    pub fn tail_backward(&self, d_tail: &[f32], dx: &mut [f32], mut d_before: Option<&mut [f32]>) {
        let tokens = dx.len() / self.channels;
        for (row, d) in d_tail.chunks_exact(self.channels).enumerate() {
            let (target, row) = match (tokens + row).checked_sub(self.reach()) {
                Some(row) => (Some(&mut *dx), row),
                None => (d_before.as_deref_mut(), tokens + row),
            };
            if let Some(target) = target {
                super::rows::add(&mut target[row * self.channels..][..self.channels], d);
            }
        }
    }
}

/// sum ← sum + x ⊙ y.
#[inline(always)]
fn add_product(sum: &mut [f32], x: &[f32], y: &[f32]) {
    for ((sum, x), y) in sum.iter_mut().zip(x).zip(y) {
        *sum += x * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between −1 and 1.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 104_729) % 211) as f32 / 105.0 - 1.0)
            .collect()
    }

    /// A case: its sizes, weights `[C, K]`, bias, and inputs.
    struct Case {
        tokens: usize,
        channels: usize,
        width: usize,
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        silu: bool,
        x: Vec<f32>,
        before: Option<Vec<f32>>,
    }

    impl Case {
        fn new([tokens, channels, width]: [usize; 3], bias: bool, silu: bool) -> Self {
            Self {
                tokens,
                channels,
                width,
                weight: numbers(channels * width, 1),
                bias: bias.then(|| numbers(channels, 2)),
                silu,
                x: numbers(tokens * channels, 3),
                before: silu.then(|| numbers((width - 1) * channels, 4)),
            }
        }

        fn convolution(&self) -> Convolution {
            Convolution::new(&self.weight, self.channels, self.bias.clone(), self.silu)
        }

        fn inputs(&self) -> ConvolutionInputs<'_> {
            ConvolutionInputs {
                x: &self.x,
                before: self.before.as_deref(),
            }
        }

        /// The definition, in f64, for inputs with those before them in front, `[K − 1 + T, C]`.
        fn definition(&self, all: &[f64]) -> Vec<f64> {
            let output = |index: usize| {
                let (token, channel) = (index / self.channels, index % self.channels);
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[channel]);
                let term = |tap: usize| {
                    let weight = self.weight[channel * self.width + tap];
                    f64::from(weight) * all[(token + tap) * self.channels + channel]
                };
                let z = f64::from(bias) + (0..self.width).map(term).sum::<f64>();
                if self.silu { z / (1.0 + (-z).exp()) } else { z }
            };
            (0..self.tokens * self.channels).map(output).collect()
        }

        fn all(&self) -> Vec<f64> {
            let zeros = vec![0.0; (self.width - 1) * self.channels];
            let before = self.before.as_ref().unwrap_or(&zeros).iter();
            before.chain(&self.x).map(|&x| f64::from(x)).collect()
        }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for sizes in [
            [1, 5, 4],
            [2, 3, 4],
            [40, 700, 4],
            [5, 16, 3],
            [3, 2, 1],
            [20, 9, 7],
        ] {
            for (bias, silu) in [(false, true), (true, false), (true, true)] {
                cases.push(Case::new(sizes, bias, silu));
            }
        }
        cases
    }

    #[test]
    fn a_convolution_is_its_definition() {
        for case in cases() {
            let mut y = vec![f32::NAN; case.x.len()];
            case.convolution().apply(case.inputs(), &mut y);
            for (y, truth) in y.iter().zip(case.definition(&case.all())) {
                assert!((f64::from(*y) - truth).abs() < 2e-6, "{y} {truth}");
            }
        }
    }

    #[test]
    fn its_gradients_are_difference_quotients() {
        for case in cases().into_iter().filter(|case| case.x.len() < 1000) {
            let d = numbers(case.x.len(), 5);
            let reach = (case.width - 1) * case.channels;
            let mut dy = d.clone();
            let mut dx = vec![f32::NAN; case.x.len()];
            let mut d_before = vec![f32::NAN; reach];
            let convolution = case.convolution();
            convolution.apply_backward(case.inputs(), &mut dy, &mut dx, Some(&mut d_before));
            let found = [d_before, dx].concat();
            let all = case.all();
            for (index, found) in found.iter().enumerate() {
                let along = |by: f64| {
                    let mut moved = all.clone();
                    moved[index] += by;
                    let y = case.definition(&moved).into_iter();
                    y.zip(&d).map(|(y, d)| y * f64::from(*d)).sum::<f64>()
                };
                let quotient = (along(1e-5) - along(-1e-5)) / 2e-5;
                assert!((f64::from(*found) - quotient).abs() < 3e-6, "{index}");
            }
        }
    }

    /// Outputs of a run cut at some tokens into runs that continue each other.
    fn in_parts(case: &Case, cuts: &[usize]) -> Vec<f32> {
        let convolution = case.convolution();
        let mut before = case.before.clone();
        let mut all = Vec::new();
        for pair in cuts.windows(2) {
            let inputs = ConvolutionInputs {
                x: &case.x[pair[0] * case.channels..pair[1] * case.channels],
                before: before.as_deref(),
            };
            let mut y = vec![f32::NAN; inputs.x.len()];
            convolution.apply(inputs, &mut y);
            all.extend(y);
            let mut tail = vec![f32::NAN; convolution.reach() * case.channels];
            convolution.tail(inputs, &mut tail);
            before = Some(tail);
        }
        all
    }

    #[test]
    fn runs_that_continue_each_other_are_one_bit_for_bit() {
        let mut case = Case::new([20, 9, 4], true, true);
        for before in [case.before.clone(), None] {
            case.before = before;
            let whole = in_parts(&case, &[0, 20]);
            // Runs shorter than the filter too.
            for cuts in [&[0, 10, 20][..], &[0, 1, 2, 3, 5, 20]] {
                assert_eq!(in_parts(&case, cuts), whole);
            }
        }
    }

    #[test]
    fn the_gradient_of_a_continued_run_returns_through_its_tail() {
        let case = Case::new([6, 5, 4], false, true);
        let (convolution, channels) = (case.convolution(), case.channels);
        let d = numbers(case.x.len(), 5);
        let reach = convolution.reach() * channels;
        let (mut dx, mut d_before) = (vec![0.0; case.x.len()], vec![0.0; reach]);
        let mut dy = d.clone();
        convolution.apply_backward(case.inputs(), &mut dy, &mut dx, Some(&mut d_before));
        // In runs of one and two tokens, both shorter than the filter, and the rest.
        let cuts = [0, 1, 3, 6].map(|token| token * channels);
        let mut befores = vec![case.before.clone().unwrap()];
        for part in 0..2 {
            let inputs = ConvolutionInputs {
                x: &case.x[cuts[part]..cuts[part + 1]],
                before: Some(&befores[part]),
            };
            let mut tail = vec![0.0; reach];
            convolution.tail(inputs, &mut tail);
            befores.push(tail);
        }
        let (mut parts, mut d_tail) = (vec![], None::<Vec<f32>>);
        for part in (0..3).rev() {
            let place = cuts[part]..cuts[part + 1];
            let inputs = ConvolutionInputs {
                x: &case.x[place.clone()],
                before: Some(&befores[part]),
            };
            let (mut dx, mut d_before) = (vec![0.0; place.len()], vec![0.0; reach]);
            let mut dy = d[place].to_vec();
            convolution.apply_backward(inputs, &mut dy, &mut dx, Some(&mut d_before));
            if let Some(d_tail) = d_tail {
                convolution.tail_backward(&d_tail, &mut dx, Some(&mut d_before));
            }
            parts.splice(0..0, dx);
            d_tail = Some(d_before);
        }
        let found = [d_tail.unwrap(), parts].concat();
        for (found, whole) in found.iter().zip([d_before, dx].concat()) {
            assert!((found - whole).abs() < 1e-6, "{found} {whole}");
        }
    }
}
