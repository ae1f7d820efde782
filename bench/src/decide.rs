//! Rules to answer or defer on real predictions: the rows of a `predictions.jsonl` are split again
//! and again into rows for a rule and rows that it is tried on, for each score at the same promise.
//!
//! The rows that a rule is tried on are drawn from the same finite set, so that their error is that
//! of the rule with the noise of a sample: it may exceed the limit more often than the promise allows
//! the rule's own risk to.

use std::path::PathBuf;

use clap::Args;
use ivon_lora::answer::{Prediction, read_predictions};
use ivon_lora::decide::{DecisionScore, Demand, Evidence, LabelledCase, Outcome, ScoreCases};
use ivon_lora::metrics::Table;
use ivon_lora::random::{Purpose, shuffle, stream};

use crate::Failure;

/// What is measured.
#[derive(Args)]
pub struct Options {
    /// Files `predictions.jsonl` of labelled rows
    #[arg(required = true)]
    predictions: Vec<PathBuf>,
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

/// A form of the predictions, and the score that the threshold is put on.
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
    for path in &options.predictions {
        let lines = read_predictions(path)?;
        let mut rows = Vec::new();
        for &limit in &options.max_error {
            for (name, of_draws, score) in FORMS {
                let cases: Option<Vec<_>> = lines
                    .iter()
                    .map(|line| case(line, of_draws, score))
                    .collect();
                let cases = cases.ok_or_else(|| format!("{}: no labels", path.display()))?;
                let found = Splits::of(&cases, score, limit, options)?;
                rows.push([vec![format!("{limit}"), name.into()], found.cells()].concat());
            }
        }
        let head = [
            "promised error",
            "",
            "answered",
            "sd",
            "error",
            "no rule",
            "error above",
        ];
        let head = head.map(String::from).into();
        println!(
            "{} ({} rows)\n{}",
            path.display(),
            lines.len(),
            Table { head, rows }.to_text()
        );
    }
    Ok(())
}

/// The row as a rule sees it; none without a label.
fn case(line: &Prediction, of_draws: bool, score: DecisionScore) -> Option<LabelledCase> {
    let probabilities = match of_draws {
        true => &line.probabilities,
        false => &line.probabilities_at_mean,
    };
    let log_probabilities: Vec<f64> = probabilities.iter().map(|p| p.ln()).collect();
    let evidence = Evidence {
        log_probabilities: &log_probabilities,
        mutual_information: line.mutual_information,
    };
    Some(LabelledCase {
        case: evidence.case(score, None),
        label: line.label?,
    })
}

/// What rules did over all splits.
#[derive(Default)]
struct Splits {
    /// The share of answered rows in each split; 0 without a rule.
    answered: Vec<f64>,
    /// The error among answered rows of each split that answers any.
    errors: Vec<f64>,
    /// The number of splits without a rule.
    without: usize,
    /// The number of splits whose error is above the limit.
    above: usize,
}

impl Splits {
    fn of(
        cases: &[LabelledCase],
        score: DecisionScore,
        limit: f64,
        options: &Options,
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut cases = cases.to_vec();
        for split in 0..options.splits {
            let mut numbers = stream(1, Purpose::Decision, split, 0, "splits");
            shuffle(&mut numbers, &mut cases);
            let own = (cases.len() as f64 * options.calibrate_share) as usize;
            let (own, held_out) = cases.split_at(own);
            let (choosing, ruling) = own.split_at(own.len() / 4);
            let rows = ScoreCases {
                score,
                reference: choosing.iter().map(|row| row.case).collect(),
                tested: ruling.to_vec(),
            };
            let Outcome::Rule(rule) = Demand::error(limit, options.confidence).rule(&[rows])?
            else {
                found.without += 1;
                found.answered.push(0.0);
                continue;
            };
            let answered = held_out.iter().filter(|row| rule.answers(&row.case));
            let wrong = answered.clone().filter(|row| row.is_wrong()).count();
            let count = answered.count();
            found.answered.push(count as f64 / held_out.len() as f64);
            if count > 0 {
                let error = wrong as f64 / count as f64;
                found.errors.push(error);
                found.above += usize::from(error > limit);
            }
        }
        Ok(found)
    }

    fn cells(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let answered = mean(&self.answered);
        let squares: Vec<f64> = self
            .answered
            .iter()
            .map(|a| (a - answered).powi(2))
            .collect();
        let share = |count: usize| percent(count as f64 / self.answered.len() as f64);
        vec![
            percent(answered),
            percent(mean(&squares).sqrt()),
            percent(mean(&self.errors)),
            share(self.without),
            share(self.above),
        ]
    }
}
