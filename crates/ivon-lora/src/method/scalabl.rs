//! ScalaBL (Samplawski et al., arXiv 2506.21408): variational inference over r numbers a layer,
//! between B and a fixed basis of A.
//!
//! With the singular values of A at the start, A = diag(s) V: the rows of V are fixed, q(s_i) =
//! N(μ_i, σ_i²), prior N(0, p²), B is a point. At s = μ + σ ⊙ z a step has the gradient g of the mean
//! loss with respect to s, and
//!
//! ```text
//! AdamW:  μ by g,  ln σ by g ⊙ z ⊙ σ,  B by its own        SGD:  μ and ln σ by w ∂KL
//! KL(q‖p) = Σ ln(p/σ) + (σ² + μ²)/(2 p²) − ½
//! ```
//!
//! with the weight w of BLoB. The published code uses KL(p‖q), and learns V.

use std::collections::HashMap;

use burn::module::Module;
use ivon::noise::{Address, Purpose};
use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::blob::{BlobConfig, kl_weight, starting_spreads, validate_kl};
use super::bytes::{Reader, Writer};
use super::{Settings, Setup, flat};
use crate::kernel::eigenvectors;
use crate::lora::{Adapter, HostMatrix, LoraError};
use crate::posterior::{PointEstimate, Posterior, Scalabl};
use crate::settings::{Key, Kind};
use crate::train::{Evidence, Objective, Optimizer, TrainError, Update};

/// AdamW's settings and those of q.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScalablConfig {
    /// Those of μ, ln σ and B.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// The learning rate of the KL before the schedule.
    pub kl_rate: f64,
    /// σ starts uniformly distributed between this over √2 and this.
    pub sd_init: f64,
    /// p, the prior's standard deviation.
    pub row_prior_sd: f64,
    /// The steps over which the KL counts once; an epoch if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_period: Option<u64>,
}

impl ScalablConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 4] = [
        BlobConfig::KL_RATE,
        BlobConfig::KL_PERIOD,
        Key::new(
            "sd_init",
            Kind::Number,
            "The standard deviation of each row starts uniform between this over √2 and this.",
        ),
        Key::new(
            "row_prior_sd",
            Kind::Number,
            "The prior's standard deviation of each row.",
        ),
    ];
}

impl Default for ScalablConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            kl_rate: 0.02,
            sd_init: 0.05,
            row_prior_sd: 1.0,
            kl_period: None,
        }
    }
}

impl Settings for ScalablConfig {
    fn name(&self) -> &'static str {
        "scalabl"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        validate_kl(
            self.kl_rate,
            self.kl_period,
            [
                ("sd_init", self.sd_init),
                ("row_prior_sd", self.row_prior_sd),
            ],
        )?;
        self.adamw.validate()
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let (mut bases, mut means, mut spreads) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = HashMap::new();
        // A before B of every layer, see `Adapter::parameters`.
        for pair in adapter.to_matrices()?.chunks_exact(2) {
            let [(a_path, a), (b_path, b)] = pair else {
                continue;
            };
            let SingularValues { singular, basis, b } = decomposed(a, b);
            let mut sds = starting_spreads(self.sd_init, setup.seed, a_path);
            spreads.extend(singular.iter().map(|_| sds().ln() as f32));
            means.extend(singular);
            values.insert(b_path.clone(), b);
            bases.push((a_path.clone(), basis));
        }
        values.extend(factors(&bases, &means));
        let mut optimizer = ScalablOptimizer {
            config: self.clone(),
            period: self.kl_period.unwrap_or(setup.steps_per_epoch).max(1),
            seed: setup.seed,
            bases,
            rows: means.len(),
            moments: Default::default(),
            learned: [means, spreads].concat(),
            adapter: flat::with_parameters(&adapter.train(), values),
            step: 0,
        };
        let count = optimizer.numbers()?.len();
        optimizer.moments = [vec![0.0; count], vec![0.0; count]];
        Ok(Box::new(optimizer))
    }
}

/// A pair in terms of the singular values of A: B A = B′ diag(s) V.
struct SingularValues {
    singular: Vec<f32>,
    /// V, `[r, in]` with orthonormal rows; a row of zeros where its singular value is 0.
    basis: HostMatrix,
    /// B′ = B U, `[out, r]`.
    b: Vec<f32>,
}

/// The singular value decomposition of A, by the eigenvectors U of A Aᵀ.
fn decomposed(a: &HostMatrix, b: &HostMatrix) -> SingularValues {
    let [rank, inputs] = a.shape;
    let (squares, u) = eigenvectors(gram(a), rank);
    let squares = squares.iter().map(|square| square.max(0.0));
    let singular: Vec<f64> = squares.map(f64::sqrt).collect();
    let largest = singular.iter().copied().fold(0.0, f64::max);
    let basis = |at: usize| {
        let (row, column) = (at / inputs, at % inputs);
        // A singular value that is 0 but for rounding has no direction.
        let inverse = if singular[row] > 1e-6 * largest {
            1.0 / singular[row]
        } else {
            0.0
        };
        let column = a.values.iter().skip(column).step_by(inputs).enumerate();
        let terms = column.map(|(k, a)| u[k * rank + row] * f64::from(*a));
        (inverse * terms.sum::<f64>()) as f32
    };
    let rotated = |at: usize| {
        let row = b.values[at / rank * rank..][..rank].iter().enumerate();
        let terms = row.map(|(k, b)| f64::from(*b) * u[k * rank + at % rank]);
        terms.sum::<f64>() as f32
    };
    SingularValues {
        singular: singular.iter().map(|&s| s as f32).collect(),
        basis: HostMatrix {
            shape: a.shape,
            values: (0..rank * inputs).map(basis).collect(),
        },
        b: (0..b.shape[0] * rank).map(rotated).collect(),
    }
}

/// A Aᵀ `[r, r]`.
fn gram(a: &HostMatrix) -> Vec<f64> {
    let [rank, inputs] = a.shape;
    let row = |row: usize| a.values[row * inputs..][..inputs].iter();
    let entry = |at: usize| {
        let pairs = row(at / rank).zip(row(at % rank));
        pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    (0..rank * rank).map(entry).collect()
}

/// diag(s) V of every layer by path, with s of all layers end to end.
fn factors(bases: &[(String, HostMatrix)], s: &[f32]) -> HashMap<String, Vec<f32>> {
    let mut s = s.iter();
    let scaled = |(path, basis): &(String, HostMatrix)| {
        let rows = basis.values.chunks(basis.shape[1].max(1)).zip(s.by_ref());
        (
            path.clone(),
            rows.flat_map(|(row, s)| row.iter().map(move |value| value * s))
                .collect(),
        )
    };
    bases.iter().map(scaled).collect()
}

/// ∂KL/∂μ and ∂KL/∂ln σ of one row.
fn kl_gradient(mean: f64, log_sd: f64, prior_sd: f64) -> (f64, f64) {
    let precision = 1.0 / (prior_sd * prior_sd);
    (mean * precision, (2.0 * log_sd).exp() * precision - 1.0)
}

/// ScalaBL under the training contract.
#[derive(Debug)]
struct ScalablOptimizer {
    config: ScalablConfig,
    period: u64,
    seed: u64,
    /// V of every layer with the path of its A, in the adapter's order.
    bases: Vec<(String, HostMatrix)>,
    /// The number of rows of all V.
    rows: usize,
    /// μ of all rows, then ln σ of all rows.
    learned: Vec<f32>,
    /// AdamW's moments of μ, ln σ and all B.
    moments: [Vec<f32>; 2],
    /// A = diag(μ) V, and B.
    adapter: Adapter,
    step: u64,
}

/// Whether a parameter is a point: B.
fn is_point(path: &str) -> bool {
    path.ends_with("lora_B")
}

impl ScalablOptimizer {
    /// μ, ln σ and all B end to end.
    fn numbers(&self) -> Result<Vec<f32>, LoraError> {
        let matrices = self.adapter.to_matrices()?.into_iter();
        let points = matrices.filter(|(path, _)| is_point(path));
        let points = points.flat_map(|(_, matrix)| matrix.values);
        Ok(self.learned.iter().copied().chain(points).collect())
    }

    /// σ ⊙ z of all rows at a micro-batch's draw.
    fn noise(&self, micro_batch: usize) -> Vec<f32> {
        let address = Address {
            seed: self.seed,
            purpose: Purpose::Training,
            step: self.step,
            draw: micro_batch as u64,
        };
        let mut normals = vec![0.0f32; self.rows];
        address.fill("scalabl.rows", &mut normals);
        let spreads = self.learned[self.rows..].iter().zip(&normals);
        spreads.map(|(spread, z)| spread.exp() * z).collect()
    }

    /// The loss at a draw of s, whose gradient (of μ, ln σ and B) is added to `gradient`; both are
    /// multiplied by the micro-batch's share.
    fn observe(
        &self,
        objective: &mut dyn Objective,
        micro_batch: usize,
        gradient: &mut [f64],
    ) -> Result<f64, TrainError> {
        let noise = self.noise(micro_batch);
        let means = self.learned[..self.rows].iter().zip(&noise);
        let rows: Vec<f32> = means.map(|(mean, noise)| mean + noise).collect();
        let drawn = flat::with_parameters(&self.adapter, factors(&self.bases, &rows));
        let share = objective.share(micro_batch);
        let evidence = objective.evaluate(&drawn, micro_batch, 0)?;
        self.add_gradient(&drawn, &evidence, share, &noise, gradient)?;
        Ok(share * evidence.loss)
    }

    /// Adds the gradient of μ, ln σ and B, from that of A and B at a draw.
    fn add_gradient(
        &self,
        drawn: &Adapter,
        evidence: &Evidence,
        share: f64,
        noise: &[f32],
        gradient: &mut [f64],
    ) -> Result<(), TrainError> {
        let mut bases = self.bases.iter();
        let (mut row, mut point) = (0, 2 * self.rows);
        for (path, parameter) in drawn.parameters() {
            let found = flat::gradient(&evidence.gradients, parameter.id)?;
            let count = parameter.lazy_shape().num_elements();
            if is_point(&path) {
                let sums = gradient[point..point + count].iter_mut();
                for (sum, g) in sums.zip(found.into_iter().flatten()) {
                    *sum += share * f64::from(g);
                }
                point += count;
            } else if let Some((_, basis)) = bases.next() {
                let columns = basis.shape[1].max(1);
                let found = found.unwrap_or_else(|| vec![0.0; count]);
                for (g, v) in found.chunks(columns).zip(basis.values.chunks(columns)) {
                    let terms = g.iter().zip(v);
                    let terms = terms.map(|(g, v)| f64::from(*g) * f64::from(*v));
                    let slope = share * terms.sum::<f64>();
                    gradient[row] += slope;
                    gradient[self.rows + row] += slope * f64::from(noise[row]);
                    row += 1;
                }
            }
        }
        Ok(())
    }

    /// The step of AdamW on all numbers, then that of SGD on the KL: numbers and moments.
    fn moved(
        &self,
        gradient: &[f64],
        learning_rate: f64,
    ) -> Result<(Vec<f32>, [Vec<f32>; 2]), TrainError> {
        let (after, [first, second]) = self.config.adamw.update(
            flat::on_cpu(self.numbers()?),
            self.moments.clone().map(flat::on_cpu),
            flat::on_cpu(gradient.iter().map(|&g| g as f32).collect()),
            learning_rate,
            self.step + 1,
        );
        let mut after = flat::to_host(after)?;
        let rate = self.config.kl_rate * learning_rate / self.config.adamw.learning_rate
            * kl_weight(self.step + 1, self.period);
        for row in 0..self.rows {
            let (mean, spread) = (f64::from(after[row]), f64::from(after[self.rows + row]));
            let (by_mean, by_spread) = kl_gradient(mean, spread, self.config.row_prior_sd);
            after[row] = (mean - rate * by_mean) as f32;
            after[self.rows + row] = (spread - rate * by_spread) as f32;
        }
        Ok((after, [flat::to_host(first)?, flat::to_host(second)?]))
    }

    /// The adapter of these numbers.
    fn adapter_of(&self, numbers: &[f32]) -> Adapter {
        let mut values = factors(&self.bases, &numbers[..self.rows]);
        let mut start = 2 * self.rows;
        let points = self.adapter.parameters();
        for (path, parameter) in points.filter(|(path, _)| is_point(path)) {
            let count = parameter.lazy_shape().num_elements();
            values.insert(path, numbers[start..start + count].to_vec());
            start += count;
        }
        flat::with_parameters(&self.adapter, values)
    }

    /// The error of the step that is being taken.
    fn failed(&self, reason: &str) -> TrainError {
        TrainError::Step {
            step: self.step + 1,
            reason: reason.into(),
            good: None,
        }
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

impl Optimizer for ScalablOptimizer {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let before = self.numbers()?;
        let mut gradient = vec![0.0; before.len()];
        let mut loss = 0.0;
        for micro_batch in 0..objective.micro_batches() {
            loss += self.observe(objective, micro_batch, &mut gradient)?;
        }
        let gradient_norm = norm(gradient.iter().copied());
        if !gradient_norm.is_finite() {
            return Err(self.failed("a gradient is not finite"));
        }
        let limit = self.config.adamw.max_grad_norm;
        if limit > 0.0 && gradient_norm > limit {
            let factor = limit / gradient_norm;
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
        let (after, moments) = self.moved(&gradient, learning_rate)?;
        if after.iter().any(|value| !value.is_finite()) {
            return Err(self.failed("an updated weight is not finite"));
        }
        let moved = before.iter().zip(&after);
        let moved = norm(moved.map(|(before, after)| f64::from(after - before)));
        self.adapter = self.adapter_of(&after);
        self.learned = after[..2 * self.rows].to_vec();
        self.moments = moments;
        self.step += 1;
        Ok(Update {
            loss,
            gradient_norm,
            update_rms: moved / (after.len().max(1) as f64).sqrt(),
            clipped_share: None,
        })
    }

    fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let mean = self.adapter.valid();
        let sd: Vec<f32> = self.learned[self.rows..]
            .iter()
            .map(|spread| spread.exp())
            .collect();
        let zeros = mean.clone_with(|_, tensor| tensor.zeros_like());
        match Scalabl::new(
            mean.clone(),
            flat::with_parameters(&zeros, factors(&self.bases, &sd)),
        ) {
            Ok(rows) => Box::new(rows),
            // ln σ is finite after every step: only if σ overflows is the mean all that is left.
            Err(_) => Box::new(PointEstimate { adapter: mean }),
        }
    }

    /// Without the bases, which follow from the adapter that the run starts with.
    fn state(&self) -> Result<Vec<u8>, TrainError> {
        let [first, second] = &self.moments;
        Ok(Writer::default()
            .whole(self.step)
            .singles(&self.learned)
            .singles(first)
            .singles(second)
            .finish())
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let mut reader = Reader::new(state);
        let step = reader.whole()?;
        let learned = reader.singles(2 * self.rows)?;
        let count = self.moments[0].len();
        let moments = [reader.singles(count)?, reader.singles(count)?];
        reader.finish()?;
        (self.adapter, self.step, self.learned, self.moments) =
            (adapter.train(), step, learned, moments);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::testing::Bowl;
    use crate::testing::golden_normals;
    use crate::testing::tiny::adapter;

    #[test]
    fn the_basis_is_orthonormal_and_the_product_is_kept() {
        let matrix = |seed: u64, shape: [usize; 2]| HostMatrix {
            shape,
            values: golden_normals(seed, shape[0] * shape[1])
                .iter()
                .map(|x| *x as f32)
                .collect(),
        };
        let (a, b) = (matrix(1, [3, 6]), matrix(2, [5, 3]));
        let found = decomposed(&a, &b);
        let v = |row: usize, column: usize| f64::from(found.basis.values[row * 6 + column]);
        for one in 0..3 {
            for other in 0..3 {
                let inner: f64 = (0..6).map(|k| v(one, k) * v(other, k)).sum();
                assert!((inner - f64::from(u8::from(one == other))).abs() < 1e-5);
            }
        }
        for row in 0..5 {
            for column in 0..6 {
                let before: f64 = (0..3)
                    .map(|k| f64::from(b.values[row * 3 + k]) * f64::from(a.values[k * 6 + column]))
                    .sum();
                let after: f64 = (0..3)
                    .map(|k| {
                        f64::from(found.b[row * 3 + k])
                            * f64::from(found.singular[k])
                            * v(k, column)
                    })
                    .sum();
                assert!((before - after).abs() < 1e-5, "{before} {after}");
            }
        }
        let flat = decomposed(
            &HostMatrix {
                shape: [2, 3],
                values: vec![1.0; 6],
            },
            &matrix(3, [2, 2]),
        );
        assert!(flat.basis.values.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn the_kl_is_that_of_q_from_p_and_its_gradient_that_by_finite_differences() {
        let kl =
            |mean: f64, log_sd: f64| -log_sd + ((2.0 * log_sd).exp() + mean * mean) / 2.0 - 0.5;
        // ∫ q ln(q/p) by the trapezoid rule: the arguments are in this order.
        let (mean, sd) = (0.4, 0.3f64);
        let density = |x: f64, mean: f64, sd: f64| {
            (-0.5 * ((x - mean) / sd).powi(2)).exp() / (sd * (2.0 * std::f64::consts::PI).sqrt())
        };
        let integral: f64 = (-3000..=3000)
            .map(|i| mean + f64::from(i) * 0.001)
            .map(|x| {
                0.001
                    * density(x, mean, sd)
                    * (density(x, mean, sd).ln() - density(x, 0.0, 1.0).ln())
            })
            .sum();
        assert!((kl(mean, sd.ln()) - integral).abs() < 1e-6, "{integral}");
        let step = 1e-6;
        let (by_mean, by_spread) = kl_gradient(mean, sd.ln(), 1.0);
        assert!(
            (by_mean - (kl(mean + step, sd.ln()) - kl(mean - step, sd.ln())) / (2.0 * step)).abs()
                < 1e-6
        );
        assert!(
            (by_spread - (kl(mean, sd.ln() + step) - kl(mean, sd.ln() - step)) / (2.0 * step))
                .abs()
                < 1e-6
        );
    }

    #[test]
    fn a_step_is_the_one_worked_out_by_hand() {
        let config = ScalablConfig {
            adamw: AdamwConfig {
                learning_rate: 0.01,
                ..AdamwConfig::default()
            },
            ..ScalablConfig::default()
        };
        let setup = Setup {
            seed: 3,
            steps: 4,
            steps_per_epoch: 1,
            batch_size: 4,
            accumulation: 1,
            examples: 4,
            dropout: 0.0,
            weight_of_squares: 1.0,
        };
        let start = adapter(1, "q_proj");
        let mut optimizer = config.start(start.clone(), &setup).unwrap();
        let numbers = |adapter: &Adapter| {
            adapter
                .to_matrices()
                .unwrap()
                .into_iter()
                .map(|(_, matrix)| matrix.values)
                .collect::<Vec<_>>()
        };
        let row_norms = |a: &[f32]| {
            a.chunks(32)
                .map(|row| norm(row.iter().map(|x| f64::from(*x))))
                .collect::<Vec<f64>>()
        };
        let mean = numbers(optimizer.posterior().mean());
        let mut bowl = Bowl::default();
        optimizer.step(0.01, &mut bowl).unwrap();
        let after = numbers(optimizer.posterior().mean());
        let drawn = row_norms(&bowl.seen[0][..128]);
        for (row, before) in row_norms(&mean[0]).into_iter().enumerate() {
            // The gradient of the bowl by s_i is s_i itself, drawn; AdamW's first step is its sign.
            // Then w = ½ of the KL's pull to 0.
            assert!(drawn[row] > 0.0 && before > 0.1);
            let expected = (before - 0.01) * (1.0 - 0.02 * 0.5);
            assert!(
                (row_norms(&after[0])[row] - expected).abs() < 1e-4,
                "{row}: {} {expected}",
                row_norms(&after[0])[row]
            );
            // Its direction is what it was.
            let cosine: f64 = (0..32)
                .map(|k| f64::from(mean[0][row * 32 + k]) * f64::from(after[0][row * 32 + k]))
                .sum::<f64>();
            assert!((cosine / (before * row_norms(&after[0])[row]) - 1.0).abs() < 1e-5);
        }
        for (before, after) in mean[1].iter().zip(&after[1]) {
            assert!((after - (before - 0.01 * before.signum())).abs() < 1e-5);
        }
        let variance = optimizer.posterior().variance().unwrap().flatten().unwrap();
        let sd = norm(
            variance[..32]
                .iter()
                .map(|variance| f64::from(variance.sqrt())),
        );
        assert!((0.0353..0.052).contains(&sd), "{sd}");
        assert!(variance[128..].iter().all(|&variance| variance == 0.0));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: ScalablConfig| config.validate().unwrap_err().to_string();
        assert_eq!(
            message(ScalablConfig {
                sd_init: 0.0,
                ..Default::default()
            }),
            "`sd_init` is `0`, expected a finite number above 0"
        );
        assert_eq!(
            message(ScalablConfig {
                kl_rate: -1.0,
                ..Default::default()
            }),
            "`kl_rate` is `-1`, expected a finite number, at least 0"
        );
        assert_eq!(
            message(ScalablConfig {
                kl_period: Some(0),
                ..Default::default()
            }),
            "`kl_period` is `0`, expected at least 1"
        );
    }
}
