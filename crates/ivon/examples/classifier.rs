//! A table classifier trained by IVON and by Burn's AdamW in the same plain loop: accuracy,
//! negative log-likelihood and calibration error on held-out rows.
//!
//! The table is made here: ten features, three classes from a random quadratic rule, and 15 % of
//! the labels drawn at random, so that no model can be right and certain everywhere.
//!
//! `cargo run -p ivon --example classifier`

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ivon::noise::{Address, Purpose};
use ivon::{Ivon, IvonConfig, IvonError};

const FEATURES: usize = 10;
const CLASSES: usize = 3;
const TRAIN: usize = 300;
const TEST: usize = 3_000;
const STEPS: usize = 1_500;
const BATCH: usize = 50;

#[derive(Module, Debug)]
struct Network {
    hidden: Linear,
    middle: Linear,
    output: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(FEATURES, 64).init(device),
            middle: LinearConfig::new(64, 64).init(device),
            output: LinearConfig::new(64, CLASSES).init(device),
        }
    }

    /// `[rows, FEATURES]` → logits `[rows, CLASSES]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.output
            .forward(relu(self.middle.forward(relu(self.hidden.forward(x)))))
    }

    /// The mean cross-entropy in nats, and its gradients.
    fn evaluate(&self, table: &Table, batch: usize) -> (Tensor<1>, GradientsParams) {
        let start = batch * BATCH % TRAIN;
        let (x, y) = (
            table.x.clone().narrow(0, start, BATCH),
            table.y.clone().narrow(0, start, BATCH),
        );
        let loss = CrossEntropyLossConfig::new()
            .init(&table.x.device())
            .forward(self.forward(x), y);
        let gradients = GradientsParams::from_grads(loss.backward(), self);
        (loss, gradients)
    }
}

struct Table {
    /// `[rows, FEATURES]`
    x: Tensor<2>,
    /// `[rows]`
    y: Tensor<1, Int>,
    labels: Vec<usize>,
}

fn normals(path: &str, count: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    Address {
        seed: 5,
        purpose: Purpose::Posterior,
        step: 0,
        draw: 0,
    }
    .fill(path, &mut numbers);
    numbers
}

fn table(name: &str, rows: usize, device: &Device) -> Table {
    let x = normals(name, rows * FEATURES);
    let rule = normals("rule", CLASSES * FEATURES * FEATURES);
    // Whether the label is drawn at random, and which.
    let coins = normals(&format!("{name} coins"), 2 * rows);
    let labels: Vec<usize> = x
        .chunks(FEATURES)
        .zip(coins.chunks(2))
        .map(|(x, coins)| {
            if coins[0] > 1.036 {
                // P(z > 1.036) = 0.15; then thirds of the normal distribution.
                return usize::from(coins[1] > -0.431) + usize::from(coins[1] > 0.431);
            }
            let score = |class: usize| -> f32 {
                let part = &rule[class * FEATURES * FEATURES..(class + 1) * FEATURES * FEATURES];
                part.iter()
                    .enumerate()
                    .map(|(index, weight)| weight * x[index / FEATURES] * x[index % FEATURES])
                    .sum()
            };
            (0..CLASSES)
                .max_by(|&a, &b| score(a).total_cmp(&score(b)))
                .unwrap_or(0)
        })
        .collect();
    let numbers: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    Table {
        x: Tensor::from_data(TensorData::new(x, [rows, FEATURES]), device),
        y: Tensor::from_data(TensorData::new(numbers, [rows]), device),
        labels,
    }
}

/// The rows' class probabilities at `network`, `[rows, CLASSES]` row-major.
fn probabilities(network: &Network, table: &Table) -> Vec<f64> {
    softmax(network.forward(table.x.clone()), 1)
        .into_data()
        .iter::<f64>()
        .collect()
}

/// Accuracy, mean −ln p of the label, and expected calibration error in 10 equal bins.
fn print_scores(name: &str, probabilities: &[f64], labels: &[usize]) {
    let (mut right, mut surprise) = (0.0, 0.0);
    let mut bins = [(0.0, 0.0); 10];
    for (row, &label) in probabilities.chunks(CLASSES).zip(labels) {
        let answer = (1..CLASSES).fold(
            0,
            |best, class| if row[class] > row[best] { class } else { best },
        );
        let correct = f64::from(u8::from(answer == label));
        let bin = &mut bins[((row[answer] * 10.0).ceil() as usize).clamp(1, 10) - 1];
        *bin = (bin.0 + correct, bin.1 + row[answer]);
        right += correct;
        surprise -= row[label].max(f64::MIN_POSITIVE).ln();
    }
    let rows = labels.len() as f64;
    let error: f64 = bins
        .iter()
        .map(|(correct, confident)| (correct - confident).abs())
        .sum::<f64>()
        / rows;
    println!(
        "{name:<28} {:8.3} {:8.3} {error:8.3}",
        right / rows,
        surprise / rows
    );
}

fn main() -> Result<(), IvonError> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let (train, test) = (
        table("train", TRAIN, &device),
        table("test", TEST, &Device::flex()),
    );
    let start = Network::new(&device);
    println!("{TEST} held-out rows               accuracy      NLL  ECE (10 bins)");

    for decay in [1e-4, 0.1, 1.0] {
        let mut network = start.clone();
        let mut adamw = AdamWConfig::new().with_weight_decay(decay).init();
        for step in 0..STEPS {
            let rate = 3e-3 * (1.0 - step as f64 / STEPS as f64);
            let (_, gradients) = network.evaluate(&train, step);
            network = adamw.step(rate, network, gradients);
        }
        print_scores(
            &format!("AdamW, weight decay {decay}"),
            &probabilities(&network.valid(), &test),
            &test.labels,
        );
    }

    // The loss is a mean over examples, so the effective sample size is the number of training
    // rows.
    let config = IvonConfig {
        hessian_init: 0.5,
        weight_decay: 1e-3,
        beta2: 0.999,
        ..IvonConfig::new(TRAIN as f64)
    };
    let mut ivon = Ivon::new(config, start)?;
    for step in 0..STEPS {
        let rate = 0.2 * (1.0 - step as f64 / STEPS as f64);
        ivon.step(rate, |network: &Network| {
            Ok::<_, IvonError>(network.evaluate(&train, step))
        })?;
    }
    let posterior = ivon.posterior();
    print_scores(
        "IVON at the mean",
        &probabilities(posterior.mean(), &test),
        &test.labels,
    );
    let mut sum = vec![0.0; TEST * CLASSES];
    for draw in 0..32 {
        let drawn = probabilities(&posterior.draw(1, draw, 1.0)?, &test);
        sum.iter_mut().zip(drawn).for_each(|(sum, p)| *sum += p);
        if [1, 8, 32].contains(&(draw + 1)) {
            let mean: Vec<f64> = sum.iter().map(|p| p / (draw + 1) as f64).collect();
            print_scores(
                &format!("IVON, draws averaged: {}", draw + 1),
                &mean,
                &test.labels,
            );
        }
    }
    Ok(())
}
