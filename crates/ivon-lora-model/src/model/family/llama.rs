//! Llama 1 to 3 and models of the same architecture (TinyLlama, SmolLM2): the reference for the
//! other families.

use super::change::interleaved_heads;
use super::description::{Family, Gguf, LAYER_TENSORS, TENSORS, Windows};
use super::metadata;
use super::sizes::Sizes;
use super::windows;
use crate::model::attention::{Attention, HeadNorm};
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::{Gate, Mlp};
use crate::model::setting::setting;

pub(super) const LLAMA: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    gguf: Some(Gguf {
        architectures: &["llama"],
        translate,
        change: interleaved_heads,
    }),
    named_in_gguf: None,
    tensors: TENSORS,
    layer_tensors: LAYER_TENSORS,
    renamed: &[],
    norms_add_one: false,
    own_keys: &[],
    read,
    rope_theta: 10_000.0,
    partial_rotary_factor: None,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: false,
    max_position_embeddings: 2048,
    num_key_value_heads: None,
    head_dim: None,
    windows: Windows::Never,
    bias_flags: &["attention_bias", "mlp_bias"],
    has_attention_bias_key: true,
    qkv_bias: false,
    qk_norm: HeadNorm::None,
};

/// Layers that are all alike.
pub(super) fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::uniform_sizes(from, to)?;
    metadata::rope(from, to)?;
    let window = from.count("attention.sliding_window")?;
    to.every_window = window.filter(|window| *window > 0);
    Ok(())
}

/// Layers like Llama's, with the windows, biases and norms of the family.
pub(super) fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let sizes = Sizes::read(fields, family)?;
    let rope = rope::read(fields, sizes.rope_defaults(family), notes)?;
    let attention = Attention {
        attention_bias: family.qkv_bias,
        qk_norm: family.qk_norm,
        ..Attention::new(sizes.heads, Some(rope))
    };
    let mlp = Mlp {
        gate: gate(fields, "hidden_act", Gate::Silu)?,
        ..Mlp::new(fields.needed_count("intermediate_size")?)
    };
    let windows = windows::read(fields, family, sizes.layers, sizes.longest)?.into_iter();
    let layer = |window| {
        let attention = Attention {
            window,
            ..attention.clone()
        };
        LayerKind::new(Mixer::Attention(attention), mlp)
    };
    Ok(sizes.decoder(family, windows.map(layer).collect()))
}

/// The activation under this key, which must be the family's.
///
/// # Errors
/// [`ModelError::Setting`] for another one.
pub(super) fn gate(fields: &Fields, key: &str, gate: Gate) -> Result<Gate, ModelError> {
    let names: &[&str] = match gate {
        Gate::Silu => &["silu", "swish"],
        Gate::GeluTanh => &["gelu_pytorch_tanh"],
    };
    match fields.text(key)? {
        Some(found) if !names.contains(&found) => {
            let expected = format!("`{}`", names.join("` or `"));
            Err(setting(fields.file, key, format!("`{found}`"), expected))
        }
        _ => Ok(gate),
    }
}
