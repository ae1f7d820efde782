//! A base and an adapter, opened once: rows or prompts in, answers and scores out, any number of times.

use std::path::{Path, PathBuf};

use super::base::{open_checkpoint, other_base};
use super::decided;
use super::example_set::ExampleSet;
use super::options::AnswerOptions;
use super::prediction::{Details, PREDICTIONS_FILE, predictions, write_predictions};
use super::report::{AnswerRule, EVALUATION_FILE, EvaluationReport, Temperatures};
use super::rows::labelled_files;
use super::trained_rows::{of_role, warn_of_trained};
use super::{AnswerError, Base};
use crate::bundle::{Bundle, BundleError, Decision, PredictWith, Sidecar, locate_adapter};
use crate::data::{
    self, ChatSetting, DataConfig, EncodeOptions, EncodedSet, Role, Source, Task, TaskReader,
    Tokenizer,
};
use crate::files;
use crate::lora::{Draw, check_base_tables};
use crate::metrics::PredictedDocument;
use crate::posterior::{Posterior, Spread};
use crate::predict::{EvaluationOptions, Predictor, SetProbabilities};
use crate::watch::{Event, Progress, Stage, Watch};

/// Labelled rows of a file or a folder, to be scored.
#[derive(Clone, Debug, Default)]
pub struct LabelledRows {
    /// A folder of data files, or a file.
    pub path: PathBuf,
    /// The split's name; by default test, or validation if there is no test.
    pub split: Option<String>,
    /// The role of the rows in the adapter's training; all rows if absent.
    pub role: Option<Role>,
    /// The largest number of examples.
    pub limit: Option<usize>,
}

/// A base and an adapter, opened together.
///
/// Everything is read on opening and nothing changes on answering, so that several threads may use
/// the same answerer at once.
pub struct Answerer {
    base: Base,
    bundle: Bundle,
    reader: TaskReader,
    options: EvaluationOptions,
    pub(super) rule: AnswerRule,
    decision: Option<Decision>,
    encoding: DataConfig,
    /// Prepared draws; none unless they were asked for.
    draws: Vec<Draw>,
}

impl Answerer {
    /// Opens a base (a folder, a GGUF file or a hub name) and an adapter (its folder, its run's, or a
    /// hub name). `watch` hears notes and warnings.
    ///
    /// # Errors
    /// Whatever is wrong with base or adapter, and if no task is named.
    pub fn open(
        base: &str,
        adapter: impl AsRef<Path>,
        options: &AnswerOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let adapter = adapter.as_ref();
        let folder = locate_adapter(adapter, watch)?;
        let checkpoint = open_checkpoint(base, watch)?;
        let base = Base::load(&checkpoint, &options.base)?;
        Self::of(base, [adapter, &folder], options, watch)
    }

    /// Opens an adapter (its folder, its run's, or a hub name) on a base in memory, which several
    /// answerers can share. The base of the options is not read.
    ///
    /// # Errors
    /// Whatever is wrong with the adapter, and if no task is named.
    pub fn on(
        base: Base,
        adapter: impl AsRef<Path>,
        options: &AnswerOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let adapter = adapter.as_ref();
        let folder = locate_adapter(adapter, watch)?;
        Self::of(base, [adapter, &folder], options, watch)
    }

    /// The adapter as it was named, and its folder, on a base.
    fn of(
        base: Base,
        [adapter, folder]: [&Path; 2],
        options: &AnswerOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let bundle = Bundle::read(folder, base.config(), base.device())?;
        check_base_tables(folder, bundle.posterior.mean(), |table, row, out| {
            base.network.table_row(table, row, out);
        })
        .map_err(BundleError::from)?;
        if let Some(note) = &bundle.note {
            watch(Event::Note(note.clone()));
        }
        if let Some(warning) = foreign_base(&bundle, &base) {
            watch(Event::Warning(warning.into()));
        }
        let task = task(options, bundle.sidecar.as_ref());
        let task = task.ok_or_else(|| BundleError::NoTask {
            adapter: adapter.into(),
        })?;
        let decision = match options.decide {
            true => decided::decision(folder, &task, options, watch)?,
            false => None,
        };
        let opened = Self::new(base, bundle, task, options, watch)?;
        Ok(opened.with_decision(decision))
    }

    /// The answerer with a decision rule, and with the draws that it is about.
    fn with_decision(mut self, decision: Option<Decision>) -> Self {
        if let Some(Decision { predictions, .. }) = &decision {
            self.options.samples = predictions.samples;
            self.options.scale = predictions.scale;
            self.options.seed = predictions.seed;
            self.rule.predict_with = predictions.predict_with;
        }
        self.decision = decision;
        self
    }

    fn new(
        mut base: Base,
        bundle: Bundle,
        task: Task,
        options: &AnswerOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let sidecar = bundle.sidecar.as_ref();
        note_spread(bundle.posterior.as_ref(), options, watch);
        let evaluation = evaluation_options(&bundle, options);
        let rule = rule(sidecar, &evaluation);
        let chat_template = chat_template(options, sidecar, &mut base.tokenizer, watch);
        base.tokenizer = chat_template.put_into(base.tokenizer)?;
        let default = DataConfig::default();
        let encoding = DataConfig {
            max_length: sidecar.map_or(default.max_length, |sidecar| sidecar.max_length),
            chat_template,
            ..default
        };
        let reader = task.reader()?;
        Ok(Self {
            base,
            bundle,
            reader: reader.with_id_field(options.id_field.as_deref()),
            options: evaluation,
            rule,
            decision: None,
            encoding,
            draws: Vec::new(),
        })
    }

    /// Makes all draws now and keeps them for all questions, whose answers are the same to the bit.
    /// Each draw takes 4 bytes of memory for each weight of the adapter (ten draws of four million
    /// weights: 160 MB).
    ///
    /// # Errors
    /// If a draw cannot be made.
    pub fn with_prepared_draws(mut self) -> Result<Self, AnswerError> {
        let posterior = self.bundle.posterior.as_ref();
        self.draws =
            Predictor::new(&self.base.network, posterior, &self.options).prepare_draws()?;
        Ok(self)
    }

    /// The base.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The adapter.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The task that makes questions from rows.
    pub fn task(&self) -> &Task {
        self.reader.task()
    }

    /// The reader of that task's rows.
    pub fn task_reader(&self) -> &TaskReader {
        &self.reader
    }

    /// The adapter's decision rule, if it is applied.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// Number of draws, τ and seed.
    pub fn options(&self) -> &EvaluationOptions {
        &self.options
    }

    /// Scores labelled rows in memory, the fields of each by name, under `name` in the report.
    ///
    /// # Errors
    /// If a row does not fit the task or has no label, and if `watch` says stop.
    pub fn evaluate_rows(
        &self,
        name: &str,
        rows: Vec<serde_json::Map<String, serde_json::Value>>,
        watch: Watch<'_>,
    ) -> Result<EvaluationReport, AnswerError> {
        let source = Source::of_rows(name, rows, &self.reader)?;
        let set = self.example_set(name, source, None, watch)?;
        let what = format!("`{name}`");
        match set.is_empty() {
            true => Err(data::DataError::EmptySet { what }.into()),
            false => Ok(self.evaluate(set, watch)?.report),
        }
    }

    /// Reads the labelled rows of files, and warns if the adapter was trained on them.
    ///
    /// # Errors
    /// Whatever is wrong with the rows, if there are none, and if one has no label.
    pub fn labelled(
        &self,
        rows: &LabelledRows,
        watch: Watch<'_>,
    ) -> Result<ExampleSet, AnswerError> {
        let (file, mut source) =
            labelled_files(&rows.path, rows.split.as_deref(), &self.reader, &[])?;
        let sidecar = self.bundle.sidecar.as_ref();
        if let Some(role) = rows.role {
            source.examples = of_role(sidecar, role, &rows.path, source.examples)?;
        }
        if rows.role != Some(Role::Train) {
            warn_of_trained(sidecar, &rows.path, &source.examples, watch);
        }
        let name = rows
            .role
            .map_or_else(|| file.clone(), |role| role.to_string());
        let mut set = self.example_set(&name, source, rows.limit, watch)?;
        if set.is_empty() {
            return Err(AnswerError::NoRows {
                set: name,
                path: rows.path.clone(),
            });
        }
        if !self.task().is_text() {
            set.labels()?;
        }
        set.source = rows.role.map(|_| format!("of {file}"));
        Ok(set)
    }

    /// Encodes the first `limit` rows of a set of this name, and reports those that are left out.
    ///
    /// # Errors
    /// If a row cannot be encoded, or none is left.
    pub fn example_set(
        &self,
        name: &str,
        source: Source,
        limit: Option<usize>,
        watch: Watch<'_>,
    ) -> Result<ExampleSet, AnswerError> {
        for note in source.notes {
            watch(Event::Note(note));
        }
        let mut said = source.dropped.sentences(name, source.rows);
        let mut examples = source.examples;
        if let Some(limit) = limit {
            said.extend(data::unlike_the_whole(name, &examples, limit));
            examples.truncate(limit);
        }
        let encoded = match examples.is_empty() {
            true => EncodedSet::default(),
            false => data::encode_all(&examples, &self.base.tokenizer, self.encode_options())?,
        };
        said.extend(encoded.account(name, &examples, self.encoding.max_length));
        for said in said {
            watch(Event::Warning(said.into()));
        }
        Ok(ExampleSet {
            name: name.into(),
            source: None,
            examples,
            encoded,
        })
    }

    /// Scores a set of labelled examples.
    ///
    /// # Errors
    /// If an example has no label, and if `watch` says stop.
    pub fn evaluate(&self, set: ExampleSet, watch: Watch<'_>) -> Result<Evaluation, AnswerError> {
        let evaluated = self.log_probabilities(&set.encoded, Stage::Evaluating, watch)?;
        let report = EvaluationReport::new(
            self.task(),
            &set.encoded.examples,
            &evaluated,
            &self.options,
            &self.rule,
        )?
        .of(&set.name, set.source.clone());
        Ok(Evaluation {
            report,
            set,
            evaluated,
            rule: self.rule,
        })
    }

    /// Log-probabilities of a set at the mean and under the draws of the options.
    ///
    /// # Errors
    /// If a draw cannot be made or a probability is not a number, and if `watch` says stop.
    pub fn log_probabilities(
        &self,
        set: &EncodedSet,
        what: Stage,
        watch: Watch<'_>,
    ) -> Result<SetProbabilities, AnswerError> {
        let predictor = self.predictor(&self.options);
        Ok(predictor.evaluate_as(what, &set.examples, watch)?)
    }

    /// As [`log_probabilities`](Self::log_probabilities), with other options than the answerer's;
    /// `progress` advances by each example in each pass.
    ///
    /// # Errors
    /// As [`log_probabilities`](Self::log_probabilities).
    pub fn log_probabilities_with(
        &self,
        set: &EncodedSet,
        options: &EvaluationOptions,
        progress: &mut Progress<'_>,
    ) -> Result<SetProbabilities, AnswerError> {
        Ok(self.predictor(options).evaluate(&set.examples, progress)?)
    }

    /// The predicted tokens of texts under the first draws of these options, for each of the numbers in
    /// `counts`; at the mean without draws. `progress` advances by each text under each draw.
    ///
    /// # Errors
    /// If the posterior draws logits of choices, a probability is not a number, and if the watcher says
    /// stop.
    pub fn texts_under_first(
        &self,
        counts: &[usize],
        set: &EncodedSet,
        options: &EvaluationOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<PredictedDocument>>, AnswerError> {
        let predictor = self.predictor(options);
        Ok(predictor.texts_under_first(counts, &set.examples, progress)?)
    }

    /// A predictor with these options; prepared draws serve only the answerer's own.
    pub(super) fn predictor(&self, options: &EvaluationOptions) -> Predictor<'_> {
        Predictor {
            draws: match *options == self.options {
                true => &self.draws,
                false => &[],
            },
            ..Predictor::new(&self.base.network, self.bundle.posterior.as_ref(), options)
        }
    }

    /// How questions are encoded.
    pub(super) fn encode_options(&self) -> EncodeOptions {
        self.encoding.encode_options(self.task())
    }
}

/// The scores of a set, and what they were computed from.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The scores.
    pub report: EvaluationReport,
    set: ExampleSet,
    evaluated: SetProbabilities,
    rule: AnswerRule,
}

impl Evaluation {
    /// Writes `evaluation.json` and `predictions.jsonl` into a folder, the latter with prompts if
    /// `include_text`; returns their paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path, include_text: bool) -> Result<[PathBuf; 2], AnswerError> {
        let Self {
            set,
            evaluated,
            rule,
            ..
        } = self;
        let details = Details {
            text: include_text,
            ..Details::default()
        };
        let lines = predictions(&set.encoded, &set.examples, evaluated, rule, details)?;
        let paths = [EVALUATION_FILE, PREDICTIONS_FILE].map(|name| folder.join(name));
        files::write_json(&paths[0], &self.report)?;
        write_predictions(&paths[1], &lines)?;
        Ok(paths)
    }
}

/// The task of the options, or else the adapter's, with labels read as the options say.
fn task(options: &AnswerOptions, sidecar: Option<&Sidecar>) -> Option<Task> {
    let own = || sidecar.map(|sidecar| sidecar.task.clone());
    let task = options.task.clone().or_else(own)?;
    let reading = options.label_reading.or(task.label_reading);
    Some(task.with_label_reading(reading))
}

/// The warning about an adapter that was trained on another base.
pub(super) fn foreign_base(bundle: &Bundle, base: &Base) -> Option<String> {
    let Some(sidecar) = &bundle.sidecar else {
        return other_base(bundle.base_name.as_deref(), base);
    };
    let is_same = sidecar.base.fingerprint.hash == base.record.fingerprint.hash;
    (!is_same).then(|| {
        format!(
            "the adapter was trained on `{}`, `{}` has the same shape and other weights: scores can differ",
            sidecar.base.name, base.record.name
        )
    })
}

/// Reports options that mean nothing for this posterior.
fn note_spread(posterior: &dyn Posterior, options: &AnswerOptions, watch: Watch<'_>) {
    let spread = posterior.spread();
    if spread == Spread::None && options.samples.is_some_and(|samples| samples > 0) {
        watch(Event::Note(
            "the adapter is a point estimate: there is nothing to draw, all samples would be the mean"
                .into(),
        ));
    }
    if spread != Spread::Scaled && options.scale.is_some() {
        let what = match spread {
            Spread::None => "a point estimate",
            _ => "a posterior without a variance",
        };
        watch(Event::Warning(
            format!("the adapter is {what}: there is no variance that a scale could multiply")
                .into(),
        ));
    }
}

/// Draws and τ of the options, or else those of the adapter.
fn evaluation_options(bundle: &Bundle, options: &AnswerOptions) -> EvaluationOptions {
    let sidecar = bundle.sidecar.as_ref();
    let samples = options.samples.or(sidecar.map(|sidecar| sidecar.samples));
    let scale = options.scale.or(sidecar.map(|sidecar| sidecar.scale));
    EvaluationOptions {
        samples: bundle.posterior.spread().draws(samples.unwrap_or(10)),
        scale: scale.unwrap_or(1.0),
        seed: sidecar.map_or(0, |sidecar| sidecar.seed),
        ..EvaluationOptions::default()
    }
}

/// How the adapter's run answers best, if that is possible with these options.
fn rule(sidecar: Option<&Sidecar>, options: &EvaluationOptions) -> AnswerRule {
    let predict_with = match sidecar.map_or(PredictWith::Mean, |sidecar| sidecar.predict_with) {
        PredictWith::Samples if options.samples > 0 => PredictWith::Samples,
        _ => PredictWith::Mean,
    };
    AnswerRule {
        predict_with,
        temperatures: sidecar.and_then(Temperatures::of),
    }
}

/// The chat template of the options, or else that of the adapter's training, whose text has priority
/// over the base's present one.
fn chat_template(
    options: &AnswerOptions,
    sidecar: Option<&Sidecar>,
    tokenizer: &mut Tokenizer,
    watch: Watch<'_>,
) -> ChatSetting {
    let Some(wanted) = &options.chat_template else {
        if let Some(text) = sidecar.and_then(|sidecar| sidecar.chat_template_text.clone()) {
            tokenizer.chat_template = Some(text);
        }
        return ChatSetting::Own(sidecar.is_some_and(|sidecar| sidecar.chat_template));
    };
    if let Some(sidecar) = sidecar.filter(|sidecar| sidecar.chat_template != wanted.is_on()) {
        let trained = match sidecar.chat_template {
            true => "with",
            false => "without",
        };
        watch(Event::Warning(
            format!("the adapter was trained {trained} a chat template: scores can differ").into(),
        ));
    }
    wanted.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::answer::testing::{PROMPT, decision, open, row, toy_folder};
    use crate::answer::{DecisionWord, RowOptions, RowSource, answers_of};
    use crate::decide::Cutoff;
    use ivon_lora_toy as toy;

    /// Compiles only where a value can be handed to another thread, and be asked by several at once.
    fn shared<T: Send + Sync>() {}

    #[test]
    fn an_answerer_and_every_posterior_can_be_asked_by_several_threads_at_once() {
        shared::<Answerer>();
        shared::<Base>();
        shared::<Bundle>();
        shared::<Box<dyn Posterior>>();
        fn handed<T: Send + ?Sized>() {}
        handed::<dyn crate::train::Optimizer>();
    }

    #[test]
    fn one_that_is_open_answers_again_and_again_whether_its_draws_are_prepared_or_not() {
        let (_folder, base, adapter) = toy_folder();
        let answerer = open(&base, &adapter);
        let answer = |answerer: &Answerer| {
            let prompts = [PROMPT, "Answer:"];
            let rows = answerer.answer(prompts, &RowOptions::default(), &mut |_| true);
            rows.unwrap()
        };
        let first = answer(&answerer);
        assert_eq!(first.len(), 2);
        let prediction = first[0].answered.as_ref().unwrap();
        assert!(prediction.mutual_information > 0.0 && prediction.choices == ["No", "Yes"]);
        assert_eq!(answer(&answerer), first);
        let prepared = answerer.with_prepared_draws().unwrap();
        assert_eq!(prepared.draws.len(), 3);
        let answers = std::thread::scope(|scope| {
            let asked = [(); 2].map(|()| scope.spawn(|| answer(&prepared)));
            asked.map(|thread| thread.join().unwrap())
        });
        assert_eq!(answers, [first.clone(), first]);
    }

    #[test]
    fn a_decision_in_the_folder_is_applied_where_it_is_asked_for_and_fits() {
        let (_folder, base, adapter) = toy_folder();
        let answers = answers_of(&toy::task());
        let answer = |options: &AnswerOptions| {
            let mut said = Vec::new();
            let answerer = Answerer::open(&base, &adapter, options, &mut |event| {
                said.push(format!("{event:?}"));
                true
            })
            .unwrap();
            let rows = answerer.answer([PROMPT], &RowOptions::default(), &mut |_| true);
            let row = rows.unwrap().remove(0).answered.unwrap();
            (row, said.join("\n"), *answerer.options())
        };
        let deciding = AnswerOptions {
            decide: true,
            ..AnswerOptions::default()
        };
        for (cutoff, expected) in [
            (Cutoff::Nothing, DecisionWord::Defer),
            (Cutoff::Everything, DecisionWord::Answer),
        ] {
            decision(cutoff, &answers).write(&adapter).unwrap();
            let (row, said, options) = answer(&deciding);
            assert_eq!(row.decision, Some(expected));
            assert_eq!(row.answered_with, PredictWith::Mean);
            assert_eq!((options.samples, options.scale, options.seed), (2, 0.5, 9));
            assert!(
                said.contains("at most 10 % are wrong, with probability 0.9"),
                "{said}"
            );
        }
        assert_eq!(answer(&AnswerOptions::default()).0.decision, None);
        let (row, said, _) = answer(&AnswerOptions {
            samples: Some(3),
            ..deciding.clone()
        });
        assert!(
            row.decision.is_none() && said.contains("about another number of draws"),
            "{said}"
        );
        decision(Cutoff::Everything, &["other".to_string()])
            .write(&adapter)
            .unwrap();
        let (row, said, _) = answer(&deciding);
        assert!(
            row.decision.is_none() && said.contains("about another task"),
            "{said}"
        );
    }

    #[test]
    fn rows_in_memory_are_answered_and_scored_as_those_of_a_file() {
        let (folder, base, adapter) = toy_folder();
        let answerer = open(&base, &adapter);
        let rows = vec![
            row("At dusk, Anna the farmer met an owl in the forest.", 0),
            row("At noon, Ben the baker met a wolf.", 1),
        ];
        let file = folder.path().join("test.jsonl");
        let lines: String = rows
            .iter()
            .map(|row| json!(row).to_string() + "\n")
            .collect();
        std::fs::write(&file, lines).unwrap();
        let source = RowSource::Files {
            path: file.clone(),
            split: None,
        };
        let mut of_file = answerer
            .answer(source, &RowOptions::default(), &mut |_| true)
            .unwrap();
        let in_memory = answerer
            .answer(rows.clone(), &RowOptions::default(), &mut |_| true)
            .unwrap();
        for (line, own) in of_file.iter_mut().zip(&in_memory) {
            line.id = own.id.clone();
            line.answered.as_mut().unwrap().id = own.id.clone();
        }
        assert_eq!(of_file, in_memory);
        let labelled = LabelledRows {
            path: file,
            ..LabelledRows::default()
        };
        let set = answerer.labelled(&labelled, &mut |_| true).unwrap();
        let scores = answerer.evaluate(set, &mut |_| true).unwrap().report;
        let own = answerer
            .evaluate_rows("test.jsonl", rows, &mut |_| true)
            .unwrap();
        assert_eq!(scores, own);
        let unlabelled = vec![json!({ "report": "x" }).as_object().unwrap().clone()];
        let error = answerer
            .evaluate_rows("mine", unlabelled, &mut |_| true)
            .unwrap_err();
        assert!(error.to_string().contains("label"), "{error}");
    }
}
