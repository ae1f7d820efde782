//! GGUF files (llama.cpp's format): metadata, tensors, quantised blocks, the tokenizer inside, and a writer.

pub mod blocks;
mod config;
pub mod names;
pub mod quantize;
mod reader;
pub(super) mod tokenizer;
mod writer;

use std::path::Path;

pub use reader::{Array, GgufFile, TensorEntry, Value};
pub use writer::{GgufWriter, Metadata};

use super::{DecoderConfig, Encoding, ModelError, StoredTensor};

/// A GGUF file read as a checkpoint: Hugging Face's names and row order over GGUF's.
#[derive(Debug)]
pub(super) struct GgufCheckpoint {
    file: GgufFile,
    /// Width of the heads within which q and k rows are permuted, for the architectures whose converter does that.
    permuted_head: Option<usize>,
}

impl GgufCheckpoint {
    /// Opens a file and reads its configuration.
    ///
    /// # Errors
    /// As [`GgufFile::open`]; also if the architecture or a setting is not supported.
    pub fn open(path: &Path) -> Result<(Self, DecoderConfig), ModelError> {
        let file = GgufFile::open(path)?;
        let config = config::read(&file)?;
        file.release_metadata();
        // llama.cpp turns the halves of each head into pairs for `llama` alone.
        let permuted_head = (config.model_type == "llama").then_some(config.head_dim);
        Ok((Self { file, permuted_head }, config))
    }

    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Hugging Face's names of the tensors, sorted; those that have none there are left out.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.file.tensors().keys().filter_map(|name| names::to_hugging_face(name)).collect();
        names.sort();
        names
    }

    /// A tensor by Hugging Face's name.
    ///
    /// # Errors
    /// If it is not there or its encoding is not read.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        let missing = || ModelError::MissingTensor { file: self.file.name(), name: name.into() };
        let entry = names::to_gguf(name).and_then(|name| self.file.tensors().get(&name)).ok_or_else(missing)?;
        let encoding = Encoding::from_ggml_type(entry.ggml_type).ok_or_else(|| ModelError::Encoding {
            file: self.file.name(),
            name: name.into(),
            found: format!("ggml type {}", entry.ggml_type),
            supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K",
        })?;
        let permuted = self.permuted_head.filter(|_| names::is_rotary(name));
        let bytes = &self.file.mapped().bytes()[entry.bytes.clone()];
        let tensor = StoredTensor::new(name.into(), entry.shape.clone(), encoding, bytes, permuted);
        let tensor = tensor.ok_or_else(|| ModelError::Malformed {
            file: self.file.name(),
            reason: format!("tensor `{name}` of shape {:?} has no whole number of heads", entry.shape),
        })?;
        Ok(StoredTensor { file: Some(self.file.mapped()), ..tensor })
    }
}
