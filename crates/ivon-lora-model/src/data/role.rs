//! The four roles of rows: *train* for training; *tune* for choosing settings and early stopping;
//! *calibrate* for scale, temperature and thresholds; *test* for the final scores, read once at the
//! end.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What rows are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Training.
    Train,
    /// Choosing settings, early stopping.
    Tune,
    /// Choosing scale, temperature and thresholds.
    Calibrate,
    /// The final scores.
    Test,
}

impl Role {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::Train, Self::Tune, Self::Calibrate, Self::Test];

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Calibrate => "calibrate",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
