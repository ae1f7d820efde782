//! LFM2 and LFM2.5: short convolutions, and attention with a norm per head in some layers.

use super::change::no_change;
use super::description::{Family, Gguf};
use super::llama::LLAMA;
use super::metadata;
use super::sizes::Sizes;
use crate::model::attention::{Attention, HeadNorm};
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::Mlp;
use crate::model::short_convolution::ShortConvolution;

pub(super) const LFM2: Family = Family {
    model_type: "lfm2",
    architecture: "Lfm2ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["lfm2"],
        translate,
        change: no_change,
    }),
    tensors: &[
        ("token_embd", "model.embed_tokens"),
        ("token_embd_norm", "model.embedding_norm"),
        ("output", "lm_head"),
    ],
    layer_tensors: &[
        ("attn_norm", "operator_norm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.out_proj"),
        ("attn_q_norm", "self_attn.q_layernorm"),
        ("attn_k_norm", "self_attn.k_layernorm"),
        ("shortconv.in_proj", "conv.in_proj"),
        ("shortconv.conv", "conv.conv"),
        ("shortconv.out_proj", "conv.out_proj"),
        ("ffn_norm", "ffn_norm"),
        ("ffn_gate", "feed_forward.w1"),
        ("ffn_up", "feed_forward.w3"),
        ("ffn_down", "feed_forward.w2"),
    ],
    renamed: &[
        ("norm", "embedding_norm"),
        ("input_layernorm", "operator_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_norm", "self_attn.q_layernorm"),
        ("self_attn.k_norm", "self_attn.k_layernorm"),
        ("self_attn.o_proj", "self_attn.out_proj"),
        ("mlp.gate_proj", "feed_forward.w1"),
        ("mlp.up_proj", "feed_forward.w3"),
        ("mlp.down_proj", "feed_forward.w2"),
    ],
    own_keys: &[
        "block_auto_adjust_ff_dim",
        "block_dim",
        "block_ff_dim",
        "block_ffn_dim_multiplier",
        "block_mlp_init_scale",
        "block_multiple_of",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_swiglu",
        "block_use_xavier_init",
        "conv_L_cache",
        "conv_bias",
        "conv_dim",
        "conv_dim_out",
        "conv_use_xavier_init",
        "full_attn_idxs",
        "norm_eps",
        "num_heads",
        "tie_embedding",
        "use_pos_enc",
    ],
    read,
    rope_theta: 1e6,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    max_position_embeddings: 128_000,
    num_key_value_heads: Some(8),
    bias_flags: &["conv_bias"],
    ..LLAMA
};

/// A layer without key heads is a convolution.
fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::sizes(from, to)?;
    let (key, layers) = ("attention.head_count_kv", to.count("num_hidden_layers"));
    let heads = from.counts(key, layers)?;
    let heads = heads.ok_or_else(|| from.wrong(key, "missing", "a number for each layer"))?;
    let name = |heads: &usize| match heads {
        0 => "conv",
        _ => "full_attention",
    };
    let names: Vec<&str> = heads.iter().map(name).collect();
    to.set("layer_types", from.key(key), names);
    let heads = heads.into_iter().max().unwrap_or(0);
    let heads = if heads > 0 {
        heads
    } else {
        to.count("num_attention_heads")
    };
    to.set("num_key_value_heads", from.key(key), heads);
    metadata::head_width(from, to)?;
    metadata::feed_forward(from, to)?;
    to.imply("block_auto_adjust_ff_dim", false);
    metadata::rope(from, to)?;
    let key = "shortconv.l_cache";
    to.set("conv_L_cache", from.key(key), from.needed(key)?);
    let key = "attention.layer_norm_rms_epsilon";
    metadata::numbers(from, to, &[("norm_eps", key)])
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let mut sizes = Sizes::read(fields, family)?;
    sizes.rms_norm_eps = fields.number("norm_eps")?.unwrap_or(family.rms_norm_eps);
    if let Some(tied) = fields.flag("tie_embedding")? {
        sizes.tie_word_embeddings = tied;
    }
    let attention = Attention {
        qk_norm: HeadNorm::PerHead,
        ..Attention::new(
            sizes.heads,
            Some(rope::read(fields, sizes.rope_defaults(family), notes)?),
        )
    };
    let convolution = ShortConvolution {
        kernel: fields.count("conv_L_cache")?.unwrap_or(3),
    };
    let mlp = Mlp::new(intermediate_size(fields)?);
    let types = fields.layer_types(&["full_attention", "conv"])?;
    let attends = fields.numbers("full_attn_idxs")?;
    let is_convolution = |index: usize| match (&types, &attends) {
        (Some(types), _) => types.get(index) == Some(&"conv"),
        (None, Some(attends)) => !attends.contains(&(index as f64)),
        (None, None) => false,
    };
    let layer = |index| {
        let mixer = match is_convolution(index) {
            true => Mixer::ShortConvolution(convolution),
            false => Mixer::Attention(attention.clone()),
        };
        LayerKind::new(mixer, mlp)
    };
    let layers = (0..sizes.described_layers()).map(layer).collect();
    Ok(sizes.decoder(family, layers))
}

/// The width of the MLP: as given, or, with `block_auto_adjust_ff_dim`, two thirds of it times a
/// factor, rounded up to a multiple.
fn intermediate_size(fields: &Fields) -> Result<usize, ModelError> {
    let given = match fields.count("block_ff_dim")? {
        Some(width) => width,
        None => fields.needed_count("intermediate_size")?,
    };
    if !fields.flag("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(given);
    }
    let factor = fields.number("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let multiple = fields.count("block_multiple_of")?.unwrap_or(256).max(1);
    let two_thirds = given.saturating_mul(2) / 3;
    let width = (factor * two_thirds as f64) as usize;
    Ok(width.div_ceil(multiple).saturating_mul(multiple))
}
