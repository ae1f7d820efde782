//! Every random number of a run except the normals, by address: (seed, purpose, step, draw, path)
//! selects a ChaCha stream. [`ivon::noise`] has the normals, and the mapping from an address to its
//! stream.
//!
//! Nothing depends on the order of consumption, which a resume or another batch would change: the
//! same address gives the same numbers on every machine.

use ivon::noise;
pub use ivon::noise::fnv1a;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Defines the enum and the list of all its variants together, so that the list is complete.
macro_rules! purposes {
    ($($(#[$doc:meta])* $name:ident = $byte:literal,)*) => {
        /// What random numbers are for; no two purposes share a stream. Purposes below 128 are
        /// defined here, the others in [`ivon::noise`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Purpose {
            $($(#[$doc])* $name = $byte,)*
        }

        impl Purpose {
            /// All purposes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

purposes! {
    /// The initial values of the adapter.
    Initialisation = 1,
    /// The order of the training examples in an epoch.
    DataOrder = 2,
    /// The assignment of rows to roles.
    Split = 3,
    /// Dropout masks.
    Dropout = 4,
    /// The random signs of flipout.
    Flip = 5,
    /// Bootstrap resampling for confidence intervals.
    Bootstrap = 6,
    /// Generated text and data.
    Generation = 7,
    /// Trials of a hyperparameter search.
    Search = 12,
    /// Masks of rank dimensions.
    RankMask = 13,
    /// The division of calibrate, and the uniform numbers of decisions.
    Decision = 15,
    /// The tokens of a text that a model writes.
    Sampling = 14,
}

/// The stream at an address. `path` is a parameter, a file or a row; empty where there is only one.
pub fn stream(seed: u64, purpose: Purpose, step: u64, draw: u64, path: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(noise::key(seed, purpose as u8, step, draw, path))
}

/// A uniform number in [0, 1) with 53 random bits.
pub fn uniform(stream: &mut impl Rng) -> f64 {
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A uniform integer below `bound` (at least 1), without bias.
pub fn below(stream: &mut impl Rng, bound: u64) -> u64 {
    // Lemire's method: a low product that would bias the result is drawn again.
    loop {
        let wide = u128::from(stream.next_u64()) * u128::from(bound);
        if wide as u64 >= bound.wrapping_neg() % bound {
            return (wide >> 64) as u64;
        }
    }
}

/// Fisher–Yates shuffle.
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
        let first = |seed, purpose, step, draw, path: &str| {
            stream(seed, purpose, step, draw, path).next_u64()
        };
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
    fn no_two_purposes_of_any_crate_share_a_byte() {
        let own = Purpose::ALL.iter().map(|&purpose| purpose as u8);
        let mut bytes: Vec<u8> = own
            .chain(noise::Purpose::ALL.map(noise::Purpose::byte))
            .collect();
        assert!(Purpose::ALL.iter().all(|&purpose| (purpose as u8) < 128));
        let count = bytes.len();
        bytes.sort_unstable();
        bytes.dedup();
        assert_eq!(bytes.len(), count, "{bytes:?}");
    }

    #[test]
    fn the_start_of_an_adapter_says_nothing_about_the_noise_of_its_first_step() {
        // A uniform takes two words and a normal one, so start k uses words 2k and 2k + 1. Of each
        // block of words the first half gives the radii of the pairs of normals, the second half
        // their angles; the sum of squares of a pair depends on its radius alone.
        const PATH: &str = "layers.0.self_attn.q_proj.lora_A";
        let count = 1 << 14;
        let mut numbers = stream(21, Purpose::Initialisation, 0, 0, PATH);
        let starts: Vec<f64> = (0..count / 2).map(|_| uniform(&mut numbers)).collect();
        let mut normals = vec![0.0f32; count];
        let address = noise::Address {
            seed: 21,
            purpose: noise::Purpose::Training,
            step: 0,
            draw: 0,
        };
        address.fill(PATH, &mut normals);
        for word in [0, 1] {
            let size = |k: usize| match (2 * k + word) % 256 {
                place if place < 128 => Some([normals[2 * k + word], normals[2 * k + word + 128]]),
                _ => None,
            };
            let pairs: Vec<[f64; 2]> = (0..starts.len())
                .filter_map(|k| {
                    Some([
                        starts[k],
                        size(k)?.iter().map(|z| f64::from(*z).powi(2)).sum(),
                    ])
                })
                .collect();
            let found = correlation(&pairs);
            // 4,096 pairs: standard error 1/64. With shared words it was -0.87.
            assert!(found.abs() < 5.0 / 64.0, "word {word}: {found}");
        }
    }

    fn correlation(pairs: &[[f64; 2]]) -> f64 {
        let mean = [0, 1]
            .map(|side| pairs.iter().map(|pair| pair[side]).sum::<f64>() / pairs.len() as f64);
        let product = |a: usize, b: usize| {
            pairs
                .iter()
                .map(|pair| (pair[a] - mean[a]) * (pair[b] - mean[b]))
                .sum::<f64>()
        };
        product(0, 1) / (product(0, 0) * product(1, 1)).sqrt()
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
        assert!(
            counts
                .iter()
                .flatten()
                .all(|&count| count.abs_diff(1000) < 140),
            "{counts:?}"
        );
    }

    #[test]
    fn uniforms_fill_the_unit_interval() {
        let mut numbers = stream(7, Purpose::Split, 0, 0, "");
        let mean = (0..10_000).map(|_| uniform(&mut numbers)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
    }
}
