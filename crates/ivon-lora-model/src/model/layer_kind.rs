//! The properties of a decoder layer in which layers of one model may differ.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::rope::Rope;

/// The properties of a decoder layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerKind {
    /// The number of tokens that are attended to, including the token itself; none: all.
    pub window: Option<usize>,
    /// The rotary embedding of its queries and keys.
    #[serde(flatten)]
    pub rope: Rope,
    /// The position of its norms.
    pub norms: Norms,
    /// The activation of its gate.
    pub gate: Gate,
}

/// The position of the norms of a layer. The forward pass destructures it wherever it applies a
/// norm, so that a new variant does not compile until it is handled everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Before attention and before the MLP, as in Llama.
    #[default]
    Before,
}

/// The activation of the gate in the MLP. The forward pass destructures it where it applies it, so
/// that a new variant does not compile without its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// x · σ(x).
    #[default]
    Silu,
}

impl LayerKind {
    /// A layer like Llama's, with this window and rotary embedding.
    pub fn new(window: Option<usize>, rope: Rope) -> Self {
        Self {
            window,
            rope,
            norms: Norms::default(),
            gate: Gate::default(),
        }
    }
}

/// Layers as they are printed and hashed: if all are equal, once, with the keys of a `config.json`;
/// otherwise one by one.
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
