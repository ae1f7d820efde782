//! `merge`: base model and adapter → a folder that needs no adapter.

use std::path::Path;

use ivon_lora::answer::device_named;
use ivon_lora::bundle::read_mergeable;
use ivon_lora::lora::{
    Companions, LoraError, MergeOptions, MergeSummary, Precision, StoredBase, check_base_tables,
    merge,
};
use ivon_lora::model::{Checkpoint, Purpose, Table};
use ivon_lora::run::RunError;
use serde_json::json;

use super::{base_for, fetch_adapter, open, refuse_existing};
use crate::args::{MergeArgs, ScreenArgs};
use crate::exit::{CliError, Failure};
use crate::render::{Screen, bytes, print, write_line};
use crate::suggest::did_you_mean;

/// Writes the merged model.
///
/// # Errors
/// If base model, adapter or a file are wrong.
pub fn run(args: &MergeArgs) -> Result<(), Failure> {
    let precision = precision(&args.precision)?;
    refuse_existing(&args.out)?;
    let mut screen = Screen::new(ScreenArgs {
        quiet: args.json,
        json: false,
    });
    let adapter = fetch_adapter(&args.adapter, &mut screen)?;
    let base = base_for(args.model.clone(), &adapter)?;
    let checkpoint = open(&base, Purpose::Merge, &mut screen)?;
    let peft = read_mergeable(&adapter, checkpoint.config(), &device_named("cpu")?)?;
    peft.note.iter().for_each(|note| screen.note(note));
    screen.close();
    let row = |table: Table, row: usize, out: &mut [f32]| {
        // A base with one table for both ends has it under either name.
        let ends = [table, Table::EmbedTokens, Table::LmHead];
        let names = ends.map(|end| end.tensor(checkpoint.config()));
        let mut tensors = names.iter().filter_map(|name| checkpoint.tensor(name).ok());
        if let Some(tensor) = tensors.next() {
            tensor.read_rows(row..row + 1, out);
        }
    };
    check_base_tables(&adapter, &peft.adapter, row)?;
    let companions = companions(&checkpoint)?;
    let base = StoredBase {
        names: checkpoint.names_to_copy(),
        written: checkpoint.names_in_files(),
        tensor: |name: &str| checkpoint.tensor(name),
    };
    let options = MergeOptions {
        precision,
        ..MergeOptions::default()
    };
    let summary = merge(&args.out, &base, &companions, &peft.adapter, options)?;
    print_summary(&args.out, &summary, args.json)
}

/// The files that belong beside the weights: configuration, tokenizer, and what else the base has.
fn companions(checkpoint: &Checkpoint) -> Result<Companions, Failure> {
    let decoder = checkpoint.config();
    if let Some(folder) = checkpoint.folder() {
        return Ok(Companions::of_folder(folder)?.for_weights_of(decoder));
    }
    let tokenizer = checkpoint.tokenizer()?;
    let files = tokenizer.to_files().map_err(RunError::Tokenizer)?;
    let special = tokenizer.special_ids();
    if decoder.is_like_llama() {
        return Ok(Companions::of_decoder(decoder, special, files)?);
    }
    let config = checkpoint.translated_config();
    let mut config = config.ok_or(LoraError::NoConfig)?.clone();
    config.extend(special);
    Ok(Companions { config, files })
}

/// The end of the summary of a merge that gave a model two tables in place of one.
const UNTIED: &str = "; the base has one table for embeddings and output layer, the merged model two, \
    as the adapter does not change both alike";

fn print_summary(out: &Path, summary: &MergeSummary, json: bool) -> Result<(), Failure> {
    let out = out.display();
    if json {
        return write_line(&json!({
            "folder": out.to_string(), "tensors": summary.tensors, "merged": summary.merged, "bytes": summary.bytes,
            "files": summary.files, "largest_change": summary.largest_change,
            "untied": summary.untied,
        }));
    }
    print(&format!(
        "wrote {out}: {} tensors ({}), {} of them changed by the adapter, by at most {:.3e}{}",
        summary.tensors,
        bytes(summary.bytes),
        summary.merged,
        summary.largest_change,
        if summary.untied { UNTIED } else { "" }
    ))
}

fn precision(name: &str) -> Result<Precision, CliError> {
    match name {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        "bf16" => Ok(Precision::BF16),
        other => {
            let message =
                format!("`--precision` is `{other}`, expected one of `f32`, `f16`, `bf16`");
            Err(CliError::usage(
                message,
                did_you_mean(other, ["f32", "f16", "bf16"]),
            ))
        }
    }
}
