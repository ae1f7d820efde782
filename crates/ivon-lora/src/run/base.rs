//! The base of a run: an opened checkpoint as tokenizer and network, what identifies it, and what
//! it says by itself.

use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use super::train::Watch;
use super::{ModelConfig, RunConfig, RunError, RunEvent};
use crate::bundle::BaseRecord;
use crate::data::{DataConfig, Encoded, Tokenizer};
use crate::forward::Network;
use crate::metrics::LogProbabilities;
use crate::model::{Checkpoint, Decoder, DecoderConfig};

/// A base model, ready to run.
#[derive(Debug)]
pub struct Base {
    /// The frozen decoder.
    pub network: Network,
    /// The checkpoint's own tokenizer.
    pub tokenizer: Tokenizer,
    /// What an adapter remembers of its base.
    pub record: BaseRecord,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights in memory.
    pub bytes: usize,
}

impl Base {
    /// Loads an opened checkpoint onto a device.
    ///
    /// # Errors
    /// If a tensor is missing or malformed, the tokenizer cannot be used, or the device is not in
    /// this build.
    pub fn load(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Self, RunError> {
        let device = device_named(&config.device)?;
        let tokenizer = checkpoint.tokenizer()?;
        let mut record = BaseRecord::new(
            checkpoint.display_name(),
            checkpoint.config(),
            checkpoint.fingerprint()?,
        );
        record.revision = checkpoint.revision().map(str::to_string);
        let parameters = checkpoint.parameters();
        let decoder = Decoder::load(checkpoint, config.base_precision)?;
        let bytes = decoder.bytes();
        Ok(Self {
            network: Network::new(decoder, &device, config.recompute),
            tokenizer,
            record,
            parameters,
            bytes,
        })
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        self.network.config()
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        self.network.device()
    }
}

/// Opens a model by name and says what its files have to say.
///
/// # Errors
/// As [`Checkpoint::open`].
pub(super) fn open(name: &str, watch: Watch<'_>) -> Result<Checkpoint, RunError> {
    let checkpoint = Checkpoint::open(name)?;
    for note in checkpoint.notes() {
        watch(RunEvent::Note(note.clone()));
    }
    Ok(checkpoint)
}

/// What the untuned base said to test rows, kept for the runs of a comparison, which ask it the
/// same again and again.
#[derive(Debug, Default)]
pub struct KnownBase(Mutex<Vec<(Asked, LogProbabilities)>>);

/// All that the answers of an untuned base depend on.
#[derive(Debug, PartialEq)]
pub struct Asked {
    model: ModelConfig,
    data: DataConfig,
    batch_tokens: usize,
    ids: Vec<String>,
}

impl Asked {
    /// These examples under the settings of a run.
    pub fn new(config: &RunConfig, examples: &[Encoded]) -> Self {
        Self {
            model: ModelConfig {
                adapter: None,
                threads: None,
                recompute: false,
                ..config.model.clone()
            },
            data: config.data.clone(),
            batch_tokens: config.evaluation.batch_tokens,
            ids: examples.iter().map(|example| example.id.clone()).collect(),
        }
    }
}

impl KnownBase {
    /// What it said, where it was asked before; else what `ask` finds, which is kept.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn answers<E>(
        &self,
        asked: Asked,
        ask: impl FnOnce() -> Result<LogProbabilities, E>,
    ) -> Result<LogProbabilities, E> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known().iter().find(|(one, _)| *one == asked) {
            return Ok(found.clone());
        }
        // Not under the lock: other runs need not wait for this one.
        let found = ask()?;
        known().push((asked, found.clone()));
        Ok(found)
    }
}

/// A device by its name in the settings.
///
/// # Errors
/// [`RunError::Device`] if this build does not have it.
pub fn device_named(name: &str) -> Result<Device, RunError> {
    match name {
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(0)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        other => {
            let built = [
                ("cuda", cfg!(feature = "cuda")),
                ("rocm", cfg!(feature = "rocm")),
                ("metal", cfg!(feature = "metal")),
                ("vulkan", cfg!(feature = "vulkan")),
                ("wgpu", cfg!(feature = "wgpu")),
            ];
            let known = std::iter::once("`cpu`".to_string()).chain(
                built
                    .iter()
                    .filter(|(_, has)| *has)
                    .map(|(name, _)| format!("`{name}`")),
            );
            Err(RunError::Device {
                device: other.into(),
                known: known.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untuned_base_is_asked_once_for_the_same_rows_in_the_same_way() {
        let known = KnownBase::default();
        let mut times = 0;
        let mut ask = |config: &RunConfig| {
            let found = known.answers(Asked::new(config, &[]), || -> Result<_, ()> {
                times += 1;
                Ok(vec![vec![f64::from(times)]])
            });
            found.unwrap()[0][0]
        };
        let config = RunConfig::default();
        let adapted = ModelConfig {
            adapter: Some("a".into()),
            threads: Some(1),
            ..ModelConfig::default()
        };
        let other = DataConfig {
            max_length: 7,
            ..DataConfig::default()
        };
        assert_eq!(ask(&config), 1.0);
        assert_eq!(
            ask(&RunConfig {
                seed: 3,
                model: adapted,
                ..config.clone()
            }),
            1.0
        );
        assert_eq!(
            ask(&RunConfig {
                data: other,
                ..config.clone()
            }),
            2.0
        );
        assert_eq!(ask(&config), 1.0);
    }
}
