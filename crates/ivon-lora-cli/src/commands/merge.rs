//! `merge`: base model and adapter → a folder or a GGUF file that needs no adapter.

use std::path::Path;

use ivon_lora::answer::device_named;
use ivon_lora::bundle::read_mergeable;
use ivon_lora::lora::{
    Companions, LoraError, MergeOptions, MergeSummary, Precision, StoredBase, check_base_tables,
    merge, merge_into_gguf,
};
use ivon_lora::model::{Checkpoint, Encoding, Purpose, Table};
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
    let is_gguf = args
        .out
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let precision = precision(&args.precision, is_gguf)?;
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
    let precision = match precision {
        Written::Folder(precision) => precision,
        Written::Gguf(encoding) => {
            let summary = merge_into_gguf(&args.out, &checkpoint, &peft.adapter, encoding)?;
            return print_summary(&args.out, &summary, args.json);
        }
    };
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

/// What is written, and how its weights are stored.
enum Written {
    Folder(Precision),
    Gguf(Encoding),
}

/// The types of weights by name: in a GGUF file, and in a folder, if there too.
const PRECISIONS: [(&str, Encoding, Option<Precision>); 5] = [
    ("f32", Encoding::F32, Some(Precision::F32)),
    ("f16", Encoding::F16, Some(Precision::F16)),
    ("bf16", Encoding::BF16, Some(Precision::BF16)),
    ("q8_0", Encoding::Q8_0, None),
    ("q4_0", Encoding::Q4_0, None),
];

fn precision(name: &str, is_gguf: bool) -> Result<Written, CliError> {
    let known = || {
        PRECISIONS
            .into_iter()
            .filter_map(|(name, encoding, precision)| {
                let of_folder = precision.map(Written::Folder);
                let written = if is_gguf {
                    Some(Written::Gguf(encoding))
                } else {
                    of_folder
                };
                Some((name, written?))
            })
    };
    if let Some((_, written)) = known().find(|(known, _)| *known == name) {
        return Ok(written);
    }
    let listed: Vec<String> = known().map(|(name, _)| format!("`{name}`")).collect();
    let listed = listed.join(", ");
    let message = format!("`--precision` is `{name}`, expected one of {listed}");
    Err(CliError::usage(
        message,
        did_you_mean(name, known().map(|(name, _)| name)),
    ))
}
