//! Rows or prompts in, a line for each out: requests that wait are answered together, each as if it
//! were alone.

use super::AnswerError;
use super::answerer::Answerer;
use super::decided::Deciding;
use super::lines::PredictedRow;
use super::prediction::{Details, Prediction, predictions};
use super::rows::{Questions, RowOptions, RowSource};
use crate::data::{self, Encoded, EncodedSet, Example, Question};
use crate::metrics::LogProbabilities;
use crate::predict::SetProbabilities;
use crate::watch::{Event, Stage, Watch};

/// Rows or prompts, and what is wanted of them.
pub struct RowRequest {
    /// Where they come from.
    pub source: RowSource,
    /// Which are read, and what is written beside their answers.
    pub options: RowOptions,
}

/// The answers to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredRows {
    /// A line for each row, in their order.
    pub rows: Vec<PredictedRow>,
    /// Sentences about rows that were left out or shortened, and about a decision that promises
    /// nothing for these rows.
    pub warnings: Vec<String>,
}

/// The questions of a request, as they are encoded.
struct AskedRows {
    questions: Questions,
    examples: Vec<Example>,
    set: EncodedSet,
    details: Details,
}

impl Answerer {
    /// Answers rows or prompts, with a line for each in their order. The line of a row that cannot be
    /// answered says why; the others are answered all the same.
    ///
    /// # Errors
    /// Whatever is wrong with the rows as a whole, and if `watch` says stop.
    pub fn answer(
        &self,
        source: impl Into<RowSource>,
        options: &RowOptions,
        watch: Watch<'_>,
    ) -> Result<Vec<PredictedRow>, AnswerError> {
        let request = RowRequest {
            source: source.into(),
            options: options.clone(),
        };
        let asked = self.asked(request, watch)?;
        for warning in self.left_out(&asked) {
            watch(Event::Warning(warning.into()));
        }
        let evaluated = self.evaluated(&asked.set.examples, watch)?;
        let answered = self.answered(asked, &evaluated)?;
        for warning in answered.warnings {
            watch(Event::Warning(warning.into()));
        }
        Ok(answered.rows)
    }

    /// Answers several requests in one pass, each as [`answer`](Self::answer) would by itself; an
    /// error of one is not an error of the others. `watch` hears progress and notes.
    pub fn answer_together(
        &self,
        requests: Vec<RowRequest>,
        watch: Watch<'_>,
    ) -> Vec<Result<AnsweredRows, AnswerError>> {
        let requests = requests.into_iter();
        let asked: Vec<_> = requests.map(|request| self.asked(request, watch)).collect();
        let examples = asked.iter().flatten().flat_map(|asked| &asked.set.examples);
        let together = self.evaluated(&examples.cloned().collect::<Vec<_>>(), watch);
        let mut from = 0;
        let answered = asked.into_iter().map(|asked| {
            let asked = asked?;
            let part = from..from + asked.set.examples.len();
            from = part.end;
            let left_out = self.left_out(&asked);
            let evaluated = match &together {
                Ok(together) => part_of(together, part),
                // One row may spoil the pass of all.
                Err(_) => self.evaluated(&asked.set.examples, watch)?,
            };
            let mut answered = self.answered(asked, &evaluated)?;
            answered.warnings.splice(0..0, left_out);
            Ok(answered)
        });
        answered.collect()
    }

    /// Reads and encodes the questions of a request.
    fn asked(&self, request: RowRequest, watch: Watch<'_>) -> Result<AskedRows, AnswerError> {
        let RowRequest { source, options } = request;
        let questions = Questions::read(source, self.task_reader(), &options, watch)?;
        let examples = questions.examples();
        let set = data::encode_any(&examples, &self.base().tokenizer, self.encode_options())?;
        Ok(AskedRows {
            questions,
            examples,
            set,
            details: Details {
                text: options.include_text,
                draws: options.include_draws,
            },
        })
    }

    /// Sentences about the rows that have no answer, or are shortened.
    fn left_out(&self, asked: &AskedRows) -> Vec<String> {
        let AskedRows {
            questions,
            examples,
            set,
            ..
        } = asked;
        let most = self.encode_options().max_length;
        let mut said = questions.left_out();
        said.extend(set.account(&questions.name, examples, most));
        said
    }

    /// One pass over these examples.
    fn evaluated(
        &self,
        examples: &[Encoded],
        watch: Watch<'_>,
    ) -> Result<SetProbabilities, AnswerError> {
        let predictor = self.predictor(self.options());
        match examples.is_empty() {
            true => Ok(SetProbabilities::default()),
            false => Ok(predictor.evaluate_as(Stage::Predicting, examples, watch)?),
        }
    }

    /// The lines of a request, and what its decision warns of.
    fn answered(
        &self,
        asked: AskedRows,
        evaluated: &SetProbabilities,
    ) -> Result<AnsweredRows, AnswerError> {
        let AskedRows {
            questions,
            examples,
            set,
            details,
        } = asked;
        let mut warnings = Vec::new();
        let mut lines = Vec::new();
        if !set.examples.is_empty() {
            lines = predictions(&set, &examples, evaluated, &self.rule, details)?;
            if let Some(decision) = self.decision() {
                let deciding = Deciding::new(decision, &set, evaluated)?;
                deciding.apply(&mut lines);
                warnings = deciding.warnings(&questions.name);
            }
        }
        Ok(AnsweredRows {
            rows: in_order(questions.questions, set, lines),
            warnings,
        })
    }
}

/// The log-probabilities of some of the examples.
fn part_of(all: &SetProbabilities, part: std::ops::Range<usize>) -> SetProbabilities {
    let of = |rows: &LogProbabilities| rows.get(part.clone()).unwrap_or_default().to_vec();
    SetProbabilities {
        mean: of(&all.mean),
        draws: all.draws.iter().map(of).collect(),
        seconds: all.seconds,
    }
}

/// A line for each question. `lines` are the predictions of the examples that were kept, in order.
fn in_order(
    questions: Vec<Question>,
    set: EncodedSet,
    lines: Vec<Prediction>,
) -> Vec<PredictedRow> {
    let mut outcomes = outcomes(set, lines);
    let row = |question: Question| PredictedRow {
        id: question.id,
        answered: match question.asked {
            Err(refusal) => Err(refusal.to_string()),
            Ok(_) => outcomes.next().unwrap_or_else(|| Err(String::new())),
        },
        carried: question.carried,
    };
    questions.into_iter().map(row).collect()
}

/// The prediction of each example in order, or why it was dropped.
fn outcomes(
    set: EncodedSet,
    lines: Vec<Prediction>,
) -> impl Iterator<Item = Result<Box<Prediction>, String>> {
    let mut kept = set.kept.into_iter().peekable();
    let mut lines = lines.into_iter();
    let mut dropped = set.dropped.into_iter();
    (0..).map(move |place| {
        let line = kept.next_if_eq(&place).and_then(|_| lines.next());
        line.map(Box::new).ok_or_else(|| {
            let dropped = dropped.next();
            dropped.map_or_else(String::new, |dropped| dropped.reason.to_string())
        })
    })
}

#[cfg(test)]
mod tests {}
