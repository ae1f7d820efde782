//! Qwen3.5: three gated delta nets, then one attention with a gate on its output.

use super::description::Family;
use super::llama::{LLAMA, gate};
use super::sizes::Sizes;
use crate::model::attention::{Attention, HeadNorm};
use crate::model::config::DecoderConfig;
use crate::model::delta_net::DeltaNet;
use crate::model::error::ModelError;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::{Gate, Mlp};

pub(super) const QWEN3_5: Family = Family {
    model_type: "qwen3_5_text",
    architecture: "Qwen3_5ForCausalLM",
    gguf: None,
    norms_add_one: true,
    own_keys: &[
        "attn_output_gate",
        "full_attention_interval",
        "linear_conv_kernel_dim",
        "linear_key_head_dim",
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_value_head_dim",
        "mamba_ssm_dtype",
        "mtp_num_hidden_layers",
        "mtp_use_dedicated_embeddings",
    ],
    read,
    partial_rotary_factor: Some(0.25),
    max_position_embeddings: 32_768,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    bias_flags: &["attention_bias"],
    ..LLAMA
};

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let sizes = Sizes::read(fields, family)?;
    let attention = Attention {
        qk_norm: HeadNorm::PerHead,
        has_gate: true,
        ..Attention::new(
            sizes.heads,
            Some(rope::read(fields, sizes.rope_defaults(family), notes)?),
        )
    };
    let number = |key, default| Ok::<_, ModelError>(fields.count(key)?.unwrap_or(default));
    let net = DeltaNet {
        key_heads: number("linear_num_key_heads", 16)?,
        value_heads: number("linear_num_value_heads", 32)?,
        key_head_dim: number("linear_key_head_dim", 128)?,
        value_head_dim: number("linear_value_head_dim", 128)?,
        kernel: number("linear_conv_kernel_dim", 4)?,
    };
    let mlp = Mlp {
        gate: gate(fields, "hidden_act", Gate::Silu)?,
        ..Mlp::new(fields.needed_count("intermediate_size")?)
    };
    let interval = number("full_attention_interval", 4)?.max(1);
    let types = fields.layer_types(&["full_attention", "linear_attention"])?;
    let is_net = |index: usize| match &types {
        Some(types) => types.get(index) == Some(&"linear_attention"),
        None => !(index + 1).is_multiple_of(interval),
    };
    let layer = |index| {
        let mixer = match is_net(index) {
            true => Mixer::DeltaNet(net),
            false => Mixer::Attention(attention.clone()),
        };
        LayerKind::new(mixer, mlp)
    };
    let layers = (0..sizes.described_layers()).map(layer).collect();
    Ok(sizes.decoder(family, layers))
}
