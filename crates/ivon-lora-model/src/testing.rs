//! The golden numbers and the real model for tests. Not part of the public interface.

pub mod tiny;

use std::path::{Path, PathBuf};

/// The golden tiny models, `testdata/golden/tiny/FAMILY`: one for each family, and some for a
/// variant of one.
pub const FAMILIES: [&str; 20] = [
    "llama",
    "llama3-rope",
    "mistral",
    "qwen2",
    "qwen3",
    "llama-dynamic",
    "smollm3",
    "granite",
    "granite4",
    "ministral3",
    "phi3",
    "olmo2",
    "olmo3",
    "olmo3-yarn",
    "gemma2",
    "gemma3",
    "gemma4",
    "gemma4-shared",
    "lfm2",
    "qwen3_5",
];

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).to_path_buf()
}

/// The folder of golden numbers: `IVON_LORA_GOLDEN`, else the project's own copy.
pub fn golden() -> PathBuf {
    std::env::var_os("IVON_LORA_GOLDEN")
        .map_or_else(|| workspace().join("testdata/golden"), PathBuf::from)
}

/// A golden JSON file.
///
/// # Panics
/// If it is missing or malformed.
pub fn golden_json(name: &str) -> serde_json::Value {
    let path = golden().join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The golden generator's `normals(seed, n)`: SplitMix64 and Box-Muller, as
/// testdata/golden/generate.py defines them.
pub fn golden_normals(seed: u64, n: usize) -> Vec<f64> {
    let mix = |x: u64| {
        let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let uniform = |i: u64| {
        ((mix(seed.wrapping_mul(1 << 40).wrapping_add(i)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let normal = |i: u64| {
        (-2.0 * uniform(2 * i).ln()).sqrt()
            * (2.0 * std::f64::consts::PI * uniform(2 * i + 1)).cos()
    };
    (0..n as u64).map(normal).collect()
}

/// The real model's GGUF file: `IVON_LORA_MODEL`, else the one that `scripts/fetch-smollm2`
/// fetches.
///
/// If it is absent, prints that the test is skipped and returns `None`.
///
/// # Panics
/// If it is absent and `IVON_LORA_REQUIRE_MODEL` is set, so that a skipped test cannot pass
/// unnoticed.
pub fn real_model(test: &str) -> Option<PathBuf> {
    let found = match std::env::var_os("IVON_LORA_MODEL") {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.exists()),
        None => first_gguf(&workspace().join("models/smollm2-135m-instruct")),
    };
    if found.is_none() {
        let message = format!(
            "{test}: real model not found, run scripts/fetch-smollm2 or set IVON_LORA_MODEL"
        );
        assert!(
            std::env::var_os("IVON_LORA_REQUIRE_MODEL").is_none(),
            "{message}"
        );
        // Not through `eprintln!`, which the test harness captures: a skip should be visible.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED {message}\n").as_bytes(),
        );
    }
    found
}

fn first_gguf(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "gguf")
    });
    files.sort();
    files.into_iter().next()
}
