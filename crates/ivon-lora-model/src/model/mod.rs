//! Checkpoint (Hugging Face folder, GGUF file, hub name) → tokenizer and frozen decoder.

mod error;
mod setting;
mod encoding;
mod blocks;
mod mapped;
mod tensor;
mod rope;
mod layer_kind;
mod family;
mod config;
mod projection;
mod config_json;
mod layout;
mod safetensors;
pub mod gguf;
mod tokenizer;
pub(crate) mod companions;
mod hub;
mod checkpoint;
mod headers;
mod matrix;
mod decoder;

pub use checkpoint::Checkpoint;
pub use config::DecoderConfig;
pub use decoder::{BasePrecision, Decoder, DecoderLayer, Linear};
pub use encoding::Encoding;
pub use error::ModelError;
pub use family::{Family, Gguf, Windows};
pub use headers::ModelHeaders;
pub use hub::{HubFile, HubListing, HubSettings, Purpose, fetch_adapter};
pub use layer_kind::{Gate, LayerKind, Norms};
pub use matrix::FrozenMatrix;
pub(crate) use matrix::{PANEL, Values};
pub use projection::Projection;
pub use rope::{Rope, RopeScaling};
pub use tensor::{RawTensor, StoredTensor};
