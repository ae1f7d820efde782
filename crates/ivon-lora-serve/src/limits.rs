//! What a request may ask for, and how many may wait.

use ivon_lora::settings::SettingError;

/// The limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Rows or prompts of a request.
    pub rows: usize,
    /// Tokens that a text may have.
    pub tokens: usize,
    /// Texts that one request may ask for, and prompts that it may have.
    pub texts: usize,
    /// Requests that may wait for each model.
    pub waiting: usize,
    /// Rows of a pass, and texts that are written at the same time.
    pub together: usize,
    /// Seconds until an answer is given up.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            rows: 256,
            tokens: 1024,
            texts: 16,
            waiting: 128,
            together: 32,
            seconds: 120,
        }
    }
}

impl Limits {
    /// Checks that nothing is zero.
    ///
    /// # Errors
    /// For the first that is.
    pub fn validate(&self) -> Result<(), SettingError> {
        let seconds = usize::try_from(self.seconds).unwrap_or(usize::MAX);
        let all = [
            ("max_body", self.body),
            ("max_rows", self.rows),
            ("max_tokens", self.tokens),
            ("max_texts", self.texts),
            ("max_waiting", self.waiting),
            ("together", self.together),
            ("timeout", seconds),
        ];
        match all.iter().find(|(_, limit)| *limit == 0) {
            Some((key, _)) => Err(SettingError::value(key, 0, "at least 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_nothing_is_refused_by_its_name() {
        let limits = Limits {
            waiting: 0,
            ..Limits::default()
        };
        assert_eq!(limits.validate().unwrap_err().key, "max_waiting");
        assert!(Limits::default().validate().is_ok());
    }
}
