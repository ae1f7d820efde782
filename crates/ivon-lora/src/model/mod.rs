//! Checkpoint (Hugging Face folder, GGUF file, hub name) → tokenizer and frozen decoder.

mod config;
mod tensor;

pub use config::{DecoderConfig, RopeScaling};
pub use tensor::{Encoding, StoredTensor};
