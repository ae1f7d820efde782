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
use ivon_lora::predict::{EvaluationOptions, Predictor};
use ivon_lora::train::{ChoiceGoal, Training, training_loop};
use ivon_lora::watch::Progress;
use ivon_lora_toy as toy;

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
struct Found {
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
            learning_rate,
            ess,
            ..IvonMethodConfig::default()
        });
        (
            format!("ivon, learning rate {learning_rate}, ess {ess:.0e}"),
            method,
        )
    });
    adamw.into_iter().chain(ivon).collect()
}

fn once(
    network: &Network,
    sets: [&[Encoded]; 2],
    method: &Method,
    seed: u64,
) -> Result<Found, Failure> {
    let lora = LoraConfig::default();
    let adapter = Adapter::new(&lora, network.config(), seed, &Device::flex().autodiff())?;
    let setup = Setup::new(&toy::train_config(), sets[0].len(), lora.dropout, seed);
    let mut optimizer = method.settings().start(adapter, &setup)?;
    let folder = tempfile::tempdir()?;
    let config = toy::train_config();
    let evaluation = EvaluationOptions {
        samples: SAMPLES,
        seed,
        ..EvaluationOptions::default()
    };
    let goal = ChoiceGoal {
        network,
        lora: &lora,
        config: &config,
        evaluation,
        train: sets[0],
        tune: &[],
    };
    let training = Training {
        network,
        goal: &goal,
        config: &config,
        learning_rate: method.learning_rate(),
        dropout: lora.dropout,
        seed,
        folder: folder.path(),
    };
    training_loop(&training, optimizer.as_mut(), false, &mut |_| true)?;
    let posterior = optimizer.posterior();
    let found = Predictor::new(network, posterior.as_ref(), &evaluation)
        .evaluate(sets[1], &mut Progress::silent())?;
    let labels: Vec<usize> = sets[1]
        .iter()
        .filter_map(|example| example.label())
        .collect();
    let mean = Predictions::new(found.mean, labels.clone())?;
    let sampled = if found.draws.is_empty() {
        mean.clone()
    } else {
        Predictions::new(mean_of_draws(&found.draws)?, labels)?
    };
    Ok(Found {
        mean_nll: mean.nll(),
        mean_accuracy: mean.accuracy(),
        sampled_nll: sampled.nll(),
        sampled_accuracy: sampled.accuracy(),
    })
}

/// Runs all trials and prints a table of them.
pub fn run(options: &Options) -> Result<(), Failure> {
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
    let network = Network::new(
        Decoder::load(&checkpoint, BasePrecision::F32)?,
        &Device::flex(),
        false,
    );
    let dataset = toy::dataset(toy::DATA_SEED)?;
    let encoding = toy::data_config(folder.path()).encode_options(&toy::task());
    let [train, tune] =
        [Role::Train, Role::Tune].map(|role| encode_all(dataset.role(role), &tokenizer, encoding));
    let (train, tune) = (train?.examples, tune?.examples);
    let tune_questions = toy::questions::questions(Role::Tune, toy::DATA_SEED);
    let bayes = tune_questions
        .iter()
        .map(toy::questions::Question::bayes_nll)
        .sum::<f64>()
        / tune_questions.len() as f64;
    let right = tune_questions
        .iter()
        .filter(|question| question.bayes_correct())
        .count() as f64
        / tune_questions.len() as f64;
    println!(
        "tune: {} questions; who knows the world: NLL {bayes:.4}, accuracy {right:.3}",
        tune.len()
    );
    println!(
        "| trial | NLL at the mean | accuracy | NLL, {SAMPLES} samples | accuracy | seconds a run |\n|---|---:|---:|---:|---:|---:|"
    );
    for (name, method) in trials() {
        let started = Instant::now();
        let mut mean = Found::default();
        for seed in SEEDS {
            let found = once(&network, [&train, &tune], &method, seed)?;
            let share = 1.0 / SEEDS.len() as f64;
            mean.mean_nll += share * found.mean_nll;
            mean.mean_accuracy += share * found.mean_accuracy;
            mean.sampled_nll += share * found.sampled_nll;
            mean.sampled_accuracy += share * found.sampled_accuracy;
        }
        let seconds = started.elapsed().as_secs_f64() / SEEDS.len() as f64;
        println!(
            "| {name} | {:.4} | {:.3} | {:.4} | {:.3} | {seconds:.1} |",
            mean.mean_nll, mean.mean_accuracy, mean.sampled_nll, mean.sampled_accuracy
        );
    }
    Ok(())
}
