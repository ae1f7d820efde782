//! OLMo 3: OLMo 2 with a window on three of four layers, and two rotary embeddings.

use super::description::Family;
use super::olmo2::OLMO2;
use super::sizes::Sizes;
use super::sliding::{Pattern, sliding_layers};
use crate::model::attention::{Attention, HeadNorm};
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::{Fields, rope};
use crate::model::layer_kind::{LayerKind, Mixer, Norms};
use crate::model::mlp::{Gate, Mlp};

pub(super) const OLMO3: Family = Family {
    model_type: "olmo3",
    architecture: "Olmo3ForCausalLM",
    gguf: None,
    named_in_gguf: Some("olmo2"),
    read,
    rope_theta: 500_000.0,
    ..OLMO2
};

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let sizes = Sizes::read(fields, family)?;
    let pattern = Pattern {
        interval: 4,
        window: Some(4096),
    };
    let windows = sliding_layers(fields, &sizes, pattern)?;
    let defaults = sizes.rope_defaults(family);
    let ropes = rope::read_both(fields, [defaults; 2], "rope_theta", notes)?;
    let mlp = Mlp {
        gate: super::llama::gate(fields, "hidden_act", Gate::Silu)?,
        ..Mlp::new(fields.needed_count("intermediate_size")?)
    };
    let layer = |window: Option<usize>| {
        let rope = ropes[usize::from(window.is_none())].clone();
        let attention = Attention {
            window,
            qk_norm: HeadNorm::Whole,
            ..Attention::new(sizes.heads, Some(rope))
        };
        LayerKind {
            norms: Norms::After,
            ..LayerKind::new(Mixer::Attention(attention), mlp)
        }
    };
    Ok(sizes.decoder(family, windows.into_iter().map(layer).collect()))
}
