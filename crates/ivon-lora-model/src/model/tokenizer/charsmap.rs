//! The table of a `Precompiled` normalizer in a `tokenizer.json`, checked before it is parsed.
//!
//! A `precompiled_charsmap` is SentencePiece's: in base64, the size of a table in bytes (u32, little
//! endian), the table, and texts. The crate that parses it allocates what the size says, up to
//! 8 GiB, before it looks for the table.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

/// Checks that the table of every normalizer is as long as it says. What is wrong with the JSON is
/// left to the parser of the whole.
///
/// # Errors
/// A sentence about the first that is not.
pub(super) fn check(tokenizer: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<File>(tokenizer) {
        Err(error) if error.classify() == Category::Data => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// A `tokenizer.json`, of which only the normalizer is visited.
struct File;

/// A part of a normalizer.
struct Part;

/// A `precompiled_charsmap`.
struct Charsmap;

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "normalizer" {
                map.next_value::<Part>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(File)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a normalizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "precompiled_charsmap" {
                map.next_value::<Charsmap>()?;
            } else {
                map.next_value::<Part>()?;
            }
        }
        Ok(Part)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Part, A::Error> {
        while list.next_element::<Part>()?.is_some() {}
        Ok(Part)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Part, E> {
        Ok(Part)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Part, E> {
        Ok(Part)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Part, E> {
        Ok(Part)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
        Ok(Part)
    }

    fn visit_str<E>(self, _: &str) -> Result<Part, E> {
        Ok(Part)
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part)
    }
}

impl<'de> Deserialize<'de> for Charsmap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        let there = (text.trim_end_matches('=').len() * 3 / 4).saturating_sub(4);
        match size(&text) {
            Some(size) if size as usize > there => Err(D::Error::custom(format_args!(
                "the table of `precompiled_charsmap` has {size} bytes by its size, but there are {there}"
            ))),
            _ => Ok(Self),
        }
    }
}

/// The first four bytes of a text in base64 as a number; none if there are no four.
fn size(text: &str) -> Option<u32> {
    let digit = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut digits = text.as_bytes().get(..6)?.iter();
    let bits = digits.try_fold(0u64, |bits, byte| Some(bits << 6 | u64::from(digit(byte)?)))?;
    Some(((bits >> 4) as u32).swap_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(normalizer: Value) -> Result<(), String> {
        let file =
            json!({ "model": { "precompiled_charsmap": "/////w==" }, "normalizer": normalizer });
        check(file.to_string().as_bytes())
    }

    fn precompiled(charsmap: &str) -> Value {
        json!({ "type": "Precompiled", "precompiled_charsmap": charsmap })
    }

    #[test]
    fn a_table_larger_than_what_is_there_is_refused_wherever_it_is() {
        // The sizes are 0, and 4 with four bytes and a text after them.
        for whole in ["AAAAAA==", "BAAAAAECAwRhAA=="] {
            assert_eq!(of(precompiled(whole)), Ok(()));
            assert!(spm_size_is_read(whole));
        }
        let beyond = precompiled("BAAAAAECAw==");
        let nested = json!({ "type": "Sequence", "normalizers": [{ "type": "NFC", "x": [1, -1, 0.5, null, true] }, beyond] });
        for refused in [beyond.clone(), nested] {
            let message = of(refused).unwrap_err();
            let said =
                "the table of `precompiled_charsmap` has 4 bytes by its size, but there are 3";
            assert!(message.starts_with(said), "{message}");
        }
        let most = of(precompiled("/////w==")).unwrap_err();
        assert!(
            most.contains("has 4294967295 bytes by its size, but there are 0"),
            "{most}"
        );
    }

    /// Whether the library reads a table.
    fn spm_size_is_read(charsmap: &str) -> bool {
        let normalizer = precompiled(charsmap);
        serde_json::from_value::<tokenizers::NormalizerWrapper>(normalizer).is_ok()
    }

    #[test]
    fn what_is_wrong_otherwise_is_left_to_the_parser_of_the_whole() {
        assert_eq!(of(precompiled("A")), Ok(()));
        assert_eq!(of(precompiled("????????")), Ok(()));
        assert_eq!(check(b"{\"normalizer\": {"), Ok(()));
        assert_eq!(of(Value::Null), Ok(()));
    }
}
