//! OLMo 2: norms after attention and MLP, and one norm over all heads of queries, and of keys.

use super::change::no_change;
use super::description::{Family, Gguf};
use super::llama::{LLAMA, read as read_llama};
use super::metadata;
use crate::model::attention::HeadNorm;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::layer_kind::Norms;

pub(super) const OLMO2: Family = Family {
    model_type: "olmo2",
    architecture: "Olmo2ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["olmo2"],
        translate,
        change: no_change,
    }),
    layer_tensors: &[
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
    read,
    rms_norm_eps: 1e-5,
    bias_flags: &["attention_bias"],
    qk_norm: HeadNorm::Whole,
    ..LLAMA
};

/// A file with windows is that of an OLMo 3.
fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::uniform_sizes(from, to)?;
    let key = "attention.sliding_window";
    let Some(window) = from.count(key)?.filter(|window| *window > 0) else {
        return metadata::rope(from, to);
    };
    to.relative = Some("olmo3");
    to.set("sliding_window", from.key(key), window);
    metadata::layer_types(from, to, 4)?;
    let theta = from.number("rope.freq_base")?.unwrap_or(10_000.0);
    metadata::two_ropes(from, to, theta)
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let mut config = read_llama(fields, family, notes)?;
    for layer in &mut config.layers {
        layer.norms = Norms::After;
    }
    Ok(config)
}
