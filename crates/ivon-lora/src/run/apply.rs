//! The commands `evaluate` and `predict`: an adapter folder and its base are enough.

use std::path::{Path, PathBuf};

use super::evaluation::{EvaluationReport, Prediction, Temperatures, predictions};
use super::folder::{self, OpenedAdapter, write_json, write_predictions};
use super::train::{Watch, same_answers};
use super::{Base, ModelConfig, RunError, RunEvent};
use crate::data::{self, ChatSetting, DataConfig, EncodedSet, Example, Source, Split, Task};
use crate::files;
use crate::model::Checkpoint;
use crate::posterior::{PredictWith, Spread};
use crate::predict::{Evaluated, EvaluationOptions, evaluate as evaluate_set};

/// What `evaluate` is asked for. What is absent comes from the adapter's own `ivon_lora.json`.
#[derive(Clone, Debug, Default)]
pub struct EvaluateRequest {
    /// The base: folder, GGUF file or hub name.
    pub model: String,
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// A folder of data files, or a file.
    pub data: PathBuf,
    /// The split's name; by default test, else validation.
    pub split: Option<String>,
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
}

/// Where the rows of a prediction come from.
#[derive(Clone, Debug)]
pub enum Input {
    /// Rows of a data file or of a split of a folder; labels are not needed.
    Data(PathBuf, Option<String>),
    /// Finished prompts, for tasks whose answers are the same in every row.
    Prompts(Vec<String>),
}

/// What `predict` is asked for.
#[derive(Clone, Debug)]
pub struct PredictRequest {
    /// As for `evaluate`; its data and split are not read.
    pub common: EvaluateRequest,
    /// The rows.
    pub input: Input,
}

/// Base and adapter, opened together.
pub(super) struct Opened {
    pub base: Base,
    pub adapter: OpenedAdapter,
    pub task: Task,
    pub options: EvaluationOptions,
    chosen: PredictWith,
    temperatures: Option<Temperatures>,
    data: DataConfig,
}

impl Opened {
    pub fn open(request: &EvaluateRequest, watch: Watch<'_>) -> Result<Self, RunError> {
        let checkpoint = Checkpoint::open(&request.model)?;
        let mut base = Base::load(&checkpoint, &request.base)?;
        let adapter = OpenedAdapter::read(&request.adapter, base.config(), base.device())?;
        let sidecar = adapter.sidecar.as_ref();
        if let Some(sidecar) = sidecar.filter(|sidecar| sidecar.base.fingerprint.hash != base.record.fingerprint.hash) {
            watch(RunEvent::Warning(format!(
                "the adapter was trained on `{}`, `{}` has the same shape and other weights: scores can differ",
                sidecar.base.name, base.record.name
            )));
        }
        let named = sidecar.and_then(|sidecar| serde_json::from_value(sidecar.task.clone()).ok());
        let task = request.task.clone().or(named).ok_or_else(|| RunError::NoTask { adapter: request.adapter.clone() })?;
        let spread = adapter.posterior.spread();
        let samples = request.samples.or(sidecar.map(|sidecar| sidecar.samples)).unwrap_or(10);
        if spread == Spread::None && request.samples.is_some_and(|samples| samples > 0) {
            watch(RunEvent::Note("the adapter is a point estimate: there is nothing to draw, all samples would be the mean".into()));
        }
        let scale = request.scale.or(sidecar.map(|sidecar| sidecar.scale)).unwrap_or(1.0);
        let seed = sidecar.map_or(0, |sidecar| sidecar.seed);
        let options = EvaluationOptions { samples: spread.draws(samples), scale, seed, ..EvaluationOptions::default() };
        let chosen = match sidecar.map_or(PredictWith::Mean, |sidecar| sidecar.predict_with) {
            PredictWith::Samples if options.samples > 0 => PredictWith::Samples,
            _ => PredictWith::Mean,
        };
        let chat_template = match &request.chat_template {
            Some(asked) => {
                if let Some(sidecar) = sidecar.filter(|sidecar| sidecar.chat_template != asked.is_on()) {
                    let trained = if sidecar.chat_template { "with" } else { "without" };
                    watch(RunEvent::Warning(format!("the adapter was trained {trained} a chat template: scores can differ")));
                }
                asked.clone()
            }
            None => {
                // The text that the adapter was trained with, whatever the base's own has become.
                let text = sidecar.and_then(|sidecar| sidecar.chat_template_text.clone());
                base.tokenizer.chat_template = text.or(base.tokenizer.chat_template);
                ChatSetting::Own(sidecar.is_some_and(|sidecar| sidecar.chat_template))
            }
        };
        base.tokenizer = chat_template.put_into(base.tokenizer)?;
        let data = DataConfig {
            max_length: sidecar.map_or(DataConfig::default().max_length, |sidecar| sidecar.max_length),
            chat_template,
            ..DataConfig::default()
        };
        let temperatures = sidecar.and_then(Temperatures::of);
        Ok(Self { base, adapter, task, options, chosen, temperatures, data })
    }

    pub fn encode(&self, examples: &[Example]) -> Result<EncodedSet, RunError> {
        Ok(data::encode_all(examples, &self.base.tokenizer, self.data.encode_options(&self.task))?)
    }

    /// As the adapter's own options say.
    pub fn evaluate(&self, set: &EncodedSet, what: &'static str, watch: Watch<'_>) -> Result<Evaluated, RunError> {
        let total = set.examples.len() * (self.options.samples + 1);
        self.evaluate_with(set, &self.options, &mut |done| watch(RunEvent::Progress { what, done, total }))
    }

    /// With other options than the adapter's own; `watch` hears how many examples are done over all passes.
    pub fn evaluate_with(
        &self,
        set: &EncodedSet,
        options: &EvaluationOptions,
        watch: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Evaluated, RunError> {
        let scaling = self.adapter.lora.scaling();
        let mut watch = |done, _| watch(done);
        Ok(evaluate_set(&self.base.network, self.adapter.posterior.as_ref(), scaling, &set.examples, options, &mut watch)?)
    }
}

/// Scores an adapter on a labelled split; writes `evaluation.json` and `predictions.jsonl` where asked to.
///
/// # Errors
/// Whatever is wrong with base, adapter, data, or a file.
pub fn evaluate(request: &EvaluateRequest, watch: Watch<'_>) -> Result<EvaluationReport, RunError> {
    let opened = Opened::open(request, watch)?;
    let (split, source) = rows(&request.data, request.split.as_deref(), &opened.task)?;
    let mut examples = source.examples;
    examples.truncate(request.eval_limit.unwrap_or(usize::MAX));
    let set = opened.encode(&examples)?;
    super::evaluation::labels(&set.examples)?;
    if let Some(out) = &request.out {
        files::create_folder(out)?;
        files::check_can_write(&out.join(folder::EVALUATION_FILE))?;
    }
    let evaluated = opened.evaluate(&set, "evaluating", watch)?;
    let EvaluationOptions { seed, scale, .. } = opened.options;
    let same_answers = same_answers(&opened.task);
    let mut report = EvaluationReport::new(&split, &set.examples, &evaluated, same_answers, seed, scale, opened.chosen)?;
    if let Some(temperatures) = opened.temperatures {
        report = report.with_temperatures(&set.examples, &evaluated, same_answers, temperatures)?;
    }
    if let Some(out) = &request.out {
        let words: Vec<&Example> = set.kept.iter().map(|&index| &examples[index]).collect();
        let lines = predictions(&set.examples, &words, &evaluated, opened.chosen, opened.temperatures, request.include_text)?;
        watch(RunEvent::Saved(&write_json(&out.join(folder::EVALUATION_FILE), &report)?));
        watch(RunEvent::Saved(&write_predictions(&out.join(folder::PREDICTIONS_FILE), &lines)?));
    }
    Ok(report)
}

/// Predicts rows or prompts and gives a line for each, in their order.
///
/// # Errors
/// Whatever is wrong with base, adapter or data.
pub fn predict(request: &PredictRequest, watch: Watch<'_>) -> Result<Vec<Prediction>, RunError> {
    if let Some(out) = &request.common.out {
        files::check_can_write(out)?;
    }
    let opened = Opened::open(&request.common, watch)?;
    let mut examples = match &request.input {
        Input::Data(path, split) => rows(path, split.as_deref(), &opened.task)?.1.examples,
        Input::Prompts(prompts) => prompt_examples(prompts, &opened.task)?,
    };
    examples.truncate(request.common.eval_limit.unwrap_or(usize::MAX));
    let set = opened.encode(&examples)?;
    for dropped in &set.dropped {
        watch(RunEvent::Warning(format!("`{}` is left out: {}", dropped.id, dropped.reason)));
    }
    let evaluated = opened.evaluate(&set, "predicting", watch)?;
    let words: Vec<&Example> = set.kept.iter().map(|&index| &examples[index]).collect();
    let lines = predictions(&set.examples, &words, &evaluated, opened.chosen, opened.temperatures, request.common.include_text)?;
    if let Some(out) = &request.common.out {
        watch(RunEvent::Saved(&write_predictions(out, &lines)?));
    }
    Ok(lines)
}

/// Prompts as examples whose answers are the task's.
fn prompt_examples(prompts: &[String], task: &Task) -> Result<Vec<Example>, RunError> {
    let answers = match &task.form {
        data::Form::Template { answers, .. } => answers.clone().into(),
        _ => {
            let found = format!("`{}`, whose rows bring their own choices", task.name);
            return Err(RunError::Setting {
                name: "task",
                found,
                expected: "a task with the same answers in every row, or rows in place of prompts",
            });
        }
    };
    Ok(prompts
        .iter()
        .enumerate()
        .map(|(index, prompt)| Example::from_prompt(format!("prompt-{}", index + 1), prompt, std::sync::Arc::clone(&answers)))
        .collect())
}

/// The rows of a split, with its name: of the file itself, which is named as it is, or of the file of that role in a folder.
pub(super) fn rows(path: &Path, split: Option<&str>, task: &Task) -> Result<(String, Source), RunError> {
    rows_filled(path, split, task, &[])
}

/// As [`rows`], with the fields of the task filled from these columns, where any are named.
pub(super) fn rows_filled(
    path: &Path,
    split: Option<&str>,
    task: &Task,
    fields: &[(String, String)],
) -> Result<(String, Source), RunError> {
    let files = data::find_files(path, &task.name)?;
    let wanted = |name: &str| files.iter().find(|file| file.split.name() == name);
    let found = match split {
        Some(name) => wanted(name),
        None if path.is_file() => files.first(),
        None => wanted(Split::Test.name()).or_else(|| wanted(Split::Validation.name())).or(files.first()),
    };
    let found = found.ok_or_else(|| {
        let there: Vec<&str> = files.iter().map(|file| file.split.name()).collect();
        RunError::Setting {
            name: "split",
            found: format!("`{}` where the folder has {}", split.unwrap_or(""), there.join(", ")),
            expected: "one of these",
        }
    })?;
    let mut all = Source::default();
    for path in &found.paths {
        let part = if fields.is_empty() { data::load_file(path, task)? } else { data::load_file_filled(path, task, fields)? };
        all.examples.extend(part.examples);
    }
    let name = path.file_name().filter(|_| path.is_file());
    Ok((name.map_or_else(|| found.split.name().to_string(), |name| name.to_string_lossy().into_owned()), all))
}
