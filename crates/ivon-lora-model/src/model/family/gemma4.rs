//! Gemma 4: layers with a window and layers with wider heads, the last of which use the keys and
//! values of earlier ones; and every layer has an input of its own.

use serde_json::json;

use super::change::no_change;
use super::description::{Family, Gguf};
use super::gemma2::{around, ends, mlp, refuse_later_tokens};
use super::gemma3::GEMMA3;
use super::metadata;
use super::sizes::Sizes;
use super::sliding::slides;
use crate::model::attention::{Attention, HeadNorm, KeyValues};
use crate::model::config::{DecoderConfig, Ends};
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::rope::{self, RopeDefaults};
use crate::model::fields::translation::Translation;
use crate::model::layer_kind::LayerKind;
use crate::model::mlp::Mlp;
use crate::model::rope::{Rope, RopeScaling};
use crate::model::setting::setting;

pub(super) const GEMMA4: Family = Family {
    model_type: "gemma4_text",
    architecture: "Gemma4ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["gemma4"],
        translate,
        change: no_change,
    }),
    tensors: &[
        ("token_embd", "model.embed_tokens"),
        ("per_layer_token_embd", "model.embed_tokens_per_layer"),
        ("per_layer_model_proj", "model.per_layer_model_projection"),
        ("per_layer_proj_norm", "model.per_layer_projection_norm"),
        ("output_norm", "model.norm"),
        ("output", "lm_head"),
    ],
    layer_tensors: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
        ("inp_gate", "per_layer_input_gate"),
        ("proj", "per_layer_projection"),
        ("post_norm", "post_per_layer_input_norm"),
        ("layer_output_scale.weight", "layer_scalar"),
    ],
    norms_add_one: false,
    own_keys: &[
        "attention_k_eq_v",
        "enable_moe_block",
        "final_logit_softcapping",
        "global_head_dim",
        "hidden_activation",
        "hidden_size_per_layer_input",
        "moe_intermediate_size",
        "num_experts",
        "num_global_key_value_heads",
        "num_kv_shared_layers",
        "per_layer_config",
        "top_k_experts",
        "use_bidirectional_attention",
        "use_double_wide_mlp",
        "vocab_size_per_layer_input",
    ],
    read,
    partial_rotary_factor: Some(1.0),
    ..GEMMA3
};

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::sizes(from, to)?;
    let slides = metadata::layer_types(from, to, 6)?;
    for (key, origin) in [
        ("head_dim", "attention.key_length_swa"),
        ("global_head_dim", "attention.key_length"),
        ("sliding_window", "attention.sliding_window"),
        (
            "hidden_size_per_layer_input",
            "embedding_length_per_layer_input",
        ),
    ] {
        to.set(key, from.key(origin), from.needed(origin)?);
    }
    let key = "attention.shared_kv_layers";
    to.set(
        "num_kv_shared_layers",
        from.key(key),
        from.count(key)?.unwrap_or(0),
    );
    translate_key_heads(from, to, &slides)?;
    translate_feed_forward(from, to)?;
    translate_ropes(from, to)?;
    let key = "final_logit_softcapping";
    metadata::numbers(from, to, &[(key, key)])?;
    let table = from.shapes.get("per_layer_token_embd.weight");
    let rows = table.and_then(|shape| shape.first()).copied();
    to.imply(
        "vocab_size_per_layer_input",
        rows.unwrap_or(to.count("vocab_size")),
    );
    Ok(())
}

/// The number of key heads of layers with a window and of those without. In the latter, values are
/// keys if the first of them has no projection of values.
fn translate_key_heads(
    from: &Metadata,
    to: &mut Translation,
    slides: &[bool],
) -> Result<(), ModelError> {
    let key = "attention.head_count_kv";
    let heads = from.counts(key, slides.len())?;
    let heads = heads.unwrap_or(vec![to.count("num_attention_heads"); slides.len()]);
    let first = |kind: bool| slides.iter().position(|slides| *slides == kind);
    let (sliding, full) = (first(true), first(false));
    if let Some(layer) = sliding.or(full) {
        to.set("num_key_value_heads", from.key(key), heads[layer]);
    }
    if let Some(layer) = full {
        let tensor = format!("blk.{layer}.attn_v.weight");
        to.imply("attention_k_eq_v", !from.shapes.contains_key(&*tensor));
        to.set("num_global_key_value_heads", from.key(key), heads[layer]);
    }
    Ok(())
}

/// The inner width of the MLP, which may be twice as large in layers that share keys and values.
fn translate_feed_forward(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let (key, layers) = ("feed_forward_length", to.count("num_hidden_layers"));
    let widths = from.counts(key, layers)?;
    let widths = widths.ok_or_else(|| from.wrong(key, "missing", "a whole number"))?;
    let first = widths.first().copied().unwrap_or(0);
    let last = widths.last().copied().unwrap_or(0);
    let shared = layers.saturating_sub(to.count("num_kv_shared_layers"));
    let expected = |layer: usize| if layer < shared { first } else { last };
    let fits = last == first || last == first.saturating_mul(2) && shared < layers;
    if !fits
        || widths
            .iter()
            .enumerate()
            .any(|(layer, width)| *width != expected(layer))
    {
        let expected = "one width, or twice that in the layers that share keys and values";
        let found: Vec<String> = widths.iter().map(|width| width.to_string()).collect();
        return Err(from.wrong(key, format!("`{}`", found.join(", ")), expected));
    }
    to.set("intermediate_size", from.key(key), first);
    to.imply("use_double_wide_mlp", last != first);
    Ok(())
}

/// The converter has no key for the part of the pairs that turn: the divisors of the others are so
/// large that they do not.
fn translate_ropes(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let mut full = metadata::rope_parameters(from, to)?;
    let divisors = to.divisors.take().unwrap_or_default();
    let turning = divisors
        .iter()
        .take_while(|divisor| **divisor == 1.0)
        .count();
    let is_still = |divisor: &f32| *divisor >= 1e29;
    let pairs = to.count("global_head_dim") / 2;
    if divisors.len() != pairs || !divisors[turning..].iter().all(is_still) {
        let expected = format!("{pairs} numbers, first 1, then 1e30");
        let found = format!("{} numbers", divisors.len());
        return Err(setting(from.file, metadata::FREQUENCIES, found, expected));
    }
    full.insert("rope_type".into(), "proportional".into());
    full.insert(
        "partial_rotary_factor".into(),
        json!(metadata::part(turning, pairs)),
    );
    let theta = from.number("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let (width, turned) = (
        to.count("head_dim"),
        from.count("rope.dimension_count_swa")?,
    );
    let part = metadata::part(turned.unwrap_or(width), width);
    let sliding =
        json!({ "rope_type": "default", "rope_theta": theta, "partial_rotary_factor": part });
    to.imply(
        "rope_parameters",
        json!({ "full_attention": full, "sliding_attention": sliding }),
    );
    Ok(())
}

/// What the layers of a model have in common.
struct Layers<'a> {
    fields: &'a Fields<'a>,
    sizes: Sizes,
    /// Whether each layer has a window.
    slides: Vec<bool>,
    window: usize,
    /// Of layers with a window, and of those without.
    ropes: [Rope; 2],
    /// The number of layers with keys and values of their own, the first ones.
    own_keys: usize,
    values_are_keys: bool,
    mlp: Mlp,
    has_wide_mlp: bool,
    per_layer_input: Option<usize>,
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    refuse_later_tokens(fields)?;
    fields.refuse_flag("enable_moe_block")?;
    let sizes = Sizes::read(fields, family)?;
    let width = fields.count("hidden_size_per_layer_input")?.unwrap_or(256);
    let per_layer_input = Some(width).filter(|width| *width > 0);
    let flag = |key| Ok::<_, ModelError>(fields.flag(key)?.unwrap_or(false));
    let shared = fields.count("num_kv_shared_layers")?.unwrap_or(0);
    let mut slides = slides(fields, &sizes, 6)?;
    // The last layer never has a window.
    if let Some(last) = slides.last_mut() {
        *last = false;
    }
    let layers = Layers {
        fields,
        sizes,
        slides,
        window: fields.count("sliding_window")?.unwrap_or(512),
        ropes: ropes(fields, sizes.rope_defaults(family), notes)?,
        own_keys: sizes.layers.saturating_sub(shared),
        values_are_keys: flag("attention_k_eq_v")?,
        mlp: mlp(fields)?,
        has_wide_mlp: flag("use_double_wide_mlp")?,
        per_layer_input,
    };
    let kinds = 0..sizes.described_layers();
    let kinds = kinds.map(|index| layers.layer(index));
    let rows = fields
        .count("vocab_size_per_layer_input")?
        .unwrap_or(262_144);
    Ok(DecoderConfig {
        ends: Ends {
            final_logit_softcapping: fields.number("final_logit_softcapping")?,
            vocab_size_per_layer_input: per_layer_input.map(|_| rows),
            ..ends(&sizes)
        },
        ..sizes.decoder(family, kinds.collect::<Result<_, _>>()?)
    })
}

/// The rotary embeddings of layers with a window, and of those without: by default a quarter of the
/// pairs of the latter turns.
fn ropes(
    fields: &Fields,
    full: RopeDefaults,
    notes: &mut Vec<String>,
) -> Result<[Rope; 2], ModelError> {
    let sliding = RopeDefaults {
        theta: 10_000.0,
        ..full
    };
    let [sliding, mut full] = rope::read_both(fields, [sliding, full], "", notes)?;
    if fields.get("rope_parameters").is_none() {
        full.scaling = RopeScaling::Proportional { factor: 1.0 };
        full.partial_rotary_factor = Some(0.25);
    }
    Ok([sliding, full])
}

impl Layers<'_> {
    fn layer(&self, index: usize) -> Result<LayerKind, ModelError> {
        let slides = self.slides[index];
        let is_shared = index >= self.own_keys;
        let key_values = match (is_shared, !slides && self.values_are_keys) {
            (true, _) => KeyValues::OfLayer(self.shared_with(index)?),
            (false, true) => KeyValues::ValuesAreKeys,
            (false, false) => KeyValues::Separate,
        };
        let attention = Attention {
            window: slides.then_some(self.window),
            qk_norm: HeadNorm::PerHead,
            v_norm: true,
            multiplier: Some(1.0),
            key_values,
            ..Attention::new(
                self.heads(index)?,
                Some(self.ropes[usize::from(!slides)].clone()),
            )
        };
        let widening = if is_shared && self.has_wide_mlp { 2 } else { 1 };
        let mlp = Mlp {
            intermediate_size: self.mlp.intermediate_size.saturating_mul(widening),
            ..self.mlp
        };
        Ok(LayerKind {
            per_layer_input: self.per_layer_input,
            has_scalar: true,
            ..around(attention, mlp)
        })
    }

    /// The last layer of the same kind with keys and values of its own.
    fn shared_with(&self, index: usize) -> Result<usize, ModelError> {
        let own = &self.slides[..self.own_keys.min(index)];
        let found = own.iter().rposition(|slides| *slides == self.slides[index]);
        found.ok_or_else(|| {
            let found = format!("`{}`", self.sizes.layers - self.own_keys);
            let expected = "an earlier layer of each kind with keys and values of its own";
            setting(self.fields.file, "num_kv_shared_layers", found, expected)
        })
    }

    /// Layers without a window have wider heads, and may have another number of key heads:
    /// `per_layer_config` of transformers 5.24, or `global_head_dim` and
    /// `num_global_key_value_heads`.
    fn heads(&self, index: usize) -> Result<[usize; 3], ModelError> {
        let [queries, keys, width] = self.sizes.heads;
        if let Some(configs) = self.fields.object("per_layer_config")? {
            let is_this = |key: &&String| key.parse::<usize>() == Ok(index);
            let own = match configs.object.keys().find(is_this) {
                Some(key) => configs.object(key)?,
                None => None,
            };
            let Some(own) = own else {
                return Ok([queries, keys, width]);
            };
            return Ok([
                queries,
                own.count("num_key_value_heads")?.unwrap_or(keys),
                own.count("head_dim")?.unwrap_or(width),
            ]);
        }
        if self.slides[index] {
            return Ok([queries, keys, width]);
        }
        let wide = self.fields.count("global_head_dim")?.unwrap_or(512);
        let global = self.fields.count("num_global_key_value_heads")?;
        let global = global.filter(|_| self.values_are_keys);
        Ok([queries, global.unwrap_or(keys), wide])
    }
}
