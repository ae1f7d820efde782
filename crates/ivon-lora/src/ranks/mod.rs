//! Several processes that make one run together, each with a rank: what they tell each other.
//!
//! All of them execute the same program on the same data; each computes a part of every step's
//! examples and of every prediction's rows, and the parts are summed or gathered. Every rank must
//! therefore come to every sum and every gathering, in the same order: an error of one rank is told to
//! the others in the next one.

mod error;
mod threads;
mod team;

pub use error::RankError;
pub use team::{Reductions, Team};
pub use threads::ThreadRank;

/// The place of a process among those that make one run.
pub trait Ranks: Sync {
    /// Its number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replaces `values`, of one length on all ranks, by their sums over all ranks, with the same bits
    /// on each.
    ///
    /// # Errors
    /// If a rank has ended.
    fn sum(&self, values: &mut [f32]) -> Result<(), RankError>;

    /// The bytes of all ranks, by rank.
    ///
    /// # Errors
    /// If a rank has ended.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError>;
}

/// A process that makes its run alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [f32]) -> Result<(), RankError> {
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        Ok(vec![own.to_vec()])
    }
}
