//! The predicted tokens of a text.

/// A token of a text, predicted from those before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictedToken {
    /// Its weight in the loss, above 0.
    pub weight: f64,
    /// ln p of it, nats.
    pub log_probability: f64,
    /// The probability of the most probable token.
    pub confidence: f64,
    /// Whether it is the most probable token.
    pub is_top: bool,
    /// p of all tokens, squared and summed.
    pub squares: f64,
}

/// The predicted tokens of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictedDocument {
    /// The id of its row, or of its first stretch.
    pub id: String,
    /// Its tokens.
    pub tokens: Vec<PredictedToken>,
    /// The bytes of UTF-8 that they spell.
    pub bytes: usize,
}

impl PredictedDocument {
    /// Mean negative log-likelihood of its tokens, nats; NaN without tokens.
    pub fn nll(&self) -> f64 {
        let loss = |token: &PredictedToken| token.weight * token.log_probability;
        let weight: f64 = self.tokens.iter().map(|token| token.weight).sum();
        -self.tokens.iter().map(loss).sum::<f64>() / weight
    }
}
