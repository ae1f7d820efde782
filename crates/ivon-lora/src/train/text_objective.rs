//! The objective of texts: the mean cross-entropy of a step's tokens over the whole vocabulary, by
//! their weights, plus the penalty of an adapter that has one.

use burn::tensor::{Tensor, TensorData};

use super::step_pass::{StepPass, with_penalty};
use super::{Evidence, Objective, TrainError};
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::predict::Texts;

/// The texts of one step, packed.
pub struct TextObjective<'a> {
    pass: StepPass<'a>,
    micro_batches: Vec<Texts>,
    /// Σ of the weights of all predicted tokens.
    weight: f64,
}

impl<'a> TextObjective<'a> {
    /// The objective of step `step` (from 0) over these texts; examples without predicted tokens
    /// are left out.
    pub fn new(
        network: &'a Network,
        dropout: f64,
        seed: u64,
        step: u64,
        micro_batches: &[Vec<&Encoded>],
    ) -> Self {
        let packed = micro_batches
            .iter()
            .map(|texts| Texts::pack(texts.iter().copied()));
        let packed = packed.filter(|texts| !texts.targets.is_empty());
        let micro_batches: Vec<Texts> = packed.collect();
        Self {
            pass: StepPass {
                network,
                dropout,
                seed,
                step,
            },
            weight: micro_batches.iter().map(Texts::weight).sum(),
            micro_batches,
        }
    }

    /// Σ of the weights of its tokens.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

impl Objective for TextObjective<'_> {
    fn micro_batches(&self) -> usize {
        self.micro_batches.len()
    }

    /// By weight, so that each token of the step counts alike: the mean over a step does not depend
    /// on how it is divided.
    fn share(&self, micro_batch: usize) -> f64 {
        self.micro_batches[micro_batch].weight() / self.weight
    }

    fn tokens(&self) -> usize {
        let tokens = self.micro_batches.iter().map(|texts| texts.batch.len());
        tokens.sum()
    }

    fn evaluate(
        &mut self,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let texts = &self.micro_batches[micro_batch];
        let hidden = self.pass.hidden(&texts.batch, adapter, draw);
        let log_probabilities = texts.log_probabilities(self.pass.network, &hidden);
        let weight = texts.weight();
        let weights = TensorData::new(texts.weights.clone(), [texts.weights.len()]);
        let weights =
            Tensor::<1>::from_data(weights, &log_probabilities.device().without_autodiff());
        let loss = (log_probabilities * weights).sum() / -weight;
        let loss = with_penalty(loss, hidden.penalty, weight);
        self.pass.evidence(adapter, loss, |_| {})
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Target, TextTarget};
    use crate::lora::read_peft;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::golden;

    fn networks() -> [Network; 2] {
        let checkpoint = Checkpoint::open(golden().join("tiny/gemma2").to_str().unwrap()).unwrap();
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        let device = Device::flex();
        [
            Network::new(decoder.clone(), &device, false),
            Network::plain(decoder, &device),
        ]
    }

    fn text(key: u64, tokens: &[u32], weights: &[f32]) -> Encoded {
        Encoded {
            id: key.to_string(),
            key,
            tokens: tokens.to_vec(),
            target: Target::Text(TextTarget {
                weights: weights.to_vec(),
                bytes: 1,
                document: key,
            }),
        }
    }

    fn texts() -> [Encoded; 3] {
        [
            text(1, &[5, 6, 7, 8], &[0.0, 0.0, 1.0, 1.0]),
            text(2, &[9, 10, 11], &[0.0, 0.5, 2.0]),
            text(3, &[12, 13], &[0.0, 1.0]),
        ]
    }

    /// The loss of a step and the gradients of all its micro-batches, by their shares.
    fn step(network: &Network, micro_batches: &[Vec<&Encoded>]) -> (f64, Vec<f32>) {
        let device = network.device().clone().autodiff();
        let folder = golden().join("tiny/gemma2/adapter");
        let adapter = read_peft(&folder, network.config(), &device)
            .unwrap()
            .adapter
            .train();
        let mut objective = TextObjective::new(network, 0.0, 1, 0, micro_batches);
        let (mut loss, mut sum) = (0.0, Vec::new());
        for micro_batch in 0..objective.micro_batches() {
            let share = objective.share(micro_batch);
            let mut found = objective.evaluate(&adapter, micro_batch, 0).unwrap();
            loss += share * found.loss;
            let mut all = Vec::new();
            for (_, parameter) in adapter.parameters() {
                let gradient = found.gradients.remove::<2>(parameter.id).unwrap();
                all.extend(gradient.into_data().try_to_vec::<f32>().unwrap());
            }
            sum.resize(all.len(), 0.0);
            let pairs = sum.iter_mut().zip(all);
            pairs.for_each(|(sum, gradient)| *sum += share as f32 * gradient);
        }
        (loss, sum)
    }

    #[track_caller]
    fn agree((loss, gradient): &(f64, Vec<f32>), (expected, gradients): &(f64, Vec<f32>)) {
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        let largest = gradients
            .iter()
            .fold(0.0f32, |largest, g| largest.max(g.abs()));
        assert!(largest > 1e-3);
        let pairs = gradient.iter().zip(gradients);
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-4 * largest));
    }

    #[test]
    fn a_step_does_not_depend_on_how_its_texts_are_divided() {
        let [network, plain] = networks();
        let texts = texts();
        let [a, b, c] = &texts;
        let whole = step(&network, &[vec![a, b, c]]);
        agree(&step(&network, &[vec![a], vec![b, c]]), &whole);
        agree(&step(&plain, &[vec![a, b, c]]), &whole);
    }

    #[test]
    fn the_loss_is_the_weighted_mean_over_the_logits_of_the_whole_vocabulary() {
        let [network, _] = networks();
        let texts = texts();
        let (loss, _) = step(&network, &[texts.iter().collect()]);
        let folder = golden().join("tiny/gemma2/adapter");
        let adapter = read_peft(&folder, network.config(), network.device())
            .unwrap()
            .adapter;
        let vocabulary: Vec<u32> = (0..network.config().vocab_size as u32).collect();
        let (mut expected, mut weight) = (0.0, 0.0);
        for example in &texts {
            let packed = Texts::pack([example]);
            let hidden = network.hidden(&packed.batch, &crate::lora::Draw::of(adapter.clone()));
            let logits = network.logits_of(&hidden, &vocabulary);
            let logits: Vec<f32> = logits.into_data().try_to_vec().unwrap();
            let rows = logits
                .chunks(vocabulary.len())
                .zip(&packed.targets)
                .zip(&packed.weights);
            for ((row, &target), &w) in rows {
                let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
                let p = crate::metrics::log_softmax(&row, 1.0)[target as usize];
                expected -= f64::from(w) * p;
                weight += f64::from(w);
            }
        }
        assert!(
            (loss - expected / weight).abs() < 1e-5,
            "{loss} {}",
            expected / weight
        );
    }
}
