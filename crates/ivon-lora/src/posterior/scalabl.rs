//! A normal distribution with one random number for each row of A, which ScalaBL learns: row i of A
//! is mean_i + √τ z_i · direction_i.

use burn::tensor::Device;

use super::noise::draw_by_noise;
use super::weights::{check_parameters, map_weights, only_kept};
use super::{Draw, Posterior, PosteriorError, Stored, StoredKind};
use crate::lora::Adapter;
use crate::model::DecoderConfig;

const CONTENT: &str = "rows";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "a normal distribution with one number for each row of A",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Scalabl::from_stored(
            mean, stored, decoder, device,
        )?))
    },
};

/// The mean, and for each row the direction of its noise, one standard deviation long.
#[derive(Clone, Debug)]
pub struct Scalabl {
    mean: Adapter,
    directions: Adapter,
    variance: Adapter,
}

impl Scalabl {
    /// The posterior whose row i moves along row i of `directions` by a standard normal; rows whose
    /// direction is 0 are fixed.
    ///
    /// # Errors
    /// If names or shapes differ, or the square of an entry of `directions` is not finite.
    pub fn new(mean: Adapter, directions: Adapter) -> Result<Self, PosteriorError> {
        check_parameters("the matrix of directions", &mean, &directions)?;
        let variance = map_weights(&directions, |_, matrix| {
            matrix.values.iter_mut().for_each(|value| *value *= *value)
        })?;
        Ok(Self {
            mean,
            directions,
            variance,
        })
    }

    fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let directions = stored.adapter("direction.", &mean.scaling, decoder, device)?;
        Self::new(mean, directions)
    }
}

impl Posterior for Scalabl {
    /// The z of a parameter's rows are the normals at its path.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        draw_by_noise(&self.mean, sample, seed, scale, |noise| {
            let mut directions = self.directions.to_matrices()?.into_iter();
            map_weights(&self.mean, |path, mean| {
                let Some((_, direction)) = directions.next() else {
                    return;
                };
                let columns = mean.shape[1].max(1);
                let rows = mean.values.chunks_mut(columns);
                let rows = rows.zip(direction.values.chunks(columns));
                for ((row, direction), z) in rows.zip(noise.normals(path, mean.shape[0])) {
                    let by = scale.sqrt() * f64::from(z);
                    for (value, direction) in row.iter_mut().zip(direction) {
                        *value += (by * f64::from(*direction)) as f32;
                    }
                }
            })
        })
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    /// The diagonal of the covariance; the weights of a row move together.
    fn variance(&self) -> Option<&Adapter> {
        Some(&self.variance)
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let mean = only_kept(&self.mean, kept)?;
        let directions = only_kept(&self.directions, kept)?;
        Ok(Box::new(Self::new(mean, directions)?))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        Stored::new(CONTENT)
            .with_adapter("direction.", &self.directions)
            .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    #[test]
    fn a_row_moves_along_its_direction_and_by_itself() {
        let mean = adapter(1, "q_proj");
        let directions = mean.clone_with(|path, tensor| {
            if path.ends_with("lora_A") {
                tensor.zeros_like() + 0.5
            } else {
                tensor.zeros_like()
            }
        });
        let rows = Scalabl::new(mean.clone(), directions).unwrap();
        let numbers = mean.flatten().unwrap();
        let mut squares = 0.0;
        for sample in 0..500 {
            let drawn = rows
                .draw(sample, 1, 4.0)
                .unwrap()
                .adapter
                .flatten()
                .unwrap();
            // Four rows of 32 in A, then B as it was.
            for row in 0..4 {
                let moves: Vec<f32> = (0..32)
                    .map(|column| drawn[row * 32 + column] - numbers[row * 32 + column])
                    .collect();
                assert!(moves.iter().all(|by| (by - moves[0]).abs() < 1e-5));
                squares += f64::from(moves[0]).powi(2) / 2000.0;
            }
            assert_eq!(drawn[128..], numbers[128..]);
        }
        // τ · ½² = 1; 2,000 squares of normals: relative standard error √(2/2000) = 0.03.
        assert!((squares - 1.0).abs() < 0.13, "{squares}");
        assert_eq!(rows.variance().unwrap().flatten().unwrap()[0], 0.25);
        assert!(
            Scalabl::new(mean, adapter(1, "v_proj"))
                .unwrap_err()
                .to_string()
                .starts_with("the matrix of directions has `")
        );
    }
}
