//! The generalised Gauss–Newton matrix of each A and B as a Kronecker product (Laplace-LoRA, arXiv
//! 2308.13111, equation 8; KFAC-expand of Eschenhagen et al., arXiv 2311.00636).
//!
//! For a parameter matrix with inputs a_t and output gradients g_t at the tokens t of all training
//! examples,
//!
//! ```text
//! H = Σ_t Σ_j (g_tj g_tjᵀ) ⊗ (a_t a_tᵀ)  ≈  (Σ_t Σ_j g_tj g_tjᵀ) ⊗ (mean over t of a_t a_tᵀ)
//! ```
//!
//! with every product of a row that has a weight in the loss multiplied by it,
//! where g_tj is the gradient by column j of R with R Rᵀ = Λ, see [`watch_curvature`]. Gradients are
//! summed and inputs averaged over every token of every prompt; products of different tokens are left
//! out. The product is exact if a single token goes through the matrix. The side as wide as the layer
//! keeps the leading eigenpairs of a [`Sketch`], the side as wide as the rank keeps all of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::sketch::{Sketch, TestMatrix};
use super::{Approximation, Curvature, CurvaturePoint};
use crate::forward::{Observation, Observer};
use crate::kernel::{Factor, Target, Threads, View, eigenvectors, product};
use crate::lora::{Adapter, HostMatrix, LinearPath, Scaling};
use crate::posterior::{Eigenpairs, KroneckerBlock, KroneckerLaplace, LaplacePrediction};
use crate::predict::{PredictError, watch_curvature};
use crate::train::TrainError;
use crate::watch::Progress;

/// The curvature at an adapter, as the Kronecker factors of each matrix.
pub struct Kronecker {
    blocks: BTreeMap<String, KroneckerBlock>,
    /// Σ w ln p(label), nats.
    log_likelihood: f64,
}

impl Kronecker {
    /// By C − 1 backward passes an example, down to the lowest decoder layer with random weights; a
    /// wide factor keeps at most `kept` eigenpairs.
    pub fn of(
        at: &CurvaturePoint<'_>,
        kept: usize,
        progress: &mut Progress<'_>,
    ) -> Result<Self, TrainError> {
        let factors = Arc::new(Factors {
            sums: Mutex::new(Sums {
                kept,
                ..Sums::default()
            }),
        });
        let observer: Arc<dyn Observer> = factors.clone();
        let mut log_likelihood = 0.0;
        for example in at.examples {
            if let Some(label) = example.label() {
                let weight = at.weights.of(label);
                let mut pass = |number: usize| {
                    factors.with(|sums| (sums.with_inputs, sums.weight) = (number == 0, weight));
                };
                let (network, adapter) = (at.network, at.adapter);
                let found =
                    watch_curvature(network, adapter, at.first, example, &observer, &mut pass)?;
                log_likelihood += weight * found.get(label).copied().unwrap_or(0.0);
            }
            progress.advance(1).map_err(PredictError::from)?;
        }
        Ok(Self {
            blocks: factors.with(|sums| sums.blocks(&at.adapter.scaling)),
            log_likelihood,
        })
    }
}

impl Curvature for Kronecker {
    fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    fn eigenvalues(&self) -> Vec<f64> {
        self.blocks
            .values()
            .flat_map(KroneckerBlock::eigenvalues)
            .collect()
    }

    fn posterior(
        &self,
        adapter: &Adapter,
        precision: f64,
        prediction: LaplacePrediction,
        facts: &[(&str, String)],
    ) -> Result<Box<dyn Approximation>, TrainError> {
        let found =
            KroneckerLaplace::new(adapter.clone(), self.blocks.clone(), precision, prediction)?;
        Ok(Box::new(facts.iter().fold(found, |found, (key, value)| {
            found.with_fact(key, value)
        })))
    }
}

/// The sums of all projections, filled by the backward passes that it observes.
#[derive(Debug)]
struct Factors {
    sums: Mutex<Sums>,
}

impl Factors {
    fn with<R>(&self, work: impl FnOnce(&mut Sums) -> R) -> R {
        work(&mut self.sums.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Factors {
    fn see(&self, seen: Observation<'_>) {
        self.with(|sums| sums.add(seen));
    }
}

#[derive(Debug, Default)]
struct Sums {
    /// Eigenpairs to keep of a wide factor.
    kept: usize,
    /// Whether inputs are summed in this pass: they are the same in all passes of an example.
    with_inputs: bool,
    /// What the example of this pass counts.
    weight: f64,
    /// Ω by width.
    tests: BTreeMap<usize, TestMatrix>,
    projections: BTreeMap<LinearPath, Sum>,
}

/// The sums of one projection.
#[derive(Debug)]
struct Sum {
    rank: usize,
    /// Rows whose inputs were summed, each by its weight.
    rows: f64,
    /// Of the inputs of A, `[in, in]`.
    input: Sketch,
    /// Of the inputs of B, `[r, r]`.
    low: Vec<f64>,
    /// Of the gradients of A's output, `[r, r]`.
    d_low: Vec<f64>,
    /// Of the gradients of the projection's output, `[out, out]`.
    dy: Sketch,
}

impl Sums {
    fn add(&mut self, seen: Observation<'_>) {
        if seen.rows == 0 {
            return;
        }
        let [inputs, rank, outputs] =
            [seen.input, seen.low, seen.dy].map(|values| values.len() / seen.rows);
        let (with_inputs, weight) = (self.with_inputs, self.weight);
        let sum = self.sum(seen.path, [inputs, rank, outputs]);
        if with_inputs {
            sum.rows += weight * seen.rows as f64;
            sum.input.add(&weighted(seen.input, weight));
            add_squares(&mut sum.low, &weighted(seen.low, weight), rank);
        }
        add_squares(&mut sum.d_low, &weighted(seen.d_low, weight), rank);
        sum.dy.add(&weighted(seen.dy, weight));
    }

    /// The sums of a projection of these widths: inputs, rank, outputs.
    fn sum(&mut self, path: LinearPath, [inputs, rank, outputs]: [usize; 3]) -> &mut Sum {
        let mut sketch = |width: usize| {
            let test = self.tests.entry(width);
            let test = test.or_insert_with(|| TestMatrix::new(width, self.kept));
            Sketch::new(test.clone())
        };
        self.projections.entry(path).or_insert_with(|| Sum {
            rank,
            rows: 0.0,
            input: sketch(inputs),
            low: vec![0.0; rank * rank],
            d_low: vec![0.0; rank * rank],
            dy: sketch(outputs),
        })
    }

    /// The factors of A and B of each projection, by path; `scaling` is the factor of B A in each.
    fn blocks(&self, scaling: &Scaling) -> BTreeMap<String, KroneckerBlock> {
        let mut blocks = BTreeMap::new();
        for (path, sum) in &self.projections {
            let mean = if sum.rows > 0.0 { 1.0 / sum.rows } else { 1.0 };
            let scaling = scaling.of(*path);
            let a = KroneckerBlock {
                rows: all_pairs(&sum.d_low, sum.rank, 1.0),
                columns: sum.input.leading(self.kept, mean),
            };
            let b = KroneckerBlock {
                rows: sum.dy.leading(self.kept, scaling * scaling),
                columns: all_pairs(&sum.low, sum.rank, mean),
            };
            blocks.insert(path.part("lora_A"), a);
            blocks.insert(path.part("lora_B"), b);
        }
        blocks
    }
}

/// Rows whose products x xᵀ count by `weight`: √weight x.
fn weighted(rows: &[f32], weight: f64) -> Cow<'_, [f32]> {
    if weight == 1.0 {
        return Cow::Borrowed(rows);
    }
    let root = weight.sqrt() as f32;
    Cow::Owned(rows.iter().map(|x| root * x).collect())
}

/// Adds Σ x xᵀ over rows `[n, r]` to `[r, r]`.
fn add_squares(sum: &mut [f64], rows: &[f32], rank: usize) {
    let mut squares = vec![0.0; rank * rank];
    let rows = View::new(rows, rows.len() / rank.max(1), rank);
    product(
        Target::over(&mut squares, rank),
        1.0,
        Factor::Transposed(rows),
        Factor::Plain(rows),
        Threads::All,
    );
    sum.iter_mut()
        .zip(squares)
        .for_each(|(sum, square)| *sum += f64::from(square));
}

/// All eigenpairs of factor · S, for a symmetric matrix S `[n, n]`.
fn all_pairs(matrix: &[f64], n: usize, factor: f64) -> Eigenpairs {
    let symmetric = (0..n * n)
        .map(|at| 0.5 * (matrix[at] + matrix[at % n * n + at / n]))
        .collect();
    let (values, vectors) = eigenvectors(symmetric, n);
    let vectors = (0..n * n)
        .map(|at| vectors[at % n * n + at / n] as f32)
        .collect();
    Eigenpairs {
        values: values
            .iter()
            .map(|value| (factor * value.max(0.0)) as f32)
            .collect(),
        vectors: HostMatrix {
            shape: [n, n],
            values: vectors,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{examples, network, tiny};
    use super::*;
    use crate::data::Encoded;
    use crate::forward::Network;
    use crate::lora::TargetModules;
    use crate::predict::Linearisation;
    use crate::train::LossWeights;

    fn fitted(network: &Network, adapter: &Adapter, train: &[Encoded], kept: usize) -> Kronecker {
        let weights = &LossWeights::default();
        let at = CurvaturePoint {
            network,
            adapter,
            first: 0,
            examples: train,
            weights,
        };
        Kronecker::of(&at, kept, &mut Progress::silent()).unwrap()
    }

    /// H `[P]²` of a block, from its factors.
    fn entry(block: &KroneckerBlock, a: usize, b: usize) -> f64 {
        let n = block.columns.vectors.shape[1];
        let factor = |pairs: &Eigenpairs, a: usize, b: usize| -> f64 {
            let width = pairs.vectors.shape[1];
            let at = |k: usize, i: usize| f64::from(pairs.vectors.values[k * width + i]);
            pairs
                .values
                .iter()
                .enumerate()
                .map(|(k, value)| f64::from(*value) * at(k, a) * at(k, b))
                .sum()
        };
        factor(&block.rows, a / n, b / n) * factor(&block.columns, a % n, b % n)
    }

    #[test]
    fn where_one_token_goes_through_a_matrix_its_block_is_j_lambda_j() {
        // The queries of the last layer see the asked token alone, so the Kronecker product is
        // exact, whatever the number of choices.
        let network = network();
        let layer = network.config().num_hidden_layers - 1;
        let adapter = tiny(
            &network,
            3,
            TargetModules::List(vec!["q_proj".into(), "down_proj".into()]),
            Some(layer),
        );
        for example in examples() {
            let found = fitted(&network, &adapter, std::slice::from_ref(&example), 10);
            let truth = Linearisation::of(&network, &adapter, 0, &example).unwrap();
            let (curvature, size) = (truth.curvature(), truth.jacobian.len());
            let mut start = 0;
            for (path, parameter) in adapter.parameters() {
                let len = parameter.lazy_shape().num_elements();
                let exact = |a: usize, b: usize| -> f64 {
                    let at =
                        |row: usize, place: usize| f64::from(truth.jacobian[row][start + place]);
                    let terms =
                        (0..size * size).map(|k| curvature[k] * at(k / size, a) * at(k % size, b));
                    terms.sum()
                };
                let largest = (0..len).map(|a| exact(a, a)).fold(0.0, f64::max);
                for (a, b) in (0..len)
                    .step_by(7)
                    .flat_map(|a| (0..len).step_by(11).map(move |b| (a, b)))
                {
                    let (found, exact) = (entry(&found.blocks[&path], a, b), exact(a, b));
                    assert!(
                        (found - exact).abs() < 1e-3 * largest,
                        "{path} {a} {b}: {found} {exact}"
                    );
                }
                start += len;
            }
            assert!(
                (found.log_likelihood - truth.log_probabilities[example.label().unwrap()]).abs()
                    < 1e-6
            );
        }
    }

    /// A projection with its input, low, d_low and dy.
    type Note = (LinearPath, [Vec<f32>; 4]);

    /// Keeps all that it sees.
    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<Note>>);

    impl Observer for Notes {
        fn see(&self, seen: Observation<'_>) {
            let kept = [seen.input, seen.low, seen.d_low, seen.dy].map(<[f32]>::to_vec);
            self.0.lock().unwrap().push((seen.path, kept));
        }
    }

    #[test]
    fn what_is_seen_makes_the_gradients_and_its_sums_the_factors() {
        let network = network();
        let adapter = tiny(
            &network,
            2,
            TargetModules::List(vec!["v_proj".into()]),
            None,
        );
        let train = examples();
        let found = fitted(&network, &adapter, &train, 10);
        // Σ over tokens and passes of gradients, mean over tokens of inputs, by their definition;
        // every width here is below the sketch's.
        let (mut gradients, mut inputs, mut rows) = (vec![0.0; 4], vec![0.0; 32 * 32], 0.0);
        for example in &train {
            let notes = Arc::new(Notes::default());
            let observer: Arc<dyn Observer> = notes.clone();
            let mut passes = 0;
            watch_curvature(&network, &adapter, 0, example, &observer, &mut |number| {
                passes = number + 1
            })
            .unwrap();
            let notes = notes.0.lock().unwrap();
            assert_eq!(
                (passes, notes.len()),
                (
                    example.choices().unwrap().len() - 1,
                    passes * network.config().num_hidden_layers
                )
            );
            let first: Vec<_> = notes
                .iter()
                .filter(|(path, _)| path.layer == Some(0))
                .collect();
            for (pass, (_, [input, low, d_low, dy])) in first.iter().enumerate() {
                for token in 0..example.tokens.len() {
                    (0..4).for_each(|at| {
                        gradients[at] +=
                            f64::from(d_low[token * 2 + at / 2] * d_low[token * 2 + at % 2])
                    });
                    if pass == 0 {
                        (0..1024).for_each(|at| {
                            inputs[at] +=
                                f64::from(input[token * 32 + at / 32] * input[token * 32 + at % 32])
                        });
                        rows += 1.0;
                    }
                }
                assert_eq!(
                    [low.len(), dy.len()],
                    [2 * example.tokens.len(), 16 * example.tokens.len()]
                );
            }
            // With two choices there is one pass, of √(p (1 − p)) d: Σ d_low inputᵀ is that much of
            // d's gradient by A.
            if let [(_, [input, low, d_low, dy])] = first[..] {
                let truth = Linearisation::of(&network, &adapter, 0, example).unwrap();
                let root = truth.curvature()[0].sqrt();
                for at in 0..64 {
                    let of_a: f64 = (0..example.tokens.len())
                        .map(|t| f64::from(d_low[t * 2 + at / 32] * input[t * 32 + at % 32]))
                        .sum();
                    assert!(
                        (of_a - root * f64::from(truth.jacobian[0][at])).abs() < 1e-4,
                        "{at}"
                    );
                }
                for at in 0..32 {
                    let of_b: f64 = (0..example.tokens.len())
                        .map(|t| 4.0 * f64::from(dy[t * 16 + at / 2] * low[t * 2 + at % 2]))
                        .sum();
                    assert!(
                        (of_b - root * f64::from(truth.jacobian[0][64 + at])).abs() < 1e-4,
                        "{at}"
                    );
                }
            }
        }
        let block = &found.blocks["layers.0.self_attn.v_proj.lora_A"];
        // The leading ten of at most twelve rows of inputs: their factor is not the whole mean, but
        // never more than it.
        let trace: f64 = block
            .columns
            .values
            .iter()
            .map(|value| f64::from(*value))
            .sum();
        let whole: f64 = (0..32).map(|i| inputs[i * 33]).sum::<f64>() / rows;
        assert!(
            trace <= whole * 1.0001 && trace > 0.95 * whole,
            "{trace} {whole}"
        );
        let sum: f64 = block
            .rows
            .values
            .iter()
            .map(|value| f64::from(*value))
            .sum();
        assert!((sum / (gradients[0] + gradients[3]) - 1.0).abs() < 1e-4);
        let at = |k: usize, i: usize| f64::from(block.rows.vectors.values[k * 2 + i]);
        let corner: f64 = (0..2)
            .map(|k| f64::from(block.rows.values[k]) * at(k, 0) * at(k, 1))
            .sum();
        assert!((corner - gradients[1]).abs() < 1e-4 * sum);
    }

    #[test]
    fn a_base_that_is_not_on_the_cpu_operation_is_refused() {
        let (network, plain) = super::super::testing::networks();
        let adapter = tiny(
            &network,
            1,
            TargetModules::List(vec!["q_proj".into()]),
            None,
        );
        let observer: Arc<dyn Observer> = Arc::new(Notes::default());
        let error = watch_curvature(&plain, &adapter, 0, &examples()[0], &observer, &mut |_| {})
            .unwrap_err();
        assert!(
            matches!(error, PredictError::OnlyCpu { .. })
                && error.hint().unwrap().contains("diagonal")
        );
    }
}
