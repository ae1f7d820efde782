//! Frozen decoder + adapter + packed batch → hidden states at the requested tokens, and logits from
//! them.
//!
//! On the CPU the decoder runs as one operation on slices with a hand-written backward pass
//! (`cpu`); on other devices, and as the reference for tests, as plain Burn operations
//! (`plain`).

mod tables;
mod hidden;
mod observe;
mod rotary;
mod plain;
mod cpu;
mod vocabulary;
mod network;
mod decoding;

pub use crate::kernel::NextToken;
pub use decoding::{Decoding, Prompt, Sequence};
pub use hidden::Hidden;
pub use network::Network;
pub use observe::{Observation, Observer};
use rotary::RotaryTable;
pub use tables::OutputChange;

#[cfg(test)]
mod tests;
