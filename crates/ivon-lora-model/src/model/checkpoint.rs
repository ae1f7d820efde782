//! Opens a model by name: its configuration, its tokenizer and its tensors, whatever the file
//! format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::config::DecoderConfig;
use super::config_json::ConfigFile;
use super::error::ModelError;
use super::gguf::split::part_of_name;
use super::gguf::{GgufCheckpoint, GgufFile};
use super::hub::{self, HubName, HubSettings, Purpose};
use super::layout::{self, HEAD};
use super::mapped::file_name;
use super::projection::LANGUAGE_MODEL;
use super::safetensors::SafetensorsFolder;
use super::tensor::{RawTensor, StoredTensor};
use super::tokenizer;
use crate::data::Tokenizer;
use crate::files;
use crate::watch::Watch;

/// The maximum size of a config.json, which is usually a few kilobytes.
const LONGEST_CONFIG: u64 = 10 << 20;
/// The number of bytes at each end of a tensor that go into the fingerprint.
const SAMPLE: usize = 4096;

/// An open model: memory-mapped, with only its headers read.
#[derive(Debug)]
pub struct Checkpoint {
    config: DecoderConfig,
    display_name: String,
    revision: Option<String>,
    source: Source,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Source {
    Folder {
        path: PathBuf,
        weights: SafetensorsFolder,
    },
    Gguf(Box<GgufCheckpoint>),
}

impl Checkpoint {
    /// Opens a model by name: a Hugging Face folder, a `.gguf` file, a folder that holds exactly
    /// one `.gguf` and no `config.json`, a hub name `org/name[:QUANT][@revision]`, or the address
    /// of a model on the hub.
    ///
    /// # Errors
    /// If there is no such model, or its files are malformed, truncated, or of an unsupported
    /// architecture.
    pub fn open(name: &str) -> Result<Self, ModelError> {
        Self::open_with(name, &HubSettings::from_env(), &mut |_| true)
    }

    /// [`Checkpoint::open`] with settings for the hub, and a callback for the progress of a
    /// download.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_with(name: &str, hub: &HubSettings, listen: Watch<'_>) -> Result<Self, ModelError> {
        Self::open_for(name, Purpose::Run, hub, listen)
    }

    /// [`Checkpoint::open_with`] for a purpose, which decides what a download needs.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_for(
        name: &str,
        purpose: Purpose,
        hub: &HubSettings,
        listen: Watch<'_>,
    ) -> Result<Self, ModelError> {
        match HubName::where_nothing_is(name, hub)? {
            None => Self::open_path(Path::new(name)),
            Some(hub_name) => {
                Self::open_located(&hub::locate(&hub_name, hub, purpose, listen)?, &hub_name)
            }
        }
    }

    /// Opens a local folder or file.
    pub(super) fn open_path(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() {
            Self::open_folder(path, folder_name(path))
        } else {
            Self::open_file(path, file_name(path))
        }
    }

    /// Opens the local files of a hub name.
    pub(super) fn open_located(path: &Path, name: &HubName) -> Result<Self, ModelError> {
        let display_name = name.display();
        let opened = if path.is_dir() {
            Self::open_folder(path, display_name)
        } else {
            Self::open_file(path, display_name)
        };
        opened.map(|checkpoint| Self {
            revision: name.revision.clone(),
            ..checkpoint
        })
    }

    fn open_file(path: &Path, display_name: String) -> Result<Self, ModelError> {
        let is_gguf = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if !is_gguf {
            let found = format!("the file `{}`", file_name(path));
            return Err(ModelError::NoModel {
                path: path.display().to_string(),
                found,
                expected: "a folder or a `.gguf` file",
            });
        }
        let gguf = GgufCheckpoint::open(path)?;
        Self {
            config: gguf.config().clone(),
            display_name,
            revision: None,
            source: Source::Gguf(Box::new(gguf)),
            notes: Vec::new(),
        }
        .settled(None)
    }

    fn open_folder(path: &Path, display_name: String) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        if !config_path.exists() {
            let gguf = only_gguf(path)?;
            return Self::open_file(&path.join(&gguf), gguf);
        }
        let file = ConfigFile::read(
            &files::read_text(&config_path, LONGEST_CONFIG)?,
            "config.json",
        )?;
        let mut notes = file.notes;
        let mut weights = SafetensorsFolder::open(path, file.weights.as_deref(), &mut notes)?;
        let needed = layout::needed(&DecoderConfig {
            tie_word_embeddings: false,
            ..file.decoder.clone()
        });
        let module = file.decoder.module;
        weights.rename(|name| layout::name_in_language_model(name, module, &needed));
        let source = Source::Folder {
            path: path.into(),
            weights,
        };
        Self {
            config: file.decoder,
            display_name,
            revision: None,
            source,
            notes,
        }
        .settled(file.architecture.as_deref())
    }

    /// Resolves contradictions between configuration and weights as transformers does, and notes
    /// them.
    fn settled(mut self, architecture: Option<&str>) -> Result<Self, ModelError> {
        self.settle_output()?;
        let raw = self.raw();
        let has_head = raw.iter().any(|tensor| tensor.name == HEAD);
        if !self.config.tie_word_embeddings
            && !has_head
            && let Some(error) = layout::other_head(&self.display_name, architecture, &raw)
        {
            return Err(error);
        }
        let unused = layout::unused(
            &self.display_name,
            &self.config,
            &layout::needed(&self.config),
            &raw,
        );
        drop(raw);
        self.notes.extend(unused);
        Ok(self)
    }

    /// Decides whether the output layer is the embedding table. If both tables are present and
    /// differ, they are separate, whatever the configuration says; if only the output table is
    /// present, it serves as both.
    fn settle_output(&mut self) -> Result<(), ModelError> {
        if !self.config.tie_word_embeddings {
            return Ok(());
        }
        let embedding = self.config.embedding();
        let raw = self.raw();
        let find = |name: &str| raw.iter().find(|tensor| tensor.name == name);
        match (find(&embedding), find(HEAD)) {
            (Some(embedding), Some(head)) if !self.same_numbers(embedding, head)? => {
                drop(raw);
                self.config.tie_word_embeddings = false;
                self.notes.push(
                    "`config.json` says that the output layer is the embedding table (`tie_word_embeddings`), but the weights have \
                     another `lm_head.weight`: that one is used, as transformers does"
                        .into(),
                );
            }
            (None, Some(_)) => {
                drop(raw);
                if let Source::Folder { weights, .. } = &mut self.source {
                    weights.rename(|name| (name == HEAD).then(|| embedding.clone()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn same_numbers(&self, one: &RawTensor<'_>, other: &RawTensor<'_>) -> Result<bool, ModelError> {
        let same = match (one.shape == other.shape, one.kind == other.kind) {
            (false, _) => false,
            (true, true) => one.bytes == other.bytes,
            (true, false) => self.tensor(&one.name)?.to_f32() == self.tensor(&other.name)?.to_f32(),
        };
        one.release();
        other.release();
        Ok(same)
    }

    /// The shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The hub name without the revision, or the name of the file or folder; never an absolute
    /// path.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// Notes for the user about contradictions between the files and how they were resolved, a
    /// sentence each; empty if there are none.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The Hugging Face folder of the model: the user's own, or one in the hub's cache. None for a
    /// GGUF file.
    pub fn folder(&self) -> Option<&Path> {
        match &self.source {
            Source::Folder { path, .. } => Some(path),
            Source::Gguf(_) => None,
        }
    }

    /// The GGUF file of the model; none for a folder.
    pub(crate) fn gguf(&self) -> Option<&GgufFile> {
        match &self.source {
            Source::Folder { .. } => None,
            Source::Gguf(gguf) => Some(gguf.file()),
        }
    }

    /// The `config.json` that the metadata of a GGUF file amounts to; none for a folder, and if no
    /// keys of a `config.json` say the same.
    pub fn translated_config(&self) -> Option<&Map<String, Value>> {
        match &self.source {
            Source::Folder { .. } => None,
            Source::Gguf(gguf) => gguf.settings(),
        }
    }

    /// The requested revision on the hub, if any.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The checkpoint's tokenizer; it refuses texts with tokens beyond the embedding table.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if there is none or it is unusable.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let tokenizer = match &self.source {
            Source::Folder { path, .. } => tokenizer::folder::read(path, &self.display_name),
            Source::Gguf(gguf) => {
                tokenizer::gguf::read(gguf.file()).inspect(|_| gguf.file().release_metadata())
            }
        }?;
        Ok(tokenizer.with_limit(self.config.vocab_size))
    }

    /// The Hugging Face names of the tensors present that the decoder uses, sorted.
    pub fn names(&self) -> Vec<String> {
        let there: BTreeSet<String> = self.raw().into_iter().map(|tensor| tensor.name).collect();
        layout::needed(&self.config)
            .intersection(&there)
            .cloned()
            .collect()
    }

    /// The names of the tensors that a copy of the model has, sorted: those that the decoder uses,
    /// and in a multimodal model those of its other parts.
    pub fn names_to_copy(&self) -> Vec<String> {
        let needed = layout::needed(&self.config);
        let raw = self.raw().into_iter().map(|tensor| tensor.name);
        raw.filter(|name| needed.contains(name) || layout::is_beside(name, &self.config))
            .collect()
    }

    /// The names that tensors of a multimodal model have in its files, if they are others, by the
    /// names here: a copy of the whole model keeps them.
    pub fn names_in_files(&self) -> BTreeMap<String, String> {
        match &self.source {
            Source::Folder { weights, .. } if self.config.module == LANGUAGE_MODEL => {
                weights.renamed().clone()
            }
            _ => BTreeMap::new(),
        }
    }

    /// All tensors of the files, used or not, sorted by name.
    pub fn raw(&self) -> Vec<RawTensor<'_>> {
        match &self.source {
            Source::Folder { weights, .. } => weights.raw().collect(),
            Source::Gguf(gguf) => gguf.raw(),
        }
    }

    /// A tensor by its Hugging Face name.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], or [`ModelError::Encoding`] for an unsupported encoding.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        match &self.source {
            Source::Folder { weights, .. } => weights.tensor(name),
            Source::Gguf(gguf) => gguf.tensor(name),
        }
    }

    /// A tensor that must have this shape.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`], and [`ModelError::Shape`].
    pub fn tensor_of(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>, ModelError> {
        let tensor = self.tensor(name)?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        Err(ModelError::Shape {
            file: self.display_name.clone(),
            name: name.into(),
            expected: shape.into(),
            found: tensor.shape,
        })
    }

    /// Releases the memory of a tensor that has been read; reading it again reads the file again.
    pub fn release(&self, tensor: &StoredTensor<'_>) {
        tensor.release();
    }

    /// The number of weights in the tensors that the decoder uses.
    pub fn parameters(&self) -> u64 {
        let needed = layout::needed(&self.config);
        let count =
            |tensor: &RawTensor<'_>| tensor.shape.iter().map(|n| *n as u64).product::<u64>();
        self.raw()
            .iter()
            .filter(|tensor| needed.contains(&tensor.name))
            .map(count)
            .sum()
    }

    /// Identifies the base model at low cost: the SHA-256, in hexadecimal, of the configuration as
    /// JSON and, for each tensor sorted by name, its name, shape, encoding, and the first and last
    /// 4 KiB of its bytes.
    ///
    /// # Errors
    /// None yet; an unsupported tensor contributes its raw bytes.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        let mut hash = Sha256::new();
        let mut line = |text: &str, bytes: &[u8]| {
            hash.update(text.as_bytes());
            hash.update([b'\n']);
            hash.update(bytes);
        };
        line(
            &serde_json::to_string(&self.config).unwrap_or_default(),
            &[],
        );
        for tensor in self.raw().into_iter().filter(|tensor| tensor.is_named) {
            let (name, bytes) = (&tensor.name, tensor.bytes);
            line(
                &format!("{name} {:?} {}", tensor.shape, tensor.kind),
                &bytes[..bytes.len().min(SAMPLE)],
            );
            line("", &bytes[bytes.len().saturating_sub(SAMPLE)..]);
            tensor.release();
        }
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// The only `.gguf` of a folder without a `config.json`; of a split model, the first part.
fn only_gguf(folder: &Path) -> Result<String, ModelError> {
    let is_candidate = |name: &String| {
        let is_gguf = name.to_lowercase().ends_with(".gguf");
        is_gguf && part_of_name(name).is_none_or(|(number, _)| number == 1)
    };
    let mut found: Vec<String> = files::names_in(folder)?
        .into_iter()
        .filter(is_candidate)
        .collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (last, others) => Err(ModelError::NoModel {
            path: folder.display().to_string(),
            found: if last.is_some() {
                format!("{} `.gguf` files", others + 1)
            } else {
                "neither".into()
            },
            expected: "a `config.json` or exactly one `.gguf` file",
        }),
    }
}

/// The real name of the folder, also for `.` and `..`.
fn folder_name(path: &Path) -> String {
    match path.file_name() {
        Some(_) => file_name(path),
        None => path
            .canonicalize()
            .map_or_else(|_| file_name(path), |path| file_name(&path)),
    }
}

#[cfg(test)]
mod tests;
