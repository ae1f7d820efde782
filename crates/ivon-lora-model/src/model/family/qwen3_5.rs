//! Qwen3.5: three gated delta nets, then one attention with a gate on its output.

use super::change::norms_plus_one;
use super::description::{Family, Gguf};
use super::llama::{LLAMA, gate};
use super::metadata;
use super::sizes::Sizes;
use crate::model::attention::{Attention, HeadNorm};
use crate::model::change::{Change, NumberChange, Order, Regrouped};
use crate::model::config::DecoderConfig;
use crate::model::delta_net::DeltaNet;
use crate::model::error::ModelError;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::{Gate, Mlp};

pub(super) const QWEN3_5: Family = Family {
    model_type: "qwen3_5_text",
    architecture: "Qwen3_5ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["qwen35"],
        translate,
        change,
    }),
    layer_tensors: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_qkv", "linear_attn.in_proj_qkv"),
        ("attn_gate", "linear_attn.in_proj_z"),
        ("ssm_beta", "linear_attn.in_proj_b"),
        ("ssm_alpha", "linear_attn.in_proj_a"),
        ("ssm_conv1d", "linear_attn.conv1d"),
        ("ssm_a", "linear_attn.A_log"),
        ("ssm_dt.bias", "linear_attn.dt_bias"),
        ("ssm_norm", "linear_attn.norm"),
        ("ssm_out", "linear_attn.out_proj"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
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

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::sizes(from, to)?;
    // Layers that predict further tokens come after the decoder's.
    let further = from.count("nextn_predict_layers")?.unwrap_or(0);
    let all = to.count("num_hidden_layers");
    let layers = all.saturating_sub(further);
    to.set("num_hidden_layers", from.key("block_count"), layers);
    metadata::key_heads(from, to)?;
    metadata::head_width(from, to)?;
    metadata::feed_forward(from, to)?;
    metadata::partial_rope(from, to)?;
    for (key, origin) in [
        ("linear_num_key_heads", "ssm.group_count"),
        ("linear_num_value_heads", "ssm.time_step_rank"),
        ("linear_key_head_dim", "ssm.state_size"),
        ("linear_conv_kernel_dim", "ssm.conv_kernel"),
    ] {
        to.set(key, from.key(origin), from.needed(origin)?);
    }
    let (key, heads) = ("ssm.inner_size", to.count("linear_num_value_heads"));
    let width = from.needed(key)?;
    if heads == 0 || !width.is_multiple_of(heads) {
        let expected = format!("a multiple of {heads} value heads");
        return Err(from.wrong(key, format!("`{width}`"), expected));
    }
    to.set("linear_value_head_dim", from.key(key), width / heads);
    let key = "full_attention_interval";
    if let Some(interval) = from.count(key)? {
        to.set(key, from.key(key), interval);
    }
    let key = "attention.recurrent_layers";
    if let Some(flags) = from.counts(key, all)? {
        let name = |flag: &usize| match flag {
            0 => "full_attention",
            _ => "linear_attention",
        };
        let names: Vec<&str> = flags[..layers].iter().map(name).collect();
        to.set("layer_types", from.key(key), names);
    }
    Ok(())
}

/// The converter adds the 1 to the weights of norms, except those of delta nets, and orders value
/// heads by their place in the group of a key head rather than group by group.
fn change(config: &DecoderConfig, name: &str) -> Change {
    let Some((_, tensor)) = name.split_once(".linear_attn.") else {
        return norms_plus_one(config, name);
    };
    let net = config.layers.iter().find_map(|layer| match layer.mixer {
        Mixer::DeltaNet(net) => Some(net),
        _ => None,
    });
    let Some(net) = net else {
        return Change::default();
    };
    let heads = |first, width| Regrouped {
        first,
        groups: net.key_heads,
        heads: net.value_heads,
        width,
    };
    let wide = net.value_head_dim;
    let order = match tensor {
        "in_proj_qkv.weight" | "conv1d.weight" => Order::Rows(heads(2 * net.key_width(), wide)),
        "in_proj_z.weight" => Order::Rows(heads(0, wide)),
        "in_proj_a.weight" | "in_proj_b.weight" => Order::Rows(heads(0, 1)),
        "out_proj.weight" => Order::Columns(heads(0, wide)),
        "A_log" | "dt_bias" => Order::Columns(heads(0, 1)),
        _ => Order::Kept,
    };
    let number = match tensor {
        "A_log" => NumberChange::MinusExp,
        _ => NumberChange::Kept,
    };
    match net.key_heads == net.value_heads {
        true => Change::of_number(number),
        false => Change { order, number },
    }
}

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
