//! The empirical Fisher average as Hessian, the normalised update, and steps cut to the posterior's
//! own size.

use burn::tensor::DType;

use super::{Pair, Quadratic, after, everything, numbers};
use crate::{HessianApproximation, Ivon, IvonConfig, IvonError, MeanUpdate};

/// h₀ = 1 and an effective sample size so large that draws are the mean.
fn noiseless(examples: f64) -> IvonConfig {
    IvonConfig {
        beta2: 0.9,
        weight_decay: 0.0,
        rescale_learning_rate: false,
        hessian_approximation: HessianApproximation::Fisher { examples },
        mean_update: MeanUpdate::Normalized,
        ..IvonConfig::new(1e16)
    }
}

fn hessian(ivon: &Ivon<Pair>) -> Vec<f64> {
    let state = ivon.state();
    let of = |path: &str| state.parameters[path].hessian.iter().collect::<Vec<_>>();
    [of("first"), of("second")].concat()
}

#[test]
fn without_noise_the_normalised_update_is_adams() {
    let (beta1, beta2, rate) = (0.9f64, 0.9f64, 0.1);
    let quadratic = Quadratic::small();
    let mut mean = Pair::small(DType::F64).values();
    let (mut first, mut second) = (vec![0.0; 6], vec![0.0; 6]);
    for step in 1..=5 {
        for i in 0..6 {
            let gradient = quadratic.curvature[i] * (mean[i] - quadratic.target[i]);
            first[i] = beta1 * first[i] + (1.0 - beta1) * gradient;
            second[i] = beta2 * second[i] + (1.0 - beta2) * gradient * gradient;
            let debiased = second[i] / (1.0 - beta2.powi(step));
            mean[i] -= rate * first[i] / (1.0 - beta1.powi(step)) / (debiased.sqrt() + 1e-8);
        }
    }
    // The fifth element starts at its optimum, where noise of 1e-8 decides the sign.
    let found = after(5, noiseless(4.0), DType::F64).mean().values();
    for i in [0, 1, 2, 3, 5] {
        assert!(
            (found[i] - mean[i]).abs() < 1e-5,
            "{}: {}",
            found[i],
            mean[i]
        );
    }
}

#[test]
fn the_clip_radius_is_the_size_of_a_normalised_step() {
    let config = IvonConfig {
        clip_radius: Some(1e-3),
        ..noiseless(4.0)
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    let before = ivon.mean().values();
    let report = ivon
        .step(2.0, |pair| Quadratic::small().evaluate(pair))
        .unwrap();
    // One gradient over its own root mean square is its sign.
    for i in [0, 1, 2, 3, 5] {
        let moved = (ivon.mean().values()[i] - before[i]).abs();
        assert!((moved - 2e-3).abs() < 1e-8, "{moved}");
    }
    assert_eq!(report.clipped_share, 0.0);
}

/// 400 rows of y = θᵀx + noise of standard deviation s, x of a different size in each of six
/// columns.
struct Regression {
    x: Vec<[f64; 6]>,
    y: Vec<f64>,
    variance: f64,
}

/// Numbers from −½ to ½, always the same.
fn uniform_numbers() -> impl FnMut() -> f64 {
    let mut state = 7u64;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }
}

impl Regression {
    fn new() -> Self {
        let mut uniform = uniform_numbers();
        let sizes = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0];
        let x: Vec<[f64; 6]> = (0..400)
            .map(|_| sizes.map(|size| size * uniform()))
            .collect();
        let y = (0..400).map(|_| uniform()).collect();
        Self {
            x,
            y,
            variance: 1.0 / 12.0,
        }
    }

    /// Gradient of the mean of ½ (θᵀx − y)²/s² over some rows.
    fn gradient(&self, theta: &[f64], rows: &[usize]) -> [f64; 6] {
        let mut gradient = [0.0; 6];
        for &row in rows {
            let fit: f64 = self.x[row].iter().zip(theta).map(|(x, t)| x * t).sum();
            for (sum, x) in gradient.iter_mut().zip(self.x[row]) {
                *sum += x * (fit - self.y[row]) / self.variance / rows.len() as f64;
            }
        }
        gradient
    }

    /// The diagonal of that loss's Hessian.
    fn curvature(&self) -> [f64; 6] {
        let mut sums = [0.0; 6];
        for x in &self.x {
            sums.iter_mut()
                .zip(x)
                .for_each(|(sum, x)| *sum += x * x / self.variance / 400.0);
        }
        sums
    }
}

#[test]
fn on_linear_regression_the_average_tends_to_the_diagonal_of_the_hessian() {
    let data = Regression::new();
    let config = IvonConfig {
        beta2: 0.999,
        mean_update: MeanUpdate::Newton,
        ..noiseless(8.0)
    };
    let mut ivon = Ivon::new(config, Pair::new(&[0.0; 6], [2, 2], DType::F64)).unwrap();
    let mut uniform = uniform_numbers();
    for _ in 0..4_000 {
        let rows: Vec<usize> = (0..8)
            .map(|_| ((uniform() + 0.5) * 400.0) as usize)
            .collect();
        ivon.step(0.01, |pair: &Pair| {
            let gradient = data.gradient(&pair.values(), &rows);
            let loss = super::tensor(&gradient[..4], [2, 2], DType::F64) * pair.first.val();
            let rest = super::tensor(&gradient[4..], [2], DType::F64) * pair.second.val();
            let linear = loss.sum() + rest.sum();
            let gradients = burn::optim::GradientsParams::from_grads(linear.backward(), pair);
            Ok::<_, IvonError>((0.0, gradients))
        })
        .unwrap();
    }
    for (found, expected) in hessian(&ivon).iter().zip(data.curvature()) {
        assert!(
            (found / expected - 1.0).abs() < 0.15,
            "{found}, expected {expected}"
        );
    }
    // σ² = 1/(N (h₀ + h)).
    let variance = numbers(&ivon.posterior().variance().second.val())[1];
    let expected = 1.0 / (1e16 * (1.0 + hessian(&ivon)[5]));
    assert!((variance / expected - 1.0).abs() < 1e-12);
}

#[test]
fn what_has_no_curvature_keeps_the_spread_of_the_start() {
    let config = IvonConfig {
        hessian_init: 0.5,
        ..noiseless(4.0)
    };
    let fresh = Ivon::new(config.clone(), Pair::small(DType::F64)).unwrap();
    assert_eq!(fresh.curvature_share(), 0.0);
    assert_eq!(fresh.hessian_quantiles(&[0.0, 1.0]), [1.0, 1.0]);
    let flat = Quadratic {
        curvature: vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
        target: vec![0.0, 0.0, 0.0, 1.4, 1.5, 1.6],
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    ivon.step(0.0, |pair| flat.evaluate(pair)).unwrap();
    // Three gradients of −1: h = 4 · 1 beside the floor of 0.5; three of 0.
    let share = (1.0 - 0.5 / 4.5) / 2.0;
    assert!((ivon.curvature_share() - share).abs() < 1e-6);
    let quantiles = ivon.hessian_quantiles(&[0.0, 1.0]);
    assert!((quantiles[0] - 1.0).abs() < 1e-6 && (quantiles[1] - 9.0).abs() < 1e-5);
}

#[test]
fn no_element_moves_farther_than_its_own_deviations_allow() {
    // σ = 1/√(50 · (h + 0.01)) is 0.2 at first; a radius of 0.5 · 0.1 σ stops every element.
    let config = IvonConfig {
        clip_deviations: Some(0.1),
        clip_radius: None,
        beta2: 1.0,
        ..super::lively()
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    let before = ivon.mean().values();
    let report = ivon
        .step(10.0, |pair| Quadratic::small().evaluate(pair))
        .unwrap();
    let sigma = 1.0 / (50.0f64 * 0.51).sqrt();
    assert_eq!(report.clipped_share, 1.0);
    for (now, before) in ivon.mean().values().iter().zip(before) {
        let moved = (now - before).abs();
        assert!((moved / (0.1 * sigma) - 1.0).abs() < 1e-12, "{moved}");
    }
}

#[test]
fn a_restored_average_goes_on_as_if_nothing_had_happened() {
    let config = IvonConfig {
        effective_sample_size: 50.0,
        ..noiseless(4.0)
    };
    let whole = after(6, config.clone(), DType::F32);
    let half = after(3, config.clone(), DType::F32);
    let mut resumed = Ivon::new(config, half.mean().clone()).unwrap();
    resumed.restore(&half.state()).unwrap();
    for _ in 0..3 {
        resumed
            .step(0.1, |pair| Quadratic::small().evaluate(pair))
            .unwrap();
    }
    assert_eq!(everything(&resumed), everything(&whole));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let refused = |config: IvonConfig| config.validate().unwrap_err().to_string();
    assert_eq!(
        refused(IvonConfig {
            hessian_approximation: HessianApproximation::Price,
            ..noiseless(1.0)
        }),
        "the normalised update of the mean needs the Hessian approximation `fisher`"
    );
    assert_eq!(
        refused(IvonConfig {
            beta2: 1.0,
            ..noiseless(1.0)
        }),
        "`beta2` must be below 1 with fisher, found 1"
    );
    assert_eq!(
        refused(noiseless(0.0)),
        "`examples` must be above 0, found 0"
    );
    assert_eq!(
        refused(IvonConfig {
            clip_deviations: Some(0.0),
            ..noiseless(1.0)
        }),
        "`clip_deviations` must be above 0 (or none), found 0"
    );
}
