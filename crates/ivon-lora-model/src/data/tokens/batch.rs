//! The tokens of many sequences laid end to end, without padding.
//!
//! A batch is a forest of segments: a segment attends to itself causally and to all of the segments
//! above it. So a prompt stands once below its many answers, and a common beginning once below all
//! prompts.

/// The name of having read nothing.
const FIRST_KEY: u64 = 0xcbf2_9ce4_8422_2325;

/// A run of tokens in a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first token in the batch.
    pub start: usize,
    /// Its number of tokens.
    pub len: usize,
    /// The segment that it continues; always an earlier one.
    pub parent: Option<usize>,
    /// Names the segment in everything random, see [`Encoded::key`](super::Encoded::key).
    pub key: u64,
}

/// Packed tokens `[N]` and the positions whose hidden state is asked for `[S]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids `[N]`.
    pub tokens: Vec<u32>,
    /// The place of each token in its sequence, from 0, `[N]`.
    pub positions: Vec<u32>,
    /// The segments, in the order of their tokens; they cover all tokens.
    pub segments: Vec<Segment>,
    /// Which tokens' hidden states are wanted, in any order, `[S]`.
    pub asked: Vec<usize>,
}

impl Batch {
    /// Appends a segment below `parent` and returns its index. `tokens` must not be empty.
    pub fn push(&mut self, tokens: &[u32], parent: Option<usize>, key: u64) -> usize {
        let start = self.tokens.len();
        let offset = parent.map_or(0, |parent| {
            let above = &self.segments[parent];
            self.positions[above.start + above.len - 1] + 1
        });
        self.tokens.extend_from_slice(tokens);
        self.positions
            .extend((0..tokens.len() as u32).map(|index| offset + index));
        self.segments.push(Segment {
            start,
            len: tokens.len(),
            parent,
            key,
        });
        self.segments.len() - 1
    }

    /// Asks for the hidden state at the last token of a segment and returns its row in the answer.
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

    /// A name for what has been read at each token, itself included, `[N]`: a hash of the tokens
    /// from the beginning of its sequence. Equal beginnings have equal names in every batch.
    pub fn prefix_keys(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = Vec::with_capacity(self.len());
        for segment in &self.segments {
            let above = segment.parent.map(|parent| &self.segments[parent]);
            let mut key = above.map_or(FIRST_KEY, |above| keys[above.start + above.len - 1]);
            // Segments come in the order of their tokens. FNV-1a over the bytes of each.
            for token in &self.tokens[segment.start..segment.start + segment.len] {
                key = token.to_le_bytes().iter().fold(key, |key, &byte| {
                    (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                keys.push(key);
            }
        }
        keys
    }

    /// The token ranges that a segment attends to in full, outermost first: those of the segments
    /// above it.
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
        // The second answer written out behind its prompt has read the same.
        let mut apart = Batch::default();
        apart.push(&[5, 6, 7, 9, 10], None, 4);
        let (shared, apart) = (batch.prefix_keys(), apart.prefix_keys());
        assert_eq!([&shared[..3], &shared[4..]].concat(), apart);
        assert!(shared[3] != shared[4] && shared[0] != shared[1]);
    }
}
