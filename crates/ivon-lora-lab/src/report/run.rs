//! A run's folder → everything in it, read and checked, and the page that shows it.

use std::path::{Path, PathBuf};

use super::page::{Distribution, ExampleRow, Examples, RunPage};
use super::{
    PRUNE_FILE, PruneReport, RunSettings, SCALE_FILE, SHIFT_FILE, ScaleReport, ShiftReport,
    findings,
};
use ivon_lora::answer::{
    EVALUATION_FILE, EvaluationReport, PREDICTIONS_FILE, Prediction, RunReport, TextReport,
    read_predictions,
};
use ivon_lora::bundle::{AdapterSummary, PredictWith, summarise};
use ivon_lora::files;
use ivon_lora::lora::ADAPTER_FILE;
use ivon_lora::metrics::{Finding, Predictions, Scores, Severity};
use ivon_lora::run::{
    ADAPTER_FOLDER, RUN_FILE, RunConfig, RunError, changed_files, duration, read_run,
};
use ivon_lora::sentence::{sentence, setting};
use ivon_lora::train::METRICS_FILE;
use ivon_lora::watch::{Record, read_records};

const LARGEST: u64 = 1 << 30;

/// The contents of a run's folder.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The name of its folder.
    pub name: String,
    /// Its settings.
    pub config: RunConfig,
    /// The lines of `metrics.jsonl`; empty before the first step.
    pub records: Vec<Record>,
    /// The scores; none until the run has ended.
    pub evaluation: Option<EvaluationReport>,
    /// The scores of a run on texts; none until it has ended.
    pub texts: Option<TextReport>,
    /// The lines of `predictions.jsonl`; empty if there is no such file, or they are of texts.
    pub predictions: Vec<Prediction>,
    /// The adapter's weights; none until the run has ended.
    pub adapter: Option<AdapterSummary>,
    /// Scores against τ, if `scale` was run.
    pub scale: Option<ScaleReport>,
    /// Scores against the share of pruned weights, if `prune` was run.
    pub prune: Option<PruneReport>,
    /// Its answers on other sets, if `shift` was run.
    pub shift: Option<ShiftReport>,
    /// What is notable in it.
    pub findings: Vec<Finding>,
}

impl RunRecord {
    /// Reads a run's folder. Files that an unfinished run lacks are absent.
    ///
    /// # Errors
    /// If the settings are missing, or a file is malformed.
    pub fn read(folder: &Path) -> Result<Self, RunError> {
        let config = read_run(&folder.join(RUN_FILE))?;
        let present = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
        let records = present(METRICS_FILE).map(|path| read_records(&path));
        let records = records.transpose()?.unwrap_or_default();
        let (evaluation, texts) = match read_if_present(present(EVALUATION_FILE))? {
            None => (None, None),
            Some(RunReport::Choices(report)) => (Some(*report), None),
            Some(RunReport::Texts(report)) => (None, Some(*report)),
        };
        let predictions = present(PREDICTIONS_FILE).filter(|_| texts.is_none());
        let predictions = predictions.map(|path| read_predictions(&path));
        let adapter = folder.join(ADAPTER_FOLDER);
        let has_adapter = adapter.join(ADAPTER_FILE).exists();
        let mut findings = findings(&records, &run_settings(&config, folder));
        findings.extend(evaluation.iter().flat_map(EvaluationReport::findings));
        findings.extend(changed(&config));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(Self {
            name: name_of(folder).unwrap_or_else(|| "run".into()),
            config,
            records,
            evaluation,
            texts,
            predictions: predictions.transpose()?.unwrap_or_default(),
            adapter: has_adapter.then(|| summarise(&adapter)).transpose()?,
            scale: read_if_present(present(SCALE_FILE))?,
            prune: read_if_present(present(PRUNE_FILE))?,
            shift: read_if_present(present(SHIFT_FILE))?,
            findings,
        })
    }

    /// The page of the run.
    ///
    /// # Errors
    /// If the predictions are not distributions with labels.
    pub fn page(&self) -> Result<RunPage, RunError> {
        let distributions = self.distributions()?;
        let chosen = self.evaluation.as_ref();
        Ok(RunPage {
            name: self.name.clone(),
            facts: self.facts(),
            sentence: chosen.map_or_else(String::new, |report| capitalised(&report.sentence())),
            split: chosen.map_or_else(String::new, |report| report.split.clone()),
            source: chosen.and_then(|report| report.source.clone()),
            answers: chosen.map_or_else(Vec::new, |report| report.answers.clone()),
            calibration: chosen
                .and_then(|report| Some(report.at_temperature.as_ref()?.temperatures.sentence())),
            distributions,
            texts: self.texts.clone(),
            at_temperature: self.at_temperature(),
            records: self.records.clone(),
            findings: self.findings.clone(),
            examples: Examples::of(self.predictions.iter().map(example_row).collect()),
            adapter: self.adapter.clone(),
            scale: self.scale.clone(),
            prune: self.prune.clone(),
            shift: self.shift.clone(),
            settings: settings(&self.config),
        })
    }

    /// What the run was, in short: model, data, optimizer, …
    fn facts(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let steps = self.records.last().map_or(0, Record::step);
        let seconds: f64 = self.records.iter().map(step_seconds).sum();
        let (method, rate) = (config.optimizer.name(), config.optimizer.learning_rate());
        let (rank, alpha, dropout) = (config.lora.rank, config.lora.alpha, config.lora.dropout);
        let adapter = format!("rank {rank}, alpha {alpha}, dropout {dropout}");
        let training = format!("{steps} steps in {}", duration(seconds));
        let mut facts = vec![
            ("model", base_name(config)),
            ("data", data_name(config)),
            ("optimizer", format!("{method}, learning rate {rate}")),
            ("adapter", adapter),
            ("training", training),
            ("seed", config.seed.to_string()),
        ];
        if let Some(report) = &self.evaluation {
            let evaluation = format!("{}, scale {}", report.rows_named(), report.scale);
            facts.push(("evaluation", evaluation));
        }
        if let Some(report) = &self.texts {
            let evaluation = format!("{}, scale {}", report.rows_named(), report.scale);
            facts.push(("evaluation", evaluation));
        }
        let facts = facts.into_iter();
        facts
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }

    /// Base, mean and samples, with the answers of each if `predictions.jsonl` has them.
    fn distributions(&self) -> Result<Vec<Distribution>, RunError> {
        let Some(report) = &self.evaluation else {
            return Ok(Vec::new());
        };
        let of = |name: &str, file, tone, scores: &Scores, answers| Distribution {
            name: name.into(),
            file,
            tone,
            scores: scores.clone(),
            answers,
            is_recommended: file == recommended(report),
        };
        let mut found = Vec::new();
        if let Some(base) = &report.base {
            found.push(of("base, untuned", "base", 2, base, Vec::new()));
        }
        let at_mean = self.answers(|prediction| &prediction.probabilities_at_mean)?;
        let name = match report.samples.is_empty() {
            true => "adapter",
            false => "mean",
        };
        found.push(of(name, "mean", 0, &report.mean, at_mean));
        if let Some(sampled) = report.samples.last() {
            let name = format!("{} samples", report.samples.len());
            let answers = self.answers(|prediction| &prediction.probabilities)?;
            found.push(of(&name, "samples", 1, sampled, answers));
        }
        Ok(found)
    }

    /// The scores at the temperatures that were chosen on calibrate, by name.
    fn at_temperature(&self) -> Vec<(String, Scores)> {
        let rows = self
            .evaluation
            .as_ref()
            .map_or_else(Vec::new, EvaluationReport::rows);
        let scaled = rows.into_iter().filter(|(name, _)| name.contains(", T = "));
        scaled
            .filter_map(|(name, scores)| Some((name, (*scores.first()?).clone())))
            .collect()
    }

    /// The confidence of each labelled answer, and whether it is right.
    fn answers(
        &self,
        probabilities: impl Fn(&Prediction) -> &Vec<f64>,
    ) -> Result<Vec<(f64, bool)>, RunError> {
        let (rows, labels): (Vec<Vec<f64>>, Vec<usize>) = self
            .predictions
            .iter()
            .filter_map(|prediction| Some((probabilities(prediction).clone(), prediction.label?)))
            .unzip();
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        let predictions =
            Predictions::from_probabilities(rows, labels).map_err(|error| RunError::Malformed {
                path: PREDICTIONS_FILE.into(),
                reason: error.to_string(),
            })?;
        Ok(predictions
            .confidences()
            .into_iter()
            .zip(predictions.correct())
            .collect())
    }
}

/// The name of a folder, however its path is written.
fn name_of(folder: &Path) -> Option<String> {
    let path = std::path::absolute(folder).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// The finding about files that have changed since the run was started.
fn changed(config: &RunConfig) -> Option<Finding> {
    let files = changed_files(config.provenance.as_ref()?);
    let names: Vec<String> = files
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    (!names.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        what: format!(
            "{} changed since the run was started: its scores are those of the \
                 rows as they were",
            names.join(", ")
        ),
        remedy: sentence!(
            "put the files back before `{}`, `scale`, `prune` or `shift`, which \
                 refuse other rows",
            setting("resume")
        ),
    })
}

/// The base as the run recorded it, or else as its settings name it.
fn base_name(config: &RunConfig) -> String {
    let noted = config.provenance.as_ref().map(|found| found.base.clone());
    noted
        .or(config.model.path.clone())
        .unwrap_or_else(|| "the built-in toy".into())
}

/// The name of the data, and of their task if it differs.
fn data_name(config: &RunConfig) -> String {
    let data = config
        .data
        .path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let task = config.data.task.clone();
    let task = task.unwrap_or_else(|| "a task of its own".into());
    match data == task {
        true => task,
        false => format!("{data}, {task}"),
    }
}

/// The file name of the distribution that a run answers with.
fn recommended(report: &EvaluationReport) -> &'static str {
    match report.chosen {
        PredictWith::Samples if !report.samples.is_empty() => "samples",
        _ => "mean",
    }
}

fn step_seconds(record: &Record) -> f64 {
    match record {
        Record::Step(step) => step.step_seconds,
        Record::Evaluation(_) => 0.0,
    }
}

fn example_row(prediction: &Prediction) -> ExampleRow {
    ExampleRow {
        id: prediction.id.clone(),
        label: prediction.label.map(|label| {
            prediction
                .choices
                .get(label)
                .cloned()
                .unwrap_or_else(|| label.to_string())
        }),
        answer: prediction.answer.clone(),
        confidence: prediction.confidence,
        entropy: prediction.entropy,
        mutual_information: prediction.mutual_information,
        disagreement: prediction.disagreement,
        text: prediction.prompt.clone(),
    }
}

/// The settings that findings depend on.
fn run_settings(config: &RunConfig, folder: &Path) -> RunSettings {
    let Some(ivon) = config.optimizer.as_ivon() else {
        return RunSettings::default();
    };
    RunSettings {
        initial_sd: Some(ivon.initial_sd()),
        spread_of_a: spread_of_a(folder),
        beta2: (!ivon.is_averaged()).then(|| ivon.hessian_decay()),
    }
}

/// 1/√(3·in) of the adapter's first layer, from the shape of its A.
fn spread_of_a(folder: &Path) -> Option<f64> {
    let path = folder.join(ADAPTER_FOLDER).join(ADAPTER_FILE);
    let (matrices, _) = ivon_lora::lora::read_matrices(&path).ok()?;
    let down = ivon_lora::model::Projection::Down.usual_path();
    let (_, first) = matrices
        .iter()
        .find(|(name, _)| name.contains("lora_A") && !name.contains(down))?;
    Some(1.0 / (3.0 * first.shape[1] as f64).sqrt())
}

/// The tables of a run's file, in the order of its documentation.
const TABLES: [&str; 7] = [
    "model",
    "data",
    "lora",
    "optimizer",
    "train",
    "evaluation",
    "provenance",
];

/// The tables of `run.toml`, with its top level under `run`.
fn settings(config: &RunConfig) -> Vec<(String, Vec<(String, String)>)> {
    let table = toml::Table::try_from(config).unwrap_or_default();
    let top = table
        .iter()
        .filter(|(_, value)| !value.is_table())
        .flat_map(pairs)
        .collect();
    let of = |name: &str| {
        Some((
            name.to_string(),
            table
                .get(name)?
                .as_table()?
                .iter()
                .flat_map(pairs)
                .collect(),
        ))
    };
    std::iter::once(("run".to_string(), top))
        .chain(TABLES.into_iter().filter_map(of))
        .collect()
}

/// A setting with its value as text; a pair for each item of a list of lists.
fn pairs((name, value): (&String, &toml::Value)) -> Vec<(String, String)> {
    use toml::Value::{Array, String as Text};
    let word = |value: &toml::Value| {
        if let Text(text) = value {
            text.clone()
        } else {
            value.to_string()
        }
    };
    let list = |items: &[toml::Value], between: &str| {
        items.iter().map(word).collect::<Vec<_>>().join(between)
    };
    match value {
        Array(items) if items.iter().any(toml::Value::is_array) => items
            .iter()
            .filter_map(toml::Value::as_array)
            .map(|item| (name.clone(), list(item, " ")))
            .collect(),
        Array(items) => vec![(name.clone(), list(items, ", "))],
        other => vec![(name.clone(), word(other))],
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

/// Reads a file of JSON, if there is one.
fn read_if_present<T: serde::de::DeserializeOwned>(
    path: Option<PathBuf>,
) -> Result<Option<T>, RunError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let text = files::read_text(&path, LARGEST)?;
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| RunError::Malformed {
        path,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ShiftAnswers, ShiftSet};
    use ivon_lora::predict::SetProbabilities;
    use ivon_lora::sentence::PlainNames;

    fn prediction(id: &str, label: usize, first: f64) -> Prediction {
        Prediction {
            id: id.into(),
            label: Some(label),
            choices: vec!["no".into(), "yes".into()],
            choice_tokens: vec![vec![1], vec![2]],
            probabilities_at_mean: vec![first, 1.0 - first],
            probabilities: vec![0.5, 0.5],
            probabilities_of_draws: None,
            answer: if first >= 0.5 {
                "no".into()
            } else {
                "yes".into()
            },
            confidence: first.max(1.0 - first),
            calibrated_confidence: None,
            calibrated_on: None,
            answered_with: PredictWith::Mean,
            entropy: 0.5,
            mutual_information: 0.0,
            disagreement: 0.0,
            decision: None,
            set: None,
            truncated: false,
            prompt: Some("<b>what?</b>".into()),
        }
    }

    fn record() -> RunRecord {
        let predictions = vec![prediction("a", 0, 0.75), prediction("b", 0, 0.25)];
        let labels = vec![0, 0];
        let rows = predictions
            .iter()
            .map(|one| one.probabilities_at_mean.clone())
            .collect();
        let mean = Scores::of(
            &Predictions::from_probabilities(rows, labels).unwrap(),
            true,
            &Default::default(),
        );
        let evaluation = EvaluationReport {
            split: "test".into(),
            source: Some("carved from train.jsonl".into()),
            n: 2,
            answers: vec!["no".into(), "yes".into()],
            bins: 10,
            seed: 0,
            scale: 1.0,
            base: Some(mean.clone()),
            mean,
            samples: vec![],
            at_temperature: None,
            chosen: PredictWith::Mean,
        };
        RunRecord {
            texts: None,
            name: "first".into(),
            config: RunConfig::default(),
            records: vec![],
            evaluation: Some(evaluation),
            predictions,
            adapter: None,
            scale: None,
            prune: None,
            shift: None,
            findings: vec![],
        }
    }

    #[test]
    fn scores_and_predictions_read_back_as_they_were_written() {
        let record = record();
        let report = record.evaluation.unwrap();
        let again: EvaluationReport =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
        let line = serde_json::to_string(&record.predictions[0]).unwrap();
        assert_eq!(
            serde_json::from_str::<Prediction>(&line).unwrap(),
            record.predictions[0]
        );
    }

    #[test]
    fn the_page_has_every_part_that_there_is() {
        let page = record().page().unwrap();
        assert_eq!(
            page.distributions
                .iter()
                .map(|one| one.answers.clone())
                .collect::<Vec<_>>(),
            [vec![], vec![(0.75, true), (0.75, false)]]
        );
        let html = page.html(&PlainNames);
        for part in [
            "first",
            "id=\"scores\"",
            "id=\"calibration\"",
            "id=\"selective\"",
            "10 bins",
            "0.500",
            "&lt;b&gt;what?&lt;/b&gt;",
            "batch_size",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("<b>what?"));
        let files: Vec<String> = page
            .figures()
            .into_iter()
            .map(|figure| figure.file)
            .collect();
        assert_eq!(
            files,
            [
                "reliability-base",
                "reliability-mean",
                "confidence-mean",
                "risk-coverage"
            ]
        );
        let answered = |p: f64| {
            let mean = vec![vec![p.ln(), (1.0 - p).ln()]; 2];
            ShiftAnswers::of(SetProbabilities {
                mean,
                draws: vec![],
                ..SetProbabilities::default()
            })
            .unwrap()
        };
        let (own, other) = (answered(0.9), answered(0.6));
        let sets = vec![
            ShiftSet::new("own", "test", &own, None, None).unwrap(),
            ShiftSet::new("<i>foreign", "test", &other, None, Some(&own)).unwrap(),
        ];
        let shifted = RunRecord {
            shift: Some(ShiftReport::new(0, 1.0, sets)),
            ..record()
        }
        .page()
        .unwrap();
        let html = shifted.html(&PlainNames);
        assert!(
            html.contains("id=\"shift\"")
                && html.contains("&lt;i&gt;foreign, mean, entropy")
                && !html.contains("<i>")
        );
        assert_eq!(shifted.figures().last().unwrap().file, "shift-auroc");
        let unfinished = RunRecord {
            evaluation: None,
            predictions: vec![],
            ..record()
        };
        assert!(
            unfinished
                .page()
                .unwrap()
                .html(&PlainNames)
                .contains("the run has not ended")
        );
    }

    #[test]
    fn predictions_that_are_none_are_refused() {
        let mut broken = record();
        broken.predictions[0].probabilities_at_mean = vec![0.5, 0.6];
        let message = broken.page().unwrap_err().to_string();
        assert!(
            message.starts_with("`predictions.jsonl` cannot be used: example 0 has probabilities"),
            "{message}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PREDICTIONS_FILE);
        std::fs::write(&path, "\n{\"id\": 3}\n").unwrap();
        assert!(
            read_predictions(&path)
                .unwrap_err()
                .to_string()
                .contains("line 2: invalid type")
        );
        assert!(RunRecord::read(folder.path()).is_err());
    }
}
