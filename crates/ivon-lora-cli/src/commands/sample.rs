//! `sample`: draws from an adapter's posterior, each as an adapter of its own.

use ivon_lora::bundle::BundleError;
use ivon_lora::files;
use serde_json::json;

use super::export::{open_bundle, write};
use super::{check_scale, refuse_existing};
use crate::args::{ExportFormat, SampleArgs};
use crate::exit::{CliError, Failure};
use crate::render::{print, write_line};

/// Writes the draws.
///
/// # Errors
/// If base model, adapter or a file are wrong, and if draws are no adapters or have no place in the
/// format.
pub fn run(args: &SampleArgs) -> Result<(), Failure> {
    check_scale(args.scale)?;
    check_draws(args.draws)?;
    refuse_existing(&args.out)?;
    let (decoder, bundle) = open_bundle(args.model.clone(), &args.adapter, args.json)?;
    let sidecar = bundle.sidecar.as_ref();
    let scale = args.scale.or(sidecar.map(|sidecar| sidecar.scale));
    let seed = args.seed.or(sidecar.map(|sidecar| sidecar.seed));
    let (scale, seed) = (scale.unwrap_or(1.0), seed.unwrap_or(0));
    let draws = bundle.draws(args.draws as usize, seed, scale)?;
    files::write_folder::<BundleError>(&args.out, |folder| {
        for (number, draw) in draws.iter().enumerate() {
            let path = folder.join(format!("draw-{number}"));
            match args.format {
                // With the sidecar, so that this program knows its task.
                ExportFormat::Peft => draw.write(&path, None)?,
                format => write(draw, format, &decoder, &named(path, format))?,
            }
        }
        Ok(())
    })?;
    let (count, out) = (draws.len(), args.out.display().to_string());
    match args.json {
        true => write_line(&json!({
            "format": args.format.name(), "out": out, "draws": count, "seed": seed, "scale": scale,
        })),
        false => print(&format!(
            "wrote {count} draws under seed {seed} at the scale {scale} to {out}"
        )),
    }
}

/// A file of GGUF has the ending by which programs know it.
fn named(path: std::path::PathBuf, format: ExportFormat) -> std::path::PathBuf {
    match format {
        ExportFormat::Gguf => path.with_extension("gguf"),
        ExportFormat::Peft | ExportFormat::Mlx => path,
    }
}

/// The largest number of draws.
const MOST: u32 = 1000;

fn check_draws(draws: u32) -> Result<(), CliError> {
    if (1..=MOST).contains(&draws) {
        return Ok(());
    }
    let message = format!("`--draws` is `{draws}`, expected a whole number from 1 to {MOST}");
    Err(CliError::usage(message, None))
}
