//! The tokens of many sequences, concatenated without padding.
//!
//! A batch is a forest of segments: a segment attends causally to itself, and to all of its
//! ancestors. So the many answers to a prompt share one copy of it, and all prompts share one copy
//! of a common prefix.

/// The key of an empty prefix.
const FIRST_KEY: u64 = 0xcbf2_9ce4_8422_2325;

/// A run of tokens in a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The index of its first token in the batch.
    pub start: usize,
    /// Its number of tokens.
    pub len: usize,
    /// The index of the segment that it continues; always an earlier one.
    pub parent: Option<usize>,
    /// Identifies the segment in random numbers, see [`Encoded::key`](super::Encoded::key).
    pub key: u64,
}

/// Packed tokens `[N]`, and the tokens `[S]` whose hidden states are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids `[N]`.
    pub tokens: Vec<u32>,
    /// The position of each token in its sequence, from 0, `[N]`.
    pub positions: Vec<u32>,
    /// The segments, in the order of their tokens; together they are all tokens.
    pub segments: Vec<Segment>,
    /// The indices of the tokens whose hidden states are needed, in any order, `[S]`.
    pub asked: Vec<usize>,
}

impl Batch {
    /// Appends a segment below `parent` and returns its index. `tokens` must not be empty.
    pub fn push(&mut self, tokens: &[u32], parent: Option<usize>, key: u64) -> usize {
        let first = parent.map_or(0, |parent| {
            let above = &self.segments[parent];
            self.positions[above.start + above.len - 1] + 1
        });
        self.push_at(first, tokens, parent, key)
    }

    /// Appends a segment whose tokens come after `past` others that are not in the batch, and
    /// returns its index. `tokens` must not be empty.
    pub fn push_after(&mut self, past: usize, tokens: &[u32]) -> usize {
        self.push_at(past as u32, tokens, None, 0)
    }

    fn push_at(&mut self, first: u32, tokens: &[u32], parent: Option<usize>, key: u64) -> usize {
        let (start, len) = (self.tokens.len(), tokens.len());
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(first..first + len as u32);
        self.segments.push(Segment {
            start,
            len,
            parent,
            key,
        });
        self.segments.len() - 1
    }

    /// Requests the hidden state at the last token of a segment; returns its row in the result.
    pub fn ask_last(&mut self, segment: usize) -> usize {
        let segment = &self.segments[segment];
        self.asked.push(segment.start + segment.len - 1);
        self.asked.len() - 1
    }

    /// The number of tokens N.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// A key for the prefix read at each token, including the token, `[N]`: a hash of the tokens
    /// from the start of its sequence. Equal prefixes have equal keys in every batch.
    pub fn prefix_keys(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = Vec::with_capacity(self.len());
        for segment in &self.segments {
            let above = segment.parent.map(|parent| &self.segments[parent]);
            let mut key = above.map_or(FIRST_KEY, |above| keys[above.start + above.len - 1]);
            // Segments are in the order of their tokens. FNV-1a over the bytes of each token.
            for token in &self.tokens[segment.start..segment.start + segment.len] {
                key = token.to_le_bytes().iter().fold(key, |key, &byte| {
                    (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                keys.push(key);
            }
        }
        keys
    }

    /// The token ranges of the ancestors of a segment, to which it attends in full, root first.
    pub fn above(&self, segment: usize) -> Vec<std::ops::Range<usize>> {
        let mut ranges = Vec::new();
        let mut next = self.segments[segment].parent;
        while let Some(parent) = next {
            let above = &self.segments[parent];
            ranges.push(above.start..above.start + above.len);
            next = above.parent;
        }
        ranges.reverse();
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_continue_the_positions_of_their_prompt() {
        let mut batch = Batch::default();
        let prompt = batch.push(&[5, 6, 7], None, 1);
        let first = batch.push(&[8], Some(prompt), 1);
        let second = batch.push(&[9, 10], Some(prompt), 1);
        batch.ask_last(prompt);
        batch.ask_last(second);
        assert_eq!(batch.positions, [0, 1, 2, 3, 3, 4]);
        assert_eq!(batch.asked, [2, 5]);
        for answer in [first, second] {
            assert_eq!(batch.above(answer), std::slice::from_ref(&(0..3)));
        }
        assert!(batch.above(prompt).is_empty());
        // The second answer, written out after its prompt, has the same prefixes.
        let mut apart = Batch::default();
        apart.push(&[5, 6, 7, 9, 10], None, 4);
        let (shared, apart) = (batch.prefix_keys(), apart.prefix_keys());
        assert_eq!([&shared[..3], &shared[4..]].concat(), apart);
        assert!(shared[3] != shared[4] && shared[0] != shared[1]);
    }
}
