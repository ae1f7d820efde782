//! Probabilities and labels → scores, all in f64. Nothing here sees a model.

mod bootstrap;
mod calibration;
mod choice;
mod classes;
mod detection;
mod error;
mod paired;
mod predictions;
mod scores;
mod selective;
mod temperature;
mod uncertainty;

pub use bootstrap::{Bootstrap, Intervals, intervals, paired_difference, quantile, resamples};
pub use calibration::{
    Bin, ece, ece_floor, equal_mass_bins, expected_error, maximum_error, reliability_bins,
};
pub use choice::{FEWEST_OF_EACH, FEWEST_ROWS, Ground, TooLittle, not_told_from, preferred};
pub use classes::{ClassScores, Classes, class_scores};
pub use detection::{aupr, auroc, auroc_interval};
pub use error::MetricsError;
pub use paired::{ComparedScore, paired_over_seeds};
pub use predictions::{
    LogProbabilities, Predictions, first_largest, log_softmax, log_sum_exp, mean_of_draws,
};
pub use scores::{BINS, MORE_BINS, Scores};
pub use selective::{
    SelectivePoint, accuracy_by_coverage, area_under_selective_accuracy, selective_accuracy,
    selective_curve,
};
pub use temperature::{
    NoTemperature, PRIOR_SD, TEMPERATURES, Temperature, at_temperature, fit_temperature,
};
pub use uncertainty::{Uncertainty, entropy, uncertainties};
