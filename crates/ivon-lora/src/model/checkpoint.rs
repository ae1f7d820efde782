//! A checkpoint by name → its configuration, its tokenizer and its tensors, whatever kind of file they lie in.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::gguf::{self, GgufCheckpoint};
use super::hub::{self, HubEvent, HubName, HubSettings, Purpose};
use super::mapped::file_name;
use super::safetensors::{SafetensorsFolder, files_of};
use super::{DecoderConfig, ModelError, StoredTensor, folder_tokenizer};
use crate::data::Tokenizer;
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
    revision: Option<String>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Folder { path: PathBuf, weights: SafetensorsFolder },
    Gguf(GgufCheckpoint),
}

impl Checkpoint {
    /// Opens a model by name: a Hugging Face folder, a `.gguf` file, a folder that holds exactly one `.gguf` and no
    /// `config.json`, a hub name `org/name[:QUANT][@revision]`, or the address of a model on the hub.
    ///
    /// # Errors
    /// If there is no such model, or its files are malformed, cut short, or of an architecture that is not supported.
    pub fn open(name: &str) -> Result<Self, ModelError> {
        Self::open_with(name, &HubSettings::from_env(), &mut |_| {})
    }

    /// As [`Checkpoint::open`], with settings for the hub and a listener to the progress of a download.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_with(name: &str, hub: &HubSettings, listen: &mut dyn FnMut(HubEvent<'_>)) -> Result<Self, ModelError> {
        Self::open_for(name, Purpose::Run, hub, listen)
    }

    /// As [`Checkpoint::open_with`]; what it is for decides what a download needs.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_for(name: &str, purpose: Purpose, hub: &HubSettings, listen: &mut dyn FnMut(HubEvent<'_>)) -> Result<Self, ModelError> {
        match HubName::where_nothing_is(name, hub)? {
            None => Self::open_path(Path::new(name)),
            Some(hub_name) => Self::open_located(&hub::locate(&hub_name, hub, purpose, listen)?, &hub_name),
        }
    }

    /// Opens a folder or file on this machine.
    pub(super) fn open_path(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() { Self::open_folder(path, folder_name(path)) } else { Self::open_file(path, file_name(path)) }
    }

    /// Opens what was found for a hub name.
    pub(super) fn open_located(path: &Path, name: &HubName) -> Result<Self, ModelError> {
        let display_name = name.display();
        let opened = if path.is_dir() { Self::open_folder(path, display_name) } else { Self::open_file(path, display_name) };
        opened.map(|checkpoint| Self { revision: name.revision.clone(), ..checkpoint })
    }

    fn open_file(path: &Path, display_name: String) -> Result<Self, ModelError> {
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if !is_gguf {
            let found = format!("the file `{}`", file_name(path));
            return Err(ModelError::NoModel { path: path.display().to_string(), found, expected: "a folder or a `.gguf` file" });
        }
        let (gguf, config) = GgufCheckpoint::open(path)?;
        Ok(Self { config, display_name, revision: None, source: Source::Gguf(gguf) })
    }

    fn open_folder(path: &Path, display_name: String) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        if !config_path.exists() {
            let gguf = only_gguf(path)?;
            return Self::open_file(&path.join(&gguf), gguf);
        }
        let config = DecoderConfig::from_json(&files::read_text(&config_path, LONGEST_CONFIG)?, "config.json")?;
        let weights = SafetensorsFolder::open(path)?;
        Ok(Self { config, display_name, revision: None, source: Source::Folder { path: path.into(), weights } })
    }

    /// The shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The hub name without the revision, else the name of the file or folder; never an absolute path.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// The Hugging Face folder behind it: the user's own, or one of the hub's cache. None for a GGUF file.
    pub fn folder(&self) -> Option<&Path> {
        match &self.source {
            Source::Folder { path, .. } => Some(path),
            Source::Gguf(_) => None,
        }
    }

    /// The revision on the hub that was asked for, if one was.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The checkpoint's own tokenizer, which refuses texts whose tokens have no row in the embedding table.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if there is none or it cannot be used.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let tokenizer = match &self.source {
            Source::Folder { path, .. } => folder_tokenizer::read(path, &self.display_name),
            Source::Gguf(gguf) => gguf::tokenizer::read(gguf.file()).inspect(|_| gguf.file().release_metadata()),
        }?;
        Ok(tokenizer.with_limit(self.config.vocab_size))
    }

    /// The Hugging Face names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        match &self.source {
            Source::Folder { weights, .. } => weights.names().map(str::to_string).collect(),
            Source::Gguf(gguf) => gguf.names(),
        }
    }

    /// A tensor by its Hugging Face name.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`], or [`ModelError::Encoding`] for numbers of a kind that is not read.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        match &self.source {
            Source::Folder { weights, .. } => weights.tensor(name),
            Source::Gguf(gguf) => gguf.tensor(name),
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
            Source::Gguf(gguf) => gguf.file().tensors().values().map(|entry| count(&entry.shape)).sum(),
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

/// The one `.gguf` of a folder without a `config.json`.
fn only_gguf(folder: &Path) -> Result<String, ModelError> {
    let names = files_of(folder)?;
    let mut found: Vec<String> = names.into_iter().filter(|name| name.to_lowercase().ends_with(".gguf")).collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (last, others) => Err(ModelError::NoModel {
            path: folder.display().to_string(),
            found: if last.is_some() { format!("{} `.gguf` files", others + 1) } else { "neither".into() },
            expected: "a `config.json` or exactly one `.gguf` file",
        }),
    }
}

/// The folder's own name, also for `.` and `..`.
fn folder_name(path: &Path) -> String {
    match path.file_name() {
        Some(_) => file_name(path),
        None => path.canonicalize().map_or_else(|_| file_name(path), |path| file_name(&path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn golden_folders_open_with_every_tensor_of_the_shape_that_the_config_asks_for() {
        for family in ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"] {
            let path = testing::golden().join("tiny").join(family);
            let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
            assert_eq!(checkpoint.display_name(), family);
            let config = checkpoint.config();
            let (hidden, wide) = (config.hidden_size, config.num_attention_heads * config.head_dim);
            let embedding = checkpoint.tensor_of("model.embed_tokens.weight", &[config.vocab_size, hidden]).unwrap();
            assert!(embedding.to_f32().iter().all(|x| x.is_finite()));
            checkpoint.tensor_of("model.layers.2.self_attn.q_proj.weight", &[wide, hidden]).unwrap();
            checkpoint.tensor_of("model.layers.2.mlp.down_proj.weight", &[hidden, config.intermediate_size]).unwrap();
            let message = checkpoint.tensor_of("model.norm.weight", &[hidden + 1]).unwrap_err().to_string();
            assert_eq!(message, format!("tensor `model.norm.weight` of `{family}` has shape [{hidden}], expected [{}]", hidden + 1));
            assert_eq!(checkpoint.fingerprint().unwrap().len(), 64);
        }
    }

    #[test]
    fn the_real_gguf_opens_with_hugging_faces_names_and_shapes() {
        let Some(path) = testing::real_model("checkpoint") else { return };
        let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
        let config = checkpoint.config();
        assert_eq!((config.vocab_size, config.hidden_size, config.num_hidden_layers), (49_152, 576, 30));
        assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (9, 3, 64));
        assert_eq!((config.rope_theta, config.max_position_embeddings, config.tie_word_embeddings), (100_000.0, 8192, true));
        assert_eq!(checkpoint.names().len(), 272);
        assert_eq!(checkpoint.parameters(), 134_515_008);
        let k = checkpoint.tensor_of("model.layers.29.self_attn.k_proj.weight", &[192, 576]).unwrap();
        assert_eq!((k.encoding.name(), k.rotary_permuted), ("Q4_1", Some(64)));
        let folder = path.parent().unwrap().display().to_string();
        assert_eq!(Checkpoint::open(&folder).unwrap().fingerprint().unwrap(), checkpoint.fingerprint().unwrap());
    }

    /// The most memory that this process has had resident, bytes.
    fn peak_resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Runs itself again as a process of its own, because the peak is the whole process's.
    #[test]
    #[cfg(target_os = "linux")]
    fn loading_the_real_model_needs_less_than_1_3_times_its_size() {
        let Some(path) = testing::real_model("peak memory") else { return };
        if std::env::var_os("IVON_LORA_TEST_PEAK").is_none() {
            let name = "model::checkpoint::tests::loading_the_real_model_needs_less_than_1_3_times_its_size";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name, "--nocapture"]).env("IVON_LORA_TEST_PEAK", "1").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
        checkpoint.tokenizer().unwrap();
        checkpoint.fingerprint().unwrap();
        let started = peak_resident();
        let loaded: Vec<Vec<f32>> = checkpoint.names().iter().map(|name| checkpoint.tensor(name).unwrap().to_f32()).collect();
        let size = loaded.iter().map(|tensor| 4 * tensor.len() as u64).sum::<u64>();
        let peak = peak_resident();
        assert!(peak * 10 < size * 13, "peak {peak}, before loading {started}, model {size}");
        // No more than a few MiB of the file is resident beside what was loaded, and before it.
        assert!(peak < started + size + (24 << 20), "peak {peak}, before loading {started}, model {size}");
    }

    #[test]
    fn what_is_no_model_is_refused_with_what_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| Checkpoint::open(&path.display().to_string()).unwrap_err().to_string();
        assert!(message(folder.path()).ends_with("holds no model: found neither, expected a `config.json` or exactly one `.gguf` file"));
        for name in ["a.gguf", "b.gguf", "model.safetensors"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(message(folder.path()).contains("found 2 `.gguf` files"));
        assert!(message(&folder.path().join("model.safetensors")).contains("expected a folder or a `.gguf` file"));
        assert!(message(&folder.path().join("a.gguf")).starts_with("`a.gguf` is cut short: the header ends at byte 4"));
        let gone = folder.path().join("gone");
        assert!(message(&gone).starts_with(&format!("there is no model `{}`", gone.display())));
    }
}
