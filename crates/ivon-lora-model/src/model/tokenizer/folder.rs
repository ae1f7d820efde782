//! The tokenizer of a Hugging Face folder: `tokenizer.json`, with the special tokens and the chat
//! template of the files beside it.

use std::path::Path;

use super::charsmap;
use super::chat_templates::ChatTemplates;
use super::special_tokens::{SpecialTokens, read_config};
use crate::data::Tokenizer;
use crate::files;
use crate::guard::guard_result;
use crate::model::error::ModelError;

/// The maximum size of a tokenizer.json; the largest published ones have about 35 MB.
const LONGEST_TOKENIZER: u64 = 128 << 20;
/// The maximum token id; the largest published vocabularies have about 260,000 tokens.
const LARGEST_ID: u32 = 1 << 24;

/// Reads the tokenizer of a folder; `name` is the model's, for errors.
///
/// `add_bos_token` and `add_eos_token` of `tokenizer_config.json` are ignored, as in transformers
/// 5: the post-processor of `tokenizer.json` has the same information.
///
/// # Errors
/// [`ModelError::Tokenizer`] if `tokenizer.json` is missing or malformed, [`ModelError::Malformed`]
/// for the others.
pub(in crate::model) fn read(folder: &Path, name: &str) -> Result<Tokenizer, ModelError> {
    let wrong = |reason: String| ModelError::Tokenizer {
        file: name.into(),
        reason,
    };
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Err(wrong(
            "there is no `tokenizer.json` beside the weights".into(),
        ));
    }
    let bytes = files::read_bytes(&path, LONGEST_TOKENIZER)?;
    // The crate panics on some malformed files (with a merge longer than every token).
    let parse = || guard_result("tokenizers", || tokenizers::Tokenizer::from_bytes(&bytes));
    let parsed = charsmap::check(&bytes).and_then(|()| parse());
    let mut inner =
        parsed.map_err(|reason| wrong(format!("`tokenizer.json` is malformed, {reason}")))?;
    // Left by a training script; transformers resets both on every call as well.
    inner
        .with_truncation(None)
        .map_err(|error| wrong(error.to_string()))?;
    inner.with_padding(None);
    let config = read_config(folder)?;
    let known = inner.get_added_tokens_decoder().into_iter().collect();
    let special = SpecialTokens::read(folder, &config, &known)?;
    let added = guard_result("tokenizers", || inner.add_tokens(special.added));
    added.map_err(|reason| wrong(format!("its added tokens cannot be used, {reason}")))?;
    check_ids(&inner).map_err(wrong)?;
    let mut tokenizer = Tokenizer::new(inner).with_special_tokens(special.named);
    let templates = ChatTemplates::read(folder, &config)?;
    tokenizer.chat_template = templates.default;
    tokenizer.other_templates = templates.others;
    Ok(tokenizer)
}

/// Token ids may be at most [`LARGEST_ID`].
fn check_ids(tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    let mut vocabulary = tokenizer.get_vocab(true).into_iter();
    match vocabulary.find(|(_, id)| *id > LARGEST_ID) {
        Some((token, id)) => {
            let token: String = token.chars().take(60).collect();
            Err(format!(
                "its token `{token}` has the id {id}, expected at most {LARGEST_ID}"
            ))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::data::ChatTemplate;

    /// A vocabulary of words, and a post-processor that adds `<s>` if `bos`.
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

    #[test]
    fn tokenizer_json_is_taken_as_it_is_but_for_its_truncation() {
        for bos in [false, true] {
            let tokenizer = folder(&[("tokenizer.json", tokenizer(bos).to_string())]).unwrap();
            assert_eq!(tokenizer.encode("a b a", false).unwrap(), [3, 4, 3]);
            assert_eq!(
                tokenizer.encode("a b a", true).unwrap(),
                if bos { vec![1, 3, 4, 3] } else { vec![3, 4, 3] }
            );
            assert_eq!((tokenizer.chat_template, tokenizer.bos_token), (None, None));
        }
    }

    /// A tokenizer from testdata/tokens.
    fn of_case(case: &Value) -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
        std::fs::write(
            folder.path().join("tokenizer.json"),
            case["tokenizer"].as_str().unwrap(),
        )
        .unwrap();
        for (name, text) in case["files"].as_object().unwrap() {
            std::fs::write(folder.path().join(name), text.as_str().unwrap()).unwrap();
        }
        read(folder.path(), "org/model").unwrap()
    }

    /// A `tokenizer.json` of testdata/tokens/gguf.json with its vocabulary.
    fn filled(shape: &Value, vocabulary: &Value) -> Tokenizer {
        let tokens = vocabulary["tokens"].as_array().unwrap().iter();
        let ids = tokens
            .zip(0..)
            .map(|(token, id)| (token.as_str().unwrap().to_string(), json!(id)));
        let mut shape = shape.clone();
        shape["model"]["vocab"] = Value::Object(ids.collect());
        shape["model"]["merges"] = vocabulary["merges"].clone();
        folder(&[("tokenizer.json", shape.to_string())]).unwrap()
    }

    #[test]
    fn a_tokenizer_json_in_the_shape_of_each_family_splits_as_in_python() {
        let path = crate::testing::workspace().join("testdata/tokens/gguf.json");
        let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let vocabulary = &table["byte_level"];
        let shapes = vocabulary["shapes"].as_object().unwrap();
        assert!(shapes.len() >= 13);
        for (name, shape) in shapes {
            let tokenizer = filled(shape, vocabulary);
            let texts = vocabulary["texts"].as_array().unwrap().iter();
            for (text, ids) in texts.zip(vocabulary["ids"][name].as_array().unwrap()) {
                let found = tokenizer.encode(text.as_str().unwrap(), false).unwrap();
                assert_eq!(json!(found), *ids, "{name}: {text}");
            }
        }
        let (gemma, unigram) = (&table["sentencepiece"][1], &table["unigram"]);
        let file = unigram["tokenizer"].to_string();
        for (tokenizer, cases) in [
            (filled(&gemma["shape"], gemma), &gemma["cases"]),
            (
                folder(&[("tokenizer.json", file)]).unwrap(),
                &unigram["cases"],
            ),
        ] {
            for case in cases.as_array().unwrap() {
                let text = case["text"].as_str().unwrap();
                assert_eq!(
                    json!(tokenizer.encode(text, false).unwrap()),
                    case["ids"],
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn special_tokens_and_chat_templates_are_those_of_transformers() {
        let path = crate::testing::golden().join("../tokens/folders.json");
        let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (text, prompt) = (
            table["text"].as_str().unwrap(),
            table["prompt"].as_str().unwrap(),
        );
        let cases = table["cases"].as_array().unwrap();
        assert!(cases.len() > 40);
        for case in cases {
            let (name, ours) = (&case["name"], of_case(case));
            assert_eq!(
                json!(ours.encode(text, false).unwrap()),
                case["ids"],
                "{name}"
            );
            assert_eq!(
                json!(ours.encode(text, true).unwrap()),
                case["framed"],
                "{name}"
            );
            let ends = [
                ("bos_token", &ours.bos_token),
                ("eos_token", &ours.eos_token),
            ];
            let ends = ends
                .into_iter()
                .filter_map(|(name, text)| Some((name.to_string(), json!(text.as_ref()?))));
            let others = ours
                .named_tokens
                .iter()
                .map(|(name, text)| (name.clone(), json!(text)));
            assert_eq!(
                Value::Object(ends.chain(others).collect()),
                case["special_tokens"],
                "{name}"
            );
            // As the only message of a user, with a generation prompt.
            match (ChatTemplate::of(&ours), case["chat"].as_str()) {
                (Ok(template), Some(theirs)) => {
                    let rendered = template.render(prompt).unwrap();
                    assert_eq!(rendered, theirs, "{name}");
                    assert_eq!(
                        json!(ours.encode(&rendered, false).unwrap()),
                        case["chat_ids"],
                        "{name}"
                    );
                }
                (Err(error), None) => {
                    let several = case["chat_error"].as_str().unwrap().contains("multiple");
                    assert_eq!(
                        error.to_string().contains("several chat templates"),
                        several,
                        "{name}: {error}"
                    );
                }
                (ours, theirs) => panic!("{name}: {ours:?}, {theirs:?}"),
            }
        }
    }

    #[test]
    fn ids_that_nothing_could_hold_and_tokens_that_are_none_are_refused() {
        let with = |file: &str, text: Value| {
            let files = [
                ("tokenizer.json", tokenizer(false).to_string()),
                (file, text.to_string()),
            ];
            folder(&files).unwrap_err().to_string()
        };
        for (value, expected) in [
            (
                json!({"added_tokens_decoder": []}),
                "`added_tokens_decoder` is no object",
            ),
            (
                json!({"added_tokens_decoder": {"x": {"content": "a"}}}),
                "has the id `x`, expected a whole number",
            ),
            (
                json!({"added_tokens_decoder": {"7": "a"}}),
                "has no token of id 7",
            ),
            (
                json!({"bos_token": 7}),
                "`bos_token` is 7, expected a text or a token",
            ),
            (
                json!({"extra_special_tokens": 7}),
                "`extra_special_tokens` is 7, expected a list",
            ),
            (
                json!({"pad_token": "x".repeat(5 << 20)}),
                "expected at most 200000 of 4194304",
            ),
            (json!([]), "invalid type"),
        ] {
            let message = with("tokenizer_config.json", value);
            assert!(
                message.starts_with("`tokenizer_config.json` is malformed: ")
                    && message.contains(expected),
                "{message}"
            );
        }
        assert!(
            with("added_tokens.json", json!({"a": -1}))
                .contains("`a` has the id -1, expected a whole number")
        );
        let mut large = tokenizer(false);
        large["model"]["vocab"]["b"] = json!(4_000_000_000_u32);
        let message = folder(&[("tokenizer.json", large.to_string())])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("its token `b` has the id 4000000000, expected at most 16777216"),
            "{message}"
        );
    }

    #[test]
    fn absent_and_malformed_files_are_errors_with_hints() {
        let error = folder(&[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the tokenizer of `org/model` cannot be used: there is no `tokenizer.json` beside the weights"
        );
        assert!(error.hint().unwrap().contains("AutoTokenizer"));
        assert!(
            folder(&[("tokenizer.json", "{".into())])
                .unwrap_err()
                .to_string()
                .contains("`tokenizer.json` is malformed")
        );
        let files = [
            ("tokenizer.json", tokenizer(false).to_string()),
            ("tokenizer_config.json", "{".into()),
        ];
        assert!(matches!(
            folder(&files).unwrap_err(),
            ModelError::Malformed { .. }
        ));
    }

    #[test]
    fn a_file_on_which_the_crate_panics_is_malformed() {
        let mut tokenizer = tokenizer(false);
        tokenizer["model"] =
            json!({"type": "BPE", "vocab": {"aaa": 0, "bbb": 1}, "merges": ["aaa bbb"]});
        tokenizer["added_tokens"] = json!([]);
        let message = folder(&[("tokenizer.json", tokenizer.to_string())])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`tokenizer.json` is malformed"),
            "{message}"
        );
    }
}
