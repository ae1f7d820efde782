//! The subject of a study: an adapter or a run's folder → base, adapter, and the rows to score and to
//! choose on.

use std::path::PathBuf;

use super::StudyError;
use ivon_lora::answer::{AnswerOptions, Answerer, ExampleSet, labelled_files, warn_of_trained};
use ivon_lora::data::{Dataset, Example, Role, Source, Split, TaskReader, find_files};
use ivon_lora::files::check_exists;
use ivon_lora::run::{ADAPTER_FOLDER, RUN_FILE, RunConfig, read_run, rows_of_run};
use ivon_lora::settings::SettingError;
use ivon_lora::watch::Watch;

/// The inputs that `scale`, `prune` and `shift` have in common. What is absent is taken from the run, or
/// from the adapter's `ivon_lora.json`.
#[derive(Clone, Debug, Default)]
pub struct SubjectRequest {
    /// A run's folder, or an adapter's.
    pub path: PathBuf,
    /// The base; if absent, the run's.
    pub model: Option<String>,
    /// A folder of data files, or a file; if absent, the run's own rows.
    pub data: Option<PathBuf>,
    /// The split that is scored; by default test, or else validation.
    pub split: Option<String>,
    /// The largest number of examples.
    pub limit: Option<usize>,
    /// Task, number of draws, device.
    pub options: AnswerOptions,
}

/// Base, adapter and rows.
pub(super) struct Subject {
    pub answerer: Answerer,
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The run's folder, if one was named.
    pub run: Option<PathBuf>,
    /// The rows that are scored.
    pub scored: ExampleSet,
    /// The rows to choose on.
    pub calibrate: Option<ExampleSet>,
}

impl Subject {
    /// Opens a subject.
    ///
    /// # Errors
    /// If model or data are named nowhere, and whatever is wrong with base, adapter or rows.
    pub fn open(request: &SubjectRequest, watch: Watch<'_>) -> Result<Self, StudyError> {
        // First, because otherwise the model would be reported as missing.
        check_exists(&request.path)?;
        let settings = request.path.join(RUN_FILE);
        let config = settings.exists().then(|| read_run(&settings)).transpose()?;
        let adapter = match config {
            Some(_) => request.path.join(ADAPTER_FOLDER),
            None => request.path.clone(),
        };
        let of_run = || config.as_ref()?.model.path.clone();
        let model = request.model.clone().or_else(of_run).ok_or_else(|| {
            absent(
                "model",
                "the base of the adapter: a folder, a `.gguf` file or a hub name",
            )
        })?;
        let answerer = Answerer::open(&model, &adapter, &request.options, watch)?;
        let (scored, calibrate) = rows(request, config.as_ref(), &answerer, watch)?;
        let mut encode = |(name, source): Named| -> Result<ExampleSet, StudyError> {
            let set = answerer.example_set(&name, source, request.limit, watch)?;
            if !answerer.task().is_text() {
                set.labels()?;
            }
            Ok(set)
        };
        let (scored, calibrate) = (encode(scored)?, calibrate.map(encode).transpose()?);
        Ok(Self {
            answerer,
            adapter,
            run: config.map(|_| request.path.clone()),
            scored,
            calibrate,
        })
    }
}

/// The error about an input that neither the request nor a run names.
fn absent(name: &'static str, expected: &'static str) -> StudyError {
    SettingError::new(name, "absent", expected).into()
}

/// The rows to score, and those to choose on: of files, or the run's own.
fn rows(
    request: &SubjectRequest,
    config: Option<&RunConfig>,
    answerer: &Answerer,
    watch: Watch<'_>,
) -> Result<(Named, Option<Named>), StudyError> {
    let split = request.split.as_deref();
    match (&request.data, config) {
        (Some(path), _) => {
            let rows = of_files(path, split, answerer.task_reader())?;
            let sidecar = answerer.bundle().sidecar.as_ref();
            warn_of_trained(sidecar, path, &rows.0.1.examples, watch);
            Ok(rows)
        }
        (None, Some(config)) => {
            let dataset = rows_of_run(&request.path, config, answerer.task(), watch)?;
            of_run(&dataset, split)
        }
        (None, None) => Err(absent("data", "a folder of data files, or a file")),
    }
}

/// A split's name and its rows.
type Named = (String, Source);

/// The rows of a run in the roles that they had.
fn of_run(dataset: &Dataset, split: Option<&str>) -> Result<(Named, Option<Named>), StudyError> {
    let role = role_named(split)?;
    // Without what was left out of the files, which the run has reported.
    let of = |examples: &[Example]| Source {
        examples: examples.to_vec(),
        rows: examples.len(),
        ..Source::default()
    };
    let scored = of(dataset.required(role)?);
    let calibrate = (role != Role::Calibrate && !dataset.calibrate.is_empty())
        .then(|| ("calibrate".into(), of(&dataset.calibrate)));
    Ok((
        (
            role.name().into(),
            Source {
                notes: [&dataset.report.notes[..], &dataset.report.warnings].concat(),
                ..scored
            },
        ),
        calibrate,
    ))
}

/// The role of this name; test if there is no name.
fn role_named(name: Option<&str>) -> Result<Role, StudyError> {
    let Some(name) = name else {
        return Ok(Role::Test);
    };
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    role.ok_or_else(|| {
        let expected = "a role of the run's rows: train, tune, calibrate or test";
        StudyError::Setting(SettingError::new("split", format!("`{name}`"), expected))
    })
}

/// The rows of files. Only a file named calibrate serves to choose on, because the adapter may have been
/// trained on any other.
fn of_files(
    path: &std::path::Path,
    split: Option<&str>,
    reader: &TaskReader,
) -> Result<(Named, Option<Named>), StudyError> {
    let (name, source) = labelled_files(path, split, reader, &[])?;
    let calibrate = Split::Calibrate.name();
    let has_calibrate = name != calibrate
        && find_files(path, &reader.task().name)?
            .iter()
            .any(|file| file.split == Split::Calibrate);
    let chosen = has_calibrate
        .then(|| labelled_files(path, Some(calibrate), reader, &[]))
        .transpose()?;
    Ok(((name, source), chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_what_is_said_to_be_missing() {
        let request = SubjectRequest {
            path: "runs/none".into(),
            ..SubjectRequest::default()
        };
        let message = Subject::open(&request, &mut |_| true)
            .err()
            .unwrap()
            .to_string();
        assert!(
            message.contains("runs/none") && !message.contains("model"),
            "{message}"
        );
    }
}
