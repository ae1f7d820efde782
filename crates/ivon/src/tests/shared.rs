//! Workers with draws of their own take the step of one worker with all of the draws.

use burn::tensor::DType;

use super::{Quadratic, after, everything, lively};
use crate::{HessianApproximation, Ivon, IvonConfig, IvonError};

type Worker = Ivon<super::Pair>;

/// Observes the draw of this number, with this weight.
fn observe(worker: &mut Worker, number: u64, weight: f64) {
    let mut draw = worker.draw_numbered(number);
    let (loss, gradients) = Quadratic::small().evaluate(draw.module()).unwrap();
    draw.accumulate(loss, gradients, weight).unwrap();
    worker.observe_accumulated(draw).unwrap();
}

#[test]
fn two_workers_with_a_draw_each_are_one_with_both() {
    for approximation in [HessianApproximation::Price, HessianApproximation::GradSq] {
        let config = IvonConfig {
            hessian_approximation: approximation,
            ..lively()
        };
        let start = || after(2, config.clone(), DType::F32);
        let (mut one, mut two) = (start(), [start(), start()]);
        for _ in 0..3 {
            observe(&mut one, 0, 0.25);
            observe(&mut one, 1, 0.75);
            let expected = one.apply(0.1).unwrap();
            observe(&mut two[0], 0, 0.25);
            observe(&mut two[1], 1, 0.75);
            let lists = two.each_ref().map(|worker| worker.observed());
            let sum: Vec<f32> = lists[0].iter().zip(&lists[1]).map(|(a, b)| a + b).collect();
            let reports = two.each_mut().map(|worker| {
                worker.observe_sum(&sum).unwrap();
                worker.apply(0.1).unwrap()
            });
            assert!((reports[0].loss - expected.loss).abs() < 1e-5 * expected.loss);
        }
        // f32 numbers are summed in the same order.
        assert_eq!(everything(&two[0]), everything(&one));
        assert_eq!(everything(&two[1]), everything(&one));
    }
}

#[test]
fn a_worker_without_a_draw_adds_nothing_and_one_alone_goes_on() {
    let start = || after(1, lively(), DType::F32);
    let (mut one, mut other) = (start(), start());
    observe(&mut one, 0, 1.0);
    let sum: Vec<f32> = one
        .observed()
        .iter()
        .zip(other.observed())
        .map(|(a, b)| a + b)
        .collect();
    assert_eq!(sum, one.observed());
    other.observe_sum(&sum).unwrap();
    one.apply(0.1).unwrap();
    other.apply(0.1).unwrap();
    assert_eq!(everything(&one), everything(&other));
}

#[test]
fn a_list_of_another_length_and_a_sum_of_nothing_are_refused() {
    let mut ivon = after(1, lively(), DType::F32);
    let empty = ivon.observed();
    assert!(matches!(
        ivon.observe_sum(&empty),
        Err(IvonError::NoGradients { .. })
    ));
    let error = ivon.observe_sum(&empty[1..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the sum of observations has 16 numbers, expected 17"
    );
}
