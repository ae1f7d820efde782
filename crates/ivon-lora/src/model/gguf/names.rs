//! GGUF's tensor names ↔ Hugging Face's, for the Llama-like families.

const TOP: [(&str, &str); 3] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

const LAYER: [(&str, &str); 11] = [
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
];

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`; `None` for names of other
/// families.
pub fn to_hugging_face(gguf: &str) -> Option<String> {
    translate(gguf, "blk.", "model.layers.", |(from, to)| (from, to))
}

/// `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`.
pub fn to_gguf(hugging_face: &str) -> Option<String> {
    translate(hugging_face, "model.layers.", "blk.", |(from, to)| {
        (to, from)
    })
}

type Pair = (&'static str, &'static str);

fn translate(
    name: &str,
    layer: &str,
    new_layer: &str,
    direction: fn(Pair) -> Pair,
) -> Option<String> {
    let (module, ending) = name
        .rsplit_once('.')
        .filter(|(_, ending)| ["weight", "bias"].contains(ending))?;
    let look_up = |table: &[Pair], module: &str| {
        table
            .iter()
            .map(|pair| direction(*pair))
            .find(|(from, _)| *from == module)
    };
    let Some(inside) = module.strip_prefix(layer) else {
        return look_up(&TOP, module).map(|(_, to)| format!("{to}.{ending}"));
    };
    let (number, module) = inside.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    look_up(&LAYER, module).map(|(_, to)| format!("{new_layer}{number}.{to}.{ending}"))
}

/// Whether llama.cpp's converter permutes the rows of this tensor within each head, for families
/// that it does so for.
pub fn is_rotary(hugging_face: &str) -> bool {
    [
        ".q_proj.weight",
        ".k_proj.weight",
        ".q_proj.bias",
        ".k_proj.bias",
    ]
    .iter()
    .any(|ending| hugging_face.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_there_and_back() {
        for (gguf, hugging_face) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("output.weight", "lm_head.weight"),
            ("blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias"),
            (
                "blk.17.attn_output.weight",
                "model.layers.17.self_attn.o_proj.weight",
            ),
            (
                "blk.3.ffn_norm.weight",
                "model.layers.3.post_attention_layernorm.weight",
            ),
            (
                "blk.3.attn_k_norm.weight",
                "model.layers.3.self_attn.k_norm.weight",
            ),
        ] {
            assert_eq!(to_hugging_face(gguf).as_deref(), Some(hugging_face));
            assert_eq!(to_gguf(hugging_face).as_deref(), Some(gguf));
        }
    }

    #[test]
    fn other_names_have_no_translation() {
        for name in [
            "",
            "blk",
            "blk.x.attn_q.weight",
            "blk.1.ssm_in.weight",
            "rope_freqs.weight",
            "blk.1.attn_q.scale",
        ] {
            assert_eq!(to_hugging_face(name), None, "{name}");
        }
    }
}
