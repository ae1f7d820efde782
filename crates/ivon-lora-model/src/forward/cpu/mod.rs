//! The decoder on the CPU: slices, reused buffers, and a hand-written backward pass.
//!
//! `layout` maps the adapter's parameters; `low_rank`, `projection`, `self_attention` and `mlp` are
//! the parts of a layer, on the arithmetic of [`crate::kernel`]; `operation` connects the whole to
//! Burn's autodiff.

mod layout;
mod attention;
mod pass;
mod low_rank;
mod projection;
mod self_attention;
mod mlp;
mod layer;
mod operation;

pub use operation::Host;
