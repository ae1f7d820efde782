//! The noise of a posterior's draws: standard normals addressed by (seed, draw, path), and none at
//! τ = 0.

use ivon::noise::{Address, Purpose};

use super::{Draw, PosteriorError};
use crate::lora::Adapter;

/// The standard normals of one draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    /// Where they begin; a path completes it.
    pub address: Address,
}

impl Noise {
    /// The first `count` normals at `path`.
    pub fn normals(&self, path: &str, count: usize) -> Vec<f32> {
        let mut normals = vec![0.0; count];
        self.address.fill(path, &mut normals);
        normals
    }
}

/// Draw `sample` under `seed` at scale τ: the adapter that `with_noise` makes of the draw's normals,
/// or `mean` itself at τ = 0.
///
/// # Errors
/// If τ is negative or not finite, and those of `with_noise`.
pub(super) fn draw_by_noise(
    mean: &Adapter,
    sample: u64,
    seed: u64,
    scale: f64,
    with_noise: impl FnOnce(Noise) -> Result<Adapter, PosteriorError>,
) -> Result<Draw, PosteriorError> {
    check_scale(scale)?;
    if scale == 0.0 {
        return Ok(Draw::of(mean.clone()));
    }
    let address = Address {
        seed,
        purpose: Purpose::Posterior,
        step: 0,
        draw: sample,
    };
    with_noise(Noise { address }).map(Draw::of)
}

/// Checks that τ is finite and not negative.
pub fn check_scale(scale: f64) -> Result<(), PosteriorError> {
    if scale.is_finite() && scale >= 0.0 {
        return Ok(());
    }
    Err(PosteriorError::Setting {
        setting: "scale",
        expected: "finite and at least 0",
        found: scale,
    })
}
