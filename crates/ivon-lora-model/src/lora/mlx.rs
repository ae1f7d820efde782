//! An adapter ↔ a folder of mlx-lm: `adapters.safetensors` and `adapter_config.json`.
//!
//! mlx-lm computes x W + scale · (x A) B with A `[in, r]` and B `[r, out]`, one rank and one scale for
//! all layers, on the layers counted from the last one. Where the adapter's own factors differ, B has
//! the ratio to the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::json;

use super::peft::CONFIG_FILE;
use super::portable::{PortablePair, adapter_of_pairs, portable_pairs};
use super::store::{read_matrices, write_matrices};
use super::{Adapter, LoraError, PeftAdapter};
use crate::files;
use crate::model::DecoderConfig;

/// The file with A and B.
pub(super) const MLX_FILE: &str = "adapters.safetensors";
const FORMAT: &str = "mlx-lm";
const LARGEST_CONFIG: u64 = 1 << 20;

/// Writes an adapter into a folder, which is created if necessary.
///
/// # Errors
/// [`LoraError::NotPortable`] if the adapter has more than A and B, or ranks that differ; if a file
/// cannot be written.
pub fn write_mlx_adapter(folder: &Path, adapter: &Adapter) -> Result<(), LoraError> {
    let refused = |what| LoraError::NotPortable {
        format: FORMAT,
        what,
    };
    let pairs = portable_pairs(adapter, FORMAT)?;
    let (rank, scale) = (pairs[0].a.shape[0], pairs[0].scale);
    if pairs.iter().any(|pair| pair.a.shape[0] != rank) {
        return Err(refused("ranks that differ"));
    }
    if scale == 0.0 {
        return Err(refused("a factor of 0"));
    }
    let first = pairs.iter().map(|pair| pair.path.first_layer()).min();
    let layers = adapter.layers() - first.unwrap_or(0);
    let keys: BTreeSet<&str> = pairs.iter().map(|pair| pair.path.name).collect();
    let mut matrices = BTreeMap::new();
    for pair in pairs {
        let path = pair.path;
        matrices.insert(path.tensor("lora_a"), pair.a.transposed());
        let b = pair.b.times(pair.scale / scale).transposed();
        matrices.insert(path.tensor("lora_b"), b);
    }
    let config = json!({
        "fine_tune_type": "lora",
        "num_layers": layers,
        "lora_parameters": { "rank": rank, "scale": scale, "dropout": 0.0, "keys": keys },
    });
    files::create_folder(folder)?;
    write_matrices(&folder.join(MLX_FILE), &matrices, BTreeMap::new())?;
    Ok(files::write_json(&folder.join(CONFIG_FILE), &config)?)
}

/// What is read of mlx-lm's `adapter_config.json`.
#[derive(Deserialize)]
struct MlxConfig {
    fine_tune_type: Option<String>,
    model: Option<String>,
    lora_parameters: MlxParameters,
}

#[derive(Deserialize)]
struct MlxParameters {
    scale: f64,
}

/// Whether a folder is one of mlx-lm.
pub fn is_mlx_folder(folder: &Path) -> bool {
    folder.join(MLX_FILE).is_file() && folder.join(CONFIG_FILE).is_file()
}

fn read_config(folder: &Path) -> Result<MlxConfig, LoraError> {
    let path = folder.join(CONFIG_FILE);
    let malformed = |reason: String| LoraError::Malformed {
        path: path.clone(),
        expected: "the options of an adapter of mlx-lm",
        reason,
    };
    let text = files::read_text(&path, LARGEST_CONFIG)?;
    let config: MlxConfig =
        serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let kind = config.fine_tune_type.as_deref().unwrap_or("lora");
    if kind != "lora" {
        let reason = format!("`fine_tune_type` is `{kind}`, expected `lora`");
        return Err(malformed(reason));
    }
    match config.lora_parameters.scale.is_finite() {
        true => Ok(config),
        false => Err(malformed("`scale` is not finite".into())),
    }
}

/// The base that a folder of mlx-lm names.
///
/// # Errors
/// If its configuration is malformed.
pub fn mlx_base(folder: &Path) -> Result<Option<String>, LoraError> {
    Ok(read_config(folder)?.model)
}

/// Reads a folder of mlx-lm for a base of this shape.
///
/// # Errors
/// If a file is malformed, it adapts what is no linear layer of this base, or a matrix does not fit.
pub fn read_mlx_adapter(
    folder: &Path,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<PeftAdapter, LoraError> {
    let config = read_config(folder)?;
    let file = folder.join(MLX_FILE);
    let (mut matrices, _) = read_matrices(&file)?;
    let mut pairs = Vec::new();
    for (path, _) in decoder.linears() {
        let Some(a) = matrices.remove(&path.tensor("lora_a")) else {
            continue;
        };
        let name = path.tensor("lora_b");
        let missing = || LoraError::MissingTensor {
            path: file.clone(),
            name: name.clone(),
        };
        pairs.push(PortablePair {
            path,
            a: a.transposed(),
            b: matrices.remove(&name).ok_or_else(missing)?.transposed(),
            scale: config.lora_parameters.scale,
        });
    }
    match matrices.into_keys().next() {
        Some(name) => Err(LoraError::UnknownTensor {
            path: file,
            name,
            reason: "this base has no such linear layer".into(),
        }),
        None if pairs.is_empty() => Err(LoraError::Malformed {
            path: file,
            expected: "the matrices of an adapter of mlx-lm",
            reason: "it has no tensor".into(),
        }),
        None => Ok(PeftAdapter {
            base_model_name_or_path: config.model,
            ..adapter_of_pairs(pairs, &file, decoder, device)?
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::{adapter, decoder};

    #[test]
    fn a_and_b_are_transposed_under_the_paths_of_the_base() {
        let adapter = adapter(4, "q_proj");
        let folder = tempfile::tempdir().unwrap();
        write_mlx_adapter(folder.path(), &adapter).unwrap();
        let (matrices, _) = read_matrices(&folder.path().join(MLX_FILE)).unwrap();
        let pairs = portable_pairs(&adapter, FORMAT).unwrap();
        for pair in &pairs {
            let of = |part: &str| &matrices[&pair.path.tensor(part)];
            assert_eq!(*of("lora_a"), pair.a.transposed());
            assert_eq!(*of("lora_b"), pair.b.transposed());
        }
        let text = std::fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["num_layers"], json!(adapter.layers()));
        assert_eq!(
            config["lora_parameters"]["keys"],
            json!(["self_attn.q_proj"])
        );
        assert_eq!(config["lora_parameters"]["scale"], json!(pairs[0].scale));
    }

    #[test]
    fn what_was_written_is_read_again_and_what_is_otherwise_is_refused() {
        let device = Device::flex();
        let adapter = adapter(4, "o_proj").with_scaling(3.0);
        let folder = tempfile::tempdir().unwrap();
        write_mlx_adapter(folder.path(), &adapter).unwrap();
        assert!(is_mlx_folder(folder.path()));
        let read = |decoder: &DecoderConfig| read_mlx_adapter(folder.path(), decoder, &device);
        let found = portable_pairs(&read(&decoder(4)).unwrap().adapter, FORMAT).unwrap();
        let own = portable_pairs(&adapter, FORMAT).unwrap();
        assert_eq!(own.len(), found.len());
        for (own, found) in own.iter().zip(&found) {
            assert_eq!((own.path, own.scale), (found.path, found.scale));
            assert_eq!((&own.a, &own.b), (&found.a, &found.b));
        }
        let mut other = decoder(4);
        other.layers.pop();
        other.num_hidden_layers -= 1;
        let error = read(&other).unwrap_err().to_string();
        assert!(
            error.ends_with("this base has no such linear layer"),
            "{error}"
        );
        let config = folder.path().join(CONFIG_FILE);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("\"lora\"", "\"dora\"")).unwrap();
        let error = read(&decoder(4)).unwrap_err().to_string();
        assert!(
            error.ends_with("`fine_tune_type` is `dora`, expected `lora`"),
            "{error}"
        );
    }
}
