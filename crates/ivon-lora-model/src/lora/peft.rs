//! PEFT adapter folders ↔ [`Adapter`] and [`LoraConfig`]: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! Folders are written with keys that PEFT has had since 0.10, sorted, so that old versions, vLLM
//! and llama.cpp's converter read them without a warning, and equal adapters give equal bytes.
//! Unsupported options are refused.

mod options;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::Device;
use serde_json::{Value, json};

use self::options::PeftOptions;
use self::tables::{check_rows, is_base_layer, tie, whole_tables};
use super::adapter::MAGNITUDES;
use super::contents::{OtherContents, idle_note, take_idle};
use super::parameters::{is_whole_table, of_table, path_of_peft_name, peft_name_in};
use super::store::{Matrices, read_matrices, write_matrices};
use super::table::factors;
use super::target::{Target, linear_names, module_path};
use super::{Adapter, LoraConfig, LoraError, peft_name};
use crate::files;
use crate::model::{DecoderConfig, Table};

/// The file with A and B.
pub const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// The file with the options.
pub const CONFIG_FILE: &str = "adapter_config.json";
const LARGEST_CONFIG: u64 = 16 << 20;

/// An adapter as PEFT stores it.
#[derive(Clone, Debug)]
pub struct PeftAdapter {
    /// A and B.
    pub adapter: Adapter,
    /// Rank, scaling and targets.
    pub config: LoraConfig,
    /// The base according to the folder: a hub name, or a path on the machine that wrote it.
    pub base_model_name_or_path: Option<String>,
    /// A sentence about what the folder has besides, which changes nothing.
    pub note: Option<String>,
}

/// Reads a PEFT folder for a decoder of this shape.
///
/// # Errors
/// If a file is missing or malformed, an option is not supported, or the tensors do not fit the
/// options or this decoder; the error names key or tensor.
pub fn read_peft(
    folder: &Path,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<PeftAdapter, LoraError> {
    let config_path = folder.join(CONFIG_FILE);
    let options = PeftOptions::read(&config_path)?;
    let path = folder.join(ADAPTER_FILE);
    if !path.exists() && folder.join("adapter_model.bin").exists() {
        return Err(LoraError::Pickle {
            folder: folder.into(),
        });
    }
    let mut matrices = read_matrices(&path)?.0;
    let idle = take_idle(&mut matrices, decoder);
    OtherContents::of(&matrices).refuse(&path)?;
    options.refuse_whole_layers(&config_path, decoder.module)?;
    let mut matrices = by_path(&path, matrices)?;
    check_rows(&path, &matrices, decoder)?;
    matrices.retain(|path, _| !is_base_layer(path));
    if options.ensures_tying && decoder.tie_word_embeddings {
        tie(&mut matrices);
    }
    let there = adapted_modules(&path, &matrices, decoder)?;
    check_magnitudes(&path, &matrices, options.lora.use_dora)?;
    let config = LoraConfig {
        modules_to_save: whole_tables(&path, &matrices, &options, decoder)?,
        ..options.config(&path, &there, decoder)?
    };
    let linears = decoder.linears().into_iter();
    let targets = linears.map(|(path, _)| path.into());
    check_ranks(
        &matrices,
        &config,
        targets.chain(Table::ALL.map(Target::Table)),
    )?;
    let adapter = Adapter::from_matrices(matrices, config.scaling_in(decoder)?, decoder, device)
        .map_err(|error| in_file(error, &path))?;
    Ok(PeftAdapter {
        adapter,
        config,
        base_model_name_or_path: options.base,
        note: idle_note(&idle),
    })
}

/// Reads the options of a PEFT folder without its tensors. Targets that PEFT looks up by
/// architecture are q_proj and v_proj, its choice for every architecture supported here.
///
/// # Errors
/// As [`read_peft`], for `adapter_config.json` alone.
pub fn read_peft_config(folder: &Path) -> Result<(LoraConfig, Option<String>), LoraError> {
    let options = PeftOptions::read(&folder.join(CONFIG_FILE))?;
    let target_modules = options
        .targets
        .unwrap_or(LoraConfig::default().target_modules);
    Ok((
        LoraConfig {
            target_modules,
            ..options.lora
        },
        options.base,
    ))
}

/// Writes a PEFT folder with both files, and creates it if necessary. Sides are not written: PEFT
/// has no place for them. `base` is a hub name (`org/name[@revision]`) or a path, of which only the
/// last component is written.
///
/// # Errors
/// If the adapter's rank is not that of `config`, a number is not finite, or a file cannot be
/// written.
pub fn write_peft(
    folder: &Path,
    adapter: &Adapter,
    config: &LoraConfig,
    base: Option<&str>,
) -> Result<(), LoraError> {
    let matrices: BTreeMap<_, _> = adapter.without_sides().to_matrices()?.into_iter().collect();
    let linears = adapter.pairs().map(|(path, _)| path.into());
    check_ranks(
        &matrices,
        config,
        linears.chain(Table::ALL.map(Target::Table)),
    )?;
    let config = &LoraConfig {
        use_dora: adapter.has_magnitudes(),
        modules_to_save: adapter.whole_tables(),
        ..config.clone()
    };
    let mut text =
        serde_json::to_string_pretty(&config_json(config, adapter.portable_targets(), base))
            .unwrap_or_default();
    text.push('\n');
    files::create_folder(folder)?;
    let named = matrices
        .into_iter()
        .map(|(path, matrix)| (peft_name_in(adapter.module(), &path), matrix))
        .collect();
    write_matrices(&folder.join(ADAPTER_FILE), &named, BTreeMap::new())?;
    files::write_bytes(&folder.join(CONFIG_FILE), text.as_bytes())?;
    Ok(())
}

/// The name of a base that is valid on other machines: the hub name, or the last component of a
/// path; and its revision.
pub fn portable_base_name(base: &str) -> (String, Option<String>) {
    let is_path = base.starts_with(['/', '.', '~'])
        || base.contains('\\')
        || base.matches('/').count() > 1
        || base.to_ascii_lowercase().ends_with(".gguf");
    if is_path {
        let last = base
            .split(['/', '\\'])
            .rfind(|part| !part.is_empty())
            .unwrap_or(base);
        return (last.into(), None);
    }
    match base.split_once('@') {
        Some((name, revision)) => (name.into(), Some(revision.into())),
        None => (base.into(), None),
    }
}

fn config_json(
    config: &LoraConfig,
    (target_modules, layers_to_transform): (Vec<String>, Option<Vec<usize>>),
    base: Option<&str>,
) -> Value {
    let (base, revision) = base.map(portable_base_name).unzip();
    let alpha = number_json(config.alpha);
    let alphas = config.alpha_pattern.iter();
    let alphas: BTreeMap<_, _> = alphas
        .map(|(key, alpha)| (key, number_json(*alpha)))
        .collect();
    let mut keys = BTreeMap::from([
        ("alpha_pattern", json!(alphas)),
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(base)),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", json!(true)),
        ("layers_pattern", Value::Null),
        ("layers_to_transform", json!(layers_to_transform)),
        ("lora_alpha", alpha),
        ("lora_dropout", json!(config.dropout)),
        ("modules_to_save", names_json(&config.modules_to_save)),
        ("peft_type", json!("LORA")),
        ("r", json!(config.rank)),
    ]);
    keys.extend([
        ("rank_pattern", json!(config.rank_pattern)),
        ("revision", json!(revision.flatten())),
        ("target_modules", json!(target_modules)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(config.use_dora)),
        ("use_rslora", json!(config.use_rslora)),
    ]);
    Value::Object(
        keys.into_iter()
            .map(|(key, value)| (key.to_string(), value))
            .collect(),
    )
}

/// A list of names, or null for none, as PEFT writes it.
fn names_json(names: &[String]) -> Value {
    match names {
        [] => Value::Null,
        names => json!(names),
    }
}

/// A whole number without a point, as PEFT writes it.
fn number_json(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}

/// PEFT names → parameter paths, wherever the model has its decoder.
pub fn by_path(file: &Path, matrices: Matrices) -> Result<Matrices, LoraError> {
    let reason = |name: &str| match name {
        _ if name.ends_with(".bias") => "biases are not supported here",
        _ => "it is not named `base_model.model.model.layers.N.….lora_A.weight` or `lora_B`",
    };
    matrices
        .into_iter()
        .map(|(name, matrix)| match path_of_peft_name(&name) {
            Some(path) => Ok((path.to_string(), matrix)),
            None => Err(LoraError::UnknownTensor {
                path: file.into(),
                reason: reason(&name).into(),
                name,
            }),
        })
        .collect()
}

/// The module paths with an A or a B.
fn adapted_modules(
    file: &Path,
    matrices: &Matrices,
    decoder: &DecoderConfig,
) -> Result<BTreeSet<String>, LoraError> {
    let linears = decoder.linears().into_iter();
    let known: BTreeSet<String> = linears.map(|(path, _)| module_path(path)).collect();
    let parts = ["lora_A", "lora_B", MAGNITUDES];
    matrices
        .keys()
        .filter(|path| !is_whole_table(path))
        .map(|path| {
            let module = match of_table(path) {
                Some((table, part)) => {
                    let module = table.path_in(decoder.module);
                    factors(table).contains(&part).then_some(module)
                }
                None => path
                    .rsplit_once('.')
                    .filter(|(_, part)| parts.contains(part))
                    .map(|(module, _)| format!("{}.{module}", decoder.module))
                    .filter(|module| known.contains(module)),
            };
            module.ok_or_else(|| LoraError::UnknownTensor {
                path: file.into(),
                name: peft_name(path),
                reason: format!(
                    "there are {} decoder layers with {}",
                    decoder.num_hidden_layers,
                    linear_names(decoder)
                ),
            })
        })
        .collect()
}

/// With `use_dora` every pair has magnitudes, otherwise none has.
fn check_magnitudes(file: &Path, matrices: &Matrices, use_dora: bool) -> Result<(), LoraError> {
    let mut found = matrices.keys().filter(|path| path.ends_with(MAGNITUDES));
    if let Some(path) = found.next().filter(|_| !use_dora) {
        return Err(LoraError::UnknownTensor {
            path: file.into(),
            name: peft_name(path),
            reason: format!("`use_dora` of its `{CONFIG_FILE}` is not true"),
        });
    }
    let modules = matrices
        .keys()
        .filter_map(|path| path.strip_suffix("lora_A"));
    let mut expected = modules.map(|module| format!("{module}{MAGNITUDES}"));
    match expected.find(|path| use_dora && !matrices.contains_key(path)) {
        Some(path) => Err(LoraError::MissingTensor {
            path: file.into(),
            name: peft_name(&path),
        }),
        None => Ok(()),
    }
}

/// A must have as many rows, and B as many columns, as the rank of its layer.
fn check_ranks(
    matrices: &Matrices,
    config: &LoraConfig,
    targets: impl Iterator<Item = Target>,
) -> Result<(), LoraError> {
    let options = config.layer_options()?;
    let ranks: BTreeMap<String, usize> = targets
        .map(|target| (target.to_string(), options.rank(target)))
        .collect();
    for (path, matrix) in matrices.iter().filter(|(path, _)| !is_whole_table(path)) {
        let [rows, columns] = matrix.shape;
        let module = path.rsplit_once('.').map_or("", |(module, _)| module);
        let rank = ranks.get(module).copied().unwrap_or(config.rank);
        let expected = match path {
            _ if path.ends_with("_A") => [rank, columns],
            _ if path.ends_with("_B") => [rows, rank],
            _ => [rows, 1],
        };
        if matrix.shape != expected {
            return Err(LoraError::Shape {
                name: peft_name(path),
                expected: expected.into(),
                found: matrix.shape.into(),
            });
        }
    }
    Ok(())
}

/// The same error with the tensor names and the path of a file.
pub fn in_file(error: LoraError, path: &Path) -> LoraError {
    match error {
        LoraError::MissingTensor { name, .. } => LoraError::MissingTensor {
            path: path.into(),
            name: peft_name(&name),
        },
        LoraError::Shape {
            name,
            expected,
            found,
        } => LoraError::Shape {
            name: peft_name(&name),
            expected,
            found,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
