//! The scores of an adapter on texts.

use std::path::{Path, PathBuf};

use super::answerer::Answerer;
use super::error::AnswerError;
use super::example_set::ExampleSet;
use super::prediction::{PREDICTIONS_FILE, write_predictions};
use super::report::EVALUATION_FILE;
use super::text_report::{TextReport, text_predictions};
use crate::files;
use crate::predict::{PredictError, SetTokens};
use crate::watch::{Progress, Stage, Watch};

/// The scores of a set of texts, and what they were computed from.
#[derive(Clone, Debug)]
pub struct TextEvaluation {
    /// The scores.
    pub report: TextReport,
    evaluated: SetTokens,
}

impl Answerer {
    /// Scores the tokens of a set of texts.
    ///
    /// # Errors
    /// If the posterior draws logits of choices, no token is predicted, and if `watch` says stop.
    pub fn evaluate_texts(
        &self,
        set: &ExampleSet,
        watch: Watch<'_>,
    ) -> Result<TextEvaluation, AnswerError> {
        let predictor = self.predictor(self.options());
        let total = predictor.passes() * set.len();
        let mut progress = Progress::new(Stage::Evaluating, total, watch);
        let evaluated = predictor.evaluate_texts(&set.encoded.examples, &mut progress)?;
        let report = TextReport::new(&evaluated, self.options()).map_err(PredictError::from)?;
        Ok(TextEvaluation {
            report: report.of(&set.name, set.source.clone()),
            evaluated,
        })
    }
}

impl TextEvaluation {
    /// Writes `evaluation.json` and `predictions.jsonl` into a folder; returns their paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], AnswerError> {
        let paths = [EVALUATION_FILE, PREDICTIONS_FILE].map(|name| folder.join(name));
        files::write_json(&paths[0], &self.report)?;
        write_predictions(&paths[1], &text_predictions(&self.evaluated))?;
        Ok(paths)
    }
}
