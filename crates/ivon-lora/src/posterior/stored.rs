//! `posterior.safetensors` beside an adapter: what draws are made from besides the mean, in f32. A
//! tag in its metadata (`content`) says which kind of posterior it holds; the hash of the mean that
//! it belongs to stands there, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use burn::tensor::Device;
use sha2::{Digest, Sha256};

use super::{Posterior, PosteriorError};
use crate::files::read_bytes;
use crate::lora::{
    ADAPTER_FILE, Adapter, Matrix, by_path, in_file, peft_name, read_matrices, write_matrices,
};
use crate::model::DecoderConfig;

/// The file's name in the adapter folder.
pub const POSTERIOR_FILE: &str = "posterior.safetensors";
/// The version of the layout that this program writes, and the newest that it reads.
pub const POSTERIOR_FORMAT: u32 = 1;
const LARGEST_MEAN: u64 = 16 << 30;

/// What a posterior is beside its mean, as its file has it: a tag, facts and matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The kind of posterior, such as `variance`: what reads the rest goes by it.
    pub content: String,
    /// Texts by key; numbers are written so that they read back to the bit.
    pub facts: BTreeMap<String, String>,
    /// Matrices by name. Those of an adapter's shape have PEFT's names behind a prefix, see
    /// [`with_adapter`](Self::with_adapter).
    pub matrices: BTreeMap<String, Matrix>,
    /// The file that it was read from, for errors; empty before it is written.
    pub path: PathBuf,
}

impl Stored {
    /// A posterior of this kind with nothing in it yet.
    pub fn new(content: &str) -> Self {
        Self {
            content: content.into(),
            ..Self::default()
        }
    }

    /// With a fact more.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    /// With the numbers of an adapter under PEFT's names, each behind `prefix`.
    ///
    /// # Errors
    /// If the device does not give its data back.
    pub fn with_adapter(mut self, prefix: &str, adapter: &Adapter) -> Result<Self, PosteriorError> {
        for (path, matrix) in adapter.to_matrices()? {
            self.matrices
                .insert(format!("{prefix}{}", peft_name(&path)), matrix);
        }
        Ok(self)
    }

    /// The adapter behind `prefix`; with an empty prefix, all matrices must be its.
    ///
    /// # Errors
    /// If a matrix is missing, has no place in this decoder, or another shape than its place.
    pub fn adapter(
        &self,
        prefix: &str,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Adapter, PosteriorError> {
        let behind = |(name, matrix): (&String, &Matrix)| {
            Some((name.strip_prefix(prefix)?.to_string(), matrix.clone()))
        };
        let matrices = by_path(
            &self.path,
            self.matrices.iter().filter_map(behind).collect(),
        )?;
        Ok(Adapter::from_matrices(matrices, decoder, device)
            .map_err(|error| in_file(error, &self.path))?)
    }

    /// The fact at `key`.
    ///
    /// # Errors
    /// If there is none.
    pub fn text(&self, key: &'static str) -> Result<&str, PosteriorError> {
        self.facts
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| self.wrong(key, "a text".into()))
    }

    /// The fact at `key` as a number.
    ///
    /// # Errors
    /// If there is none, or it is no such number.
    pub fn number<T: FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, PosteriorError> {
        self.text(key)?
            .parse()
            .map_err(|_| self.wrong(key, expected.into()))
    }

    /// The error that says what is at `key` and what was expected there.
    pub fn wrong(&self, key: &'static str, expected: String) -> PosteriorError {
        let found = self
            .facts
            .get(key)
            .map_or_else(|| "nothing".into(), |text| format!("`{text}`"));
        PosteriorError::Metadata {
            path: self.path.clone(),
            key,
            expected,
            found,
        }
    }

    /// Reads the file of an adapter folder; none where there is none: the adapter is a point
    /// estimate then.
    ///
    /// # Errors
    /// If the file is malformed, of a newer version, or was made around another mean (by its hash).
    pub fn read(folder: &Path) -> Result<Option<Self>, PosteriorError> {
        let path = folder.join(POSTERIOR_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let (matrices, facts) = read_matrices(&path)?;
        let mut stored = Self {
            content: String::new(),
            facts,
            matrices,
            path,
        };
        let version: u32 = stored.number("format_version", "a whole number")?;
        if version > POSTERIOR_FORMAT {
            return Err(stored.wrong("format_version", format!("at most {POSTERIOR_FORMAT}")));
        }
        stored.content = stored.text("content")?.into();
        let (expected, found) = (
            stored.text("mean_sha256")?.to_string(),
            hash_of(&folder.join(ADAPTER_FILE))?,
        );
        if expected != found {
            return Err(PosteriorError::OtherMean {
                path: stored.path,
                expected,
                found,
            });
        }
        for key in ["format_version", "format", "content", "mean_sha256"] {
            stored.facts.remove(key);
        }
        Ok(Some(stored))
    }

    /// Writes the file beside the adapter that was written to `folder` before.
    ///
    /// # Errors
    /// If the adapter's file is not there, a number is not finite, or the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), PosteriorError> {
        let mut metadata = self.facts.clone();
        metadata.insert("format_version".into(), POSTERIOR_FORMAT.to_string());
        metadata.insert("content".into(), self.content.clone());
        metadata.insert("mean_sha256".into(), hash_of(&folder.join(ADAPTER_FILE))?);
        Ok(write_matrices(
            &folder.join(POSTERIOR_FILE),
            &self.matrices,
            metadata,
        )?)
    }
}

/// Writes what a posterior has beside its mean, which was written to `folder` before, and gives the
/// names of the files: none for a point estimate. `method` and `scale` (τ) are what it was made by
/// and is best used at.
///
/// # Errors
/// As [`Stored::write`].
pub fn write_posterior(
    folder: &Path,
    posterior: &dyn Posterior,
    method: &str,
    scale: f64,
) -> Result<Vec<String>, PosteriorError> {
    let Some(stored) = posterior.stored()? else {
        return Ok(Vec::new());
    };
    stored
        .with("method", method)
        .with("scale", scale)
        .write(folder)?;
    Ok(vec![POSTERIOR_FILE.into()])
}

/// SHA-256 of a file, 64 lower-case hexadecimal digits.
fn hash_of(path: &Path) -> Result<String, PosteriorError> {
    let digest = Sha256::digest(read_bytes(path, LARGEST_MEAN)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::tiny::{adapter, config, decoder};
    use crate::lora::{read_peft, write_peft};
    use crate::posterior::{Gaussian, load_posterior};

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

    fn read(folder: &Path) -> Result<Box<dyn Posterior>, PosteriorError> {
        let mean = read_peft(folder, &decoder(2), &Device::flex())?.adapter;
        load_posterior(folder, mean, &decoder(2), &Device::flex())
    }

    /// Rewrites the file with its metadata and tensors changed.
    fn edit(
        folder: &Path,
        change: impl FnOnce(&mut BTreeMap<String, Matrix>, &mut BTreeMap<String, String>),
    ) {
        let path = folder.join(POSTERIOR_FILE);
        let (mut matrices, mut metadata) = read_matrices(&path).unwrap();
        change(&mut matrices, &mut metadata);
        write_matrices(&path, &matrices, metadata).unwrap();
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
        let stored = Stored::read(folder.path()).unwrap().unwrap();
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
            matches!(error, PosteriorError::OtherMean { .. })
                && error.hint().unwrap().contains("one run")
        );
    }

    #[test]
    fn what_differs_is_named() {
        let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
        let refused = |change: fn(&mut BTreeMap<String, Matrix>, &mut BTreeMap<String, String>)| {
            let (folder, _) = written();
            edit(folder.path(), change);
            read(folder.path()).err().unwrap().to_string()
        };
        let short = |tensors: &mut BTreeMap<String, Matrix>, _: &mut BTreeMap<String, String>| {
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
