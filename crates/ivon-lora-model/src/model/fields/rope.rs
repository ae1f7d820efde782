//! The rotary settings of a `config.json`: in `rope_parameters` (transformers 5), in `rope_scaling`
//! (4), or beside either. If they occur twice, the precedence is that of transformers 5
//! (`convert_rope_params_to_dict`).

use serde_json::{Map, Value};

use super::Fields;
use crate::model::error::ModelError;
use crate::model::rope::{Rope, RopeScaling, Yarn};
use crate::model::setting::setting;

/// The keys of the rotary settings that are read.
const READ: [&str; 20] = [
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "llama_4_scaling_beta",
    "long_factor",
    "low_freq_factor",
    "mrope_interleaved",
    "mrope_section",
    "max_position_embeddings",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "short_factor",
    "truncate",
    "type",
];

/// What a family's class assumes of its rotary embedding.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct RopeDefaults {
    /// The default of `max_position_embeddings`.
    pub longest: usize,
    /// The default of `rope_theta`.
    pub theta: f64,
    /// The default of `partial_rotary_factor`; none: heads are rotated whole, and another value is
    /// refused.
    pub part: Option<f64>,
}

/// Reads the rotary embedding; adds notes about duplicate settings.
///
/// # Errors
/// [`ModelError::Setting`] for an unsupported kind, or a value that is missing or of the wrong
/// type.
pub(in crate::model) fn read(
    fields: &Fields,
    defaults: RopeDefaults,
    notes: &mut Vec<String>,
) -> Result<Rope, ModelError> {
    let rope = object(fields, notes)?;
    if let Some((key, found)) = rope.object.iter().find(|(_, value)| value.is_object()) {
        let expected = "one set of rotary settings for all layers";
        return Err(fields.wrong(&format!("rope_parameters.{key}"), found, expected));
    }
    read_from(fields, &rope, defaults, notes)
}

/// Reads the rotary embeddings of layers with a window and of those without, in that order, in
/// families that tell them apart: under `sliding_attention` and `full_attention`, or, in older
/// files, the base of the former under `local_key` and all else for the latter alone.
///
/// # Errors
/// As [`read`].
pub(in crate::model) fn read_both(
    fields: &Fields,
    [sliding, full]: [RopeDefaults; 2],
    local_key: &str,
    notes: &mut Vec<String>,
) -> Result<[Rope; 2], ModelError> {
    let parameters = fields.object("rope_parameters")?;
    let of_kind = |kind: &str| match &parameters {
        Some(parameters) => parameters.object(kind),
        None => Ok(None),
    };
    let nothing = nothing(fields.file);
    let (old_sliding, old_full) = match (of_kind("sliding_attention")?, of_kind("full_attention")?)
    {
        (None, None) => (None, fields.object("rope_scaling")?),
        both => both,
    };
    let sliding_rope = old_sliding.as_ref().unwrap_or(&nothing);
    let mut sliding_rope = read_from(&nothing, sliding_rope, sliding, notes)?;
    if let (None, Some(theta)) = (&old_sliding, fields.number(local_key)?) {
        sliding_rope.theta = theta;
    }
    let full_rope = old_full.as_ref().unwrap_or(&nothing);
    let full_rope = read_from(fields, full_rope, full, notes)?;
    Ok([sliding_rope, full_rope])
}

fn nothing(file: &str) -> Fields<'_> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    Fields {
        object: &NOTHING,
        file,
    }
}

/// The embedding from one set of rotary settings, and from the keys beside it.
fn read_from(
    fields: &Fields,
    rope: &Fields,
    defaults: RopeDefaults,
    notes: &mut Vec<String>,
) -> Result<Rope, ModelError> {
    let part = rope
        .number("partial_rotary_factor")?
        .or(fields.number("partial_rotary_factor")?)
        .or(defaults.part)
        .filter(|part| *part != 1.0);
    if let (Some(part), None) = (part, defaults.part) {
        let found = format!("`{part}`");
        return Err(setting(fields.file, "partial_rotary_factor", found, "`1`"));
    }
    let (inner, outer) = (rope.number("rope_theta")?, fields.number("rope_theta")?);
    let places = [
        "rope_theta in its rotary settings",
        "rope_theta beside them",
    ];
    twice(fields, places, inner, outer, notes);
    Ok(Rope {
        theta: inner.or(outer).unwrap_or(defaults.theta),
        scaling: scaling(fields, rope, defaults.longest, notes)?,
        partial_rotary_factor: part,
    })
}

/// `rope_scaling` unless it is absent, null or empty, else `rope_parameters`, else nothing.
fn object<'a>(fields: &Fields<'a>, notes: &mut Vec<String>) -> Result<Fields<'a>, ModelError> {
    let (old, new) = (
        fields.object("rope_scaling")?,
        fields.object("rope_parameters")?,
    );
    if let (Some(old), Some(new)) = (&old, &new)
        && old.object != new.object
    {
        let said = "`rope_scaling` and `rope_parameters`, which differ: the former is used whole, as transformers does";
        notes.push(format!("`{}` has both {said}", fields.file));
    }
    let name = match old {
        Some(_) => "rope_scaling",
        None => "rope_parameters",
    };
    let object = old.or(new).unwrap_or(nothing(fields.file));
    notes.extend(unread_keys(name, object.object, fields.file));
    Ok(object)
}

/// A note about the keys of the rotary settings that are not read.
fn unread_keys(name: &str, object: &Map<String, Value>, file: &str) -> Option<String> {
    let unread: Vec<String> = object
        .keys()
        .filter(|key| !READ.contains(&key.as_str()))
        .map(|key| format!("`{name}.{key}`"))
        .collect();
    (!unread.is_empty()).then(|| {
        format!(
            "{} in `{file}` is not used by this kind of rotary embedding",
            unread.join(", ")
        )
    })
}

fn scaling(
    fields: &Fields,
    rope: &Fields,
    longest: usize,
    notes: &mut Vec<String>,
) -> Result<RopeScaling, ModelError> {
    // `type` is the key before transformers 4.45.
    let (new, old) = (rope.text("rope_type")?, rope.text("type")?);
    twice(fields, ["rope_type", "type"], new, old, notes);
    let needed = |field| rope.number(field)?.ok_or_else(|| rope.missing(field));
    let original = |notes: &mut Vec<String>| {
        original_length(fields, rope, notes).map(|length| length.unwrap_or(longest))
    };
    match new.or(old).unwrap_or("default") {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear {
            factor: needed("factor")?,
        }),
        // Here transformers does not read the original length.
        "dynamic" => Ok(RopeScaling::Dynamic {
            factor: needed("factor")?,
            original_max_position_embeddings: longest,
        }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_max_position_embeddings: original(notes)?,
        }),
        // Phi-3's older files have a `yarn` that is a `longrope`.
        "yarn" if rope.get("long_factor").is_none() => {
            yarn(rope, longest, original(notes)?).map(RopeScaling::Yarn)
        }
        "longrope" | "su" | "yarn" => long_rope(rope, longest, original(notes)?),
        "proportional" => Ok(RopeScaling::Proportional {
            factor: rope.number("factor")?.unwrap_or(1.0),
        }),
        other => Err(setting(
            rope.file,
            "rope_type",
            format!("`{other}`"),
            "`default`, `linear`, `dynamic`, `llama3`, `yarn`, `longrope` or `proportional`",
        )),
    }
}

fn yarn(rope: &Fields, longest: usize, original: usize) -> Result<Yarn, ModelError> {
    let stated = rope.number("factor")?;
    let factor = stated.unwrap_or(longest as f64 / original.max(1) as f64);
    let positive = |field| -> Result<Option<f64>, ModelError> {
        Ok(rope.number(field)?.filter(|number| *number != 0.0))
    };
    let scales = positive("mscale")?.zip(positive("mscale_all_dim")?);
    let computed = match scales {
        Some((one, all)) => {
            Yarn::attention_factor_of(factor, one) / Yarn::attention_factor_of(factor, all)
        }
        None => Yarn::attention_factor_of(factor, 1.0),
    };
    Ok(Yarn {
        factor,
        beta_fast: positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: positive("beta_slow")?.unwrap_or(1.0),
        truncate: rope.flag("truncate")?.unwrap_or(true),
        attention_factor: rope.number("attention_factor")?.unwrap_or(computed),
        original_max_position_embeddings: original,
        query_beta: rope.number("llama_4_scaling_beta")?.unwrap_or(0.0),
    })
}

fn long_rope(rope: &Fields, longest: usize, original: usize) -> Result<RopeScaling, ModelError> {
    let needed = |field| rope.numbers(field)?.ok_or_else(|| rope.missing(field));
    let stated = rope.number("factor")?;
    let factor = stated.unwrap_or(longest as f64 / original.max(1) as f64);
    let computed = match factor > 1.0 {
        true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
        false => 1.0,
    };
    Ok(RopeScaling::LongRope {
        short_factor: needed("short_factor")?,
        long_factor: needed("long_factor")?,
        attention_factor: rope.number("attention_factor")?.unwrap_or(computed),
        original_max_position_embeddings: original,
    })
}

/// The context length before scaling. Only here transformers prefers the key beside the rotary
/// settings.
fn original_length(
    fields: &Fields,
    rope: &Fields,
    notes: &mut Vec<String>,
) -> Result<Option<usize>, ModelError> {
    let field = "original_max_position_embeddings";
    let (outer, inner) = (fields.count(field)?, rope.count(field)?);
    twice(
        fields,
        [
            field,
            "original_max_position_embeddings in its rotary settings",
        ],
        outer,
        inner,
        notes,
    );
    Ok(outer.or(inner))
}

/// Adds a note if a setting occurs twice with different values; the first is used.
fn twice<T: PartialEq + std::fmt::Display>(
    fields: &Fields,
    [one, two]: [&str; 2],
    used: Option<T>,
    other: Option<T>,
    notes: &mut Vec<String>,
) {
    if let (Some(used), Some(other)) = (used, other)
        && used != other
    {
        let said =
            format!("{one} is {used}, {two} is {other}: the former is used, as transformers does");
        notes.push(format!(
            "two settings of `{}` disagree: {said}",
            fields.file
        ));
    }
}
