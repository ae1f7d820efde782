//! An adapter → a folder of mlx-lm: `adapters.safetensors` and `adapter_config.json`.
//!
//! mlx-lm computes x W + scale · (x A) B with A `[in, r]` and B `[r, out]`, one rank and one scale for
//! all layers, on the layers counted from the last one. Where the adapter's own factors differ, B has
//! the ratio to the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::peft::CONFIG_FILE;
use super::portable::portable_pairs;
use super::store::write_matrices;
use super::{Adapter, LoraError};
use crate::files;

/// The file with A and B.
pub(super) const MLX_FILE: &str = "adapters.safetensors";
const FORMAT: &str = "mlx-lm";

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

#[cfg(test)]
mod tests {
    use super::super::store::read_matrices;
    use super::*;
    use crate::testing::tiny::adapter;

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
}
