//! A saved state continues as if nothing had happened, and a wrong one is refused by name.

use std::collections::HashMap;

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use super::{Pair, Quadratic, after, everything, lively, param};
use crate::state::{ParameterState, Values};
use crate::{Ivon, IvonConfig, IvonError, IvonState};

fn restored(state: &IvonState, config: IvonConfig) -> Result<(), IvonError> {
    Ivon::new(config, Pair::small(DType::F32))
        .unwrap()
        .restore(state)
}

#[test]
fn a_resumed_run_takes_the_same_steps_to_the_bit() {
    for kind in [DType::F32, DType::F64, DType::BF16] {
        let mut whole = after(
            5,
            IvonConfig {
                mc_samples: 2,
                ..lively()
            },
            kind,
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        whole.state().save(&path).unwrap();
        let mean = Pair::new(&whole.mean().values(), [2, 2], kind);
        let mut resumed = Ivon::new(whole.config().clone(), mean).unwrap();
        resumed.restore(&IvonState::load(&path).unwrap()).unwrap();
        assert_eq!(everything(&resumed), everything(&whole));
        for _ in 0..7 {
            let [a, b] = [&mut whole, &mut resumed].map(|ivon| {
                ivon.step(0.1, |pair| Quadratic::small().evaluate(pair))
                    .unwrap()
            });
            assert_eq!(a, b);
        }
        assert_eq!(everything(&resumed), everything(&whole));
        assert_eq!(resumed.steps(), 12);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }
}

#[test]
fn the_state_survives_its_bytes() {
    let state = after(3, lively(), DType::F64).state();
    assert_eq!(
        IvonState::from_bytes(&state.to_bytes().unwrap()).unwrap(),
        state
    );
}

#[test]
fn other_settings_are_refused_and_each_is_named_with_both_values() {
    let state = after(3, lively(), DType::F32).state();
    let other = IvonConfig {
        effective_sample_size: 60.0,
        clip_radius: None,
        ..lively()
    };
    let error = restored(&state, other.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the saved state has other settings: `clip_radius` was 0.5, here null; `effective_sample_size` was 50.0, here 60.0"
    );
    assert!(error.hint().unwrap().contains("on purpose"));
    // On purpose it goes.
    assert!(
        restored(
            &IvonState {
                config: other.clone(),
                ..state
            },
            other
        )
        .is_ok()
    );
}

#[test]
fn a_parameter_too_few_or_too_many_is_named() {
    let state = after(1, lively(), DType::F32).state();
    let mut short = state.clone();
    let taken = short.parameters.remove("second").unwrap();
    assert!(
        matches!(restored(&short, lively()).unwrap_err(), IvonError::StateMissing { path } if path == "second")
    );
    let mut long = state;
    long.parameters.insert("third".into(), taken);
    assert!(
        matches!(restored(&long, lively()).unwrap_err(), IvonError::UnknownParameter { path } if path == "third")
    );
}

#[test]
fn another_shape_or_type_is_named_with_both() {
    let mut state = after(1, lively(), DType::F32).state();
    state.parameters.get_mut("first").unwrap().shape = vec![4, 1];
    let message = restored(&state, lively()).unwrap_err().to_string();
    assert_eq!(
        message,
        "the saved state of `first` has shape [4, 1], expected [2, 2]"
    );
    let wide = after(1, lively(), DType::F64).state();
    assert_eq!(
        restored(&wide, lively()).unwrap_err().to_string(),
        "the saved state of `first` is f64, expected f32"
    );
}

#[test]
fn a_value_that_no_run_leaves_is_named() {
    let spoilt = |momentum: f32, hessian: f32| {
        let mut state = after(1, lively(), DType::F32).state();
        let second = ParameterState {
            shape: vec![2],
            momentum: Values::F32(vec![0.0, momentum]),
            hessian: Values::F32(vec![hessian, 1.0]),
        };
        state.parameters.insert("second".into(), second);
        restored(&state, lively()).unwrap_err().to_string()
    };
    assert_eq!(
        spoilt(f32::NAN, 1.0),
        "the saved momentum of `second` holds NaN, expected finite numbers"
    );
    assert_eq!(
        spoilt(0.0, -0.5),
        "the saved hessian of `second` holds -0.5, expected finite numbers above −δ"
    );
}

#[test]
fn bytes_that_are_no_state_are_refused_with_the_reason() {
    let good = after(1, lively(), DType::F32).state().to_bytes().unwrap();
    for cut in [0, 7, 40, good.len() - 1] {
        assert!(
            matches!(
                IvonState::from_bytes(&good[..cut]),
                Err(IvonError::StateFormat { .. })
            ),
            "cut at {cut}"
        );
    }
    let foreign = |metadata: &[(&str, &str)], names: &[&str]| {
        let metadata: HashMap<_, _> = metadata
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let view = || {
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap()
        };
        let bytes =
            safetensors::serialize(names.iter().map(|&name| (name, view())), Some(metadata))
                .unwrap();
        IvonState::from_bytes(&bytes).unwrap_err().to_string()
    };
    let config = serde_json::to_string(&lively()).unwrap();
    let full = [
        ("format", "ivon-state"),
        ("version", "1"),
        ("step", "3"),
        ("config", config.as_str()),
    ];
    let message = |reason: &str| format!("this is not a saved IVON state: {reason}");
    assert_eq!(foreign(&[], &["a"]), message("its metadata lack `format`"));
    assert_eq!(
        foreign(&[("format", "pt")], &["a"]),
        message("`format` is `pt`, expected `ivon-state`")
    );
    assert_eq!(
        foreign(&[full[0], ("version", "2")], &["a"]),
        message("`version` is `2`, expected `1`")
    );
    assert_eq!(
        foreign(&[full[0], full[1], ("step", "x"), full[3]], &["a"]),
        message("`step` is no whole number")
    );
    assert_eq!(
        foreign(&full, &["a"]),
        message("it has an unexpected tensor `a`")
    );
    assert_eq!(
        foreign(&full, &["a.hessian"]),
        message("it has an unexpected tensor `a.hessian`")
    );
    assert_eq!(
        foreign(&full, &["a.momentum"]),
        "the saved state lacks the parameter `a.hessian`"
    );
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named() {
    let path = "/nowhere/state.safetensors";
    let message = IvonState::load(path).unwrap_err().to_string();
    assert!(
        message.starts_with("could not read `/nowhere/state.safetensors`: "),
        "{message}"
    );
    let message = after(1, lively(), DType::F32)
        .state()
        .save(path)
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("could not write `/nowhere/state.safetensors`: "),
        "{message}"
    );
}

#[test]
fn draws_that_wait_for_their_step_stand_in_the_way_of_a_restore() {
    let mut ivon = after(1, lively(), DType::F32);
    let state = ivon.state();
    let draw = ivon.draw();
    let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
    ivon.observe(draw, loss, gradients).unwrap();
    assert!(matches!(
        ivon.restore(&state),
        Err(IvonError::PendingObservations { count: 1 })
    ));
    ivon.discard();
    assert!(ivon.restore(&state).is_ok());
}

#[test]
fn a_narrow_parameter_keeps_a_wide_state() {
    let ivon = after(2, lively(), DType::BF16);
    assert_eq!(ivon.mean().first.val().dtype(), DType::BF16);
    let state = ivon.state();
    assert!(matches!(state.parameters["first"].hessian, Values::F32(_)));
    assert!(matches!(state.parameters["first"].momentum, Values::F32(_)));
}

#[test]
fn a_slow_hessian_moves_under_a_narrow_parameter() {
    // 1 − β₂ = 1e-5 vanishes in bf16, whose numbers near 0.5 lie 0.002 apart.
    let ivon = after(
        1,
        IvonConfig {
            beta2: 0.99999,
            ..lively()
        },
        DType::BF16,
    );
    assert!(
        ivon.state().parameters["first"]
            .hessian
            .iter()
            .any(|h| h != 0.5 && (h - 0.5).abs() < 1e-3)
    );
}

#[derive(Module, Debug)]
struct Tied {
    one: Param<Tensor<1>>,
    other: Param<Tensor<1>>,
}

#[test]
fn a_tied_parameter_is_drawn_and_updated_once_and_stays_tied() {
    let one = param(&[1.0, 2.0], [2], DType::F32);
    let mut ivon = Ivon::new(
        lively(),
        Tied {
            other: one.clone(),
            one,
        },
    )
    .unwrap();
    let same = |tied: &Tied| {
        assert_eq!(
            super::numbers(&tied.one.val()),
            super::numbers(&tied.other.val())
        )
    };
    ivon.step(0.1, |tied: &Tied| {
        same(tied);
        let loss = (tied.one.val() * tied.other.val()).sum();
        let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), tied);
        Ok::<_, IvonError>((loss, gradients))
    })
    .unwrap();
    same(ivon.mean());
    assert_ne!(super::numbers(&ivon.mean().one.val()), [1.0, 2.0]);
    assert_eq!(ivon.state().parameters.keys().collect::<Vec<_>>(), ["one"]);
}
