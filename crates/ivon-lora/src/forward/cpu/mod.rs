//! The decoder on the CPU: slices, buffers that live on, and a hand-written backward pass.
//!
//! `layout` says where the adapter's numbers lie, `low_rank`, `attention` and `layer` are the
//! decoder's parts on the arithmetic of [`crate::kernel`], `operation` hangs the whole into Burn's
//! autodiff.

mod layout;
mod attention;
mod low_rank;
mod layer;
mod operation;

pub use operation::Host;
