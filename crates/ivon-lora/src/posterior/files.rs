//! `posterior.safetensors` beside an adapter: the variance in f32 under PEFT's names, so that a reader needs no formula, and in
//! its metadata what made it and the hash of the mean that it belongs to.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use burn::tensor::Device;
use sha2::{Digest, Sha256};

use super::{Gaussian, PosteriorError};
use crate::files::read_bytes;
use crate::lora::{ADAPTER_FILE, Adapter, by_path, in_file, peft_name, read_matrices, write_matrices};
use crate::model::DecoderConfig;

/// The file's name in the adapter folder.
pub const POSTERIOR_FILE: &str = "posterior.safetensors";
/// The version of the layout that this program writes, and the newest that it reads.
pub const POSTERIOR_FORMAT: u32 = 1;
const LARGEST_MEAN: u64 = 16 << 30;

/// What made a posterior.
#[derive(Clone, Debug, PartialEq)]
pub struct PosteriorInfo {
    /// The method that learned it, such as `ivon`.
    pub method: String,
    /// ess: variance = 1 / (ess · (h + δ)). NaN for a method without one.
    pub effective_sample_size: f64,
    /// δ.
    pub weight_decay: f64,
    /// τ, by which the variance shall be multiplied in prediction (chosen on held-out data).
    pub scale: f64,
}

/// Writes the variance beside the adapter that was written to `folder` before.
///
/// # Errors
/// If the adapter's file is not there, a number is not finite, or the file cannot be written.
pub fn write_posterior(folder: &Path, variance: &Adapter, info: &PosteriorInfo) -> Result<(), PosteriorError> {
    let matrices = variance.to_matrices()?.into_iter().map(|(path, matrix)| (peft_name(&path), matrix)).collect();
    let metadata = BTreeMap::from([
        ("format_version".to_string(), POSTERIOR_FORMAT.to_string()),
        ("content".into(), "variance".into()),
        ("method".into(), info.method.clone()),
        ("effective_sample_size".into(), info.effective_sample_size.to_string()),
        ("weight_decay".into(), info.weight_decay.to_string()),
        ("scale".into(), info.scale.to_string()),
        ("mean_sha256".into(), hash_of(&folder.join(ADAPTER_FILE))?),
    ]);
    Ok(write_matrices(&folder.join(POSTERIOR_FILE), &matrices, metadata)?)
}

/// Reads the posterior around `mean`, the adapter that was read from the same folder.
///
/// # Errors
/// If the file is missing or malformed, was learned around another mean (by its hash), or differs from the mean in a name or
/// a shape.
pub fn read_posterior(
    folder: &Path,
    mean: &Adapter,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<(Gaussian, PosteriorInfo), PosteriorError> {
    let path = folder.join(POSTERIOR_FILE);
    let (matrices, metadata) = read_matrices(&path)?;
    let metadata = Metadata { path: &path, map: metadata };
    let version: u32 = metadata.number("format_version", "a whole number")?;
    if version > POSTERIOR_FORMAT {
        return Err(metadata.wrong("format_version", format!("at most {POSTERIOR_FORMAT}")));
    }
    let info = PosteriorInfo {
        method: metadata.text("method")?.into(),
        effective_sample_size: metadata.number("effective_sample_size", "a number")?,
        weight_decay: metadata.number("weight_decay", "a number")?,
        scale: metadata.number("scale", "a number")?,
    };
    super::gaussian::check_scale(info.scale)?;
    let (expected, found) = (metadata.text("mean_sha256")?.to_string(), hash_of(&folder.join(ADAPTER_FILE))?);
    if expected != found {
        return Err(PosteriorError::OtherMean { path, expected, found });
    }
    let variance = Adapter::from_matrices(by_path(&path, matrices)?, decoder, device).map_err(|error| in_file(error, &path))?;
    Ok((Gaussian::new(mean.clone(), variance)?, info))
}

/// SHA-256 of a file, 64 lower-case hexadecimal digits.
fn hash_of(path: &Path) -> Result<String, PosteriorError> {
    let digest = Sha256::digest(read_bytes(path, LARGEST_MEAN)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The metadata of the file, with what an error needs.
struct Metadata<'a> {
    path: &'a Path,
    map: BTreeMap<String, String>,
}

impl Metadata<'_> {
    fn wrong(&self, key: &'static str, expected: String) -> PosteriorError {
        let found = self.map.get(key).map_or_else(|| "nothing".into(), |text| format!("`{text}`"));
        PosteriorError::Metadata { path: self.path.into(), key, expected, found }
    }

    fn text(&self, key: &'static str) -> Result<&str, PosteriorError> {
        self.map.get(key).map(String::as_str).ok_or_else(|| self.wrong(key, "a text".into()))
    }

    fn number<T: FromStr>(&self, key: &'static str, expected: &'static str) -> Result<T, PosteriorError> {
        self.text(key)?.parse().map_err(|_| self.wrong(key, expected.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::tiny::{adapter, config, decoder};
    use crate::lora::{read_peft, write_peft};
    use crate::posterior::Posterior;

    fn info() -> PosteriorInfo {
        PosteriorInfo { method: "ivon".into(), effective_sample_size: 1e6, weight_decay: 0.1, scale: 0.3 }
    }

    /// A folder with a mean and its variance, mean² · 0.01.
    fn written() -> (tempfile::TempDir, Adapter) {
        let folder = tempfile::tempdir().unwrap();
        let mean = adapter(2, "q_proj");
        let variance = mean.clone_with(|_, tensor| tensor.clone() * tensor * 0.01);
        write_peft(folder.path(), &mean, &config("q_proj"), None).unwrap();
        write_posterior(folder.path(), &variance, &info()).unwrap();
        (folder, variance)
    }

    fn read(folder: &Path) -> Result<(Gaussian, PosteriorInfo), PosteriorError> {
        let mean = read_peft(folder, &decoder(2), &Device::flex())?.adapter;
        read_posterior(folder, &mean, &decoder(2), &Device::flex())
    }

    /// Rewrites the file with its metadata and tensors changed.
    fn edit(folder: &Path, change: impl FnOnce(&mut BTreeMap<String, crate::lora::Matrix>, &mut BTreeMap<String, String>)) {
        let path = folder.join(POSTERIOR_FILE);
        let (mut matrices, mut metadata) = read_matrices(&path).unwrap();
        change(&mut matrices, &mut metadata);
        write_matrices(&path, &matrices, metadata).unwrap();
    }

    #[test]
    fn a_posterior_reads_back_bit_for_bit_and_draws_the_same() {
        let (folder, variance) = written();
        let (gaussian, found) = read(folder.path()).unwrap();
        assert_eq!(found, info());
        assert_eq!(gaussian.variance().unwrap().flatten().unwrap(), variance.flatten().unwrap());
        let before = Gaussian::new(adapter(2, "q_proj"), variance).unwrap();
        let numbers = |posterior: &Gaussian| posterior.draw(4, 2, 0.3).unwrap().adapter.flatten().unwrap();
        assert_eq!(numbers(&before), numbers(&gaussian));
    }

    #[test]
    fn the_same_posterior_gives_the_same_bytes() {
        let bytes = || std::fs::read(written().0.path().join(POSTERIOR_FILE)).unwrap();
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn another_mean_is_refused_by_its_hash() {
        let (folder, _) = written();
        let other = adapter(2, "q_proj").clone_with(|_, tensor| tensor + 1.0);
        write_peft(folder.path(), &other, &config("q_proj"), None).unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(matches!(error, PosteriorError::OtherMean { .. }) && error.hint().unwrap().contains("one run"));
    }

    #[test]
    fn what_differs_is_named() {
        let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
        let refused = |change: fn(&mut BTreeMap<String, crate::lora::Matrix>, &mut BTreeMap<String, String>)| {
            let (folder, _) = written();
            edit(folder.path(), change);
            read(folder.path()).unwrap_err().to_string()
        };
        let short = |tensors: &mut BTreeMap<String, crate::lora::Matrix>, _: &mut BTreeMap<String, String>| {
            tensors.retain(|name, _| !name.contains("layers.1."));
        };
        assert!(refused(short).contains("the variance has nothing more, but the mean has `layers.1.self_attn.q_proj.lora_A`"));
        assert!(refused(|tensors, _| drop(tensors.pop_last())).starts_with(&format!("tensor `{name}` is missing from")));
        assert!(refused(|tensors, _| tensors.values_mut().for_each(|matrix| matrix.values[0] = -1.0)).contains("holds -1, expected"));
        assert!(refused(|_, metadata| drop(metadata.remove("method"))).ends_with("has nothing as `method`, expected a text"));
        let newer = refused(|_, metadata| drop(metadata.insert("format_version".into(), "2".into())));
        assert!(newer.ends_with("has `2` as `format_version`, expected at most 1"), "{newer}");
        let word = refused(|_, metadata| drop(metadata.insert("scale".into(), "big".into())));
        assert!(word.ends_with("has `big` as `scale`, expected a number"), "{word}");
        assert!(refused(|_, metadata| drop(metadata.insert("scale".into(), "-1".into()))).contains("`scale` must be"));
    }
}
