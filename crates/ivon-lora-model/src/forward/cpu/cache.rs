//! What the layers remember of sequences that are read in several passes: the keys and values of
//! attention, the last inputs of convolutions, the states of delta rules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attention::Heads;
use super::cached_attention::{Query, attend_cached};
use super::cached_rows::CachedRows;
use super::key_values::KeysAndValues;
use super::runs::Carried;
use crate::data::Batch;

/// What one layer remembers of consecutive tokens.
#[derive(Clone, Debug, Default)]
struct LayerCache {
    key_values: CachedRows,
    /// In the order of [`Carry`].
    carried: [Option<Vec<f32>>; 2],
}

/// What a layer carries from token to token instead of remembering every one.
#[derive(Clone, Copy, Debug)]
pub enum Carry {
    /// The last inputs of its convolution.
    Inputs,
    /// The state of its delta rule.
    State,
}

/// What all layers remember of a sequence.
#[derive(Debug, Default)]
pub struct SequenceCache {
    /// That of its beginning, which other sequences share, part after part.
    beginning: Vec<Arc<Vec<LayerCache>>>,
    /// That of the tokens after it.
    own: Vec<LayerCache>,
}

impl SequenceCache {
    /// Nothing yet, for a decoder of this many layers.
    pub fn new(layers: usize) -> Self {
        Self {
            beginning: Vec::new(),
            own: vec![LayerCache::default(); layers],
        }
    }

    /// A copy of this sequence, which shares everything read so far.
    pub fn fork(&mut self) -> Self {
        let carried = |layer: &LayerCache| LayerCache {
            key_values: CachedRows::default(),
            carried: layer.carried.clone(),
        };
        let after: Vec<LayerCache> = self.own.iter().map(carried).collect();
        let before = std::mem::replace(&mut self.own, after.clone());
        self.beginning.push(Arc::new(before));
        Self {
            beginning: self.beginning.clone(),
            own: after,
        }
    }

    /// Puts the sequence below another one, which it continues.
    pub fn continue_from(&mut self, above: &Self) {
        self.beginning.clone_from(&above.beginning);
    }

    /// Forgets the keys and values that no later token sees, given the window of each layer.
    pub fn forget(&mut self, windows: &[Option<usize>]) {
        for (layer, window) in self.own.iter_mut().zip(windows) {
            if let Some(window) = window {
                layer.key_values.forget(*window);
            }
        }
    }

    /// The keys and values of a layer, part after part.
    fn parts(&self, layer: usize) -> Vec<&CachedRows> {
        let beginning = self.beginning.iter().map(|part| &part[layer]);
        let all = beginning.chain([&self.own[layer]]);
        all.map(|layer| &layer.key_values).collect()
    }
}

/// What the layers remember of the sequences of a pass, one for each segment of its batch.
#[derive(Debug)]
pub struct PassCache {
    sequences: Vec<Mutex<SequenceCache>>,
    /// Whether earlier passes have read tokens of these sequences; if so, no segment of the batch
    /// continues another one.
    pub has_past: bool,
}

impl PassCache {
    pub fn new(sequences: impl Iterator<Item = SequenceCache>, has_past: bool) -> Self {
        Self {
            sequences: sequences.map(Mutex::new).collect(),
            has_past,
        }
    }

    /// The sequences after the pass.
    pub fn into_sequences(self) -> impl Iterator<Item = SequenceCache> {
        let inner = |one: Mutex<SequenceCache>| one.into_inner();
        let sequences = self.sequences.into_iter().map(inner);
        sequences.map(|one| one.unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds the keys and values of the batch's tokens, `[N, width]`, to those of a layer.
    pub fn remember(&self, layer: usize, batch: &Batch, new: &KeysAndValues) {
        let width = new.k.len() / batch.len().max(1);
        for (sequence, segment) in self.sequences.iter().zip(&batch.segments) {
            let rows = segment.start * width..(segment.start + segment.len) * width;
            let rows = [&new.k[rows.clone()], &new.v[rows]];
            let first = batch.positions[segment.start] as usize;
            let own = &mut locked(sequence).own[layer];
            own.key_values.extend(first, width, rows);
        }
    }

    /// What a layer carried to the end of each sequence; the caller puts what follows it.
    pub fn take(&self, layer: usize, what: Carry) -> Carried {
        let sequences = self.sequences.iter();
        let taken = sequences.map(|one| locked(one).own[layer].carried[what as usize].take());
        taken.collect()
    }

    /// What a layer carries to the next pass, for each sequence.
    pub fn put(&self, layer: usize, what: Carry, carried: Carried) {
        for (sequence, carried) in self.sequences.iter().zip(carried) {
            locked(sequence).own[layer].carried[what as usize] = carried;
        }
    }

    /// out `[tokens, queries · width]` ← the attention of some tokens of the batch, with their
    /// queries, over all tokens of their sequences, with the keys and values of a layer.
    pub fn attend(
        &self,
        (layer, batch): (usize, &Batch),
        heads: Heads,
        (tokens, q): (impl Iterator<Item = usize>, &[f32]),
        out: &mut [f32],
    ) {
        let sequences: Vec<_> = self.sequences.iter().map(locked).collect();
        let parts: Vec<_> = sequences.iter().map(|one| one.parts(layer)).collect();
        let query = |token: usize| {
            let segments = &batch.segments;
            let next = segments.partition_point(|segment| segment.start <= token);
            Query {
                position: batch.positions[token] as usize,
                parts: &parts[next - 1],
            }
        };
        let queries: Vec<Query<'_>> = tokens.map(query).collect();
        attend_cached(heads, &queries, q, out);
    }
}

fn locked(sequence: &Mutex<SequenceCache>) -> MutexGuard<'_, SequenceCache> {
    sequence.lock().unwrap_or_else(PoisonError::into_inner)
}
