//! A posterior in the form of its file: what draws need besides the mean, in f32, under a tag
//! (`content`) that names the kind of posterior.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::Device;

use super::{Posterior, PosteriorError};
use crate::lora::{Adapter, HostMatrix, Scaling, by_path, in_file, peft_name};
use crate::model::DecoderConfig;

/// The contents of a posterior's file, which holds all but the mean: a tag, facts and matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The tag of the kind of posterior, such as `variance`; it decides how the rest is read.
    pub content: String,
    /// Texts by key; numbers are written so that they read back to the bit.
    pub facts: BTreeMap<String, String>,
    /// Matrices by name. Those of an adapter have a prefix and then PEFT's names, see
    /// [`with_adapter`](Self::with_adapter).
    pub matrices: BTreeMap<String, HostMatrix>,
    /// The file that it was read from, for errors; empty if it was not read.
    pub path: PathBuf,
}

/// Makes a posterior from the contents of its file and the mean that was read beside it.
pub type Restore =
    fn(Adapter, &Stored, &DecoderConfig, &Device) -> Result<Box<dyn Posterior>, PosteriorError>;

/// A kind of posterior with a file: its tag, its description, and how it is read back.
pub struct StoredKind {
    /// What `content` says in its file.
    pub tag: &'static str,
    /// What it is, as the end of a sentence that begins "the posterior is".
    pub words: &'static str,
    /// Whether its file has the variance of every weight, see
    /// [`PosteriorKind::weight_variances`](super::PosteriorKind::weight_variances).
    pub has_variances: bool,
    /// Whether its draws have more beside W than B A, so that no weights W + s B A could stand for
    /// one.
    pub has_sides: bool,
    /// Reads it.
    pub restore: Restore,
}

impl Stored {
    /// The empty contents of a posterior with this tag.
    pub fn new(content: &str) -> Self {
        Self {
            content: content.into(),
            ..Self::default()
        }
    }

    /// Adds a fact.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    /// Adds the matrices of an adapter under PEFT's names, each after `prefix`.
    ///
    /// # Errors
    /// If the device does not return its data.
    pub fn with_adapter(mut self, prefix: &str, adapter: &Adapter) -> Result<Self, PosteriorError> {
        for (path, matrix) in adapter.to_matrices()? {
            self.matrices
                .insert(format!("{prefix}{}", peft_name(&path)), matrix);
        }
        Ok(self)
    }

    /// The adapter whose matrices have this prefix, with the factors `scaling` of B A; with an empty
    /// prefix it is made of all matrices.
    ///
    /// # Errors
    /// If a matrix is missing, belongs to no layer of this decoder, or has another shape than there.
    pub fn adapter(
        &self,
        prefix: &str,
        scaling: &Scaling,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Adapter, PosteriorError> {
        let behind = |(name, matrix): (&String, &HostMatrix)| {
            Some((name.strip_prefix(prefix)?.to_string(), matrix.clone()))
        };
        let matrices = by_path(
            &self.path,
            self.matrices.iter().filter_map(behind).collect(),
        )?;
        Ok(
            Adapter::from_matrices(matrices, scaling.clone(), decoder, device)
                .map_err(|error| in_file(error, &self.path))?,
        )
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
    /// If there is none, or it is not such a number.
    pub fn number<T: FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, PosteriorError> {
        self.text(key)?
            .parse()
            .map_err(|_| self.wrong(key, expected.into()))
    }

    /// The error that says what was found and what was expected at `key`.
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
}
