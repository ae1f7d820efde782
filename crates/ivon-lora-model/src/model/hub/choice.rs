//! Selects the files of a repository that make up the requested model.

use std::collections::BTreeSet;

use super::name::{HubName, is_gguf, is_part};
use crate::model::error::ModelError;
use crate::model::safetensors::INDEX;
use crate::sentence::{sentence, setting, setting_to};

/// The format in which a repository is opened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Choice {
    /// `config.json`, safetensors and a tokenizer.
    Folder,
    /// The parts of one GGUF model, the first part first.
    Gguf(Vec<String>),
}

/// Selects by name from the files of a repository.
///
/// # Errors
/// [`ModelError::Hub`] if there is no such model, or more than one.
pub(super) fn choose(name: &HubName, files: &[String]) -> Result<Choice, ModelError> {
    let models = gguf_models(files);
    if let Some(file) = &name.file {
        return choose_file(name, file, &models);
    }
    if let Some(tag) = &name.quantisation {
        return choose_quantisation(name, tag, models);
    }
    let has = |file: &str| files.iter().any(|known| known == file);
    if has("config.json") {
        return Ok(Choice::Folder);
    }
    match &models[..] {
        [one] => complete(name, one).map(Choice::Gguf),
        [] if has("adapter_config.json") => Err(is_an_adapter(name)),
        [] => Err(name.error(
            "the repository has neither a `config.json` nor a `.gguf` file",
            NO_WEIGHTS,
        )),
        many => {
            let count = many.len();
            let reason = format!("the repository has {count} `.gguf` files, expected one");
            Err(name.error(reason, hint(name, many)))
        }
    }
}

fn is_an_adapter(name: &HubName) -> ModelError {
    let hint = sentence!(
        "name it with `{}`, and its base with `{}`",
        setting_to("adapter", &name.repository),
        setting("model")
    );
    let reason = "the repository holds an adapter, expected the model that it was trained on";
    name.error(reason, hint)
}

/// The model that includes the named file.
fn choose_file(
    name: &HubName,
    file: &String,
    models: &[Vec<String>],
) -> Result<Choice, ModelError> {
    match models.iter().find(|parts| parts.contains(file)) {
        Some(parts) => complete(name, parts).map(Choice::Gguf),
        None => {
            let count = models.len();
            let reason = format!(
                "there is no file `{file}`, but {count} `.gguf` {}",
                noun(count)
            );
            Err(name.error(reason, hint(name, models)))
        }
    }
}

/// The only model with this quantisation in its name.
fn choose_quantisation(
    name: &HubName,
    tag: &str,
    all: Vec<Vec<String>>,
) -> Result<Choice, ModelError> {
    let has_tag = |parts: &&Vec<String>| has_quantisation(&parts[0], tag);
    let models: Vec<Vec<String>> = all.iter().filter(has_tag).cloned().collect();
    match &models[..] {
        [one] => complete(name, one).map(Choice::Gguf),
        [] => {
            let count = all.len();
            let reason = format!(
                "no `.gguf` file of it has `{tag}` in its name, of {count} {}",
                noun(count)
            );
            Err(name.error(reason, hint(name, &all)))
        }
        many => {
            let count = many.len();
            let reason = format!("{count} `.gguf` files have `{tag}` in their names, expected one");
            Err(name.error(reason, hint(name, many)))
        }
    }
}

const NO_WEIGHTS: &str = "choose a repository with safetensors weights, or a `.gguf` file";

fn noun(count: usize) -> &'static str {
    if count == 1 { "file" } else { "files" }
}

/// The weight files of a folder, in transformers' order of precedence: `model.safetensors`, else
/// those of the index, else the only one. `index` is called only if needed.
///
/// # Errors
/// [`ModelError::Hub`] if there are none or some are missing; those of `index`.
pub(super) fn weights(
    name: &HubName,
    files: &[String],
    index: impl FnOnce() -> Result<BTreeSet<String>, ModelError>,
) -> Result<Vec<String>, ModelError> {
    let has = |file: &str| files.iter().any(|known| known == file);
    if has("model.safetensors") {
        return Ok(vec!["model.safetensors".into()]);
    }
    if has(INDEX) {
        let named: Vec<String> = index()?.into_iter().collect();
        let absent = named.iter().filter(|file| !has(file)).count();
        return match named.iter().find(|file| !has(file)) {
            None => Ok(named),
            Some(file) => Err(name.error(
                format!("`{INDEX}` names {} files, and {absent} of them are not in the repository, first `{file}`", named.len()),
                "choose another revision, or a repository with all of its weights",
            )),
        };
    }
    let mut found = files.iter().filter(|file| {
        file.ends_with(".safetensors") && is_part(file) && !file.starts_with("adapter")
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(vec![one.clone()]),
        _ => Err(no_weights(name, files)),
    }
}

fn no_weights(name: &HubName, files: &[String]) -> ModelError {
    let mut files = files.iter();
    let pickled = files.find(|file| file.ends_with(".bin") && is_part(file));
    let found = pickled.map_or_else(String::new, |file| format!(", but `{file}`"));
    name.error(
        format!("the repository has no `model.safetensors` and no index of several{found}"),
        NO_WEIGHTS,
    )
}

/// Whether a file is GGUF, but neither a vision tower nor the data used for quantisation.
fn is_language_model(file: &str) -> bool {
    let base = file.rsplit('/').next().unwrap_or_default().to_lowercase();
    is_gguf(file) && !base.starts_with("mmproj") && !base.contains("imatrix")
}

/// The GGUF models of a repository, each as its files by name; the parts of a split one are in
/// order.
fn gguf_models(files: &[String]) -> Vec<Vec<String>> {
    let files = files.iter();
    let mut sorted: Vec<&String> = files.filter(|file| is_language_model(file)).collect();
    sorted.sort();
    sorted.dedup();
    let mut models: Vec<Vec<String>> = Vec::new();
    for file in sorted {
        let whole = |file: &str| split_part(file).map(|(stem, _, count)| (stem.to_string(), count));
        match models
            .last_mut()
            .filter(|parts| whole(file).is_some() && whole(&parts[0]) == whole(file))
        {
            Some(parts) => parts.push(file.clone()),
            None => models.push(vec![file.clone()]),
        }
    }
    models
}

/// Stem, number and count of `STEM-00002-of-00003.gguf`.
fn split_part(file: &str) -> Option<(&str, usize, usize)> {
    let rest = &file[..file.len().checked_sub(".gguf".len())?];
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let read = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
    Some((stem, read(number)?, read(count)?))
}

/// The parts of a model, if none is missing.
fn complete(name: &HubName, parts: &[String]) -> Result<Vec<String>, ModelError> {
    let Some((stem, _, count)) = split_part(&parts[0]) else {
        return Ok(parts.to_vec());
    };
    // They are sorted by name, and so by number.
    let numbers: Vec<usize> = parts
        .iter()
        .filter_map(|part| Some(split_part(part)?.1))
        .collect();
    match (1..=count).find(|number| numbers.get(number - 1) != Some(number)) {
        None => Ok(parts.to_vec()),
        Some(number) => {
            let reason =
                format!("part {number} of {count} of the split file `{stem}` is not there");
            Err(name.error(reason, "choose another revision, or another file"))
        }
    }
}

/// Whether a file name contains this quantisation as a separate word, so that `Q4_K` does not match
/// `Q4_K_M`.
fn has_quantisation(file: &str, tag: &str) -> bool {
    let stem =
        split_part(file).map_or_else(|| &file[..file.len() - ".gguf".len()], |(stem, _, _)| stem);
    let (stem, tag) = (stem.to_lowercase(), tag.to_lowercase());
    let begins = |before: &str| before.is_empty() || before.ends_with(['-', '.', '/', '_']);
    let ends = |after: &str| after.is_empty() || after.starts_with(['-', '.', '/']);
    stem.match_indices(&tag)
        .any(|(at, _)| begins(&stem[..at]) && ends(&stem[at + tag.len()..]))
}

fn hint(name: &HubName, models: &[Vec<String>]) -> String {
    let Some(first) = models.first() else {
        return NO_WEIGHTS.into();
    };
    let some: Vec<String> = models
        .iter()
        .take(8)
        .map(|parts| format!("`{}`", parts[0]))
        .collect();
    let more = if models.len() > 8 { ", …" } else { "" };
    format!(
        "name one, for example `{}/{}`; there are {}{more}",
        name.repository,
        first[0],
        some.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(quantisation: Option<&str>, file: Option<&str>) -> HubName {
        let text = |part: Option<&str>| part.map(String::from);
        HubName {
            repository: "o/n".into(),
            quantisation: text(quantisation),
            file: text(file),
            revision: None,
        }
    }

    fn of(name: &HubName, files: &[&str]) -> Result<Choice, String> {
        let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
        choose(name, &files).map_err(|error| {
            assert!(error.hint().is_some());
            error.to_string()
        })
    }

    fn gguf(files: &[&str]) -> Result<Choice, String> {
        Ok(Choice::Gguf(
            files.iter().map(|file| file.to_string()).collect(),
        ))
    }

    #[test]
    fn a_configuration_makes_a_folder_and_a_single_gguf_file_is_the_model() {
        let plain = name(None, None);
        assert_eq!(of(&plain, &["a.gguf", "config.json"]), Ok(Choice::Folder));
        assert_eq!(
            of(
                &plain,
                &["q/a.gguf", "README.md", "mmproj-a.gguf", "a.imatrix.gguf"]
            ),
            gguf(&["q/a.gguf"])
        );
        assert!(
            of(&plain, &["a.gguf", "b.gguf"])
                .unwrap_err()
                .contains("has 2 `.gguf` files, expected one")
        );
        assert!(
            of(&plain, &["a.bin"])
                .unwrap_err()
                .contains("has neither a `config.json` nor a `.gguf` file")
        );
        assert!(
            of(&plain, &["adapter_config.json"])
                .unwrap_err()
                .contains("holds an adapter")
        );
    }

    /// The names are those used by bartowski, unsloth, Qwen and TheBloke.
    #[test]
    fn a_quantisation_picks_the_file_that_has_it_as_a_word() {
        let files = [
            "M-1B-Q4_K_M.gguf",
            "M-1B-Q4_K_S.gguf",
            "M-1B-IQ4_XS.gguf",
            "M-1B-UD-Q4_K_XL.gguf",
            "m-1b.q8_0.gguf",
            "m_q5_0.gguf",
            "BF16/M-1B-BF16-00001-of-00002.gguf",
            "BF16/M-1B-BF16-00002-of-00002.gguf",
        ];
        for (tag, expected) in [
            ("q4_k_m", &["M-1B-Q4_K_M.gguf"][..]),
            ("IQ4_XS", &["M-1B-IQ4_XS.gguf"]),
            ("UD-Q4_K_XL", &["M-1B-UD-Q4_K_XL.gguf"]),
            ("Q4_K_XL", &["M-1B-UD-Q4_K_XL.gguf"]),
            ("Q8_0", &["m-1b.q8_0.gguf"]),
            ("Q5_0", &["m_q5_0.gguf"]),
            (
                "BF16",
                &[
                    "BF16/M-1B-BF16-00001-of-00002.gguf",
                    "BF16/M-1B-BF16-00002-of-00002.gguf",
                ],
            ),
        ] {
            assert_eq!(of(&name(Some(tag), None), &files), gguf(expected), "{tag}");
        }
        for tag in ["Q4_K", "Q4_XS", "Q2_K"] {
            let error = of(&name(Some(tag), None), &files).unwrap_err();
            assert!(
                error.contains(&format!("has `{tag}` in its name, of 7 files")),
                "{error}"
            );
        }
        let twice = of(
            &name(Some("Q4_0"), None),
            &["a-Q4_0.gguf", "b-Q4_0.gguf", "config.json"],
        )
        .unwrap_err();
        assert!(
            twice.contains("2 `.gguf` files have `Q4_0` in their names, expected one"),
            "{twice}"
        );
    }

    #[test]
    fn every_part_of_a_split_file_stands_for_the_whole_and_none_may_be_missing() {
        let parts = [
            "m-00001-of-00003.gguf",
            "m-00002-of-00003.gguf",
            "m-00003-of-00003.gguf",
        ];
        assert_eq!(of(&name(None, Some(parts[1])), &parts), gguf(&parts));
        assert_eq!(
            of(&name(None, None), &[parts[2], parts[0], parts[1]]),
            gguf(&parts)
        );
        let error = of(&name(None, None), &[parts[0], parts[2]]).unwrap_err();
        assert!(
            error.contains("part 2 of 3 of the split file `m` is not there"),
            "{error}"
        );
        assert!(
            of(&name(None, Some("x.gguf")), &parts)
                .unwrap_err()
                .contains("there is no file `x.gguf`, but 1 `.gguf` file")
        );
    }

    #[test]
    fn weights_are_one_file_before_an_index_before_any_other_file() {
        let of = |files: &[&str], index: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
            let index = index.iter().map(|file| file.to_string()).collect();
            weights(&name(None, None), &files, || Ok(index)).map_err(|error| error.to_string())
        };
        assert_eq!(
            of(
                &["model.safetensors", INDEX, "a.safetensors"],
                &["gone.safetensors"]
            )
            .unwrap(),
            ["model.safetensors"]
        );
        assert_eq!(
            of(
                &[INDEX, "a.safetensors", "b.safetensors"],
                &["a.safetensors"]
            )
            .unwrap(),
            ["a.safetensors"]
        );
        assert_eq!(
            of(&["other.safetensors", "adapter_model.safetensors"], &[]).unwrap(),
            ["other.safetensors"]
        );
        let gone = of(
            &[INDEX, "a.safetensors"],
            &["a.safetensors", "b.safetensors"],
        )
        .unwrap_err();
        assert!(
            gone.contains(
                "names 2 files, and 1 of them are not in the repository, first `b.safetensors`"
            ),
            "{gone}"
        );
        let pickled = of(&["pytorch_model.bin"], &[]).unwrap_err();
        assert!(
            pickled.contains(
                "no `model.safetensors` and no index of several, but `pytorch_model.bin`"
            ),
            "{pickled}"
        );
        assert!(
            of(&["a.safetensors", "b.safetensors"], &[])
                .unwrap_err()
                .contains("no index of several")
        );
    }
}
