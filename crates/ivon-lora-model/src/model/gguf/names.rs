//! GGUF's tensor names ↔ Hugging Face's, by the table of the family.

use crate::model::family::Family;

impl Family {
    /// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`; none for names that the
    /// family does not have.
    pub fn to_hugging_face(&self, gguf: &str) -> Option<String> {
        self.translate(gguf, ["blk.", "model.layers."], |(from, to)| (from, to))
    }

    /// `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`.
    pub fn to_gguf(&self, hugging_face: &str) -> Option<String> {
        self.translate(hugging_face, ["model.layers.", "blk."], |(to, from)| {
            (from, to)
        })
    }

    fn translate(
        &self,
        name: &str,
        [layer, new_layer]: [&str; 2],
        direction: fn(Pair) -> Pair,
    ) -> Option<String> {
        let (table, prefix, inside) = match name.strip_prefix(layer) {
            None => (self.tensors, String::new(), name),
            Some(inside) => {
                let (number, inside) = inside.split_once('.')?;
                let number: u32 = number.parse().ok()?;
                (self.layer_tensors, format!("{new_layer}{number}."), inside)
            }
        };
        let look_up = |name: &str| {
            let mut pairs = table.iter().map(|pair| direction(*pair));
            Some(pairs.find(|(from, _)| *from == name)?.1)
        };
        if let Some(to) = look_up(inside) {
            return Some(format!("{prefix}{to}"));
        }
        let (module, ending) = inside
            .rsplit_once('.')
            .filter(|(_, ending)| ["weight", "bias"].contains(ending))?;
        Some(format!("{prefix}{}.{ending}", look_up(module)?))
    }
}

type Pair = (&'static str, &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_there_and_back() {
        let family = Family::of_model_type("qwen3").unwrap();
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
            assert_eq!(family.to_hugging_face(gguf).as_deref(), Some(hugging_face));
            assert_eq!(family.to_gguf(hugging_face).as_deref(), Some(gguf));
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
            "blk.1.attn_q_norm.weight",
        ] {
            assert_eq!(
                Family::of_gguf("llama").unwrap().to_hugging_face(name),
                None,
                "{name}"
            );
        }
    }
}
