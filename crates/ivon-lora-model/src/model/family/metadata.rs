//! What the metadata of GGUF files says in the same words for every family.

use serde_json::{Map, Value, json};

use crate::model::config::MOST_LAYERS;
use crate::model::error::ModelError;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::setting::count;

/// The width, the number of layers, tokens and query heads, the context and the norms' ε.
///
/// # Errors
/// [`ModelError::Setting`] for one that is missing or of the wrong type,
/// [`ModelError::MissingTensor`] without an embedding table.
pub(super) fn sizes(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let embedding = from.shapes.get("token_embd.weight");
    let embedding = embedding.ok_or_else(|| ModelError::MissingTensor {
        file: from.file.into(),
        name: "token_embd.weight".into(),
    })?;
    // From the table's rows, because some files have more rows than tokens.
    to.imply("vocab_size", embedding.first().copied().unwrap_or(0));
    for (key, origin) in [
        ("num_attention_heads", "attention.head_count"),
        ("hidden_size", "embedding_length"),
        ("num_hidden_layers", "block_count"),
        ("max_position_embeddings", "context_length"),
    ] {
        to.set(key, from.key(origin), from.needed(origin)?);
    }
    let layers = to.count("num_hidden_layers");
    count(from.file, &from.key("block_count"), layers, MOST_LAYERS)?;
    let key = "attention.layer_norm_rms_epsilon";
    let eps = from.number(key)?;
    let eps = eps.ok_or_else(|| from.wrong(key, "missing", "a number"))?;
    to.set("rms_norm_eps", from.key(key), eps);
    let is_tied = !from.shapes.contains_key("output.weight");
    to.imply("tie_word_embeddings", is_tied);
    Ok(())
}

/// [`sizes`], and those of the heads and the MLP, which are the same in all layers.
///
/// # Errors
/// As [`sizes`].
pub(super) fn uniform_sizes(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    sizes(from, to)?;
    key_heads(from, to)?;
    head_width(from, to)?;
    feed_forward(from, to)
}

/// The number of key heads of every layer.
pub(super) fn key_heads(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let key = "attention.head_count_kv";
    let heads = from.count(key)?;
    let heads = heads.unwrap_or(to.count("num_attention_heads"));
    to.set("num_key_value_heads", from.key(key), heads);
    Ok(())
}

/// The inner width of the MLPs.
pub(super) fn feed_forward(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let key = "feed_forward_length";
    to.set("intermediate_size", from.key(key), from.needed(key)?);
    Ok(())
}

/// The width of a head, which must be that of its values.
pub(super) fn head_width(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let (hidden, heads) = (to.count("hidden_size"), to.count("num_attention_heads"));
    let width = match from.count("attention.key_length")? {
        Some(width) => width,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a multiple of {heads} heads");
            return Err(from.wrong("embedding_length", format!("`{hidden}`"), expected));
        }
    };
    to.set("head_dim", from.key("attention.key_length"), width);
    must_be_the_head_width(from, to, "attention.value_length")
}

fn must_be_the_head_width(from: &Metadata, to: &Translation, key: &str) -> Result<(), ModelError> {
    let width = to.count("head_dim");
    match from.count(key)?.filter(|found| *found != width) {
        Some(found) => {
            let expected = format!("the head's width {width}");
            Err(from.wrong(key, format!("`{found}`"), expected))
        }
        None => Ok(()),
    }
}

/// The rotary embedding of all layers, which turns whole heads.
pub(super) fn rope(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    must_be_the_head_width(from, to, "rope.dimension_count")?;
    one_rope(from, to)
}

/// The rotary embedding of all layers, which turns a part of each head.
pub(super) fn partial_rope(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let (key, width) = ("rope.dimension_count", to.count("head_dim"));
    if let Some(turned) = from.count(key)? {
        to.set("partial_rotary_factor", from.key(key), part(turned, width));
    }
    one_rope(from, to)
}

/// In the keys of transformers 4, which 5 reads as well.
fn one_rope(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let mut rope = rope_parameters(from, to)?;
    if let Some(theta) = rope.shift_remove("rope_theta") {
        to.imply("rope_theta", theta);
    }
    if rope["rope_type"] != "default" {
        to.imply("rope_scaling", rope);
    }
    Ok(())
}

/// The rotary embeddings of layers with a window, whose base is by default `theta`, and of those
/// without, to which the scaling belongs.
pub(super) fn two_ropes(
    from: &Metadata,
    to: &mut Translation,
    theta: f64,
) -> Result<(), ModelError> {
    must_be_the_head_width(from, to, "rope.dimension_count")?;
    let full = rope_parameters(from, to)?;
    let theta = from.number("rope.freq_base_swa")?.unwrap_or(theta);
    let sliding = json!({ "rope_type": "default", "rope_theta": theta });
    let both = json!({ "full_attention": full, "sliding_attention": sliding });
    to.imply("rope_parameters", both);
    Ok(())
}

/// The factor by which a width of `whole` becomes `part`, rounded down.
pub(super) fn part(part: usize, whole: usize) -> f64 {
    let factor = part as f64 / whole.max(1) as f64;
    let found = (factor * whole as f64) as usize;
    if found < part {
        factor.next_up()
    } else {
        factor
    }
}

/// The base and the scaling of the rotary embedding, as in `rope_parameters`; divisors of all
/// frequencies are put aside.
///
/// # Errors
/// [`ModelError::Setting`] for a scaling that is unknown or incomplete.
pub(super) fn rope_parameters(
    from: &Metadata,
    to: &mut Translation,
) -> Result<Map<String, Value>, ModelError> {
    let theta = from.number("rope.freq_base")?.unwrap_or(10_000.0);
    to.note_origin("rope_theta", from.key("rope.freq_base"));
    to.divisors = from.divisors.get(FREQUENCIES).cloned();
    let mut rope = RopeParameters {
        from,
        to,
        settings: Map::from_iter([("rope_theta".to_string(), json!(theta))]),
    };
    let kind = rope.scaling()?;
    let mut settings = rope.settings;
    settings.insert("rope_type".into(), kind.into());
    match (kind, &to.divisors) {
        ("default", _) | (_, None) => Ok(settings),
        (other, Some(_)) => Err(from.wrong(
            "rope.scaling.type",
            format!("`{other}` beside `{FREQUENCIES}`"),
            "one of them",
        )),
    }
}

/// The tensor in which llama.cpp's converter stores the divisors of the `llama3` rule.
pub(super) const FREQUENCIES: &str = "rope_freqs.weight";
/// The tensors of LongRoPE's divisors, up to the original context and beyond it.
const LONG_ROPE: [(&str, &str); 2] = [
    ("short_factor", "rope_factors_short.weight"),
    ("long_factor", "rope_factors_long.weight"),
];

/// The `rope_parameters` that metadata amounts to.
struct RopeParameters<'a, 'b> {
    from: &'a Metadata<'b>,
    to: &'a mut Translation,
    settings: Map<String, Value>,
}

impl RopeParameters<'_, '_> {
    /// The kind of scaling, after its numbers have been copied.
    fn scaling(&mut self) -> Result<&'static str, ModelError> {
        let from = self.from;
        // Phi-3's files have the divisors without naming the kind.
        let has = |(_, tensor): &(_, &str)| from.divisors.contains_key(tensor);
        let is_long = LONG_ROPE.iter().all(has);
        match from.text("rope.scaling.type")? {
            None | Some("longrope") if is_long => self.long_rope().map(|()| "longrope"),
            None => {
                // The key in the first GGUF files.
                let stated = from.number("rope.scale_linear")?;
                match stated.is_some_and(|factor| factor != 1.0) {
                    true => self.number("factor", "rope.scale_linear").map(|_| "linear"),
                    false => Ok("default"),
                }
            }
            Some("none") => Ok("default"),
            Some("linear") => self.factor().map(|()| "linear"),
            Some("yarn") => self.yarn().map(|()| "yarn"),
            Some(other) => Err(from.wrong(
                "rope.scaling.type",
                format!("`{other}`"),
                "`none`, `linear`, `yarn`, or `longrope` with its divisors",
            )),
        }
    }

    fn long_rope(&mut self) -> Result<(), ModelError> {
        self.number("attention_factor", "rope.scaling.attn_factor")?;
        self.original_length()?;
        for (key, tensor) in LONG_ROPE {
            let divisors = json!(self.from.divisors[tensor]);
            self.settings.insert(key.into(), divisors);
            self.to.note_origin(key, tensor.into());
        }
        Ok(())
    }

    fn yarn(&mut self) -> Result<(), ModelError> {
        self.factor()?;
        self.number("beta_fast", "rope.scaling.yarn_beta_fast")?;
        self.number("beta_slow", "rope.scaling.yarn_beta_slow")?;
        self.number("attention_factor", "rope.scaling.yarn_attn_factor")?;
        self.original_length()
    }

    fn factor(&mut self) -> Result<(), ModelError> {
        let key = "rope.scaling.factor";
        match self.number("factor", key)? {
            true => Ok(()),
            false => Err(self.from.wrong(key, "missing", "a number")),
        }
    }

    fn original_length(&mut self) -> Result<(), ModelError> {
        let key = "rope.scaling.original_context_length";
        let length = self.from.count(key)?;
        self.copy("original_max_position_embeddings", key, length);
        Ok(())
    }

    /// Copies a number, if it is there; says whether it is.
    fn number(&mut self, key: &'static str, origin: &str) -> Result<bool, ModelError> {
        let number = self.from.number(origin)?;
        self.copy(key, origin, number);
        Ok(number.is_some())
    }

    fn copy(&mut self, key: &'static str, origin: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.settings.insert(key.into(), value.into());
            self.to.note_origin(key, self.from.key(origin));
        }
    }
}

/// Copies numbers under other names, those that are there.
pub(super) fn numbers(
    from: &Metadata,
    to: &mut Translation,
    keys: &[(&'static str, &str)],
) -> Result<(), ModelError> {
    for (key, origin) in keys {
        if let Some(number) = from.number(origin)? {
            to.set(key, from.key(origin), number);
        }
    }
    Ok(())
}

/// Which layers have an attention window, as in `layer_types`.
pub(super) fn layer_types(
    from: &Metadata,
    to: &mut Translation,
    interval: usize,
) -> Result<Vec<bool>, ModelError> {
    let slides = from.slides(to.count("num_hidden_layers"), interval)?;
    let name = |slides: &bool| match slides {
        true => "sliding_attention",
        false => "full_attention",
    };
    let names: Vec<&str> = slides.iter().map(name).collect();
    to.set(
        "layer_types",
        from.key("attention.sliding_window_pattern"),
        names,
    );
    Ok(slides)
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn a_part_of_a_width_comes_back_exactly() {
        for whole in 1..300usize {
            for turned in 1..=whole {
                assert_eq!((whole as f64 * part(turned, whole)) as usize, turned);
            }
        }
    }
}
