//! Which linear layers carry A and B; PEFT folders in and out; merging.

mod adapter;
mod config;
mod dropout;

pub use adapter::{Adapter, LayerAdapter, LoraPair, Mlp, SelfAttention};
pub use config::{LoraConfig, TargetModules};
pub use dropout::{Dropout, Mask};
