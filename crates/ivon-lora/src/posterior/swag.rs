//! SWAG (Maddox et al., arXiv 1902.02476): a normal distribution fitted to snapshots of the training
//! path, whose covariance is a diagonal plus a low-rank matrix.
//!
//! θ = mean + √(τ s) · (sd ⊙ z₁ + D z₂ / √(K−1)) with s = ½, where the K columns of D are snapshots
//! minus the final mean; with fewer than two of them, θ = mean + √τ · sd ⊙ z₁.

use burn::tensor::Device;

use super::noise::draw_by_noise;
use super::weights::{check_parameters, check_variance, map_weights, only_kept};
use super::{Draw, Posterior, PosteriorError, Stored, StoredKind};
use crate::lora::Adapter;
use crate::model::DecoderConfig;

const CONTENT: &str = "swag";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "SWAG's normal distribution: a variance of each weight, and directions in which all move together",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Swag::from_stored(mean, stored, decoder, device)?))
    },
};
/// The path of the normals of the low-rank part; no parameter has it.
const LOW_RANK: &str = "swag.low_rank";
/// The most columns of a file.
const MAX_RANK: usize = 10_000;

/// Mean, variances and deviations.
#[derive(Clone, Debug)]
pub struct Swag {
    mean: Adapter,
    diagonal: Adapter,
    deviations: Vec<Adapter>,
    variance: Adapter,
}

impl Swag {
    /// The posterior with this mean of the snapshots, their variances (about the mean, divided by
    /// their number) and the deviations of some of them from the mean.
    ///
    /// # Errors
    /// If names or shapes differ, or a variance is negative or not finite.
    pub fn new(
        mean: Adapter,
        diagonal: Adapter,
        deviations: Vec<Adapter>,
    ) -> Result<Self, PosteriorError> {
        check_parameters("the variance", &mean, &diagonal)?;
        deviations
            .iter()
            .try_for_each(|deviation| check_parameters("a deviation", &mean, deviation))?;
        check_variance(&diagonal)?;
        let columns = columns(&deviations)?;
        let (diagonal_share, low_rank_share) = shares(columns.len());
        let mut start = 0;
        let variance = map_weights(&diagonal, |_, matrix| {
            for value in &mut matrix.values {
                let squares: f64 = columns
                    .iter()
                    .map(|column| f64::from(column[start]).powi(2))
                    .sum();
                *value = (diagonal_share * f64::from(*value) + low_rank_share * squares) as f32;
                start += 1;
            }
        })?;
        Ok(Self {
            mean,
            diagonal,
            deviations,
            variance,
        })
    }

    fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let rank: usize = stored.number("rank", "a whole number")?;
        if rank > MAX_RANK {
            return Err(stored.wrong("rank", format!("at most {MAX_RANK}")));
        }
        let diagonal = stored.adapter("variance.", &mean.scaling, decoder, device)?;
        let deviations = (0..rank)
            .map(|column| stored.adapter(&prefix(column), &mean.scaling, decoder, device))
            .collect::<Result<_, _>>()?;
        Self::new(mean, diagonal, deviations)
    }
}

/// The prefix of a column's matrices.
fn prefix(column: usize) -> String {
    format!("deviation.{column}.")
}

/// The factors of the variance and of D Dᵀ in the covariance: s and s/(K−1).
fn shares(columns: usize) -> (f64, f64) {
    if columns < 2 {
        (1.0, 0.0)
    } else {
        (0.5, 0.5 / (columns as f64 - 1.0))
    }
}

fn columns(deviations: &[Adapter]) -> Result<Vec<Vec<f32>>, PosteriorError> {
    deviations
        .iter()
        .map(|deviation| Ok(deviation.flatten()?))
        .collect()
}

impl Posterior for Swag {
    /// z₁ has the addresses of [`Gaussian`](super::Gaussian)'s draws, z₂ one of its own.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        draw_by_noise(&self.mean, sample, seed, scale, |noise| {
            let (diagonal_share, low_rank_share) = shares(self.deviations.len());
            let z2 = noise.normals(LOW_RANK, self.deviations.len()).into_iter();
            let z2: Vec<f64> = z2
                .map(|z| (scale * low_rank_share).sqrt() * f64::from(z))
                .collect();
            let columns = columns(&self.deviations)?;
            let mut variances = self.diagonal.flatten()?.into_iter().enumerate();
            map_weights(&self.mean, |path, mean| {
                let z1 = noise.normals(path, mean.values.len());
                let weights = mean.values.iter_mut().zip(z1);
                for ((value, z), (place, variance)) in weights.zip(&mut variances) {
                    let own = (scale * diagonal_share * f64::from(variance)).sqrt() * f64::from(z);
                    let columns = columns.iter().zip(&z2);
                    let common: f64 = columns
                        .map(|(column, z)| z * f64::from(column[place]))
                        .sum();
                    *value = (f64::from(*value) + own + common) as f32;
                }
            })
        })
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    /// The diagonal of the covariance.
    fn variance(&self) -> Option<&Adapter> {
        Some(&self.variance)
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let mean = only_kept(&self.mean, kept)?;
        let diagonal = only_kept(&self.diagonal, kept)?;
        let deviations = self.deviations.iter();
        let deviations = deviations.map(|deviation| only_kept(deviation, kept));
        let deviations = deviations.collect::<Result<_, _>>()?;
        Ok(Box::new(Self::new(mean, diagonal, deviations)?))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let stored = Stored::new(CONTENT)
            .with("rank", self.deviations.len())
            .with_adapter("variance.", &self.diagonal)?;
        let with = |stored: Stored, (column, deviation): (usize, &Adapter)| {
            stored.with_adapter(&prefix(column), deviation)
        };
        self.deviations
            .iter()
            .enumerate()
            .try_fold(stored, with)
            .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    /// Three columns that move all weights of an adapter together, by 1, −2 and 1; variance 2
    /// (their own).
    fn swag(columns: usize) -> Swag {
        let mean = adapter(1, "q_proj");
        let deviation = |by: f64| mean.clone_with(|_, tensor| tensor.zeros_like() + by);
        Swag::new(
            mean.clone(),
            deviation(2.0),
            [1.0, -2.0, 1.0][..columns]
                .iter()
                .map(|&by| deviation(by))
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn draws_have_the_covariance_of_the_formula() {
        // s (2 + 6/2) = 2.5 on the diagonal, of which 1.5 is common to all weights.
        let swag = swag(3);
        assert!(
            swag.variance()
                .unwrap()
                .flatten()
                .unwrap()
                .iter()
                .all(|&variance| (variance - 2.5).abs() < 1e-6)
        );
        let mean = swag.mean().flatten().unwrap();
        let (mut own, mut common) = (0.0, 0.0);
        let draws = 400;
        for sample in 0..draws {
            let drawn = swag
                .draw(sample, 1, 1.0)
                .unwrap()
                .adapter
                .flatten()
                .unwrap();
            let noise: Vec<f64> = drawn
                .iter()
                .zip(&mean)
                .map(|(a, b)| f64::from(a - b))
                .collect();
            let average = noise.iter().sum::<f64>() / noise.len() as f64;
            common += average * average / draws as f64;
            own += noise.iter().map(|x| (x - average).powi(2)).sum::<f64>()
                / noise.len() as f64
                / draws as f64;
        }
        // The common part: a χ² over 400 draws, relative standard error √(2/400) = 0.07.
        assert!((common / 1.5 - 1.0).abs() < 0.3, "{common}");
        assert!((own - 1.0).abs() < 0.05, "{own}");
    }

    #[test]
    fn with_fewer_than_two_columns_the_diagonal_stands_alone() {
        let swag = swag(1);
        let mean = swag.mean().flatten().unwrap();
        let drawn = swag.draw(0, 1, 1.0).unwrap().adapter.flatten().unwrap();
        let square = drawn
            .iter()
            .zip(&mean)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            / mean.len() as f64;
        // 256 numbers: relative standard error √(2/256) = 0.09.
        assert!((square / 2.0 - 1.0).abs() < 0.35, "{square}");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let mean = adapter(1, "q_proj");
        let message = |diagonal: Adapter, deviations| {
            Swag::new(mean.clone(), diagonal, deviations)
                .unwrap_err()
                .to_string()
        };
        assert!(message(adapter(1, "v_proj"), vec![]).starts_with("the variance has `"));
        assert!(
            message(adapter(1, "q_proj"), vec![adapter(1, "v_proj")])
                .starts_with("a deviation has `")
        );
        assert!(
            message(mean.clone_with(|_, tensor| tensor * 0.0 - 1.0), vec![])
                .contains("holds -1, expected")
        );
        let stored = swag(2).stored().unwrap().unwrap().with("rank", 99999);
        let error = Swag::from_stored(
            mean,
            &stored,
            &crate::testing::tiny::decoder(1),
            &Device::flex(),
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has `99999` as `rank`, expected at most 10000"),
            "{error}"
        );
    }
}
