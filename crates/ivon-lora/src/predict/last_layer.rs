//! Prediction under noise on the output layer: a single pass gives the distribution of all logits.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use super::batches::batches;
use super::choice::{NoisyLogits, Questions};
use super::error::PredictError;
use super::normal_logits::NormalLogits;
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::{Adapter, Draw};
use crate::metrics::log_softmax;
use crate::posterior::{LinearisedForm, OutputNoise};
use crate::watch::Progress;

/// Means and variances of an example's logits, `[C]` each.
type Logits = (Vec<f64>, Vec<f64>);

/// An adapter on its network, with noise on the output layer.
pub(super) struct NoisyNetwork<'a> {
    pub network: &'a Network,
    pub mean: &'a Adapter,
    pub noise: &'a OutputNoise,
}

impl NoisyNetwork<'_> {
    /// The logits of a set. `progress` advances by each example.
    ///
    /// # Errors
    /// As [`NoisyLogits::at`]; if a number is not finite, or the watcher says stop.
    pub(super) fn logits(
        &self,
        examples: &[Encoded],
        batch_tokens: usize,
        progress: &mut Progress<'_>,
    ) -> Result<NormalLogits, PredictError> {
        let draw = Draw::of(self.mean.valid());
        let mut found: Vec<Logits> = vec![Logits::default(); examples.len()];
        for places in batches(examples, batch_tokens) {
            let members: Vec<&Encoded> = places.iter().map(|&place| &examples[place]).collect();
            let logits = self.batch_logits(&draw, &Questions::pack(&members)?)?;
            for (&place, logits) in places.iter().zip(logits) {
                found[place] = logits;
            }
            progress.advance(places.len())?;
        }
        let mut set = NormalLogits::new(LinearisedForm::Samples, examples.len());
        for (example, (means, variances)) in examples.iter().zip(found) {
            let row = log_softmax(&means, 1.0);
            if row.iter().chain(&variances).any(|value| !value.is_finite()) {
                return Err(PredictError::NotFinite {
                    id: example.id.clone(),
                });
            }
            set.push(example.key, row, covariance_of_differences(&variances));
        }
        Ok(set)
    }

    /// The logits of the questions of one batch.
    fn batch_logits(
        &self,
        draw: &Draw,
        questions: &Questions,
    ) -> Result<Vec<Logits>, PredictError> {
        let (tokens, width) = (questions.tokens(), self.network.config().hidden_size);
        let variances = self.noise.variances(&tokens, width)?;
        let hidden = self.network.hidden(&questions.batch, draw);
        let variances = TensorData::new(variances, [tokens.len(), width]);
        let variances = Tensor::<2>::from_data(variances, &hidden.states.device());
        let logits = NoisyLogits::at(self.network, &hidden, questions, variances)?;
        let width = logits.means.dims()[1];
        let [means, variances] = [numbers(logits.means)?, numbers(logits.variances)?];
        let of = |question: usize| {
            let row = question * width..question * width + questions.choices(question);
            (means[row.clone()].to_vec(), variances[row].to_vec())
        };
        Ok((0..questions.len()).map(of).collect())
    }
}

fn numbers(tensor: Tensor<2>) -> Result<Vec<f64>, PredictError> {
    let values = tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|error| PredictError::Device {
            reason: error.to_string(),
        })?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// The covariance of z_c − z_0, c = 1 … C−1, for independent z of these variances: v_0 + v_c on the
/// diagonal, v_0 beside it; `[(C−1)²]` row by row.
fn covariance_of_differences(variances: &[f64]) -> Vec<f64> {
    let Some((first, others)) = variances.split_first() else {
        return Vec::new();
    };
    let entry = |a: usize, b: usize| if a == b { first + others[a] } else { *first };
    (0..others.len())
        .flat_map(|a| (0..others.len()).map(move |b| entry(a, b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Choices, Target};
    use crate::lora::LoraConfig;
    use crate::metrics::{LogProbabilities, mean_of_draws};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::posterior::{LastLayer, PointEstimate};
    use crate::predict::{EvaluationOptions, Predictor, SCALES};
    use crate::testing::{golden, golden_normals};
    use crate::watch::{Event, Stage};

    fn networks() -> [Network; 2] {
        networks_of("llama")
    }

    fn networks_of(family: &str) -> [Network; 2] {
        let folder = golden().join("tiny").join(family);
        let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
        let decoder = || Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        let device = Device::flex();
        [
            Network::new(decoder(), &device, false),
            Network::plain(decoder(), &device),
        ]
    }

    fn example(key: u32, choices: Choices) -> Encoded {
        Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6 + key, 7],
            target: Target::Choice {
                choices,
                label: Some(0),
            },
        }
    }

    /// Questions with two and three choices; token 30 has no row of its own.
    fn examples() -> Vec<Encoded> {
        vec![
            example(0, Choices::Tokens(vec![10, 20, 30])),
            example(1, Choices::Tokens(vec![20, 10])),
            example(2, Choices::Tokens(vec![10, 20, 30])),
        ]
    }

    fn adapter(network: &Network) -> Adapter {
        let lora = LoraConfig {
            rank: 2,
            ..LoraConfig::default()
        };
        Adapter::new(&lora, network.config(), 1, network.device()).unwrap()
    }

    fn noise() -> OutputNoise {
        let row = |seed| {
            let normals = golden_normals(seed, 32);
            normals.iter().map(|z| (0.1 * z * z) as f32).collect()
        };
        OutputNoise::new([(10, row(1)), (20, row(2))].into(), 0.05).unwrap()
    }

    fn options(samples: usize) -> EvaluationOptions {
        EvaluationOptions {
            samples,
            ..EvaluationOptions::default()
        }
    }

    /// The average over draws of every row of the output layer, one by one.
    fn by_drawn_rows(network: &Network, example: &Encoded, draws: usize) -> Vec<f64> {
        let Choices::Tokens(tokens) = example.choices().unwrap() else {
            panic!()
        };
        let questions = Questions::pack(&[example]).unwrap();
        let draw = Draw::of(adapter(network));
        let hidden = network.hidden(&questions.batch, &draw);
        let logits = numbers(network.logits_of(&hidden, tokens)).unwrap();
        let hidden = numbers(hidden.states).unwrap();
        let sizes = network.output_mean_squares(tokens);
        let variances = noise().variances(tokens, 32).unwrap();
        let normals = golden_normals(9, draws * tokens.len() * 32);
        let mut sums = vec![0.0; tokens.len()];
        for z in normals.chunks_exact(tokens.len() * 32) {
            let drawn: Vec<f64> = (0..tokens.len())
                .map(|choice| {
                    let row = choice * 32..choice * 32 + 32;
                    let noise = z[row.clone()].iter().zip(&variances[row]).zip(&hidden);
                    let moved = noise.map(|((z, variance), h)| {
                        z * (f64::from(variance * sizes[choice])).sqrt() * h
                    });
                    logits[choice] + moved.sum::<f64>()
                })
                .collect();
            let row = log_softmax(&drawn, 1.0);
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, log)| *sum += log.exp());
        }
        sums.iter().map(|sum| sum / draws as f64).collect()
    }

    #[test]
    fn draws_of_logits_average_to_what_draws_of_the_rows_average_to() {
        // Granite divides its logits.
        for network in networks().into_iter().chain(networks_of("granite")) {
            let posterior = LastLayer::new(adapter(&network), noise());
            let predictor = Predictor::new(&network, &posterior, &options(4000));
            let found = predictor
                .evaluate(&examples(), &mut Progress::silent())
                .unwrap();
            let averages = mean_of_draws(&found.draws).unwrap();
            for (example, average) in examples().iter().zip(&averages) {
                let expected = by_drawn_rows(&network, example, 4000);
                assert_eq!(average.len(), expected.len());
                // Each has a standard error below ½/√4000 = 0.008.
                for (log, expected) in average.iter().zip(&expected) {
                    assert!(
                        (log.exp() - expected).abs() < 0.03,
                        "{average:?} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn at_the_mean_it_predicts_what_the_adapter_does() {
        let [network, _] = networks();
        let adapter = adapter(&network);
        let evaluate = |posterior: &dyn crate::posterior::Posterior| -> LogProbabilities {
            let predictor = Predictor::new(&network, posterior, &options(2));
            let found = predictor.evaluate(&examples(), &mut Progress::silent());
            found.unwrap().mean
        };
        let found = evaluate(&LastLayer::new(adapter.clone(), noise()));
        let expected = evaluate(&PointEstimate { adapter });
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn a_hundred_draws_and_all_scales_take_one_pass() {
        let [network, _] = networks();
        let posterior = LastLayer::new(adapter(&network), noise());
        let predictor = Predictor::new(&network, &posterior, &options(100));
        assert_eq!(
            (predictor.passes(), predictor.trial_passes(&SCALES)),
            (1, 1)
        );
        assert!(predictor.prepare_draws().unwrap().is_empty());
        let mut told = Vec::new();
        let mut watch = |event: Event<'_>| {
            if let Event::Progress { done, total, .. } = event {
                told.push((done, total));
            }
            true
        };
        let found = predictor.evaluate_as(Stage::Test, &examples(), &mut watch);
        assert_eq!(found.unwrap().draws.len(), 100);
        assert_eq!(told.last(), Some(&(3, 3)));
        let trials = predictor.scale_trials(&examples(), &SCALES, &mut Progress::silent());
        assert_eq!(trials.unwrap().len(), SCALES.len());
    }

    #[test]
    fn whole_answers_and_rows_of_another_base_are_refused() {
        let [network, _] = networks();
        let refused = |noise, examples: &[Encoded]| {
            let posterior = LastLayer::new(adapter(&network), noise);
            let predictor = Predictor::new(&network, &posterior, &options(2));
            let found = predictor.evaluate(examples, &mut Progress::silent());
            found.unwrap_err().to_string()
        };
        let whole = example(0, Choices::Answers(vec![vec![10, 11], vec![20]]));
        assert!(refused(noise(), &[whole]).ends_with("but an answer here is scored whole"));
        let narrow = OutputNoise::new([(10, vec![0.1; 3])].into(), 0.05).unwrap();
        assert_eq!(
            refused(narrow, &examples()),
            "the noise on the output row of token 10 has 3 numbers, but the row has 32"
        );
    }

    #[test]
    fn a_model_that_limits_its_logits_is_refused() {
        for network in networks_of("gemma2") {
            let posterior = LastLayer::new(adapter(&network), noise());
            let predictor = Predictor::new(&network, &posterior, &options(2));
            let error = predictor.evaluate(&examples(), &mut Progress::silent());
            let message = error.unwrap_err().to_string();
            assert!(
                message.ends_with("but this model limits them to ±3"),
                "{message}"
            );
        }
    }

    #[test]
    fn differences_share_the_variance_of_the_first_logit() {
        assert_eq!(
            covariance_of_differences(&[1.0, 2.0, 4.0]),
            [3.0, 1.0, 1.0, 5.0]
        );
        assert!(covariance_of_differences(&[1.0]).is_empty());
    }
}
