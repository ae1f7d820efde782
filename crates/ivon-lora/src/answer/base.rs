//! A base model in memory: the checkpoint's tokenizer and network, and what identifies them.

use std::collections::BTreeSet;

use burn::tensor::Device;

use super::AnswerError;
use crate::bundle::BaseRecord;
use crate::data::Tokenizer;
use crate::forward::{Decoding, Network};
use crate::generate::Writer;
use crate::model::{
    BasePrecision, Checkpoint, Compute, Decoder, DecoderConfig, HubSettings, ModelError,
};
use crate::watch::{Event, Watch};

/// The device of a base and the precision of its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseOptions {
    /// `cpu`, `cuda`, `rocm`, `metal`, `vulkan` or `wgpu`.
    pub device: String,
    /// The precision of the weights.
    pub precision: BasePrecision,
    /// In which numbers products with the weights are computed.
    pub compute: Compute,
    /// Recompute activations in the backward pass: a third more work, a fraction of the memory.
    pub recompute: bool,
}

impl Default for BaseOptions {
    fn default() -> Self {
        Self {
            device: "cpu".into(),
            precision: BasePrecision::F32,
            compute: Compute::F32,
            recompute: false,
        }
    }
}

/// A base model, ready to run. A clone shares the weights.
#[derive(Clone, Debug)]
pub struct Base {
    /// The frozen decoder.
    pub network: Network,
    /// The checkpoint's tokenizer.
    pub tokenizer: Tokenizer,
    /// The tokens with which the model ends a text.
    pub ends: BTreeSet<u32>,
    /// What an adapter folder records about its base.
    pub record: BaseRecord,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights in memory.
    pub bytes: usize,
}

impl Base {
    /// A writer of texts with this base's tokenizer and end tokens.
    pub(super) fn writer<'a>(&'a self, decoding: &'a Decoding) -> Writer<'a> {
        Writer {
            decoding,
            tokenizer: &self.tokenizer,
            ends: &self.ends,
        }
    }

    /// Loads an opened checkpoint onto a device.
    ///
    /// # Errors
    /// If a tensor is missing or malformed, the tokenizer cannot be used, or the device is not in
    /// this build or does not compute in integers.
    pub fn load(checkpoint: &Checkpoint, options: &BaseOptions) -> Result<Self, AnswerError> {
        if options.compute == Compute::Int8 && options.device != "cpu" {
            let device = options.device.clone();
            return Err(AnswerError::IntegersOn { device });
        }
        let device = device_named(&options.device)?;
        let tokenizer = checkpoint.tokenizer()?;
        let mut record = BaseRecord::new(
            checkpoint.display_name(),
            checkpoint.config(),
            checkpoint.fingerprint()?,
        );
        record.revision = checkpoint.revision().map(str::to_string);
        let parameters = checkpoint.parameters();
        let decoder = Decoder::load_for(checkpoint, options.precision, options.compute)?;
        let bytes = decoder.bytes();
        Ok(Self {
            network: Network::new(decoder, &device, options.recompute),
            ends: checkpoint.end_tokens(&tokenizer)?,
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

/// Opens a model by name and passes on the notes about its files.
///
/// # Errors
/// As [`Checkpoint::open`].
pub(crate) fn open_checkpoint(name: &str, watch: Watch<'_>) -> Result<Checkpoint, ModelError> {
    let checkpoint = Checkpoint::open_with(name, &HubSettings::from_env(), watch)?;
    for note in checkpoint.notes() {
        watch(Event::Note(note.clone()));
    }
    Ok(checkpoint)
}

/// A device by its name in the settings.
///
/// # Errors
/// [`AnswerError::Device`] if this build does not have it.
pub fn device_named(name: &str) -> Result<Device, AnswerError> {
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
        other => Err(AnswerError::Device {
            device: other.into(),
            known: devices_of_this_build(),
        }),
    }
}

/// The names of the devices of this build, for a message.
fn devices_of_this_build() -> String {
    let devices = [
        ("cpu", true),
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
        ("metal", cfg!(feature = "metal")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("wgpu", cfg!(feature = "wgpu")),
    ];
    let built = devices.iter().filter(|(_, is_built)| *is_built);
    let names: Vec<String> = built.map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

/// The warning about an adapter of another program that names another base of the hub.
pub(super) fn other_base(named: Option<&str>, base: &Base) -> Option<String> {
    let found = base.record.name.as_str();
    let named = named.filter(|named| {
        is_hub_name(named) && is_hub_name(found) && !named.eq_ignore_ascii_case(found)
    })?;
    Some(format!(
        "the adapter names `{named}` as its base, `{found}` has the same shape: scores can differ"
    ))
}

/// Whether it is `org/name`, and not a file in a repository or on this machine.
fn is_hub_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let is_part = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty() && !part.starts_with(['.', '~']) && !part.contains(':')
        })
    };
    is_part(parts.next()) && is_part(parts.next()) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;

    #[test]
    fn integers_are_refused_where_they_are_not_computed() {
        let folder = golden().join("tiny/llama");
        let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
        let options = BaseOptions {
            device: "cuda".into(),
            compute: Compute::Int8,
            ..BaseOptions::default()
        };
        let refused = Base::load(&checkpoint, &options).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "products of 8-bit integers are computed on the CPU only, and the device is `cuda`"
        );
        assert!(refused.hint().is_some());
    }

    #[test]
    fn only_what_looks_like_a_name_of_the_hub_is_compared() {
        assert!(is_hub_name("org/name-1.5"));
        for other in [
            "name",
            "/org/name",
            "./name",
            "../name",
            "org/name/file.gguf",
            "org/name:Q4_0",
            "org/",
            "",
        ] {
            assert!(!is_hub_name(other), "{other}");
        }
    }
}
