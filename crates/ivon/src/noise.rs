//! Standard normals by address: (seed, purpose, step, draw, parameter path) selects a ChaCha8
//! stream, and element i of the parameter is made from the same bits of it on every machine.
//! [`key`] is the one place where an address becomes a stream, for this crate's normals and for
//! whatever else a program draws by address.
//!
//! The Box–Muller transform in f32, with polynomials for logarithm, sine and cosine: IEEE 754
//! fixes the result of every operation in it (+, −, ×, ÷, √), so the numbers do not depend on the
//! system's math library, the instruction set or the number of threads; and it vectorises.
//!
//! Quality: each pair takes a radius of 31 bits and an angle of 26 bits, so |z| ≤ 6.7 (a normal
//! exceeds that with probability 2e-11); the relative error of the transform is below 1e-6.
//! Tensors of f64 take the same numbers widened.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What normals are for; no two purposes share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// The draws of training steps.
    Training = 1,
    /// Draws from a finished posterior.
    Posterior = 2,
    /// The start of parameters that begin at random.
    Start = 3,
}

/// This crate reserves the purposes from 128, for the variants of [`Purpose`] and future ones.
const OWN: u8 = 0x80;

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 3] = [Self::Training, Self::Posterior, Self::Start];

    /// Its byte in a [`key`], at least 128.
    pub const fn byte(self) -> u8 {
        OWN | self as u8
    }
}

/// The key of the ChaCha stream at an address: seed, step with the purpose in its top byte, draw,
/// and the hash of the path, each as a little-endian u64.
///
/// A program that draws other numbers by address uses purposes below 128, so that its streams are
/// never those of a [`Purpose`]. Steps are below 2⁵⁶.
pub fn key(seed: u64, purpose: u8, step: u64, draw: u64, path: &str) -> [u8; 32] {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    // Steps stay far below 2^56, so the purpose has the top byte to itself.
    key[8..16].copy_from_slice(&(u64::from(purpose) << 56 | step).to_le_bytes());
    key[16..24].copy_from_slice(&draw.to_le_bytes());
    key[24..].copy_from_slice(&fnv1a(path.as_bytes()).to_le_bytes());
    key
}

/// The address of a draw; with a parameter's path it selects a stream of normals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Selects the sequence.
    pub seed: u64,
    /// What the draw is for.
    pub purpose: Purpose,
    /// The steps taken before the draw, below 2⁵⁶; 0 for a posterior.
    pub step: u64,
    /// The number of the draw within the step, or within the posterior.
    pub draw: u64,
}

impl Address {
    fn stream(&self, path: &str) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(key(
            self.seed,
            self.purpose.byte(),
            self.step,
            self.draw,
            path,
        ))
    }

    /// Fills `normals` with the first standard normals of `path` at this address.
    pub fn fill(&self, path: &str, normals: &mut [f32]) {
        fill_from(self.stream(path), 0, normals);
    }

    /// [`fill`](Self::fill) for many parameters, on several threads where that pays; the numbers
    /// are the same.
    pub fn fill_all(&self, parameters: Vec<(&str, &mut [f32])>) {
        let workers = workers_for(parameters.iter().map(|(_, normals)| normals.len()).sum());
        if workers == 1 {
            return parameters
                .into_iter()
                .for_each(|(path, normals)| self.fill(path, normals));
        }
        // The position of a piece in its stream follows from its index alone.
        let pieces = parameters.into_iter().flat_map(|(path, normals)| {
            normals
                .chunks_mut(PIECE)
                .enumerate()
                .map(move |(index, piece)| (path, index * PIECE, piece))
        });
        let queue = Mutex::new(pieces);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        // The guard is dropped at the end of this statement, before the work.
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some((path, start, piece)) = next else {
                            return;
                        };
                        fill_from(self.stream(path), start, piece);
                    }
                });
            }
        });
    }
}

/// Normals made at a time: half of them cosines, half sines. A power of two, small enough for the
/// cache.
const BLOCK: usize = 256;

/// Normals that a thread takes from the queue at a time; a multiple of [`BLOCK`].
const PIECE: usize = 1 << 15;

/// Fewer normals than this are not worth a second thread.
const PARALLEL: usize = 1 << 18;

/// The number of threads for `count` normals.
fn workers_for(count: usize) -> usize {
    if count < PARALLEL {
        1
    } else {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// Fills `normals` with the stream's normals from element `start` on, a multiple of [`BLOCK`].
fn fill_from(mut stream: ChaCha8Rng, start: usize, normals: &mut [f32]) {
    // Each normal takes one word, so the position in words is the index of the element.
    stream.set_word_pos(start as u128);
    let mut bytes = [0u8; 4 * BLOCK];
    let mut words = [0u32; BLOCK];
    let mut block = [0f32; BLOCK];
    for part in normals.chunks_mut(BLOCK) {
        stream.fill_bytes(&mut bytes);
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        box_muller(&words, &mut block);
        part.copy_from_slice(&block[..part.len()]);
    }
}

/// The words of the first half give radii, those of the second half angles.
fn box_muller(words: &[u32; BLOCK], normals: &mut [f32; BLOCK]) {
    let (radii, angles) = words.split_at(BLOCK / 2);
    let (cosines, sines) = normals.split_at_mut(BLOCK / 2);
    for (((&radius, &angle), cosine), sine) in radii.iter().zip(angles).zip(cosines).zip(sines) {
        // (k + ½)/2³¹ with k of 31 bits: never 0, and finely spaced where the logarithm is large.
        let uniform = ((radius >> 1) as i32 as f32 + 0.5) * (1.0 / 2_147_483_648.0);
        let radius = (-2.0 * logarithm(uniform)).max(0.0).sqrt();
        let (c, s) = cosine_and_sine(angle);
        *cosine = radius * c;
        *sine = radius * s;
    }
}

/// ln x for normal x > 0: x = m · 2ᵉ with m in [√½, √2), then the series of atanh in
/// s = (m − 1)/(m + 1).
#[inline(always)]
fn logarithm(x: f32) -> f32 {
    // Subtracting the bits of √½ before taking the exponent puts the mantissa into [√½, √2).
    let bits = x.to_bits() as i32 - 0x3f35_04f3;
    let exponent = (bits >> 23) as f32;
    let mantissa = f32::from_bits(((bits & 0x007f_ffff) + 0x3f35_04f3) as u32);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    // |s| ≤ 0.1716, so the first omitted term is below 2 · 0.1716¹¹/11 = 7e-10.
    let series = 2.0
        + square * (2.0 / 3.0 + square * (2.0 / 5.0 + square * (2.0 / 7.0 + square * (2.0 / 9.0))));
    exponent * std::f32::consts::LN_2 + s * series
}

/// Cosine and sine of a uniform angle: the top two bits choose the quadrant, the next 24 the
/// position in ±π/4.
#[inline(always)]
fn cosine_and_sine(word: u32) -> (f32, f32) {
    let place = ((word >> 6) & 0x00ff_ffff) as i32 as f32 * (1.0 / 16_777_216.0)
        - (0.5 - 0.5 / 16_777_216.0);
    let angle = place * std::f32::consts::FRAC_PI_2;
    let square = angle * angle;
    // Taylor series; the first omitted terms are at most 2.5e-8 (cosine, x¹⁰/10!) and 1.8e-9
    // (sine, x¹¹/11!).
    let cosine = 1.0
        + square
            * (-1.0 / 2.0
                + square * (1.0 / 24.0 + square * (-1.0 / 720.0 + square * (1.0 / 40_320.0))));
    let sine = angle
        * (1.0
            + square
                * (-1.0 / 6.0
                    + square
                        * (1.0 / 120.0 + square * (-1.0 / 5_040.0 + square * (1.0 / 362_880.0)))));
    // The lower bit rotates (c, s) to (−s, c), a quarter turn; the upper one by half a turn.
    let quarter = (word >> 30) & 1;
    let half = word & 0x8000_0000;
    let (x, y) = if quarter == 1 {
        (-sine, cosine)
    } else {
        (cosine, sine)
    };
    (
        f32::from_bits(x.to_bits() ^ half),
        f32::from_bits(y.to_bits() ^ half),
    )
}

/// FNV-1a, 64 bits: a short, fixed specification, and few collisions among a few thousand paths.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address = Address {
        seed: 1,
        purpose: Purpose::Training,
        step: 2,
        draw: 3,
    };

    fn normals(address: Address, path: &str, count: usize) -> Vec<f32> {
        let mut normals = vec![0.0; count];
        address.fill(path, &mut normals);
        normals
    }

    #[test]
    fn an_address_names_its_numbers_and_no_two_addresses_share_them() {
        let base = normals(ADDRESS, "a", 8);
        assert_eq!(base, normals(ADDRESS, "a", 8));
        assert_ne!(base, normals(ADDRESS, "b", 8));
        assert_ne!(base, normals(Address { seed: 2, ..ADDRESS }, "a", 8));
        assert_ne!(base, normals(Address { step: 3, ..ADDRESS }, "a", 8));
        assert_ne!(base, normals(Address { draw: 4, ..ADDRESS }, "a", 8));
        assert_ne!(
            base,
            normals(
                Address {
                    purpose: Purpose::Posterior,
                    ..ADDRESS
                },
                "a",
                8
            )
        );
    }

    #[test]
    fn the_purposes_of_this_crate_stand_in_the_upper_half_and_each_has_its_own_byte() {
        let bytes = Purpose::ALL.map(Purpose::byte);
        assert!(
            bytes.iter().all(|&byte| byte >= 128) && bytes[0] != bytes[1],
            "{bytes:?}"
        );
        // The purpose alone separates these addresses from those of other crates.
        assert_ne!(
            key(1, Purpose::Training.byte(), 0, 0, "a"),
            key(1, Purpose::Training as u8, 0, 0, "a")
        );
    }

    #[test]
    fn the_numbers_are_those_of_the_first_release() {
        // A change here changes every run that anyone repeats.
        let bits: Vec<u32> = normals(ADDRESS, "layers.0.weight", 300)
            .iter()
            .map(|z| z.to_bits())
            .collect();
        let digest = bits
            .iter()
            .flat_map(|bits| bits.to_le_bytes())
            .collect::<Vec<u8>>();
        assert_eq!(fnv1a(&digest), PINNED);
    }
    const PINNED: u64 = 13_073_488_601_039_730_057;

    #[test]
    fn each_element_has_its_own_place_however_many_threads_share_the_work() {
        let (mut long, mut short) = (vec![0.0; PARALLEL + 77], vec![0.0; 1000]);
        ADDRESS.fill_all(vec![("a", &mut long), ("b", &mut short)]);
        assert!(long == normals(ADDRESS, "a", PARALLEL + 77));
        assert!(short == normals(ADDRESS, "b", 1000));
        assert!(long[..1000] == normals(ADDRESS, "a", 1000));
    }

    #[test]
    fn the_polynomials_agree_with_the_library_in_f64() {
        for index in 0..200_000u32 {
            let x = (index as f32 + 0.5) / 200_000.0;
            assert!(
                (f64::from(logarithm(x)) - f64::from(x).ln()).abs()
                    <= 3e-7 * f64::from(x).ln().abs().max(0.1),
                "ln {x}"
            );
            let word = index.wrapping_mul(2_654_435_761);
            let (cosine, sine) = cosine_and_sine(word);
            let turn = f64::from(word >> 30) + f64::from((word >> 6) & 0x00ff_ffff) / 16_777_216.0
                - 0.5
                + 0.5 / 16_777_216.0;
            let angle = turn * std::f64::consts::FRAC_PI_2;
            assert!(
                (f64::from(cosine) - angle.cos()).abs() < 3e-7
                    && (f64::from(sine) - angle.sin()).abs() < 3e-7,
                "angle {angle}"
            );
        }
    }

    #[test]
    fn the_numbers_are_standard_normal_in_their_moments_and_tails() {
        let count = 1_000_000;
        let numbers = normals(ADDRESS, "a", count);
        let moment = |power: i32| {
            numbers
                .iter()
                .map(|&z| f64::from(z).powi(power))
                .sum::<f64>()
                / count as f64
        };
        // Bounds of five standard errors: √(1, 2, 15, 96)/1000.
        for (power, expected, error) in [
            (1, 0.0, 0.005),
            (2, 1.0, 0.0071),
            (3, 0.0, 0.0194),
            (4, 3.0, 0.049),
        ] {
            assert!(
                (moment(power) - expected).abs() < error,
                "moment {power}: {}",
                moment(power)
            );
        }
        // Two-sided tails beyond 1, 2, 3, 4: share and five standard errors.
        for (bound, share) in [
            (1.0, 0.317_310_5),
            (2.0, 0.045_500_3),
            (3.0, 0.002_699_8),
            (4.0, 6.334e-5),
        ] {
            let found = numbers.iter().filter(|z| z.abs() > bound).count() as f64 / count as f64;
            assert!(
                (found - share).abs() < 5.0 * (share / count as f64).sqrt(),
                "beyond {bound}: {found}"
            );
        }
        // The cosine and the sine of one pair, and neighbours, are uncorrelated.
        for lag in [1, BLOCK / 2] {
            let product = numbers
                .windows(lag + 1)
                .map(|w| f64::from(w[0]) * f64::from(w[lag]))
                .sum::<f64>()
                / count as f64;
            assert!(product.abs() < 0.005, "lag {lag}: {product}");
        }
    }
}
