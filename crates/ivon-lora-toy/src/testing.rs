//! What tests of several crates answer with. Not part of the public interface.

use std::error::Error;
use std::path::Path;

use ivon_lora::answer::device_named;
use ivon_lora::bundle::{BaseRecord, Bundle, PredictWith, SIDECAR_FORMAT, Sidecar};
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::model::Checkpoint;
use ivon_lora::posterior::Gaussian;

/// Writes an untrained adapter of the toy, whose weights vary: three draws answer.
///
/// # Errors
/// If the base in `base` cannot be read, or a file cannot be written.
pub fn write_untrained_adapter(base: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::open(base)?;
    let lora = LoraConfig::default();
    let mean = Adapter::new(&lora, checkpoint.config(), 1, &device_named("cpu")?)?;
    let variance = mean.clone_with(|_, tensor| tensor * 0.0 + 0.01);
    let sidecar = Sidecar {
        format_version: SIDECAR_FORMAT,
        program_version: "0".into(),
        task: crate::task(),
        answers: Vec::new(),
        max_length: 64,
        chat_template: false,
        chat_template_text: None,
        method: "ivon".into(),
        method_files: Vec::new(),
        scale: 1.0,
        temperature: 1.0,
        temperature_of_samples: 1.0,
        samples: 3,
        seed: 5,
        predict_with: PredictWith::Samples,
        calibration: None,
        rows: None,
        base: BaseRecord::new(base, checkpoint.config(), checkpoint.fingerprint()?),
    };
    let posterior = Box::new(Gaussian::new(mean, variance)?);
    Bundle::of_run(posterior, lora, sidecar).write(folder, None)?;
    Ok(())
}
