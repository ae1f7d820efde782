//! The decoder on the CPU: slices, buffers that live on, and a hand-written backward pass.
//!
//! `layout` says where the adapter's numbers lie, `low_rank`, `projection`, `self_attention` and
//! `mlp` are the parts of a layer on the arithmetic of [`crate::kernel`], `operation` hangs the
//! whole into Burn's autodiff.

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
