//! Models of images and text: their text part computes what the decoder alone computes, and
//! adapters and merged models have the names of the whole model.
//!
//! The folders are golden tiny models with tensors renamed and the configuration wrapped, as
//! transformers saves a `…ForConditionalGeneration` now, and did before version 4.52.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ivon_lora::data::Batch;
use ivon_lora::forward::Network;
use ivon_lora::lora::{
    ADAPTER_FILE, Adapter, CONFIG_FILE, Companions, Draw, HostMatrix, LoraConfig, MergeOptions,
    Precision, StoredBase, merge, read_matrices, read_peft, write_matrices, write_peft,
};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// The golden model's folder, the model type of the whole, and its part for images.
const MODELS: [(&str, &str, &str); 2] = [
    ("gemma3", "gemma3", "vision_tower"),
    ("qwen3_5", "qwen3_5", "visual"),
];

fn tiny(family: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/golden/tiny"
    ))
    .join(family)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The golden model inside a multimodal one; `name` gives the new names of its tensors.
fn wrapped(
    (family, model_type, images): (&str, &str, &str),
    name: fn(&str) -> String,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut text = json_of(&tiny(family).join("config.json"));
    let keys = text.as_object_mut().unwrap();
    let tied = keys.remove("tie_word_embeddings");
    keys.remove("architectures");
    let config = json!({
        "architectures": ["SomeForConditionalGeneration"], "model_type": model_type,
        "text_config": text, "vision_config": { "hidden_size": 4 }, "tie_word_embeddings": tied,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();

    let bytes = std::fs::read(tiny(family).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let patches = [0u8; 4 * 2 * 3 * 2 * 2];
    let image = TensorView::new(safetensors::Dtype::F32, vec![2, 3, 2, 2], &patches).unwrap();
    let renamed = file
        .tensors()
        .into_iter()
        .map(|(old, view)| (name(&old), view));
    let image = (format!("model.{images}.patch_embed.weight"), image);
    let all: Vec<_> = renamed.chain([image]).collect();
    safetensors::serialize_to_file(all, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

fn new_name(name: &str) -> String {
    match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => name.into(),
    }
}

fn old_name(name: &str) -> String {
    format!("language_model.{name}")
}

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder.to_str().unwrap()).unwrap()
}

fn logits(checkpoint: &Checkpoint, adapter: Adapter) -> Vec<f32> {
    let decoder = Decoder::load(checkpoint, BasePrecision::F32).unwrap();
    let network = Network::new(decoder, &Device::flex(), false);
    let mut batch = Batch::default();
    let segment = batch.push(&[5, 6, 7, 8, 9, 10], None, 0);
    batch.ask_last(segment);
    let hidden = network.hidden(&batch, &Draw::of(adapter));
    let tokens: Vec<u32> = (0..checkpoint.config().vocab_size as u32).collect();
    let logits = network.logits_of(&hidden, &tokens);
    logits.into_data().try_to_vec().unwrap()
}

/// The golden adapter of the decoder alone, read for this checkpoint.
fn adapter(family: &str, checkpoint: &Checkpoint) -> (Adapter, LoraConfig) {
    let folder = tiny(family).join("adapter");
    let read = read_peft(&folder, checkpoint.config(), &Device::flex()).unwrap();
    (read.adapter, read.config)
}

#[test]
fn the_text_part_has_the_logits_of_the_decoder_alone_with_new_names_and_old() {
    for model in MODELS {
        let alone = open(&tiny(model.0));
        let expected = logits(&alone, Adapter::empty());
        let adapted = logits(&alone, adapter(model.0, &alone).0);
        for name in [new_name, old_name] {
            let folder = wrapped(model, name);
            let whole = open(folder.path());
            assert_eq!(logits(&whole, Adapter::empty()), expected);
            assert_eq!(logits(&whole, adapter(model.0, &whole).0), adapted);
        }
    }
}

#[test]
fn what_is_left_aside_is_said_with_its_size() {
    for model in MODELS {
        let folder = wrapped(model, new_name);
        let notes = open(folder.path()).notes().to_vec();
        let expected = format!(
            "left aside, as only the text part is used: `{}` (1 tensor, 24 weights) of `",
            model.2
        );
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with(&expected), "{notes:?}");
    }
}

#[test]
fn adapters_are_written_with_the_names_of_the_whole_model_and_read_with_either() {
    for model in MODELS {
        let (whole, alone) = (wrapped(model, new_name), open(&tiny(model.0)));
        let whole = open(whole.path());
        let (adapter, config) = adapter(model.0, &whole);
        let folder = tempfile::tempdir().unwrap();
        write_peft(folder.path(), &adapter, &config, None).unwrap();
        let (written, _) = read_matrices(&folder.path().join(ADAPTER_FILE)).unwrap();
        let prefix = "base_model.model.model.language_model.layers.";
        assert!(written.keys().all(|name| name.starts_with(prefix)));
        // The image part has a `q_proj` of its own, so the targets are whole paths.
        let targets = &json_of(&folder.path().join(CONFIG_FILE))["target_modules"];
        let targets: BTreeSet<&str> = targets
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap())
            .collect();
        assert!(targets.contains("model.language_model.layers.0.mlp.down_proj"));
        for base in [&whole, &alone] {
            let again = read_peft(folder.path(), base.config(), &Device::flex()).unwrap();
            assert_eq!(
                again.adapter.to_matrices().unwrap(),
                adapter.to_matrices().unwrap()
            );
        }
    }
}

/// A folder with an adapter of the text part, and A and B of a layer of the other part, B all of this
/// number.
fn with_pair_on_images(model: (&str, &str, &str), whole: &Checkpoint, b: f32) -> tempfile::TempDir {
    let (adapter, config) = adapter(model.0, whole);
    let folder = tempfile::tempdir().unwrap();
    write_peft(folder.path(), &adapter, &config, None).unwrap();
    let path = folder.path().join(ADAPTER_FILE);
    let (mut matrices, metadata) = read_matrices(&path).unwrap();
    let module = format!("base_model.model.model.{}.layers.0.q_proj", model.2);
    for (part, shape, value) in [("lora_A", [2, 3], 1.0), ("lora_B", [4, 2], b)] {
        let values = vec![value; shape[0] * shape[1]];
        let matrix = HostMatrix { shape, values };
        matrices.insert(format!("{module}.{part}.weight"), matrix);
    }
    write_matrices(&path, &matrices, metadata).unwrap();
    folder
}

#[test]
fn a_pair_on_the_part_for_images_is_left_aside_where_its_b_is_zero() {
    for model in MODELS {
        let whole = open(wrapped(model, new_name).path());
        let folder = with_pair_on_images(model, &whole, 0.0);
        let read = read_peft(folder.path(), whole.config(), &Device::flex()).unwrap();
        let (expected, _) = adapter(model.0, &whole);
        assert_eq!(
            read.adapter.to_matrices().unwrap(),
            expected.to_matrices().unwrap()
        );
        let note = read.note.unwrap();
        let said = format!(
            "A and B of `model.{}.layers.0.q_proj`, outside the decoder",
            model.2
        );
        assert!(note.contains(&said), "{note}");

        let folder = with_pair_on_images(model, &whole, 0.5);
        let error = read_peft(folder.path(), whole.config(), &Device::flex()).unwrap_err();
        assert!(error.to_string().contains(model.2), "{error}");
    }
}

#[test]
fn an_expression_for_the_paths_of_the_whole_model_is_read() {
    let model = MODELS[0];
    let (whole, alone) = (wrapped(model, new_name), open(&tiny(model.0)));
    let whole = open(whole.path());
    let (adapter, config) = adapter(model.0, &whole);
    let folder = tempfile::tempdir().unwrap();
    write_peft(folder.path(), &adapter, &config, None).unwrap();
    let path = folder.path().join(CONFIG_FILE);
    let mut options = json_of(&path);
    options["target_modules"] = json!(r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\..*");
    std::fs::write(&path, options.to_string()).unwrap();
    for base in [&whole, &alone] {
        let again = read_peft(folder.path(), base.config(), &Device::flex()).unwrap();
        let fresh = Adapter::new(&again.config, base.config(), 1, &Device::flex()).unwrap();
        assert_eq!(fresh.pairs().count(), adapter.pairs().count());
    }
}

/// The names in a folder's file of weights.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.names().into_iter().map(str::to_string).collect()
}

#[test]
fn a_merged_model_is_the_whole_model_under_the_names_of_its_files() {
    for (model, name) in MODELS
        .into_iter()
        .flat_map(|model| [(model, new_name as fn(&str) -> String), (model, old_name)])
    {
        let folder = wrapped(model, name);
        let whole = open(folder.path());
        let (adapter, _) = adapter(model.0, &whole);
        let base = StoredBase {
            names: whole.names_to_copy(),
            written: whole.names_in_files(),
            tensor: |name: &str| whole.tensor(name),
        };
        let companions = Companions::of_folder(folder.path())
            .unwrap()
            .for_weights_of(whole.config());
        let merged = folder.path().join("merged");
        let options = MergeOptions {
            precision: Precision::F32,
            ..MergeOptions::default()
        };
        merge(&merged, &base, &companions, &adapter, options).unwrap();
        assert_eq!(names_in(&merged), names_in(folder.path()));
        let merged = open(&merged);
        let names = |checkpoint: &Checkpoint| {
            let raw = checkpoint.raw().into_iter();
            raw.map(|tensor| (tensor.name.clone(), tensor.shape.to_vec()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&merged), names(&whole));
        let found = logits(&merged, Adapter::empty());
        let expected = logits(&whole, adapter);
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4 * largest);
        }
    }
}

#[test]
fn other_wholes_and_other_text_parts_are_refused_by_name() {
    let folder = wrapped(MODELS[0], new_name);
    let path = folder.path().join("config.json");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut config = json_of(&path);
        change(&mut config);
        let changed = tempfile::tempdir().unwrap();
        std::fs::write(changed.path().join("config.json"), config.to_string()).unwrap();
        let error = Checkpoint::open(changed.path().to_str().unwrap()).unwrap_err();
        error.to_string()
    };
    let message = refused(&|config| config["model_type"] = json!("llava"));
    assert!(
        message.starts_with("model type `llava` of `config.json` is not supported, supported are "),
        "{message}"
    );
    assert!(message.ends_with("gemma3, gemma4, qwen3_5, mistral3"));
    let message = refused(&|config| config["text_config"]["model_type"] = json!("mistral4"));
    assert_eq!(
        message,
        "model type `mistral4` of `config.json: text_config` is not supported, supported are gemma3_text"
    );
    let message = refused(&|config| drop(config.as_object_mut().unwrap().remove("text_config")));
    assert_eq!(
        message,
        "`text_config` in `config.json` is missing, expected a value"
    );
    let message = refused(&|config| config["quantization_config"] = json!({ "bits": 4 }));
    assert!(
        message.starts_with("`quantization_config` in `config.json: text_config`"),
        "{message}"
    );
}
