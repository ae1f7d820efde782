//! A posterior taken apart, as a file can hold it: what draws are made from besides the mean, in f32.
//! A tag (`content`) says which kind of posterior it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::Device;

use super::{Posterior, PosteriorError};
use crate::lora::{Adapter, HostMatrix, by_path, in_file, peft_name};
use crate::model::DecoderConfig;

/// What a posterior is beside its mean, as its file has it: a tag, facts and matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The kind of posterior, such as `variance`: what reads the rest goes by it.
    pub content: String,
    /// Texts by key; numbers are written so that they read back to the bit.
    pub facts: BTreeMap<String, String>,
    /// Matrices by name. Those of an adapter's shape have PEFT's names behind a prefix, see
    /// [`with_adapter`](Self::with_adapter).
    pub matrices: BTreeMap<String, HostMatrix>,
    /// The file that it was read from, for errors; empty before it is written.
    pub path: PathBuf,
}

/// Makes a posterior of what its file holds, around the mean that was read beside it.
pub type Restore =
    fn(Adapter, &Stored, &DecoderConfig, &Device) -> Result<Box<dyn Posterior>, PosteriorError>;

/// What is to be known of a kind of posterior to read its file.
pub struct StoredKind {
    /// What `content` says in its file.
    pub tag: &'static str,
    /// What it is, to go on after "the posterior is".
    pub words: &'static str,
    /// Whether its file has the variance of every weight, under the weight's own name.
    pub has_variances: bool,
    /// Whether something stands beside its A and B, so that no weights W + s B A could stand for
    /// it.
    pub has_sides: bool,
    /// Reads it.
    pub restore: Restore,
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

    /// The adapter behind `prefix`, with the factor `scaling` before B A; with an empty prefix, all
    /// matrices must be its.
    ///
    /// # Errors
    /// If a matrix is missing, has no place in this decoder, or another shape than its place.
    pub fn adapter(
        &self,
        prefix: &str,
        scaling: f64,
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
        Ok(Adapter::from_matrices(matrices, scaling, decoder, device)
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
}
