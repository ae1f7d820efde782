//! Rules to answer or defer on real predictions, split again and again: who answers most at the same
//! promise.

use std::path::PathBuf;

use clap::Args;
use ivon_lora::answer::{Prediction, read_predictions};
use ivon_lora::decide::{DecisionScore, Evidence, LabelledCase};
use ivon_lora::metrics::{Predictions, Table, fit_temperature, log_softmax};
use ivon_lora_lab::report::{Coverage, SplitTrials};

use crate::Failure;

/// What is measured.
#[derive(Args)]
pub struct Options {
    /// Files `predictions.jsonl` of labelled rows
    #[arg(required = true)]
    predictions: Vec<PathBuf>,
    /// Predictions of rows that belong to no class, such as texts out of scope: every answer to them is
    /// wrong; added to the rows of each file
    #[arg(long)]
    outside: Vec<PathBuf>,
    /// The largest errors among answered cases, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.1,0.2")]
    max_error: Vec<f64>,
    /// The probability with which a rule keeps its promise
    #[arg(long, default_value_t = 0.9)]
    confidence: f64,
    /// Number of splits
    #[arg(long, default_value_t = 1000)]
    splits: u64,
    /// The share of rows for the rule; a quarter of these choose the thresholds that are tried
    #[arg(long, default_value_t = 0.5)]
    calibrate_share: f64,
}

/// A form of the predictions at the temperature of the choosing rows, and the score that the threshold is put on.
const FORMS: [(&str, bool, DecisionScore); 4] = [
    ("mean, confidence", false, DecisionScore::Confidence),
    ("draws, confidence", true, DecisionScore::Confidence),
    ("draws, entropy", true, DecisionScore::Entropy),
    (
        "draws, mutual information",
        true,
        DecisionScore::MutualInformation,
    ),
];

/// Prints a table for each file.
///
/// # Errors
/// If a file cannot be read, or a row has no label.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut outside = Vec::new();
    for path in &options.outside {
        let lines = read_predictions(path)?.into_iter();
        outside.extend(lines.map(|line| Prediction {
            label: None,
            ..line
        }));
    }
    for path in &options.predictions {
        let mut lines = read_predictions(path)?;
        if lines.iter().any(|line| line.label.is_none()) {
            return Err(format!("{}: a row has no label", path.display()).into());
        }
        lines.extend(outside.clone());
        let table = table(&lines, options)?;
        println!(
            "{} ({} rows)\n{}",
            path.display(),
            lines.len(),
            table.to_text()
        );
    }
    Ok(())
}

/// A row for each promised error and form.
fn table(lines: &[Prediction], options: &Options) -> Result<Table, Failure> {
    let mut rows = Vec::new();
    for &limit in &options.max_error {
        let trials = SplitTrials {
            limit,
            confidence: options.confidence,
            splits: options.splits,
            share: options.calibrate_share,
        };
        for (name, of_draws, score) in FORMS {
            let own: Vec<Row> = lines.iter().map(|line| Row::of(line, of_draws)).collect();
            let case = |&at: &f64, row: &Row| row.case(at, score);
            let found = Coverage::of(&own, score, &trials, temperature, case)?;
            rows.push([vec![format!("{limit}"), name.into()], cells(&found)].concat());
        }
    }
    let head = [
        "promised error",
        "",
        "answered",
        "middle 90 %",
        "error",
        "no rule",
        "error above",
    ];
    let head = head.map(String::from).into();
    Ok(Table { head, rows })
}

/// A row of a file, as far as rules see it.
#[derive(Clone)]
struct Row {
    /// Log-probabilities of the form that answers, nats.
    log_probabilities: Vec<f64>,
    mutual_information: f64,
    /// The right answer; none of an outside row, for which every answer is wrong.
    label: Option<usize>,
}

impl Row {
    fn of(line: &Prediction, of_draws: bool) -> Self {
        let probabilities = match of_draws {
            true => &line.probabilities,
            false => &line.probabilities_at_mean,
        };
        Self {
            log_probabilities: probabilities.iter().map(|p| p.ln()).collect(),
            mutual_information: line.mutual_information,
            label: line.label,
        }
    }

    /// The row at a temperature, as a rule sees it.
    fn case(&self, temperature: f64, score: DecisionScore) -> LabelledCase {
        let evidence = Evidence {
            log_probabilities: &log_softmax(&self.log_probabilities, temperature),
            mutual_information: self.mutual_information,
        };
        LabelledCase {
            case: evidence.case(score, None),
            label: self.label.unwrap_or(usize::MAX),
        }
    }
}

/// The temperature of the rows that have a label; 1 where none can be found.
fn temperature(rows: &[Row]) -> f64 {
    let labelled = rows
        .iter()
        .filter_map(|row| Some((row.log_probabilities.clone(), row.label?)));
    let (log_probabilities, labels) = labelled.unzip();
    let predictions = Predictions::new(log_probabilities, labels).ok();
    let found = predictions.and_then(|predictions| fit_temperature(&predictions).ok());
    found.map_or(1.0, |found| found.value)
}

/// What rules did, in the words of a table.
fn cells(found: &Coverage) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let splits = found.answered.len() as f64;
    let [low, high] = found.range().map(percent);
    vec![
        percent(found.mean_answered()),
        format!("{low} to {high}"),
        percent(found.mean_error()),
        percent(found.without as f64 / splits),
        percent(found.above as f64 / splits),
    ]
}
