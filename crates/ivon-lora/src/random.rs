//! Every random number of a run but the normals, by address: (seed, purpose, step, draw, path) names a ChaCha stream. Normals have
//! streams of their own in [`ivon::noise`].
//!
//! Nothing is consumed in an order that a resume or another batch could change: the same address gives
//! the same numbers on every machine.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for; each purpose has streams of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// The start values of the adapter.
    Initialisation = 1,
    /// The order of the training examples in an epoch.
    DataOrder = 2,
    /// Which rows play which role.
    Split = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Signs of a token's noise.
    Flip = 5,
    /// Resampling for intervals.
    Bootstrap = 6,
    /// Text and data that the program makes itself.
    Generation = 7,
    /// Trials of settings.
    Search = 12,
}

/// The stream at an address. `path` names a parameter, a file or a row; empty where there is only one.
pub fn stream(seed: u64, purpose: Purpose, step: u64, draw: u64, path: &str) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    // Steps stay far below 2^56, so the purpose has the top byte to itself.
    key[8..16].copy_from_slice(&((purpose as u64) << 56 | step).to_le_bytes());
    key[16..24].copy_from_slice(&draw.to_le_bytes());
    key[24..].copy_from_slice(&fnv1a(path.as_bytes()).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a, 64 bits: short, fixed for ever, and good enough to tell a few thousand paths apart.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A uniform number in [0, 1) with 53 random bits.
pub fn uniform(stream: &mut impl Rng) -> f64 {
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A uniform whole number below `bound` (at least 1), without bias.
pub fn below(stream: &mut impl Rng, bound: u64) -> u64 {
    // Lemire's multiplication; a low product that would favour some results is drawn again.
    loop {
        let wide = u128::from(stream.next_u64()) * u128::from(bound);
        if wide as u64 >= bound.wrapping_neg() % bound {
            return (wide >> 64) as u64;
        }
    }
}

/// Fisher and Yates' shuffle.
pub fn shuffle<T>(stream: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(stream, last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_numbers_and_no_two_addresses_share_them() {
        let first = |seed, purpose, step, draw, path: &str| stream(seed, purpose, step, draw, path).next_u64();
        let base = first(1, Purpose::Dropout, 2, 3, "q");
        assert_eq!(base, first(1, Purpose::Dropout, 2, 3, "q"));
        for other in [
            first(2, Purpose::Dropout, 2, 3, "q"),
            first(1, Purpose::Split, 2, 3, "q"),
            first(1, Purpose::Dropout, 3, 3, "q"),
            first(1, Purpose::Dropout, 2, 4, "q"),
            first(1, Purpose::Dropout, 2, 3, "v"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_is_fair_to_each_place() {
        let mut counts = [[0u32; 4]; 4];
        for draw in 0..4000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut stream(1, Purpose::DataOrder, 0, draw, ""), &mut items);
            for (place, &item) in items.iter().enumerate() {
                counts[item][place] += 1;
            }
        }
        // 1,000 expected in each cell, standard deviation 27.
        assert!(counts.iter().flatten().all(|&count| count.abs_diff(1000) < 140), "{counts:?}");
    }

    #[test]
    fn uniforms_fill_the_unit_interval() {
        let mut numbers = stream(7, Purpose::Split, 0, 0, "");
        let mean = (0..10_000).map(|_| uniform(&mut numbers)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
    }
}
