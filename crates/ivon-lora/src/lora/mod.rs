//! Which linear layers carry A and B; PEFT folders in and out; merging.

mod adapter;
mod companions;
mod config;
mod error;
mod init;
mod merge;
mod parameters;
mod peft;
mod store;
mod target;
#[cfg(test)]
pub(crate) mod tiny;

pub use adapter::{Adapter, LayerAdapter, LoraPair, Mlp, SelfAttention};
pub use companions::Companions;
pub use config::{LoraConfig, Projection, TargetModules};
pub use error::LoraError;
pub use merge::{MergeBase, MergeOptions, MergeSummary, StoredBase, merge};
pub use parameters::{Matrix, parameter_path, peft_name};
pub use peft::{ADAPTER_FILE, CONFIG_FILE, PeftAdapter, portable_base_name, read_peft, read_peft_config, write_peft};
pub(crate) use peft::{by_path, in_file};
pub use store::Precision;
pub(crate) use store::{read_matrices, write_matrices};
pub use target::{module_path, resolve_targets};
