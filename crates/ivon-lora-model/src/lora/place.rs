//! Finds and reads the adapter that a user names, or explains where there is one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::gguf::read_gguf_adapter;
use super::mlx::{MLX_FILE, is_mlx_folder, mlx_base, read_mlx_adapter};
use super::peft::{ADAPTER_FILE, CONFIG_FILE, read_peft, read_peft_config};
use super::{LoraError, PeftAdapter};
use crate::model::DecoderConfig;
use crate::sentence::{Sentence, sentence, setting};

/// The adapter's folder in the folder of a run.
pub const FOLDER_IN_RUN: &str = "adapter";
/// The number of folders in a hint; the others are omitted.
const NAMED: usize = 3;
/// The number of entries of a folder that are searched.
const LOOKED_AT: usize = 1000;

/// The location of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterPlace {
    /// The folder with its `adapter_config.json`, or a GGUF file.
    pub folder: PathBuf,
    /// A sentence for the user, if it is not the folder that was named.
    pub note: Option<String>,
}

/// Finds the adapter that a user named by its own folder or by that of a run.
///
/// # Errors
/// [`LoraError::NoAdapter`] if there is none, with what is there and where one is.
pub fn locate_adapter(named: &Path) -> Result<AdapterPlace, LoraError> {
    if holds_adapter(named) {
        return Ok(AdapterPlace {
            folder: named.into(),
            note: None,
        });
    }
    let of_run = named.join(FOLDER_IN_RUN);
    if holds_adapter(&of_run) {
        let note = format!(
            "`{}` is the folder of a run: its adapter, `{}`, is used",
            named.display(),
            of_run.display()
        );
        return Ok(AdapterPlace {
            folder: of_run,
            note: Some(note),
        });
    }
    let (found, hint) = what_is_there(named);
    Err(LoraError::NoAdapter {
        path: named.into(),
        found,
        hint,
    })
}

fn holds_adapter(path: &Path) -> bool {
    path.join(CONFIG_FILE).is_file() || is_gguf_file(path)
}

fn is_gguf_file(path: &Path) -> bool {
    let is_gguf = |extension: &OsStr| extension.eq_ignore_ascii_case("gguf");
    path.extension().is_some_and(is_gguf) && path.is_file()
}

/// Reads an adapter for a base of this shape: a folder of PEFT or mlx-lm, or a GGUF file.
///
/// # Errors
/// As [`read_peft`], [`read_mlx_adapter`] and [`read_gguf_adapter`].
pub fn read_adapter(
    path: &Path,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<PeftAdapter, LoraError> {
    if is_gguf_file(path) {
        return read_gguf_adapter(path, decoder, device);
    }
    match is_mlx_folder(path) {
        true => read_mlx_adapter(path, decoder, device),
        false => read_peft(path, decoder, device),
    }
}

/// The base that an adapter names: a hub name, or a path on the machine that wrote it.
///
/// # Errors
/// If its configuration is missing or malformed.
pub fn adapter_base(path: &Path) -> Result<Option<String>, LoraError> {
    if is_gguf_file(path) {
        return Ok(None);
    }
    match is_mlx_folder(path) {
        true => mlx_base(path),
        false => Ok(read_peft_config(path)?.1),
    }
}

/// What is there instead of an adapter, and what to do.
fn what_is_there(named: &Path) -> (String, Sentence) {
    if named.is_file() {
        return what_the_file_is(named);
    }
    if !named.is_dir() {
        let hint = match cfg!(feature = "hub") {
            true => "check the spelling; a relative path starts where the command is run",
            false => {
                "check the spelling; this build does not read from the hub: fetch \
                     the adapter's folder first, as with `hf download`"
            }
        };
        return ("nothing".into(), hint.into());
    }
    files_of_another_kind(named)
        .or_else(|| adapters_below(named))
        .or_else(|| adapter_above(named))
        .unwrap_or_else(|| what_the_folder_is(named))
}

/// For a file instead of a folder.
fn what_the_file_is(named: &Path) -> (String, Sentence) {
    match named.parent().filter(|folder| holds_adapter(folder)) {
        Some(folder) => (
            "a file".into(),
            format!("name the folder that it lies in: `{}`", shown(folder)).into(),
        ),
        None => (
            "a file".into(),
            format!("name the folder with `{CONFIG_FILE}` and `{ADAPTER_FILE}`").into(),
        ),
    }
}

/// For a folder with the files of mlx-lm, or with only one of PEFT's.
fn files_of_another_kind(named: &Path) -> Option<(String, Sentence)> {
    let hint = || {
        format!(
            "fetch `{CONFIG_FILE}`, which says its rank and scaling, from where \
                 the adapter came from"
        )
    };
    if named.join(MLX_FILE).is_file() {
        return Some((format!("`{MLX_FILE}` of mlx-lm alone"), hint().into()));
    }
    let alone = named.join(ADAPTER_FILE).is_file();
    alone.then(|| (format!("`{ADAPTER_FILE}` alone"), hint().into()))
}

/// For adapters in subfolders.
fn adapters_below(named: &Path) -> Option<(String, Sentence)> {
    let below = folders_below(named);
    let hint = match below.len() {
        0 => return None,
        1 => "name that folder",
        _ => "name one of these folders",
    };
    let more = if below.len() > NAMED { ", …" } else { "" };
    let listed: Vec<String> = below
        .iter()
        .take(NAMED)
        .map(|folder| format!("`{}`", folder.display()))
        .collect();
    Some((
        "an adapter in a folder below it".into(),
        format!("{hint}: {}{more}", listed.join(", ")).into(),
    ))
}

/// For an adapter in the parent folder.
fn adapter_above(named: &Path) -> Option<(String, Sentence)> {
    let named = named.canonicalize().ok()?;
    let above = named.parent().filter(|path| holds_adapter(path))?;
    Some((
        "an adapter in the folder above it".into(),
        format!("name that folder: `{}`", above.display()).into(),
    ))
}

/// For a folder without an adapter in it, above it or below it.
fn what_the_folder_is(named: &Path) -> (String, Sentence) {
    if named.join("config.json").is_file() {
        let hint = sentence!(
            "name a model with `{}`; a merged model needs no adapter",
            setting("model")
        );
        return ("a whole model".into(), hint);
    }
    let hint =
        format!("name the folder with `{CONFIG_FILE}` and `{ADAPTER_FILE}`, or a run's folder");
    ("neither it nor a folder with it".into(), hint.into())
}

/// The subfolders that contain an adapter, sorted.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let paths = entries
        .take(LOOKED_AT)
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = paths.filter(|path| holds_adapter(path)).collect();
    found.sort();
    found
}

/// A folder in a message; the working directory is a dot.
fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() {
        ".".into()
    } else {
        folder.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        folder
    }

    fn refused(path: &Path) -> (String, String) {
        match locate_adapter(path).unwrap_err() {
            LoraError::NoAdapter { found, hint, .. } => (found, hint.to_string()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_adapter_is_its_folder_and_a_run_has_one() {
        let folder = with(&[
            "a/adapter_config.json",
            "run/adapter/adapter_config.json",
            "of-llama-cpp.gguf",
        ]);
        let path = |name: &str| folder.path().join(name);
        assert_eq!(
            locate_adapter(&path("a")).unwrap(),
            AdapterPlace {
                folder: path("a"),
                note: None
            }
        );
        let file = path("of-llama-cpp.gguf");
        assert_eq!(locate_adapter(&file).unwrap().folder, file);
        let place = locate_adapter(&path("run")).unwrap();
        assert_eq!(place.folder, path("run/adapter"));
        assert!(place.note.unwrap().ends_with("run/adapter`, is used"));
    }

    #[test]
    fn what_is_no_adapter_says_where_one_is() {
        let config = "adapter_config.json";
        let folder = with(&[
            "up/mine/adapter_config.json",
            "up/mine/adapter_model.safetensors",
            "up/mine/inner/x",
            "model/config.json",
        ]);
        let path = |name: &str| folder.path().join(name);
        let (found, hint) = refused(&path("up"));
        assert_eq!(found, "an adapter in a folder below it");
        assert_eq!(
            hint,
            format!("name that folder: `{}`", path("up/mine").display())
        );
        let (found, hint) = refused(&path("up/mine/inner"));
        assert_eq!(found, "an adapter in the folder above it");
        assert!(hint.ends_with("up/mine`"), "{hint}");
        assert!(
            refused(&path("up/mine/adapter_model.safetensors"))
                .1
                .contains("name the folder that it lies in")
        );
        assert_eq!(refused(&path("model")).0, "a whole model");
        assert_eq!(refused(&path("gone")).0, "nothing");
        let (found, hint) = refused(with(&["adapters.safetensors"]).path());
        assert!(found.contains("mlx") && hint.contains(config), "{hint}");
        assert!(
            refused(with(&["adapter_model.safetensors"]).path())
                .1
                .contains(config)
        );
        assert!(refused(with(&[]).path()).1.contains("or a run's folder"));
        let error = locate_adapter(&path("gone")).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("gone` holds no adapter: found nothing, expected `adapter_config.json`"),
            "{error}"
        );
    }
}
