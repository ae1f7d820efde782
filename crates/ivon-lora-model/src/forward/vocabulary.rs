//! Sums over the whole vocabulary on any device: the normaliser of the logits at hidden states, with
//! its gradient, and the distribution of the next token.
//!
//! On the CPU they are kernels on slices; elsewhere a part of the output table at a time goes to the
//! device. Neither keeps logits `[S, V]`.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::kernel::{NextToken, OutputLayer, log_normalisers, next_tokens};

/// The number of rows of the output table that are on a device at once.
pub const VOCABULARY_PART: usize = 8192;
/// The number of tokens whose logits over the whole vocabulary are on a device at once.
const ROWS: usize = 16;

/// ln Σ exp(logits) over the whole vocabulary, `[S, H]` → `[S]`, nats; tracked if `hidden` is.
pub fn log_normaliser(hidden: Tensor<2>, output: OutputLayer<'_>) -> Tensor<1> {
    if !hidden.is_tracked() {
        return untracked(hidden.without_autodiff(), output, false).0;
    }
    let (values, gradient) = untracked(hidden.clone().without_autodiff(), output, true);
    let Some(gradient) = gradient else {
        return values.autodiff();
    };
    // Exactly 0, with the gradient that has been computed: the parts need not be remembered for the
    // backward pass.
    let nothing = (hidden.clone() - hidden.detach()) * gradient;
    nothing.sum_dim(1).squeeze_dim::<1>(1) + values
}

/// The distribution of the token after each hidden state, `[S]`: the mean of those of several draws,
/// whose hidden states are `[S, H]` each, at `targets` `[S]`.
pub fn next_token(draws: &[Tensor<2>], output: OutputLayer<'_>, targets: &[u32]) -> Vec<NextToken> {
    if targets.is_empty() {
        return Vec::new();
    }
    if draws.iter().all(|hidden| is_on_cpu(&hidden.device())) {
        let draws: Vec<Vec<f32>> = draws.iter().map(|hidden| numbers(hidden.clone())).collect();
        let draws: Vec<&[f32]> = draws.iter().map(Vec::as_slice).collect();
        return next_tokens(&draws, output, targets);
    }
    let draws: Vec<_> = draws
        .iter()
        .map(|hidden| hidden.clone().without_autodiff())
        .collect();
    next_token_on_device(&draws, output, targets)
}

fn is_on_cpu(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// The numbers of a tensor, row by row.
fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// ln Z `[S]`, and its gradient in the hidden state `[S, H]` if it is wanted.
fn untracked(
    hidden: Tensor<2>,
    output: OutputLayer<'_>,
    with_gradient: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let device = hidden.device();
    if !is_on_cpu(&device) {
        return on_device(hidden, output, with_gradient);
    }
    let shape @ [rows, _] = hidden.dims();
    let hidden = numbers(hidden);
    let mut gradient = with_gradient.then(|| vec![0.0; hidden.len()]);
    let values = log_normalisers(&hidden, output, gradient.as_deref_mut());
    let gradient = gradient.map(|gradient| TensorData::new(gradient, shape));
    (
        Tensor::from_data(TensorData::new(values, [rows]), &device),
        gradient.map(|gradient| Tensor::from_data(gradient, &device)),
    )
}

/// [`untracked`] in Burn's operations: ln Z first, then Σ p dz/dh.
fn on_device(
    hidden: Tensor<2>,
    output: OutputLayer<'_>,
    with_gradient: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let of_part = |part: Range<usize>| log_sum_exp(Part::new(&hidden, output, part).logits);
    let values = log_sum_exp(Tensor::cat(parts(output).map(of_part).collect(), 1));
    let gradient = with_gradient.then(|| {
        parts(output)
            .map(|part| {
                let Part { rows, logits } = Part::new(&hidden, output, part);
                let p = (logits.clone() - values.clone()).exp() / output.divisor;
                let slopes = match output.cap {
                    Some(cap) => p * (1.0 - (logits / cap).square()),
                    None => p,
                };
                slopes.matmul(rows)
            })
            .fold(hidden.zeros_like(), |sum, part| sum + part)
    });
    (values.squeeze_dim::<1>(1), gradient)
}

/// [`next_token`] in Burn's operations.
fn next_token_on_device(
    draws: &[Tensor<2>],
    output: OutputLayer<'_>,
    targets: &[u32],
) -> Vec<NextToken> {
    mean_next_tokens(draws.len(), targets, |draw, rows| {
        let hidden = draws[draw].clone().narrow(0, rows.start, rows.len());
        let logits = parts(output).map(|part| Part::new(&hidden, output, part).logits);
        Tensor::cat(logits.collect(), 1)
    })
}

/// The distribution of the token after each of some rows, the mean of those of the draws, at
/// `targets`; `logits` gives those of a draw at some of the rows, `[rows, V]`.
pub fn mean_next_tokens(
    draws: usize,
    targets: &[u32],
    logits: impl Fn(usize, Range<usize>) -> Tensor<2>,
) -> Vec<NextToken> {
    let groups = targets.chunks(ROWS).zip((0..).step_by(ROWS));
    groups
        .flat_map(|(targets, first)| {
            let of_draw = |draw| softmax(logits(draw, first..first + targets.len()), 1);
            mean_of_distributions((0..draws).map(of_draw).collect(), targets)
        })
        .collect()
}

/// The mean of some distributions `[rows, V]`, at `targets` `[rows]`.
fn mean_of_distributions(all: Vec<Tensor<2>>, targets: &[u32]) -> Vec<NextToken> {
    let share = 1.0 / all.len() as f32;
    let entropies: Vec<Vec<f32>> = all.iter().map(|p| entropies(p.clone())).collect();
    let tops: Vec<Vec<u32>> = all.iter().map(|p| top_tokens(p.clone()).0).collect();
    let sum_of = |all: Vec<Tensor<2>>| all.into_iter().reduce(|sum, p| sum + p);
    let logarithm = sum_of(all.iter().map(|p| logarithm(p.clone())).collect());
    let (Some(mean), Some(logarithm)) = (sum_of(all), logarithm) else {
        return Vec::new();
    };
    let mean = mean * share;
    let cross = numbers((mean.clone() * logarithm * -share).sum_dim(1));
    let (tokens, top) = top_tokens(mean.clone());
    let indices: Vec<i64> = targets.iter().map(|&target| i64::from(target)).collect();
    let indices = TensorData::new(indices, [targets.len(), 1]);
    let indices = Tensor::<2, Int>::from_data(indices, &mean.device());
    let at_targets = numbers(mean.clone().gather(1, indices));
    let squares = numbers(mean.clone().square().sum_dim(1));
    let total = self::entropies(mean);
    let row = |row: usize| {
        let mean_entropy = share * entropies.iter().map(|of_draw| of_draw[row]).sum::<f32>();
        let differing = tops.iter().filter(|top| top[row] != tokens[row]).count();
        NextToken {
            log_probability: at_targets[row].ln(),
            top: tokens[row],
            top_log_probability: top[row].ln(),
            squares: squares[row],
            entropy: total[row],
            mean_entropy,
            pairwise_kl: (cross[row] - mean_entropy).max(0.0),
            disagreement: share * differing as f32,
        }
    };
    (0..targets.len()).map(row).collect()
}

/// The most probable token of each distribution `[rows, V]`, and its probability.
fn top_tokens(p: Tensor<2>) -> (Vec<u32>, Vec<f32>) {
    let (top, tokens) = p.max_dim_with_indices(1);
    let tokens = tokens
        .into_data()
        .iter::<i64>()
        .map(|token| token as u32)
        .collect();
    (tokens, numbers(top))
}

/// ln p, with a probability of 0 as the smallest number.
fn logarithm(p: Tensor<2>) -> Tensor<2> {
    p.clamp_min(f32::MIN_POSITIVE).log()
}

/// −Σ p ln p of distributions `[rows, V]`, where 0 ln 0 = 0.
fn entropies(p: Tensor<2>) -> Vec<f32> {
    numbers(
        (p.clone() * p.clamp_min(f32::MIN_POSITIVE).log())
            .sum_dim(1)
            .neg(),
    )
}

/// A part of the vocabulary on a device.
struct Part {
    /// Rows of the output table, `[part, H]`.
    rows: Tensor<2>,
    /// `[S, part]`.
    logits: Tensor<2>,
}

impl Part {
    fn new(hidden: &Tensor<2>, output: OutputLayer<'_>, part: Range<usize>) -> Self {
        let shape = [part.len(), output.table.columns()];
        let tokens: Vec<u32> = part.map(|token| token as u32).collect();
        let rows = TensorData::new(output.table.gather(&tokens), shape);
        let rows = Tensor::<2>::from_data(rows, &hidden.device());
        let logits = hidden.clone().matmul(rows.clone().transpose()) / output.divisor;
        let logits = match output.cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        };
        Self { rows, logits }
    }
}

/// The parts of the vocabulary.
fn parts(output: OutputLayer<'_>) -> impl Iterator<Item = Range<usize>> {
    let vocabulary = output.table.rows();
    (0..vocabulary)
        .step_by(VOCABULARY_PART)
        .map(move |start| start..vocabulary.min(start + VOCABULARY_PART))
}

/// ln Σ exp along the last dimension, `[S, n]` → `[S, 1]`.
pub fn log_sum_exp(logits: Tensor<2>) -> Tensor<2> {
    let largest = logits.clone().detach().max_dim(1);
    (logits - largest.clone()).exp().sum_dim(1).log() + largest
}
