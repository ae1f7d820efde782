//! Texts → ln p of every token that is learned from, given those before it; and the scores of a set
//! of texts at the mean and under draws.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::Tensor;

use super::error::PredictError;
use super::predictor::{EvaluationSeconds, Predictor};
use crate::data::{Batch, Encoded, TextTarget};
use crate::forward::{Hidden, Network, NextToken};
use crate::lora::Draw;
use crate::metrics::{PredictedDocument, PredictedToken};
use crate::watch::Progress;

/// Texts packed into one batch, with the tokens that are predicted.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The tokens of all texts; the hidden states before the predicted tokens are asked for.
    pub batch: Batch,
    /// The predicted tokens, `[S]`.
    pub targets: Vec<u32>,
    /// The weight of each in the loss, `[S]`, above 0.
    pub weights: Vec<f32>,
    /// The number of predicted tokens of each text.
    pub counts: Vec<usize>,
}

impl Texts {
    /// Packs texts; examples that are none are left out.
    pub fn pack<'a>(examples: impl IntoIterator<Item = &'a Encoded>) -> Self {
        let mut texts = Self::default();
        for example in examples {
            if let Some(text) = example.text() {
                texts.push(example, text);
            }
        }
        texts
    }

    fn push(&mut self, example: &Encoded, text: &TextTarget) {
        let segment = self.batch.push(&example.tokens, None, example.key);
        let start = self.batch.segments[segment].start;
        let before = self.targets.len();
        // Nothing predicts the first token.
        let tokens = example.tokens.iter().zip(&text.weights).enumerate().skip(1);
        for (index, (&token, &weight)) in tokens.filter(|(_, (_, weight))| **weight > 0.0) {
            self.batch.asked.push(start + index - 1);
            self.targets.push(token);
            self.weights.push(weight);
        }
        self.counts.push(self.targets.len() - before);
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Σ of the weights of all predicted tokens.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// ln p of each predicted token at the hidden states, `[S]`, nats; tracked if they are.
    pub fn log_probabilities(&self, network: &Network, hidden: &Hidden) -> Tensor<1> {
        network.log_probabilities_of(hidden, &self.targets)
    }
}

/// The predicted tokens of a set of texts, by document.
#[derive(Clone, Debug, Default)]
pub struct SetTokens {
    /// At the mean.
    pub mean: Vec<PredictedDocument>,
    /// Under the mean of the draws' distributions, token by token; none without draws.
    pub sampled: Option<Vec<PredictedDocument>>,
    /// Wall-clock time.
    pub seconds: EvaluationSeconds,
}

/// The predicted tokens of documents, in the order in which the documents first appear.
#[derive(Default)]
struct Documents {
    places: BTreeMap<u64, usize>,
    documents: Vec<PredictedDocument>,
}

impl Documents {
    fn add(&mut self, id: &str, text: &TextTarget, tokens: impl Iterator<Item = PredictedToken>) {
        let place = *self.places.entry(text.document).or_insert_with(|| {
            self.documents.push(PredictedDocument {
                id: id.into(),
                ..PredictedDocument::default()
            });
            self.documents.len() - 1
        });
        let document = &mut self.documents[place];
        document.bytes += text.bytes;
        document.tokens.extend(tokens);
    }
}

impl Predictor<'_> {
    /// Predicts the tokens of texts at the mean and under draws 0 … S−1. `progress` advances by each
    /// text in each of the [`passes`](Self::passes).
    ///
    /// # Errors
    /// [`PredictError::Text`] if the posterior draws logits of choices; if a draw cannot be made, a
    /// probability is not a number, or the watcher says stop.
    pub fn evaluate_texts(
        &self,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<SetTokens, PredictError> {
        if self.draws_logits() {
            return Err(PredictError::Text);
        }
        let started = Instant::now();
        let batch_tokens = self.options.batch_tokens;
        let mean = [Draw::of(self.posterior.mean().clone())];
        let mean = predicted_documents(self.network, &mean, examples, batch_tokens, progress)?;
        let mean_seconds = started.elapsed().as_secs_f64();
        let draws = self.prepare_draws()?;
        let sampled = match draws.is_empty() {
            true => None,
            false => Some(predicted_documents(
                self.network,
                &draws,
                examples,
                batch_tokens,
                progress,
            )?),
        };
        Ok(SetTokens {
            mean,
            sampled,
            seconds: EvaluationSeconds {
                mean: Some(mean_seconds),
                all: started.elapsed().as_secs_f64(),
            },
        })
    }
}

impl Predictor<'_> {
    /// The predicted tokens of texts under the first of the draws, for each of the numbers in `counts`;
    /// at the mean without draws. `progress` advances by each text under each draw.
    ///
    /// # Errors
    /// As [`evaluate_texts`](Self::evaluate_texts).
    pub fn texts_under_first(
        &self,
        counts: &[usize],
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<PredictedDocument>>, PredictError> {
        if self.draws_logits() {
            return Err(PredictError::Text);
        }
        let mut draws = self.prepare_draws()?;
        if draws.is_empty() {
            draws.push(Draw::of(self.posterior.mean().clone()));
        }
        let batch_tokens = self.options.batch_tokens;
        documents_of_first(
            self.network,
            &draws,
            counts,
            examples,
            batch_tokens,
            progress,
        )
    }
}

/// The predicted tokens of texts under the mean of the draws' distributions, by document; `progress`
/// advances by each text under each draw.
///
/// # Errors
/// If a probability is not a number, or the watcher says stop.
pub fn predicted_documents(
    network: &Network,
    draws: &[Draw],
    examples: &[Encoded],
    batch_tokens: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<PredictedDocument>, PredictError> {
    let all = [draws.len()];
    let found = documents_of_first(network, draws, &all, examples, batch_tokens, progress)?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// The same for the first draws alone, for each of the numbers in `counts`; every draw is run once.
fn documents_of_first(
    network: &Network,
    draws: &[Draw],
    counts: &[usize],
    examples: &[Encoded],
    batch_tokens: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<Vec<PredictedDocument>>, PredictError> {
    let draws: Vec<Draw> = draws.iter().map(Draw::valid).collect();
    let mut documents: Vec<Documents> = counts.iter().map(|_| Documents::default()).collect();
    for group in stretches(examples, batch_tokens) {
        let texts = Texts::pack(group);
        let mut hidden = Vec::with_capacity(draws.len());
        for draw in &draws {
            hidden.push(network.hidden(&texts.batch, draw));
            progress.advance(group.len())?;
        }
        for (documents, &count) in documents.iter_mut().zip(counts) {
            let found = network.next_tokens(&hidden[..count.min(hidden.len())], &texts.targets);
            add_tokens(documents, group, &texts, &found)?;
        }
    }
    Ok(documents.into_iter().map(|found| found.documents).collect())
}

/// Adds the predicted tokens of some texts to their documents.
fn add_tokens(
    documents: &mut Documents,
    examples: &[Encoded],
    texts: &Texts,
    found: &[NextToken],
) -> Result<(), PredictError> {
    let mut start = 0;
    let members = examples
        .iter()
        .filter_map(|example| Some((example, example.text()?)));
    for ((example, text), &count) in members.zip(&texts.counts) {
        let rows = start..start + count;
        if found[rows.clone()]
            .iter()
            .any(|token| !token.log_probability.is_finite())
        {
            return Err(PredictError::NotFinite {
                id: example.id.clone(),
            });
        }
        let tokens = rows.map(|row| PredictedToken {
            weight: f64::from(texts.weights[row]),
            log_probability: f64::from(found[row].log_probability),
            confidence: f64::from(found[row].top_log_probability).exp().min(1.0),
            is_top: found[row].top == texts.targets[row],
            squares: f64::from(found[row].squares),
        });
        documents.add(&example.id, text, tokens);
        start += count;
    }
    Ok(())
}

/// Successive examples with at most `batch_tokens` tokens together, but at least one.
fn stretches(examples: &[Encoded], batch_tokens: usize) -> impl Iterator<Item = &[Encoded]> {
    let mut rest = examples;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |example: &&Encoded| {
            tokens += example.tokens.len();
            tokens <= batch_tokens
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (group, after) = rest.split_at(count);
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}
