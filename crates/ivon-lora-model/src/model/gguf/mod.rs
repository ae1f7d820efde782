//! GGUF files (llama.cpp's format): metadata, tensors, quantised blocks, the tokenizer in them, and
//! a writer.

mod block_types;
mod names;
mod value;
mod cursor;
mod reader;
pub(super) mod split;
pub(super) mod config;
pub mod quantize;
mod writer;

use std::path::Path;

use serde_json::{Map, Value as Json};

pub use reader::GgufFile;
pub use value::{Array, TensorEntry, Value};
pub use writer::{GgufWriter, Metadata};

use super::change::Order;
use super::config::DecoderConfig;
use super::encoding::Encoding;
use super::error::ModelError;
use super::family::{Family, Gguf};
use super::projection::{LinearPath, MODEL};
use super::tensor::{RawTensor, StoredTensor};

/// The ends of the names of convolutions' kernels.
const KERNELS: [&str; 2] = [".conv.conv.weight", ".linear_attn.conv1d.weight"];

/// A GGUF file as a checkpoint: with Hugging Face's names, shapes, row order and numbers.
#[derive(Debug)]
pub(super) struct GgufCheckpoint {
    file: GgufFile,
    gguf: Gguf,
    config: DecoderConfig,
    settings: Option<Map<String, Json>>,
}

impl GgufCheckpoint {
    /// Opens a file and reads its configuration.
    ///
    /// # Errors
    /// As [`GgufFile::open`]; also if the architecture or a setting is not supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = GgufFile::open(path)?;
        let config::Description {
            config,
            gguf,
            settings,
        } = config::read(&file)?;
        file.release_metadata();
        Ok(Self {
            file,
            gguf,
            config,
            settings,
        })
    }

    /// The shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The `config.json` that its metadata amounts to; none if no keys say the same.
    pub fn settings(&self) -> Option<&Map<String, Json>> {
        self.settings.as_ref()
    }

    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// All tensors as stored, sorted by name.
    pub fn raw<'a>(&'a self) -> Vec<RawTensor<'a>> {
        let tensors = self.file.tensors().iter();
        let mut all: Vec<RawTensor<'_>> = tensors
            .map(|(name, entry)| self.raw_tensor(name, entry))
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    fn raw_tensor<'a>(&'a self, name: &str, entry: &'a TensorEntry) -> RawTensor<'a> {
        let known = self.config.family().to_hugging_face(name);
        RawTensor {
            is_named: known.is_some(),
            name: known.unwrap_or_else(|| name.into()),
            shape: &entry.shape,
            kind: block_types::name(entry.ggml_type),
            bytes: self.file.bytes(entry),
            file: self.file.file_of(entry),
        }
    }

    /// A tensor by its Hugging Face name.
    ///
    /// # Errors
    /// If it is missing or has an unsupported encoding.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        let missing = || ModelError::MissingTensor {
            file: self.file.name(),
            name: name.into(),
        };
        let entry = self
            .config
            .family()
            .to_gguf(name)
            .and_then(|name| self.file.tensors().get(&name))
            .ok_or_else(missing)?;
        let encoding =
            Encoding::from_ggml_type(entry.ggml_type).ok_or_else(|| ModelError::Encoding {
                file: self.file.name(),
                name: name.into(),
                found: block_types::name(entry.ggml_type),
                supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, \
                            IQ4_XS and MXFP4",
            })?;
        let change = (self.gguf.change)(&self.config, name);
        let bytes = self.file.bytes(entry);
        let shape = shape(name, &entry.shape);
        let tensor = StoredTensor::new(name.into(), shape, encoding, bytes, change);
        let tensor = tensor.ok_or_else(|| ModelError::Malformed {
            file: self.file.name(),
            reason: format!(
                "tensor `{name}` of shape {:?} has no whole number of heads",
                entry.shape
            ),
        })?;
        Ok(StoredTensor {
            file: Some(self.file.file_of(entry)),
            ..tensor
        })
    }
}

impl DecoderConfig {
    fn gguf(&self) -> Option<Gguf> {
        let family = self.family();
        let other = family.named_in_gguf.and_then(Family::of_gguf);
        family.gguf.or_else(|| other?.gguf)
    }

    /// Its `general.architecture` in GGUF files; none if llama.cpp's converter does not know it.
    pub fn gguf_architecture(&self) -> Option<&'static str> {
        self.gguf()?.architectures.first().copied()
    }

    /// The name of a linear layer's weight in its GGUF files, and where they have its rows and columns.
    pub(crate) fn in_gguf(&self, path: LinearPath) -> Option<(String, Order)> {
        // The file has the decoder alone, wherever a multimodal model has it.
        let name = format!("{MODEL}.{path}.weight");
        let change = (self.gguf()?.change)(self, &name);
        Some((self.family().to_gguf(&name)?, change.order))
    }
}

/// The shape of a tensor in the checkpoint: kernels of convolutions have a side of 1 that the
/// converter takes out.
fn shape(name: &str, stored: &[usize]) -> Vec<usize> {
    let is_kernel = KERNELS.iter().any(|kernel| name.ends_with(kernel));
    match stored {
        [channels, width] if is_kernel => vec![*channels, 1, *width],
        _ => stored.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    mod round_trip;

    use super::*;
    use crate::model::{Checkpoint, RopeScaling};
    use crate::testing;

    fn golden(family: &str) -> Checkpoint {
        Checkpoint::open(
            &testing::golden()
                .join("tiny")
                .join(family)
                .display()
                .to_string(),
        )
        .unwrap()
    }

    /// llama.cpp's `permute`: `reshape(heads, 2, head / 2, columns).swapaxes(1, 2)`, as loops.
    fn permute(values: &[f32], head: usize, columns: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for rows in values.chunks_exact(head * columns) {
            for pair in 0..head / 2 {
                for half in 0..2 {
                    out.extend(&rows[(half * head / 2 + pair) * columns..][..columns]);
                }
            }
        }
        out
    }

    /// A golden model's metadata as written by llama.cpp's converter, for this architecture.
    fn writer(config: &DecoderConfig, architecture: &str) -> GgufWriter {
        let mut writer = GgufWriter::new(architecture);
        for (key, value) in [
            ("block_count", config.num_hidden_layers),
            ("context_length", config.max_position_embeddings),
            ("embedding_length", config.hidden_size),
            ("feed_forward_length", config.intermediate_size()),
            ("attention.head_count", config.heads()[0]),
            ("attention.head_count_kv", config.heads()[1]),
            ("attention.key_length", config.heads()[2]),
            ("attention.value_length", config.heads()[2]),
        ] {
            writer.set(
                &format!("{architecture}.{key}"),
                Metadata::U32(value as u32),
            );
        }
        writer.set(
            &format!("{architecture}.attention.layer_norm_rms_epsilon"),
            Metadata::F32(config.rms_norm_eps as f32),
        );
        writer.set(
            &format!("{architecture}.rope.freq_base"),
            Metadata::F32(config.layers[0].rope().unwrap().theta as f32),
        );
        writer
    }

    /// Writes the tensors of a checkpoint, with q and k rows permuted if `permuted`.
    fn write(checkpoint: &Checkpoint, writer: GgufWriter, permuted: bool, path: &Path) {
        write_some(checkpoint, writer, permuted, path, |_| true);
    }

    fn write_some(
        checkpoint: &Checkpoint,
        mut writer: GgufWriter,
        permuted: bool,
        path: &Path,
        wanted: impl Fn(&str) -> bool,
    ) {
        for name in checkpoint.names().into_iter().filter(|name| wanted(name)) {
            writer
                .tensor(
                    &checkpoint.config().family().to_gguf(&name).unwrap(),
                    &checkpoint.tensor(&name).unwrap().shape,
                    Encoding::F32,
                )
                .unwrap();
        }
        if let RopeScaling::Factors { factors } =
            &checkpoint.config().layers[0].rope().unwrap().scaling
        {
            writer
                .tensor("rope_freqs.weight", &[factors.len()], Encoding::F32)
                .unwrap();
        }
        let values = |name: &str| {
            let name = checkpoint.config().family().to_hugging_face(name).unwrap();
            let tensor = checkpoint.tensor(&name).unwrap();
            let values = tensor.to_f32();
            if permuted
                && [".q_proj.", ".k_proj."]
                    .iter()
                    .any(|part| name.contains(part))
            {
                permute(&values, checkpoint.config().heads()[2], tensor.columns())
            } else {
                values
            }
        };
        writer.write_f32(path, values).unwrap();
    }

    #[test]
    fn a_golden_model_written_as_llama_cpp_writes_it_reads_as_the_folder_does() {
        for (family, architecture) in [
            ("llama", "llama"),
            ("mistral", "llama"),
            ("qwen2", "qwen2"),
            ("qwen3", "qwen3"),
        ] {
            let (folder, path) = (golden(family), tempfile::tempdir().unwrap());
            let path = path.path().join("model.gguf");
            write(
                &folder,
                writer(folder.config(), architecture),
                architecture == "llama",
                &path,
            );
            let gguf = Checkpoint::open(&path.display().to_string()).unwrap();
            let expected = DecoderConfig {
                model_type: architecture.into(),
                ..folder.config().clone()
            };
            let found = gguf.config().clone();
            // The file stores the number in f32.
            assert!((found.rms_norm_eps - expected.rms_norm_eps).abs() < 1e-12);
            assert_eq!(
                DecoderConfig {
                    rms_norm_eps: expected.rms_norm_eps,
                    ..found
                },
                expected,
                "{family}"
            );
            assert_eq!(gguf.names(), folder.names());
            assert_eq!(gguf.parameters(), folder.parameters());
            for name in folder.names() {
                let (found, expected) =
                    (gguf.tensor(&name).unwrap(), folder.tensor(&name).unwrap());
                assert_eq!(found.shape, expected.shape, "{name}");
                assert_eq!(found.to_f32(), expected.to_f32(), "{name}");
            }
            assert_eq!(gguf.display_name(), "model.gguf");
            let message = gguf
                .tensor("model.layers.9.mlp.up_proj.weight")
                .unwrap_err()
                .to_string();
            assert_eq!(
                message,
                "tensor `model.layers.9.mlp.up_proj.weight` is missing from `model.gguf`"
            );
        }
    }

    #[test]
    fn a_model_in_three_files_is_the_model_in_one() {
        let (folder, path) = (golden("llama"), tempfile::tempdir().unwrap());
        let whole = path.path().join("whole.gguf");
        write(&folder, writer(folder.config(), "llama"), true, &whole);
        let parts = path.path().join("parts");
        std::fs::create_dir(&parts).unwrap();
        for number in 0..3u32 {
            let mut writer = if number == 0 {
                writer(folder.config(), "llama")
            } else {
                GgufWriter::new("llama")
            };
            writer.set("split.no", Metadata::U32(number));
            writer.set("split.count", Metadata::U32(3));
            writer.set(
                "split.tensors.count",
                Metadata::U32(folder.names().len() as u32),
            );
            let path = parts.join(format!("m-{:05}-of-00003.gguf", number + 1));
            write_some(&folder, writer, true, &path, |name| {
                name.len() as u32 % 3 == number
            });
        }
        let open = |path: &Path| Checkpoint::open(&path.display().to_string()).unwrap();
        let (one, three) = (open(&whole), open(&parts));
        assert_eq!(
            (one.config(), one.names(), one.fingerprint().unwrap()),
            (three.config(), three.names(), three.fingerprint().unwrap())
        );
        for name in one.names() {
            assert_eq!(
                one.tensor(&name).unwrap().to_f32(),
                three.tensor(&name).unwrap().to_f32(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_type_that_is_not_read_is_named_and_listed_and_the_rest_is_read() {
        let (folder, path) = (golden("llama"), tempfile::tempdir().unwrap());
        let path = path.path().join("model.gguf");
        write(&folder, writer(folder.config(), "llama"), true, &path);
        let mut bytes = std::fs::read(&path).unwrap();
        let name = b"blk.0.attn_v.weight";
        let at = bytes
            .windows(name.len())
            .position(|part| part == name)
            .unwrap()
            + name.len()
            + 4
            + 2 * 8;
        // I32, with as many bytes per number as F32.
        bytes[at] = 26;
        std::fs::write(&path, bytes).unwrap();
        let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
        let kinds: Vec<String> = checkpoint
            .raw()
            .into_iter()
            .map(|tensor| tensor.kind)
            .filter(|kind| kind != "F32")
            .collect();
        assert_eq!(kinds, ["I32"]);
        let error = checkpoint
            .tensor("model.layers.0.self_attn.v_proj.weight")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is stored as I32, supported are F32, F16, BF16, Q4_0"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("llama-quantize"));
        assert_eq!(checkpoint.fingerprint().unwrap().len(), 64);
    }

    #[test]
    fn tensors_that_a_decoder_does_not_have_are_noted() {
        let (folder, path) = (golden("llama"), tempfile::tempdir().unwrap());
        let path = path.path().join("model.gguf");
        let mut writer = writer(folder.config(), "llama");
        writer
            .tensor("blk.0.ssm_in.weight", &[1], Encoding::F32)
            .unwrap();
        for name in folder.names() {
            writer
                .tensor(
                    &folder.config().family().to_gguf(&name).unwrap(),
                    &folder.tensor(&name).unwrap().shape,
                    Encoding::F32,
                )
                .unwrap();
        }
        let values = |name: &str| {
            let name = folder.config().family().to_hugging_face(name);
            name.map_or(vec![1.0], |name| folder.tensor(&name).unwrap().to_f32())
        };
        writer.write_f32(&path, values).unwrap();
        let notes = Checkpoint::open(&path.display().to_string())
            .unwrap()
            .notes()
            .to_vec();
        assert_eq!(
            notes,
            [
                "not used, as a llama decoder has no such tensors: `blk.0.ssm_in.weight` (F32, shape [1]) of `model.gguf`"
            ]
        );
    }

    /// The golden llama as GGUF, with the metadata changed.
    fn changed(changes: &[(&str, Metadata)]) -> Result<Checkpoint, String> {
        let (folder, path) = (golden("llama"), tempfile::tempdir().unwrap());
        let path = path.path().join("model.gguf");
        let mut writer = writer(folder.config(), "llama");
        for (key, value) in changes {
            writer.set(key, value.clone());
        }
        write(&folder, writer, true, &path);
        Checkpoint::open(&path.display().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn linear_scaling_is_read_under_both_of_its_keys() {
        let linear = Metadata::Text("linear".into());
        for changes in [
            &[
                ("llama.rope.scaling.type", linear),
                ("llama.rope.scaling.factor", Metadata::F32(2.0)),
            ][..],
            &[("llama.rope.scale_linear", Metadata::F32(2.0))],
        ] {
            assert_eq!(
                changed(changes).unwrap().config().layers[0]
                    .rope()
                    .unwrap()
                    .scaling,
                RopeScaling::Linear { factor: 2.0 }
            );
        }
    }

    #[test]
    fn rope_factors_are_read_and_held_to_the_heads_width() {
        let (folder, path) = (golden("llama"), tempfile::tempdir().unwrap());
        let path = path.path().join("model.gguf");
        let with = |factors: &[f32]| {
            let mut writer = writer(folder.config(), "llama");
            writer
                .tensor("token_embd.weight", &[96, 32], Encoding::F32)
                .unwrap();
            writer
                .tensor("rope_freqs.weight", &[factors.len()], Encoding::F32)
                .unwrap();
            writer
                .write_f32(&path, |name| {
                    if name == "rope_freqs.weight" {
                        factors.to_vec()
                    } else {
                        vec![0.0; 96 * 32]
                    }
                })
                .unwrap();
            Checkpoint::open(&path.display().to_string()).map(|checkpoint| {
                checkpoint.config().layers[0]
                    .rope()
                    .unwrap()
                    .scaling
                    .clone()
            })
        };
        assert_eq!(
            with(&[1.0, 1.0, 4.0, 8.0]).unwrap(),
            RopeScaling::Factors {
                factors: vec![1.0, 1.0, 4.0, 8.0]
            }
        );
        assert_eq!(
            with(&[1.0; 3]).unwrap_err().to_string(),
            "`rope_freqs.weight` in `model.gguf` is `3 numbers`, expected 4 numbers"
        );
        assert!(
            with(&[1.0, 0.0, 1.0, 1.0])
                .unwrap_err()
                .to_string()
                .contains("`rope_freqs.weight` in `model.gguf` is `0`")
        );
    }

    #[test]
    fn what_the_decoder_cannot_do_is_refused_by_key() {
        for (key, value, found) in [
            ("llama.expert_count", Metadata::U32(8), "`8`"),
            (
                "general.type",
                Metadata::Text("adapter".into()),
                "`adapter`",
            ),
            (
                "llama.rope.scaling.type",
                Metadata::Text("other".into()),
                "`other`",
            ),
            ("llama.rope.dimension_count", Metadata::U32(4), "`4`"),
            ("llama.attention.value_length", Metadata::U32(16), "`16`"),
            (
                "llama.attention.head_count_kv",
                Metadata::I32s(vec![2, 2, 1]),
                "something else",
            ),
            (
                "llama.block_count",
                Metadata::Text("three".into()),
                "something else",
            ),
        ] {
            let message = changed(&[(key, value)]).expect_err(key);
            assert!(
                message.starts_with(&format!("`{key}` in `model.gguf` is {found}, expected ")),
                "{message}"
            );
        }
        let message =
            changed(&[("general.architecture", Metadata::Text("gemma".into()))]).unwrap_err();
        assert_eq!(
            message,
            "model type `gemma` of `model.gguf` is not supported, supported are llama, mistral3, \
             qwen2, qwen3, qwen35, smollm3, phi3, granite, granitehybrid, olmo2, gemma2, gemma3, \
             gemma4, lfm2"
        );
    }
}
