//! Which linear layers have A and B; PEFT folders in and out; merging.

mod error;
mod config;
mod target;
mod matrix;
mod scaling;
pub mod side;
mod table;
mod adapter;
mod parameters;
mod layer_options;
mod init;
mod dropout;
mod draw;
mod store;
mod contents;
mod peft;
mod portable;
mod gguf;
mod mlx;
mod base_tables;
mod place;
mod companions;
mod merge;

pub use crate::model::{LinearPath, Projection};
pub use adapter::{Adapter, LoraPair};
pub use base_tables::check_base_tables;
pub use companions::Companions;
pub use config::{LoraConfig, TargetModules};
pub use contents::{OtherContents, WholeLayer};
pub use contents::{is_factor, is_magnitudes, table_of};
pub use draw::Draw;
pub use dropout::Dropout;
pub(crate) use dropout::Mask;
pub use error::LoraError;
pub use gguf::{read_gguf_adapter, write_gguf_adapter};
pub use matrix::HostMatrix;
pub use merge::{MergeBase, MergeOptions, MergeSummary, StoredBase, merge, merge_into_gguf};
pub use mlx::{read_mlx_adapter, write_mlx_adapter};
pub use parameters::peft_name;
pub use peft::{
    ADAPTER_FILE, CONFIG_FILE, PeftAdapter, portable_base_name, read_peft, read_peft_config,
    write_peft,
};
pub use peft::{by_path, in_file};
pub use place::{AdapterPlace, FOLDER_IN_RUN, adapter_base, locate_adapter, read_adapter};
pub use scaling::Scaling;
pub use side::Side;
pub(crate) use side::{BackwardRows, CpuRows, CpuSide, PlainRows, PlainSide};
pub use store::Precision;
pub use store::{read_matrices, write_matrices};
pub use table::{AdaptedTable, TableChange};
use target::{module_path, resolve_targets};
