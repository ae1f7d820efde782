//! The ids of rows: their own, or made of their place.

use std::path::Path;

use serde_json::Value;

use crate::data::place::Place;
use crate::data::read::Row;

/// The fields that may hold a row's id, in order of precedence.
pub(in crate::data) const ID_FIELDS: [&str; 6] = ["id", "ID", "qID", "question_id", "idx", "index"];

/// The row's own id as text. If it is a bare number (GLUE's running index) or missing, it is
/// prefixed with the file's name, so that ids of several files differ.
pub(super) fn id_of(row: &Row) -> String {
    let own = ID_FIELDS
        .iter()
        .find_map(|name| match row.fields.get(*name) {
            Some(Value::String(id)) if !id.trim().is_empty() => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        });
    match own {
        Some(id) if !id.bytes().all(|byte| byte.is_ascii_digit()) => id,
        Some(number) => format!("{}-{number}", stem(&row.place)),
        None => id_at(&row.place),
    }
}

/// The id of a row without one: the file's name and the line.
pub(super) fn id_at(place: &Place) -> String {
    format!("{}-{}", stem(place), place.line)
}

/// The name of a file without its extension and without `.gz`.
fn stem(place: &Place) -> String {
    let name = Path::new(&*place.file)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Path::new(name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
