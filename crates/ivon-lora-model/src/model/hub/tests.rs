//! Downloads from a local server; each fault of a server, a network or a cache is a test.

mod broken;
mod early;
mod redirects;

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;

use super::testing::{COMMIT, Content, Hub, Reply};
use super::{HubSettings, fetch_adapter};
use burn::tensor::Device;

use crate::lora::read_peft;
use crate::model::safetensors::INDEX;
use crate::model::{Checkpoint, DecoderConfig, ModelError};
use crate::testing;
use crate::watch::Event;

fn open(name: &str, settings: &HubSettings) -> Result<Checkpoint, ModelError> {
    Checkpoint::open_with(name, settings, &mut |_| true)
}

fn local() -> Checkpoint {
    Checkpoint::open(&testing::golden().join("tiny/llama").display().to_string()).unwrap()
}

#[test]
fn a_model_is_downloaded_once_and_then_found_in_the_cache_also_offline() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    let mut seen = Vec::new();
    let mut listen = |event: Event<'_>| {
        if let Event::Received {
            file,
            received,
            total,
        } = event
        {
            seen.push((file.to_string(), received, total));
        }
        true
    };
    let checkpoint = Checkpoint::open_with("org/tiny", &settings, &mut listen).unwrap();
    assert_eq!(
        (checkpoint.display_name(), checkpoint.revision()),
        ("org/tiny", None)
    );
    assert_eq!(
        checkpoint.fingerprint().unwrap(),
        local().fingerprint().unwrap()
    );
    let size = Content::golden().files["model.safetensors"].len() as u64;
    assert_eq!(seen.last(), Some(&("model.safetensors".into(), size, size)));
    assert!(hub.paths().iter().all(|path| !path.contains("README")));

    assert_eq!(
        open("org/tiny", &settings).unwrap().names(),
        checkpoint.names()
    );
    assert_eq!(hub.paths(), ["/api/models/org/tiny/revision/main"]);

    let offline = HubSettings {
        offline: true,
        ..settings
    };
    let pinned = open(&format!("org/tiny@{COMMIT}"), &offline).unwrap();
    assert_eq!(
        (pinned.display_name(), pinned.revision()),
        ("org/tiny", Some(COMMIT))
    );
    assert_eq!(
        open("org/tiny", &offline).unwrap().names(),
        checkpoint.names()
    );
    assert!(hub.requests().is_empty());
}

/// The layout is that of `huggingface_hub`, which would find these files without a download.
#[cfg(unix)]
#[test]
fn the_cache_has_the_layout_that_all_tools_share() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    open("org/tiny", &hub.settings(cache.path())).unwrap();
    let folder = cache.path().join("models--org--tiny");
    assert_eq!(
        std::fs::read_to_string(folder.join("refs/main")).unwrap(),
        COMMIT
    );
    let link =
        std::fs::read_link(folder.join("snapshots").join(COMMIT).join("config.json")).unwrap();
    assert_eq!(link, Path::new("../../blobs/etag-config.json"));
    let mut blobs: Vec<_> = std::fs::read_dir(folder.join("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    blobs.sort();
    assert_eq!(
        blobs,
        [
            "etag-config.json",
            "etag-model.safetensors",
            "etag-tokenizer.json"
        ]
    );
    assert!(
        cache
            .path()
            .join(".locks/models--org--tiny/etag-config.json.lock")
            .exists()
    );
}

#[test]
fn without_links_the_files_themselves_stand_in_the_snapshot() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let settings = HubSettings {
        links: false,
        ..hub.settings(cache.path())
    };
    open("org/tiny", &settings).unwrap();
    let path = cache
        .path()
        .join("models--org--tiny/snapshots")
        .join(COMMIT)
        .join("config.json");
    assert!(path.symlink_metadata().unwrap().is_file());
    hub.requests();
    open("org/tiny", &settings).unwrap();
    assert_eq!(hub.paths().len(), 1);
}

#[test]
fn an_index_brings_all_of_its_files_unless_one_file_has_them_all() {
    let whole = Content::golden();
    let weights = whole.files["model.safetensors"].clone();
    let names = local().names();
    let map: HashMap<_, _> = names
        .iter()
        .map(|name| (name, "model-1.safetensors"))
        .collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    let split = Content::golden()
        .without("model.safetensors")
        .with("model-1.safetensors", weights)
        .with(INDEX, index);
    let (hub, cache) = (Hub::serve(split), tempfile::tempdir().unwrap());
    assert_eq!(
        open("org/tiny", &hub.settings(cache.path()))
            .unwrap()
            .names(),
        names
    );

    // A stale index left by a conversion: its files are gone, and transformers does not look at it
    // either.
    let stale = Content::golden().with(INDEX, r#"{"weight_map": {"a": "gone.safetensors"}}"#);
    let (hub, cache) = (Hub::serve(stale), tempfile::tempdir().unwrap());
    assert_eq!(
        open("org/tiny", &hub.settings(cache.path()))
            .unwrap()
            .names(),
        names
    );
    assert!(hub.paths().iter().all(|path| !path.contains("index")));
}

#[test]
fn what_stands_beside_the_weights_comes_along_as_from_a_folder() {
    let beside = [
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer.model",
        "LICENSE",
    ];
    let content = beside
        .iter()
        .fold(Content::golden(), |content, name| content.with(name, "{}"));
    let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
    let checkpoint = open("org/tiny", &hub.settings(cache.path())).unwrap();
    let found = crate::files::names_in(checkpoint.folder().unwrap()).unwrap();
    for name in beside {
        assert!(found.contains(&name.to_string()), "{name} of {found:?}");
    }
    assert!(!found.contains(&"README.md".to_string()));
}

#[test]
fn a_gguf_file_is_found_by_name_by_quantisation_or_alone_and_many_ask_for_a_name() {
    let gguf = |names: &[&str]| {
        names.iter().fold(Content::default(), |content, name| {
            content.with(name, "GGUF....")
        })
    };
    let message = |content: Content, name: &str| {
        let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
        let name = name.replace("HUB", &hub.endpoint);
        let error = open(&name, &hub.settings(cache.path())).unwrap_err();
        (error.to_string(), error.hint().unwrap().to_string())
    };
    // The file is not real GGUF, so its error shows that it was opened.
    assert!(
        message(gguf(&["q/a.gguf"]), "org/tiny")
            .0
            .starts_with("`a.gguf` is malformed")
    );
    assert!(
        message(gguf(&["a.gguf", "b.gguf"]), "org/tiny/b.gguf")
            .0
            .starts_with("`b.gguf` is malformed")
    );
    let both = || gguf(&["m-Q4_0.gguf", "m-Q8_0.gguf"]);
    assert!(
        message(both(), "org/tiny:q8_0")
            .0
            .starts_with("`m-Q8_0.gguf` is malformed")
    );
    assert!(
        message(both(), "HUB/org/tiny/blob/main/m-Q4_0.gguf")
            .0
            .starts_with("`m-Q4_0.gguf` is malformed")
    );
    let (many, hint) = message(both(), "org/tiny");
    assert_eq!(
        many,
        "model `org/tiny`: the repository has 2 `.gguf` files, expected one"
    );
    assert!(
        hint.contains("name one, for example `org/tiny/m-Q4_0.gguf`"),
        "{hint}"
    );
    assert!(
        message(both(), "org/tiny/c.gguf")
            .0
            .contains("there is no file `c.gguf`, but 2 `.gguf` files")
    );
    let (none, hint) = message(both(), "org/tiny:Q2_K");
    assert_eq!(
        none,
        "model `org/tiny:Q2_K`: no `.gguf` file of it has `Q2_K` in its name, of 2 files"
    );
    assert!(hint.contains("`m-Q4_0.gguf`, `m-Q8_0.gguf`"), "{hint}");
    assert!(
        message(gguf(&["a.bin"]), "org/tiny")
            .0
            .contains("has neither a `config.json` nor a `.gguf` file")
    );
    let pickled = Content::golden().without("model.safetensors");
    assert!(
        message(pickled, "org/tiny")
            .0
            .contains("has no `model.safetensors` and no index")
    );
}

#[test]
fn a_private_model_needs_the_token_and_says_so() {
    let (hub, cache) = (
        Hub::serve(Content {
            token: Some("hf_right"),
            ..Content::golden()
        }),
        tempfile::tempdir().unwrap(),
    );
    let with = |token: Option<&str>| {
        open(
            "org/tiny",
            &HubSettings {
                token: token.map(str::to_string),
                ..hub.settings(cache.path())
            },
        )
    };
    let without = with(None).unwrap_err();
    assert!(
        without
            .to_string()
            .ends_with("does not let everyone read it, or does not know it (status 401)"),
        "{without}"
    );
    assert!(without.hint().unwrap().contains("HF_TOKEN"));
    let wrong = with(Some("hf_wrong")).unwrap_err();
    assert!(
        wrong
            .to_string()
            .ends_with("refused the token (status 401)"),
        "{wrong}"
    );
    assert!(with(Some("hf_right")).is_ok());
}

#[test]
fn a_wrong_name_revision_or_server_is_a_sentence_with_a_hint() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    for name in ["org/other", "org/tiny@v9"] {
        let error = open(name, &settings).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("knows no such model or revision"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("check the spelling"));
    }
    // An unused port: bound, read, and closed again.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = open(
        "org/tiny",
        &HubSettings {
            endpoint: format!("http://{closed}"),
            ..settings
        },
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("the download from http://{closed} failed")),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("HF_HUB_OFFLINE=1"));
    let page = Hub::serve(Content::default().twisted(|_, _| {
        Some(Reply {
            body: b"<html>sign in".to_vec(),
            ..Reply::status("200 OK")
        })
    }));
    let error = open("org/tiny", &page.settings(cache.path())).unwrap_err();
    assert!(
        error.to_string().contains("is not what a hub says"),
        "{error}"
    );
}

#[test]
fn an_adapter_is_downloaded_by_its_name_and_found_offline() {
    let golden = testing::golden().join("tiny/llama/adapter");
    let read = |name: &str| std::fs::read(golden.join(name)).unwrap();
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    let content = names.iter().fold(Content::default(), |content, name| {
        content.with(name, read(name))
    });
    let content = content
        .with("posterior.safetensors", "p")
        .with("training_args.bin", "t");
    let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    let find = |path: &Path, settings: &HubSettings| {
        fetch_adapter(
            path,
            &["posterior.safetensors", "none.json"],
            settings,
            &mut |_| true,
        )
    };
    let folder = find(Path::new("org/tiny"), &settings).unwrap();
    assert_eq!(
        crate::files::names_in(&folder).unwrap(),
        [names[0], names[1], "posterior.safetensors"]
    );
    assert_eq!(
        std::fs::read(folder.join(names[1])).unwrap(),
        read(names[1])
    );
    let offline = HubSettings {
        offline: true,
        ..settings
    };
    assert_eq!(find(Path::new("org/tiny"), &offline).unwrap(), folder);
    std::fs::remove_file(folder.join(names[1])).unwrap();
    let error = find(Path::new("org/tiny"), &offline).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`adapter_model.safetensors` of revision `main` is not in the cache"),
        "{error}"
    );
    // A local folder takes precedence over the hub.
    assert_eq!(find(&golden, &offline).unwrap(), golden);
    let base = Hub::serve(Content::golden());
    let error = find(Path::new("org/tiny"), &base.settings(cache.path())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("holds no adapter: it has no `adapter_config.json`, but a whole model"),
        "{error}"
    );
    assert!(
        open(
            "org/tiny",
            &hub.settings(tempfile::tempdir().unwrap().path())
        )
        .unwrap_err()
        .to_string()
        .contains("holds an adapter")
    );
}

#[test]
fn adapters_of_several_families_in_folders_of_a_repository_are_downloaded_and_read() {
    let adapter = |family: &str| testing::golden().join("tiny").join(family).join("adapter");
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    let families = ["gemma3", "lfm2", "qwen3_5"];
    let mut content = Content::golden();
    for family in families {
        for name in names {
            let bytes = std::fs::read(adapter(family).join(name)).unwrap();
            content = content.with(&format!("of/{family}/{name}"), bytes);
        }
    }
    let content = content.with("of/gemma3/posterior.safetensors", "p");
    let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
    let online = hub.settings(cache.path());
    let find = |name: &str, settings: &HubSettings| {
        fetch_adapter(
            Path::new(name),
            &["posterior.safetensors"],
            settings,
            &mut |_| true,
        )
    };
    let offline = HubSettings {
        offline: true,
        ..online.clone()
    };
    for family in families {
        let folder = find(&format!("org/tiny/of/{family}"), &online).unwrap();
        assert!(
            folder.ends_with(format!("of/{family}")),
            "{}",
            folder.display()
        );
        let found = find(&format!("org/tiny/of/{family}@main"), &offline);
        assert_eq!(found.unwrap(), folder);
        let config = testing::golden()
            .join("tiny")
            .join(family)
            .join("config.json");
        let config = std::fs::read_to_string(config).unwrap();
        let decoder = DecoderConfig::from_json(&config, family).unwrap();
        let read = |folder: &Path| {
            read_peft(folder, &decoder, &Device::flex())
                .unwrap()
                .adapter
        };
        let (found, expected) = (read(&folder), read(&adapter(family)));
        assert_eq!(
            found.to_matrices().unwrap(),
            expected.to_matrices().unwrap()
        );
    }
    let with_posterior = find("org/tiny/of/gemma3", &online).unwrap();
    assert!(with_posterior.join("posterior.safetensors").exists());
    let error = find("org/tiny/of", &online).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model `org/tiny`: the folder `of` of the repository holds no adapter: it has no `of/adapter_config.json`"
    );
    let hint = error.hint().unwrap().to_string();
    assert!(
        hint.ends_with("`org/tiny/of/gemma3`, `org/tiny/of/lfm2`, `org/tiny/of/qwen3_5`"),
        "{hint}"
    );
    let top = find("org/tiny", &online).unwrap_err();
    assert!(
        top.to_string()
            .ends_with("`adapter_config.json`, but a whole model"),
        "{top}"
    );
}
