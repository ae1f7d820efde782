//! EVON: a step in the basis is that of the formula, made of dense matrices; a basis that is turned
//! takes momentum and Hessian along; and where nothing is turned it is IVON.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

use super::{Pair, after, everything, lively, numbers, tensor};
use crate::state::{SideState, Values};
use crate::symmetric::{departure_from_orthonormal, transposed_product};
use crate::{EigenbasisConfig, Ivon, IvonConfig, IvonError, IvonState, Posterior, Rotation, Sides};

/// Lively settings with a basis that is refreshed every `basis_interval` steps.
fn turning(basis_interval: u64, sides: Sides) -> IvonConfig {
    IvonConfig {
        eigenbasis: Some(EigenbasisConfig {
            sides,
            basis_interval,
            ..EigenbasisConfig::default()
        }),
        ..lively()
    }
}

/// Q of one parameter's rotation as `[n²]` of n; the identity where it has none.
fn q(matrix: &Option<Tensor<2>>, n: usize) -> Vec<f64> {
    let identity = |at| f64::from(u8::from(at / n == at % n));
    matrix
        .as_ref()
        .map_or_else(|| (0..n * n).map(identity).collect(), numbers)
}

/// Q_L ⊗ Q_R `[(mn)²]`, which makes the weights of a matrix `[m, n]`, row by row, of its
/// coordinates.
pub fn kronecker(rotation: &Rotation, [m, n]: [usize; 2]) -> Vec<f64> {
    let (left, right) = (q(&rotation.left, m), q(&rotation.right, n));
    let count = m * n;
    (0..count * count)
        .map(|at| {
            let (row, column) = (at / count, at % count);
            left[row / n * m + column / n] * right[row % n * n + column % n]
        })
        .collect()
}

/// A x of a matrix `[n²]`.
fn apply(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    let rows = matrix.chunks_exact(vector.len());
    rows.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
        .collect()
}

/// Aᵀ x.
fn apply_transposed(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    let n = vector.len();
    let transposed: Vec<f64> = (0..n * n).map(|at| matrix[at % n * n + at / n]).collect();
    apply(&transposed, vector)
}

/// Q diag(values) Qᵀ.
pub fn of_diagonal(q: &[f64], values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let scaled: Vec<f64> = (0..n * n).map(|at| q[at] * values[at % n]).collect();
    let transpose =
        |matrix: &[f64]| -> Vec<f64> { (0..n * n).map(|at| matrix[at % n * n + at / n]).collect() };
    transposed_product(&transpose(&scaled), &transpose(q), n)
}

fn close(found: &[f64], expected: &[f64], by: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= by * expected.abs().max(1.0),
            "{found} is not {expected}"
        );
    }
}

fn part(ivon: &Ivon<Pair>, path: &str) -> (Vec<f64>, Vec<f64>) {
    let state = ivon.state();
    let parameter = &state.parameters[path];
    (
        parameter.momentum.iter().collect(),
        parameter.hessian.iter().collect(),
    )
}

fn rotation(ivon: &Ivon<Pair>) -> Rotation {
    ivon.posterior()
        .rotations()
        .get("first")
        .cloned()
        .unwrap_or_default()
}

/// A loss whose gradient at the matrix is dense: ½ |M − T|² + c (Σ M)².
fn dense(pair: &Pair) -> Result<(Tensor<1>, GradientsParams), IvonError> {
    let target = tensor(&[1.0, -1.0, 2.0, 0.5], [2, 2], pair.first.val().dtype());
    let matrix = (pair.first.val() - target).square().sum() * 0.5
        + pair.first.val().sum().square() * 0.7
        + pair.first.val().narrow(0, 0, 1).sum().square();
    let loss = matrix + pair.second.val().square().sum() * 0.5;
    let gradients = GradientsParams::from_grads(loss.backward(), pair);
    Ok((loss, gradients))
}

/// After so many steps of the dense loss.
fn dense_after(steps: usize, config: IvonConfig) -> Ivon<Pair> {
    let mut ivon = Ivon::new(config, Pair::small(DType::F64)).unwrap();
    for _ in 0..steps {
        ivon.step(0.1, dense).unwrap();
    }
    ivon
}

#[test]
fn a_step_in_the_basis_is_that_of_the_formula_with_dense_matrices() {
    for (sides, turned) in [
        (Sides::Left, [true, false]),
        (Sides::Right, [false, true]),
        (Sides::Both, [true, true]),
    ] {
        // No refresh comes between, so what stands after the step is in the basis before it.
        let config = IvonConfig {
            estimate_limit: Some(2.0),
            ..turning(1_000, sides)
        };
        let mut ivon = dense_after(3, config.clone());
        let rotation = rotation(&ivon);
        assert_eq!([rotation.left.is_some(), rotation.right.is_some()], turned);
        let basis = kronecker(&rotation, [2, 2]);
        assert!(departure_from_orthonormal(&basis, 4) < 1e-12);
        let (momentum, hessian) = part(&ivon, "first");
        let mean = numbers(&ivon.mean().first.val());

        let z = [0.3, -1.2, 0.8, 0.1];
        let draw = ivon
            .draw_from(|path, _| {
                if path == "first" {
                    z.to_vec()
                } else {
                    vec![0.0; 2]
                }
            })
            .unwrap();
        let (ess, decay) = (config.effective_sample_size, config.weight_decay);
        let noise: Vec<f64> = (0..4)
            .map(|i| z[i] / (ess * (hessian[i] + decay)).sqrt())
            .collect();
        let drawn: Vec<f64> = apply(&basis, &noise)
            .iter()
            .zip(&mean)
            .map(|(a, b)| a + b)
            .collect();
        close(&numbers(&draw.module().first.val()), &drawn, 1e-12);
        let (loss, gradients) = dense(draw.module()).unwrap();
        let gradient = numbers(&gradients.get::<2>(draw.module().first.id).unwrap());
        ivon.observe(draw, loss, gradients).unwrap();
        ivon.apply(0.1).unwrap();

        let gradient = apply_transposed(&basis, &gradient);
        let decayed = apply_transposed(&basis, &mean);
        let mut direction = [0.0; 4];
        let (mut new_momentum, mut new_hessian) = ([0.0; 4], [0.0; 4]);
        for i in 0..4 {
            let (h, b1, b2) = (hessian[i], config.beta1, config.beta2);
            new_momentum[i] = b1 * momentum[i] + (1.0 - b1) * gradient[i];
            let estimate = noise[i] * gradient[i] * (h + decay) * ess;
            let estimate = estimate.clamp(-2.0 * h.abs(), 2.0 * h.abs());
            new_hessian[i] = b2 * h
                + (1.0 - b2) * estimate
                + 0.5 * (1.0 - b2).powi(2) * (h - estimate).powi(2) / (h + decay);
            let debiased = new_momentum[i] / (1.0 - b1.powi(4));
            direction[i] =
                ((debiased + decay * decayed[i]) / (new_hessian[i] + decay)).clamp(-0.5, 0.5);
        }
        let rate = 0.1 * (config.hessian_init + decay);
        let expected: Vec<f64> = apply(&basis, &direction)
            .iter()
            .zip(&mean)
            .map(|(step, mean)| mean - rate * step)
            .collect();
        close(&numbers(&ivon.mean().first.val()), &expected, 1e-12);
        let (momentum, hessian) = part(&ivon, "first");
        close(&momentum, &new_momentum, 1e-12);
        close(&hessian, &new_hessian, 1e-12);
    }
}

#[test]
fn a_basis_that_is_turned_takes_momentum_and_hessian_along() {
    for sides in [Sides::Left, Sides::Right, Sides::Both] {
        // The first basis, made of nothing; and the refresh after step 4, which the other lacks.
        for (steps, before, after) in [
            (1, lively(), turning(1_000, sides)),
            (4, turning(1_000, sides), turning(4, sides)),
        ] {
            let [before, after] = [before, after].map(|config| dense_after(steps, config));
            close(&after.mean().values(), &before.mean().values(), 1e-12);
            let [old, new] = [&before, &after].map(|ivon| kronecker(&rotation(ivon), [2, 2]));
            assert!(old.iter().zip(&new).any(|(a, b)| (a - b).abs() > 1e-3));
            let ((g, h), (g_new, h_new)) = (part(&before, "first"), part(&after, "first"));
            // The same momentum, in the weights' own coordinates.
            close(&apply(&new, &g_new), &apply(&old, &g), 1e-12);
            // The diagonal in the new basis of the matrix that was diagonal in the old one.
            let dense = of_diagonal(&old, &h);
            let turned = transposed_product(&new, &product(&dense, &new, 4), 4);
            let diagonal: Vec<f64> = (0..4).map(|i| turned[i * 4 + i]).collect();
            close(&h_new, &diagonal, 1e-12);
            // What has one side alone is left alone.
            assert_eq!(part(&after, "second"), part(&before, "second"));
        }
    }
}

fn product(left: &[f64], right: &[f64], n: usize) -> Vec<f64> {
    let transposed: Vec<f64> = (0..n * n).map(|at| left[at % n * n + at / n]).collect();
    transposed_product(&transposed, right, n)
}

#[test]
fn the_basis_is_that_of_the_averages_of_gradient_products() {
    let ivon = dense_after(1, turning(1_000, Sides::Both));
    let state = ivon.state();
    let [left, right] = state.sides["first"].clone().map(Option::unwrap);
    for side in [left, right] {
        let gram: Vec<f64> = side.gram.iter().collect();
        let vectors: Vec<f64> = side.vectors.unwrap().iter().collect();
        let turned = transposed_product(&vectors, &product(&gram, &vectors, 2), 2);
        assert!(turned[1].abs() < 1e-12 && turned[0] >= turned[3] && turned[0] > 0.0);
    }
    // (1 − β) G Gᵀ and (1 − β) Gᵀ G of G = ḡ + δ m at the start, ḡ from the momentum (1 − β₁) ḡ.
    let (momentum, _) = part(&ivon, "first");
    let momentum = apply(&kronecker(&rotation(&ivon), [2, 2]), &momentum);
    let of = |(g, m): (&f64, f64)| g / 0.1 + 0.01 * m;
    let g: Vec<f64> = momentum.iter().zip([0.1, 0.2, 0.3, 0.4]).map(of).collect();
    let transposed = [g[0], g[2], g[1], g[3]];
    let [left, right] = state.sides["first"].clone().map(Option::unwrap);
    let gram = |side: &SideState| side.gram.iter().map(|x| x / 0.1).collect::<Vec<_>>();
    close(&gram(&left), &product(&g, &transposed, 2), 1e-12);
    close(&gram(&right), &product(&transposed, &g, 2), 1e-12);
}

#[test]
fn with_nothing_to_turn_it_is_ivon_bit_for_bit() {
    for kind in [DType::F32, DType::F64, DType::BF16] {
        let narrow = IvonConfig {
            eigenbasis: Some(EigenbasisConfig {
                widest_side: 1,
                ..EigenbasisConfig::default()
            }),
            ..lively()
        };
        let (mean, state) = everything(&after(12, narrow, kind));
        let (expected_mean, expected) = everything(&after(12, lively(), kind));
        assert_eq!(mean, expected_mean);
        assert_eq!(state.parameters, expected.parameters);
        assert!(state.sides.is_empty());
    }
}

#[test]
fn a_basis_comes_with_the_first_gradient_that_is_not_zero() {
    let config = IvonConfig {
        weight_decay: 0.0,
        ..turning(1_000, Sides::Both)
    };
    let mut ivon = Ivon::new(config, Pair::small(DType::F32)).unwrap();
    for step in 0..4 {
        let zero_until = 2;
        ivon.step(0.1, |pair: &Pair| {
            let (loss, mut gradients) = dense(pair)?;
            if step < zero_until {
                gradients.remove::<2>(pair.first.id);
                let zeros = Tensor::<2>::zeros([2, 2], &pair.first.device().inner());
                gradients.register(pair.first.id, zeros);
            }
            Ok::<_, IvonError>((loss, gradients))
        })
        .unwrap();
        assert_eq!(ivon.posterior().rotations().is_empty(), step < zero_until);
    }
}

#[test]
fn a_parameter_without_a_gradient_keeps_its_averages() {
    let mut ivon = dense_after(2, turning(1, Sides::Both));
    let before = ivon.state().sides;
    ivon.step(0.1, |pair: &Pair| {
        let (loss, mut gradients) = dense(pair)?;
        gradients.remove::<2>(pair.first.id);
        Ok::<_, IvonError>((loss, gradients))
    })
    .unwrap();
    let grams = |sides: &BTreeMap<String, [Option<SideState>; 2]>| {
        sides["first"].clone().map(|side| side.unwrap().gram)
    };
    assert_eq!(grams(&ivon.state().sides), grams(&before));
}

#[test]
fn a_resumed_run_takes_the_same_steps_to_the_bit() {
    for kind in [DType::F32, DType::F64, DType::BF16] {
        for sides in [Sides::Smaller, Sides::Both] {
            let config = IvonConfig {
                mc_samples: 2,
                ..turning(3, sides)
            };
            let mut whole = Ivon::new(config.clone(), Pair::small(kind)).unwrap();
            for _ in 0..5 {
                whole.step(0.1, dense).unwrap();
            }
            let state = IvonState::from_bytes(&whole.state().to_bytes().unwrap()).unwrap();
            assert_eq!(state, whole.state());
            let mean = Pair::new(&whole.mean().values(), [2, 2], kind);
            let mut resumed = Ivon::new(config, mean).unwrap();
            resumed.restore(&state).unwrap();
            for _ in 0..8 {
                let [a, b] = [&mut whole, &mut resumed].map(|ivon| ivon.step(0.1, dense).unwrap());
                assert_eq!(a, b);
            }
            assert_eq!(everything(&resumed), everything(&whole));
        }
    }
}

#[test]
fn a_failing_closure_leaves_the_basis_as_it_was() {
    let mut ivon = dense_after(3, turning(1, Sides::Both));
    let before = everything(&ivon);
    let failed = ivon.step(0.1, |_: &Pair| {
        Err::<(f64, GradientsParams), _>(IvonError::ForeignDraw)
    });
    assert!(failed.is_err());
    let spoilt = ivon.step(0.1, |pair: &Pair| {
        let (_, gradients) = dense(pair)?;
        Ok::<_, IvonError>((f64::NAN, gradients))
    });
    assert!(spoilt.is_err());
    assert_eq!(everything(&ivon), before);
}

#[test]
fn the_variance_of_a_weight_is_the_diagonal_of_the_covariance_and_draws_have_it_all() {
    for sides in [Sides::Left, Sides::Both] {
        let ivon = dense_after(30, turning(3, sides));
        let posterior = ivon.posterior();
        let basis = kronecker(&posterior.rotations()["first"], [2, 2]);
        let covariance = of_diagonal(&basis, &numbers(&posterior.variances()["first"]));
        let variance = numbers(&posterior.variance().first.val());
        close(
            &variance,
            &(0..4).map(|i| covariance[i * 4 + i]).collect::<Vec<_>>(),
            1e-12,
        );
        let mean = numbers(&posterior.mean().first.val());
        let (count, scale) = (4_000, 0.25);
        let mut sums = [0.0; 16];
        for number in 0..count {
            let drawn = numbers(&posterior.draw(3, number, scale).unwrap().first.val());
            for at in 0..16 {
                sums[at] += (drawn[at / 4] - mean[at / 4]) * (drawn[at % 4] - mean[at % 4]);
            }
        }
        for at in 0..16 {
            let (found, expected) = (sums[at] / f64::from(count as u32), scale * covariance[at]);
            // Five standard errors: √((c_ii c_jj + c_ij²)/n).
            let spread = scale
                * ((variance[at / 4] * variance[at % 4] + covariance[at].powi(2))
                    / f64::from(count as u32))
                .sqrt();
            assert!(
                (found - expected).abs() < 5.0 * spread,
                "{found} {expected}"
            );
        }
        let rebuilt = Posterior::new(
            Pair::new(&posterior.mean().values(), [2, 2], DType::F64),
            &posterior.variances(),
        )
        .unwrap()
        .rotated(&posterior.rotations())
        .unwrap();
        assert_eq!(
            rebuilt.draw(4, 2, 0.5).unwrap().values(),
            posterior.draw(4, 2, 0.5).unwrap().values()
        );
    }
}

#[test]
fn rotations_that_do_not_fit_are_refused_by_name() {
    let posterior = || after(2, lively(), DType::F32).posterior();
    let matrix = |values: &[f64], n: usize| Some(tensor(values, [n, n], DType::F32));
    let refused = |path: &str, left: Option<Tensor<2>>, right: Option<Tensor<2>>| {
        let rotations = BTreeMap::from([(path.to_string(), Rotation { left, right })]);
        let error = posterior().rotated(&rotations).unwrap_err();
        error.to_string()
    };
    let turn = [0.6, -0.8, 0.8, 0.6];
    assert_eq!(
        refused("third", matrix(&turn, 2), None),
        "the module has no such parameter to restore as `third`"
    );
    assert_eq!(
        refused("second", matrix(&turn, 2), None),
        "the left rotation of `second` has shape [2, 2], which turns no side of [2]"
    );
    assert_eq!(
        refused("first", None, matrix(&[1.0], 1)),
        "the right rotation of `first` has shape [1, 1], which turns no side of [2, 2]"
    );
    assert!(
        refused("first", None, matrix(&[1.0, 0.5, 0.0, 1.0], 2))
            .starts_with("the right rotation of `first` is off an orthogonal matrix by 0.5")
    );
    let good = BTreeMap::from([(
        "first".to_string(),
        Rotation {
            left: matrix(&turn, 2),
            right: None,
        },
    )]);
    assert!(posterior().rotated(&good).is_ok());
}

/// The refusal of the state of three steps, changed.
fn refused(change: impl FnOnce(&mut IvonState)) -> String {
    let config = turning(2, Sides::Left);
    let mut state = after(3, config.clone(), DType::F32).state();
    change(&mut state);
    let mut ivon = after(1, config, DType::F32);
    let before = everything(&ivon);
    let error = ivon.restore(&state).unwrap_err();
    assert_eq!(everything(&ivon), before);
    error.to_string()
}

fn left(state: &mut IvonState) -> &mut SideState {
    state.sides.get_mut("first").unwrap()[0].as_mut().unwrap()
}

#[test]
fn a_saved_side_that_cannot_be_is_named() {
    assert_eq!(
        refused(|state| state.sides.clear()),
        "the saved state lacks the parameter `first.left_gram`"
    );
    assert_eq!(
        refused(|state| {
            let sides = state.sides.get_mut("first").unwrap();
            sides[1] = sides[0].clone();
        }),
        "the module has no such parameter to restore as `first.right_gram`"
    );
    assert_eq!(
        refused(|state| left(state).width = 3),
        "the saved state of `first.left_gram` has shape [3, 3], expected [2, 2]"
    );
    assert_eq!(
        refused(|state| left(state).gram = Values::F64(vec![0.0; 4])),
        "the saved state of `first.left_gram` is f64, expected f32"
    );
    assert_eq!(
        refused(|state| left(state).gram = Values::F32(vec![f32::NAN; 4])),
        "the saved gram matrix of `first.left_gram` holds NaN, expected finite numbers"
    );
    assert_eq!(
        refused(|state| left(state).vectors = Some(Values::F32(vec![1.0; 4]))),
        "the left rotation of `first` is off an orthogonal matrix by 2"
    );
}

#[test]
fn other_settings_of_the_basis_are_refused_with_both() {
    let state = after(3, lively(), DType::F32).state();
    let error = after(1, turning(2, Sides::Left), DType::F32)
        .restore(&state)
        .unwrap_err();
    let message = error.to_string();
    let (was, here) = message.split_once(", here ").unwrap();
    assert_eq!(
        was,
        "the saved state has other settings: `eigenbasis` was null"
    );
    assert!(here.contains("\"sides\":\"left\"") && here.contains("\"basis_interval\":2"));
}

#[test]
fn a_file_whose_sides_do_not_hold_together_is_refused() {
    let bytes = |change: &dyn Fn(&mut IvonState)| {
        let mut state = after(3, turning(2, Sides::Left), DType::F32).state();
        change(&mut state);
        state.to_bytes()
    };
    // A gram matrix that is not as large as the vectors.
    assert!(bytes(&|state| left(state).gram = Values::F32(vec![0.0; 9])).is_err());
    // The vectors without their gram matrix, and a side without its parameter.
    let without = |names: &[&str]| {
        let whole = bytes(&|_| ()).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&whole).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
        let kept = tensors
            .tensors()
            .into_iter()
            .filter(|(name, _)| !names.contains(&name.as_str()));
        let bytes = safetensors::serialize(kept, header.metadata().clone()).unwrap();
        IvonState::from_bytes(&bytes).unwrap_err().to_string()
    };
    assert_eq!(
        without(&["first.left_gram"]),
        "the saved state lacks the parameter `first.left_gram`"
    );
    assert!(without(&["first.momentum"]).contains("it has an unexpected tensor `first."));
}

#[test]
fn many_parameters_are_turned_each_by_its_own() {
    #[derive(burn::module::Module, Debug)]
    struct Two {
        wide: Param<Tensor<2>>,
        tall: Param<Tensor<2>>,
        cube: Param<Tensor<3>>,
    }
    let values = |n: usize| -> Vec<f64> { (0..n).map(|i| (i as f64 * 0.7).sin()).collect() };
    let two = Two {
        wide: super::param(&values(6), [2, 3], DType::F32),
        tall: super::param(&values(100), [50, 2], DType::F32),
        cube: super::param(&values(8), [2, 2, 2], DType::F32),
    };
    let mut config = turning(2, Sides::Both);
    config.eigenbasis.as_mut().unwrap().widest_side = 8;
    let mut ivon = Ivon::new(config, two).unwrap();
    for _ in 0..5 {
        ivon.step(0.01, |two: &Two| {
            let loss = two.wide.val().square().sum().square()
                + two.tall.val().sum().square()
                + two.cube.val().square().sum();
            let gradients = GradientsParams::from_grads(loss.backward(), two);
            Ok::<_, IvonError>((loss, gradients))
        })
        .unwrap();
    }
    let rotations = ivon.posterior().rotations();
    let widths: Vec<_> = rotations
        .iter()
        .map(|(path, rotation)| {
            let width = |q: &Option<Tensor<2>>| q.as_ref().map(|q| q.dims()[0]);
            (path.as_str(), width(&rotation.left), width(&rotation.right))
        })
        .collect();
    assert_eq!(
        widths,
        [("tall", None, Some(2)), ("wide", Some(2), Some(3))]
    );
}
