//! Normal noise on the rows of the output layer that score choices, as a variational last layer learns
//! it.

use std::collections::BTreeMap;

use super::PosteriorError;

/// Independent noise on the rows of the output layer. The row of token v is distributed as
/// N(w_v, ‖w_v‖²/H · diag(s_v²)), where w_v is the checkpoint's row: s² is a variance in units of the
/// mean square of the row's H numbers. Given the hidden state h, the logit of v has the variance
/// ‖w_v‖²/H · Σᵢ hᵢ² s²_vᵢ, and the logits of different tokens are independent.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputNoise {
    /// s² of the rows that are known, by token, `[H]` each.
    rows: BTreeMap<u32, Vec<f32>>,
    /// s² of all other rows.
    other: f32,
}

impl OutputNoise {
    /// Noise with s² of some rows by token, `[H]` each, and a single s² for all others.
    ///
    /// # Errors
    /// If a variance is negative or not finite, or rows are of different lengths.
    pub fn new(rows: BTreeMap<u32, Vec<f32>>, other: f32) -> Result<Self, PosteriorError> {
        let width = rows.values().next().map_or(0, Vec::len);
        let is_variance = |value: &&f32| value.is_finite() && **value >= 0.0;
        for (&token, row) in &rows {
            check_width(token, row.len(), width)?;
            if let Some(&found) = row.iter().find(|value| !is_variance(value)) {
                return Err(PosteriorError::Variance {
                    path: format!("the output row of token {token}"),
                    found,
                });
            }
        }
        if !is_variance(&&other) {
            return Err(PosteriorError::Variance {
                path: "all other output rows".into(),
                found: other,
            });
        }
        Ok(Self { rows, other })
    }

    /// s² of the rows that are known, by token, `[H]` each.
    pub fn rows(&self) -> &BTreeMap<u32, Vec<f32>> {
        &self.rows
    }

    /// s² of all other rows.
    pub fn other(&self) -> f32 {
        self.other
    }

    /// s² of the rows of `tokens`, `[tokens, width]` row by row.
    ///
    /// # Errors
    /// If a row that is known has another width.
    pub fn variances(&self, tokens: &[u32], width: usize) -> Result<Vec<f32>, PosteriorError> {
        let mut variances = Vec::with_capacity(tokens.len() * width);
        for token in tokens {
            match self.rows.get(token) {
                Some(row) => {
                    check_width(*token, row.len(), width)?;
                    variances.extend(row);
                }
                None => variances.resize(variances.len() + width, self.other),
            }
        }
        Ok(variances)
    }
}

fn check_width(token: u32, found: usize, expected: usize) -> Result<(), PosteriorError> {
    if found == expected {
        return Ok(());
    }
    Err(PosteriorError::OutputRow {
        token,
        expected,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_known_have_the_other_variance() {
        let noise =
            OutputNoise::new([(7, vec![0.5, 1.0]), (3, vec![2.0, 0.0])].into(), 4.0).unwrap();
        assert_eq!(
            noise.variances(&[3, 5, 7], 2).unwrap(),
            [2.0, 0.0, 4.0, 4.0, 0.5, 1.0]
        );
        assert!(noise.variances(&[], 2).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_variance_and_rows_of_another_width_are_refused() {
        let refused = |rows: &[(u32, &[f32])], other| {
            let rows = rows.iter().map(|(token, row)| (*token, row.to_vec()));
            let error = OutputNoise::new(rows.collect(), other);
            error.unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[(3, &[0.1, -0.5])], 1.0),
            "the variance of `the output row of token 3` holds -0.5, expected finite numbers of at least 0"
        );
        assert_eq!(
            refused(&[], f32::NAN),
            "the variance of `all other output rows` holds NaN, expected finite numbers of at least 0"
        );
        let wide = "the noise on the output row of token 4 has 3 numbers, but the row has 2";
        assert_eq!(refused(&[(3, &[0.0; 2]), (4, &[0.0; 3])], 1.0), wide);
        let noise = OutputNoise::new([(4, vec![0.0; 3])].into(), 1.0).unwrap();
        assert_eq!(noise.variances(&[4], 2).unwrap_err().to_string(), wide);
    }
}
