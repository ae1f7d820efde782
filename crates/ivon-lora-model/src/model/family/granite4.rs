//! Granite 4, its dense models: Granite 3 whose MLP computes gate and up in one, and which may have
//! no rotary embedding. Those with experts or with Mamba layers are refused.

use super::description::Family;
use super::granite::{GRANITE, multiply};
use super::llama::gate;
use super::sizes::Sizes;
use crate::model::attention::Attention;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer};
use crate::model::mlp::{Gate, Mlp};
use crate::model::setting::setting;

pub(super) const GRANITE4: Family = Family {
    model_type: "granitemoehybrid",
    architecture: "GraniteMoeHybridForCausalLM",
    // Its dense models have Granite 3's.
    gguf: None,
    renamed: &[
        ("mlp.gate_up_proj", "shared_mlp.input_linear"),
        ("mlp.down_proj", "shared_mlp.output_linear"),
    ],
    own_keys: &[
        "attention_multiplier",
        "embedding_multiplier",
        "layers_block_type",
        "logits_scaling",
        "mamba_chunk_size",
        "mamba_conv_bias",
        "mamba_d_conv",
        "mamba_d_head",
        "mamba_d_state",
        "mamba_expand",
        "mamba_n_groups",
        "mamba_n_heads",
        "mamba_proj_bias",
        "num_experts_per_tok",
        "num_local_experts",
        "output_router_logits",
        "position_embedding_type",
        "residual_multiplier",
        "router_aux_loss_coef",
        "shared_intermediate_size",
        "time_step_limit",
    ],
    read,
    ..GRANITE
};

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    refuse_what_is_not_dense(fields)?;
    let sizes = Sizes::read(fields, family)?;
    let rope = match fields.text("position_embedding_type")? {
        Some("rope") => Some(rope::read(fields, sizes.rope_defaults(family), notes)?),
        _ => None,
    };
    let mlp = Mlp {
        gate: gate(fields, "hidden_act", Gate::Silu)?,
        is_fused: true,
        ..Mlp::new(fields.count("shared_intermediate_size")?.unwrap_or(1024))
    };
    let layer = LayerKind::new(Mixer::Attention(Attention::new(sizes.heads, rope)), mlp);
    let mut config = sizes.decoder(family, vec![layer; sizes.described_layers()]);
    multiply(fields, &mut config)?;
    Ok(config)
}

fn refuse_what_is_not_dense(fields: &Fields) -> Result<(), ModelError> {
    // Without the key, the class has eight experts.
    let experts = fields.count("num_local_experts")?.unwrap_or(8);
    if experts > 0 {
        let found = format!("`{experts}`");
        let expected = "`0`: a model without experts";
        return Err(setting(fields.file, "num_local_experts", found, expected));
    }
    for key in ["layer_types", "layers_block_type"] {
        let kinds = Fields::list_of_texts(fields, key)?;
        let is_attention = |kind: &&str| ["attention", "full_attention"].contains(kind);
        if let Some(kind) = kinds.iter().find(|kind| !is_attention(kind)) {
            let expected = "`attention`: Mamba layers are not supported";
            return Err(setting(fields.file, key, format!("`{kind}`"), expected));
        }
        if !kinds.is_empty() {
            return Ok(());
        }
    }
    let expected = "`attention` for each layer: without it, all are Mamba layers";
    Err(setting(fields.file, "layer_types", "missing", expected))
}
