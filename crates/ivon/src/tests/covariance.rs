//! The law that EVON is for: posteriors whose covariance is known, its off-diagonal included.
//!
//! It minimises N·E(loss) + KL to the prior N(0, 1/(N δ)). Of all normal distributions the best has
//! E(∇loss) + δ m = 0 and Σ⁻¹ = N (E(∇²loss) + δ). On a quadratic loss that is the exact posterior;
//! on logistic regression both expectations are integrals along a line for each row of the data,
//! done here by quadrature.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, activation};

use super::eigenbasis::{kronecker, of_diagonal};
use super::{numbers, param, tensor};
use crate::noise::{Address, Purpose};
use crate::symmetric::eigenvectors;
use crate::{EigenbasisConfig, Ivon, IvonConfig, IvonError, NoiseSource, Sides};

#[derive(Module, Debug)]
struct Weights {
    matrix: Param<Tensor<2>>,
}

/// Standard normals.
fn normals(count: usize, seed: u64) -> Vec<f64> {
    let address = Address {
        seed,
        purpose: Purpose::Training,
        step: 0,
        draw: 0,
    };
    let mut normals = vec![0.0; count];
    address.fill("data", &mut normals);
    normals.into_iter().map(f64::from).collect()
}

/// Rows `[rows, 3]` whose columns go together.
fn correlated(rows: usize) -> Vec<f64> {
    let normals = normals(3 * rows, 1);
    normals
        .chunks_exact(3)
        .flat_map(|z| [z[0], 0.8 * z[0] + 0.6 * z[1], 0.5 * z[2] - 0.7 * z[0]])
        .collect()
}

/// V diag(f(λ)) Vᵀ of a symmetric matrix.
fn of_eigenvalues(matrix: &[f64], n: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let (values, vectors) = eigenvectors(matrix.to_vec(), n);
    of_diagonal(&vectors, &values.into_iter().map(f).collect::<Vec<_>>())
}

fn inverse(matrix: &[f64], n: usize) -> Vec<f64> {
    of_eigenvalues(matrix, n, |value| 1.0 / value)
}

/// ‖A − B‖/‖B‖ in Frobenius' norm.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

/// What is found on average over the second half of a run.
struct Found {
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

fn config(ess: f64, decay: f64, sides: Option<Sides>) -> IvonConfig {
    IvonConfig {
        weight_decay: decay,
        beta2: 0.998,
        mc_samples: 4,
        noise: NoiseSource::Host { seed: 3 },
        eigenbasis: sides.map(|sides| EigenbasisConfig {
            sides,
            gram_decay: Some(0.999),
            ..EigenbasisConfig::default()
        }),
        ..IvonConfig::new(ess)
    }
}

fn run(
    config: IvonConfig,
    shape: [usize; 2],
    steps: usize,
    loss: impl Fn(Tensor<2>) -> Tensor<1>,
) -> Found {
    let count = shape[0] * shape[1];
    let weights = Weights {
        matrix: param(&vec![0.1; count], shape, DType::F64),
    };
    let mut ivon = Ivon::new(config, weights).unwrap();
    let mut found = Found {
        mean: vec![0.0; count],
        covariance: vec![0.0; count * count],
    };
    let mut counted = 0.0;
    for step in 0..steps {
        let rate = if step < steps / 2 { 0.1 } else { 0.02 };
        ivon.step(rate, |weights: &Weights| {
            let loss = loss(weights.matrix.val());
            let gradients = GradientsParams::from_grads(loss.backward(), weights);
            Ok::<_, IvonError>((loss, gradients))
        })
        .unwrap();
        if step < steps / 2 || step % 10 > 0 {
            continue;
        }
        let posterior = ivon.posterior();
        let rotation = posterior.rotations().get("matrix").cloned();
        let basis = kronecker(&rotation.unwrap_or_default(), shape);
        let covariance = of_diagonal(&basis, &numbers(&posterior.variances()["matrix"]));
        let add = |sums: &mut [f64], values: &[f64]| {
            sums.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        };
        add(&mut found.mean, &numbers(&ivon.mean().matrix.val()));
        add(&mut found.covariance, &covariance);
        counted += 1.0;
    }
    found.mean.iter_mut().for_each(|sum| *sum /= counted);
    found.covariance.iter_mut().for_each(|sum| *sum /= counted);
    found
}

/// Both are as the truth has them, the mean in units of the smallest spread.
fn check(found: &Found, mean: &[f64], covariance: &[f64], by: f64) {
    let n = mean.len();
    let off = error(&found.covariance, covariance);
    assert!(
        off < by,
        "off by {off}: {:?}, expected {covariance:?}",
        found.covariance
    );
    let least = (0..n)
        .map(|i| covariance[i * n + i].sqrt())
        .fold(f64::MAX, f64::min);
    for (found, expected) in found.mean.iter().zip(mean) {
        assert!(
            (found - expected).abs() < 0.25 * least,
            "{found} {expected}"
        );
    }
}

#[test]
fn linear_regression_has_the_covariance_of_the_exact_posterior() {
    let (rows, decay) = (60, 0.05);
    let x = correlated(rows);
    let truth = [1.0, -0.5, 0.25];
    let noise = normals(rows, 2);
    let y: Vec<f64> = x
        .chunks_exact(3)
        .zip(noise)
        .map(|(x, z)| x.iter().zip(truth).map(|(x, w)| x * w).sum::<f64>() + z)
        .collect();
    // Half the mean squared error, N rows: the posterior under unit noise.
    let (inputs, outputs) = (
        tensor(&x, [rows, 3], DType::F64),
        tensor(&y, [rows, 1], DType::F64),
    );
    let loss = |weights: Tensor<2>| {
        (inputs.clone().matmul(weights.transpose()) - outputs.clone())
            .square()
            .mean()
            * 0.5
    };
    let n = rows as f64;
    let moment = |at: usize| {
        let sum: f64 = x.chunks_exact(3).map(|x| x[at / 3] * x[at % 3]).sum();
        sum / n + if at.is_multiple_of(4) { decay } else { 0.0 }
    };
    let precision: Vec<f64> = (0..9).map(moment).collect();
    let covariance: Vec<f64> = inverse(&precision, 3).iter().map(|c| c / n).collect();
    let product: Vec<f64> = (0..3)
        .map(|i| {
            x.chunks_exact(3)
                .zip(&y)
                .map(|(x, y)| x[i] * y)
                .sum::<f64>()
        })
        .collect();
    let mean: Vec<f64> = covariance
        .chunks_exact(3)
        .map(|row| row.iter().zip(&product).map(|(c, p)| c * p).sum())
        .collect();

    let found = run(config(n, decay, Some(Sides::Right)), [1, 3], 8_000, loss);
    println!("EVON: off by {}", error(&found.covariance, &covariance));
    check(&found, &mean, &covariance, 0.05);
    let diagonal = run(config(n, decay, None), [1, 3], 4_000, loss);
    println!("IVON: off by {}", error(&diagonal.covariance, &covariance));
    assert!(error(&diagonal.covariance, &covariance) > 0.5);
}

#[test]
fn two_sides_have_the_covariance_of_a_curvature_that_is_their_product() {
    // ½ tr(A M B Mᵀ) − tr(Cᵀ M), so the Hessian of M, row by row, is A ⊗ B.
    let (ess, decay) = (50.0, 0.1);
    let a = [2.0, 0.9, 0.9, 0.8];
    let b = [1.5, -0.6, 0.2, -0.6, 0.7, 0.1, 0.2, 0.1, 0.3];
    let c = [0.5, -0.2, 0.1, 0.3, 0.4, -0.1];
    let [left, right, linear] = [
        tensor(&a, [2, 2], DType::F64),
        tensor(&b, [3, 3], DType::F64),
        tensor(&c, [2, 3], DType::F64),
    ];
    let loss = |m: Tensor<2>| {
        let curved = left.clone().matmul(m.clone()).matmul(right.clone());
        ((curved * 0.5 - linear.clone()) * m).sum()
    };
    let entry = |at: usize| {
        let (row, column) = (at / 6, at % 6);
        let product = a[row / 3 * 2 + column / 3] * b[row % 3 * 3 + column % 3];
        product + if row == column { decay } else { 0.0 }
    };
    let precision: Vec<f64> = (0..36).map(entry).collect();
    let inverse = inverse(&precision, 6);
    let covariance: Vec<f64> = inverse.iter().map(|x| x / ess).collect();
    let mean: Vec<f64> = inverse
        .chunks_exact(6)
        .map(|row| row.iter().zip(c).map(|(x, c)| x * c).sum())
        .collect();

    let found = run(config(ess, decay, Some(Sides::Both)), [2, 3], 8_000, loss);
    println!("both: off by {}", error(&found.covariance, &covariance));
    check(&found, &mean, &covariance, 0.05);
    for sides in [Sides::Left, Sides::Right] {
        let one = run(config(ess, decay, Some(sides)), [2, 3], 4_000, loss);
        println!("{sides:?}: off by {}", error(&one.covariance, &covariance));
        assert!(error(&one.covariance, &covariance) > 0.2);
    }
}

/// Mean and standard deviation of a normal number a → the mean of f(a), by Simpson's rule over ± 8
/// standard deviations.
fn expectation(mean: f64, deviation: f64, f: impl Fn(f64) -> f64) -> f64 {
    let pieces = 200;
    let width = 16.0 / f64::from(pieces);
    let term = |index: i32| {
        let z = -8.0 + width * f64::from(index);
        let weight = match index {
            0 => 1.0,
            _ if index == pieces => 1.0,
            _ if index % 2 == 1 => 4.0,
            _ => 2.0,
        };
        weight * f(mean + deviation * z) * (-0.5 * z * z).exp()
    };
    (0..=pieces).map(term).sum::<f64>() * width / 3.0 / std::f64::consts::TAU.sqrt()
}

fn sigmoid(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

/// The best normal distribution for logistic regression, to convergence: mean and covariance.
fn best_normal(x: &[f64], y: &[f64], decay: f64) -> (Vec<f64>, Vec<f64>) {
    let n = y.len() as f64;
    let mut mean = vec![0.0; 3];
    let mut covariance: Vec<f64> = (0..9)
        .map(|at| if at % 4 == 0 { 0.01 } else { 0.0 })
        .collect();
    for _ in 0..200 {
        let mut gradient: Vec<f64> = mean.iter().map(|m| decay * m).collect();
        let mut precision: Vec<f64> = (0..9)
            .map(|at| if at % 4 == 0 { decay } else { 0.0 })
            .collect();
        for (x, y) in x.chunks_exact(3).zip(y) {
            let along: f64 = x.iter().zip(&mean).map(|(x, m)| x * m).sum();
            let square: f64 = (0..9)
                .map(|at| x[at / 3] * covariance[at] * x[at % 3])
                .sum();
            let slope = expectation(along, square.sqrt(), |a| sigmoid(a) - y);
            let bend = expectation(along, square.sqrt(), |a| sigmoid(a) * (1.0 - sigmoid(a)));
            (0..3).for_each(|i| gradient[i] += slope * x[i] / n);
            (0..9).for_each(|at| precision[at] += bend * x[at / 3] * x[at % 3] / n);
        }
        let step = inverse(&precision, 3);
        for (m, row) in mean.iter_mut().zip(step.chunks_exact(3)) {
            *m -= row.iter().zip(&gradient).map(|(s, g)| s * g).sum::<f64>();
        }
        covariance = step.iter().map(|x| x / n).collect();
    }
    (mean, covariance)
}

#[test]
fn logistic_regression_has_the_covariance_of_the_best_normal_distribution() {
    let (rows, decay) = (60, 0.02);
    let x = correlated(rows);
    let uniform = |z: f64| sigmoid(1.702 * z);
    let y: Vec<f64> = x
        .chunks_exact(3)
        .zip(normals(rows, 5))
        .map(|(x, z)| {
            f64::from(u8::from(
                uniform(z) < sigmoid(1.5 * x[0] - x[1] + 0.5 * x[2]),
            ))
        })
        .collect();
    let (mean, covariance) = best_normal(&x, &y, decay);
    // What is asked for is not nearly diagonal: the largest correlation of two weights.
    let correlation =
        |i: usize, j: usize| covariance[i * 3 + j] / (covariance[i * 4] * covariance[j * 4]).sqrt();
    assert!(correlation(0, 1).abs() > 0.5, "{}", correlation(0, 1));

    let (inputs, labels) = (
        tensor(&x, [rows, 3], DType::F64),
        tensor(&y, [rows, 1], DType::F64),
    );
    // ln(1 + e^a) − y a.
    let loss = |weights: Tensor<2>| {
        let a = inputs.clone().matmul(weights.transpose());
        (activation::softplus(a.clone(), 1.0) - a * labels.clone()).mean()
    };
    let n = rows as f64;
    let found = run(
        IvonConfig {
            hessian_init: 0.2,
            ..config(n, decay, Some(Sides::Right))
        },
        [1, 3],
        12_000,
        loss,
    );
    println!("EVON: off by {}", error(&found.covariance, &covariance));
    check(&found, &mean, &covariance, 0.1);
    let sign = |i: usize, j: usize| found.covariance[i * 3 + j] * covariance[i * 3 + j] > 0.0;
    assert!(sign(0, 1) && sign(0, 2) && sign(1, 2));
    let diagonal = run(
        IvonConfig {
            hessian_init: 0.2,
            ..config(n, decay, None)
        },
        [1, 3],
        4_000,
        loss,
    );
    println!("IVON: off by {}", error(&diagonal.covariance, &covariance));
    assert!(error(&diagonal.covariance, &covariance) > 0.5);
}
