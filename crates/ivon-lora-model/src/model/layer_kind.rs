//! What one decoder layer does, as far as layers of one model may differ.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::rope::Rope;

/// What a decoder layer does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerKind {
    /// Tokens further back than this are not attended to (the window counts the token itself).
    pub window: Option<usize>,
    /// The rotary embedding of its queries and keys.
    #[serde(flatten)]
    pub rope: Rope,
    /// Where its norms stand.
    pub norms: Norms,
    /// What its gate goes through.
    pub gate: Gate,
}

/// Where the norms of a layer stand. The forward pass takes it apart where it norms, so that
/// another place cannot be added without all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Before attention and before the gated layer, as in Llama.
    #[default]
    Before,
}

/// What the gate of the gated layer goes through. The forward pass takes it apart where it is
/// applied, so that another function cannot be added without its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// x · σ(x).
    #[default]
    Silu,
}

impl LayerKind {
    /// A layer as Llama's, with this window and rotary embedding.
    pub fn new(window: Option<usize>, rope: Rope) -> Self {
        Self {
            window,
            rope,
            norms: Norms::default(),
            gate: Gate::default(),
        }
    }
}

/// Layers as they are printed and hashed: those that are alike once, in the words of a
/// `config.json`; those that differ one by one.
pub(super) fn serialize<S: Serializer>(
    layers: &[LayerKind],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    match layers {
        [first, rest @ ..] if rest.iter().all(|layer| layer == first) => {
            map.serialize_entry("rope_theta", &first.rope.theta)?;
            map.serialize_entry("rope_scaling", &first.rope.scaling)?;
            map.serialize_entry("sliding_window", &first.window)?;
        }
        layers => map.serialize_entry("layers", layers)?,
    }
    map.end()
}
