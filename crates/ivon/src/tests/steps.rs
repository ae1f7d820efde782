//! What a step does and does not touch, and what its report says.

use burn::optim::GradientsParams;
use burn::tensor::DType;

use super::{Pair, Quadratic, after, everything, lively, numbers};
use crate::{
    GroupLearningRate, HessianApproximation, Ivon, IvonConfig, IvonError, ParameterGroup,
    PathPattern,
};

#[test]
fn a_failing_closure_leaves_mean_and_state_as_they_were() {
    let mut ivon = after(
        3,
        IvonConfig {
            mc_samples: 2,
            ..lively()
        },
        DType::F32,
    );
    let before = everything(&ivon);
    let mut calls = 0;
    let failed: Result<_, IvonError> = ivon.step(0.1, |pair| {
        calls += 1;
        if calls == 2 {
            Err(IvonError::ForeignDraw)
        } else {
            Quadratic::small().evaluate(pair)
        }
    });
    assert!(matches!(failed, Err(IvonError::ForeignDraw)));
    assert_eq!(everything(&ivon), before);
    // And the step taken after it is the one that would have been taken.
    let mut undisturbed = after(
        3,
        IvonConfig {
            mc_samples: 2,
            ..lively()
        },
        DType::F32,
    );
    for ivon in [&mut ivon, &mut undisturbed] {
        ivon.step(0.1, |pair| Quadratic::small().evaluate(pair))
            .unwrap();
    }
    assert_eq!(everything(&ivon), everything(&undisturbed));
}

#[test]
fn the_explicit_form_equals_the_closure_form() {
    for hessian_approximation in [HessianApproximation::Price, HessianApproximation::GradSq] {
        let config = IvonConfig {
            mc_samples: 3,
            hessian_approximation,
            ..lively()
        };
        let closure = after(4, config.clone(), DType::F32);
        let mut explicit = Ivon::new(config, Pair::small(DType::F32)).unwrap();
        for _ in 0..4 {
            for number in 0..3 {
                let draw = explicit.draw();
                assert_eq!(draw.number(), number);
                let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
                explicit.observe(draw, loss, gradients).unwrap();
            }
            explicit.apply(0.1).unwrap();
        }
        assert_eq!(everything(&explicit), everything(&closure));
    }
}

#[test]
fn draws_may_come_back_from_other_threads() {
    let config = IvonConfig {
        mc_samples: 2,
        ..lively()
    };
    let closure = after(1, config.clone(), DType::F32);
    let mut ivon = Ivon::new(config, Pair::small(DType::F32)).unwrap();
    let draws = [ivon.draw(), ivon.draw()];
    let workers = draws.map(|mut draw| {
        std::thread::spawn(move || {
            let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
            draw.accumulate(loss, gradients, 1.0).unwrap();
            draw
        })
    });
    for worker in workers {
        ivon.observe_accumulated(worker.join().unwrap()).unwrap();
    }
    ivon.apply(0.1).unwrap();
    assert_eq!(everything(&ivon), everything(&closure));
}

/// Two halves of a batch: the quadratic with its curvatures times 2·`share` each.
fn halves(share: f64) -> [(Quadratic, f64); 2] {
    let scaled = |factor: f64| {
        let whole = Quadratic::small();
        Quadratic {
            curvature: whole.curvature.iter().map(|c| c * factor).collect(),
            ..whole
        }
    };
    // share·a + (1 − share)·b = 1 with a = 0.5.
    [
        (scaled(0.5), share),
        (scaled((1.0 - 0.5 * share) / (1.0 - share)), 1.0 - share),
    ]
}

#[test]
fn micro_batches_of_unequal_size_at_one_draw_count_by_their_weights() {
    for hessian_approximation in [HessianApproximation::Price, HessianApproximation::GradSq] {
        let config = IvonConfig {
            hessian_approximation,
            ..lively()
        };
        let whole = after(1, config.clone(), DType::F64);
        let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
        let mut draw = ivon.draw();
        for (part, share) in halves(0.25) {
            let (loss, gradients) = part.evaluate(draw.module()).unwrap();
            draw.accumulate(loss, gradients, 12.0 * share).unwrap();
        }
        ivon.observe_accumulated(draw).unwrap();
        ivon.apply(0.1).unwrap();
        for (found, expected) in ivon.mean().values().iter().zip(whole.mean().values()) {
            assert!((found - expected).abs() < 1e-12);
        }
        let hessian = |ivon: &Ivon<Pair>| {
            ivon.state().parameters["first"]
                .hessian
                .iter()
                .collect::<Vec<_>>()
        };
        for (found, expected) in hessian(&ivon).iter().zip(hessian(&whole)) {
            assert!((found - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn a_parameter_without_a_gradient_is_left_alone() {
    let mut ivon = after(2, lively(), DType::F32);
    let before = ivon.state();
    let second = numbers(&ivon.mean().second.val());
    let report = ivon
        .step(0.1, |pair: &Pair| {
            let loss = pair.first.val().square().sum();
            Ok::<_, IvonError>((
                loss.clone(),
                GradientsParams::from_grads(loss.backward(), pair),
            ))
        })
        .unwrap();
    let now = ivon.state();
    assert_eq!(now.parameters["second"], before.parameters["second"]);
    assert_eq!(numbers(&ivon.mean().second.val()), second);
    assert_ne!(now.parameters["first"], before.parameters["first"]);
    assert!(report.update_size > 0.0);
}

#[test]
fn frozen_parameters_are_neither_drawn_nor_updated() {
    let mut pair = Pair::small(DType::F32);
    pair.second = pair.second.set_require_grad(false);
    let frozen = numbers(&pair.second.val());
    let mut ivon = Ivon::new(lively(), pair).unwrap();
    ivon.step(0.1, |pair: &Pair| {
        assert_eq!(numbers(&pair.second.val()), frozen);
        Quadratic::small().evaluate(pair)
    })
    .unwrap();
    assert_eq!(numbers(&ivon.mean().second.val()), frozen);
    assert!(!ivon.mean().second.is_require_grad() && ivon.mean().first.is_require_grad());
    let posterior = ivon.posterior();
    assert_eq!(
        numbers(&posterior.draw(0, 0, 1.0).unwrap().second.val()),
        frozen
    );
    assert_eq!(numbers(&posterior.variance().second.val()), [0.0, 0.0]);
    assert_eq!(posterior.variances().keys().collect::<Vec<_>>(), ["first"]);
}

#[test]
fn a_group_has_its_own_learning_rate_decay_and_initial_hessian() {
    // Only decay acts: with loss 0·θ the direction is δ m/(h + δ), and c̄ = 0 leaves h =
    // β₂-decayed.
    let group = ParameterGroup {
        learning_rate: Some(GroupLearningRate::Fixed(0.5)),
        weight_decay: Some(2.0),
        hessian_init: Some(4.0),
        ..ParameterGroup::new(PathPattern::Exact("second".into()))
    };
    let config = IvonConfig {
        weight_decay: 1.0,
        beta2: 1.0,
        rescale_learning_rate: false,
        groups: vec![group],
        ..IvonConfig::new(10.0)
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    let flat = Quadratic {
        curvature: vec![0.0; 6],
        target: vec![0.0; 6],
    };
    ivon.step(0.1, |pair| flat.evaluate(pair)).unwrap();
    let expected = [0.1, 0.2, 0.3, 0.4]
        .map(|m| m - 0.1 * m / 2.0)
        .into_iter()
        .chain([0.5, 0.6].map(|m| m - 0.5 * 2.0 * m / 6.0));
    for (found, expected) in ivon.mean().values().iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-14,
            "{found}, expected {expected}"
        );
    }
    let variances = ivon.posterior().variances();
    assert!((numbers(&variances["second"])[0] - 1.0 / 60.0).abs() < 1e-14);
    assert!((numbers(&variances["first"])[0] - 1.0 / 20.0).abs() < 1e-14);
}

#[test]
fn a_factor_follows_the_schedule_and_rescaling_uses_the_groups_own_hessian() {
    let moved = |learning_rate, hessian_init, rescale_learning_rate| {
        let group = ParameterGroup {
            learning_rate,
            hessian_init,
            ..ParameterGroup::new(PathPattern::Suffix("second".into()))
        };
        let config = IvonConfig {
            weight_decay: 0.0,
            beta2: 1.0,
            rescale_learning_rate,
            groups: vec![group],
            ..IvonConfig::new(1e12)
        };
        let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
        let before = ivon.mean().values()[5];
        ivon.step(0.1, |pair| Quadratic::small().evaluate(pair))
            .unwrap();
        before - ivon.mean().values()[5]
    };
    // Gradient 1·(0.6 + 0.5) = 1.1; noise of 1e-6 aside.
    for (rate, hessian, rescale, expected) in [
        (None, None, false, 0.11),
        (Some(GroupLearningRate::Factor(2.0)), None, false, 0.22),
        (
            Some(GroupLearningRate::Factor(2.0)),
            Some(4.0),
            false,
            0.055,
        ),
        (Some(GroupLearningRate::Factor(2.0)), Some(4.0), true, 0.22),
        (Some(GroupLearningRate::Fixed(0.3)), None, false, 0.33),
    ] {
        let found = moved(rate, hessian, rescale);
        assert!(
            (found - expected).abs() < 1e-5,
            "{found}, expected {expected}"
        );
    }
}

#[test]
fn gradient_norm_clipping_shortens_the_gradient_and_leaves_the_hessian_alone() {
    let plain = after(
        1,
        IvonConfig {
            clip_radius: None,
            ..lively()
        },
        DType::F64,
    );
    let clipped = after(
        1,
        IvonConfig {
            clip_radius: None,
            gradient_clip_norm: Some(0.5),
            ..lively()
        },
        DType::F64,
    );
    let momentum = |ivon: &Ivon<Pair>| -> Vec<f64> {
        let state = ivon.state();
        ["first", "second"]
            .iter()
            .flat_map(|path| state.parameters[*path].momentum.iter().collect::<Vec<_>>())
            .collect()
    };
    let norm = momentum(&clipped).iter().map(|g| g * g).sum::<f64>().sqrt() / 0.1;
    assert!((norm - 0.5).abs() < 1e-12, "{norm}");
    for (a, b) in momentum(&clipped).iter().zip(momentum(&plain)) {
        assert!(a * b >= 0.0 && a.abs() < b.abs());
    }
    assert_eq!(
        clipped.state().parameters["first"].hessian,
        plain.state().parameters["first"].hessian
    );
    // A limit above the norm changes nothing.
    let loose = after(
        1,
        IvonConfig {
            clip_radius: None,
            gradient_clip_norm: Some(1e9),
            ..lively()
        },
        DType::F64,
    );
    assert_eq!(loose.mean().values(), plain.mean().values());
}

#[test]
fn the_report_says_what_happened() {
    // Noise of 1e-6: gradient c (m − t) = [-0.9, 2.4, -0.85, 0.6, 0, 1.1]; h + δ = 1; radius 1 cuts
    // two of six.
    let config = IvonConfig {
        weight_decay: 0.0,
        beta2: 1.0,
        clip_radius: Some(1.0),
        ..IvonConfig::new(1e12)
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    let report = ivon
        .step(0.1, |pair| Quadratic::small().evaluate(pair))
        .unwrap();
    let gradient = [-0.9f64, 2.4, -0.85, 0.6, 0.0, 1.1];
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let size = (gradient
        .iter()
        .map(|g| (0.1 * g.clamp(-1.0, 1.0)).powi(2))
        .sum::<f64>()
        / 6.0)
        .sqrt();
    let loss = [
        0.9f64 * 0.9,
        2.0 * 1.2 * 1.2,
        0.5 * 1.7 * 1.7,
        1.5 * 0.4 * 0.4,
        0.0,
        1.1 * 1.1,
    ]
    .iter()
    .sum::<f64>()
        / 2.0;
    assert_eq!((report.step, report.draws), (1, 1));
    for (found, expected) in [
        (report.loss, loss),
        (report.gradient_norm, norm),
        (report.update_size, size),
        (report.clipped_share, 2.0 / 6.0),
        (report.hessian_ratio, 1.0),
    ] {
        assert!(
            (found - expected).abs() < 1e-5,
            "{found}, expected {expected}"
        );
    }
}

#[test]
fn the_quantiles_of_the_hessian_are_relative_to_its_start() {
    let ivon = Ivon::new(lively(), Pair::small(DType::F32)).unwrap();
    assert_eq!(ivon.hessian_quantiles(&[0.0, 0.5, 1.0]), [1.0, 1.0, 1.0]);
    let quantiles = after(5, lively(), DType::F32).hessian_quantiles(&[0.0, 0.5, 1.0]);
    assert!(
        quantiles[0] < quantiles[1] && quantiles[1] < quantiles[2],
        "{quantiles:?}"
    );
}
