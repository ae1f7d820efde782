//! What follows training on texts: the scores of their tokens → the files of the run.
//!
//! There is no rule to choose by calibrate: an answer is written, not picked, so that neither a
//! temperature nor the choice between mean and draws has a place here.

use super::RunError;
use super::finish::{Finish, RunResults, source_of};
use super::untuned::UntunedQuestion;
use crate::answer::{AnswerRule, RunReport, TextReport, text_predictions};
use crate::bundle::Bundle;
use crate::data::{EncodedSet, Role};
use crate::lora::Draw;
use crate::metrics::{Bootstrap, TokenScores};
use crate::posterior::Posterior;
use crate::predict::{PredictError, Predictor, SetTokens, predicted_documents};
use crate::settings::SettingError;
use crate::watch::{Event, Progress, Stage, Watch};

impl Finish<'_> {
    /// Scores the test texts and writes the files of the run.
    pub(super) fn finish_texts(
        &self,
        posterior: Box<dyn Posterior>,
        fitting_seconds: f64,
        kept_step: u64,
        watch: Watch<'_>,
    ) -> Result<RunReport, RunError> {
        if !self.sets.calibrate.examples.is_empty() {
            let note = "calibrate is left to `scale`: texts are scored without a temperature";
            watch(Event::Note(note.into()));
        }
        let options = self.options_of_settings(posterior.as_ref());
        let predictor = Predictor::new(&self.base.network, posterior.as_ref(), &options);
        let (report, evaluated) = self.test_texts(&predictor, watch)?;
        let cost = self.cost(posterior.as_ref(), fitting_seconds, evaluated.seconds)?;
        let sidecar = self.sidecar(&options, &AnswerRule::default());
        let results = RunResults {
            bundle: Bundle::of_run(posterior, self.config.lora.clone(), sidecar),
            card: self.card(report.table().to_markdown(), kept_step),
            predictions: text_predictions(&evaluated),
            report: RunReport::Texts(Box::new(report)),
            cost,
        };
        results.write(self.folder, watch)?;
        Ok(results.report)
    }

    /// The scores on test, with those of the untuned base.
    fn test_texts(
        &self,
        predictor: &Predictor<'_>,
        watch: Watch<'_>,
    ) -> Result<(TextReport, SetTokens), RunError> {
        let set = &self.sets.test;
        if set.examples.is_empty() {
            self.dataset.required(Role::Test)?;
            return Err(SettingError::new("test", "empty", "texts to score").into());
        }
        let base = self.untuned_texts(set, watch)?;
        let total = predictor.passes() * set.examples.len();
        let mut progress = Progress::new(Stage::Test, total, watch);
        let evaluated = predictor.evaluate_texts(&set.examples, &mut progress)?;
        let source = source_of(&self.dataset.report, Role::Test);
        let report = TextReport::new(&evaluated, &predictor.options).map_err(PredictError::from)?;
        let mut report = report.of(Role::Test.name(), source);
        report.base_tokens = Some(base);
        Ok((report, evaluated))
    }

    /// The scores of the untuned base.
    fn untuned_texts(&self, set: &EncodedSet, watch: Watch<'_>) -> Result<TokenScores, RunError> {
        let question = UntunedQuestion::new(self.config, &set.examples);
        let scores = self.untuned.text_scores(question, || {
            let mut progress = Progress::new(Stage::Base, set.examples.len(), watch);
            let documents = predicted_documents(
                &self.base.network,
                &[Draw::base()],
                &set.examples,
                self.config.evaluation.batch_tokens,
                &mut progress,
            )?;
            TokenScores::of(&documents, &Bootstrap::default()).map_err(PredictError::from)
        })?;
        Ok(scores)
    }
}
