//! What every kind keeps: a weight that is pruned is 0 in every draw, before its file is written and
//! after it is read back; and a point estimate draws itself.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::*;
use crate::lora::HostMatrix;
use crate::lora::side::CloraStart;
use crate::testing::tiny::{adapter, decoder};

/// Some weight in three is pruned.
fn kept(posterior: &dyn Posterior) -> Vec<bool> {
    (0..posterior.mean().parameter_count())
        .map(|place| place % 3 != 1)
        .collect()
}

fn mean() -> Adapter {
    adapter(2, "q_proj,v_proj")
}

fn all_of(value: f64) -> Adapter {
    mean().clone_with(|_, tensor| tensor.zeros_like() + value)
}

/// Curvature of A and B of the lower layer.
fn kronecker(prediction: LaplacePrediction) -> KroneckerLaplace {
    let pairs = |len: usize| {
        let vectors = HostMatrix {
            shape: [1, len],
            values: vec![(len as f32).sqrt().recip(); len],
        };
        Eigenpairs {
            values: vec![2.0],
            vectors,
        }
    };
    let block = |shape: [usize; 2]| KroneckerBlock {
        rows: pairs(shape[0]),
        columns: pairs(shape[1]),
    };
    let mean = mean();
    let lower = mean
        .parameters()
        .filter(|(path, _)| path.starts_with("layers.0."));
    let blocks: BTreeMap<_, _> = lower
        .map(|(path, parameter)| (path, block(parameter.val().dims())))
        .collect();
    KroneckerLaplace::new(mean.clone(), blocks, 0.7, prediction).unwrap()
}

/// An orthogonal matrix: the reflection that turns the sum of all axes around.
fn reflection(n: usize) -> HostMatrix {
    let entry = |at: usize| f32::from(u8::from(at / n == at % n)) - 2.0 / n as f32;
    HostMatrix {
        shape: [n, n],
        values: (0..n * n).map(entry).collect(),
    }
}

/// One of each kind that has a file.
fn of_kind(kind: PosteriorKind) -> Box<dyn Posterior> {
    let gaussian = || Gaussian::new(mean(), all_of(0.04)).unwrap();
    match kind {
        PosteriorKind::Gaussian => Box::new(gaussian()),
        PosteriorKind::Rotated => {
            let side = |width: usize| (width == 4).then(|| reflection(width));
            let mean = mean();
            let rotations = mean.parameters().map(|(path, parameter)| {
                let [m, n] = parameter.lazy_shape().dims();
                let (left, right) = (side(m), side(n));
                (path, Rotation { left, right })
            });
            let rotations = rotations.collect();
            Box::new(Rotated::new(mean, all_of(0.04), rotations).unwrap())
        }
        PosteriorKind::McDropout => Box::new(McDropout::new(mean(), 0.25).unwrap()),
        PosteriorKind::Ensemble => {
            Box::new(Ensemble::new(mean(), vec![all_of(1.0), all_of(2.0)]).unwrap())
        }
        PosteriorKind::Laplace => {
            Box::new(Laplace::new(gaussian(), LaplacePrediction::Samples).unwrap())
        }
        PosteriorKind::KroneckerLaplace => Box::new(kronecker(LaplacePrediction::Samples)),
        PosteriorKind::Scalabl => Box::new(Scalabl::new(mean(), all_of(0.3)).unwrap()),
        PosteriorKind::Swag => {
            Box::new(Swag::new(mean(), all_of(0.04), vec![all_of(0.5), all_of(-0.5)]).unwrap())
        }
        PosteriorKind::Clora => {
            let start = CloraStart {
                hidden: 6,
                sd: 0.05,
                seed: 3,
            };
            Box::new(Clora::new(Clora::with_networks(&mean(), start)).unwrap())
        }
        PosteriorKind::Dalorra => {
            let logits = (0..16).map(|row| 0.3 * row as f32 - 2.0);
            Box::new(Dalorra::of_weights(&mean(), logits.collect()).unwrap())
        }
        PosteriorKind::LastLayer => {
            let noise = OutputNoise::new([(5, vec![0.5; 32])].into(), 1.0).unwrap();
            Box::new(LastLayer::new(mean(), noise))
        }
    }
}

fn drawn(posterior: &dyn Posterior, sample: u64) -> Vec<f32> {
    posterior
        .draw(sample, 5, 2.0)
        .unwrap()
        .adapter
        .flatten()
        .unwrap()
}

#[test]
fn a_pruned_weight_is_zero_in_every_draw_of_every_kind_and_the_others_are_as_they_were() {
    for kind in PosteriorKind::ALL {
        let before = of_kind(kind);
        let kept = kept(before.as_ref());
        let pruned = before.pruned(&kept).unwrap();
        let stored = pruned.stored().unwrap().unwrap();
        // A folder holds A and B of the mean; what lies between them is the posterior's own.
        let mean = pruned.mean().without_sides();
        let again = restore(&stored, mean, &decoder(2), &Device::flex()).unwrap();
        for sample in 0..5 {
            let (full, now) = (
                drawn(before.as_ref(), sample),
                drawn(pruned.as_ref(), sample),
            );
            let expected = |(value, kept): (&f32, &bool)| if *kept { *value } else { 0.0 };
            let expected: Vec<f32> = full.iter().zip(&kept).map(expected).collect();
            assert_eq!(now, expected, "{kind:?}");
            assert_eq!(
                drawn(again.as_ref(), sample),
                expected,
                "{kind:?}, read back"
            );
        }
        let fixed = |values: Vec<f32>| {
            values
                .iter()
                .zip(&kept)
                .all(|(value, kept)| *kept || *value == 0.0)
        };
        assert!(fixed(pruned.mean().flatten().unwrap()), "{kind:?}");
        let variance = pruned
            .variance()
            .map(|variance| variance.flatten().unwrap());
        assert!(variance.clone().is_none_or(fixed), "{kind:?}");
        assert_eq!(
            again.variance().map(|variance| variance.flatten().unwrap()),
            variance,
            "{kind:?}"
        );
    }
}

#[test]
fn the_logits_of_a_linearised_model_do_not_hang_on_a_pruned_weight() {
    for kind in [PosteriorKind::Laplace, PosteriorKind::KroneckerLaplace] {
        let before = of_kind(kind);
        let kept = kept(before.as_ref());
        let pruned = before.pruned(&kept).unwrap();
        let jacobian: Vec<f32> = (0..kept.len()).map(|place| (place as f32).sin()).collect();
        let of_kept = jacobian
            .iter()
            .zip(&kept)
            .map(|(value, kept)| if *kept { *value } else { 0.0 })
            .collect();
        let covariance = |posterior: &dyn Posterior, jacobian: Vec<f32>| {
            posterior
                .linearised()
                .unwrap()
                .covariance(&[jacobian])
                .unwrap()
        };
        let expected = covariance(before.as_ref(), of_kept);
        assert_eq!(
            covariance(pruned.as_ref(), jacobian.clone()),
            expected,
            "{kind:?}"
        );
        assert_ne!(covariance(before.as_ref(), jacobian), expected, "{kind:?}");
    }
}

#[test]
fn pruning_again_prunes_more_and_what_was_pruned_stays_so() {
    for kind in PosteriorKind::ALL {
        let before = of_kind(kind);
        let count = before.mean().parameter_count();
        let [third, half]: [Vec<bool>; 2] =
            [3, 2].map(|by| (0..count).map(|place| place % by != 0).collect());
        let twice = before.pruned(&third).unwrap().pruned(&half).unwrap();
        let both: Vec<bool> = third.iter().zip(&half).map(|(a, b)| *a && *b).collect();
        let once = before.pruned(&both).unwrap();
        assert_eq!(
            drawn(twice.as_ref(), 3),
            drawn(once.as_ref(), 3),
            "{kind:?}"
        );
    }
}

#[test]
fn what_cannot_be_pruned_says_so() {
    struct Strange(Adapter);
    impl Posterior for Strange {
        fn draw(&self, _: u64, _: u64, _: f64) -> Result<Draw, PosteriorError> {
            Ok(Draw::of(self.0.clone()))
        }
        fn mean(&self) -> &Adapter {
            &self.0
        }
        fn variance(&self) -> Option<&Adapter> {
            None
        }
        fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
            Ok(None)
        }
    }
    let error = Strange(mean()).pruned(&[]).err().unwrap();
    assert!(
        matches!(error, PosteriorError::NotPruned)
            && error.hint().unwrap().contains("scores at each share")
    );
    assert!(
        error
            .to_string()
            .starts_with("the posterior is of a kind that cannot be pruned"),
        "{error}"
    );
    for kind in PosteriorKind::ALL {
        let error = of_kind(kind).pruned(&[true]).err().unwrap().to_string();
        assert!(
            error.starts_with("1 weights are said to be kept or pruned, but the adapter has "),
            "{error}"
        );
    }
    let point = PointEstimate { adapter: mean() };
    let pruned = point.pruned(&kept(&point)).unwrap();
    assert!(
        drawn(pruned.as_ref(), 0)
            .iter()
            .zip(kept(&point))
            .all(|(value, kept)| kept || *value == 0.0)
    );
}

#[test]
fn the_ones_and_zeros_of_a_file_are_checked() {
    let pruned = of_kind(PosteriorKind::KroneckerLaplace);
    let pruned = pruned.pruned(&kept(pruned.as_ref())).unwrap();
    let mut stored = pruned.stored().unwrap().unwrap();
    let name = stored
        .matrices
        .keys()
        .find(|name| name.starts_with("kept."))
        .unwrap()
        .clone();
    let mean = pruned.mean().clone();
    stored.matrices.insert(
        name,
        HostMatrix {
            shape: [1, 2],
            values: vec![1.0, 0.0],
        },
    );
    let error = restore(&stored, mean, &decoder(2), &Device::flex())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("has shape [1, 2], expected [4, 32]"),
        "{error}"
    );
}

#[test]
fn a_point_estimate_draws_itself() {
    let point = PointEstimate {
        adapter: adapter(1, "q_proj"),
    };
    let drawn = point.draw(3, 1, 2.0).unwrap().adapter.flatten().unwrap();
    assert_eq!(drawn, point.mean().flatten().unwrap());
    assert!(point.variance().is_none() && point.draw(0, 0, f64::NAN).is_err());
}
