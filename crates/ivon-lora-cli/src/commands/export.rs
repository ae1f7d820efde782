//! `export`: an adapter's mean in the format of another program.

use std::path::Path;

use ivon_lora::answer::device_named;
use ivon_lora::bundle::{Bundle, BundleError};
use ivon_lora::files;
use ivon_lora::lora::{LoraError, write_gguf_adapter, write_mlx_adapter, write_peft};
use ivon_lora::model::DecoderConfig;
use serde_json::json;

use super::{base_for, fetch_adapter, open_headers, refuse_existing};
use crate::args::{ExportArgs, ExportFormat, ScreenArgs};
use crate::exit::Failure;
use crate::render::{Screen, print, write_line};

/// Writes the adapter.
///
/// # Errors
/// If base model, adapter or a file are wrong, and if the format has no place for the adapter.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    refuse_existing(&args.out)?;
    let (decoder, bundle) = open_bundle(args.model.clone(), &args.adapter, args.json)?;
    write(&bundle, args.format, &decoder, &args.out)?;
    let out = args.out.display().to_string();
    match args.json {
        true => write_line(&json!({ "format": args.format.name(), "out": out })),
        false => print(&format!("wrote {out}")),
    }
}

/// The shape of an adapter's base, whose weights are not needed, and the adapter.
///
/// # Errors
/// If either is wrong.
pub(super) fn open_bundle(
    model: Option<String>,
    adapter: &Path,
    quiet: bool,
) -> Result<(DecoderConfig, Bundle), Failure> {
    let mut screen = Screen::new(ScreenArgs { quiet, json: false });
    let adapter = fetch_adapter(adapter, &mut screen)?;
    let base = base_for(model, &adapter)?;
    let headers = open_headers(&base, &mut screen)?;
    let decoder = headers.checkpoint().config().clone();
    let bundle = Bundle::read(&adapter, &decoder, &device_named("cpu")?)?;
    bundle.note.iter().for_each(|note| screen.note(note));
    screen.close();
    Ok((decoder, bundle))
}

/// Writes the mean of an adapter to a path that does not exist yet.
///
/// # Errors
/// If the format has no place for it, or a file cannot be written.
pub(super) fn write(
    bundle: &Bundle,
    format: ExportFormat,
    decoder: &DecoderConfig,
    out: &Path,
) -> Result<(), BundleError> {
    let mean = bundle.posterior.mean();
    match format {
        ExportFormat::Gguf => {
            if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                files::create_folder(parent)?;
            }
            Ok(write_gguf_adapter(out, mean, bundle.lora.alpha, decoder)?)
        }
        ExportFormat::Mlx => folder(out, |folder| write_mlx_adapter(folder, mean)),
        ExportFormat::Peft if mean.has_sides() => Err(LoraError::Contextual.into()),
        ExportFormat::Peft => {
            let base = bundle.base_name.as_deref();
            folder(out, |folder| write_peft(folder, mean, &bundle.lora, base))
        }
    }
}

fn folder(
    out: &Path,
    fill: impl FnOnce(&Path) -> Result<(), LoraError>,
) -> Result<(), BundleError> {
    Ok(files::write_folder::<LoraError>(out, fill)?)
}
