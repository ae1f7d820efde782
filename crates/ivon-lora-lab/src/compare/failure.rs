//! Why a run failed when it was last tried, kept for those that wait for it and for the table.

use std::path::Path;

use serde::{Deserialize, Serialize};

use ivon_lora::files::{self, FileError};
use ivon_lora::run::RunConfig;

const FILE: &str = "failed.json";
const LARGEST: u64 = 1 << 20;

/// Why a run failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    /// The settings that it failed with, as TOML: with others it may not.
    settings: String,
    reason: String,
}

/// Keeps the reason in the run's folder of claims.
///
/// # Errors
/// If it cannot be written.
pub(super) fn keep(folder: &Path, config: &RunConfig, reason: &str) -> Result<(), FileError> {
    let failure = Failure {
        settings: settings(config),
        reason: reason.into(),
    };
    files::create_folder(folder)?;
    files::write_json(&folder.join(FILE), &failure)
}

/// Why the run with these settings failed; none if it has not.
pub(super) fn read(folder: &Path, config: &RunConfig) -> Option<String> {
    let text = files::read_text(&folder.join(FILE), LARGEST).ok()?;
    let failure: Failure = serde_json::from_str(&text).ok()?;
    (failure.settings == settings(config)).then_some(failure.reason)
}

/// Forgets it: the run is finished, or tried again.
pub(super) fn forget(folder: &Path) {
    let _ = std::fs::remove_file(folder.join(FILE));
}

fn settings(config: &RunConfig) -> String {
    toml::to_string(config).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_of_its_settings() {
        let place = tempfile::tempdir().unwrap();
        let config = RunConfig::default();
        assert_eq!(read(place.path(), &config), None);
        keep(place.path(), &config, "no memory").unwrap();
        assert_eq!(read(place.path(), &config).unwrap(), "no memory");
        let other = RunConfig {
            seed: config.seed + 1,
            ..config.clone()
        };
        assert_eq!(read(place.path(), &other), None);
        forget(place.path());
        assert_eq!(read(place.path(), &config), None);
    }
}
