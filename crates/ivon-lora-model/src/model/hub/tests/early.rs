//! What is checked before any weight is downloaded.

use super::*;
use crate::model::Encoding;
use crate::model::ModelHeaders;
use crate::model::RopeScaling;
use crate::model::gguf::{GgufWriter, Metadata};

/// The requested ranges of the weights; `None` for a whole file.
fn asked_for_weights(hub: &Hub) -> Vec<Option<String>> {
    let is_weights = |path: &str| path.ends_with(".safetensors") || path.ends_with(".gguf");
    let requests = hub.requests();
    let of_weights = requests.iter().filter(|asked| is_weights(&asked.path));
    of_weights
        .map(|asked| asked.header("range").map(str::to_string))
        .collect()
}

#[test]
fn a_family_or_a_tokenizer_that_cannot_be_used_is_refused_before_the_weights() {
    let config = String::from_utf8(Content::golden().files["config.json"].clone()).unwrap();
    let other = config.replace("\"llama\"", "\"gpt_oss\"");
    for (content, reason) in [
        (
            Content::golden().with("config.json", other),
            "model type `gpt_oss` of `config.json` is not supported",
        ),
        (
            Content::golden().without("tokenizer.json"),
            "there is no `tokenizer.json` beside the weights",
        ),
        (
            Content::golden().with("tokenizer.json", "{"),
            "`tokenizer.json` is malformed",
        ),
    ] {
        let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
        let error = open("org/tiny", &hub.settings(cache.path())).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(asked_for_weights(&hub).is_empty());
    }
}

#[test]
fn a_merge_needs_no_tokenizer() {
    let (hub, cache) = (
        Hub::serve(Content::golden().without("tokenizer.json")),
        tempfile::tempdir().unwrap(),
    );
    let settings = hub.settings(cache.path());
    let opened = Checkpoint::open_for(
        "org/tiny",
        crate::model::Purpose::Merge,
        &settings,
        &mut |_| true,
    );
    assert_eq!(opened.unwrap().names(), local().names());
}

#[test]
fn a_model_is_looked_at_without_its_weights() {
    // So large that the header is a small part of it; the padding belongs to no tensor.
    let mut padded = Content::golden().files["model.safetensors"].clone();
    let whole = padded.len() as u64;
    padded.resize(40 << 20, 7);
    let content = Content::golden()
        .with("model.safetensors", padded)
        .without("tokenizer.json");
    let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
    let headers =
        ModelHeaders::open("org/tiny", &hub.settings(cache.path()), &mut |_| true).unwrap();
    assert!(!headers.has_weights());
    let (seen, local) = (headers.checkpoint(), local());
    assert_eq!(
        (seen.names(), seen.parameters(), seen.config()),
        (local.names(), local.parameters(), local.config())
    );
    for name in local.names() {
        let (seen, local) = (seen.tensor(&name).unwrap(), local.tensor(&name).unwrap());
        assert_eq!(
            (seen.shape.clone(), seen.encoding, seen.bytes.len()),
            (local.shape.clone(), local.encoding, local.bytes.len())
        );
    }
    assert_eq!(
        asked_for_weights(&hub),
        [Some("bytes=0-262143".to_string())]
    );
    assert!(
        !cache
            .path()
            .join("models--org--tiny/snapshots")
            .join(COMMIT)
            .join("model.safetensors")
            .exists()
    );
    assert!(whole < 40 << 20);
}

#[test]
fn what_is_in_the_cache_is_looked_at_with_its_weights() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    open("org/tiny", &settings).unwrap();
    for settings in [
        settings.clone(),
        HubSettings {
            offline: true,
            ..settings
        },
    ] {
        let headers = ModelHeaders::open("org/tiny", &settings, &mut |_| true).unwrap();
        assert!(headers.has_weights());
        assert_eq!(
            headers.checkpoint().fingerprint().unwrap(),
            local().fingerprint().unwrap()
        );
    }
}

/// A GGUF file with this many tokens in its header.
fn gguf(architecture: &str, tokens: usize) -> Vec<u8> {
    gguf_with(architecture, tokens, 0)
}

/// The same, with so many divisors of rotary frequencies behind its other tensors.
fn gguf_with(architecture: &str, tokens: usize, divisors: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut writer = GgufWriter::new(architecture);
    for (key, value) in [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ] {
        writer.set(&format!("{architecture}.{key}"), Metadata::U32(value));
    }
    writer.set(
        &format!("{architecture}.attention.layer_norm_rms_epsilon"),
        Metadata::F32(1e-5),
    );
    writer.set(
        "tokenizer.ggml.tokens",
        Metadata::Texts((0..tokens).map(|id| format!("token-{id:09}")).collect()),
    );
    writer
        .tensor("token_embd.weight", &[tokens, 32], Encoding::F32)
        .unwrap();
    if divisors > 0 {
        let name = "rope_freqs.weight";
        writer.tensor(name, &[divisors], Encoding::F32).unwrap();
    }
    let values = |name: &str| match name {
        "token_embd.weight" => vec![0.5; tokens * 32],
        _ => vec![0.5; divisors],
    };
    writer.write_f32(&path, values).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn the_divisors_of_rotary_frequencies_are_read_with_the_header_of_a_gguf_file() {
    let content = Content::default().with("a.gguf", gguf_with("llama", 30_000, 8));
    let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    let headers = ModelHeaders::open("org/tiny", &settings, &mut |_| true).unwrap();
    let config = headers.checkpoint().config();
    let expected = RopeScaling::Factors {
        factors: vec![0.5; 8],
    };
    assert_eq!(config.layers[0].rope().unwrap().scaling, expected);
}

#[test]
fn the_header_of_a_gguf_file_is_read_however_long_it_is() {
    for tokens in [100, 100_000] {
        let bytes = gguf("llama", tokens);
        let length = bytes.len() as u64;
        let (hub, cache) = (
            Hub::serve(Content::default().with("q/a.gguf", bytes)),
            tempfile::tempdir().unwrap(),
        );
        let headers =
            ModelHeaders::open("org/tiny", &hub.settings(cache.path()), &mut |_| true).unwrap();
        assert!(!headers.has_weights());
        assert_eq!(headers.checkpoint().parameters(), 32 * tokens as u64);
        assert_eq!(headers.checkpoint().config().vocab_size, tokens);
        let asked = asked_for_weights(&hub);
        let expected: &[&str] = if tokens == 100 {
            &["bytes=0-1048575"]
        } else {
            &["bytes=0-1048575", "bytes=0-4194303"]
        };
        assert_eq!(
            asked.iter().flatten().collect::<Vec<_>>(),
            expected,
            "of {length} bytes"
        );
    }
}

#[test]
fn a_gguf_file_of_an_unsupported_family_or_without_a_tokenizer_is_refused_by_its_header() {
    for (architecture, reason) in [
        ("gemma", "model type `gemma` of `a.gguf` is not supported"),
        ("llama", "the tokenizer of `a.gguf`"),
    ] {
        let content = Content::default().with("a.gguf", gguf(architecture, 30_000));
        let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
        let error = open("org/tiny", &hub.settings(cache.path())).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(
            asked_for_weights(&hub),
            [Some("bytes=0-1048575".to_string())]
        );
    }
}
