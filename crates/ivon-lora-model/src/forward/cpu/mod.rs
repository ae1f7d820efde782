//! The decoder on the CPU: slices, reused buffers, and a hand-written backward pass.
//!
//! `layout` maps the adapter's parameters; `low_rank` and `projection` are linear layers;
//! `attention`, `short_convolution`, `delta_net` and `mlp` are the parts of a layer, on the
//! arithmetic of [`crate::kernel`]; `half` adds norms and the residual connection, `layer`
//! composes; `operation` connects the whole to Burn's autodiff. `cache` is what sequences that are
//! read in several passes leave behind, and `reading` is such a pass.

mod layout;
mod attention;
mod key_values;
mod runs;
mod cached_rows;
mod cached_attention;
mod cache;
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
mod reading;

pub use cache::SequenceCache;
pub use operation::Host;
pub use reading::FlatDraws;
