//! GGUF metadata → [`DecoderConfig`].

use super::block_types;
use super::reader::GgufFile;
use crate::model::attention::Attention;
use crate::model::blocks;
use crate::model::config::{DecoderConfig, Ends, MOST_LAYERS};
use crate::model::encoding::Encoding;
use crate::model::error::ModelError;
use crate::model::family::Family;
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::Mlp;
use crate::model::rope::{Rope, RopeScaling};
use crate::model::setting::setting;

/// Metadata under `ARCHITECTURE.`; errors name the whole key.
struct Keys<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
    family: &'static Family,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn unsigned(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.file.unsigned(&self.key(key))
    }

    fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.file.float(&self.key(key))
    }

    fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.file.text(&self.key(key))
    }

    fn needed(&self, key: &str) -> Result<usize, ModelError> {
        self.unsigned(key)?
            .ok_or_else(|| self.wrong(key, "missing", "a whole number"))
    }

    fn wrong(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl std::fmt::Display,
    ) -> ModelError {
        setting(&self.file.name(), &self.key(key), found, expected)
    }
}

/// Reads the shape of the decoder from a file's metadata.
///
/// # Errors
/// [`ModelError::Architecture`] for another family, [`ModelError::Setting`] for a value that is
/// missing, out of range or not supported by the decoder, [`ModelError::MissingTensor`]
/// without an embedding table.
pub(super) fn read(file: &GgufFile) -> Result<DecoderConfig, ModelError> {
    let name = file.name();
    let architecture = file.text("general.architecture")?;
    let architecture =
        architecture.ok_or_else(|| setting(&name, "general.architecture", "missing", "a text"))?;
    let family = Family::of_gguf(architecture).ok_or_else(|| ModelError::Architecture {
        file: name.clone(),
        found: architecture.into(),
        supported: Family::gguf_architectures(),
    })?;
    let keys = Keys {
        file,
        architecture,
        family,
    };
    refuse_what_the_decoder_lacks(&keys)?;
    let config = decoder(&keys)?;
    for key in ["attention.value_length", "rope.dimension_count"] {
        let [_, _, expected] = config.heads();
        if let Some(found) = keys.unsigned(key)?.filter(|found| *found != expected) {
            let expected = format!("the head's width {expected}");
            return Err(keys.wrong(key, format!("`{found}`"), expected));
        }
    }
    config.validate(&name)?;
    Ok(config)
}

fn decoder(keys: &Keys) -> Result<DecoderConfig, ModelError> {
    let tensors = keys.file.tensors();
    let embedding = tensors.get("token_embd.weight");
    let embedding = embedding.ok_or_else(|| ModelError::MissingTensor {
        file: keys.file.name(),
        name: "token_embd.weight".into(),
    })?;
    let heads = keys.needed("attention.head_count")?;
    let hidden_size = keys.needed("embedding_length")?;
    let head_dim = head_dim(keys, hidden_size, heads)?;
    let eps = keys.float("attention.layer_norm_rms_epsilon")?;
    let missing = || keys.wrong("attention.layer_norm_rms_epsilon", "missing", "a number");
    let num_hidden_layers = keys.needed("block_count")?;
    let attention = Attention {
        attention_bias: keys.family.qkv_bias,
        qk_norm: keys.family.qk_norm,
        window: window(keys)?,
        ..Attention::new(
            [
                heads,
                keys.unsigned("attention.head_count_kv")?.unwrap_or(heads),
                head_dim,
            ],
            Some(rope(keys)?),
        )
    };
    let mlp = Mlp::new(keys.needed("feed_forward_length")?);
    let layer = LayerKind::new(Mixer::Attention(attention), mlp);
    Ok(DecoderConfig {
        model_type: keys.family.model_type.into(),
        module: crate::model::MODEL,
        // From the table's rows, because some files have more rows than tokens.
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        hidden_size,
        num_hidden_layers,
        max_position_embeddings: keys.needed("context_length")?,
        rms_norm_eps: eps.ok_or_else(missing)?,
        // Too many layers are refused with the other counts.
        layers: vec![layer; num_hidden_layers.min(MOST_LAYERS)],
        tie_word_embeddings: !tensors.contains_key("output.weight"),
        ends: Ends::default(),
    })
}

fn head_dim(keys: &Keys, hidden_size: usize, heads: usize) -> Result<usize, ModelError> {
    match keys.unsigned("attention.key_length")? {
        Some(width) => Ok(width),
        None if heads > 0 && hidden_size.is_multiple_of(heads) => Ok(hidden_size / heads),
        None => {
            let expected = format!("a multiple of {heads} heads");
            Err(keys.wrong("embedding_length", format!("`{hidden_size}`"), expected))
        }
    }
}

/// The rotary embedding of every layer.
fn rope(keys: &Keys) -> Result<Rope, ModelError> {
    Ok(Rope {
        theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
        scaling: rope_scaling(keys)?,
        partial_rotary_factor: None,
    })
}

/// The attention window of every layer.
fn window(keys: &Keys) -> Result<Option<usize>, ModelError> {
    let window = keys.unsigned("attention.sliding_window")?;
    Ok(window.filter(|window| *window > 0))
}

fn refuse_what_the_decoder_lacks(keys: &Keys) -> Result<(), ModelError> {
    let file = keys.file.name();
    let kind = keys.file.text("general.type")?;
    if let Some(kind) = kind.filter(|kind| *kind != "model") {
        let found = format!("`{kind}`");
        return Err(setting(&file, "general.type", found, "`model`"));
    }
    let experts = keys.unsigned("expert_count")?;
    if let Some(experts) = experts.filter(|experts| *experts > 0) {
        return Err(keys.wrong("expert_count", format!("`{experts}`"), "no experts"));
    }
    let mut names = keys.file.tensors().keys();
    match names.find(|name| !keys.family.qkv_bias && name.ends_with(".bias")) {
        Some(bias) => {
            let expected = format!("no biases in architecture `{}`", keys.architecture);
            Err(setting(&file, bias, "there", expected))
        }
        None => Ok(()),
    }
}

fn rope_scaling(keys: &Keys) -> Result<RopeScaling, ModelError> {
    match (linear_factor(keys)?, factors(keys.file)?) {
        (Some(_), Some(_)) => Err(keys.wrong(
            "rope.scaling.type",
            "`linear` beside `rope_freqs.weight`",
            "one of them",
        )),
        (Some(factor), None) => Ok(RopeScaling::Linear { factor }),
        (None, Some(factors)) => Ok(RopeScaling::Factors { factors }),
        (None, None) => Ok(RopeScaling::Default),
    }
}

/// The factor of linear scaling in the metadata, if there is one.
fn linear_factor(keys: &Keys) -> Result<Option<f64>, ModelError> {
    match keys.text("rope.scaling.type")? {
        // `rope.scale_linear` is the key in the first GGUF files.
        None => Ok(keys
            .float("rope.scale_linear")?
            .filter(|factor| *factor != 1.0)),
        Some("none") => Ok(None),
        Some("linear") => match keys.float("rope.scaling.factor")? {
            None => Err(keys.wrong("rope.scaling.factor", "missing", "a number")),
            factor => Ok(factor),
        },
        Some(other) => Err(keys.wrong(
            "rope.scaling.type",
            format!("`{other}`"),
            "`none` or `linear`",
        )),
    }
}

/// The tensor in which llama.cpp's converter stores the factors of the `llama3` rule.
fn factors(file: &GgufFile) -> Result<Option<Vec<f32>>, ModelError> {
    let Some(entry) = file.tensors().get("rope_freqs.weight") else {
        return Ok(None);
    };
    let count = entry.shape.iter().product();
    if entry.ggml_type != Encoding::F32.ggml_type() {
        return Err(ModelError::Encoding {
            file: file.name(),
            name: "rope_freqs.weight".into(),
            found: block_types::name(entry.ggml_type),
            supported: "F32",
        });
    }
    let mut factors = vec![0.0; count];
    blocks::dequantize_row(Encoding::F32, file.bytes(entry), &mut factors);
    Ok(Some(factors))
}
