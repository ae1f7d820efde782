//! Checkpoint (Hugging Face folder, GGUF file, hub name) → tokenizer and frozen decoder.

mod chat_templates;
mod checkpoint;
mod config;
mod error;
mod folder_tokenizer;
mod framing;
pub mod gguf;
mod hub;
mod mapped;
mod safetensors;
mod special_tokens;
mod tensor;
mod matrix;
mod decoder;

pub use checkpoint::Checkpoint;
pub use config::{DecoderConfig, RopeScaling};
pub use decoder::{BasePrecision, Decoder, DecoderLayer, Linear, Projection};
pub use error::ModelError;
pub use hub::{DownloadProgress, HubSettings};
pub use matrix::{Matrix, PANEL, Values};
pub use tensor::{Encoding, StoredTensor};
