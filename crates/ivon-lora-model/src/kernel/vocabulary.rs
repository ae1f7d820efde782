//! Softmax over a whole vocabulary, from hidden states and the output table, without the logits
//! `[n, V]` in memory.
//!
//! ```text
//! for each part of the vocabulary, all tokens at once:
//!     z ← logits of the part                                         [n, part]
//!     m′ ← max(m, max z);  l ← l e^(m − m′) + Σ e^(z − m′);  m ← m′
//!     g ← g e^(m − m′) + Σ e^(z − m′) dz/dh                          [n, H]
//! ln Z = m + ln l;  d ln Z / dh = g / l
//! ```
//! The running maximum and sum are those of online softmax (arXiv 1805.02867). The gradient of ln Z
//! comes with it: two products with the output table in all, and none in the backward pass.

use std::ops::Range;

use rayon::prelude::*;

use super::frozen::{add_rows_transposed, apply_rows};
use super::gates::{softcap_row, softcap_row_backward};
use super::rows::exp;
use super::simd::wide;
use crate::model::FrozenMatrix;

/// The number of rows of the output table in a part: its logits stay in the L3 cache.
const PART: usize = 1536;
/// The maximum number of tokens whose logits are in memory together.
const TOKENS: usize = 4096;
/// Lanes of a sum.
const LANES: usize = 16;
/// Rows of a task.
const ROWS: usize = 8;

/// The layer that makes logits of hidden states: z = c tanh(W h / (d c)).
#[derive(Clone, Copy, Debug)]
pub struct OutputLayer<'a> {
    /// W `[V, H]`.
    pub table: &'a FrozenMatrix,
    /// d, by which logits are divided.
    pub divisor: f32,
    /// c, which limits logits, if the model does that.
    pub cap: Option<f32>,
}

/// The distribution of the next token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NextToken {
    /// ln p of the token asked about, nats.
    pub log_probability: f32,
    /// The most probable token; the first of equal ones.
    pub top: u32,
    /// ln p of the most probable token, nats.
    pub top_log_probability: f32,
    /// Σ p² over the vocabulary.
    pub squares: f32,
    /// The entropy of the distribution, nats.
    pub entropy: f32,
    /// The mean entropy of the distributions that it is the mean of, nats: the same if there is only
    /// one.
    pub mean_entropy: f32,
    /// The mean Kullback–Leibler divergence KL(p_s ‖ p_t) over all pairs of these distributions,
    /// nats; 0 if there is only one.
    pub pairwise_kl: f32,
    /// The share of these distributions whose most probable token is another one.
    pub disagreement: f32,
}

/// Sums over a vocabulary so far.
#[derive(Clone, Copy)]
struct Running {
    /// m, the largest logit.
    largest: f32,
    /// Σ e^(z − m).
    sum: f64,
    /// Σ e^(z − m) z.
    weighted: f64,
    /// Σ e^(2 (z − m)).
    squares: f64,
    /// The token of the largest logit.
    top: u32,
}

impl Running {
    const START: Self = Self {
        largest: f32::NEG_INFINITY,
        sum: 0.0,
        weighted: 0.0,
        squares: 0.0,
        top: 0,
    };

    /// ln Σ e^z.
    fn log_normaliser(&self) -> f64 {
        f64::from(self.largest) + self.sum.ln()
    }

    /// ln Z − E z.
    fn entropy(&self) -> f64 {
        self.log_normaliser() - self.weighted / self.sum
    }
}

/// ln Σ exp(logits) at each hidden state, `[n, H]` → `[n]`, nats; its gradient in the hidden state
/// is written to `gradient` `[n, H]`.
pub fn log_normalisers(
    hidden: &[f32],
    output: OutputLayer<'_>,
    gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    let width = output.table.columns();
    let group = TOKENS * width;
    match gradient {
        None => hidden
            .chunks(group)
            .flat_map(|hidden| {
                let sums = running(hidden, output);
                sums.into_iter().map(|sums| sums.log_normaliser() as f32)
            })
            .collect(),
        Some(gradient) => hidden
            .chunks(group)
            .zip(gradient.chunks_mut(group))
            .flat_map(|(hidden, gradient)| with_gradient(hidden, output, gradient))
            .collect(),
    }
}

/// The sums over the vocabulary at each hidden state.
fn running(hidden: &[f32], output: OutputLayer<'_>) -> Vec<Running> {
    let mut sums = vec![Running::START; hidden.len() / output.table.columns()];
    for_parts(hidden, output, |part, logits| {
        let rows = logits.par_chunks(ROWS * part.len());
        let rows = rows.zip(sums.par_chunks_mut(ROWS));
        rows.for_each(|(logits, sums)| {
            for (logits, sums) in logits.chunks(part.len()).zip(sums) {
                add_logits(logits, part.start as u32, sums);
            }
        });
    });
    sums
}

/// ln Z of a group of tokens, and its gradient.
fn with_gradient(hidden: &[f32], output: OutputLayer<'_>, gradient: &mut [f32]) -> Vec<f32> {
    let width = output.table.columns();
    let mut sums = vec![Running::START; hidden.len() / width];
    gradient.fill(0.0);
    for_parts(hidden, output, |part, logits| {
        let rows = logits
            .par_chunks_mut(ROWS * part.len())
            .zip(sums.par_chunks_mut(ROWS))
            .zip(gradient.par_chunks_mut(ROWS * width));
        rows.for_each(|((logits, sums), gradient)| {
            let rows = logits.chunks_mut(part.len()).zip(sums);
            for ((logits, sums), gradient) in rows.zip(gradient.chunks_mut(width)) {
                let factor = weigh(logits, output, sums);
                if factor != 1.0 {
                    gradient.iter_mut().for_each(|g| *g *= factor);
                }
            }
        });
        add_rows_transposed(logits, output.table, part, gradient);
    });
    for (gradient, sums) in gradient.chunks_mut(width).zip(&sums) {
        let factor = (1.0 / sums.sum) as f32;
        gradient.iter_mut().for_each(|g| *g *= factor);
    }
    sums.iter()
        .map(|sums| sums.log_normaliser() as f32)
        .collect()
}

/// The distribution of the token after each hidden state: the mean of those of several draws, whose
/// hidden states are `[n, H]` each, at `targets` `[n]`.
pub fn next_tokens(draws: &[&[f32]], output: OutputLayer<'_>, targets: &[u32]) -> Vec<NextToken> {
    let width = output.table.columns();
    let groups = targets.chunks(TOKENS).enumerate();
    groups
        .flat_map(|(group, targets)| {
            let start = group * TOKENS * width;
            let of_group = start..start + targets.len() * width;
            let draws: Vec<&[f32]> = draws.iter().map(|draw| &draw[of_group.clone()]).collect();
            match &draws[..] {
                [hidden] => of_one(hidden, output, targets),
                draws => of_mean(draws, output, targets),
            }
        })
        .collect()
}

/// [`next_tokens`] of one draw: everything follows from the sums and the logit of the target.
fn of_one(hidden: &[f32], output: OutputLayer<'_>, targets: &[u32]) -> Vec<NextToken> {
    let (sums, logits) = (
        running(hidden, output),
        target_logits(hidden, output, targets),
    );
    let tokens = sums.iter().zip(logits);
    tokens
        .map(|(sums, logit)| {
            let (normaliser, entropy) = (sums.log_normaliser(), sums.entropy() as f32);
            NextToken {
                log_probability: (f64::from(logit) - normaliser) as f32,
                top: sums.top,
                top_log_probability: (f64::from(sums.largest) - normaliser) as f32,
                squares: (sums.squares / (sums.sum * sums.sum)) as f32,
                entropy,
                mean_entropy: entropy,
                pairwise_kl: 0.0,
                disagreement: 0.0,
            }
        })
        .collect()
}

/// [`next_tokens`] of several draws: their normalisers first, then the means of their probabilities
/// and of the logarithms of these.
fn of_mean(draws: &[&[f32]], output: OutputLayer<'_>, targets: &[u32]) -> Vec<NextToken> {
    let sums: Vec<Vec<Running>> = draws.iter().map(|hidden| running(hidden, output)).collect();
    let share = 1.0 / draws.len() as f64;
    let mut means = vec![Mean::START; targets.len()];
    let numbers = targets.len() * PART.min(output.table.rows());
    let mut buffers = [vec![0.0; numbers], vec![0.0; numbers], vec![0.0; numbers]];
    for part in parts(output.table.rows()) {
        let len = targets.len() * part.len();
        let [logits, mean, logarithm] = buffers.each_mut().map(|buffer| &mut buffer[..len]);
        mean.fill(0.0);
        logarithm.fill(0.0);
        for (hidden, sums) in draws.iter().zip(&sums) {
            part_logits(hidden, output, part.clone(), logits);
            add_probabilities(logits, sums, share as f32, [&mut *mean, &mut *logarithm]);
        }
        let rows = mean
            .par_chunks(part.len())
            .zip(logarithm.par_chunks(part.len()));
        let rows = rows.zip(targets).zip(&mut means);
        rows.for_each(|(((p, logarithm), &target), mean)| mean.add(&part, [p, logarithm], target));
    }
    let token = |(row, mean): (usize, &Mean)| {
        let entropies: f64 = sums.iter().map(|sums| sums[row].entropy()).sum();
        let differing = sums.iter().filter(|sums| sums[row].top != mean.top).count();
        NextToken {
            log_probability: mean.target.ln(),
            top: mean.top,
            top_log_probability: mean.largest.ln(),
            squares: mean.squares as f32,
            entropy: mean.entropy as f32,
            mean_entropy: (share * entropies) as f32,
            // E_s E_t KL(p_s ‖ p_t) = Σ E p_s ln p_s − Σ E p_s E ln p_t; rounding aside not below 0.
            pairwise_kl: (mean.cross_entropy - share * entropies).max(0.0) as f32,
            disagreement: (share * differing as f64) as f32,
        }
    };
    means.iter().enumerate().map(token).collect()
}

/// What is known of the mean of some distributions after some parts of the vocabulary.
#[derive(Clone, Copy)]
struct Mean {
    /// p of the token asked about.
    target: f32,
    /// The most probable token, and its probability.
    top: u32,
    largest: f32,
    /// Σ p².
    squares: f64,
    /// −Σ p ln p.
    entropy: f64,
    /// −Σ p E ln p_t.
    cross_entropy: f64,
}

impl Mean {
    const START: Self = Self {
        target: 0.0,
        top: 0,
        largest: 0.0,
        squares: 0.0,
        entropy: 0.0,
        cross_entropy: 0.0,
    };

    fn add(&mut self, part: &Range<usize>, [p, logarithm]: [&[f32]; 2], target: u32) {
        let of_part: f32 = p
            .iter()
            .zip(logarithm)
            .map(|(p, logarithm)| p * logarithm)
            .sum();
        self.cross_entropy -= f64::from(of_part);
        self.entropy += entropy_of(p);
        self.squares += f64::from(p.iter().map(|p| p * p).sum::<f32>());
        if part.contains(&(target as usize)) {
            self.target = p[target as usize - part.start];
        }
        let (largest, index) = first_largest(p);
        if largest > self.largest {
            self.largest = largest;
            self.top = (part.start + index) as u32;
        }
    }
}

/// mean ← mean + share · e^(z − ln Z) and logarithm ← logarithm + share · (z − ln Z), row by row.
fn add_probabilities(
    logits: &[f32],
    sums: &[Running],
    share: f32,
    [mean, logarithm]: [&mut [f32]; 2],
) {
    let width = mean.len() / sums.len().max(1);
    let rows = logits
        .par_chunks(width)
        .zip(mean.par_chunks_mut(width))
        .zip(logarithm.par_chunks_mut(width))
        .zip(sums);
    rows.for_each(|(((logits, mean), logarithm), sums)| {
        let normaliser = sums.log_normaliser() as f32;
        wide(
            #[inline(always)]
            || {
                for ((mean, logarithm), &logit) in mean.iter_mut().zip(&mut *logarithm).zip(logits)
                {
                    *mean += share * exp(logit - normaliser);
                    *logarithm += share * (logit - normaliser);
                }
            },
        );
    });
}

/// −Σ p ln p, where 0 ln 0 = 0.
fn entropy_of(probabilities: &[f32]) -> f64 {
    let terms = probabilities.iter().filter(|p| **p > 0.0);
    -terms
        .map(|&p| f64::from(p) * f64::from(p.ln()))
        .sum::<f64>()
}

/// The logit of one token at each hidden state, `[n]`.
fn target_logits(hidden: &[f32], output: OutputLayer<'_>, targets: &[u32]) -> Vec<f32> {
    let width = output.table.columns();
    let tokens = hidden.par_chunks(width).zip(targets);
    tokens
        .map_init(
            || vec![0.0; width],
            |row, (hidden, &target)| {
                output.table.row(target as usize, row);
                let mut logit = [row.iter().zip(hidden).map(|(w, h)| w * h).sum::<f32>()];
                finish(&mut logit, output);
                logit[0]
            },
        )
        .collect()
}

/// The parts of a vocabulary.
fn parts(vocabulary: usize) -> impl Iterator<Item = Range<usize>> {
    (0..vocabulary)
        .step_by(PART)
        .map(move |start| start..vocabulary.min(start + PART))
}

/// Calls `work` with each part of the vocabulary and its logits `[n, part]`.
fn for_parts(
    hidden: &[f32],
    output: OutputLayer<'_>,
    mut work: impl FnMut(Range<usize>, &mut [f32]),
) {
    let tokens = hidden.len() / output.table.columns();
    let mut logits = vec![0.0; tokens * PART.min(output.table.rows())];
    for part in parts(output.table.rows()) {
        let logits = &mut logits[..tokens * part.len()];
        part_logits(hidden, output, part.clone(), logits);
        work(part, logits);
    }
}

/// The logits of a part of the vocabulary, `[n, part]`.
fn part_logits(hidden: &[f32], output: OutputLayer<'_>, part: Range<usize>, logits: &mut [f32]) {
    apply_rows(hidden, output.table, part, logits);
    if output.divisor != 1.0 || output.cap.is_some() {
        logits.par_chunks_mut(8192).for_each(|logits| {
            wide(
                #[inline(always)]
                || finish(logits, output),
            );
        });
    }
}

/// Products with the table become logits, in place.
#[inline(always)]
fn finish(logits: &mut [f32], output: OutputLayer<'_>) {
    if output.divisor != 1.0 {
        let factor = 1.0 / output.divisor;
        logits.iter_mut().for_each(|z| *z *= factor);
    }
    if let Some(cap) = output.cap {
        softcap_row(logits, cap);
    }
}

/// The largest number, and the index of the first that is as large.
fn first_largest(numbers: &[f32]) -> (f32, usize) {
    let largest = largest(numbers);
    let index = numbers.iter().position(|&x| x == largest);
    (largest, index.unwrap_or(0))
}

fn largest(numbers: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    wide(
        #[inline(always)]
        || {
            for chunk in numbers.chunks(LANES) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = if x > *lane { x } else { *lane };
                }
            }
        },
    );
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The larger of the largest so far and those of `logits`; returns the factor of the sums so far.
fn raise(sums: &mut Running, largest: f32) -> f32 {
    if largest <= sums.largest {
        return 1.0;
    }
    let factor = (sums.largest - largest).exp();
    sums.largest = largest;
    sums.sum *= f64::from(factor);
    sums.weighted *= f64::from(factor);
    sums.squares *= f64::from(factor) * f64::from(factor);
    factor
}

/// Adds the logits of the tokens from `start` on to the sums.
fn add_logits(logits: &[f32], start: u32, sums: &mut Running) {
    let of_part = largest(logits);
    if of_part > sums.largest {
        let index = logits.iter().position(|&z| z == of_part);
        sums.top = start + index.unwrap_or(0) as u32;
    }
    raise(sums, of_part);
    let (largest, mut lanes) = (sums.largest, [0.0f32; LANES]);
    let (mut weighted, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
    wide(
        #[inline(always)]
        || {
            for chunk in logits.chunks(LANES) {
                for (lane, &z) in chunk.iter().enumerate() {
                    let p = exp(z - largest);
                    lanes[lane] += p;
                    weighted[lane] += p * z;
                    squares[lane] += p * p;
                }
            }
        },
    );
    sums.sum += f64::from(lanes.iter().sum::<f32>());
    sums.weighted += f64::from(weighted.iter().sum::<f32>());
    sums.squares += f64::from(squares.iter().sum::<f32>());
}

/// Replaces logits by e^(z − m) dz/d(Wh), adds them to the sums, and returns the factor of what was
/// summed before.
fn weigh(logits: &mut [f32], output: OutputLayer<'_>, sums: &mut Running) -> f32 {
    let factor = raise(sums, largest(logits));
    let (largest, mut lanes) = (sums.largest, [0.0f32; LANES]);
    let slope = 1.0 / output.divisor;
    let uncapped = output.cap.map(|cap| (cap, logits.to_vec()));
    wide(
        #[inline(always)]
        || {
            for chunk in logits.chunks_mut(LANES) {
                for (sum, z) in lanes.iter_mut().zip(chunk) {
                    let p = exp(*z - largest);
                    *sum += p;
                    *z = p * slope;
                }
            }
            if let Some((cap, z)) = &uncapped {
                softcap_row_backward(logits, z, *cap);
            }
        },
    );
    sums.sum += f64::from(lanes.iter().sum::<f32>());
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 24;
    const VOCABULARY: usize = 3500;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * step % 1009) as f32 - 504.0) / 400.0)
            .collect()
    }

    fn table() -> FrozenMatrix {
        FrozenMatrix::new(VOCABULARY, WIDTH, numbers(VOCABULARY * WIDTH, 7919))
    }

    const LAYERS: [(f32, Option<f32>); 3] = [(1.0, None), (4.0, None), (0.5, Some(3.0))];

    /// The logits of one hidden state by definition, in f64.
    fn logits(hidden: &[f64], output: OutputLayer<'_>) -> Vec<f64> {
        let mut row = vec![0.0; WIDTH];
        (0..VOCABULARY)
            .map(|token| {
                output.table.row(token, &mut row);
                let z: f64 = row.iter().zip(hidden).map(|(w, h)| f64::from(*w) * h).sum();
                let z = z / f64::from(output.divisor);
                output
                    .cap
                    .map_or(z, |c| f64::from(c) * (z / f64::from(c)).tanh())
            })
            .collect()
    }

    fn probabilities(hidden: &[f32], output: OutputLayer<'_>) -> (Vec<f64>, f64) {
        let hidden: Vec<f64> = hidden.iter().map(|&h| f64::from(h)).collect();
        let logits = logits(&hidden, output);
        let z: f64 = logits.iter().map(|z| z.exp()).sum();
        (logits.iter().map(|x| x.exp() / z).collect(), z.ln())
    }

    fn for_layers(check: impl Fn(OutputLayer<'_>)) {
        let table = table();
        for (divisor, cap) in LAYERS {
            check(OutputLayer {
                table: &table,
                divisor,
                cap,
            });
        }
    }

    #[test]
    fn normalisers_are_those_of_all_logits_at_once_with_and_without_a_gradient() {
        for_layers(|output| {
            let hidden = numbers(19 * WIDTH, 31);
            let mut gradient = vec![f32::NAN; hidden.len()];
            let found = log_normalisers(&hidden, output, None);
            let again = log_normalisers(&hidden, output, Some(&mut gradient));
            for (row, hidden) in hidden.chunks(WIDTH).enumerate() {
                let (_, expected) = probabilities(hidden, output);
                assert!((f64::from(found[row]) - expected).abs() < 2e-5, "{row}");
                assert!((found[row] - again[row]).abs() < 2e-5, "{row}");
            }
        });
    }

    #[test]
    fn the_gradient_of_a_normaliser_is_its_difference_quotient() {
        for_layers(|output| {
            let hidden = numbers(2 * WIDTH, 31);
            let mut gradient = vec![f32::NAN; hidden.len()];
            log_normalisers(&hidden, output, Some(&mut gradient));
            let hidden: Vec<f64> = hidden.iter().map(|&h| f64::from(h)).collect();
            let normaliser = |hidden: &[f64]| -> f64 {
                let logits = logits(hidden, output);
                logits.iter().map(|z| z.exp()).sum::<f64>().ln()
            };
            for index in [0, 5, WIDTH + 1, 2 * WIDTH - 1] {
                let row = index / WIDTH * WIDTH..(index / WIDTH + 1) * WIDTH;
                let moved = |by: f64| {
                    let mut hidden = hidden.clone();
                    hidden[index] += by;
                    normaliser(&hidden[row.clone()])
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let found = f64::from(gradient[index]);
                assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
            }
        });
    }

    #[test]
    fn the_next_token_of_several_draws_has_the_mean_of_their_distributions() {
        for_layers(|output| {
            let draws = [31, 37, 41].map(|step| numbers(3 * WIDTH, step));
            let targets = [0, 1700, VOCABULARY as u32 - 1];
            for count in [1, 3] {
                let of: Vec<&[f32]> = draws[..count].iter().map(|draw| &draw[..]).collect();
                let found = next_tokens(&of, output, &targets);
                for (row, (found, target)) in found.iter().zip(targets).enumerate() {
                    let all: Vec<Vec<f64>> = of
                        .iter()
                        .map(|draw| probabilities(&draw[row * WIDTH..][..WIDTH], output).0)
                        .collect();
                    let mean: Vec<f64> = (0..VOCABULARY)
                        .map(|token| all.iter().map(|p| p[token]).sum::<f64>() / count as f64)
                        .collect();
                    let entropy = |p: &[f64]| -> f64 { -p.iter().map(|p| p * p.ln()).sum::<f64>() };
                    let entropies = all.iter().map(|p| entropy(p)).sum::<f64>() / count as f64;
                    let largest = mean.iter().copied().fold(0.0, f64::max);
                    let close =
                        |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-4, "{a} {b}");
                    close(found.log_probability, mean[target as usize].ln());
                    close(found.top_log_probability, largest.ln());
                    close(found.entropy, entropy(&mean));
                    close(found.squares, mean.iter().map(|p| p * p).sum());
                    close(found.mean_entropy, entropies);
                    let kl = |p: &[f64], q: &[f64]| -> f64 {
                        p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
                    };
                    let pairs = all.iter().flat_map(|p| all.iter().map(move |q| kl(p, q)));
                    close(
                        found.pairwise_kl,
                        pairs.sum::<f64>() / (count * count) as f64,
                    );
                    let top = |p: &[f64]| (0..VOCABULARY).max_by(|&a, &b| p[a].total_cmp(&p[b]));
                    let differing = all.iter().filter(|p| top(p) != top(&mean)).count();
                    close(found.disagreement, differing as f64 / count as f64);
                    close((mean[found.top as usize] / largest) as f32, 1.0);
                }
            }
        });
    }

    #[test]
    fn a_logit_that_dwarfs_the_others_leaves_neither_infinities_nor_nan() {
        let table = FrozenMatrix::new(4, 1, vec![1.0, -1.0, 0.5, 1.0]);
        let output = OutputLayer {
            table: &table,
            divisor: 1.0,
            cap: None,
        };
        let mut gradient = [f32::NAN];
        assert_eq!(
            log_normalisers(&[3e4], output, Some(&mut gradient)),
            [3e4 + 2f32.ln()]
        );
        assert_eq!(gradient, [1.0]);
        let next = next_tokens(&[&[3e4]], output, &[1])[0];
        assert_eq!((next.top, next.log_probability.is_finite()), (0, true));
        let mean = next_tokens(&[&[3e4], &[-3e4]], output, &[1])[0];
        assert!(
            (mean.log_probability - 0.5f32.ln()).abs() < 1e-6,
            "{mean:?}"
        );
        assert!((mean.entropy - mean.mean_entropy) > 0.6, "{mean:?}");
    }
}
