//! Checkpoint (Hugging Face folder, GGUF file, hub name) → tokenizer and frozen decoder.

mod checkpoint;
pub(crate) mod companions;
mod config;
mod error;
pub mod gguf;
mod headers;
mod hub;
mod mapped;
mod safetensors;
mod tensor;
mod tokenizer;
mod layout;
mod matrix;
mod decoder;

pub use checkpoint::Checkpoint;
pub use config::{DecoderConfig, RopeScaling};
pub use decoder::{BasePrecision, Decoder, DecoderLayer, Linear, Projection};
pub use error::ModelError;
pub use headers::ModelHeaders;
pub use hub::{HubEvent, HubFile, HubListing, HubSettings, Purpose, fetch_adapter};
pub use matrix::{Matrix, PANEL, Values};
pub use tensor::{Encoding, RawTensor, StoredTensor};
