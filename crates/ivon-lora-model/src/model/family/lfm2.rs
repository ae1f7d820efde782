//! LFM2 and LFM2.5: short convolutions, and attention with a norm per head in some layers.

use super::description::{Family, TENSORS};
use super::llama::LLAMA;
use super::sizes::Sizes;
use crate::model::attention::{Attention, HeadNorm};
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::Mlp;
use crate::model::short_convolution::ShortConvolution;

pub(super) const LFM2: Family = Family {
    model_type: "lfm2",
    architecture: "Lfm2ForCausalLM",
    gguf: None,
    tensors: TENSORS,
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
