//! The rotary settings of a `config.json`: in `rope_parameters` (transformers 5), in `rope_scaling`
//! (4), or beside either. If they occur twice, the precedence is that of transformers 5
//! (`convert_rope_params_to_dict`).

use serde_json::{Map, Value};

use super::fields::Fields;
use crate::model::error::ModelError;
use crate::model::rope::{Rope, RopeScaling};
use crate::model::setting::setting;

/// The keys of the rotary settings that are read.
const READ: [&str; 8] = [
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
];

/// Reads the rotary embedding; adds notes about duplicate settings.
///
/// # Errors
/// [`ModelError::Setting`] for an unsupported kind, or a value that is missing or of the wrong
/// type.
pub(super) fn read(
    fields: &Fields,
    longest: usize,
    notes: &mut Vec<String>,
) -> Result<Rope, ModelError> {
    let rope = object(fields, notes)?;
    let part = rope
        .number("partial_rotary_factor")?
        .or(fields.number("partial_rotary_factor")?);
    if let Some(part) = part.filter(|part| *part != 1.0) {
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
        theta: inner.or(outer).unwrap_or(10_000.0),
        scaling: scaling(fields, &rope, longest, notes)?,
    })
}

/// `rope_scaling` unless it is absent, null or empty, else `rope_parameters`, else nothing.
fn object<'a>(fields: &Fields<'a>, notes: &mut Vec<String>) -> Result<Fields<'a>, ModelError> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let read = |field: &str| match fields.get(field) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object).filter(|object| !object.is_empty())),
        Some(other) => Err(fields.wrong(field, other, "an object")),
    };
    let (old, new) = (read("rope_scaling")?, read("rope_parameters")?);
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        let said = "`rope_scaling` and `rope_parameters`, which differ: the former is used whole, as transformers does";
        notes.push(format!("`{}` has both {said}", fields.file));
    }
    let object = old.or(new).unwrap_or(&NOTHING);
    let name = if old.is_some() {
        "rope_scaling"
    } else {
        "rope_parameters"
    };
    if let Some((key, found)) = object.iter().find(|(_, value)| value.is_object()) {
        return Err(fields.wrong(
            &format!("{name}.{key}"),
            found,
            "one set of rotary settings for all layers",
        ));
    }
    notes.extend(unread_keys(name, object, fields.file));
    Ok(Fields {
        object,
        file: fields.file,
    })
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
    match new.or(old).unwrap_or("default") {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear {
            factor: needed("factor")?,
        }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_max_position_embeddings: original_length(fields, rope, notes)?
                .unwrap_or(longest),
        }),
        other => Err(setting(
            rope.file,
            "rope_type",
            format!("`{other}`"),
            "`default`, `linear` or `llama3`",
        )),
    }
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
