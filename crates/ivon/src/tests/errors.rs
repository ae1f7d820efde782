//! Each error is raised by what it speaks of, says what it found, and leaves everything as it was.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

use super::{Pair, Quadratic, after, everything, lively, tensor};
use crate::{Ivon, IvonConfig, IvonError, ParameterGroup, PathPattern};

/// Gradients that are `values` at `second` and 0 at `first`.
fn gradients(pair: &Pair, values: &[f64]) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    gradients.register(
        pair.first.id,
        Tensor::<2>::zeros([2, 2], &pair.first.device().inner()),
    );
    gradients.register(
        pair.second.id,
        tensor(values, [values.len()], DType::F32).inner(),
    );
    gradients
}

fn refused(loss: f64, values: &[f64]) -> String {
    let mut ivon = after(2, lively(), DType::F32);
    let before = everything(&ivon);
    let error = ivon
        .step(0.1, |pair: &Pair| {
            Ok::<_, IvonError>((loss, gradients(pair, values)))
        })
        .unwrap_err();
    assert_eq!(everything(&ivon), before);
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_nothing_is_updated() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30] {
        assert_eq!(
            refused(1.0, &[0.0, bad]),
            "the gradient of `second` is not finite at step 3, nothing was updated"
        );
    }
}

#[test]
fn a_loss_that_is_not_finite_is_refused_and_nothing_is_updated() {
    assert_eq!(
        refused(f64::NAN, &[0.0, 0.0]),
        "the loss is NaN at step 3, nothing was updated"
    );
}

#[test]
fn an_update_that_is_not_finite_is_named_and_nothing_is_updated() {
    let mut ivon = Ivon::new(
        IvonConfig {
            hessian_init: 1e-30,
            weight_decay: 0.0,
            ..IvonConfig::new(1e30)
        },
        Pair::small(DType::F32),
    )
    .unwrap();
    let before = everything(&ivon);
    let error = ivon
        .step(0.1, |pair: &Pair| {
            Ok::<_, IvonError>((0.0, gradients(pair, &[0.0, 1e18])))
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the update of `second` is not finite at step 1, nothing was updated"
    );
    assert_eq!(everything(&ivon), before);
}

#[test]
fn a_module_without_a_trainable_parameter_is_refused() {
    for module in [
        Pair::small(DType::F32).no_grad(),
        Pair::small(DType::F32).valid(),
    ] {
        let error = Ivon::new(lively(), module).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the module has no parameter that keeps gradients"
        );
        assert!(error.hint().unwrap().contains("autodiff"));
    }
}

#[test]
fn a_group_that_matches_nothing_is_refused() {
    let config = IvonConfig {
        groups: vec![ParameterGroup::new(PathPattern::Prefix("head".into()))],
        ..lively()
    };
    let message = Ivon::new(config, Pair::small(DType::F32))
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "the parameter group `head…` matches none of the 2 trainable parameters"
    );
}

#[test]
fn a_learning_rate_out_of_range_is_refused_and_the_observations_stay() {
    let mut ivon = after(1, lively(), DType::F32);
    let draw = ivon.draw();
    let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
    ivon.observe(draw, loss, gradients).unwrap();
    for rate in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            ivon.apply(rate),
            Err(IvonError::LearningRate { .. })
        ));
    }
    assert!(ivon.apply(0.1).is_ok());
}

#[test]
fn a_step_without_gradients_is_refused() {
    let mut ivon = after(1, lively(), DType::F32);
    let message = "no gradient was observed for any of the 2 trainable parameters";
    assert_eq!(ivon.apply(0.1).unwrap_err().to_string(), message);
    let draw = ivon.draw();
    assert_eq!(
        ivon.observe_accumulated(draw).unwrap_err().to_string(),
        message
    );
    let empty = ivon.step(0.1, |_| Ok::<_, IvonError>((0.0, GradientsParams::new())));
    assert_eq!(empty.unwrap_err().to_string(), message);
}

#[test]
fn a_weight_that_is_not_positive_is_refused() {
    let mut draw = after(1, lively(), DType::F32).draw();
    for weight in [0.0, -1.0, f64::NAN] {
        assert!(matches!(
            draw.accumulate(0.0, GradientsParams::new(), weight),
            Err(IvonError::Weight { .. })
        ));
    }
}

#[test]
fn a_gradient_of_another_shape_is_refused_with_both() {
    let mut draw = after(1, lively(), DType::F32).draw();
    let wrong = gradients(draw.module(), &[0.0, 0.0, 0.0]);
    let message = draw.accumulate(0.0, wrong, 1.0).unwrap_err().to_string();
    assert_eq!(
        message,
        "the gradient of `second` has shape [3], expected [2]"
    );
}

#[test]
fn a_draw_from_before_the_last_step_is_refused() {
    let mut ivon = after(1, lively(), DType::F32);
    let draw = ivon.draw();
    let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
    ivon.step(0.1, |pair| Quadratic::small().evaluate(pair))
        .unwrap();
    let message = ivon.observe(draw, loss, gradients).unwrap_err().to_string();
    assert_eq!(
        message,
        "the draw was made after 1 steps, and 2 have been taken since the start"
    );
}

#[test]
fn a_draw_of_another_optimizer_is_refused() {
    let (mut one, mut other) = (
        after(1, lively(), DType::F32),
        after(1, lively(), DType::F32),
    );
    let draw = other.draw();
    let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
    assert!(matches!(
        one.observe(draw, loss, gradients),
        Err(IvonError::ForeignDraw)
    ));
}

#[test]
fn the_closure_form_does_not_mix_with_draws_that_wait() {
    let mut ivon = after(1, lively(), DType::F32);
    let draw = ivon.draw();
    let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
    ivon.observe(draw, loss, gradients).unwrap();
    let error = ivon
        .step(0.1, |pair| Quadratic::small().evaluate(pair))
        .unwrap_err();
    assert_eq!(error.to_string(), "1 observed draws wait for `apply`");
    assert!(ivon.apply(0.1).is_ok());
}
