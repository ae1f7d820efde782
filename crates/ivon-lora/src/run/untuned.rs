//! The untuned base's predictions of test rows, made once for all runs of a comparison.

use std::sync::{Mutex, PoisonError};

use super::{ModelConfig, RunConfig};
use crate::data::{DataConfig, Encoded};
use crate::metrics::{LogProbabilities, TokenScores};

/// The untuned base's predictions of test rows, kept because all runs of a comparison ask for the
/// same ones.
#[derive(Debug, Default)]
pub struct UntunedAnswers {
    choices: Known<LogProbabilities>,
    texts: Known<TokenScores>,
}

/// What was found before, by what was asked.
type Known<T> = Mutex<Vec<(UntunedQuestion, T)>>;

/// All that these predictions depend on.
#[derive(Debug, PartialEq)]
pub struct UntunedQuestion {
    model: ModelConfig,
    data: DataConfig,
    batch_tokens: usize,
    ids: Vec<String>,
}

impl UntunedQuestion {
    /// These examples under the settings of a run.
    pub fn new(config: &RunConfig, examples: &[Encoded]) -> Self {
        Self {
            model: ModelConfig {
                adapter: None,
                threads: None,
                recompute: false,
                ..config.model.clone()
            },
            data: config.data.clone(),
            batch_tokens: config.evaluation.batch_tokens,
            ids: examples.iter().map(|example| example.id.clone()).collect(),
        }
    }
}

impl UntunedAnswers {
    /// The predictions of questions, if they were asked for before; otherwise those that `ask` makes,
    /// which are kept.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn answers<E>(
        &self,
        question: UntunedQuestion,
        ask: impl FnOnce() -> Result<LogProbabilities, E>,
    ) -> Result<LogProbabilities, E> {
        known_or_asked(&self.choices, question, ask)
    }

    /// The same of the scores of texts.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn text_scores<E>(
        &self,
        question: UntunedQuestion,
        ask: impl FnOnce() -> Result<TokenScores, E>,
    ) -> Result<TokenScores, E> {
        known_or_asked(&self.texts, question, ask)
    }
}

fn known_or_asked<T: Clone, E>(
    known: &Known<T>,
    question: UntunedQuestion,
    ask: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let known = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = known().iter().find(|(known, _)| *known == question) {
        return Ok(found.clone());
    }
    // Outside the lock, so that other runs need not wait.
    let found = ask()?;
    known().push((question, found.clone()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untuned_base_is_asked_once_for_the_same_rows_in_the_same_way() {
        let known = UntunedAnswers::default();
        let mut times = 0;
        let mut ask = |config: &RunConfig| {
            let found = known.answers(UntunedQuestion::new(config, &[]), || -> Result<_, ()> {
                times += 1;
                Ok(vec![vec![f64::from(times)]])
            });
            found.unwrap()[0][0]
        };
        let config = RunConfig::default();
        let adapted = ModelConfig {
            adapter: Some("a".into()),
            threads: Some(1),
            ..ModelConfig::default()
        };
        let other = DataConfig {
            max_length: 7,
            ..DataConfig::default()
        };
        assert_eq!(ask(&config), 1.0);
        assert_eq!(
            ask(&RunConfig {
                seed: 3,
                model: adapted,
                ..config.clone()
            }),
            1.0
        );
        assert_eq!(
            ask(&RunConfig {
                data: other,
                ..config.clone()
            }),
            2.0
        );
        assert_eq!(ask(&config), 1.0);
    }
}
