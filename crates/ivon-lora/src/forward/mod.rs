//! Frozen decoder + adapter + packed batch → the hidden states that are asked for, and from them logits.
//!
//! On the CPU the decoder runs as one operation on slices with a backward pass of its own ([`host`]); on
//! every other device, and as the truth that it is tested against, as plain Burn operations ([`plain`]).

pub mod host;
pub mod plain;

mod network;

pub use network::{LowRank, Network};
