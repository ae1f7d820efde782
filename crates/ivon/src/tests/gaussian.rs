//! The law behind it all: on a quadratic loss the posterior is Gaussian and known.
//!
//! IVON minimises N·E(loss) + KL to the prior N(0, 1/(N δ)). With loss ½ Σ c (θ − t)² that is
//! solved by mean c t/(c + δ) and precision N (c + δ), so h = c.

use burn::module::Module;
use burn::tensor::{DType, Tensor};

use super::{Pair, Quadratic, numbers};
use crate::{HessianApproximation, Ivon, IvonConfig, NoiseSource};

#[test]
fn the_posterior_of_a_quadratic_loss_is_recovered() {
    let (ess, decay) = (100.0, 0.25);
    let quadratic = Quadratic::small();
    let config = IvonConfig {
        weight_decay: decay,
        beta2: 0.999,
        mc_samples: 4,
        noise: NoiseSource::Host { seed: 3 },
        ..IvonConfig::new(ess)
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F32)).unwrap();
    let (mut means, mut variances, mut count) = ([0.0; 6], [0.0; 6], 0.0);
    for step in 0..12_000 {
        let rate = if step < 6_000 { 0.1 } else { 0.01 };
        ivon.step(rate, |pair| quadratic.evaluate(pair)).unwrap();
        if step >= 8_000 && step % 10 == 0 {
            let variance = ivon.posterior().variance();
            means
                .iter_mut()
                .zip(ivon.mean().values())
                .for_each(|(sum, value)| *sum += value);
            variances
                .iter_mut()
                .zip(variance.values())
                .for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
    }
    for (index, (&curvature, &target)) in quadratic
        .curvature
        .iter()
        .zip(&quadratic.target)
        .enumerate()
    {
        let mean = curvature * target / (curvature + decay);
        let variance = 1.0 / (ess * (curvature + decay));
        let (found_mean, found_variance) = (means[index] / count, variances[index] / count);
        assert!(
            (found_mean - mean).abs() < 0.2 * variance.sqrt(),
            "mean {index}: {found_mean}, expected {mean}"
        );
        assert!(
            (found_variance / variance - 1.0).abs() < 0.1,
            "variance {index}: {found_variance}, expected {variance}"
        );
    }
}

#[test]
fn with_gradsq_the_hessian_tends_to_the_scaled_squared_gradient() {
    // At the optimum without decay ĝ = c ε, so h = N c² σ² = c²/h, which h = c solves.
    let quadratic = Quadratic::small();
    let config = IvonConfig {
        weight_decay: 0.0,
        beta2: 0.998,
        mc_samples: 2,
        hessian_approximation: HessianApproximation::GradSq,
        ..IvonConfig::new(100.0)
    };
    let mut ivon = Ivon::new(config, Pair::new(&quadratic.target, [2, 2], DType::F32)).unwrap();
    let mut sums = [0.0; 6];
    for step in 0..8_000 {
        ivon.step(0.01, |pair| quadratic.evaluate(pair)).unwrap();
        if step >= 4_000 && step % 10 == 0 {
            let state = ivon.state();
            let hessian = ["first", "second"]
                .iter()
                .flat_map(|path| state.parameters[*path].hessian.iter().collect::<Vec<_>>());
            sums.iter_mut()
                .zip(hessian)
                .for_each(|(sum, h)| *sum += h / 400.0);
        }
    }
    for (hessian, curvature) in sums.iter().zip(&quadratic.curvature) {
        assert!(
            (hessian / curvature - 1.0).abs() < 0.15,
            "{hessian}, expected {curvature}"
        );
    }
}

#[test]
fn draws_have_the_variance_that_the_posterior_states_times_the_scale() {
    let ivon = super::after(20, super::lively(), DType::F32);
    let posterior = ivon.posterior();
    let (mean, variance) = (posterior.mean().values(), posterior.variance().values());
    let count = 4_000;
    for scale in [1.0, 0.25] {
        let mut sums = vec![(0.0, 0.0); mean.len()];
        for number in 0..count {
            let drawn = posterior.draw(7, number, scale).unwrap().values();
            for ((sum, drawn), mean) in sums.iter_mut().zip(drawn).zip(&mean) {
                sum.0 += drawn - mean;
                sum.1 += (drawn - mean) * (drawn - mean);
            }
        }
        for ((first, second), variance) in sums.iter().zip(&variance) {
            let n = count as f64;
            // Five standard errors: √(1/n) of a mean, √(2/n) of a variance.
            assert!((first / n).abs() < 5.0 * (scale * variance / n).sqrt());
            assert!(
                (second / n / (scale * variance) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
                "{}",
                second / n / (scale * variance)
            );
        }
    }
}

#[test]
fn the_variance_is_that_of_the_formula_and_its_module_lies_off_autodiff() {
    let config = super::lively();
    let ivon = super::after(5, config.clone(), DType::F64);
    let variance = ivon.posterior().variance();
    let hessian: Vec<f64> = ivon.state().parameters["second"].hessian.iter().collect();
    for (found, h) in numbers(&variance.second.val()).iter().zip(hessian) {
        let expected = 1.0 / (config.effective_sample_size * (h + config.weight_decay));
        assert!((found / expected - 1.0).abs() < 1e-14);
    }
    assert!(
        variance
            .devices()
            .iter()
            .all(|device| !device.is_autodiff())
    );
    let _: Tensor<2> = variance.first.val();
}
