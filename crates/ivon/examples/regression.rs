//! 1-D regression with uncertainty: a small network learns from points in [−2, −0.5] and [0.5, 2],
//! and its posterior says where it knows and where it guesses.
//!
//! `cargo run -p ivon --example regression`

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use ivon::noise::{Address, Purpose};
use ivon::{Ivon, IvonConfig, IvonError};

const NOISE: f64 = 0.1;

#[derive(Module, Debug)]
struct Network {
    hidden: Linear,
    middle: Linear,
    output: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(1, 32).init(device),
            middle: LinearConfig::new(32, 32).init(device),
            output: LinearConfig::new(32, 1).init(device),
        }
    }

    /// `[points, 1]` → `[points, 1]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.output
            .forward(relu(self.middle.forward(relu(self.hidden.forward(x)))))
    }
}

/// x³/4 − x/2, which the data show through noise of standard deviation 0.1.
fn truth(x: f64) -> f64 {
    x * x * x / 4.0 - x / 2.0
}

/// `[points, 1]`.
fn column(values: &[f64], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), device)
}

fn main() -> Result<(), IvonError> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let count = 80;
    let mut noise = vec![0.0; count];
    Address {
        seed: 1,
        purpose: Purpose::Posterior,
        step: 0,
        draw: 0,
    }
    .fill("data", &mut noise);
    let half = |index: usize| 0.5 + 1.5 * (index / 2) as f64 / (count / 2 - 1) as f64;
    let xs: Vec<f64> = (0..count)
        .map(|index| {
            if index % 2 == 0 {
                half(index)
            } else {
                -half(index)
            }
        })
        .collect();
    let ys: Vec<f64> = xs
        .iter()
        .zip(&noise)
        .map(|(&x, &z)| truth(x) + NOISE * f64::from(z))
        .collect();
    let (x, y) = (column(&xs, &device), column(&ys, &device));

    // With noise of variance s² the negative log-likelihood of a point is its squared error/(2 s²).
    // Half the mean squared error as the loss and N = points/s² say the same, in numbers of a size
    // that the defaults suit. The prior has variance 1/(N δ) = 1 on every weight.
    let ess = count as f64 / (NOISE * NOISE);
    let config = IvonConfig {
        hessian_init: 0.1,
        weight_decay: 1.0 / ess,
        beta2: 0.999,
        ..IvonConfig::new(ess)
    };
    let mut ivon = Ivon::new(config, Network::new(&device))?;
    let steps = 6_000;
    for step in 0..steps {
        let rate = 0.3 * (1.0 - f64::from(step) / f64::from(steps));
        let report = ivon.step(rate, |network: &Network| {
            let loss = (network.forward(x.clone()) - y.clone())
                .square()
                .mean()
                .mul_scalar(0.5);
            let gradients = GradientsParams::from_grads(loss.backward(), network);
            Ok::<_, IvonError>((loss, gradients))
        })?;
        if step % 1_500 == 0 || step == steps - 1 {
            println!(
                "step {:>5}  loss at the draw {:.4}  mean h/h0 {:.3}",
                report.step, report.loss, report.hessian_ratio
            );
        }
    }

    let grid: Vec<f64> = (-7..=7).map(|index| f64::from(index) * 0.5).collect();
    let points = column(&grid, &Device::flex());
    let posterior = ivon.posterior();
    let draws = 200;
    let mut sums = vec![(0.0, 0.0); grid.len()];
    for number in 0..draws {
        let values = posterior
            .draw(1, number, 1.0)?
            .forward(points.clone())
            .into_data();
        for (sum, value) in sums.iter_mut().zip(values.iter::<f64>()) {
            *sum = (sum.0 + value, sum.1 + value * value);
        }
    }
    println!("\n     x    truth     mean ± sd of {draws} draws");
    for (&x, (first, second)) in grid.iter().zip(sums) {
        let mean = first / draws as f64;
        let deviation = (second / draws as f64 - mean * mean).max(0.0).sqrt();
        let place = if (0.5..=2.0).contains(&x.abs()) {
            "data"
        } else {
            "    "
        };
        println!(
            "{x:6.1} {:8.3} {mean:8.3} ± {deviation:.3}  {place} {}",
            truth(x),
            "#".repeat((deviation * 20.0).round() as usize)
        );
    }
    Ok(())
}
