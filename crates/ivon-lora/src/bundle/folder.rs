//! An adapter folder as a whole: its posterior, the options of its layers, and what it was made for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::BundleError;
use super::card::{CardFacts, write_model_card};
use super::decision_file::DECISION_FILE;
use super::posterior_file::{POSTERIOR_FILE, posterior_of, read_stored, write_stored};
use super::sidecar::{BaseFingerprint, PredictWith, SIDECAR_FILE, Sidecar};
use crate::files;
use crate::lora::{LoraConfig, LoraError, PeftAdapter, read_adapter, write_peft};
use crate::model::DecoderConfig;
use crate::posterior::{Posterior, PosteriorError, PosteriorKind};

/// The files of an adapter folder besides PEFT's two and the model card.
pub(super) const FILES_BESIDE_PEFT: [&str; 3] = [POSTERIOR_FILE, SIDECAR_FILE, DECISION_FILE];

/// The contents of an adapter folder, without the model card.
pub struct Bundle {
    /// The posterior, with its mean.
    pub posterior: Box<dyn Posterior>,
    /// Rank, scaling, targets.
    pub lora: LoraConfig,
    /// Task, base, and how to predict; none in a folder of another program.
    pub sidecar: Option<Sidecar>,
    /// The base that its PEFT configuration names.
    pub base_name: Option<String>,
    /// Facts for the posterior's file besides its own, such as the method that made it.
    pub facts: BTreeMap<String, String>,
    /// A sentence about what the folder has besides, which changes nothing.
    pub note: Option<String>,
}

impl Bundle {
    /// The result of a run: the posterior that a method made, and how it is best used.
    pub fn of_run(posterior: Box<dyn Posterior>, lora: LoraConfig, sidecar: Sidecar) -> Self {
        let facts = [
            ("method", sidecar.method.clone()),
            ("scale", sidecar.scale.to_string()),
        ];
        Self {
            posterior,
            lora,
            base_name: Some(sidecar.base.name.clone()),
            facts: facts.map(|(key, value)| (key.to_string(), value)).into(),
            sidecar: Some(sidecar),
            note: None,
        }
    }

    /// Reads a folder for a base.
    ///
    /// # Errors
    /// If a file is malformed, or the adapter was made for another base.
    pub fn read(
        folder: &Path,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, BundleError> {
        let sidecar = Sidecar::read(folder)?;
        check_base(sidecar.as_ref(), decoder)?;
        let peft = read_adapter(folder, decoder, device)?;
        let stored = read_stored(folder)?;
        let facts = stored.as_ref().map(|stored| stored.facts.clone());
        Ok(Self {
            posterior: posterior_of(stored, peft.adapter, decoder, device)?,
            lora: peft.config,
            sidecar,
            base_name: peft.base_model_name_or_path,
            facts: facts.unwrap_or_default(),
            note: peft.note,
        })
    }

    /// Writes a new folder, with a model card if one is given, and then replaces the old one.
    ///
    /// # Errors
    /// If a file cannot be written; the old folder then stays.
    pub fn write(&self, path: &Path, card: Option<CardFacts>) -> Result<(), BundleError> {
        let stored = self.posterior.stored()?.map(|mut stored| {
            for (key, value) in &self.facts {
                stored.facts.entry(key.clone()).or_insert(value.clone());
            }
            stored
        });
        files::write_folder(path, |folder| {
            let base = self.base_name.as_deref();
            write_peft(folder, self.posterior.mean(), &self.lora, base)?;
            if let Some(stored) = &stored {
                write_stored(folder, stored)?;
            }
            if let Some(sidecar) = &self.sidecar {
                let method_files = stored.iter().map(|_| POSTERIOR_FILE.into()).collect();
                Sidecar {
                    method_files,
                    ..sidecar.clone()
                }
                .write(folder)?;
            }
            if let Some(card) = card {
                let posterior = stored.map(|stored| stored.content);
                write_model_card(folder, &CardFacts { posterior, ..card })?;
            }
            Ok(())
        })
    }

    /// The same adapter with some weights fixed at 0, in every draw and at the mean. `kept` says for
    /// each weight, in the order of [`Adapter::flatten`](crate::lora::Adapter::flatten), whether it
    /// stays; `share`, the share of pruned weights, is noted in the posterior's file.
    ///
    /// # Errors
    /// As [`Posterior::pruned`].
    pub fn pruned(&self, kept: &[bool], share: f64) -> Result<Self, PosteriorError> {
        let mut facts = self.facts.clone();
        facts.insert("pruned_share".into(), share.to_string());
        Ok(Self {
            posterior: self.posterior.pruned(kept)?,
            lora: self.lora.clone(),
            sidecar: self.sidecar.clone(),
            base_name: self.base_name.clone(),
            facts,
            note: None,
        })
    }
}

/// Writes τ into a folder's posterior and sidecar for `evaluate` and `predict` to use: with `samples`
/// draws, or at the mean if τ is 0. Returns the files that were written.
///
/// # Errors
/// If a file cannot be read or written, or the folder has no sidecar.
pub fn write_scale(folder: &Path, scale: f64, samples: usize) -> Result<Vec<PathBuf>, BundleError> {
    let sidecar = Sidecar::read(folder)?.ok_or_else(|| BundleError::NoTask {
        adapter: folder.into(),
    })?;
    let mut written = Vec::new();
    if let Some(stored) = read_stored(folder)? {
        write_stored(folder, &stored.with("scale", scale))?;
        written.push(folder.join(POSTERIOR_FILE));
    }
    let predict_with = match scale > 0.0 {
        true => PredictWith::Samples,
        false => PredictWith::Mean,
    };
    Sidecar {
        scale,
        samples,
        predict_with,
        ..sidecar
    }
    .write(folder)?;
    written.push(folder.join(SIDECAR_FILE));
    Ok(written)
}

/// Reads an adapter that can be merged into a base of this shape.
///
/// # Errors
/// If a file is malformed, the adapter was made for another base, or no weights W + s B A could stand
/// for it. A posterior that cannot be read is no error here.
pub fn read_mergeable(
    folder: &Path,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<PeftAdapter, BundleError> {
    if let Ok(Some(stored)) = read_stored(folder)
        && PosteriorKind::of(&stored.content).is_some_and(|kind| kind.stored().has_sides)
    {
        return Err(LoraError::Contextual.into());
    }
    check_base(Sidecar::read(folder)?.as_ref(), decoder)?;
    Ok(read_adapter(folder, decoder, device)?)
}

/// Checks that a base has the shape of the one that an adapter was made for, if that is known.
fn check_base(sidecar: Option<&Sidecar>, decoder: &DecoderConfig) -> Result<(), BundleError> {
    let Some(sidecar) = sidecar else {
        return Ok(());
    };
    let base = BaseFingerprint::new(decoder, String::new());
    sidecar.base.fingerprint.check_shape(&base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{load_posterior, write_posterior};
    use crate::lora::side::CloraStart;
    use crate::posterior::Clora;
    use crate::testing::tiny::{adapter, config, decoder};

    #[test]
    fn its_folder_holds_a_and_b_for_peft_and_is_not_merged() {
        let folder = tempfile::tempdir().unwrap();
        let start = CloraStart {
            hidden: 6,
            sd: 0.05,
            seed: 3,
        };
        let mean = Clora::with_networks(&adapter(1, "q_proj"), start);
        let posterior = Clora::new(mean).unwrap();
        write_peft(folder.path(), posterior.mean(), &config("q_proj"), None).unwrap();
        let mergeable = |folder: &Path| read_mergeable(folder, &decoder(1), &Device::flex());
        assert!(mergeable(folder.path()).is_ok());
        write_posterior(folder.path(), &posterior, "clora", 1.0).unwrap();
        let error = mergeable(folder.path()).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("the adapter predicts a matrix between A and B")
                && error.hint().unwrap().contains("predict")
        );
        let mean = read_adapter(folder.path(), &decoder(1), &Device::flex())
            .unwrap()
            .adapter;
        assert_eq!(
            mean.flatten().unwrap(),
            adapter(1, "q_proj").flatten().unwrap()
        );
        let again = load_posterior(folder.path(), mean, &decoder(1), &Device::flex()).unwrap();
        assert_eq!(
            again.mean().flatten().unwrap(),
            posterior.mean().flatten().unwrap()
        );
    }
}
