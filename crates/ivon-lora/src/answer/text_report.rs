//! Predicted tokens of a set of texts → its scores, in `evaluation.json` and on the terminal, and a
//! line for each document.

use std::fmt;
use std::path::Path;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::AnswerError;
use super::answer_report::AnswerReport;
use super::prediction::read_lines;
use super::report::EvaluationReport;
use crate::metrics::{Bootstrap, MetricsError, PredictedDocument, Table, TokenScores, TokenSums};
use crate::predict::{EvaluationOptions, SetTokens};

/// The scores of the texts of one split, at the mean and under draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextReport {
    /// The role of the rows, such as `test`; the name of the file if one was given.
    pub split: String,
    /// Where the rows of a role come from: `carved from train.jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Seed of the draws.
    pub seed: u64,
    /// τ.
    pub scale: f64,
    /// The number of draws.
    pub samples: usize,
    /// The scores of the untuned base, if it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_tokens: Option<TokenScores>,
    /// The scores at the mean.
    pub mean_tokens: TokenScores,
    /// The scores of the mean of the draws' distributions; none without draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_tokens: Option<TokenScores>,
    /// The scores of written answers, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerReport>,
}

/// The scores of a run: `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunReport {
    /// Of questions with choices.
    Choices(Box<EvaluationReport>),
    /// Of texts.
    Texts(Box<TextReport>),
}

impl RunReport {
    /// The scores of questions; none of texts.
    pub fn choices(self) -> Option<EvaluationReport> {
        match self {
            Self::Choices(report) => Some(*report),
            Self::Texts(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for RunReport {
    /// By the fields that are there, so that what is wrong with one kind is said of that kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let report = match value.get("mean_tokens") {
            Some(_) => serde_json::from_value(value).map(Self::Texts),
            None => serde_json::from_value(value).map(Self::Choices),
        };
        report.map_err(D::Error::custom)
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choices(report) => report.fmt(formatter),
            Self::Texts(report) => report.fmt(formatter),
        }
    }
}

impl TextReport {
    /// The report on these texts, as they were evaluated with these options.
    ///
    /// # Errors
    /// If no token was predicted.
    pub fn new(evaluated: &SetTokens, options: &EvaluationOptions) -> Result<Self, MetricsError> {
        let bootstrap = Bootstrap::default();
        let of = |documents: &Vec<PredictedDocument>| TokenScores::of(documents, &bootstrap);
        Ok(Self {
            split: String::new(),
            source: None,
            seed: options.seed,
            scale: options.scale,
            samples: evaluated.sampled.as_ref().map_or(0, |_| options.samples),
            base_tokens: None,
            mean_tokens: of(&evaluated.mean)?,
            sampled_tokens: evaluated.sampled.as_ref().map(of).transpose()?,
            answers: None,
        })
    }

    /// The report under the name of its split, with where its rows come from.
    pub(crate) fn of(self, split: &str, source: Option<String>) -> Self {
        Self {
            split: split.into(),
            source,
            ..self
        }
    }

    /// The scores of base, mean and draws, by name.
    pub fn rows(&self) -> Vec<(String, &TokenScores)> {
        let base = self.base_tokens.as_ref();
        let base = base.map(|scores| ("base, untuned".to_string(), scores));
        let sampled = self.sampled_tokens.as_ref();
        let sampled = sampled.map(|scores| (format!("{} samples", self.samples), scores));
        let mean = [("mean".to_string(), &self.mean_tokens)];
        base.into_iter().chain(mean).chain(sampled).collect()
    }

    /// `test (12 texts, 340 tokens, carved from train.jsonl)`.
    pub fn rows_named(&self) -> String {
        let TokenScores {
            documents, tokens, ..
        } = self.mean_tokens;
        let source = self.source.as_ref();
        let source = source.map_or_else(String::new, |source| format!(", {source}"));
        format!(
            "{} ({documents} texts, {tokens} tokens{source})",
            self.split
        )
    }

    /// The table: base, mean, draws, with 95 % intervals.
    pub fn table(&self) -> Table {
        let head = [
            "",
            "NLL per token (nats)",
            "perplexity",
            "bits per byte",
            "token accuracy",
            "ECE (10 bins)",
        ];
        Table {
            head: head.map(String::from).to_vec(),
            rows: self
                .rows()
                .into_iter()
                .map(|(name, scores)| row(name, scores))
                .collect(),
        }
    }
}

fn row(name: String, scores: &TokenScores) -> Vec<String> {
    let TokenScores {
        nll,
        perplexity,
        bits_per_byte,
        accuracy,
        ece,
        ..
    } = scores;
    let scores = [nll, perplexity, bits_per_byte, accuracy, ece].map(ToString::to_string);
    std::iter::once(name).chain(scores).collect()
}

impl fmt::Display for TextReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{}\n{}",
            self.rows_named(),
            self.table().to_text()
        )?;
        write!(
            formatter,
            "95 % intervals in brackets, over whole texts: the tokens of one are not independent"
        )?;
        match &self.answers {
            Some(answers) => write!(formatter, "\n\n{answers}"),
            None => Ok(()),
        }
    }
}

/// A line of `predictions.jsonl` for a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextPrediction {
    /// The id of its row.
    pub id: String,
    /// Number of predicted tokens.
    pub tokens: usize,
    /// Bytes of UTF-8 that they spell.
    pub bytes: usize,
    /// Mean negative log-likelihood of its tokens at the mean, nats.
    pub nll: f64,
    /// The same under the mean of the draws' distributions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll_of_samples: Option<f64>,
    /// The sums over its tokens from which all scores follow, at the mean; none in a file of an
    /// older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<TokenSums>,
    /// The same under the mean of the draws' distributions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums_of_samples: Option<TokenSums>,
}

/// A line for each document.
pub(crate) fn text_predictions(evaluated: &SetTokens) -> Vec<TextPrediction> {
    let sampled = |index: usize| evaluated.sampled.as_ref()?.get(index);
    let line = |(index, document): (usize, &PredictedDocument)| TextPrediction {
        id: document.id.clone(),
        tokens: document.tokens.len(),
        bytes: document.bytes,
        nll: document.nll(),
        nll_of_samples: sampled(index).map(PredictedDocument::nll),
        sums: Some(TokenSums::of(document)),
        sums_of_samples: sampled(index).map(TokenSums::of),
    };
    evaluated.mean.iter().enumerate().map(line).collect()
}

/// Reads the lines of the `predictions.jsonl` of texts.
///
/// # Errors
/// If the file cannot be read or a line is not the prediction of a text.
pub fn read_text_predictions(path: &Path) -> Result<Vec<TextPrediction>, AnswerError> {
    read_lines(path)
}
