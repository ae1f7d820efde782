//! Checkpoint (Hugging Face folder, GGUF file, hub name) → tokenizer and frozen decoder.

mod config;
mod decoder;
mod error;
mod matrix;
mod tensor;

pub use config::{DecoderConfig, RopeScaling};
pub use decoder::{BasePrecision, Decoder, DecoderLayer, Linear, Projection};
pub use error::ModelError;
pub use matrix::{Matrix, Values};
pub use tensor::{Encoding, StoredTensor};
