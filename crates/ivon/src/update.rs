//! One step of the rule on all buckets, and the few numbers that explain it, read from the device
//! once.

use burn::tensor::{Tensor, Transaction};

use crate::config::{HessianApproximation, IvonConfig};
use crate::layout::{Flats, Layout, total};
use crate::{IvonError, rule};

/// The optimizer's variables, in long tensors.
#[derive(Clone, Debug)]
pub(crate) struct Variables {
    pub mean: Flats,
    pub momentum: Flats,
    pub hessian: Flats,
}

/// What explains a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The number of the step, counted from 1.
    pub step: u64,
    /// The mean of the losses at the draws (not at the mean).
    pub loss: f64,
    /// How many draws the step rests on.
    pub draws: usize,
    /// Euclidean norm of the mean gradient ḡ over all parameters, before any clipping.
    pub gradient_norm: f64,
    /// Root mean square, over the updated elements, of what was subtracted from the mean: lr′ ·
    /// clip(…).
    pub update_size: f64,
    /// The share of updated elements at which `clip_radius` cut the update, in [0, 1]; 0 without a
    /// radius.
    pub clipped_share: f64,
    /// The mean of h/h₀ over all elements: 1 at the start.
    pub hessian_ratio: f64,
}

/// What a step rests on.
pub(crate) struct Evidence {
    /// ḡ.
    pub gradient: Flats,
    /// c̄ (`price`) or s̄ (`gradsq`).
    pub curvature: Flats,
    /// Which parameters had a gradient.
    pub present: Vec<bool>,
    pub loss: f64,
    pub draws: usize,
}

/// Takes step number `step` from `old`: new variables and the report. Nothing of `old` changes.
///
/// # Errors
/// If anything that comes out is not finite.
pub(crate) fn update(
    layout: &Layout,
    config: &IvonConfig,
    old: &Variables,
    evidence: Evidence,
    learning_rate: f64,
    step: u64,
) -> Result<(Variables, StepReport), IvonError> {
    let Evidence {
        gradient,
        curvature,
        present,
        loss,
        draws,
    } = evidence;
    let squares: Flats = gradient
        .iter()
        .map(|gradient| total(gradient.clone().square()))
        .collect();
    let clipped_gradient = clip_norm(gradient.clone(), &squares, config.gradient_clip_norm);
    let new_momentum = pairs(&old.momentum, clipped_gradient, |momentum, gradient| {
        rule::momentum(momentum, gradient, config.beta1)
    });
    let new_hessian = new_hessian(layout, config, &old.hessian, curvature);
    let debias = if config.debias {
        1.0 - config.beta1.powf(step as f64)
    } else {
        1.0
    };
    let direction = (0..layout.buckets.len()).map(|bucket| {
        let [mean, momentum, hessian] =
            [&old.mean, &new_momentum, &new_hessian].map(|flats| flats[bucket].clone());
        rule::direction(
            mean,
            momentum,
            hessian,
            debias,
            layout.buckets[bucket].settings.weight_decay,
        )
    });
    // Where there was no gradient nothing moves: a direction of 0 keeps the mean to the bit.
    let direction = layout.choose(&present, direction.collect(), |entry| layout.zeros(entry));
    let momentum = layout.choose(&present, new_momentum, |entry| {
        layout.part(&old.momentum, entry)
    });
    let hessian = layout.choose(&present, new_hessian, |entry| {
        layout.part(&old.hessian, entry)
    });

    let clipped: Flats = match config.clip_radius {
        Some(radius) => direction
            .iter()
            .map(|direction| direction.clone().clamp(-radius, radius))
            .collect(),
        None => direction.clone(),
    };
    let rate = |bucket: usize| {
        layout.buckets[bucket]
            .settings
            .learning_rate(learning_rate, config.rescale_learning_rate)
    };
    let mean = (0..clipped.len()).map(|bucket| {
        rule::mean(
            old.mean[bucket].clone(),
            clipped[bucket].clone(),
            rate(bucket),
        )
    });
    let new = Variables {
        mean: mean.collect(),
        momentum,
        hessian,
    };

    let counts = (0..clipped.len()).map(|bucket| {
        let mut parts = vec![
            squares[bucket].clone(),
            total(clipped[bucket].clone().square()),
            total(new.hessian[bucket].clone()),
        ];
        if config.clip_radius.is_some() {
            parts.push(total(
                direction[bucket]
                    .clone()
                    .not_equal(clipped[bucket].clone())
                    .float()
                    .cast(clipped[bucket].dtype()),
            ));
        }
        Tensor::cat(parts, 0)
    });
    let sums = Sums::read(layout, counts.collect(), rate);
    if !sums.gradient_square.is_finite() {
        return Err(IvonError::NonFiniteGradient {
            step,
            path: culprit(layout, &gradient),
        });
    }
    if !(sums.update_square.is_finite() && sums.hessian_ratio.is_finite()) {
        return Err(IvonError::NonFiniteUpdate {
            step,
            path: culprit(layout, &pairs(&direction, new.hessian, |a, b| a + b)),
        });
    }
    let updated: usize = layout
        .entries
        .iter()
        .zip(&present)
        .filter(|(_, present)| **present)
        .map(|(entry, _)| entry.length)
        .sum();
    let report = StepReport {
        step,
        loss,
        draws,
        gradient_norm: sums.gradient_square.sqrt(),
        update_size: (sums.update_square / updated as f64).sqrt(),
        clipped_share: sums.clipped / updated as f64,
        hessian_ratio: sums.hessian_ratio / layout.elements() as f64,
    };
    Ok((new, report))
}

fn pairs(left: &Flats, right: Flats, combine: impl Fn(Tensor<1>, Tensor<1>) -> Tensor<1>) -> Flats {
    left.iter()
        .cloned()
        .zip(right)
        .map(|(left, right)| combine(left, right))
        .collect()
}

/// The mean gradient, scaled so that its norm over all buckets is at most `limit`.
fn clip_norm(gradient: Flats, squares: &[Tensor<1>], limit: Option<f64>) -> Flats {
    let Some(limit) = limit else { return gradient };
    let (device, kind) = (squares[0].device(), squares[0].dtype());
    let together = squares
        .iter()
        .map(|square| square.clone().to_device(&device).cast(kind))
        .collect();
    // On the device, so that the host does not wait: min(1, limit/norm), `[1]`; at norm 0 the
    // quotient is ∞.
    let scale = Tensor::cat(together, 0)
        .sum()
        .sqrt()
        .recip()
        .mul_scalar(limit)
        .clamp_max(1.0);
    gradient
        .into_iter()
        .map(|flat| flat.clone() * scale.clone().to_device(&flat.device()).cast(flat.dtype()))
        .collect()
}

fn new_hessian(layout: &Layout, config: &IvonConfig, old: &Flats, curvature: Flats) -> Flats {
    let updated =
        layout
            .buckets
            .iter()
            .zip(old)
            .zip(curvature)
            .map(|((bucket, hessian), curvature)| {
                let (ess, decay) = (config.effective_sample_size, bucket.settings.weight_decay);
                let estimate = match config.hessian_approximation {
                    HessianApproximation::Price => {
                        rule::price(curvature, hessian.clone(), ess, decay)
                    }
                    HessianApproximation::GradSq => rule::gradsq(curvature, ess),
                };
                rule::hessian(hessian.clone(), estimate, config.beta2, decay)
            });
    updated.collect()
}

/// Sums over all buckets.
#[derive(Default)]
struct Sums {
    gradient_square: f64,
    update_square: f64,
    hessian_ratio: f64,
    clipped: f64,
}

impl Sums {
    /// Reads the counts of all buckets, `[3 or 4]` each, in one transaction.
    fn read(layout: &Layout, counts: Vec<Tensor<1>>, rate: impl Fn(usize) -> f64) -> Self {
        let transaction = counts
            .into_iter()
            .fold(Transaction::default(), Transaction::register);
        let mut sums = Self::default();
        for (index, data) in transaction.execute().into_iter().enumerate() {
            let mut numbers = data.iter::<f64>();
            // A number that is missing is as good as one that is not finite: the step is refused.
            let mut next = || numbers.next().unwrap_or(f64::NAN);
            sums.gradient_square += next();
            sums.update_square += next() * rate(index) * rate(index);
            sums.hessian_ratio += next() / layout.buckets[index].settings.hessian_init;
            sums.clipped += numbers.next().unwrap_or(0.0);
        }
        sums
    }
}

/// The first parameter whose values are not finite, else the one with the largest: looked for only
/// once something is known to be wrong.
fn culprit(layout: &Layout, flats: &Flats) -> String {
    let mut largest = (f64::NEG_INFINITY, String::new());
    for (index, entry) in layout.entries.iter().enumerate() {
        let size = layout
            .part(flats, index)
            .abs()
            .max()
            .try_into_scalar::<f64>()
            .unwrap_or(f64::NAN);
        let sum = total(layout.part(flats, index))
            .try_into_scalar::<f64>()
            .unwrap_or(f64::NAN);
        if !(size.is_finite() && sum.is_finite()) {
            return entry.path.clone();
        }
        if size > largest.0 {
            largest = (size, entry.path.clone());
        }
    }
    largest.1
}
