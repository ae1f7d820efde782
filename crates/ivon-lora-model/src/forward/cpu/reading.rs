//! Sequences that are read in several passes: a pass over the tokens that were added to them, which
//! reads what earlier passes left and leaves what later ones need.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Device;

use super::cache::{PassCache, SequenceCache};
use super::layout::AdapterLayout;
use super::operation::{Call, Given, Host};
use super::pass::DrawTokens;
use crate::data::Batch;
use crate::forward::tables::embeddings;
use crate::lora::Draw;
use crate::model::{Decoder, Table};

/// Draws of an adapter, each as one flat vector.
#[derive(Clone, Debug)]
pub struct FlatDraws {
    layout: Arc<AdapterLayout>,
    adapters: Vec<Vec<f32>>,
    /// The draws themselves, if they change the embeddings; else empty.
    embedded: Vec<Draw>,
}

impl FlatDraws {
    /// From draws of one adapter. None if a token cannot be computed without the tokens before it
    /// at hand: there is dropout, or a side whose noise belongs to the whole text so far.
    pub fn of(draws: &[Draw]) -> Option<Self> {
        let layout = AdapterLayout::of(&draws.first()?.adapter);
        let flat = |draw: &Draw| -> Option<Vec<f32>> {
            let values = match AdapterLayout::flatten(&draw.adapter, None) {
                Some(flat) => flat.into_data().try_to_vec().ok()?,
                None => Vec::new(),
            };
            (draw.dropout.is_none() && values.len() == layout.len()).then_some(values)
        };
        let adapters = draws.iter().map(flat).collect::<Option<_>>()?;
        let is_changed = |draw: &Draw| draw.adapter.table(Table::EmbedTokens).is_some();
        (!layout.reads_keys()).then(|| Self {
            layout: Arc::new(layout),
            adapters,
            embedded: match draws.iter().any(is_changed) {
                true => draws.to_vec(),
                false => Vec::new(),
            },
        })
    }

    /// The embeddings of a batch `[N, H]` under the draws of its tokens, if they change them; else
    /// empty.
    fn embeddings(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        parts: &[(usize, Range<usize>)],
    ) -> Vec<f32> {
        if self.embedded.is_empty() {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for (draw, tokens) in parts {
            let part = Batch {
                tokens: batch.tokens[tokens.clone()].to_vec(),
                ..Batch::default()
            };
            let (table, draw) = (&decoder.embed_tokens, &self.embedded[*draw]);
            let rows = embeddings(table, &decoder.config, &part, draw, &Device::flex());
            let rows = rows.and_then(|rows| rows.into_data().try_to_vec::<f32>().ok());
            changed.extend(rows.unwrap_or_default());
        }
        changed
    }
}

impl Host {
    /// The hidden states after the last norm at the requested tokens of a batch, `[S, H]`.
    ///
    /// A sequence belongs to each segment; `owners` are the draws that they are read under, those
    /// of a draw one after the other, and requested tokens are in order. Sequences that earlier
    /// passes have read do not continue each other.
    pub fn read(
        self: &Arc<Self>,
        draws: &FlatDraws,
        batch: Batch,
        owners: &[usize],
        sequences: Vec<&mut SequenceCache>,
    ) -> Vec<f32> {
        let has_past = batch
            .segments
            .iter()
            .any(|segment| segment.parent.is_none() && batch.positions[segment.start] > 0);
        let parts = parts_by_draw(&batch, owners);
        let tokens: Vec<DrawTokens<'_>> = parts
            .iter()
            .map(|(draw, tokens)| DrawTokens {
                adapter: &draws.adapters[*draw],
                tokens: tokens.clone(),
            })
            .collect();
        let changed = draws.embeddings(self.decoder(), &batch, &parts);
        let len = batch.asked.len() * self.decoder().config.hidden_size;
        let call = Call {
            host: self.clone(),
            batch: Arc::new(batch),
            layout: draws.layout.clone(),
            tracks_embeddings: false,
            dropout: None,
            observer: None,
        };
        let mut sequences = sequences;
        let taken = sequences.iter_mut().map(|one| std::mem::take(*one));
        let cache = PassCache::new(taken, has_past);
        let given = Given {
            draws: &tokens,
            changed: &changed,
            cache: Some(&cache),
        };
        let (mut outputs, _) = call.run(given, false);
        for (sequence, read) in sequences.into_iter().zip(cache.into_sequences()) {
            *sequence = read;
            sequence.forget(&self.windows);
        }
        // A penalty may follow.
        outputs.truncate(len);
        outputs
    }
}

/// The tokens of each draw, given those of the segments, of which those of a draw stand together.
fn parts_by_draw(batch: &Batch, owners: &[usize]) -> Vec<(usize, Range<usize>)> {
    let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
    for (segment, &owner) in batch.segments.iter().zip(owners) {
        let end = segment.start + segment.len;
        match parts.last_mut().filter(|(draw, _)| *draw == owner) {
            Some((_, tokens)) => tokens.end = end,
            None => parts.push((owner, segment.start..end)),
        }
    }
    parts
}
