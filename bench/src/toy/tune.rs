//! Chooses the settings of the toy run with equal effort: as many trials for IVON as for AdamW,
//! each over several seeds, judged by NLL on *tune* alone. Calibrate and test are never used.
//!
//! ```sh
//! cargo run --release -p bench -- tune-toy
//! ```

use std::time::Instant;

use burn::tensor::Device;
use ivon_lora::data::{Encoded, Role, encode_all};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::{AdamwConfig, IvonMethodConfig, Method, Setup};
use ivon_lora::metrics::{Predictions, mean_of_draws};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::posterior::Posterior;
use ivon_lora::predict::{EvaluationOptions, Predictor};
use ivon_lora::train::{ChoiceGoal, GoalExamples, LossWeights, Training, training_loop};
use ivon_lora::watch::Progress;
use ivon_lora_toy as toy;
use ivon_lora_toy::questions::Question;

use crate::Failure;

/// What to tune.
#[derive(clap::Args)]
pub struct Options {
    /// A model to use instead of the built-in one.
    model: Option<String>,
}

const SEEDS: [u64; 2] = [1, 2];
const SAMPLES: usize = 10;

/// NLL (nats) and accuracy on tune: at the mean, and with samples if there is a posterior.
#[derive(Clone, Copy, Default)]
struct TuneScores {
    mean_nll: f64,
    mean_accuracy: f64,
    sampled_nll: f64,
    sampled_accuracy: f64,
}

/// Six trials each: learning rates for AdamW, learning rates and effective sample sizes for IVON.
fn trials() -> Vec<(String, Method)> {
    let adamw = [1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2].map(|learning_rate| {
        let method = Method::Adamw(AdamwConfig {
            learning_rate,
            ..AdamwConfig::default()
        });
        (format!("adamw, learning rate {learning_rate}"), method)
    });
    let pairs = [0.5, 1.0, 2.0]
        .into_iter()
        .flat_map(|rate| [(rate, 1e6), (rate, 1e7)]);
    let ivon = pairs.map(|(learning_rate, ess)| {
        let method = Method::Ivon(IvonMethodConfig {
            learning_rate: Some(learning_rate),
            ess: Some(ess),
            ..IvonMethodConfig::paper()
        });
        (
            format!("ivon, learning rate {learning_rate}, ess {ess:.0e}"),
            method,
        )
    });
    adamw.into_iter().chain(ivon).collect()
}

/// The toy's model and its encoded rows.
struct Toy {
    network: Network,
    train: Vec<Encoded>,
    tune: Vec<Encoded>,
}

impl Toy {
    fn open(options: &Options) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let model = match &options.model {
            Some(model) => model.clone(),
            None => {
                toy::write_model(folder.path())?;
                folder.path().display().to_string()
            }
        };
        let checkpoint = Checkpoint::open(&model)?;
        let tokenizer = checkpoint.tokenizer()?;
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32)?;
        let dataset = toy::dataset(toy::DATA_SEED)?;
        let encoding = toy::data_config(folder.path()).encode_options(&toy::task());
        let encoded = |role| encode_all(dataset.role(role), &tokenizer, encoding);
        Ok(Self {
            network: Network::new(decoder, &Device::flex(), false),
            train: encoded(Role::Train)?.examples,
            tune: encoded(Role::Tune)?.examples,
        })
    }

    /// The scores on tune of a method trained with a seed.
    fn scores(&self, method: &Method, seed: u64) -> Result<TuneScores, Failure> {
        let evaluation = EvaluationOptions {
            samples: SAMPLES,
            seed,
            ..EvaluationOptions::default()
        };
        let posterior = self.trained(method, seed, evaluation)?;
        let found = Predictor::new(&self.network, posterior.as_ref(), &evaluation)
            .evaluate(&self.tune, &mut Progress::silent())?;
        let labels: Vec<usize> = self.tune.iter().filter_map(Encoded::label).collect();
        let mean = Predictions::new(found.mean, labels.clone())?;
        let sampled = if found.draws.is_empty() {
            mean.clone()
        } else {
            Predictions::new(mean_of_draws(&found.draws)?, labels)?
        };
        Ok(TuneScores {
            mean_nll: mean.nll(),
            mean_accuracy: mean.accuracy(),
            sampled_nll: sampled.nll(),
            sampled_accuracy: sampled.accuracy(),
        })
    }

    fn trained(
        &self,
        method: &Method,
        seed: u64,
        evaluation: EvaluationOptions,
    ) -> Result<Box<dyn Posterior>, Failure> {
        let (lora, config) = (LoraConfig::default(), toy::train_config());
        let device = Device::flex().autodiff();
        let adapter = Adapter::new(&lora, self.network.config(), seed, &device)?;
        let setup = Setup::new(&config, self.train.len(), lora.dropout, seed);
        let mut optimizer = method.settings().start(adapter, &setup)?;
        let folder = tempfile::tempdir()?;
        let goal = ChoiceGoal(GoalExamples {
            team: None,
            network: &self.network,
            lora: &lora,
            config: &config,
            evaluation,
            weights: &LossWeights::default(),
            train: &self.train,
            tune: &[],
        });
        let training = Training {
            team: None,
            network: &self.network,
            goal: &goal,
            config: &config,
            learning_rate: method.learning_rate(),
            dropout: lora.dropout,
            seed,
            folder: folder.path(),
        };
        training_loop(&training, optimizer.as_mut(), false, &mut |_| true)?;
        Ok(optimizer.posterior())
    }
}

/// Runs all trials and prints a table of them.
pub fn run(options: &Options) -> Result<(), Failure> {
    let toy = Toy::open(options)?;
    print_best_possible();
    println!(
        "| trial | NLL at the mean | accuracy | NLL, {SAMPLES} samples | accuracy | seconds a run |\n|---|---:|---:|---:|---:|---:|"
    );
    for (name, method) in trials() {
        let started = Instant::now();
        let mut mean = TuneScores::default();
        for seed in SEEDS {
            mean.add(&toy.scores(&method, seed)?, 1.0 / SEEDS.len() as f64);
        }
        let seconds = started.elapsed().as_secs_f64() / SEEDS.len() as f64;
        println!(
            "| {name} | {:.4} | {:.3} | {:.4} | {:.3} | {seconds:.1} |",
            mean.mean_nll, mean.mean_accuracy, mean.sampled_nll, mean.sampled_accuracy
        );
    }
    Ok(())
}

impl TuneScores {
    fn add(&mut self, other: &Self, share: f64) {
        self.mean_nll += share * other.mean_nll;
        self.mean_accuracy += share * other.mean_accuracy;
        self.sampled_nll += share * other.sampled_nll;
        self.sampled_accuracy += share * other.sampled_accuracy;
    }
}

/// The scores on tune of a predictor that knows how the labels are drawn.
fn print_best_possible() {
    let questions = toy::questions::questions(Role::Tune, toy::DATA_SEED);
    let count = questions.len();
    let nll: f64 = questions.iter().map(Question::bayes_nll).sum();
    let correct = questions.iter().filter(|question| question.bayes_correct());
    println!(
        "tune: {count} questions; who knows the world: NLL {:.4}, accuracy {:.3}",
        nll / count as f64,
        correct.count() as f64 / count as f64
    );
}
