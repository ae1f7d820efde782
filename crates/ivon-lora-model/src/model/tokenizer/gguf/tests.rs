//! GGUF vocabularies of each kind against the Python packages, and ones that contradict
//! themselves.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;
use crate::data::{DataConfig, Source, Task, encode_all};
use crate::model::gguf::{GgufWriter, Metadata};
use crate::testing;

fn texts(values: &[&str]) -> Metadata {
    Metadata::Texts(values.iter().map(|text| text.to_string()).collect())
}

/// The tokenizer of a file with these entries under `tokenizer.`.
fn tokenizer(entries: &[(&str, Metadata)]) -> Result<Tokenizer, String> {
    tokenizer_of("llama", entries)
}

fn tokenizer_of(architecture: &str, entries: &[(&str, Metadata)]) -> Result<Tokenizer, String> {
    read_bytes(&file_of(architecture, entries))
}

fn file_of(architecture: &str, entries: &[(&str, Metadata)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut writer = GgufWriter::new(architecture);
    for (key, value) in entries {
        writer.set(&format!("tokenizer.{key}"), value.clone());
    }
    writer.write(&path, |_, _| Ok(())).unwrap();
    std::fs::read(path).unwrap()
}

fn read_bytes(content: &[u8]) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, content).unwrap();
    let file = GgufFile::open(&path).map_err(|error| error.to_string())?;
    read(&file).map_err(|error| error.to_string())
}

fn agrees(tokenizer: &Tokenizer, cases: &Value) {
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = case["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{text:?}");
    }
}

fn sentencepiece() -> (Value, Vec<(&'static str, Metadata)>) {
    let golden = testing::golden_json("sentencepiece.json");
    let list = |key: &str| golden[key].as_array().unwrap().clone();
    let entries = vec![
        ("ggml.model", Metadata::Text("llama".into())),
        (
            "ggml.tokens",
            Metadata::Texts(
                list("tokens")
                    .iter()
                    .map(|token| token.as_str().unwrap().to_string())
                    .collect(),
            ),
        ),
        (
            "ggml.scores",
            Metadata::F32s(
                list("scores")
                    .iter()
                    .map(|score| score.as_f64().unwrap() as f32)
                    .collect(),
            ),
        ),
        (
            "ggml.token_type",
            Metadata::I32s(
                list("token_type")
                    .iter()
                    .map(|kind| kind.as_i64().unwrap() as i32)
                    .collect(),
            ),
        ),
        ("ggml.bos_token_id", Metadata::U32(1)),
        ("ggml.eos_token_id", Metadata::U32(2)),
    ];
    (golden["cases"].clone(), entries)
}

/// testdata/tokens/gguf.json.
fn python() -> Value {
    let path = testing::workspace().join("testdata/tokens/gguf.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn strings(value: &Value) -> Metadata {
    let all = value.as_array().unwrap().iter();
    Metadata::Texts(all.map(|text| text.as_str().unwrap().into()).collect())
}

#[test]
fn every_named_pre_tokenizer_splits_as_its_checkpoints_tokenizer_does() {
    let table = &python()["byte_level"];
    let texts = table["texts"].as_array().unwrap();
    let all = table["ids"].as_object().unwrap();
    assert!(all.len() >= 13 && texts.len() >= 30);
    for (name, ids) in all {
        let entries = [
            ("ggml.model", Metadata::Text("gpt2".into())),
            ("ggml.pre", Metadata::Text(name.clone())),
            ("ggml.tokens", strings(&table["tokens"])),
            ("ggml.merges", strings(&table["merges"])),
        ];
        let tokenizer = tokenizer(&entries).unwrap();
        for (text, ids) in texts.iter().zip(ids.as_array().unwrap()) {
            let text = text.as_str().unwrap();
            let found = tokenizer.encode(text, false).unwrap();
            let expected = ids.as_array().unwrap().iter();
            let expected: Vec<u64> = expected.map(|id| id.as_u64().unwrap()).collect();
            assert!(
                found.iter().map(|id| u64::from(*id)).eq(expected),
                "{name}: {text:?}"
            );
            // NFC makes another text of a letter and its accent.
            if !name.contains("qwen") {
                assert_eq!(tokenizer.decode(&found).unwrap(), text, "{name}");
            }
        }
    }
}

/// The entries of a vocabulary in testdata/tokens/gguf.json.
fn entries_of(case: &Value) -> Vec<(&'static str, Metadata)> {
    let numbers = |key: &str| case[key].as_array().unwrap().clone().into_iter();
    let scores = numbers("scores").map(|score| score.as_f64().unwrap() as f32);
    let kinds = numbers("types").map(|kind| kind.as_i64().unwrap() as i32);
    let mut entries = vec![
        (
            "ggml.model",
            Metadata::Text(case["model"].as_str().unwrap().into()),
        ),
        ("ggml.tokens", strings(&case["tokens"])),
        ("ggml.scores", Metadata::F32s(scores.collect())),
        ("ggml.token_type", Metadata::I32s(kinds.collect())),
    ];
    if let Some(prefix) = case["add_space_prefix"].as_bool() {
        entries.push(("ggml.add_space_prefix", Metadata::Bool(prefix)));
    }
    if case["merges"].is_array() {
        entries.push(("ggml.merges", strings(&case["merges"])));
    }
    entries
}

#[test]
fn sentencepiece_of_gemma_and_phi_agrees_with_transformers() {
    let python = python();
    let cases = python["sentencepiece"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let architecture = case["architecture"].as_str().unwrap();
        let tokenizer = tokenizer_of(architecture, &entries_of(case)).unwrap();
        agrees(&tokenizer, &case["cases"]);
    }
}

/// A file of each kind: `gpt2`, `llama`, `gemma4`.
fn files() -> Vec<Vec<u8>> {
    let python = python();
    let small = bytes_and("tekken", &["ab", "<|x|>"], &["a b"]);
    let cases = python["sentencepiece"].as_array().unwrap().iter();
    let mut files = vec![file_of("llama", &small)];
    files.extend(cases.map(|case| {
        let architecture = case["architecture"].as_str().unwrap();
        file_of(architecture, &entries_of(case))
    }));
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// For any bytes: either an error, or a tokenizer that encodes and decodes or says why not.
    #[test]
    fn no_change_of_bytes_makes_a_tokenizer_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kind in 0usize..4,
    ) {
        static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(files);
        let mut content = FILES[kind].clone();
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        if let Ok(tokenizer) = read_bytes(&content) {
            let tokens = tokenizer.encode("<|x|> The fox's  12\n\n\u{301}東🙂", true);
            let _ = tokens.map(|tokens| tokenizer.decode(&tokens));
        }
    }
}

#[test]
fn gemma_4_begins_with_bos_even_where_the_file_denies_it() {
    let python = python();
    let case = &python["sentencepiece"][1];
    assert_eq!(case["name"], "gemma4");
    let mut entries = entries_of(case);
    entries.push(("ggml.bos_token_id", Metadata::U32(1)));
    entries.push(("ggml.add_bos_token", Metadata::Bool(false)));
    let tokenizer = tokenizer_of("gemma4", &entries).unwrap();
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
}

#[test]
fn sentencepiece_agrees_with_its_library() {
    let (cases, entries) = sentencepiece();
    agrees(&tokenizer(&entries).unwrap(), &cases);
}

#[test]
fn sentencepiece_frames_with_bos_unless_the_file_says_otherwise() {
    let (_, mut entries) = sentencepiece();
    let framed =
        |entries: &[(&str, Metadata)]| tokenizer(entries).unwrap().encode("x", true).unwrap();
    let plain = tokenizer(&entries).unwrap().encode("x", false).unwrap();
    assert_eq!(framed(&entries), [&[1], &plain[..]].concat());
    entries.push(("ggml.add_eos_token", Metadata::Bool(true)));
    assert_eq!(framed(&entries), [&[1], &plain[..], &[2]].concat());
    entries.push(("ggml.add_bos_token", Metadata::Bool(false)));
    assert_eq!(framed(&entries), [&plain[..], &[2]].concat());
}

#[test]
fn sentencepiece_decodes_what_it_encodes() {
    let (_, mut entries) = sentencepiece();
    for prefix in [true, false] {
        entries.push(("ggml.add_space_prefix", Metadata::Bool(prefix)));
        let tokenizer = tokenizer(&entries).unwrap();
        for text in ["The red fox", " Zürich 🙂", "a\nb"] {
            assert_eq!(
                tokenizer
                    .decode(&tokenizer.encode(text, false).unwrap())
                    .unwrap(),
                text
            );
        }
    }
}

#[test]
fn control_tokens_are_cut_out_of_the_text() {
    let (_, entries) = sentencepiece();
    let tokenizer = tokenizer(&entries).unwrap();
    assert_eq!(
        (
            tokenizer.bos_token.as_deref(),
            tokenizer.eos_token.as_deref()
        ),
        (Some("<s>"), Some("</s>"))
    );
    assert_eq!(tokenizer.encode("</s>", false).unwrap(), [2]);
}

#[test]
fn the_real_models_tokenizer_agrees_with_transformers() {
    let Some(path) = testing::real_model("tokenizer") else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let tokenizer = read(&file).unwrap();
    agrees(
        &tokenizer,
        &testing::golden_json("smollm2_tokens.json")["cases"],
    );
    assert_eq!(
        tokenizer.encode("a", true).unwrap(),
        tokenizer.encode("a", false).unwrap()
    );
    assert_eq!(tokenizer.vocabulary_size(), 49_152);
    assert_eq!(
        (
            tokenizer.bos_token.as_deref(),
            tokenizer.eos_token.as_deref()
        ),
        (Some("<|im_start|>"), Some("<|im_end|>"))
    );
    assert!(
        tokenizer
            .chat_template
            .as_ref()
            .unwrap()
            .contains("<|im_start|>assistant")
    );
    let text = "Größe, 東京 🙂  x\n";
    assert_eq!(
        tokenizer
            .decode(&tokenizer.encode(text, false).unwrap())
            .unwrap(),
        text
    );
}

#[test]
fn the_real_model_s_conversations_are_those_of_transformers_and_their_answers_are_trained_on() {
    let Some(path) = testing::real_model("conversations") else {
        return;
    };
    let tokenizer = read(&GgufFile::open(&path).unwrap()).unwrap();
    let task = Task::named("chat").unwrap();
    let options = DataConfig::default().encode_options(&task);
    for case in testing::golden_json("smollm2_text.json")["cases"]
        .as_array()
        .unwrap()
    {
        let fields = serde_json::json!({"messages": case["messages"]});
        let rows = vec![fields.as_object().unwrap().clone()];
        let source = Source::of_rows("train", rows, &task.reader().unwrap()).unwrap();
        let set = encode_all(&source.examples, &tokenizer, options).unwrap();
        let encoded = &set.examples[0];
        assert_eq!(Value::from(encoded.tokens.clone()), case["ids"]);
        let target = encoded.text().unwrap();
        // What follows the prompt of the last answer, and of the answers before it the words that
        // the messages have, each with the end of its turn.
        let prompt = case["prompt_ids"].as_array().unwrap().len();
        assert!(target.weights[prompt..].iter().all(|weight| *weight == 1.0));
        let trained = encoded.tokens.iter().zip(&target.weights);
        let trained: Vec<u32> = trained
            .filter(|(_, weight)| **weight > 0.0)
            .map(|(token, _)| *token)
            .collect();
        let answers = case["messages"].as_array().unwrap().iter();
        let answers: Vec<&str> = answers
            .filter(|message| message["role"] == "assistant")
            .map(|message| message["content"].as_str().unwrap())
            .collect();
        let ended = |answer: &&str| format!("{answer}<|im_end|>\n");
        assert_eq!(
            tokenizer.decode(&trained).unwrap(),
            answers.iter().map(ended).collect::<String>()
        );
        let bytes: usize = answers.iter().map(|answer| answer.len() + 1).sum();
        assert_eq!(target.bytes, bytes);
    }
}

/// The letter of every byte, the space with `a`, two-digit numbers, and one special token.
fn bytes_and(pre: &str, more: &[&str], merges: &[&str]) -> Vec<(&'static str, Metadata)> {
    let mut alphabet: Vec<String> = ByteLevel::alphabet()
        .into_iter()
        .map(String::from)
        .collect();
    alphabet.sort();
    let tokens: Vec<&str> = alphabet
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    vec![
        ("ggml.model", Metadata::Text("gpt2".into())),
        ("ggml.pre", Metadata::Text(pre.into())),
        ("ggml.tokens", texts(&tokens)),
        ("ggml.merges", texts(merges)),
    ]
}

#[test]
fn each_pre_tokenizer_splits_digits_and_contractions_its_own_way() {
    // With merges for whole runs, the number of tokens shows where the text was split.
    let (more, merges) = (
        ["12", "34", "1234", "'R", "'RE"],
        ["1 2", "3 4", "12 34", "' R", "'R E"],
    );
    let count = |pre: &str, text: &str| {
        tokenizer(&bytes_and(pre, &more, &merges))
            .unwrap()
            .encode(text, false)
            .unwrap()
            .len()
    };
    // gpt-2 keeps numbers whole, Llama 3 splits after three digits, SmolLM and Qwen after each.
    assert_eq!(
        ["gpt-2", "llama-bpe", "smollm", "qwen2"].map(|pre| count(pre, "1234")),
        [1, 3, 4, 4]
    );
    // Only Llama 3 and Qwen split off capitalised contractions as one piece; the merge applies
    // within pieces.
    assert_eq!(
        ["gpt-2", "llama-bpe", "smollm", "qwen2"].map(|pre| count(pre, "A'RE")),
        [4, 2, 4, 2]
    );
}

#[test]
fn llama_3_takes_a_whole_word_that_is_a_token_whatever_its_merges() {
    let more = ["ab", "bc", "abc"];
    let ids = |pre: &str| {
        tokenizer(&bytes_and(pre, &more, &["a b"]))
            .unwrap()
            .encode("abc", false)
            .unwrap()
    };
    assert_eq!((ids("llama-bpe").len(), ids("gpt-2").len()), (1, 2));
}

#[test]
fn llama_3_begins_with_bos_where_the_file_does_not_say() {
    let mut entries = bytes_and("llama-bpe", &["<|begin:of text|>"], &[]);
    entries.push(("ggml.bos_token_id", Metadata::U32(256)));
    assert_eq!(
        tokenizer(&entries).unwrap().encode("", true).unwrap(),
        [256]
    );
    entries[1].1 = Metadata::Text("gpt-2".into());
    assert!(
        tokenizer(&entries)
            .unwrap()
            .encode("", true)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn qwen_composes_accents_first() {
    let tokenizer = tokenizer(&bytes_and("qwen2", &[], &[])).unwrap();
    assert_eq!(
        tokenizer.encode("e\u{301}", false).unwrap(),
        tokenizer.encode("é", false).unwrap()
    );
}

#[test]
fn tokenizers_that_contradict_themselves_are_refused_by_what_is_wrong() {
    let with =
        |changes: Vec<(&'static str, Metadata)>| [bytes_and("gpt-2", &[], &[]), changes].concat();
    let (_, spm) = sentencepiece();
    for (entries, expected) in [
        (
            vec![],
            "the file has none (`tokenizer.ggml.model` is missing)",
        ),
        (
            with(vec![("ggml.model", Metadata::Text("bert".into()))]),
            "its kind is `bert`, expected `gpt2`, `llama` or `gemma4`",
        ),
        (
            with(vec![("ggml.pre", Metadata::Text("bloom".into()))]),
            "its pre-tokenizer is `bloom`, supported are gpt-2, smollm, refact",
        ),
        (
            with(vec![("ggml.token_type", Metadata::I32s(vec![1]))]),
            "it has 256 tokens and 1 token types, expected as many",
        ),
        (
            with(vec![("ggml.merges", texts(&["a"]))]),
            "its merge `a` is not two tokens that make a third",
        ),
        (
            with(vec![("ggml.merges", texts(&["a b"]))]),
            "its merge `a b` is not two tokens that make a third",
        ),
        (
            with(vec![("ggml.bos_token_id", Metadata::U32(256))]),
            "`bos_token_id` is 256, expected below the 256 tokens",
        ),
        (
            spm.iter()
                .filter(|(key, _)| *key != "ggml.scores")
                .cloned()
                .collect(),
            "`tokenizer.ggml.scores` is missing",
        ),
        (
            [spm, vec![("ggml.scores", Metadata::F32s(vec![0.0]))]].concat(),
            "it has 400 tokens and 1 scores",
        ),
        (with(vec![("ggml.tokens", texts(&[]))]), "it has 0 tokens"),
    ] {
        let message = tokenizer(&entries).expect_err(expected);
        assert!(
            message.starts_with("the tokenizer of `a.gguf` cannot be used: ")
                && message.contains(expected),
            "{message}"
        );
    }
}
