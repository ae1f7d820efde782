//! The objective of choices: the mean cross-entropy of a step's examples over their choices, by the
//! weights of their classes where there are any, plus the penalty of an adapter that has one, per example.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::bound::expected_loss_bound;
use super::class_weights::weighted_mean;
use super::step_pass::{StepPass, with_penalty};
use super::{BoundEvidence, Evidence, LossWeights, Objective, TrainError};
use crate::data::{Choices, Encoded, Target};
use crate::forward::{Hidden, Network};
use crate::lora::Adapter;
use crate::posterior::OutputNoise;
use crate::predict::{NoisyLogits, Questions, log_probabilities_at};

/// The examples of one step, packed.
pub struct BatchObjective<'a> {
    pass: StepPass<'a>,
    micro_batches: Vec<MicroBatch>,
    examples: usize,
}

impl<'a> BatchObjective<'a> {
    /// The objective of step `step` (from 0) over these examples; those without a label are left
    /// out.
    pub fn new(
        network: &'a Network,
        dropout: f64,
        seed: u64,
        step: u64,
        micro_batches: &[Vec<&Encoded>],
    ) -> Self {
        let packed = micro_batches
            .iter()
            .map(|examples| MicroBatch::pack(examples));
        let packed = packed.filter(|packed| !packed.labels.is_empty());
        let micro_batches: Vec<_> = packed.collect();
        let sizes = micro_batches.iter().map(|packed| packed.labels.len());
        Self {
            pass: StepPass {
                network,
                dropout,
                seed,
                step,
            },
            examples: sizes.sum(),
            micro_batches,
        }
    }

    /// Weighs the loss of each example by its class.
    pub fn with_weights(mut self, weights: &LossWeights) -> Self {
        for packed in &mut self.micro_batches {
            packed.weigh(weights);
        }
        self
    }

    /// The number of its examples.
    pub fn weight(&self) -> f64 {
        self.examples as f64
    }

    /// The hidden states of a micro-batch under the dropout masks of draw `draw`.
    fn hidden(&self, adapter: &Adapter, micro_batch: usize, draw: u64) -> Hidden {
        let MicroBatch { questions, .. } = &self.micro_batches[micro_batch];
        self.pass.hidden(&questions.batch, adapter, draw)
    }

    /// The bound of a micro-batch under noise on its output rows, and the variances of the rows
    /// `[tokens, H]`, by which it can be differentiated.
    fn bound(
        &self,
        adapter: &Adapter,
        noise: &OutputNoise,
        micro_batch: usize,
        draw: u64,
    ) -> Result<(Tensor<1>, Tensor<2>), TrainError> {
        let packed = &self.micro_batches[micro_batch];
        let questions = &packed.questions;
        let (tokens, width) = (questions.tokens(), self.pass.network.config().hidden_size);
        let variances = TensorData::new(noise.variances(&tokens, width)?, [tokens.len(), width]);
        let hidden = self.hidden(adapter, micro_batch, draw);
        let variances = Tensor::<2>::from_data(variances, &hidden.states.device()).require_grad();
        let logits = NoisyLogits::at(self.pass.network, &hidden, questions, variances.clone())?;
        let labels = packed.label_tensor(&logits.means.device());
        let bound = packed.mean(expected_loss_bound(logits, labels));
        let bound = with_penalty(bound, hidden.penalty, questions.len() as f64);
        Ok((bound, variances))
    }
}

/// Examples with their labels, packed.
struct MicroBatch {
    questions: Questions,
    labels: Vec<i64>,
    /// What the loss of each example is multiplied by; absent if by nothing.
    weights: Option<Vec<f32>>,
}

impl MicroBatch {
    /// The labelled ones among these examples.
    fn pack(examples: &[&Encoded]) -> Self {
        let labelled = examples.iter().filter_map(|example| labelled(example));
        let (questions, labels): (Vec<_>, Vec<i64>) = labelled.unzip();
        Self {
            questions: Questions::with_choices(&questions),
            labels,
            weights: None,
        }
    }

    fn weigh(&mut self, weights: &LossWeights) {
        let of_label = |&label: &i64| weights.of(label as usize) as f32;
        self.weights = (!weights.is_plain()).then(|| self.labels.iter().map(of_label).collect());
    }

    /// The mean of a column `[B, 1]`, each row of which counts by its weight.
    fn mean(&self, column: Tensor<2>) -> Tensor<1> {
        weighted_mean(column, self.weights.as_deref())
    }

    /// Labels as a column, `[B, 1]`.
    fn label_tensor(&self, device: &Device) -> Tensor<2, Int> {
        let column = TensorData::new(self.labels.clone(), [self.labels.len(), 1]);
        Tensor::from_data(column, &device.clone().without_autodiff())
    }
}

/// An example with its choices, and its label.
fn labelled(example: &Encoded) -> Option<((&Encoded, &Choices), i64)> {
    match &example.target {
        Target::Choice {
            choices,
            label: Some(label),
        } => Some(((example, choices), *label as i64)),
        Target::Choice { label: None, .. } | Target::Text(_) => None,
    }
}

impl Objective for BatchObjective<'_> {
    fn micro_batches(&self) -> usize {
        self.micro_batches.len()
    }

    fn share(&self, micro_batch: usize) -> f64 {
        self.micro_batches[micro_batch].labels.len() as f64 / self.examples as f64
    }

    fn tokens(&self) -> usize {
        self.micro_batches
            .iter()
            .map(|packed| packed.questions.batch.len())
            .sum()
    }

    fn evaluate(
        &mut self,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let packed = &self.micro_batches[micro_batch];
        let questions = &packed.questions;
        let hidden = self.hidden(adapter, micro_batch, draw);
        let log_probabilities = log_probabilities_at(self.pass.network, &hidden, questions);
        let labels = packed.label_tensor(&log_probabilities.device());
        let loss = packed.mean(log_probabilities.gather(1, labels)).neg();
        self.pass.evidence(
            adapter,
            with_penalty(loss, hidden.penalty, questions.len() as f64),
            |_| {},
        )
    }

    fn evaluate_bound(
        &mut self,
        adapter: &Adapter,
        noise: &OutputNoise,
        micro_batch: usize,
        draw: u64,
    ) -> Result<BoundEvidence, TrainError> {
        let (bound, variances) = self.bound(adapter, noise, micro_batch, draw)?;
        let mut slopes = None;
        let adapter = self.pass.evidence(adapter, bound, |gradients| {
            slopes = variances.grad(gradients);
        })?;
        let slopes = slopes.unwrap_or_else(|| variances.inner().zeros_like());
        let width = slopes.dims()[1];
        let slopes = numbers(slopes)?;
        let rows = slopes.chunks(width.max(1)).map(<[f32]>::to_vec);
        let tokens = self.micro_batches[micro_batch].questions.tokens();
        Ok(BoundEvidence {
            adapter,
            rows: tokens.into_iter().zip(rows).collect(),
        })
    }
}

fn numbers(tensor: Tensor<2>) -> Result<Vec<f32>, TrainError> {
    let values = tensor.into_data().try_to_vec::<f32>();
    values.map_err(|error| TrainError::Device {
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::lora::{LoraConfig, TargetModules};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::{golden, golden_normals};
    use crate::train::ClassWeights;

    const TOKENS: [u32; 3] = [40, 41, 42];

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        Network::new(decoder, &Device::flex(), false)
    }

    fn adapter(network: &Network) -> Adapter {
        let lora = LoraConfig {
            rank: 2,
            target_modules: TargetModules::Pattern("all-linear".into()),
            ..LoraConfig::default()
        };
        let adapter = Adapter::new(&lora, network.config(), 2, network.device()).unwrap();
        let mut seed = 0;
        adapter.with_scaling(2.0).clone_with(|_, tensor| {
            seed += 1;
            let (dims, device) = (tensor.dims(), tensor.device());
            let normals = golden_normals(seed, dims.iter().product());
            let normals: Vec<f32> = normals.iter().map(|z| 0.2 * *z as f32).collect();
            Tensor::from_data(TensorData::new(normals, dims), &device)
        })
    }

    fn noise() -> OutputNoise {
        let row = |seed| {
            let normals = golden_normals(seed, 32);
            normals.iter().map(|z| (0.1 * z * z) as f32).collect()
        };
        OutputNoise::new([(40, row(1)), (41, row(2))].into(), 0.05).unwrap()
    }

    fn bound(
        network: &Network,
        adapter: &Adapter,
        noise: &OutputNoise,
    ) -> (Adapter, BoundEvidence) {
        let examples: Vec<Encoded> = (0..3).map(example).collect();
        let mut objective = BatchObjective::new(network, 0.2, 1, 4, &[examples.iter().collect()]);
        let adapter = adapter.clone().train();
        let found = objective.evaluate_bound(&adapter, noise, 0, 0).unwrap();
        (adapter, found)
    }

    fn example(key: u32) -> Encoded {
        Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6, 7, 8, 9 + key, 7, 30 - key],
            target: Target::Choice {
                choices: Choices::Tokens(TOKENS[..3 - key as usize % 2].to_vec()),
                label: Some(key as usize % 2),
            },
        }
    }

    /// The evidence of a micro-batch, by the loss or by its bound, with the gradients on end.
    fn evidence(
        network: &Network,
        examples: &[Encoded],
        weights: &LossWeights,
        noise: Option<&OutputNoise>,
    ) -> (f64, Vec<f64>) {
        // Without dropout, whose masks on a shared beginning depend on whether there is one.
        let objective = BatchObjective::new(network, 0.0, 1, 4, &[examples.iter().collect()]);
        let mut objective = objective.with_weights(weights);
        let adapter = adapter(network).train();
        let mut found = match noise {
            None => objective.evaluate(&adapter, 0, 0).unwrap(),
            Some(noise) => {
                let bound = objective.evaluate_bound(&adapter, noise, 0, 0);
                bound.unwrap().adapter
            }
        };
        let parts = adapter.parameters().flat_map(|(_, parameter)| {
            numbers(found.gradients.remove::<2>(parameter.id).unwrap()).unwrap()
        });
        (found.loss, parts.map(f64::from).collect())
    }

    #[test]
    fn a_weighted_loss_is_the_sum_of_weight_times_loss_over_the_number_of_rows() {
        let network = network();
        let examples: Vec<Encoded> = (0..5).map(example).collect();
        let plain = LossWeights::default();
        let weights = ClassWeights::ByAnswer(vec![0.25, 3.0]).of(&[3, 2]).unwrap();
        for noise in [None, Some(noise())] {
            let noise = noise.as_ref();
            let (loss, gradient) = evidence(&network, &examples, &weights, noise);
            let (mut by_hand, mut slopes) = (0.0, vec![0.0; gradient.len()]);
            for one in &examples {
                let weight = [0.25, 3.0][one.label().unwrap()] / 5.0;
                let (loss, gradient) = evidence(&network, std::slice::from_ref(one), &plain, noise);
                by_hand += weight * loss;
                let parts = slopes.iter_mut().zip(gradient);
                parts.for_each(|(sum, slope)| *sum += weight * slope);
            }
            assert!((loss - by_hand).abs() < 1e-5, "{loss} {by_hand}");
            let largest = slopes
                .iter()
                .fold(0.0f64, |most, slope| most.max(slope.abs()));
            for (found, expected) in gradient.iter().zip(slopes) {
                assert!(
                    (found - expected).abs() < 1e-4 * largest,
                    "{found} {expected}"
                );
            }
        }
    }

    #[test]
    fn weights_of_one_change_no_bit_of_the_loss() {
        let network = network();
        let examples: Vec<Encoded> = (0..4).map(example).collect();
        let ones = ClassWeights::ByAnswer(vec![1.0, 1.0]).of(&[2, 2]).unwrap();
        let of = |weights: &LossWeights| evidence(&network, &examples, weights, None).0;
        assert_eq!(of(&ones), of(&LossWeights::default()));
    }

    #[test]
    fn the_gradient_of_the_bound_in_the_adapter_is_that_of_finite_differences() {
        let network = network();
        let (start, noise) = (adapter(&network), noise());
        let (tracked, mut found) = bound(&network, &start, &noise);
        let mut slope = 0.0;
        let mut seed = 50;
        let mut direction = Vec::new();
        for (_, parameter) in tracked.parameters() {
            seed += 1;
            let dims = parameter.val().dims();
            let normals = golden_normals(seed, dims.iter().product());
            let gradient = found.adapter.gradients.remove::<2>(parameter.id).unwrap();
            let gradient = numbers(gradient).unwrap();
            slope += gradient
                .iter()
                .zip(&normals)
                .map(|(g, z)| f64::from(*g) * z)
                .sum::<f64>();
            direction.push(normals);
        }
        let moved = |by: f64| {
            let mut directions = direction.iter();
            let moved = start.clone_with(|_, tensor| {
                let (dims, device) = (tensor.dims(), tensor.device());
                let step = directions.next().unwrap().iter().map(|z| (by * z) as f32);
                tensor + Tensor::<2>::from_data(TensorData::new(step.collect(), dims), &device)
            });
            bound(&network, &moved, &noise).1.adapter.loss
        };
        let expected = (moved(3e-4) - moved(-3e-4)) / 6e-4;
        assert!(
            (slope - expected).abs() < 0.02 * expected.abs(),
            "{slope} {expected}"
        );
    }

    #[test]
    fn the_gradient_of_the_bound_in_a_row_is_that_of_finite_differences() {
        let network = network();
        let start = adapter(&network);
        let (_, found) = bound(&network, &start, &noise());
        assert_eq!(found.rows.keys().copied().collect::<Vec<_>>(), TOKENS);
        for token in [40, 41] {
            let direction = golden_normals(u64::from(token), 32);
            let moved = |by: f64| {
                let mut rows = noise().rows().clone();
                let row = rows.get_mut(&token).unwrap();
                for (value, z) in row.iter_mut().zip(&direction) {
                    *value += (by * z.abs()) as f32;
                }
                let moved = OutputNoise::new(rows, noise().other()).unwrap();
                bound(&network, &start, &moved).1.adapter.loss
            };
            let expected = (moved(0.02) - moved(0.0)) / 0.02;
            let row = found.rows[&token].iter().zip(&direction);
            let slope: f64 = row.map(|(slope, z)| f64::from(*slope) * z.abs()).sum();
            assert!(
                slope > 0.0 && (slope - expected).abs() < 0.02 * expected,
                "{token}: {slope} {expected}"
            );
        }
    }
}
