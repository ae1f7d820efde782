//! Gemma 3: Gemma 2 without the soft limits, with a norm per head, every sixth layer without a
//! window, and a rotary embedding of their own for these.

use super::change::norms_plus_one;
use super::description::{Family, Gguf};
use super::gemma2::{
    GEMMA2, around, ends, mlp, query_scalar, refuse_later_tokens, score_multiplier,
};
use super::metadata;
use super::sizes::Sizes;
use super::sliding::{Pattern, sliding_layers};
use crate::model::attention::{Attention, HeadNorm};
use crate::model::config::{DecoderConfig, Ends};
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::rope::{self, RopeDefaults};
use crate::model::fields::translation::Translation;

pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["gemma3"],
        translate,
        change: norms_plus_one,
    }),
    layer_tensors: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
    own_keys: &[
        "_sliding_window_pattern",
        "attn_logit_softcapping",
        "cache_implementation",
        "final_logit_softcapping",
        "hidden_activation",
        "query_pre_attn_scalar",
        "rope_local_base_freq",
        "sliding_window_pattern",
        "use_bidirectional_attention",
    ],
    read,
    rope_theta: 1e6,
    max_position_embeddings: 131_072,
    qk_norm: HeadNorm::PerHead,
    ..GEMMA2
};

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::uniform_sizes(from, to)?;
    metadata::two_ropes(from, to, 10_000.0)?;
    // Without a window, no layer has one.
    let window = from.count("attention.sliding_window")?;
    metadata::layer_types(from, to, if window.is_some() { 6 } else { 1 })?;
    to.set(
        "sliding_window",
        from.key("attention.sliding_window"),
        window,
    );
    let key = "final_logit_softcapping";
    metadata::numbers(from, to, &[(key, key)])?;
    // The model of 27 B, which is known by its number of layers.
    to.imply("query_pre_attn_scalar", query_scalar(to, 62));
    Ok(())
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    refuse_later_tokens(fields)?;
    let sizes = Sizes::read(fields, family)?;
    let pattern = Pattern {
        interval: fields.count("sliding_window_pattern")?.unwrap_or(6),
        window: Some(4096),
    };
    let windows = sliding_layers(fields, &sizes, pattern)?;
    let full = sizes.rope_defaults(family);
    let sliding = RopeDefaults {
        theta: 10_000.0,
        ..full
    };
    let ropes = rope::read_both(fields, [sliding, full], "rope_local_base_freq", notes)?;
    let (multiplier, mlp) = (score_multiplier(fields)?, mlp(fields)?);
    let layer = |window: Option<usize>| {
        let rope = ropes[usize::from(window.is_none())].clone();
        let attention = Attention {
            window,
            qk_norm: HeadNorm::PerHead,
            multiplier: Some(multiplier),
            ..Attention::new(sizes.heads, Some(rope))
        };
        around(attention, mlp)
    };
    let layers = windows.into_iter().map(layer).collect();
    Ok(DecoderConfig {
        ends: Ends {
            // A limit on scores is in its files, but not applied.
            final_logit_softcapping: fields.number("final_logit_softcapping")?,
            ..ends(&sizes)
        },
        ..sizes.decoder(family, layers)
    })
}
