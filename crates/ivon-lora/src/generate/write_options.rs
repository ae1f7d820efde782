//! How texts are written.

use super::sampling::Sampling;
use crate::settings::SettingError;

/// How texts are written.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteOptions {
    /// The largest number of tokens of a text.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts before which a text ends.
    pub stop: Vec<String>,
    /// Texts that are written at the same time: they share each reading of the weights.
    pub together: usize,
    /// The number of most probable tokens that are kept with each written one.
    pub alternatives: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampling: Sampling::default(),
            stop: Vec::new(),
            together: 16,
            alternatives: 0,
        }
    }
}

impl WriteOptions {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// For the first that is out of range.
    pub fn validate(&self) -> Result<(), SettingError> {
        for (key, value) in [("max_tokens", self.max_tokens), ("together", self.together)] {
            if value == 0 {
                return Err(SettingError::value(key, 0, "at least 1"));
            }
        }
        self.sampling.validate()
    }
}
