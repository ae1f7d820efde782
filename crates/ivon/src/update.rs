//! One step of the update rule on all buckets, and its report, read from the device at once.

use burn::tensor::{Tensor, Transaction};

use crate::basis::Basis;
use crate::config::{HessianApproximation, IvonConfig, MeanUpdate, Resolved};
use crate::layout::{Bucket, Flats, Layout, total};
use crate::{IvonError, rule};

/// The optimizer's variables, as flat tensors; momentum and Hessian in the coordinates of the basis.
#[derive(Clone, Debug)]
pub(crate) struct Variables {
    pub mean: Flats,
    pub momentum: Flats,
    pub hessian: Flats,
}

/// Diagnostics of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The number of the step, counted from 1.
    pub step: u64,
    /// The mean of the losses at the draws (not at the mean).
    pub loss: f64,
    /// How many draws were observed.
    pub draws: usize,
    /// Euclidean norm of the mean gradient ḡ over all parameters, before any clipping.
    pub gradient_norm: f64,
    /// Root mean square of the update lr′ · clip(…) over the updated elements.
    pub update_size: f64,
    /// The share of updated elements that `clip_radius` or `clip_deviations` clipped, in [0, 1].
    pub clipped_share: f64,
    /// The mean of h/h₀ over all elements: 1 at the start.
    pub hessian_ratio: f64,
}

/// The means over the draws from which a step is taken.
pub(crate) struct Evidence {
    /// ḡ, in the coordinates of the weights.
    pub gradient: Flats,
    /// c̄ (`price`) or s̄ (`gradsq`), in those of the basis.
    pub curvature: Flats,
    /// Which parameters had a gradient.
    pub present: Vec<bool>,
    pub loss: f64,
    pub draws: usize,
}

/// A step to be taken and the settings it follows.
pub(crate) struct Update<'a> {
    pub layout: &'a Layout,
    pub basis: &'a Basis,
    pub config: &'a IvonConfig,
    pub learning_rate: f64,
    /// Its number, counted from 1.
    pub step: u64,
}

impl Update<'_> {
    /// The variables after a step from `old`, and its report.
    ///
    /// # Errors
    /// If a result is not finite.
    pub fn take(
        &self,
        old: &Variables,
        evidence: Evidence,
    ) -> Result<(Variables, StepReport), IvonError> {
        let layout = self.layout;
        let (gradient, present) = (&evidence.gradient, &evidence.present);
        let squares: Flats = gradient
            .iter()
            .map(|flat| total(flat.clone().square()))
            .collect();
        let turned = self.basis.inward(layout, gradient);
        let momentum = self.momentum(&old.momentum, turned, &squares);
        let hessian = self.hessian(&old.hessian, evidence.curvature);
        let direction = self.direction(&old.mean, &momentum, &hessian);
        // A parameter without a gradient does not move: a direction of 0 keeps its mean bit for
        // bit.
        let direction = layout.choose(present, direction, |entry| layout.zeros(entry));
        let momentum = layout.choose(present, momentum, |entry| layout.part(&old.momentum, entry));
        let hessian = layout.choose(present, hessian, |entry| layout.part(&old.hessian, entry));
        let clipped = self.clip(&direction, &hessian);
        let new = Variables {
            mean: self.mean(&old.mean, &clipped),
            momentum,
            hessian,
        };
        let sums = self.sums(&squares, &direction, &clipped, &new.hessian);
        self.check(&sums, gradient, &direction, &new.hessian)?;
        let updated = updated_elements(layout, present) as f64;
        let report = StepReport {
            step: self.step,
            loss: evidence.loss,
            draws: evidence.draws,
            gradient_norm: sums.gradient_square.sqrt(),
            update_size: (sums.update_square / updated).sqrt(),
            clipped_share: sums.clipped / updated,
            hessian_ratio: sums.hessian_ratio / layout.elements() as f64,
        };
        Ok((new, report))
    }

    /// g ← β₁ g + (1 − β₁) ḡ, with ḡ clipped to its maximum norm first.
    fn momentum(&self, old: &Flats, gradient: Flats, squares: &[Tensor<1>]) -> Flats {
        let gradient = clip_norm(gradient, squares, self.config.gradient_clip_norm);
        pairs(old, gradient, |momentum, gradient| {
            rule::momentum(momentum, gradient, self.config.beta1)
        })
    }

    /// h updated with the estimate that the settings select, from c̄ or s̄.
    fn hessian(&self, old: &Flats, curvature: Flats) -> Flats {
        let (ess, beta2) = (self.config.effective_sample_size, self.config.beta2);
        let buckets = self.layout.buckets.iter().zip(old).zip(curvature);
        let updated = buckets.map(|((bucket, hessian), curvature)| {
            let decay = bucket.settings.weight_decay;
            let estimate = match self.config.hessian_approximation {
                HessianApproximation::Price => rule::price(curvature, hessian.clone(), ess, decay),
                HessianApproximation::GradSq => rule::gradsq(curvature, ess),
                HessianApproximation::Fisher { examples } => {
                    let estimate = rule::fisher(curvature, examples);
                    return rule::average(hessian.clone(), estimate, beta2, self.step);
                }
            };
            let estimate = match self.config.estimate_limit {
                Some(limit) => rule::limited(estimate, hessian.clone(), limit),
                None => estimate,
            };
            rule::hessian(hessian.clone(), estimate, beta2, decay)
        });
        updated.collect()
    }

    /// The preconditioned gradient in the coordinates of the basis, before any clipping.
    fn direction(&self, mean: &Flats, momentum: &Flats, hessian: &Flats) -> Flats {
        let decays = |bucket: &Bucket| bucket.settings.weight_decay != 0.0;
        // Without weight decay the mean does not matter.
        let mean = match self.layout.buckets.iter().any(decays) {
            true => self.basis.inward(self.layout, mean),
            false => mean.clone(),
        };
        let debias = match self.config.debias {
            true => 1.0 - self.config.beta1.powf(self.step as f64),
            false => 1.0,
        };
        let direction = (0..mean.len()).map(|bucket| {
            let [mean, momentum, hessian] =
                [&mean, momentum, hessian].map(|flats| flats[bucket].clone());
            let Resolved {
                weight_decay: decay,
                floor,
                ..
            } = self.layout.buckets[bucket].settings;
            match (self.config.mean_update, self.config.hessian_approximation) {
                (MeanUpdate::Normalized, HessianApproximation::Fisher { examples }) => {
                    let gradient = rule::gradient(mean, momentum, debias, decay);
                    let radius = self.config.clip_radius.unwrap_or(1.0);
                    rule::normalized(gradient, hessian, examples, radius)
                }
                _ => {
                    let hessian = rule::plus(hessian, floor);
                    rule::direction(mean, momentum, hessian, debias, decay)
                }
            }
        });
        direction.collect()
    }

    /// The direction with each element clipped, by the clip radius and by the posterior's spread.
    fn clip(&self, direction: &Flats, hessian: &Flats) -> Flats {
        let buckets = direction.iter().zip(hessian).enumerate();
        let clipped = buckets.map(|(bucket, (direction, hessian))| {
            let direction = match self.config.newton_radius() {
                Some(radius) => direction.clone().clamp(-radius, radius),
                None => direction.clone(),
            };
            let rate = self.rate(bucket);
            match self.config.clip_deviations.filter(|_| rate > 0.0) {
                Some(deviations) => {
                    let bound = self.deviation(hessian, bucket) * (deviations / rate);
                    direction.min_pair(bound.clone()).max_pair(-bound)
                }
                None => direction,
            }
        });
        clipped.collect()
    }

    /// σ of a bucket's elements.
    fn deviation(&self, hessian: &Tensor<1>, bucket: usize) -> Tensor<1> {
        let added = self.layout.buckets[bucket].settings.added();
        rule::variance(hessian.clone(), self.config.effective_sample_size, added).sqrt()
    }

    /// m − lr′ · direction, with the direction turned back to the coordinates of the weights.
    fn mean(&self, old: &Flats, direction: &Flats) -> Flats {
        let direction = self.basis.outward(self.layout, direction);
        let mean = old.iter().zip(direction).enumerate();
        mean.map(|(bucket, (mean, direction))| {
            rule::mean(mean.clone(), direction, self.rate(bucket))
        })
        .collect()
    }

    /// lr′, the learning rate of a bucket.
    fn rate(&self, bucket: usize) -> f64 {
        self.layout.buckets[bucket]
            .settings
            .learning_rate(self.learning_rate, self.config.rescale_learning_rate)
    }

    /// The sums behind the report, computed on the device and read at once.
    fn sums(&self, squares: &Flats, direction: &Flats, clipped: &Flats, hessian: &Flats) -> Sums {
        let sums = (0..clipped.len()).map(|bucket| {
            let mut parts = vec![
                squares[bucket].clone(),
                total(clipped[bucket].clone().square()),
                total(hessian[bucket].clone()),
            ];
            if self.config.clips() {
                let cut = direction[bucket].clone().not_equal(clipped[bucket].clone());
                parts.push(total(cut.float().cast(clipped[bucket].dtype())));
            }
            Tensor::cat(parts, 0)
        });
        Sums::read(self.layout, sums.collect(), |bucket| self.rate(bucket))
    }

    /// Refuses a step with a number that is not finite, and names the parameter.
    fn check(
        &self,
        sums: &Sums,
        gradient: &Flats,
        direction: &Flats,
        hessian: &Flats,
    ) -> Result<(), IvonError> {
        if !sums.gradient_square.is_finite() {
            return Err(IvonError::NonFiniteGradient {
                step: self.step,
                path: culprit(self.layout, gradient),
            });
        }
        if !(sums.update_square.is_finite() && sums.hessian_ratio.is_finite()) {
            let both = pairs(direction, hessian.clone(), |a, b| a + b);
            return Err(IvonError::NonFiniteUpdate {
                step: self.step,
                path: culprit(self.layout, &both),
            });
        }
        Ok(())
    }
}

/// The number of elements of the parameters that have a gradient.
fn updated_elements(layout: &Layout, present: &[bool]) -> usize {
    let entries = layout.entries.iter().zip(present);
    entries
        .filter(|(_, present)| **present)
        .map(|(entry, _)| entry.length)
        .sum()
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
    // min(1, limit/norm), `[1]`, on the device so that the host does not wait; limit/0 is ∞.
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

/// Sums over all buckets.
#[derive(Default)]
struct Sums {
    gradient_square: f64,
    update_square: f64,
    hessian_ratio: f64,
    clipped: f64,
}

impl Sums {
    /// Reads the sums of each bucket, `[3 or 4]`, in one transaction and adds them up.
    fn read(layout: &Layout, buckets: Vec<Tensor<1>>, rate: impl Fn(usize) -> f64) -> Self {
        let transaction = buckets
            .into_iter()
            .fold(Transaction::default(), Transaction::register);
        let mut sums = Self::default();
        for (index, data) in transaction.execute().into_iter().enumerate() {
            let mut numbers = data.iter::<f64>();
            // A missing number counts as NaN, so that the step is refused.
            let mut next = || numbers.next().unwrap_or(f64::NAN);
            sums.gradient_square += next();
            sums.update_square += next() * rate(index) * rate(index);
            let bucket = &layout.buckets[index];
            let floor = bucket.settings.floor * bucket.length as f64;
            sums.hessian_ratio += (next() + floor) / bucket.settings.hessian_init;
            sums.clipped += numbers.next().unwrap_or(0.0);
        }
        sums
    }
}

/// The first parameter with a value that is not finite, else the one with the largest value. It
/// reads every parameter, so it is called only for an error.
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
