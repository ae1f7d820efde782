//! A variational last layer: an adapter, and noise on the rows of the output layer that score choices.
//! Its logits are normal given the hidden state, so that a single pass serves all draws.

use std::collections::BTreeMap;

use super::{
    Draw, OutputNoise, Posterior, PosteriorError, Spread, Stored, StoredKind, check_scale,
    only_kept,
};
use crate::lora::{Adapter, HostMatrix, LoraError};
use crate::model::DecoderConfig;

/// The tag of its file.
const CONTENT: &str = "last-layer";
/// The name of its matrix: s² of the rows that are known, `[T, H]`.
const VARIANCE: &str = "output.variance";

/// Its kind.
pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "a variational last layer: noise on the rows of the output layer that score choices",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, decoder, _| {
        Ok(Box::new(LastLayer::from_stored(mean, stored, decoder)?))
    },
};

/// An adapter, and noise on the output layer.
#[derive(Clone, Debug)]
pub struct LastLayer {
    mean: Adapter,
    noise: OutputNoise,
}

impl LastLayer {
    /// This adapter with this noise.
    pub fn new(mean: Adapter, noise: OutputNoise) -> Self {
        Self { mean, noise }
    }

    fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
    ) -> Result<Self, PosteriorError> {
        let matrix = stored
            .matrices
            .get(VARIANCE)
            .ok_or_else(|| LoraError::MissingTensor {
                path: stored.path.clone(),
                name: VARIANCE.into(),
            })?;
        if let Some(name) = stored.matrices.keys().find(|name| *name != VARIANCE) {
            return Err(LoraError::UnknownTensor {
                path: stored.path.clone(),
                name: name.clone(),
                reason: format!("a last layer has `{VARIANCE}` alone"),
            }
            .into());
        }
        let tokens = tokens(stored, decoder.vocab_size)?;
        let width = if tokens.is_empty() {
            0
        } else {
            decoder.hidden_size
        };
        let expected = [tokens.len(), width];
        if matrix.shape != expected {
            return Err(LoraError::Shape {
                name: VARIANCE.into(),
                expected: expected.into(),
                found: matrix.shape.into(),
            }
            .into());
        }
        let rows = matrix.values.chunks(width.max(1));
        let rows = tokens.into_iter().zip(rows.map(<[f32]>::to_vec)).collect();
        let other = stored.number("other_variance", "a number")?;
        Ok(Self::new(mean, OutputNoise::new(rows, other)?))
    }
}

/// The tokens of the rows that a file has, in the order of the rows.
fn tokens(stored: &Stored, vocabulary: usize) -> Result<Vec<u32>, PosteriorError> {
    let wrong = || stored.wrong("tokens", "token ids of the base, ascending".into());
    let text = stored.text("tokens")?;
    let parsed = text.split_whitespace().map(str::parse::<u32>);
    let tokens: Vec<u32> = parsed.collect::<Result<_, _>>().map_err(|_| wrong())?;
    let ascending = tokens.windows(2).all(|two| two[0] < two[1]);
    let known = tokens
        .last()
        .is_none_or(|&last| (last as usize) < vocabulary);
    if ascending && known {
        Ok(tokens)
    } else {
        Err(wrong())
    }
}

impl Posterior for LastLayer {
    /// The adapter itself: the noise comes after it, see [`output_noise`](Posterior::output_noise).
    fn draw(&self, _: u64, _: u64, scale: f64) -> Result<Draw, PosteriorError> {
        check_scale(scale)?;
        Ok(Draw::of(self.mean.clone()))
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    /// None: the adapter has none.
    fn variance(&self) -> Option<&Adapter> {
        None
    }

    fn spread(&self) -> Spread {
        Spread::Scaled
    }

    fn output_noise(&self) -> Option<&OutputNoise> {
        Some(&self.noise)
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(Self {
            mean: only_kept(&self.mean, kept)?,
            noise: self.noise.clone(),
        }))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let rows: &BTreeMap<u32, Vec<f32>> = self.noise.rows();
        let tokens: Vec<String> = rows.keys().map(u32::to_string).collect();
        let matrix = HostMatrix {
            shape: [rows.len(), rows.values().next().map_or(0, Vec::len)],
            values: rows.values().flatten().copied().collect(),
        };
        let mut stored = Stored::new(CONTENT)
            .with("tokens", tokens.join(" "))
            .with("other_variance", self.noise.other());
        stored.matrices.insert(VARIANCE.into(), matrix);
        Ok(Some(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::{adapter, decoder};

    fn last_layer() -> LastLayer {
        let row = |from: f32| (0..32).map(|place| from + place as f32 * 0.1).collect();
        let noise = OutputNoise::new([(3, row(0.5)), (41, row(1e-9))].into(), 0.25).unwrap();
        LastLayer::new(adapter(1, "q_proj"), noise)
    }

    fn read(stored: &Stored) -> Result<LastLayer, PosteriorError> {
        LastLayer::from_stored(adapter(1, "q_proj"), stored, &decoder(1))
    }

    #[test]
    fn it_reads_back_to_the_bit() {
        let before = last_layer();
        let stored = before.stored().unwrap().unwrap();
        assert_eq!(stored.text("tokens").unwrap(), "3 41");
        assert_eq!(read(&stored).unwrap().noise, before.noise);
    }

    #[test]
    fn draws_share_the_adapter_and_a_scale_below_zero_is_refused() {
        let posterior = last_layer();
        let drawn = posterior.draw(1, 2, 4.0).unwrap().adapter;
        assert_eq!(drawn.flatten().unwrap(), posterior.mean.flatten().unwrap());
        assert!(posterior.draw(0, 0, -1.0).is_err() && posterior.variance().is_none());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let stored = last_layer().stored().unwrap().unwrap();
        let refused = |change: &dyn Fn(&mut Stored)| {
            let mut other = stored.clone();
            change(&mut other);
            read(&other).err().unwrap().to_string()
        };
        let tokens = |text: &'static str| {
            move |stored: &mut Stored| *stored = stored.clone().with("tokens", text)
        };
        for text in ["41 3", "3 3", "3 x", "3 4000000"] {
            let found = refused(&tokens(text));
            assert!(
                found.contains(&format!(
                    "has `{text}` as `tokens`, expected token ids of the base"
                )),
                "{found}"
            );
        }
        assert!(
            refused(&tokens("3"))
                .ends_with("`output.variance` has shape [2, 32], expected [1, 32]")
        );
        assert!(
            refused(&|stored| stored.matrices.clear()).contains("`output.variance` is missing")
        );
        let matrix = stored.matrices[VARIANCE].clone();
        let negative = |stored: &mut Stored| {
            let values = vec![-1.0; 64];
            let matrix = HostMatrix {
                values,
                ..matrix.clone()
            };
            drop(stored.matrices.insert(VARIANCE.into(), matrix));
        };
        assert!(refused(&negative).contains("`the output row of token 3` holds -1"));
        let more =
            |stored: &mut Stored| drop(stored.matrices.insert("more".into(), matrix.clone()));
        assert!(refused(&more).contains("a last layer has `output.variance` alone"));
        let other = |stored: &mut Stored| *stored = stored.clone().with("other_variance", "much");
        assert!(refused(&other).contains("has `much` as `other_variance`, expected a number"));
    }
}
