//! Gemma 2: norms around attention and MLP, whose weights are added to 1, a GELU gate, scaled
//! embeddings, every other layer with a window, and soft limits on scores and logits.

use super::change::norms_plus_one;
use super::description::{Family, Gguf};
use super::llama::{LLAMA, gate};
use super::metadata;
use super::sizes::Sizes;
use super::sliding::{Pattern, sliding_layers};
use crate::model::attention::Attention;
use crate::model::config::{DecoderConfig, Ends};
use crate::model::error::ModelError;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer, Norms};
use crate::model::mlp::{Gate, Mlp};
use crate::model::setting::setting;

pub(super) const GEMMA2: Family = Family {
    model_type: "gemma2",
    architecture: "Gemma2ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["gemma2"],
        translate,
        change: norms_plus_one,
    }),
    layer_tensors: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
    norms_add_one: true,
    own_keys: &[
        "attn_logit_softcapping",
        "cache_implementation",
        "final_logit_softcapping",
        "hidden_activation",
        "query_pre_attn_scalar",
        "use_bidirectional_attention",
    ],
    read,
    tie_word_embeddings: true,
    max_position_embeddings: 8192,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    bias_flags: &["attention_bias"],
    ..LLAMA
};

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::uniform_sizes(from, to)?;
    metadata::rope(from, to)?;
    metadata::layer_types(from, to, 2)?;
    let key = "attention.sliding_window";
    if let Some(window) = from.count(key)? {
        to.set("sliding_window", from.key(key), window);
    }
    let keys = [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ];
    metadata::numbers(from, to, &keys)?;
    // The model of 27 B, which is known by its number of layers.
    to.imply("query_pre_attn_scalar", query_scalar(to, 46));
    Ok(())
}

/// `query_pre_attn_scalar`, which the files do not have: the width of a head, in the largest model
/// that of the residual stream by the number of heads.
pub(super) fn query_scalar(to: &Translation, largest: usize) -> usize {
    match to.count("num_hidden_layers") == largest {
        true => to.count("hidden_size") / to.count("num_attention_heads").max(1),
        false => to.count("head_dim"),
    }
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    refuse_later_tokens(fields)?;
    let sizes = Sizes::read(fields, family)?;
    let pattern = Pattern {
        interval: 2,
        window: Some(4096),
    };
    let windows = sliding_layers(fields, &sizes, pattern)?;
    let attention = Attention {
        multiplier: Some(score_multiplier(fields)?),
        softcap: or_default(fields, "attn_logit_softcapping", 50.0)?,
        ..Attention::new(
            sizes.heads,
            Some(rope::read(fields, sizes.rope_defaults(family), notes)?),
        )
    };
    let mlp = mlp(fields)?;
    let layer = |window| {
        let attention = Attention {
            window,
            ..attention.clone()
        };
        around(attention, mlp)
    };
    let layers = windows.into_iter().map(layer).collect();
    Ok(DecoderConfig {
        ends: Ends {
            final_logit_softcapping: or_default(fields, "final_logit_softcapping", 30.0)?,
            ..ends(&sizes)
        },
        ..sizes.decoder(family, layers)
    })
}

/// A layer with norms before and after both parts.
pub(super) fn around(attention: Attention, mlp: Mlp) -> LayerKind {
    LayerKind {
        norms: Norms::Around,
        ..LayerKind::new(Mixer::Attention(attention), mlp)
    }
}

/// The MLP with a GELU gate.
pub(super) fn mlp(fields: &Fields) -> Result<Mlp, ModelError> {
    Ok(Mlp {
        gate: gate(fields, "hidden_activation", Gate::GeluTanh)?,
        ..Mlp::new(fields.needed_count("intermediate_size")?)
    })
}

/// Embeddings multiplied by √H.
pub(super) fn ends(sizes: &Sizes) -> Ends {
    Ends {
        embedding_multiplier: (sizes.hidden_size as f64).sqrt() as f32,
        ..Ends::default()
    }
}

/// 1/√query_pre_attn_scalar.
pub(super) fn score_multiplier(fields: &Fields) -> Result<f64, ModelError> {
    let scalar = fields.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    Ok(1.0 / scalar.sqrt())
}

/// A number that null takes away, with a default where its key is absent.
fn or_default(fields: &Fields, key: &str, default: f64) -> Result<Option<f64>, ModelError> {
    match fields.object.contains_key(key) {
        true => fields.number(key),
        false => Ok(Some(default)),
    }
}

/// Gemma's embedding models let a token see later ones.
pub(super) fn refuse_later_tokens(fields: &Fields) -> Result<(), ModelError> {
    let key = "use_bidirectional_attention";
    let sees_later = fields
        .get(key)
        .filter(|value| **value != false && **value != "vision");
    match sees_later {
        Some(found) => {
            let expected = "`false`: a token sees no later one";
            Err(setting(fields.file, key, format!("`{found}`"), expected))
        }
        None => Ok(()),
    }
}
