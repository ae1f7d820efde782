//! The four scores shown in every table, record and page.

use serde::{Deserialize, Deserializer, Serialize};

/// The four scores of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MainScores {
    pub accuracy: f64,
    /// Nats.
    #[serde(deserialize_with = "nan_for_null")]
    pub nll: f64,
    /// 10 bins.
    pub ece: f64,
    pub brier: f64,
}

/// JSON has neither NaN nor infinities; serde writes them as null.
pub fn nan_for_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
