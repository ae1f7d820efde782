//! An adapter folder and its base, opened together → the command `evaluate`.

use std::path::{Path, PathBuf};

use super::evaluation::{EvaluationReport, Temperatures, predictions};
use super::folder::{self, write_json, write_predictions};
use super::known;
use super::lines::mark_truncated;
use super::named::{listen, other_base};
use super::train::{Watch, answers_of, same_answers};
use super::{Base, ModelConfig, RunError, RunEvent, Stage, base};
use crate::bundle::{Bundle, BundleError, PredictWith, Sidecar, locate_adapter};
use crate::data::{
    self, ChatSetting, DataConfig, EncodeOptions, EncodedSet, Example, LabelReading, Prepared,
    Role, Source, Split, Task, Tokenizer,
};
use crate::files;
use crate::posterior::Spread;
use crate::predict::{Evaluated, EvaluationOptions, evaluate as evaluate_set};

/// What `evaluate` is asked for. What is absent comes from the adapter's own `ivon_lora.json`.
#[derive(Clone, Debug, Default)]
pub struct EvaluateRequest {
    /// The base: folder, GGUF file or hub name.
    pub model: String,
    /// The adapter's folder, or its name on the hub.
    pub adapter: PathBuf,
    /// A folder of data files, or a file.
    pub data: PathBuf,
    /// The split's name; by default test, else validation.
    pub split: Option<String>,
    /// The role that rows must have played when the adapter was trained; all rows where absent.
    pub role: Option<Role>,
    /// A task, for an adapter that names none.
    pub task: Option<Task>,
    /// A chat template, for an adapter that says nothing of one.
    pub chat_template: Option<ChatSetting>,
    /// Number of draws.
    pub samples: Option<usize>,
    /// τ.
    pub scale: Option<f64>,
    /// The most examples.
    pub eval_limit: Option<usize>,
    /// Where `evaluation.json` and `predictions.jsonl` go.
    pub out: Option<PathBuf>,
    /// Device, threads, precision; the path in it is not read.
    pub base: ModelConfig,
    /// Whether prompts are written into predictions.
    pub include_text: bool,
    /// The field with a row's id; the usual ones by default.
    pub id_field: Option<String>,
    /// What labels are, where they could be read in two ways; as the task has it by default.
    pub label_reading: Option<LabelReading>,
}

/// Base and adapter, opened together.
pub struct Opened {
    pub base: Base,
    pub adapter: Bundle,
    pub task: Task,
    pub prepared: Prepared,
    pub options: EvaluationOptions,
    pub chosen: PredictWith,
    pub temperatures: Option<Temperatures>,
    data: DataConfig,
}

impl Opened {
    pub fn open(request: &EvaluateRequest, watch: Watch<'_>) -> Result<Self, RunError> {
        let folder = locate_adapter(&request.adapter, &mut |event| listen(event, watch))?;
        let checkpoint = base::open(&request.model, watch)?;
        let mut base = Base::load(&checkpoint, &request.base)?;
        let adapter = Bundle::read(&folder, base.config(), base.device())?;
        let sidecar = adapter.sidecar.as_ref();
        if let Some(warning) = other_base(
            adapter.base_name.as_deref().filter(|_| sidecar.is_none()),
            &base,
        ) {
            watch(RunEvent::Warning(warning.into()));
        }
        if let Some(sidecar) =
            sidecar.filter(|sidecar| sidecar.base.fingerprint.hash != base.record.fingerprint.hash)
        {
            watch(RunEvent::Warning(format!(
                "the adapter was trained on `{}`, `{}` has the same shape and other weights: scores can differ",
                sidecar.base.name, base.record.name
            ).into()));
        }
        let named = sidecar.map(|sidecar| sidecar.task.clone());
        let task = request
            .task
            .clone()
            .or(named)
            .ok_or_else(|| BundleError::NoTask {
                adapter: request.adapter.clone(),
            })?;
        let reading = request.label_reading.or(task.label_reading);
        let task = task.with_label_reading(reading);
        let spread = adapter.posterior.spread();
        let samples = request
            .samples
            .or(sidecar.map(|sidecar| sidecar.samples))
            .unwrap_or(10);
        if spread == Spread::None && request.samples.is_some_and(|samples| samples > 0) {
            watch(RunEvent::Note("the adapter is a point estimate: there is nothing to draw, all samples would be the mean".into()));
        }
        if spread != Spread::Scaled && request.scale.is_some() {
            let what = if spread == Spread::None {
                "a point estimate"
            } else {
                "a posterior without a variance"
            };
            watch(RunEvent::Warning(
                format!("the adapter is {what}: there is no variance that a scale could multiply")
                    .into(),
            ));
        }
        let scale = request
            .scale
            .or(sidecar.map(|sidecar| sidecar.scale))
            .unwrap_or(1.0);
        let seed = sidecar.map_or(0, |sidecar| sidecar.seed);
        let options = EvaluationOptions {
            samples: spread.draws(samples),
            scale,
            seed,
            ..EvaluationOptions::default()
        };
        let chosen = match sidecar.map_or(PredictWith::Mean, |sidecar| sidecar.predict_with) {
            PredictWith::Samples if options.samples > 0 => PredictWith::Samples,
            _ => PredictWith::Mean,
        };
        let chat_template = chat_template(request, sidecar, &mut base.tokenizer, watch);
        base.tokenizer = chat_template.put_into(base.tokenizer)?;
        let data = DataConfig {
            max_length: sidecar.map_or(DataConfig::default().max_length, |sidecar| {
                sidecar.max_length
            }),
            chat_template,
            ..DataConfig::default()
        };
        let temperatures = sidecar.and_then(Temperatures::of);
        let prepared = task.prepare()?.with_id_field(request.id_field.as_deref());
        Ok(Self {
            base,
            adapter,
            task,
            prepared,
            options,
            chosen,
            temperatures,
            data,
        })
    }

    pub fn encode_options(&self) -> EncodeOptions {
        self.data.encode_options(&self.task)
    }

    pub fn encode(&self, examples: &[Example]) -> Result<EncodedSet, RunError> {
        Ok(data::encode_all(
            examples,
            &self.base.tokenizer,
            self.encode_options(),
        )?)
    }

    /// Encodes the first `limit` rows and says what became of them; `name` names the set.
    pub fn encode_rows(
        &self,
        name: &str,
        source: Source,
        limit: Option<usize>,
        watch: Watch<'_>,
    ) -> Result<(Vec<Example>, EncodedSet), RunError> {
        for note in source.notes {
            watch(RunEvent::Note(note));
        }
        let mut said = source.dropped.sentences(name, source.rows);
        let mut examples = source.examples;
        examples.truncate(limit.unwrap_or(usize::MAX));
        let set = if examples.is_empty() {
            EncodedSet::default()
        } else {
            self.encode(&examples)?
        };
        said.extend(set.account(name, &examples, self.data.max_length));
        for said in said {
            watch(RunEvent::Warning(said.into()));
        }
        Ok((examples, set))
    }

    /// As the adapter's own options say.
    pub fn evaluate(
        &self,
        set: &EncodedSet,
        what: Stage,
        watch: Watch<'_>,
    ) -> Result<Evaluated, RunError> {
        let total = set.examples.len() * (self.options.samples + 1);
        self.evaluate_with(set, &self.options, &mut |done| {
            watch(RunEvent::Progress { what, done, total })
        })
    }

    /// With other options than the adapter's own; `watch` hears how many examples are done over all
    /// passes.
    pub fn evaluate_with(
        &self,
        set: &EncodedSet,
        options: &EvaluationOptions,
        watch: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Evaluated, RunError> {
        let scaling = self.adapter.lora.scaling();
        let mut watch = |done, _| watch(done);
        Ok(evaluate_set(
            &self.base.network,
            self.adapter.posterior.as_ref(),
            scaling,
            &set.examples,
            options,
            &mut watch,
        )?)
    }
}

/// The chat template that was asked for, else that of the adapter's training, whose text goes
/// before what the base's own has become.
fn chat_template(
    request: &EvaluateRequest,
    sidecar: Option<&Sidecar>,
    tokenizer: &mut Tokenizer,
    watch: Watch<'_>,
) -> ChatSetting {
    let Some(asked) = &request.chat_template else {
        if let Some(text) = sidecar.and_then(|sidecar| sidecar.chat_template_text.clone()) {
            tokenizer.chat_template = Some(text);
        }
        return ChatSetting::Own(sidecar.is_some_and(|sidecar| sidecar.chat_template));
    };
    if let Some(sidecar) = sidecar.filter(|sidecar| sidecar.chat_template != asked.is_on()) {
        let trained = if sidecar.chat_template {
            "with"
        } else {
            "without"
        };
        watch(RunEvent::Warning(
            format!("the adapter was trained {trained} a chat template: scores can differ").into(),
        ));
    }
    asked.clone()
}

/// Scores an adapter on a labelled split; writes `evaluation.json` and `predictions.jsonl` where
/// asked to.
///
/// # Errors
/// Whatever is wrong with base, adapter, data, or a file.
pub fn evaluate(request: &EvaluateRequest, watch: Watch<'_>) -> Result<EvaluationReport, RunError> {
    let opened = Opened::open(request, watch)?;
    let (file, mut source) = rows(&request.data, request.split.as_deref(), &opened.prepared)?;
    let sidecar = opened.adapter.sidecar.as_ref();
    if let Some(role) = request.role {
        source.examples = known::of_role(sidecar, role, &request.data, source.examples)?;
    }
    if request.role != Some(Role::Train) {
        known::warn_of_trained(sidecar, &request.data, &source.examples, watch);
    }
    let split = request
        .role
        .map_or_else(|| file.clone(), |role| role.to_string());
    let (examples, set) = opened.encode_rows(&split, source, request.eval_limit, watch)?;
    if set.examples.is_empty() {
        return Err(RunError::NoRows {
            set: split,
            path: request.data.clone(),
        });
    }
    super::evaluation::labels(&set.examples)?;
    if let Some(out) = &request.out {
        files::create_folder(out)?;
        files::check_can_write(&out.join(folder::EVALUATION_FILE))?;
    }
    let evaluated = opened.evaluate(&set, Stage::Evaluating, watch)?;
    let EvaluationOptions { seed, scale, .. } = opened.options;
    let same_answers = same_answers(&opened.task);
    let mut report = EvaluationReport::new(
        &split,
        &set.examples,
        &evaluated,
        same_answers,
        seed,
        scale,
        opened.chosen,
    )?;
    report.source = request.role.map(|_| format!("of {file}"));
    report.answers = answers_of(&opened.task);
    if let Some(temperatures) = opened.temperatures {
        report = report.with_temperatures(&set.examples, &evaluated, same_answers, temperatures)?;
    }
    if let Some(out) = &request.out {
        let words: Vec<&Example> = set.kept.iter().map(|&index| &examples[index]).collect();
        let mut lines = predictions(
            &set.examples,
            &words,
            &evaluated,
            opened.chosen,
            opened.temperatures,
            request.include_text,
        )?;
        mark_truncated(&mut lines, &set);
        watch(RunEvent::Saved(&write_json(
            &out.join(folder::EVALUATION_FILE),
            &report,
        )?));
        watch(RunEvent::Saved(&write_predictions(
            &out.join(folder::PREDICTIONS_FILE),
            &lines,
        )?));
    }
    Ok(report)
}

/// The rows of a split, with its name: of the file itself, which is named as it is, or of the file
/// of that role in a folder.
pub fn rows(
    path: &Path,
    split: Option<&str>,
    prepared: &Prepared,
) -> Result<(String, Source), RunError> {
    rows_filled(path, split, prepared, &[])
}

/// As [`rows`], with the fields of the task filled from these columns, where any are named.
pub fn rows_filled(
    path: &Path,
    split: Option<&str>,
    prepared: &Prepared,
    fields: &[(String, String)],
) -> Result<(String, Source), RunError> {
    let found = files_of(path, split, &prepared.task().name)?;
    let mut all = Source {
        notes: found.aside.into_iter().collect(),
        ..Source::default()
    };
    for path in &found.paths {
        all.extend(match fields.is_empty() {
            true => data::load_file_by(path, prepared)?,
            false => data::load_file_filled(path, prepared, fields)?,
        });
    }
    Ok((found.name, all))
}

/// The files of one split.
pub(super) struct Found {
    /// The name of the split, or of the file.
    pub name: String,
    pub paths: Vec<PathBuf>,
    /// Which files are left aside, in a sentence.
    pub aside: Option<String>,
}

/// The files of a split of a folder, by default test, else validation; or one file, as it is named.
pub(super) fn files_of(path: &Path, split: Option<&str>, task: &str) -> Result<Found, RunError> {
    let files = data::find_files(path, task)?;
    let wanted = |name: &str| files.iter().find(|file| file.split.name() == name);
    let found = match split {
        Some(name) => wanted(name),
        None if path.is_file() => files.first(),
        None => wanted(Split::Test.name())
            .or_else(|| wanted(Split::Validation.name()))
            .or(files.first()),
    };
    let found = found.ok_or_else(|| {
        let there: Vec<&str> = files.iter().map(|file| file.split.name()).collect();
        RunError::Setting {
            name: "split",
            found: format!(
                "`{}` where the folder has {}",
                split.unwrap_or(""),
                there.join(", ")
            ),
            expected: "one of these",
        }
    })?;
    let name = path.file_name().filter(|_| path.is_file());
    let name = name.map_or_else(
        || found.split.name().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    Ok(Found {
        name,
        paths: found.paths.clone(),
        aside: found.alone(task)?,
    })
}
