//! A base and an adapter, opened together → answers to rows and prompts, scores of labelled rows.

mod error;
mod base;
mod report;
mod prediction;
mod answered_prompt;
mod answer_report;
mod text_report;
mod lines;
mod example_set;
mod rows;
mod trained_rows;
mod answerer;
mod text_evaluation;
mod writing_prompts;
mod written_evaluation;
mod generator;

pub use answer_report::{AnswerReport, ChosenAnswers, Judgement};
pub use answered_prompt::{ANSWERS_FILE, AnsweredPrompt};
pub use answerer::{AnswerOptions, Answerer, Evaluation, LabelledRows};
pub(crate) use base::open_checkpoint;
pub use base::{Base, BaseOptions, device_named};
pub use error::AnswerError;
pub use example_set::ExampleSet;
pub use generator::{Generator, GeneratorOptions};
pub use lines::{LineFormat, PredictedRow, write_lines};
pub use prediction::{PREDICTIONS_FILE, Prediction, read_predictions};
pub(crate) use prediction::{predictions, tokens_of, write_predictions};
pub(crate) use report::{AnswerRule, answers_of, labels, same_answers};
pub use report::{AtTemperature, EVALUATION_FILE, EvaluationReport, Temperatures};
pub use rows::{RowOptions, RowSource, labelled_files};
pub use text_evaluation::TextEvaluation;
pub(crate) use text_report::text_predictions;
pub use text_report::{RunReport, TextPrediction, TextReport, read_text_predictions};
pub use trained_rows::warn_of_trained;
pub use writing_prompts::{WritingPrompt, read_prompts};
pub use written_evaluation::{WrittenEvaluation, WrittenOptions};
