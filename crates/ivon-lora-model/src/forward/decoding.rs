//! Sequences that are read token by token: prompts and continuations in, logits of the next token
//! out.
//!
//! On the CPU the layers remember what they need of the tokens read so far, so that a new token is
//! computed alone. The draws of an adapter share the frozen weights: one step under all of them
//! reads these once. Elsewhere, and where what is added to the decoder depends on the whole text
//! (dropout masks, C-LoRA's noise), every step computes the whole sequences again, with the same
//! result.

use super::cpu::{FlatDraws, SequenceCache};
use super::network::Network;
use crate::data::Batch;
use crate::lora::Draw;
use crate::model::{DecoderConfig, Table};
use crate::random::fnv1a;

/// The shortest beginning of several prompts that is computed once.
const SHORTEST_BEGINNING: usize = 8;

/// A decoder and draws of its adapter, for sequences that are read token by token.
#[derive(Debug)]
pub struct Decoding {
    network: Network,
    draws: Vec<Draw>,
    /// The draws for passes over new tokens only; none: whole sequences are computed again.
    flat: Option<FlatDraws>,
}

/// A text to be read, and the draw under which it is read.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The index of the draw.
    pub draw: usize,
    /// At least one token.
    pub tokens: &'a [u32],
}

/// A sequence of a [`Decoding`]: its tokens, and what the layers remember of them.
#[derive(Debug)]
pub struct Sequence {
    draw: usize,
    tokens: Vec<u32>,
    /// Addresses dropout masks: a hash of its prompt.
    key: u64,
    cache: SequenceCache,
}

impl Sequence {
    fn new(prompt: &Prompt<'_>, layers: usize) -> Self {
        let bytes = prompt.tokens.iter().flat_map(|token| token.to_le_bytes());
        Self {
            draw: prompt.draw,
            tokens: prompt.tokens.to_vec(),
            key: fnv1a(&bytes.collect::<Vec<u8>>()),
            cache: SequenceCache::new(layers),
        }
    }

    /// The tokens read so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The index of its draw.
    pub fn draw(&self) -> usize {
        self.draw
    }

    /// A second sequence with the same tokens; the memory of what was read is shared.
    pub fn fork(&mut self) -> Self {
        Self {
            draw: self.draw,
            tokens: self.tokens.clone(),
            key: self.key,
            cache: self.cache.fork(),
        }
    }
}

/// The segments of a pass with their sequences: those of a draw stand one after the other.
struct Segments<'a> {
    batch: Batch,
    owners: Vec<usize>,
    caches: Vec<&'a mut SequenceCache>,
}

impl<'a> Segments<'a> {
    fn new() -> Self {
        Self {
            batch: Batch::default(),
            owners: Vec::new(),
            caches: Vec::new(),
        }
    }

    fn push(&mut self, draw: usize, cache: &'a mut SequenceCache) {
        self.owners.push(draw);
        self.caches.push(cache);
    }
}

impl Decoding {
    /// Sequences under these draws of one adapter, at least one.
    pub fn new(network: Network, draws: Vec<Draw>) -> Self {
        let draws: Vec<Draw> = draws.iter().map(Draw::valid).collect();
        let flat = network.is_host().then(|| FlatDraws::of(&draws)).flatten();
        Self {
            network,
            draws,
            flat,
        }
    }

    /// The number of draws.
    pub fn draws(&self) -> usize {
        self.draws.len()
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        self.network.config()
    }

    /// Reads prompts; returns their sequences and the logits after the last token of each,
    /// `[prompts, V]`. What the prompts of a draw begin with is computed once.
    pub fn read(&self, prompts: &[Prompt<'_>]) -> (Vec<Sequence>, Vec<f32>) {
        let layers = self.config().layers.len();
        let sequences = prompts.iter().map(|prompt| Sequence::new(prompt, layers));
        let mut sequences: Vec<Sequence> = sequences.collect();
        let logits = match &self.flat {
            Some(flat) => {
                let hidden = self.read_whole(flat, sequences.iter_mut().collect());
                self.logits(&hidden, prompts.iter().map(|prompt| prompt.draw))
            }
            None => self.read_again(&sequences.iter().collect::<Vec<_>>()),
        };
        (sequences, logits)
    }

    /// Adds tokens to sequences, at least one to each; returns the logits after the last token of
    /// each, `[sequences, V]`.
    pub fn extend(&self, additions: Vec<(&mut Sequence, &[u32])>) -> Vec<f32> {
        match &self.flat {
            Some(flat) => {
                let owners = additions.iter().map(|(sequence, _)| sequence.draw);
                let owners: Vec<usize> = owners.collect();
                let hidden = self.read_on(flat, additions);
                self.logits(&hidden, owners.into_iter())
            }
            None => {
                let added = additions.into_iter().map(|(sequence, tokens)| {
                    sequence.tokens.extend_from_slice(tokens);
                    &*sequence
                });
                self.read_again(&added.collect::<Vec<_>>())
            }
        }
    }

    /// Logits from hidden states `[sequences, H]`, each under its draw, `[sequences, V]`.
    fn logits(&self, hidden: &[f32], owners: impl Iterator<Item = usize>) -> Vec<f32> {
        let is_changed = |draw: &Draw| draw.adapter.table(Table::LmHead).is_some();
        if !self.draws.iter().any(is_changed) {
            return self.network.logits_under(&self.draws[0], hidden);
        }
        let states = hidden.chunks_exact(self.config().hidden_size);
        let rows = states.zip(owners);
        rows.flat_map(|(state, draw)| self.network.logits_under(&self.draws[draw], state))
            .collect()
    }

    /// A pass over whole sequences from their start, `[sequences, H]`.
    fn read_whole(&self, flat: &FlatDraws, sequences: Vec<&mut Sequence>) -> Vec<f32> {
        let (order, mut sorted) = by_draw(sequences, |sequence| sequence.draw);
        let groups = || sorted.chunk_by(|one, other| one.draw == other.draw);
        let shared: Vec<usize> = groups().map(common_beginning).collect();
        let layers = self.config().layers.len();
        let mut roots: Vec<_> = shared.iter().map(|_| SequenceCache::new(layers)).collect();
        let mut segments = Segments::new();
        let groups = sorted.chunk_by_mut(|one, other| one.draw == other.draw);
        for ((group, &shared), root) in groups.zip(&shared).zip(&mut roots) {
            let parent = (shared > 0).then(|| {
                segments.push(group[0].draw, root);
                segments.batch.push(&group[0].tokens[..shared], None, 0)
            });
            for sequence in group {
                let tokens = &sequence.tokens[shared..];
                let segment = segments.batch.push(tokens, parent, 0);
                segments.batch.ask_last(segment);
                segments.push(sequence.draw, &mut sequence.cache);
            }
        }
        let hidden = self.pass(flat, segments);
        let groups = sorted.chunk_by_mut(|one, other| one.draw == other.draw);
        for ((group, &shared), root) in groups.zip(&shared).zip(&mut roots) {
            if shared > 0 {
                let root = root.fork();
                let caches = group.iter_mut().map(|sequence| &mut sequence.cache);
                caches.for_each(|cache| cache.continue_from(&root));
            }
        }
        in_order(&hidden, &order)
    }

    /// A pass over what is added to sequences, `[sequences, H]`.
    fn read_on(&self, flat: &FlatDraws, additions: Vec<(&mut Sequence, &[u32])>) -> Vec<f32> {
        let (order, sorted) = by_draw(additions, |(sequence, _)| sequence.draw);
        let layers = self.config().layers.len();
        let mut rows: Vec<Vec<f32>> = vec![Vec::new(); order.len()];
        let (mut segments, mut places) = (Segments::new(), Vec::new());
        for ((sequence, tokens), &row) in sorted.into_iter().zip(&order) {
            let past = sequence.tokens.len();
            sequence.tokens.extend_from_slice(tokens);
            if self.turns_otherwise(past, sequence.tokens.len()) {
                sequence.cache = SequenceCache::new(layers);
                rows[row] = self.read_whole(flat, vec![sequence]);
                continue;
            }
            let segment = segments.batch.push_after(past, tokens);
            segments.batch.ask_last(segment);
            segments.push(sequence.draw, &mut sequence.cache);
            places.push(row);
        }
        let hidden = match places.is_empty() {
            true => Vec::new(),
            false => self.pass(flat, segments),
        };
        let states = hidden.chunks_exact(self.config().hidden_size);
        for (state, row) in states.zip(places) {
            rows[row] = state.to_vec();
        }
        rows.concat()
    }

    /// Whether all keys of a sequence change as its length does: some rotary embeddings depend on
    /// it.
    fn turns_otherwise(&self, past: usize, length: usize) -> bool {
        let (ropes, _) = self.config().ropes();
        let mut ropes = ropes.into_iter();
        ropes.any(|(rope, _)| rope.length_class(past) != rope.length_class(length))
    }

    fn pass(&self, flat: &FlatDraws, segments: Segments<'_>) -> Vec<f32> {
        let Segments {
            batch,
            owners,
            caches,
        } = segments;
        let read = self.network.read(flat, batch, &owners, caches);
        // Only a network on the CPU has flat draws.
        read.unwrap_or_default()
    }

    /// Logits of whole sequences without what is remembered of them, `[sequences, V]`.
    fn read_again(&self, sequences: &[&Sequence]) -> Vec<f32> {
        let (order, sorted) = by_draw(sequences.to_vec(), |sequence| sequence.draw);
        let mut logits = Vec::new();
        for group in sorted.chunk_by(|one, other| one.draw == other.draw) {
            let mut batch = Batch::default();
            for sequence in group {
                let segment = batch.push(&sequence.tokens, None, sequence.key);
                batch.ask_last(segment);
            }
            let draw = &self.draws[group[0].draw];
            logits.extend(self.network.all_logits(&self.network.hidden(&batch, draw)));
        }
        in_order(&logits, &order)
    }
}

/// Rows in an order, put back in the order of the sequences.
fn in_order(values: &[f32], order: &[usize]) -> Vec<f32> {
    let width = values.len() / order.len().max(1);
    let mut rows = vec![0.0; values.len()];
    for (from, &row) in values.chunks_exact(width.max(1)).zip(order) {
        rows[row * width..(row + 1) * width].copy_from_slice(from);
    }
    rows
}

/// Sorts by draws, and returns the index that each item had.
fn by_draw<T>(items: Vec<T>, draw: impl Fn(&T) -> usize) -> (Vec<usize>, Vec<T>) {
    let mut items: Vec<(usize, T)> = items.into_iter().enumerate().collect();
    items.sort_by_key(|(_, item)| draw(item));
    items.into_iter().unzip()
}

/// The number of tokens that all sequences begin with, each keeping at least one of its own; 0 if
/// they are too few to be worth sharing.
fn common_beginning(sequences: &[&mut Sequence]) -> usize {
    let [first, rest @ ..] = sequences else {
        return 0;
    };
    let shared = rest.iter().fold(first.tokens.len() - 1, |shared, other| {
        let pairs = first.tokens.iter().zip(&other.tokens);
        let equal = pairs.take_while(|(one, other)| one == other).count();
        shared.min(equal).min(other.tokens.len() - 1)
    });
    match rest.is_empty() || shared < SHORTEST_BEGINNING {
        true => 0,
        false => shared,
    }
}

#[cfg(test)]
mod tests;
