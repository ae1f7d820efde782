//! What can go wrong between ranks.

/// Communication between ranks failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// A rank has ended before the others.
    #[error("the run has lost one of its {size} ranks, and ends on rank {rank}")]
    Lost {
        /// The rank that noticed.
        rank: usize,
        /// How many there were.
        size: usize,
    },
    /// Another rank failed.
    #[error("rank {rank} failed: {reason}")]
    Failed {
        /// That rank.
        rank: usize,
        /// What it said.
        reason: String,
    },
    /// Another rank could not compute its part of a step.
    #[error("the part of a step that another rank computes failed")]
    Step,
    /// Ranks do not talk about the same thing.
    #[error("rank {rank} sent what this version does not expect: {reason}")]
    Malformed {
        /// The rank that sent it.
        rank: usize,
        /// What is wrong with it.
        reason: String,
    },
}
