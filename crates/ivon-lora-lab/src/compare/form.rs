//! How a row of the table predicts.

use serde::{Deserialize, Serialize};

/// How a row predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As a yardstick, which is never the best.
    Yardstick,
    /// In an unknown way: it was made elsewhere.
    #[default]
    #[serde(alias = "other")]
    Elsewhere,
    /// At the mean.
    Mean,
    /// At the mean, its log-probabilities divided by a temperature.
    ScaledMean,
    /// Averaged over draws.
    Samples,
    /// Averaged over draws, divided by a temperature.
    ScaledSamples,
}

impl Form {
    /// Every form of a method that was trained here, in the order of the rows.
    pub const TRAINED: [Self; 4] = [
        Self::Mean,
        Self::ScaledMean,
        Self::Samples,
        Self::ScaledSamples,
    ];

    /// At a temperature.
    pub(super) fn scaled(self) -> Self {
        match self {
            Self::Mean => Self::ScaledMean,
            Self::Samples => Self::ScaledSamples,
            form => form,
        }
    }
}
