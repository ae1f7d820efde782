//! Small tokenizers for tests.

use super::tokenizer::Tokenizer;

/// A byte-level BPE (with GPT-2's pre-tokenizer) of all bytes and the given merges (`"Ġ A"`: a
/// space and A). With `framed`, `<s>` is added before a text and `</s>` after it.
pub(crate) fn byte_level(merges: &[&str], framed: bool) -> Tokenizer {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .collect();
    alphabet.sort_unstable();
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let token = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false})
    };
    let mut vocabulary: Vec<String> = vec!["<s>".into(), "</s>".into()];
    vocabulary.extend(alphabet.into_iter().map(String::from));
    vocabulary.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let frame = serde_json::json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}});
    from_json(&serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [token(0, "<s>"), token(1, "</s>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "post_processor": if framed { frame } else { serde_json::Value::Null },
        "model": bpe(vocabulary, merges.iter().filter_map(|merge| merge.split_once(' ')).collect()),
    }))
}

/// A BPE that does not split texts into words and so merges across spaces. `letters` are its
/// letters; in a merge the first space after the first character separates the two parts.
pub(crate) fn bpe_across_words(letters: &[&str], merges: &[&str]) -> Tokenizer {
    let mut alphabet: Vec<char> = letters.iter().flat_map(|text| text.chars()).collect();
    alphabet.sort_unstable();
    alphabet.dedup();
    let pairs: Vec<(&str, &str)> = merges
        .iter()
        .map(|merge| {
            let at = merge[1..].find(' ').unwrap() + 1;
            (&merge[..at], &merge[at + 1..])
        })
        .collect();
    let mut vocabulary: Vec<String> = alphabet.into_iter().map(String::from).collect();
    vocabulary.extend(
        pairs
            .iter()
            .map(|(first, second)| format!("{first}{second}")),
    );
    from_json(&serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "added_tokens": [], "pre_tokenizer": null,
        "decoder": {"type": "Fuse"}, "post_processor": null, "model": bpe(vocabulary, pairs),
    }))
}

/// [`bpe_across_words`] with Llama's normalizer: `▁` for every space and before every text.
pub(crate) fn llama(letters: &[&str], merges: &[(&str, &str)]) -> Tokenizer {
    let mut alphabet: Vec<char> = letters
        .iter()
        .flat_map(|text| text.chars())
        .chain(['▁'])
        .collect();
    alphabet.sort_unstable();
    alphabet.dedup();
    let mut vocabulary: Vec<String> = alphabet.into_iter().map(String::from).collect();
    vocabulary.extend(
        merges
            .iter()
            .map(|(first, second)| format!("{first}{second}")),
    );
    let normalizers = serde_json::json!([
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]);
    from_json(&serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "pre_tokenizer": null,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "decoder": {"type": "Fuse"}, "post_processor": null, "model": bpe(vocabulary, merges.to_vec()),
    }))
}

/// A tokenizer of whole words; unknown ones are `?`.
pub(crate) fn word_level(words: &[&str]) -> Tokenizer {
    let vocabulary: serde_json::Map<_, _> = ["?"]
        .iter()
        .chain(words)
        .enumerate()
        .map(|(id, word)| (word.to_string(), serde_json::json!(id)))
        .collect();
    from_json(&serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null, "post_processor": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"},
    }))
}

fn bpe(vocabulary: Vec<String>, merges: Vec<(&str, &str)>) -> serde_json::Value {
    let vocabulary: serde_json::Map<_, _> = vocabulary
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token, serde_json::json!(id)))
        .collect();
    serde_json::json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": merges})
}

fn from_json(json: &serde_json::Value) -> Tokenizer {
    Tokenizer::new(json.to_string().parse().unwrap())
}
