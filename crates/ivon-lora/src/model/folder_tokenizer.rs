//! The tokenizer of a Hugging Face folder: `tokenizer.json` as it is, and from `tokenizer_config.json` and
//! `chat_template.jinja` what surrounds it.

use std::path::Path;

use serde_json::Value;

use super::ModelError;
use super::framing::frame;
use crate::data::Tokenizer;
use crate::files;
use crate::guard::guard_result;

/// The largest published tokenizer.json files have some 35 MB.
const LONGEST_TOKENIZER: u64 = 512 << 20;
const LONGEST_CONFIG: u64 = 64 << 20;

/// Reads the tokenizer of a folder; `name` is the model's, for errors.
///
/// # Errors
/// [`ModelError::Tokenizer`] if `tokenizer.json` is missing or malformed, [`ModelError::Malformed`] for the others.
pub(super) fn read(folder: &Path, name: &str) -> Result<Tokenizer, ModelError> {
    let wrong = |reason: String| ModelError::Tokenizer { file: name.into(), reason };
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Err(wrong("there is no `tokenizer.json` beside the weights".into()));
    }
    let bytes = files::read_bytes(&path, LONGEST_TOKENIZER)?;
    // The crate panics on some malformed files (a merge longer than every token), which a user's file must not reach.
    let parsed = guard_result("tokenizers", || tokenizers::Tokenizer::from_bytes(&bytes));
    let mut inner = parsed.map_err(|reason| wrong(format!("`tokenizer.json` is malformed, {reason}")))?;
    // What a training script left there; transformers resets both on every call as well.
    inner.with_truncation(None).map_err(|error| wrong(error.to_string()))?;
    inner.with_padding(None);
    let config = Config::read(folder)?;
    let (bos_token, eos_token) = (config.token("bos_token"), config.token("eos_token"));
    heed_flags(&mut inner, &config, bos_token.as_deref(), eos_token.as_deref()).map_err(wrong)?;
    let mut tokenizer = Tokenizer::new(inner);
    tokenizer.chat_template = config.chat_template(folder)?;
    tokenizer.bos_token = bos_token;
    tokenizer.eos_token = eos_token;
    Ok(tokenizer)
}

/// Replaces the post-processor where `add_bos_token` or `add_eos_token` are given and it does otherwise.
fn heed_flags(inner: &mut tokenizers::Tokenizer, config: &Config, bos: Option<&str>, eos: Option<&str>) -> Result<(), String> {
    let id = |token: Option<&str>| token.and_then(|token| Some((inner.token_to_id(token)?, token.to_string())));
    let (bos, eos) = (id(bos), id(eos));
    let framed = guard_result("tokenizers", || inner.encode_fast("a", true))?;
    let has_bos = bos.as_ref().is_some_and(|(id, _)| framed.get_ids().first() == Some(id));
    let has_eos = eos.as_ref().is_some_and(|(id, _)| framed.get_ids().last() == Some(id));
    let wants = |flag: &str, has: bool, token: &Option<(u32, String)>| config.flag(flag).map_or(has, |wanted| wanted && token.is_some());
    let (wants_bos, wants_eos) = (wants("add_bos_token", has_bos, &bos), wants("add_eos_token", has_eos, &eos));
    if (wants_bos, wants_eos) == (has_bos, has_eos) {
        return Ok(());
    }
    let (bos, eos) = (bos.filter(|_| wants_bos), eos.filter(|_| wants_eos));
    frame(inner, bos.as_ref().map(|(id, text)| (*id, text.as_str())), eos.as_ref().map(|(id, text)| (*id, text.as_str())))
}

/// `tokenizer_config.json`; an empty object where there is none.
struct Config(Value);

impl Config {
    fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer_config.json");
        if !path.exists() {
            return Ok(Self(Value::Null));
        }
        let text = files::read_text(&path, LONGEST_CONFIG)?;
        let malformed =
            |error: serde_json::Error| ModelError::Malformed { file: "tokenizer_config.json".into(), reason: error.to_string() };
        serde_json::from_str(&text).map(Self).map_err(malformed)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }

    /// A token's text, which stands alone or in an object's `content`.
    fn token(&self, key: &str) -> Option<String> {
        let value = self.0.get(key)?;
        value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
    }

    /// `chat_template.jinja`, else `chat_template`: a text, or a list of named ones of which `default` is taken.
    fn chat_template(&self, folder: &Path) -> Result<Option<String>, ModelError> {
        let path = folder.join("chat_template.jinja");
        if path.exists() {
            return Ok(Some(files::read_text(&path, LONGEST_CONFIG)?));
        }
        let Some(value) = self.0.get("chat_template") else { return Ok(None) };
        let named = |template: &&Value| template.get("name").and_then(Value::as_str) == Some("default");
        let chosen = match value.as_array() {
            Some(list) => list.iter().find(named).or(list.first()).and_then(|template| template.get("template")),
            None => Some(value),
        };
        Ok(chosen.and_then(Value::as_str).map(str::to_string))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A vocabulary of words, and a post-processor that puts `<s>` in front if asked for.
    fn tokenizer(bos: bool) -> Value {
        let template = json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
        json!({"version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": null, "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
            "post_processor": if bos { template } else { Value::Null },
            "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
            "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4}, "unk_token": "<unk>"}})
    }

    fn folder(files: &[(&str, String)]) -> Result<Tokenizer, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        read(folder.path(), "org/model")
    }

    fn with(bos: bool, config: Value) -> Tokenizer {
        folder(&[("tokenizer.json", tokenizer(bos).to_string()), ("tokenizer_config.json", config.to_string())]).unwrap()
    }

    #[test]
    fn tokenizer_json_is_taken_as_it_is_but_for_its_truncation() {
        for bos in [false, true] {
            let tokenizer = folder(&[("tokenizer.json", tokenizer(bos).to_string())]).unwrap();
            assert_eq!(tokenizer.encode("a b a", false).unwrap(), [3, 4, 3]);
            assert_eq!(tokenizer.encode("a b a", true).unwrap(), if bos { vec![1, 3, 4, 3] } else { vec![3, 4, 3] });
            assert_eq!((tokenizer.chat_template, tokenizer.bos_token), (None, None));
        }
    }

    #[test]
    fn flags_decide_about_bos_and_eos_where_they_are_given() {
        let tokens = json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "special": true}});
        let ids = |bos: bool, flags: Value| {
            let mut config = tokens.clone();
            config.as_object_mut().unwrap().extend(flags.as_object().unwrap().clone());
            let tokenizer = with(bos, config);
            assert_eq!((tokenizer.bos_token.as_deref(), tokenizer.eos_token.as_deref()), (Some("<s>"), Some("</s>")));
            tokenizer.encode("a", true).unwrap()
        };
        assert_eq!(ids(true, json!({})), [1, 3]);
        assert_eq!(ids(false, json!({})), [3]);
        assert_eq!(ids(false, json!({"add_bos_token": true})), [1, 3]);
        assert_eq!(ids(true, json!({"add_bos_token": false})), [3]);
        assert_eq!(ids(true, json!({"add_bos_token": true, "add_eos_token": true})), [1, 3, 2]);
        assert_eq!(with(false, json!({"bos_token": null, "add_bos_token": true})).encode("a", true).unwrap(), [3]);
    }

    #[test]
    fn the_chat_template_is_a_text_a_named_one_or_a_file() {
        assert_eq!(with(false, json!({"chat_template": "x"})).chat_template.as_deref(), Some("x"));
        let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(with(false, json!({"chat_template": list})).chat_template.as_deref(), Some("d"));
        let list = json!([{"name": "other", "template": "o"}]);
        assert_eq!(with(false, json!({"chat_template": list})).chat_template.as_deref(), Some("o"));
        let config = json!({"chat_template": "x"}).to_string();
        let files =
            [("tokenizer.json", tokenizer(false).to_string()), ("tokenizer_config.json", config), ("chat_template.jinja", "j".into())];
        assert_eq!(folder(&files).unwrap().chat_template.as_deref(), Some("j"));
    }

    #[test]
    fn absent_and_malformed_files_are_errors_with_hints() {
        let error = folder(&[]).unwrap_err();
        assert_eq!(error.to_string(), "the tokenizer of `org/model` cannot be used: there is no `tokenizer.json` beside the weights");
        assert!(error.hint().unwrap().contains("AutoTokenizer"));
        assert!(folder(&[("tokenizer.json", "{".into())]).unwrap_err().to_string().contains("`tokenizer.json` is malformed"));
        let files = [("tokenizer.json", tokenizer(false).to_string()), ("tokenizer_config.json", "{".into())];
        assert!(matches!(folder(&files).unwrap_err(), ModelError::Malformed { .. }));
    }

    #[test]
    fn a_file_on_which_the_crate_panics_is_malformed() {
        let mut tokenizer = tokenizer(false);
        tokenizer["model"] = json!({"type": "BPE", "vocab": {"aaa": 0, "bbb": 1}, "merges": ["aaa bbb"]});
        tokenizer["added_tokens"] = json!([]);
        let message = folder(&[("tokenizer.json", tokenizer.to_string())]).unwrap_err().to_string();
        assert!(message.contains("`tokenizer.json` is malformed"), "{message}");
    }
}
