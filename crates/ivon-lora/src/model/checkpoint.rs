//! A checkpoint by name → its configuration, its tokenizer and its tensors, whatever kind of file they lie in.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::mapped::file_name;
use super::safetensors::{SafetensorsFolder, files_of};
use super::{DecoderConfig, ModelError, StoredTensor};
use crate::files;

/// A config.json is a few kilobytes.
const LONGEST_CONFIG: u64 = 10 << 20;
/// Bytes at each end of a tensor that go into the fingerprint.
const SAMPLE: usize = 4096;

/// An opened model: memory-mapped, nothing read yet but headers.
#[derive(Debug)]
pub struct Checkpoint {
    config: DecoderConfig,
    display_name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Folder { path: PathBuf, weights: SafetensorsFolder },
}

impl Checkpoint {
    /// Opens a model by name: a Hugging Face folder, a `.gguf` file, a folder that holds exactly one `.gguf` and no
    /// `config.json`, or a hub name `org/name[@revision]`.
    ///
    /// # Errors
    /// If there is no such model, or its files are malformed, cut short, or of an architecture that is not supported.
    pub fn open(name: &str) -> Result<Self, ModelError> {
        let path = Path::new(name);
        if path.is_dir() {
            return Self::open_folder(path, file_name(path));
        }
        Err(ModelError::NotFound { name: name.into() })
    }

    fn open_folder(path: &Path, display_name: String) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        if !config_path.exists() {
            let _ = files_of(path)?;
        }
        let config = DecoderConfig::from_json(&files::read_text(&config_path, LONGEST_CONFIG)?, "config.json")?;
        let weights = SafetensorsFolder::open(path)?;
        Ok(Self { config, display_name, source: Source::Folder { path: path.into(), weights } })
    }

    /// The shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The hub name, else the name of the file or folder; never an absolute path.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// The Hugging Face names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        match &self.source {
            Source::Folder { weights, .. } => weights.names().map(str::to_string).collect(),
        }
    }

    /// A tensor by its Hugging Face name.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], or [`ModelError::Encoding`] for numbers of a kind that is not read.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        match &self.source {
            Source::Folder { weights, .. } => weights.tensor(name),
        }
    }

    /// As [`Checkpoint::tensor`], of the shape that the caller needs.
    ///
    /// # Errors
    /// Also [`ModelError::Shape`].
    pub fn tensor_of(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>, ModelError> {
        let tensor = self.tensor(name)?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        Err(ModelError::Shape { file: self.display_name.clone(), name: name.into(), expected: shape.into(), found: tensor.shape })
    }

    /// Gives back the memory under a tensor that has been read; reading it again reads the file again.
    pub fn release(&self, tensor: &StoredTensor<'_>) {
        tensor.release();
    }

    /// The number of numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        let count = |shape: &[usize]| shape.iter().map(|n| *n as u64).product::<u64>();
        match &self.source {
            Source::Folder { weights, .. } => weights.names().filter_map(|name| weights.shape(name)).map(count).sum(),
        }
    }

    /// What tells this base model from another, cheaply: the SHA-256, in hexadecimal, of the configuration as JSON and,
    /// for every tensor in the order of names, its name, shape, encoding, and the first and last 4 KiB of its bytes.
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hash = Sha256::new();
        let mut line = |text: &str, bytes: &[u8]| {
            hash.update(text.as_bytes());
            hash.update([b'\n']);
            hash.update(bytes);
        };
        line(&serde_json::to_string(&self.config).unwrap_or_default(), &[]);
        for name in self.names() {
            let tensor = self.tensor(&name)?;
            let bytes = tensor.bytes;
            line(&format!("{name} {:?} {}", tensor.shape, tensor.encoding.name()), &bytes[..bytes.len().min(SAMPLE)]);
            line("", &bytes[bytes.len().saturating_sub(SAMPLE)..]);
            tensor.release();
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
