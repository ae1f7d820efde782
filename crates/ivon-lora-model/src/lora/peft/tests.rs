//! Adapter folders in PEFT's format, read, written and refused.

use std::fs;

use super::super::{HostMatrix, resolve_targets};
use super::*;
use crate::testing::golden;
use crate::testing::tiny::{adapter, config, decoder};

fn read(folder: &Path) -> Result<PeftAdapter, LoraError> {
    read_peft(folder, &decoder(3), &Device::flex())
}

/// A copy of the golden adapter with keys of its configuration replaced.
fn with_keys(keys: Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = golden().join("tiny/llama/adapter");
    fs::copy(source.join(ADAPTER_FILE), folder.path().join(ADAPTER_FILE)).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(source.join(CONFIG_FILE)).unwrap()).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(folder.path().join(CONFIG_FILE), config.to_string()).unwrap();
    folder
}

/// A copy of the golden adapter with its tensors changed.
fn with_tensors(change: impl FnOnce(&mut Matrices)) -> tempfile::TempDir {
    let folder = with_keys(json!({}));
    let path = folder.path().join(ADAPTER_FILE);
    let (mut matrices, metadata) = read_matrices(&path).unwrap();
    change(&mut matrices);
    write_matrices(&path, &matrices, metadata).unwrap();
    folder
}

#[test]
fn what_peft_writes_loads_with_the_same_numbers() {
    for family in crate::testing::FAMILIES {
        let model = golden().join("tiny").join(family);
        let (folder, text) = (model.join("adapter"), model.join("config.json"));
        let text = std::fs::read_to_string(text).unwrap();
        let decoder = DecoderConfig::from_json(&text, family).unwrap();
        let read = read_peft(&folder, &decoder, &Device::flex()).unwrap();
        if decoder.num_hidden_layers == 3 {
            assert_eq!(read.config, config("q_proj,v_proj"));
        } else {
            assert_eq!(read.adapter.pairs().count(), decoder.linears().len());
        }
        assert_eq!(read.config.scaling(), 2.0);
        let (stored, _) = read_matrices(&folder.join(ADAPTER_FILE)).unwrap();
        let ours = read
            .adapter
            .to_matrices()
            .unwrap()
            .into_iter()
            .map(|(path, matrix)| (peft_name(&path), matrix));
        assert_eq!(ours.collect::<BTreeMap<_, _>>(), stored);
    }
}

#[test]
fn what_is_written_reads_back_bit_for_bit_and_twice_gives_the_same_bytes() {
    let adapter = adapter(3, "all-linear");
    let config = LoraConfig {
        alpha: 12.5,
        use_rslora: true,
        dropout: 0.1,
        ..config("all-linear")
    };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&one, &two] {
        write_peft(
            folder.path(),
            &adapter,
            &config,
            Some("/home/me/models/SmolLM2.gguf"),
        )
        .unwrap();
    }
    for file in [ADAPTER_FILE, CONFIG_FILE] {
        assert_eq!(
            fs::read(one.path().join(file)).unwrap(),
            fs::read(two.path().join(file)).unwrap()
        );
    }
    let again = read(one.path()).unwrap();
    assert_eq!(
        again.adapter.to_matrices().unwrap(),
        adapter.to_matrices().unwrap()
    );
    assert_eq!(
        again.base_model_name_or_path.as_deref(),
        Some("SmolLM2.gguf")
    );
    assert_eq!(
        (again.config.scaling(), again.config.dropout),
        (12.5 / 2.0, 0.1)
    );
    assert_eq!(
        resolve_targets(&again.config, &decoder(3)).unwrap(),
        resolve_targets(&config, &decoder(3)).unwrap()
    );
}

#[test]
fn patterns_of_ranks_and_alphas_are_written_and_read() {
    let config = LoraConfig {
        rank_pattern: [("k_proj".into(), 2), ("layers.0.mlp.up_proj".into(), 7)].into(),
        alpha_pattern: [("mlp.*".into(), 3.5), ("q_proj".into(), 16.0)].into(),
        ..config("all-linear")
    };
    let adapter = Adapter::new(&config, &decoder(3), 1, &Device::flex()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_peft(folder.path(), &adapter, &config, None).unwrap();
    let again = read(folder.path()).unwrap();
    let matrices = |adapter: &Adapter| adapter.to_matrices().unwrap();
    assert_eq!(matrices(&again.adapter), matrices(&adapter));
    assert_eq!(again.adapter.scaling, adapter.scaling);
    assert_eq!(again.config.rank_pattern, config.rank_pattern);
    let text = fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap();
    assert!(
        text.contains("\"mlp.*\": 3.5,\n    \"q_proj\": 16\n"),
        "{text}"
    );

    let other = LoraConfig {
        rank_pattern: [("k_proj".into(), 3)].into(),
        ..config
    };
    let message = write_peft(folder.path(), &adapter, &other, None).unwrap_err();
    assert_eq!(
        message.to_string(),
        "tensor `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight` has shape [7, 32], expected [4, 32]"
    );
}

#[test]
fn the_configuration_has_the_old_keys_sorted_and_a_whole_alpha() {
    let folder = tempfile::tempdir().unwrap();
    write_peft(
        folder.path(),
        &adapter(3, "v_proj,q_proj"),
        &config("v_proj,q_proj"),
        Some("org/name@main"),
    )
    .unwrap();
    let text = fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap();
    let expected = r#"{
  "alpha_pattern": {},
  "auto_mapping": null,
  "base_model_name_or_path": "org/name",
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "layers_pattern": null,
  "layers_to_transform": null,
  "lora_alpha": 8,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 4,
  "rank_pattern": {},
  "revision": "main",
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "task_type": "CAUSAL_LM",
  "use_dora": false,
  "use_rslora": false
}
"#;
    assert_eq!(text, expected);
}

#[test]
fn options_that_change_the_computation_are_refused_by_key() {
    let cases = [
        json!({ "peft_type": "LOHA" }),
        json!({ "task_type": "SEQ_CLS" }),
        json!({ "bias": "all" }),
        json!({ "lora_bias": true }),
        json!({ "modules_to_save": ["lm_head", "score"] }),
        json!({ "init_lora_weights": "pissa" }),
        json!({ "layers_pattern": "h" }),
        json!({ "layer_replication": [[0, 2]] }),
        json!({ "target_parameters": ["experts"] }),
    ];
    for case in cases {
        let key = case.as_object().unwrap().keys().next().unwrap().clone();
        match read(with_keys(case).path()) {
            Err(error @ LoraError::Unsupported { .. }) => {
                assert!(
                    error.to_string().contains(&format!("has `{key}` = ")),
                    "{error}"
                );
                assert!(error.hint().is_some());
            }
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(matches!(
        read(with_keys(json!({ "r": "eight" })).path()),
        Err(LoraError::Key { key: "r", .. })
    ));
    assert!(matches!(
        read(with_keys(json!({ "lora_dropout": 2 })).path()),
        Err(LoraError::Option {
            option: "dropout",
            ..
        })
    ));
}

#[test]
fn targets_and_tensors_must_belong_together() {
    let missing =
        read(with_keys(json!({ "target_modules": ["q_proj", "k_proj", "v_proj"] })).path())
            .unwrap_err();
    assert!(missing.to_string().starts_with(
        "tensor `base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight` is missing from"
    ));
    let extra = read(with_keys(json!({ "target_modules": ["q_proj"] })).path()).unwrap_err();
    assert!(
        extra
            .to_string()
            .ends_with("`target_modules` `q_proj` does not name it"),
        "{extra}"
    );
    // Exclusions, targets looked up by architecture, and Python's expressions are resolved by the
    // tensors.
    let excluded =
        json!({ "target_modules": ["q_proj", "k_proj", "v_proj"], "exclude_modules": ["k_proj"] });
    for keys in [
        excluded,
        json!({ "target_modules": null }),
        json!({ "target_modules": ".*(?<!k)[qv]_proj" }),
    ] {
        assert_eq!(
            read(with_keys(keys).path()).unwrap().config,
            config("q_proj,v_proj")
        );
    }
    let one = read(with_keys(json!({ "layers_to_transform": 1 })).path()).unwrap_err();
    assert!(matches!(one, LoraError::UnknownTensor { .. }), "{one}");
}

#[test]
fn tensors_of_another_model_are_refused_by_name_and_shape() {
    let other = DecoderConfig {
        hidden_size: 64,
        ..decoder(3)
    };
    let error = read_peft(
        &golden().join("tiny/llama/adapter"),
        &other,
        &Device::flex(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` has shape [4, 32], expected [4, 64]"
    );
    let shallow = read_peft(
        &golden().join("tiny/llama/adapter"),
        &decoder(2),
        &Device::flex(),
    )
    .unwrap_err();
    assert!(
        shallow
            .to_string()
            .contains("layers.2.self_attn.q_proj.lora_A.weight"),
        "{shallow}"
    );
    assert!(shallow.hint().unwrap().contains("belong to this base"));
    assert!(matches!(
        read(with_keys(json!({ "r": 2 })).path()),
        Err(LoraError::Shape { .. })
    ));
}

#[test]
fn strange_and_missing_tensors_are_refused_by_name() {
    let some = || HostMatrix {
        shape: [1, 1],
        values: vec![0.0],
    };
    for name in [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A_rho.weight",
        "base_model.model.model.layers.00.self_attn.q_proj.lora_A.weight",
    ] {
        let error = read(with_tensors(|tensors| drop(tensors.insert(name.into(), some()))).path())
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("tensor `{name}` in ")),
            "{error}"
        );
    }
    let name = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight";
    let error = read(with_tensors(|tensors| drop(tensors.remove(name))).path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("tensor `{name}` is missing from")),
        "{error}"
    );
}

#[test]
fn whole_layers_and_adapted_layers_of_other_parts_are_refused_as_what_they_are() {
    // Zeros on other parts are left aside.
    let some = || HostMatrix {
        shape: [1, 1],
        values: vec![1.0],
    };
    let with = |name: &str| {
        read(with_tensors(|tensors| drop(tensors.insert(name.into(), some()))).path()).unwrap_err()
    };
    assert!(
        matches!(with("base_model.model.score.weight"), LoraError::WholeLayers { layers, .. } if layers == "`score` [1, 1]")
    );
    let adapted = with("base_model.model.visual.proj.lora_A.weight");
    assert!(matches!(adapted, LoraError::OtherLayer { .. }));
}

/// A matrix of this shape.
fn zeros(shape: [usize; 2]) -> HostMatrix {
    HostMatrix {
        shape,
        values: vec![0.0; shape[0] * shape[1]],
    }
}

#[test]
fn a_table_of_another_vocabulary_is_refused_and_so_is_one_that_is_not_there() {
    for name in ["lm_head.weight", "model.embed_tokens.base_layer.weight"] {
        let name = format!("base_model.model.{name}");
        let folder = with_tensors(|tensors| drop(tensors.insert(name, zeros([97, 32]))));
        let error = read(folder.path()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.ends_with("with 97 rows, but the base's vocabulary has 96 tokens"),
            "{message}"
        );
        assert!(error.hint().unwrap().contains("resized"));
    }
    let error = read(with_keys(json!({ "modules_to_save": ["lm_head"] })).path()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("tensor `base_model.model.lm_head.weight` is missing from"),
        "{message}"
    );
    let narrow = |tensors: &mut Matrices| {
        tensors.insert("base_model.model.lm_head.weight".into(), zeros([96, 31]));
    };
    let error = read(with_tensors(narrow).path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `base_model.model.lm_head.weight` has shape [96, 31], expected [96, 32]"
    );
}

#[test]
fn factors_of_a_table_must_be_named_by_the_targets_and_both_be_there() {
    let a = "base_model.model.model.embed_tokens.lora_embedding_A";
    let b = "base_model.model.model.embed_tokens.lora_embedding_B";
    let both = |tensors: &mut Matrices| {
        tensors.insert(a.into(), zeros([4, 96]));
        tensors.insert(b.into(), zeros([32, 4]));
    };
    let error = read(with_tensors(both).path()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.ends_with("`target_modules` `q_proj,v_proj` does not name it"),
        "{message}"
    );
    let targets = json!({ "target_modules": ["q_proj", "v_proj", "embed_tokens"] });
    let error = read(with_keys(targets).path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("tensor `{a}` is missing from")),
        "{error}"
    );
    // Without targets the tensors say what is adapted.
    let one = |tensors: &mut Matrices| drop(tensors.insert(a.into(), zeros([4, 96])));
    let folder = with_tensors(one);
    let path = folder.path().join(CONFIG_FILE);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["target_modules"] = Value::Null;
    fs::write(&path, config.to_string()).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("tensor `{b}` is missing from")),
        "{error}"
    );
}

#[test]
fn an_adapter_of_mlx_lm_is_named() {
    let folder = with_keys(json!({}));
    let config = r#"{"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 4, "scale": 20.0}}"#;
    fs::write(folder.path().join(CONFIG_FILE), config).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "is of an adapter of mlx-lm (`fine_tune_type`), expected one of PEFT (`peft_type`)"
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("adapters.safetensors"));
}

#[test]
fn a_pickle_and_an_absent_folder_are_refused() {
    let folder = with_keys(json!({}));
    fs::rename(
        folder.path().join(ADAPTER_FILE),
        folder.path().join("adapter_model.bin"),
    )
    .unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(
        matches!(error, LoraError::Pickle { .. })
            && error.hint().unwrap().contains("safe_serialization")
    );
    assert!(matches!(
        read(Path::new("/nowhere")),
        Err(LoraError::File(_))
    ));
    fs::write(folder.path().join(CONFIG_FILE), "[1]").unwrap();
    assert!(matches!(
        read(folder.path()),
        Err(LoraError::Malformed { .. })
    ));
}

#[test]
fn options_can_be_read_without_a_model() {
    let (config, base) = read_peft_config(&golden().join("tiny/llama/adapter")).unwrap();
    assert_eq!((config, base), (self::config("q_proj,v_proj"), None));
}

#[test]
fn a_base_is_named_without_the_machine_it_lay_on() {
    let cases = [
        ("org/name", "org/name", None),
        ("org/name@v1", "org/name", Some("v1")),
        ("/a/b/model", "model", None),
        ("./model/", "model", None),
        ("models/x.gguf", "x.gguf", None),
        (r"C:\models\x.gguf", "x.gguf", None),
        ("a/b/c", "c", None),
    ];
    for (given, name, revision) in cases {
        assert_eq!(
            portable_base_name(given),
            (name.to_string(), revision.map(String::from)),
            "{given}"
        );
    }
}
