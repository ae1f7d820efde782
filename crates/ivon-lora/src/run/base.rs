//! The base of a run: an opened checkpoint as tokenizer and network, and what identifies it.

use burn::tensor::Device;

use super::{ModelConfig, RunError};
use crate::data::Tokenizer;
use crate::forward::Network;
use crate::model::{Checkpoint, Decoder, DecoderConfig};
use crate::posterior::BaseRecord;

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
    /// If a tensor is missing or malformed, the tokenizer cannot be used, or the device is not in this build.
    pub fn load(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<Self, RunError> {
        let device = device_named(&config.device)?;
        let tokenizer = checkpoint.tokenizer()?;
        let mut record = BaseRecord::new(checkpoint.display_name(), checkpoint.config(), checkpoint.fingerprint()?);
        record.revision = checkpoint.revision().map(str::to_string);
        let parameters = checkpoint.parameters();
        let decoder = Decoder::load(checkpoint, config.base_precision)?;
        let bytes = decoder.bytes();
        Ok(Self { network: Network::new(decoder, &device, config.recompute), tokenizer, record, parameters, bytes })
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
            let known =
                std::iter::once("`cpu`".to_string()).chain(built.iter().filter(|(_, has)| *has).map(|(name, _)| format!("`{name}`")));
            Err(RunError::Device { device: other.into(), known: known.collect::<Vec<_>>().join(", ") })
        }
    }
}
