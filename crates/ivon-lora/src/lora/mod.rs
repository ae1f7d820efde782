//! Which linear layers carry A and B; PEFT folders in and out; merging.

mod adapter;
mod config;

pub use adapter::{Adapter, LayerAdapter, LoraPair, Mlp, SelfAttention};
pub use config::{LoraConfig, Projection, TargetModules};
