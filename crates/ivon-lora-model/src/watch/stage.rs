//! The longer pieces of work, by what they do.

/// A longer piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A file comes from the hub.
    Downloading,
    /// What comes before the steps of a run among others.
    Preparing,
    /// The runs of a comparison.
    Runs,
    /// Scores on tune while training.
    Tune,
    /// What the method makes of the trained weights.
    Fitting,
    /// Scales are tried on calibrate at the end of a run.
    ChoosingScale,
    /// Scores on calibrate.
    Calibrate,
    /// The untuned base on test.
    Base,
    /// Scores on test.
    Test,
    /// Scores of an adapter on a set.
    Evaluating,
    /// Answers to rows or prompts.
    Predicting,
    /// The scales of a sweep on calibrate.
    ChoosingOnCalibrate,
    /// The scales of a sweep.
    Scales,
    /// The shares of pruned weights.
    Shares,
    /// A run's own rows, to compare other sets with.
    HeldOut,
    /// Sets that a run was not trained for.
    OtherSets,
}

impl Stage {
    /// What is being done, in words to show.
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
            Self::ChoosingOnCalibrate => "choosing on calibrate",
            Self::Scales => "scoring at each scale",
            Self::Shares => "scoring at each share",
            Self::HeldOut => "answering held-out rows",
            Self::OtherSets => "answering other sets",
        }
    }
}
