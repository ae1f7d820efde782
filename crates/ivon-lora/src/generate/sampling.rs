//! How the next token is chosen from its logits.

use super::candidates::{draw, largest, min_p, penalise, top_k, top_p, warmed};
use crate::random::{Purpose, stream, uniform};
use crate::settings::SettingError;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// By which logits are divided before a token is drawn; 0: the most probable token is taken.
    pub temperature: f64,
    /// The number of most probable tokens to draw from; 0: all.
    pub top_k: usize,
    /// The probability of the most probable tokens to draw from, in (0, 1]; 1: all.
    pub top_p: f64,
    /// The smallest probability to draw from, as a share of the largest, in [0, 1]; 0: all.
    pub min_p: f64,
    /// By which the logits of tokens that were read or written are made smaller, above 0; 1: they
    /// stay as they are.
    pub repetition_penalty: f64,
    /// The seed.
    pub seed: u64,
}

impl Default for Sampling {
    /// The most probable token.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// The address of a token's random number: the same address, the same number, whatever else is
/// written.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// A hash of the prompt.
    pub prompt: u64,
    /// The number of the answer to it.
    pub sample: u64,
    /// The number of tokens written before.
    pub position: u64,
}

impl Sampling {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// For the first that is out of range.
    pub fn validate(&self) -> Result<(), SettingError> {
        let within = |key, value: f64, holds: bool, expected| match holds {
            true => Ok(()),
            false => Err(SettingError::value(key, value, expected)),
        };
        let Self {
            temperature,
            top_p,
            min_p,
            repetition_penalty: penalty,
            ..
        } = *self;
        let holds = (0.0..=1e3).contains(&temperature);
        within("temperature", temperature, holds, "0 to 1000")?;
        let holds = top_p > 0.0 && top_p <= 1.0;
        within("top_p", top_p, holds, "above 0, at most 1")?;
        within("min_p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1")?;
        let holds = penalty > 0.0 && penalty <= 1e3;
        within(
            "repetition_penalty",
            penalty,
            holds,
            "above 0, at most 1000",
        )
    }

    /// The next token after `seen`, the tokens read and written so far, from its logits, `[V]`.
    pub fn choose(&self, logits: &[f32], seen: &[u32], address: Address) -> u32 {
        let mut penalised;
        let logits = match self.repetition_penalty == 1.0 {
            true => logits,
            false => {
                penalised = logits.to_vec();
                penalise(&mut penalised, seen, self.repetition_penalty as f32);
                &penalised
            }
        };
        if self.temperature == 0.0 {
            return largest(logits);
        }
        let mut candidates = self.candidates(logits);
        let path = format!("{:016x}", address.prompt);
        let Address {
            sample, position, ..
        } = address;
        let mut stream = stream(self.seed, Purpose::Sampling, position, sample, &path);
        draw(&mut candidates, uniform(&mut stream)).unwrap_or_else(|| largest(logits))
    }

    /// What is drawn from.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f32)> {
        let mut candidates = warmed(logits, self.temperature as f32);
        if self.top_k > 0 {
            top_k(&mut candidates, self.top_k);
        }
        if self.top_p < 1.0 {
            top_p(&mut candidates, self.top_p);
        }
        if self.min_p > 0.0 {
            min_p(&mut candidates, self.min_p);
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{golden_json, golden_normals};

    #[test]
    fn the_tokens_that_stay_are_those_of_transformers_with_their_probabilities() {
        let golden = golden_json("sampling.json");
        let seen = golden["seen"].as_array().unwrap();
        let seen: Vec<u32> = seen.iter().map(|x| x.as_u64().unwrap() as u32).collect();
        for case in golden["cases"].as_array().unwrap() {
            let number = |key: &str, default| case[key].as_f64().unwrap_or(default);
            let sampling = Sampling {
                temperature: number("temperature", 1.0),
                top_k: number("top_k", 0.0) as usize,
                top_p: number("top_p", 1.0),
                min_p: number("min_p", 0.0),
                repetition_penalty: number("repetition_penalty", 1.0),
                seed: 0,
            };
            sampling.validate().unwrap();
            let normals = golden_normals(case["normals"].as_u64().unwrap(), 60);
            let mut logits: Vec<f32> = normals.iter().map(|x| (3.0 * x) as f32).collect();
            penalise(&mut logits, &seen, sampling.repetition_penalty as f32);
            let candidates = sampling.candidates(&logits);
            let weights = candidates.iter().map(|(_, logit)| f64::from(*logit).exp());
            let total = weights.sum::<f64>().ln();
            let found: BTreeMap<String, f64> = candidates
                .iter()
                .map(|(token, logit)| (token.to_string(), f64::from(*logit) - total))
                .collect();
            let expected = case["log_probabilities"].as_object().unwrap();
            assert_eq!(found.len(), expected.len(), "{case}");
            for (token, expected) in expected {
                let off = (found[token] - expected.as_f64().unwrap()).abs();
                assert!(off < 1e-5, "{token} is off by {off}: {case}");
            }
        }
    }

    #[test]
    fn a_number_out_of_range_is_named() {
        let wrong = Sampling {
            top_p: 0.0,
            ..Sampling::default()
        };
        let message = wrong.validate().unwrap_err().to_string();
        assert_eq!(message, "`top_p` is `0`, expected above 0, at most 1");
        let wrong = Sampling {
            temperature: f64::NAN,
            ..Sampling::default()
        };
        assert!(wrong.validate().is_err());
    }
}
