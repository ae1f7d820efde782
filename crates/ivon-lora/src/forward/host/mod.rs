//! The decoder on the CPU: slices, buffers that live on, and a hand-written backward pass.
//!
//! `frozen` (with `panels` and `tile`), `product` and `kernel` are the arithmetic, `low` (with
//! `context`), `attention` and `layer` the decoder's parts, `operation` hangs the whole into Burn's
//! autodiff.

mod pool;
mod transpose;
mod kernel;
mod product;
mod panels;
mod tile;
mod frozen;
mod attention;
mod context;
mod low;
mod layer;
mod layout;
mod operation;

pub(crate) use context::noise_path;
pub use frozen::{Output, apply};
pub use layout::{ContextPlace, Layout, Place};
pub use operation::Host;
pub(crate) use product::{Factor, Target, Threads, View, product};
