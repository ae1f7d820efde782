//! Special and added tokens of a Hugging Face folder, from the same places as in transformers 5:
//! `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and `tokenizer.json`
//! itself.
//!
//! The order is that of `PreTrainedTokenizerBase._from_pretrained` and
//! `TokenizersBackend.__init__`. If the config has an `added_tokens_decoder`, the two older files
//! are not read. The ids in the files only determine the order: a token of the vocabulary keeps its
//! id there, any other gets the next free one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::files;
use crate::model::error::ModelError;

/// The maximum size of these files in bytes.
const LONGEST_FILE: u64 = 16 << 20;
/// The maximum number of added tokens, and of their bytes in total: a search tree is built of their
/// text.
const MOST_TOKENS: usize = 200_000;
const LONGEST_TOKENS: usize = 4 << 20;

/// The names in transformers, in its order.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The special tokens in the files beside `tokenizer.json`.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    /// The named tokens with their texts, as a chat template sees them.
    pub named: Vec<(String, String)>,
    /// Tokens to add to the vocabulary, in this order.
    pub added: Vec<AddedToken>,
}

/// `tokenizer_config.json`; an empty object if there is none.
///
/// # Errors
/// [`ModelError::Malformed`] if it is not a JSON object.
pub(super) fn read_config(folder: &Path) -> Result<Map<String, Value>, ModelError> {
    Ok(read_object(folder, "tokenizer_config.json")?.unwrap_or_default())
}

/// The object in a file of the folder; none if there is no such file.
fn read_object(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>, ModelError> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(&path, LONGEST_FILE)?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| malformed(name, error.to_string()))
}

fn malformed(file: &str, reason: String) -> ModelError {
    ModelError::Malformed {
        file: file.into(),
        reason,
    }
}

impl SpecialTokens {
    /// Reads the special tokens, for a tokenizer with these added tokens of its own by id.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if a file does not conform to its format, or there are too many
    /// tokens.
    pub fn read(
        folder: &Path,
        config: &Map<String, Value>,
        known: &BTreeMap<u32, AddedToken>,
    ) -> Result<Self, ModelError> {
        let mut settings = config.clone();
        if settings.get("extra_special_tokens").is_none_or(is_empty) {
            take_additional(&mut settings);
        }
        let by_id = match settings.get("added_tokens_decoder") {
            Some(decoder) => decoder_tokens(decoder)?,
            None => older_tokens(folder, &mut settings, known)?,
        };
        let by_text: HashMap<&str, &AddedToken> = by_id
            .values()
            .map(|token| (token.content.as_str(), token))
            .collect();
        let named: Vec<(String, AddedToken)> = named(&settings)?
            .into_iter()
            .map(|(name, token)| {
                // The standard ones take their flags from the tokens with ids.
                let same = by_text
                    .get(token.content.as_str())
                    .filter(|_| NAMES.contains(&name.as_str()));
                let token = same.map_or(token, |same| (*same).clone());
                (name, token)
            })
            .collect();
        let added = to_add(&by_id, &named, &extra(&settings)?, known);
        check_size(&added)?;
        let named = named
            .into_iter()
            .map(|(name, token)| (name, token.content))
            .collect();
        Ok(Self { named, added })
    }
}

/// The tokens of `added_tokens_decoder`, by their ids there.
fn decoder_tokens(decoder: &Value) -> Result<BTreeMap<u64, AddedToken>, ModelError> {
    let tokens = match decoder.as_object() {
        Some(decoder) => decoder
            .iter()
            .map(|(id, value)| decoder_token(id, value))
            .collect(),
        None => Err("is no object".to_string()),
    };
    tokens.map_err(|reason: String| {
        let reason = format!("`added_tokens_decoder` {reason}");
        malformed("tokenizer_config.json", reason)
    })
}

fn decoder_token(id: &str, value: &Value) -> Result<(u64, AddedToken), String> {
    let Ok(id) = id.parse() else {
        return Err(format!("has the id `{id}`, expected a whole number"));
    };
    match value.as_object().and_then(|_| added_token(value, None)) {
        Some(token) => Ok((id, token)),
        None => Err(format!("has no token of id {id}")),
    }
}

/// Whether a value is null or empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        other => other.is_null(),
    }
}

/// Reads `additional_special_tokens`, the older name, as `extra_special_tokens`.
fn take_additional(settings: &mut Map<String, Value>) {
    if let Some(additional) = settings.remove("additional_special_tokens") {
        settings.insert("extra_special_tokens".into(), additional);
    }
}

/// Overrides the config with `special_tokens_map.json`; tokens without a name are added to those
/// present.
fn override_settings(settings: &mut Map<String, Value>, map: Map<String, Value>) {
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            ("extra_special_tokens", Value::Array(more)) => {
                let there = settings.get(&key).and_then(Value::as_array);
                let mut all = there.cloned().unwrap_or_default();
                for token in more {
                    if !all.contains(&token) {
                        all.push(token);
                    }
                }
                Value::Array(all)
            }
            ("extra_special_tokens", other) => other,
            (_, Value::Object(mut token)) => {
                token.insert("special".into(), true.into());
                Value::Object(token)
            }
            (_, other) => other,
        };
        settings.insert(key, value);
    }
}

/// Without `added_tokens_decoder`: the files of older versions, the first of which overrides the
/// config.
fn older_tokens(
    folder: &Path,
    settings: &mut Map<String, Value>,
    known: &BTreeMap<u32, AddedToken>,
) -> Result<BTreeMap<u64, AddedToken>, ModelError> {
    let map = read_object(folder, "special_tokens_map.json")?;
    override_settings(settings, map.unwrap_or_default());
    if !settings.contains_key("extra_special_tokens") {
        take_additional(settings);
    }
    let mut special: HashSet<String> = NAMES
        .iter()
        .filter_map(|name| Some(added_token(settings.get(*name)?, None)?.content))
        .collect();
    special.extend(extra(settings)?.into_iter().map(|token| token.content));
    let mut by_id = BTreeMap::new();
    for (text, id) in read_object(folder, "added_tokens.json")?.unwrap_or_default() {
        let Some(id) = id.as_u64() else {
            let reason = format!("`{text}` has the id {id}, expected a whole number");
            return Err(malformed("added_tokens.json", reason));
        };
        by_id.insert(id, AddedToken::from(text.as_str(), special.contains(&text)));
    }
    by_id.extend(
        known
            .iter()
            .map(|(id, token)| (u64::from(*id), token.clone())),
    );
    Ok(by_id)
}

/// The tokens with a name: the standard ones, then those specific to this model.
fn named(settings: &Map<String, Value>) -> Result<Vec<(String, AddedToken)>, ModelError> {
    let mut named = Vec::new();
    for name in NAMES {
        let Some(value) = settings.get(name).filter(|value| !value.is_null()) else {
            continue;
        };
        let token = added_token(value, Some(true));
        let wrong = || {
            malformed(
                "tokenizer_config.json",
                format!("`{name}` is {value}, expected a text or a token"),
            )
        };
        named.push((name.to_string(), token.ok_or_else(wrong)?));
    }
    named.extend(model_specific(settings));
    Ok(named)
}

/// The named tokens that are not standard; of two with the same name the last counts.
fn model_specific(settings: &Map<String, Value>) -> Vec<(String, AddedToken)> {
    let own = settings.iter().filter(|(key, value)| {
        key.ends_with("_token")
            && !NAMES.contains(&key.as_str())
            && (value.is_string() || value.get("content").is_some())
    });
    let extra = settings
        .get("extra_special_tokens")
        .and_then(Value::as_object);
    let mut specific: Vec<(String, AddedToken)> = Vec::new();
    for (name, value) in own.chain(extra.into_iter().flatten()) {
        if let Some(token) = added_token(value, Some(true)) {
            specific.retain(|(known, _)| known != name);
            specific.push((name.clone(), token));
        }
    }
    specific
}

/// A search tree is built of the added tokens, so their number and length are limited.
fn check_size(added: &[AddedToken]) -> Result<(), ModelError> {
    let count = added.len();
    let bytes: usize = added.iter().map(|token| token.content.len()).sum();
    if count <= MOST_TOKENS && bytes <= LONGEST_TOKENS {
        return Ok(());
    }
    let reason = format!(
        "it adds {count} tokens of {bytes} bytes, expected at most {MOST_TOKENS} of {LONGEST_TOKENS}"
    );
    Err(malformed("tokenizer_config.json", reason))
}

/// The tokens without a name.
fn extra(settings: &Map<String, Value>) -> Result<Vec<AddedToken>, ModelError> {
    match settings.get("extra_special_tokens") {
        None | Some(Value::Null | Value::Object(_)) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list
            .iter()
            .filter_map(|value| added_token(value, Some(true)))
            .collect()),
        Some(other) => Err(malformed(
            "tokenizer_config.json",
            format!("`extra_special_tokens` is {other}, expected a list"),
        )),
    }
}

/// A token from its text alone, which is then special, or from an object with its flags; `special`
/// overrides them.
fn added_token(value: &Value, special: Option<bool>) -> Option<AddedToken> {
    if let Some(text) = value.as_str() {
        return Some(AddedToken::from(text, true));
    }
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let is_special = flag("special").unwrap_or(false);
    Some(AddedToken {
        content: value.get("content")?.as_str()?.into(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!is_special),
        special: special.unwrap_or(is_special),
    })
}

/// Tokens with an id, sorted by id, then named and other ones that the vocabulary does not yet have
/// as added tokens.
fn to_add(
    by_id: &BTreeMap<u64, AddedToken>,
    named: &[(String, AddedToken)],
    extra: &[AddedToken],
    known: &BTreeMap<u32, AddedToken>,
) -> Vec<AddedToken> {
    let is_named = |token: &AddedToken| {
        named
            .iter()
            .any(|(_, other)| other.content == token.content)
    };
    let with_id = by_id.values().cloned().map(|token| AddedToken {
        special: token.special || is_named(&token),
        ..token
    });
    let mut added: Vec<AddedToken> = with_id.collect();
    let mut there: HashSet<String> = known
        .values()
        .chain(&added)
        .map(|token| token.content.clone())
        .collect();
    for token in named.iter().map(|(_, token)| token).chain(extra) {
        if there.insert(token.content.clone()) {
            added.push(token.clone());
        }
    }
    added
}
