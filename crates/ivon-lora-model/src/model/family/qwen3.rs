//! Qwen3: queries and keys are normalised per head, and the width of a head does not depend on the
//! number of heads.

use super::change::no_change;
use super::description::{Family, Gguf};
use super::llama::translate;
use super::qwen2::QWEN2;
use crate::model::attention::HeadNorm;

pub(super) const QWEN3: Family = Family {
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["qwen3"],
        translate,
        change: no_change,
    }),
    layer_tensors: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
    head_dim: Some(128),
    bias_flags: &["attention_bias"],
    has_attention_bias_key: true,
    qkv_bias: false,
    qk_norm: HeadNorm::PerHead,
    ..QWEN2
};
