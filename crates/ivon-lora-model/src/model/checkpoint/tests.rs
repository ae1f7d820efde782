//! Models opened by name, and those whose files disagree.

use super::*;
use crate::model::Order;
use crate::testing;

#[test]
fn golden_folders_open_with_every_tensor_of_the_shape_that_the_config_asks_for() {
    for family in testing::FAMILIES {
        let path = testing::golden().join("tiny").join(family);
        let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
        assert_eq!(checkpoint.display_name(), family);
        let config = checkpoint.config();
        let hidden = config.hidden_size;
        let embedding = checkpoint
            .tensor_of("model.embed_tokens.weight", &[config.vocab_size, hidden])
            .unwrap();
        assert!(embedding.to_f32().iter().all(|x| x.is_finite()));
        for (path, linear) in config.linears() {
            checkpoint
                .tensor_of(&path.tensor("weight"), &linear.shape)
                .unwrap();
        }
        let norm = config.outside_name("norm.weight");
        let message = checkpoint
            .tensor_of(&norm, &[hidden + 1])
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            format!(
                "tensor `{norm}` of `{family}` has shape [{hidden}], expected [{}]",
                hidden + 1
            )
        );
        assert_eq!(checkpoint.fingerprint().unwrap().len(), 64);
    }
}

#[test]
fn the_real_gguf_opens_with_hugging_faces_names_and_shapes() {
    let Some(path) = testing::real_model("checkpoint") else {
        return;
    };
    let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
    let config = checkpoint.config();
    assert_eq!(
        (
            config.vocab_size,
            config.hidden_size,
            config.num_hidden_layers
        ),
        (49_152, 576, 30)
    );
    assert_eq!(config.heads(), [9, 3, 64]);
    assert_eq!(
        (
            config.layers[0].rope().unwrap().theta,
            config.max_position_embeddings,
            config.tie_word_embeddings
        ),
        (100_000.0, 8192, true)
    );
    assert_eq!(checkpoint.names().len(), 272);
    assert_eq!(checkpoint.parameters(), 134_515_008);
    let k = checkpoint
        .tensor_of("model.layers.29.self_attn.k_proj.weight", &[192, 576])
        .unwrap();
    let order = Order::Interleaved(64);
    assert_eq!((k.encoding.name(), k.change.order), ("Q4_1", order));
    let folder = path.parent().unwrap().display().to_string();
    assert_eq!(
        Checkpoint::open(&folder).unwrap().fingerprint().unwrap(),
        checkpoint.fingerprint().unwrap()
    );
}

/// The peak resident memory of this process in bytes.
fn peak_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Runs itself again in a process of its own, because the peak is that of the whole process.
#[test]
#[cfg(target_os = "linux")]
fn loading_the_real_model_needs_less_than_1_3_times_its_size() {
    let Some(path) = testing::real_model("peak memory") else {
        return;
    };
    if std::env::var_os("IVON_LORA_TEST_PEAK").is_none() {
        let name =
            "model::checkpoint::tests::loading_the_real_model_needs_less_than_1_3_times_its_size";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child
            .args(["--exact", name, "--nocapture"])
            .env("IVON_LORA_TEST_PEAK", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
    checkpoint.tokenizer().unwrap();
    checkpoint.fingerprint().unwrap();
    let started = peak_resident();
    let loaded: Vec<Vec<f32>> = checkpoint
        .names()
        .iter()
        .map(|name| checkpoint.tensor(name).unwrap().to_f32())
        .collect();
    let size = loaded
        .iter()
        .map(|tensor| 4 * tensor.len() as u64)
        .sum::<u64>();
    let peak = peak_resident();
    assert!(
        peak * 10 < size * 13,
        "peak {peak}, before loading {started}, model {size}"
    );
    // At most a few MiB of the file are resident in addition to the weights, and before loading.
    assert!(
        peak < started + size + (24 << 20),
        "peak {peak}, before loading {started}, model {size}"
    );
}

#[test]
fn a_classifier_is_named_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = testing::golden().join("tiny/llama");
    let mut bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    // Of the same length, so that the header's length stays valid.
    let at = bytes
        .windows(14)
        .position(|part| part == b"lm_head.weight")
        .unwrap();
    bytes.splice(at..at + 16, *b"score.weight\"  :");
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        text.replace("ForCausalLM", "ForSequenceClassification"),
    )
    .unwrap();
    let error = Checkpoint::open(&folder.path().display().to_string()).unwrap_err();
    let said = "is no language model: it has a head of another kind, `score.weight` of shape [96, 32], as a `LlamaForSequenceClassification` has";
    assert!(error.to_string().contains(said), "{error}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("language model that it was made from")
    );
}

#[test]
fn what_is_no_model_is_refused_with_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| {
        Checkpoint::open(&path.display().to_string())
            .unwrap_err()
            .to_string()
    };
    assert!(message(folder.path()).ends_with(
        "holds no model: found neither, expected a `config.json` or exactly one `.gguf` file"
    ));
    for name in ["a.gguf", "b.gguf", "model.safetensors"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    assert!(message(folder.path()).contains("found 2 `.gguf` files"));
    assert!(
        message(&folder.path().join("model.safetensors"))
            .contains("expected a folder or a `.gguf` file")
    );
    assert!(
        message(&folder.path().join("a.gguf"))
            .starts_with("`a.gguf` is cut short: the header ends at byte 4")
    );
    let gone = folder.path().join("gone");
    assert!(message(&gone).starts_with(&format!("there is no model `{}`", gone.display())));
}
