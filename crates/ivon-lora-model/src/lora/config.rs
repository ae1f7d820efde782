//! Which layers are adapted, and how strongly; with the names of PEFT's options.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::settings::{Key, Kind};

/// Options of a LoRA adapter, named as in PEFT's `LoraConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank r of A and B.
    pub rank: usize,
    /// The adapter's output is scaled by alpha / r (alpha / √r with `use_rslora`).
    pub alpha: f64,
    /// Probability that an input of A is set to zero in training; in [0, 1).
    pub dropout: f64,
    /// The layers with A and B.
    pub target_modules: TargetModules,
    /// The tables over the vocabulary that are trained as a whole: `embed_tokens`, `lm_head`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules_to_save: Vec<String>,
    /// Only these decoder layers; all if absent.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Scale by alpha / √r instead of alpha / r.
    pub use_rslora: bool,
    /// Give each row of W + s · B A a magnitude of its own (DoRA).
    pub use_dora: bool,
    /// The rank of linear layers whose path matches a key; the first one in alphabetical order.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// The alpha of linear layers whose path matches a key; the first one in alphabetical order.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl LoraConfig {
    /// A row for each key of the table.
    pub const KEYS: [Key; 10] = [
        Key::new("rank", Kind::Whole, "The rank r of A and B.").with_flag("rank", "N"),
        Key::new("alpha", Kind::Number, "The adapter's output is scaled by alpha / r.").with_flag("alpha", "X"),
        Key::new("dropout", Kind::Number, "The probability that an input of A is set to zero in training, from 0 to below 1.").with_flag("dropout", "X"),
        Key::new("target_modules", Kind::TextOrTexts, "The layers that are adapted: a list of names, a regular expression, or \"all-linear\".").with_flag("target-modules", "LAYERS"),
        Key::new("modules_to_save", Kind::Texts, "The tables over the vocabulary that are trained as a whole: embed_tokens, lm_head.").with_example("[\"lm_head\"]"),
        Key::new("layers_to_transform", Kind::Wholes, "Only these decoder layers, counted from 0; all by default.").with_example("[0, 1]"),
        Key::new("use_rslora", Kind::Switch, "Scale by alpha / √r in place of alpha / r."),
        Key::new("use_dora", Kind::Switch, "Give each row of the adapted weight a magnitude of its own (DoRA)."),
        Key::new("rank_pattern", Kind::Numbers, "The rank of layers whose path ends with a key, which may be a regular expression; the first in alphabetical order.").with_example("{ o_proj = 4 }"),
        Key::new("alpha_pattern", Kind::Numbers, "The same for alpha.").with_example("{ o_proj = 8 }"),
    ];
}

impl Default for LoraConfig {
    /// The paper's recipe: rank 8, alpha 16, dropout 0.1 on q_proj and v_proj.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            dropout: 0.1,
            target_modules: TargetModules::List(vec!["q_proj".into(), "v_proj".into()]),
            modules_to_save: Vec::new(),
            layers_to_transform: None,
            use_rslora: false,
            use_dora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

/// The layers with A and B: linear layers, and the tables over the vocabulary, `embed_tokens` and
/// `lm_head`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// Those whose module path is one of these names, or ends with `.` and one of them.
    List(Vec<String>),
    /// Those whose whole module path matches the regular expression; `all-linear` means every
    /// linear layer except the output layer.
    Pattern(String),
}
