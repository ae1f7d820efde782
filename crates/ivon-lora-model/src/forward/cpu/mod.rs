//! The decoder on the CPU: slices, reused buffers, and a hand-written backward pass.
//!
//! `layout` maps the adapter's parameters; `low_rank` and `projection` are linear layers;
//! `attention`, `short_convolution`, `delta_net` and `mlp` are the parts of a layer, on the
//! arithmetic of [`crate::kernel`]; `half` adds norms and the residual connection, `layer`
//! composes; `operation` connects the whole to Burn's autodiff.

mod layout;
mod attention;
mod key_values;
mod runs;
mod layer_inputs;
mod pass;
mod magnitude;
mod low_rank;
mod projection;
mod self_attention;
mod short_convolution;
mod delta_net;
mod mlp;
mod per_layer_input;
mod half;
mod layer;
mod operation;

pub use operation::Host;
