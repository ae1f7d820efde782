//! Adapters of every family as they are written: they read back with the same logits. If
//! `IVON_LORA_PEFT_OUT` names a folder, they stay there, with logits beside them, for
//! `scripts/check_peft.py`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::lora::write_peft;
use crate::testing::FAMILIES;

/// Options of an adapter, and the name of its folder.
fn cases() -> [(&'static str, LoraConfig); 3] {
    let all = LoraConfig {
        target_modules: TargetModules::Pattern("all-linear".into()),
        rank: 3,
        ..LoraConfig::default()
    };
    let by_layer = LoraConfig {
        rank_pattern: [("layers.0.*".into(), 2)].into(),
        alpha_pattern: [("layers.1.*".into(), 5.0)].into(),
        use_rslora: true,
        ..all.clone()
    };
    let dora = LoraConfig {
        use_dora: true,
        ..all.clone()
    };
    [("all-linear", all), ("by-layer", by_layer), ("dora", dora)]
}

/// The adapter of a case, with nonzero B.
fn made(network: &Network, config: &LoraConfig) -> Adapter {
    let device = network.device();
    let adapter = waves(&Adapter::new(config, network.config(), 5, device).unwrap());
    if !config.use_dora {
        return adapter;
    }
    // Magnitudes of their own beside those with which DoRA starts.
    let magnitudes = |path| {
        let lengths = network.row_lengths(path).into_iter().enumerate();
        let changed = lengths.map(|(row, length)| length * (1.0 + 0.2 * (row as f32).sin()));
        changed.collect()
    };
    adapter.with_magnitudes(magnitudes, device)
}

fn check(family: &str, out: &Path) {
    let [network, ..] = networks(family);
    let expected = stated(family, "expected");
    let batch = batch(&expected);
    for (name, config) in cases() {
        let folder = out.join(family).join(name);
        let adapter = made(&network, &config);
        let found = logits(&network, &batch, &adapter);
        write_peft(&folder, &adapter, &config, Some(family)).unwrap();
        let again = read_peft(&folder, network.config(), network.device()).unwrap();
        assert_eq!(
            logits(&network, &batch, &again.adapter),
            found,
            "{family} {name}"
        );
        let beside = json!({ "sequences": expected["sequences"], "logits": found });
        std::fs::write(folder.join("logits.json"), beside.to_string()).unwrap();
    }
}

#[test]
fn adapters_of_every_family_read_back_with_the_same_logits() {
    let kept = tempfile::tempdir().unwrap();
    let out = std::env::var_os("IVON_LORA_PEFT_OUT");
    let out = out.map_or_else(|| kept.path().into(), PathBuf::from);
    FAMILIES.iter().for_each(|family| check(family, &out));
}
