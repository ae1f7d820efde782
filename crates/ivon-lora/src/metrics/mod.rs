//! Probabilities and labels → scores, all in f64, and tables and sentences about them. Nothing here
//! knows of a model.

mod error;
mod bisection;
mod predictions;
mod predicted_document;
mod calibration;
mod bootstrap;
mod choice;
mod classes;
mod detection;
mod selective;
mod uncertainty;
mod leave_one_out;
mod temperature;
mod scores;
mod main_scores;
mod token_scores;
mod paired;
mod paired_auroc;
mod finding;
mod table;
mod class_table;
pub mod text;

pub use crate::watch::MainScores;
pub(crate) use bisection::bisection;
pub use bootstrap::{Bootstrap, Intervals, intervals, paired_difference, quantile, resamples};
pub use calibration::{
    BINS, Bin, ece, ece_floor, equal_mass_bins, expected_error, maximum_error, reliability_bins,
};
pub use choice::{FEWEST_OF_EACH, FEWEST_ROWS, Ground, TooLittle, not_told_from, preferred};
pub(crate) use class_table::class_findings;
pub use class_table::{class_table, confusion_table, majority_sentence};
pub use classes::{ClassScores, Classes, class_scores};
pub use detection::{aupr, auroc, auroc_interval};
pub use error::MetricsError;
pub use finding::{Finding, Severity};
pub use leave_one_out::leave_one_out_losses;
pub use paired::{COMPARED_COVERAGE, ComparedScore, paired_over_seeds, paired_texts_over_seeds};
pub use paired_auroc::{ScoredRows, paired_auroc_over_seeds};
pub use predicted_document::{PredictedDocument, PredictedToken};
pub(crate) use predictions::first_largest;
pub use predictions::{LogProbabilities, Predictions, log_softmax, log_sum_exp, mean_of_draws};
pub use scores::Scores;
pub use selective::{
    SelectivePoint, accuracy_by_coverage, area_under_selective_accuracy, selective_accuracy,
    selective_curve,
};
pub(crate) use table::sentence_for_a_stranger;
pub use table::{Table, mean_and_standard_error, score_table};
pub use temperature::{NoTemperature, Temperature, at_temperature, fit_temperature};
pub use token_scores::{ScoreWithInterval, TokenScores, TokenSums};
pub use uncertainty::{Uncertainty, entropy, uncertainties};
