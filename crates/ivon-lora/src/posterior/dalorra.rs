//! Bernoulli masks on the rank dimensions of an adapter: what DALorRA learns. A draw keeps row j of
//! an A with probability σ(φ_j) and sets it to 0 otherwise; in the mean the row is scaled by σ(φ_j).
//!
//! The mean and the logits φ determine every draw: a kept row is the mean's divided by σ(φ_j). With
//! |φ_j| ≤ 18 that is at least 1.5e-8, so that neither product nor quotient leaves f32's range.

use std::collections::BTreeMap;

use super::noise::check_scale;
use super::weights::{map_weights, only_kept};
use super::{Draw, Posterior, PosteriorError, Spread, Stored, StoredKind};
use crate::lora::{Adapter, HostMatrix, LoraError, peft_name};
use crate::random::{Purpose, stream, uniform};

/// The tag of its file.
const CONTENT: &str = "rank-masks";

/// Its kind.
pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "Bernoulli masks: a draw keeps or drops each rank dimension of each adapted layer",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, _, _| Ok(Box::new(Dalorra::from_stored(mean, stored)?)),
};
/// What stands before the names of its matrices `[r, 1]`, one for each A.
const PREFIX: &str = "logit.";

/// The largest |φ|. Logits a little larger would be deterministic masks, because the uniform numbers
/// behind a draw are clamped to [1e-8, 1 − 1e-8].
pub(crate) const LARGEST_LOGIT: f32 = 18.0;

/// An adapter with the probability that a draw keeps each of its rank dimensions.
#[derive(Clone, Debug)]
pub struct Dalorra {
    mean: Adapter,
    /// φ of each row of every A, in the adapter's order.
    logits: Vec<f32>,
    variance: Adapter,
    facts: BTreeMap<String, String>,
}

impl Dalorra {
    /// The posterior with this mean, in which each row of A is already scaled by σ(φ). `logits` has
    /// one φ per row of every A, in the adapter's order.
    ///
    /// # Errors
    /// If the number of logits is not that of the rows, or a logit is not from -18 to 18.
    pub fn new(mean: Adapter, logits: Vec<f32>) -> Result<Self, PosteriorError> {
        check_logits(&mean, &logits)?;
        // p (1 − p) A² with the mean p A, and (1 − p) / p = exp(−φ).
        let deviations: Vec<f64> = logits
            .iter()
            .map(|&logit| (-0.5 * f64::from(logit)).exp())
            .collect();
        let variance = map_weights(&scale_rows(&mean, &deviations)?, |path, matrix| {
            let is_masked = path.ends_with(MASKED);
            let square = |value: &mut f32| *value *= if is_masked { *value } else { 0.0 };
            matrix.values.iter_mut().for_each(square);
        })?;
        Ok(Self {
            mean,
            logits,
            variance,
            facts: BTreeMap::new(),
        })
    }

    /// The posterior whose draws keep rows of A as they are in `weights`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_weights(weights: &Adapter, logits: Vec<f32>) -> Result<Self, PosteriorError> {
        check_logits(weights, &logits)?;
        let probabilities: Vec<f64> = logits
            .iter()
            .map(|&logit| logistic(f64::from(logit)))
            .collect();
        Self::new(scale_rows(weights, &probabilities)?, logits)
    }

    /// With a fact that its file shall hold.
    pub fn with_fact(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    fn from_stored(mean: Adapter, stored: &Stored) -> Result<Self, PosteriorError> {
        let mut matrices = stored.matrices.clone();
        let mut logits = Vec::new();
        for (path, rank) in masked_rows(&mean) {
            let name = logits_name(&path);
            let Some(matrix) = matrices.remove(&name) else {
                let path = stored.path.clone();
                return Err(LoraError::MissingTensor { path, name }.into());
            };
            if matrix.shape != [rank, 1] {
                let (expected, found) = (vec![rank, 1], matrix.shape.into());
                return Err(LoraError::Shape {
                    name,
                    expected,
                    found,
                }
                .into());
            }
            logits.extend(matrix.values);
        }
        if let Some(name) = matrices.into_keys().next() {
            let (path, reason) = (
                stored.path.clone(),
                "it holds no logits of an A of the mean".into(),
            );
            return Err(LoraError::UnknownTensor { path, name, reason }.into());
        }
        Ok(Self {
            facts: stored.facts.clone(),
            ..Self::new(mean, logits)?
        })
    }
}

/// The end of the path of a matrix whose rows are masked.
const MASKED: &str = "lora_A";

/// The name of an A's logits in the file.
fn logits_name(path: &str) -> String {
    format!("{PREFIX}{}", peft_name(path))
}

/// The path of every A with the number of its rows, in the adapter's order.
pub(crate) fn masked_rows(adapter: &Adapter) -> impl Iterator<Item = (String, usize)> {
    adapter
        .pairs()
        .map(|(path, pair)| (path.part(MASKED), pair.rank()))
}

/// Checks that there is one logit per row of every A, and that each is in its range.
fn check_logits(adapter: &Adapter, logits: &[f32]) -> Result<(), PosteriorError> {
    let rows: usize = masked_rows(adapter).map(|(_, rank)| rank).sum();
    if logits.len() != rows {
        return Err(PosteriorError::Parameters {
            what: "the list of logits",
            expected: format!("{rows} rows of A"),
            found: format!("{} numbers", logits.len()),
        });
    }
    let mut rest = logits;
    for (path, rank) in masked_rows(adapter) {
        let (own, others) = rest.split_at(rank);
        rest = others;
        let is_wrong = |logit: &&f32| !(-LARGEST_LOGIT..=LARGEST_LOGIT).contains(*logit);
        if let Some(&found) = own.iter().find(is_wrong) {
            return Err(PosteriorError::Logit { path, found });
        }
    }
    Ok(())
}

/// σ(x) = 1 / (1 + e^(−x)).
pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The address of the noise of one draw of all masks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskAddress {
    /// The seed of the run or of the posterior's draws.
    pub seed: u64,
    /// The step of training, from 1; 0 for a posterior.
    pub step: u64,
    /// The number of the draw within the step, or within the posterior.
    pub draw: u64,
}

impl MaskAddress {
    /// Logistic noise ε = ln u − ln(1 − u) for each row of every A, in the adapter's order, with u
    /// uniform and clamped to [1e-8, 1 − 1e-8]. φ + ε is above 0 with probability σ(φ).
    pub(crate) fn noise(self, adapter: &Adapter) -> Vec<f64> {
        let mut noise = Vec::new();
        for (path, rank) in masked_rows(adapter) {
            let mut numbers = stream(self.seed, Purpose::RankMask, self.step, self.draw, &path);
            noise.extend((0..rank).map(|_| {
                let u = uniform(&mut numbers).clamp(1e-8, 1.0 - 1e-8);
                u.ln() - (1.0 - u).ln()
            }));
        }
        noise
    }
}

/// The adapter with row j of A, counted through all A in the adapter's order, scaled by `factors[j]`.
///
/// # Errors
/// If the device does not return its data, or a scaled weight is not finite.
pub(crate) fn scale_rows(adapter: &Adapter, factors: &[f64]) -> Result<Adapter, PosteriorError> {
    let mut factors = factors.iter();
    map_weights(adapter, |path, matrix| {
        if !path.ends_with(MASKED) {
            return;
        }
        let columns = matrix.shape[1].max(1);
        for (row, factor) in matrix.values.chunks_mut(columns).zip(&mut factors) {
            row.iter_mut()
                .for_each(|value| *value = (f64::from(*value) * factor) as f32);
        }
    })
}

impl Posterior for Dalorra {
    /// The adapter under the masks of draw `sample`. τ turns masks on (above 0) or off (0).
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        check_scale(scale)?;
        if scale == 0.0 {
            return Ok(Draw::of(self.mean.clone()));
        }
        let address = MaskAddress {
            seed,
            step: 0,
            draw: sample,
        };
        let factor = |(&logit, noise): (&f32, f64)| {
            let logit = f64::from(logit);
            let is_kept = logit + noise > 0.0;
            if is_kept { 1.0 / logistic(logit) } else { 0.0 }
        };
        let noise = address.noise(&self.mean);
        let factors: Vec<f64> = self.logits.iter().zip(noise).map(factor).collect();
        Ok(Draw::of(scale_rows(&self.mean, &factors)?))
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    /// The marginal variance of each weight; the weights of a row of A are kept or dropped together.
    fn variance(&self) -> Option<&Adapter> {
        Some(&self.variance)
    }

    fn spread(&self) -> Spread {
        Spread::Fixed
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(Self {
            facts: self.facts.clone(),
            ..Self::new(only_kept(&self.mean, kept)?, self.logits.clone())?
        }))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let mut stored = Stored {
            facts: self.facts.clone(),
            ..Stored::new(CONTENT)
        };
        let mut rest = &self.logits[..];
        for (path, rank) in masked_rows(&self.mean) {
            let (own, others) = rest.split_at(rank);
            rest = others;
            let (shape, values) = ([rank, 1], own.into());
            let logits = HostMatrix { shape, values };
            stored.matrices.insert(logits_name(&path), logits);
        }
        Ok(Some(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    /// Rank 4 at one projection.
    const LOGITS: [f32; 4] = [2.0, -1.0, 0.0, 4.0];

    fn masks() -> Dalorra {
        Dalorra::of_weights(&adapter(1, "q_proj"), LOGITS.into()).unwrap()
    }

    fn drawn(posterior: &dyn Posterior, sample: u64, scale: f64) -> Vec<f32> {
        let draw = posterior.draw(sample, 7, scale).unwrap();
        draw.adapter.flatten().unwrap()
    }

    #[test]
    fn a_draw_keeps_or_drops_whole_rows_of_a_each_as_often_as_its_logit_says() {
        let (posterior, weights) = (masks(), adapter(1, "q_proj").flatten().unwrap());
        let draws = 4000u32;
        let mut kept = [0u32; 4];
        for sample in 0..draws {
            let drawn = drawn(&posterior, sample.into(), 1.0);
            for (row, kept) in kept.iter_mut().enumerate() {
                let place = row * 32..(row + 1) * 32;
                let (found, whole) = (&drawn[place.clone()], &weights[place]);
                if found.iter().all(|value| *value == 0.0) {
                    continue;
                }
                *kept += 1;
                // Divided by σ(φ) in f64 after one rounding to f32.
                let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1.2e-7 * b.abs();
                assert!(found.iter().zip(whole).all(is_close));
            }
            assert_eq!(drawn[128..], weights[128..]);
        }
        for (kept, logit) in kept.into_iter().zip(LOGITS) {
            let p = 1.0 / (1.0 + f64::from(-logit).exp());
            let share = f64::from(kept) / f64::from(draws);
            let error = (p * (1.0 - p) / f64::from(draws)).sqrt();
            assert!((share - p).abs() < 4.5 * error, "{share} {p}");
        }
    }

    #[test]
    fn the_mean_and_the_variance_are_those_of_many_draws() {
        let posterior = masks();
        let mean = posterior.mean().flatten().unwrap();
        let variance = posterior.variance().unwrap().flatten().unwrap();
        let draws = 4000;
        let mut sums = vec![[0.0f64; 2]; mean.len()];
        for sample in 0..draws {
            for (sums, value) in sums.iter_mut().zip(drawn(&posterior, sample, 1.0)) {
                sums[0] += f64::from(value) / draws as f64;
                sums[1] += f64::from(value).powi(2) / draws as f64;
            }
        }
        for ((sums, mean), variance) in sums.iter().zip(mean).zip(variance) {
            let (mean, variance) = (f64::from(mean), f64::from(variance));
            let error = (variance / draws as f64).sqrt();
            assert!((sums[0] - mean).abs() <= 4.5 * error + 1e-6, "{sums:?}");
            let found = sums[1] - sums[0] * sums[0];
            // Of φ = 4 a draw in 55 is 0: 73 of them, give or take 8.5.
            assert!((found - variance).abs() <= 0.4 * variance + 1e-9);
        }
    }

    #[test]
    fn masks_are_named_by_draw_and_seed_and_off_at_scale_zero() {
        let posterior = masks();
        let mean = posterior.mean().flatten().unwrap();
        assert_eq!(drawn(&posterior, 3, 0.0), mean);
        assert_eq!(drawn(&posterior, 3, 1.0), drawn(&posterior, 3, 0.2));
        let seeded = |seed| {
            let draws = (0..8).map(|sample| posterior.draw(sample, seed, 1.0).unwrap().adapter);
            let numbers = draws.map(|adapter| adapter.flatten().unwrap());
            numbers.collect::<Vec<_>>()
        };
        assert_ne!(seeded(1), seeded(2));
        assert!(seeded(1).windows(2).any(|two| two[0] != two[1]));
        assert!(posterior.draw(0, 0, f64::NAN).is_err());
        assert_eq!(posterior.spread(), Spread::Fixed);
    }

    #[test]
    fn the_smallest_probability_divides_without_losing_digits() {
        let weights = adapter(1, "q_proj");
        let rare = Dalorra::of_weights(&weights, vec![-LARGEST_LOGIT; 4]).unwrap();
        let kept = scale_rows(rare.mean(), &[1.0 / logistic(-18.0); 4]).unwrap();
        let (kept, weights) = (kept.flatten().unwrap(), weights.flatten().unwrap());
        let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1.2e-7 * b.abs();
        assert!(kept.iter().zip(&weights).all(is_close));
    }

    #[test]
    fn it_reads_back_around_its_mean_and_what_is_wrong_is_named() {
        let before = masks().with_fact("mask_prior", 0.5);
        let stored = before.stored().unwrap().unwrap();
        let read = |stored: &Stored| Dalorra::from_stored(before.mean().clone(), stored);
        let after = read(&stored).unwrap();
        assert_eq!(
            (&after.logits[..], &after.facts),
            (&LOGITS[..], &before.facts)
        );
        for sample in 0..5 {
            assert_eq!(drawn(&after, sample, 1.0), drawn(&before, sample, 1.0));
        }
        let name = "logit.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        assert_eq!(stored.matrices[name].shape, [4, 1]);
        let refused = |change: &dyn Fn(&mut BTreeMap<String, HostMatrix>)| {
            let mut other = stored.clone();
            change(&mut other.matrices);
            read(&other).err().unwrap().to_string()
        };
        let with = |shape, values: &[f32]| HostMatrix {
            shape,
            values: values.into(),
        };
        assert!(
            refused(&|matrices| matrices.clear())
                .starts_with(&format!("tensor `{name}` is missing"))
        );
        let short = |matrices: &mut BTreeMap<_, _>| {
            drop(matrices.insert(name.into(), with([3, 1], &[0.0; 3])))
        };
        assert!(refused(&short).ends_with("has shape [3, 1], expected [4, 1]"));
        let foreign = |matrices: &mut BTreeMap<_, _>| {
            drop(matrices.insert("other".into(), with([1, 1], &[0.0])))
        };
        assert!(refused(&foreign).contains("it holds no logits of an A of the mean"));
        for found in [f32::NAN, 18.5, f32::NEG_INFINITY] {
            let wide = |matrices: &mut BTreeMap<_, _>| {
                drop(matrices.insert(name.into(), with([4, 1], &[0.0, found, 1.0, 1.0])))
            };
            let expected = format!(
                "a logit of the masks on `layers.0.self_attn.q_proj.lora_A` is {found}, expected a number from -18 to 18"
            );
            assert_eq!(refused(&wide), expected);
        }
        let few = Dalorra::new(before.mean().clone(), vec![0.0; 3])
            .err()
            .unwrap();
        assert_eq!(
            few.to_string(),
            "the list of logits has 3 numbers, but the mean has 4 rows of A"
        );
    }
}
