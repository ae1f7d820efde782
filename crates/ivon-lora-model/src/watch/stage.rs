//! The stages of long operations.

/// A stage of a long operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A file is downloaded from the hub.
    Downloading,
    /// Preparation before the steps of a run.
    Preparing,
    /// The runs of a comparison.
    Runs,
    /// Scores on tune while training.
    Tune,
    /// The posterior is fitted to the trained weights.
    Fitting,
    /// The choice of a scale on calibrate at the end of a run.
    ChoosingScale,
    /// Scores on calibrate.
    Calibrate,
    /// The untuned base on test.
    Base,
    /// Scores on test.
    Test,
    /// Scores of an adapter on a data set.
    Evaluating,
    /// Answers to rows or prompts.
    Predicting,
    /// Answers are written to prompts, to be scored.
    Writing,
    /// The scales of a sweep on calibrate.
    ChoosingOnCalibrate,
    /// The scales of a sweep.
    Scales,
    /// The shares of pruned weights.
    Shares,
    /// The rows of a run itself, for comparison with other data sets.
    HeldOut,
    /// Data sets that the run was not trained for.
    OtherSets,
}

impl Stage {
    /// The stage in words, for display.
    pub fn words(self) -> &'static str {
        match self {
            Self::Downloading => "downloading (bytes)",
            Self::Preparing => "preparing",
            Self::Runs => "runs",
            Self::Tune => "evaluating tune",
            Self::Fitting => "fitting the posterior",
            Self::ChoosingScale => "choosing τ on calibrate",
            Self::Calibrate => "evaluating calibrate",
            Self::Base => "evaluating the base",
            Self::Test => "evaluating test",
            Self::Evaluating => "evaluating",
            Self::Predicting => "predicting",
            Self::Writing => "writing answers",
            Self::ChoosingOnCalibrate => "choosing on calibrate",
            Self::Scales => "scoring at each scale",
            Self::Shares => "scoring at each share",
            Self::HeldOut => "answering held-out rows",
            Self::OtherSets => "answering other sets",
        }
    }
}
