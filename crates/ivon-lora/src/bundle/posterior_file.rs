//! `posterior.safetensors` beside an adapter: what draws need besides the mean, in f32. Its metadata
//! hold a tag for the kind of posterior (`content`), and the hash of the mean that it belongs to.

use std::path::Path;

use burn::tensor::Device;
use sha2::{Digest, Sha256};

use super::BundleError;
use crate::files::read_bytes;
use crate::lora::{ADAPTER_FILE, Adapter, read_matrices, write_matrices};
use crate::model::DecoderConfig;
use crate::posterior::{PointEstimate, Posterior, Stored, restore};

/// The file's name in the adapter folder.
pub const POSTERIOR_FILE: &str = "posterior.safetensors";
/// The version of the layout that this program writes, and the newest that it reads.
const POSTERIOR_FORMAT: u32 = 1;
const LARGEST_MEAN: u64 = 16 << 30;

/// Reads the file of an adapter folder; none if there is none, and the adapter is a point estimate.
///
/// # Errors
/// If the file is malformed, of a newer version, or belongs to another mean (by its hash).
pub fn read_stored(folder: &Path) -> Result<Option<Stored>, BundleError> {
    let path = folder.join(POSTERIOR_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let (matrices, facts) = read_matrices(&path)?;
    let mut stored = Stored {
        content: String::new(),
        facts,
        matrices,
        path,
    };
    check_mean_and_version(&stored, folder)?;
    stored.content = stored.text("content")?.into();
    for key in ["format_version", "format", "content", "mean_sha256"] {
        stored.facts.remove(key);
    }
    Ok(Some(stored))
}

fn check_mean_and_version(stored: &Stored, folder: &Path) -> Result<(), BundleError> {
    let version: u32 = stored.number("format_version", "a whole number")?;
    if version > POSTERIOR_FORMAT {
        return Err(stored
            .wrong("format_version", format!("at most {POSTERIOR_FORMAT}"))
            .into());
    }
    let expected = stored.text("mean_sha256")?.to_string();
    let found = hash_of(&folder.join(ADAPTER_FILE))?;
    if expected != found {
        return Err(BundleError::OtherMean {
            path: stored.path.clone(),
            expected,
            found,
        });
    }
    Ok(())
}

/// Writes the file beside the adapter that is already in `folder`.
///
/// # Errors
/// If the adapter's file is missing, a number is not finite, or the file cannot be written.
pub fn write_stored(folder: &Path, stored: &Stored) -> Result<(), BundleError> {
    let mut metadata = stored.facts.clone();
    metadata.insert("format_version".into(), POSTERIOR_FORMAT.to_string());
    metadata.insert("content".into(), stored.content.clone());
    metadata.insert("mean_sha256".into(), hash_of(&folder.join(ADAPTER_FILE))?);
    Ok(write_matrices(
        &folder.join(POSTERIOR_FILE),
        &stored.matrices,
        metadata,
    )?)
}

/// Writes the file of a posterior whose mean is already in `folder`, and returns the names of written
/// files: none for a point estimate. `method` made the posterior, which is best used at `scale` (τ).
///
/// # Errors
/// As [`write_stored`].
pub fn write_posterior(
    folder: &Path,
    posterior: &dyn Posterior,
    method: &str,
    scale: f64,
) -> Result<Vec<String>, BundleError> {
    let Some(stored) = posterior.stored()? else {
        return Ok(Vec::new());
    };
    let stored = stored.with("method", method).with("scale", scale);
    write_stored(folder, &stored)?;
    Ok(vec![POSTERIOR_FILE.into()])
}

/// SHA-256 of a file, 64 lower-case hexadecimal digits.
fn hash_of(path: &Path) -> Result<String, BundleError> {
    Ok(in_hexadecimal(&Sha256::digest(read_bytes(
        path,
        LARGEST_MEAN,
    )?)))
}

/// SHA-256 of what an adapter folder predicts with, 64 lower-case hexadecimal digits: of the mean, and
/// of the posterior's kind, facts and matrices. τ is not part of it, which is a choice of each prediction.
///
/// # Errors
/// If a file cannot be read, or the posterior's belongs to another mean.
pub fn weights_hash(folder: &Path) -> Result<String, BundleError> {
    let mut digest = Sha256::new();
    digest.update(read_bytes(&folder.join(ADAPTER_FILE), LARGEST_MEAN)?);
    if let Some(stored) = read_stored(folder)? {
        digest.update(&stored.content);
        for (key, value) in stored.facts.iter().filter(|(key, _)| *key != "scale") {
            digest.update(format!("{key}={value};"));
        }
        for (name, matrix) in &stored.matrices {
            digest.update(name);
            let sides = matrix.shape.iter();
            sides.for_each(|side| digest.update((*side as u64).to_le_bytes()));
            matrix
                .values
                .iter()
                .for_each(|value| digest.update(value.to_le_bytes()));
        }
    }
    Ok(in_hexadecimal(&digest.finalize()))
}

fn in_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the posterior of an adapter folder around its mean; a point estimate if it has none.
///
/// # Errors
/// If the posterior's file is malformed, not of a built-in kind, or belongs to another adapter.
pub fn load_posterior(
    folder: &Path,
    mean: Adapter,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<Box<dyn Posterior>, BundleError> {
    posterior_of(read_stored(folder)?, mean, decoder, device)
}

/// The posterior with these contents; a point estimate if there are none.
pub(super) fn posterior_of(
    stored: Option<Stored>,
    mean: Adapter,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<Box<dyn Posterior>, BundleError> {
    match stored {
        None => Ok(Box::new(PointEstimate { adapter: mean })),
        Some(stored) => Ok(restore(&stored, mean, decoder, device)?),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lora::{HostMatrix, read_peft, write_peft};
    use crate::posterior::Gaussian;
    use crate::testing::tiny::{adapter, config, decoder};

    /// A folder with a mean and its variance, mean² · 0.01.
    fn written() -> (tempfile::TempDir, Gaussian) {
        let folder = tempfile::tempdir().unwrap();
        let mean = adapter(2, "q_proj");
        let variance = mean.clone_with(|_, tensor| tensor.clone() * tensor * 0.01);
        write_peft(folder.path(), &mean, &config("q_proj"), None).unwrap();
        let gaussian = Gaussian::new(mean, variance)
            .unwrap()
            .with_fact("effective_sample_size", 1e6);
        assert_eq!(
            write_posterior(folder.path(), &gaussian, "ivon", 0.3).unwrap(),
            [POSTERIOR_FILE]
        );
        (folder, gaussian)
    }

    fn read(folder: &Path) -> Result<Box<dyn Posterior>, BundleError> {
        let mean = read_peft(folder, &decoder(2), &Device::flex())?.adapter;
        load_posterior(folder, mean, &decoder(2), &Device::flex())
    }

    /// Rewrites the file with its metadata and tensors changed.
    fn edit(
        folder: &Path,
        change: impl FnOnce(&mut BTreeMap<String, HostMatrix>, &mut BTreeMap<String, String>),
    ) {
        let path = folder.join(POSTERIOR_FILE);
        let (mut matrices, mut metadata) = read_matrices(&path).unwrap();
        change(&mut matrices, &mut metadata);
        write_matrices(&path, &matrices, metadata).unwrap();
    }

    #[test]
    fn the_hash_of_the_weights_is_of_every_number_of_mean_and_posterior_and_not_of_tau() {
        let (folder, gaussian) = written();
        let hash = || weights_hash(folder.path()).unwrap();
        let first = hash();
        write_posterior(folder.path(), &gaussian, "ivon", 0.5).unwrap();
        assert_eq!(hash(), first);
        edit(folder.path(), |matrices, _| {
            let matrix = matrices.values_mut().next().unwrap();
            matrix.values[0] *= 2.0;
        });
        let other_variance = hash();
        assert_ne!(other_variance, first);
        std::fs::remove_file(folder.path().join(POSTERIOR_FILE)).unwrap();
        let mean_alone = hash();
        assert!(mean_alone != first && mean_alone != other_variance);
        let mean = adapter(3, "q_proj");
        write_peft(folder.path(), &mean, &config("q_proj"), None).unwrap();
        assert_ne!(hash(), mean_alone);
    }

    #[test]
    fn a_posterior_reads_back_bit_for_bit_and_draws_the_same() {
        let (folder, before) = written();
        let after = read(folder.path()).unwrap();
        assert_eq!(
            after.variance().unwrap().flatten().unwrap(),
            before.variance().unwrap().flatten().unwrap()
        );
        let numbers = |posterior: &dyn Posterior| {
            posterior
                .draw(4, 2, 0.3)
                .unwrap()
                .adapter
                .flatten()
                .unwrap()
        };
        assert_eq!(numbers(&before), numbers(after.as_ref()));
        let stored = read_stored(folder.path()).unwrap().unwrap();
        assert_eq!(
            (
                stored.text("method").unwrap(),
                stored.number::<f64>("scale", "a number").unwrap()
            ),
            ("ivon", 0.3)
        );
        assert_eq!(
            stored
                .number::<f64>("effective_sample_size", "a number")
                .unwrap(),
            1e6
        );
    }

    #[test]
    fn the_same_posterior_gives_the_same_bytes() {
        let bytes = || std::fs::read(written().0.path().join(POSTERIOR_FILE)).unwrap();
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn a_folder_without_the_file_is_a_point_estimate() {
        let (folder, _) = written();
        std::fs::remove_file(folder.path().join(POSTERIOR_FILE)).unwrap();
        assert!(read(folder.path()).unwrap().variance().is_none());
    }

    #[test]
    fn another_mean_is_refused_by_its_hash() {
        let (folder, _) = written();
        let other = adapter(2, "q_proj").clone_with(|_, tensor| tensor + 1.0);
        write_peft(folder.path(), &other, &config("q_proj"), None).unwrap();
        let error = read(folder.path()).err().unwrap();
        assert!(
            matches!(error, BundleError::OtherMean { .. })
                && error.hint().unwrap().contains("one run")
        );
    }

    #[test]
    fn what_differs_is_named() {
        let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
        let refused =
            |change: fn(&mut BTreeMap<String, HostMatrix>, &mut BTreeMap<String, String>)| {
                let (folder, _) = written();
                edit(folder.path(), change);
                read(folder.path()).err().unwrap().to_string()
            };
        let short = |tensors: &mut BTreeMap<String, HostMatrix>,
                     _: &mut BTreeMap<String, String>| {
            tensors.retain(|name, _| !name.contains("layers.1."));
        };
        assert!(refused(short).contains(
            "the variance has nothing more, but the mean has `layers.1.self_attn.q_proj.lora_A`"
        ));
        assert!(
            refused(|tensors, _| drop(tensors.pop_last()))
                .starts_with(&format!("tensor `{name}` is missing from"))
        );
        assert!(
            refused(|tensors, _| tensors
                .values_mut()
                .for_each(|matrix| matrix.values[0] = -1.0))
            .contains("holds -1, expected")
        );
        assert!(
            refused(|_, metadata| drop(metadata.remove("content")))
                .ends_with("has nothing as `content`, expected a text")
        );
        let newer =
            refused(|_, metadata| drop(metadata.insert("format_version".into(), "2".into())));
        assert!(
            newer.ends_with("has `2` as `format_version`, expected at most 1"),
            "{newer}"
        );
        let word =
            refused(|_, metadata| drop(metadata.insert("format_version".into(), "big".into())));
        assert!(
            word.ends_with("has `big` as `format_version`, expected a whole number"),
            "{word}"
        );
        let other =
            refused(|_, metadata| drop(metadata.insert("content".into(), "prophecy".into())));
        assert!(
            other.contains("has `prophecy` as `content`, expected one of `variance`, "),
            "{other}"
        );
    }
}
