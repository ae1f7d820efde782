//! The golden numbers of every family (base, adapted, merged), and of adapters whose layers have
//! ranks of their own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::lora::{Companions, MergeOptions, Precision, StoredBase, merge};
use crate::testing::{FAMILIES, golden, workspace};

#[test]
fn logits_of_every_family_agree_with_transformers_and_peft() {
    for family in FAMILIES {
        let expected = stated(family, "expected");
        let batch = batch(&expected);
        for network in networks(family) {
            let base = logits(&network, &batch, &Adapter::empty());
            agree(&base, &numbers(&expected["base_logits"]), 1e-4, family);
            let adapted = logits(&network, &batch, &adapter(family, &network));
            let stated = numbers(&expected["adapted_logits"]);
            agree(&adapted, &stated, 1e-4, family);
        }
    }
}

#[test]
fn gradients_of_every_family_agree_with_pytorch() {
    for family in FAMILIES {
        let expected = stated(family, "expected");
        for network in networks(family) {
            let adapter = adapter(family, &network).train();
            let loss = loss(&network, &batch(&expected), &adapter, None, &expected);
            let stated = numbers(&expected["loss"]);
            agree(&values(loss.clone()), &stated, 1e-4, family);
            gradients_agree(&adapter, loss, &expected, 1e-4, family);
        }
    }
}

/// The folder that `merge` writes for a family's golden base and adapter.
fn merged(family: &str, target: &Path) -> Checkpoint {
    let folder = golden().join("tiny").join(family);
    let base = Checkpoint::open(folder.to_str().unwrap()).unwrap();
    let adapter = read_peft(&folder.join("adapter"), base.config(), &Device::flex());
    let stored = StoredBase {
        names: base.names(),
        written: base.names_in_files(),
        tensor: |name: &str| base.tensor(name),
    };
    let companions = Companions::of_folder(&folder).unwrap();
    let options = MergeOptions {
        precision: Precision::F32,
        ..MergeOptions::default()
    };
    merge(
        target,
        &stored,
        &companions,
        &adapter.unwrap().adapter,
        options,
    )
    .unwrap();
    Checkpoint::open(target.to_str().unwrap()).unwrap()
}

#[test]
fn merged_folders_of_every_family_have_the_logits_of_models_that_peft_merged() {
    for family in FAMILIES {
        let expected = stated(family, "expected");
        let folder = tempfile::tempdir().unwrap();
        let merged = merged(family, &folder.path().join("merged"));
        for network in networks_of(Decoder::load(&merged, BasePrecision::F32).unwrap()) {
            let found = logits(&network, &batch(&expected), &Adapter::empty());
            agree(&found, &numbers(&expected["merged_logits"]), 1e-4, family);
        }
    }
}

/// Logits, loss and gradients with the adapter of testdata/golden/adapters.
fn agrees_with_peft(case: &str) {
    let folder = workspace().join("testdata/golden");
    let json =
        |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let expected = json(folder.join("adapters").join(case).join("expected.json"));
    let family = expected["family"].as_str().unwrap();
    let base = folder.join("tiny").join(family);
    let of_family = json(base.join("expected.json"));
    let decoder = || {
        let checkpoint = Checkpoint::open(base.to_str().unwrap()).unwrap();
        Decoder::load(&checkpoint, BasePrecision::F32).unwrap()
    };
    for network in networks_of(decoder()) {
        let folder = folder.join("adapters").join(case);
        let peft = read_peft(&folder, network.config(), network.device()).unwrap();
        let adapter = peft.adapter.train();
        let batch = batch(&of_family);
        let adapted = logits(&network, &batch, &adapter.valid());
        agree(&adapted, &numbers(&expected["adapted_logits"]), 1e-4, case);
        let loss = loss(&network, &batch, &adapter, None, &of_family);
        agree(
            &values(loss.clone()),
            &numbers(&expected["loss"]),
            1e-4,
            case,
        );
        gradients_agree(&adapter, loss, &expected, 1e-4, case);
    }
}

#[test]
fn ranks_and_alphas_by_layer_are_those_of_peft() {
    agrees_with_peft("patterns");
    agrees_with_peft("patterns-rslora");
}

#[test]
fn both_schemas_of_config_json_describe_the_same_decoder() {
    for family in ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"] {
        let folder = golden().join("tiny").join(family);
        let older = tempfile::tempdir().unwrap();
        std::fs::copy(
            folder.join("config.transformers4.json"),
            older.path().join("config.json"),
        )
        .unwrap();
        std::fs::copy(
            folder.join("model.safetensors"),
            older.path().join("model.safetensors"),
        )
        .unwrap();
        let open = |path: &Path| {
            Checkpoint::open(path.to_str().unwrap())
                .unwrap()
                .config()
                .clone()
        };
        assert_eq!(open(&folder), open(older.path()));
    }
}
