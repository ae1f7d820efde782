//! Draws: repeatable by address, whatever else was drawn, and at scale 0 the mean.

use std::collections::BTreeMap;

use burn::tensor::DType;

use super::{Pair, after, lively, numbers};
use crate::{Ivon, IvonConfig, IvonError, NoiseSource, Posterior};

#[test]
fn a_draw_at_scale_0_is_the_mean() {
    let posterior = after(3, lively(), DType::F32).posterior();
    assert_eq!(
        posterior.draw(1, 0, 0.0).unwrap().values(),
        posterior.mean().values()
    );
    assert_ne!(
        posterior.draw(1, 0, 1.0).unwrap().values(),
        posterior.mean().values()
    );
}

#[test]
fn a_posterior_draw_is_named_by_seed_and_number() {
    let posterior = after(3, lively(), DType::F32).posterior();
    let draw = |seed, number| posterior.draw(seed, number, 1.0).unwrap().values();
    assert_eq!(draw(1, 2), draw(1, 2));
    assert_ne!(draw(1, 2), draw(1, 3));
    assert_ne!(draw(1, 2), draw(2, 2));
}

#[test]
fn the_noise_of_a_parameter_does_not_depend_on_what_else_is_trained() {
    let noise = |pair: Pair| {
        numbers(
            &Ivon::new(lively(), pair)
                .unwrap()
                .draw()
                .module()
                .second
                .val(),
        )
    };
    let mut alone = Pair::small(DType::F32);
    alone.first = alone.first.set_require_grad(false);
    assert_eq!(noise(Pair::small(DType::F32)), noise(alone));
}

#[test]
fn a_training_draw_is_named_by_its_step_and_number() {
    let mut ivon = after(3, lively(), DType::F32);
    let (zero, one) = (ivon.draw().module().values(), ivon.draw().module().values());
    assert_ne!(zero, one);
    assert_eq!(ivon.draw_numbered(1).module().values(), one);
    ivon.discard();
    assert_eq!(ivon.draw().module().values(), zero);
}

#[test]
fn supplied_normals_are_scaled_by_the_standard_deviation() {
    let config = IvonConfig {
        hessian_init: 3.0,
        weight_decay: 1.0,
        ..IvonConfig::new(25.0)
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    // σ = 1/√(25·4) = 0.1
    let supply = |_: &str, shape: &[usize]| vec![2.0; shape.iter().product()];
    let expected: Vec<f64> = ivon.mean().values().iter().map(|mean| mean + 0.2).collect();
    let close = |found: Vec<f64>, expected: &[f64]| {
        found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-14)
    };
    assert!(close(
        ivon.draw_from(supply).unwrap().module().values(),
        &expected
    ));
    let posterior = ivon.posterior();
    assert!(close(
        posterior.draw_from(1.0, supply).unwrap().values(),
        &expected
    ));
    let expected: Vec<f64> = ivon.mean().values().iter().map(|mean| mean + 0.1).collect();
    assert!(close(
        posterior.draw_from(0.25, supply).unwrap().values(),
        &expected
    ));
}

#[test]
fn too_few_normals_are_refused_with_the_path() {
    let mut ivon = after(1, lively(), DType::F32);
    let error = ivon
        .draw_from(|path, _| vec![0.0; if path == "first" { 4 } else { 1 }])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 normals were supplied for `second`, expected 2"
    );
}

#[test]
fn noise_of_the_device_has_the_stated_spread_and_leaves_a_run_working() {
    let config = IvonConfig {
        noise: NoiseSource::Device,
        ..lively()
    };
    let mut ivon = Ivon::new(config, Pair::new(&vec![0.0; 4001], [50, 80], DType::F32)).unwrap();
    let sigma = ivon.config().initial_standard_deviation();
    for drawn in [
        ivon.draw().module().values(),
        ivon.posterior().draw_on_device(1.0).unwrap().values(),
    ] {
        let variance = drawn.iter().map(|x| x * x).sum::<f64>() / drawn.len() as f64;
        assert!((variance / (sigma * sigma) - 1.0).abs() < 5.0 * (2.0f64 / 4001.0).sqrt());
    }
}

#[test]
fn a_scale_out_of_range_is_refused() {
    let posterior = after(1, lively(), DType::F32).posterior();
    for scale in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            posterior.draw(0, 0, scale),
            Err(IvonError::Scale { .. })
        ));
    }
}

#[test]
fn a_posterior_rebuilt_from_mean_and_variances_draws_the_same() {
    let posterior = after(3, lively(), DType::F32).posterior();
    let rebuilt = Posterior::new(
        Pair::new(&posterior.mean().values(), [2, 2], DType::F32),
        &posterior.variances(),
    )
    .unwrap();
    assert_eq!(
        rebuilt.draw(4, 2, 0.5).unwrap().values(),
        posterior.draw(4, 2, 0.5).unwrap().values()
    );
    assert_eq!(rebuilt.variance().values(), posterior.variance().values());
}

#[test]
fn variances_that_do_not_fit_are_refused_by_name() {
    let mean = || Pair::small(DType::F32);
    let with = |path: &str, values: &[f64]| {
        let variances = BTreeMap::from([(
            path.to_string(),
            super::tensor(values, [values.len()], DType::F32).inner(),
        )]);
        Posterior::new(mean(), &variances).unwrap_err().to_string()
    };
    assert_eq!(
        with("third", &[1.0]),
        "the module has no such parameter to restore as `third`"
    );
    assert_eq!(
        with("second", &[1.0]),
        "the variance of `second` has 1 elements, expected 2"
    );
    assert_eq!(
        with("second", &[1.0, -1.0]),
        "the variance of `second` holds -1, expected finite values of at least 0"
    );
    // A parameter without a variance is fixed.
    let variances = BTreeMap::from([(
        "second".to_string(),
        super::tensor(&[1.0, 1.0], [2], DType::F32).inner(),
    )]);
    let drawn = Posterior::new(mean(), &variances)
        .unwrap()
        .draw(0, 0, 1.0)
        .unwrap();
    assert_eq!(numbers(&drawn.first.val()), numbers(&mean().first.val()));
    assert_ne!(numbers(&drawn.second.val()), numbers(&mean().second.val()));
}
