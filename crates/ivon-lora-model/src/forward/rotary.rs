//! The cosines and sines by which the queries and keys of a batch are rotated.
//!
//! Some rotary embeddings depend on the length of a sequence. A sequence is a tree of segments here;
//! its length is that of its longest path, so that what else is in a batch has no influence.

use crate::data::Batch;
use crate::model::Rope;

/// The rotations of a batch by one rotary embedding: a table with a row per position in use,
/// and, where the length of a sequence counts, per length.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    /// The number of columns of a head that are rotated.
    pub width: usize,
    /// Of keys, and of queries unless these have their own, `[rows, width / 2]`.
    keys: [Vec<f32>; 2],
    /// Of queries, if they are multiplied by a number that depends on the position.
    queries: Option<[Vec<f32>; 2]>,
    /// The row of each token, `[N]`.
    pub rows: Vec<u32>,
}

impl RotaryTable {
    /// The rotations of heads of this width.
    pub fn new(rope: &Rope, head_dim: usize, batch: &Batch) -> Self {
        let mut table = Self {
            width: rope.width(head_dim),
            keys: Default::default(),
            queries: rope.query_factor(0).map(|_| Default::default()),
            rows: Vec::with_capacity(batch.len()),
        };
        let lengths = sequence_lengths(batch);
        // Each class of lengths with its first row, and the positions of its rows.
        let mut classes: Vec<(usize, u32, Vec<u32>)> = Vec::new();
        let mut rows = 0;
        for (segment, &length) in batch.segments.iter().zip(&lengths) {
            let class = rope.length_class(length);
            let known = classes.iter().position(|(known, ..)| *known == class);
            let place = known.unwrap_or_else(|| {
                let is_alike = |length: usize| rope.length_class(length) == class;
                let positions = positions_of(batch, &lengths, is_alike);
                let frequencies = rope.inverse_frequencies(head_dim, length);
                table.extend(rope, frequencies, &positions);
                let first = rows;
                rows += positions.len() as u32;
                classes.push((class, first, positions));
                classes.len() - 1
            });
            let (_, first, positions) = &classes[place];
            let own = &batch.positions[segment.start..segment.start + segment.len];
            let row = |own: &u32| first + positions.partition_point(|known| known < own) as u32;
            table.rows.extend(own.iter().map(row));
        }
        table
    }

    /// Adds rows for these positions.
    fn extend(&mut self, rope: &Rope, frequencies: Vec<f32>, positions: &[u32]) {
        let factor = rope.attention_factor();
        for &position in positions {
            let query_factor = rope.query_factor(position);
            for frequency in &frequencies {
                let angle = f64::from(position as f32 * frequency);
                let turned = [factor * angle.cos(), factor * angle.sin()];
                for (column, number) in self.keys.iter_mut().zip(turned) {
                    column.push(number as f32);
                }
                if let (Some(queries), Some(query_factor)) = (&mut self.queries, query_factor) {
                    for (column, number) in queries.iter_mut().zip(turned) {
                        column.push((query_factor * number) as f32);
                    }
                }
            }
        }
    }

    /// Cosines and sines of queries, or of keys, `[rows, width / 2]`.
    pub fn of(&self, are_queries: bool) -> [&[f32]; 2] {
        let columns = match &self.queries {
            Some(queries) if are_queries => queries,
            _ => &self.keys,
        };
        columns.each_ref().map(Vec::as_slice)
    }
}

/// The positions of the tokens in sequences of some lengths, ascending.
fn positions_of(batch: &Batch, lengths: &[usize], is_alike: impl Fn(usize) -> bool) -> Vec<u32> {
    let segments = batch.segments.iter().zip(lengths);
    let alike = segments.filter(|(_, length)| is_alike(**length));
    let mut positions: Vec<u32> = alike
        .flat_map(|(segment, _)| &batch.positions[segment.start..segment.start + segment.len])
        .copied()
        .collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The length of the sequence that each segment belongs to.
fn sequence_lengths(batch: &Batch) -> Vec<usize> {
    let mut roots = Vec::with_capacity(batch.segments.len());
    let mut longest = vec![0; batch.segments.len()];
    for (index, segment) in batch.segments.iter().enumerate() {
        let root = segment.parent.map_or(index, |parent| roots[parent]);
        let end = batch.positions[segment.start + segment.len - 1] as usize + 1;
        longest[root] = end.max(longest[root]);
        roots.push(root);
    }
    roots.into_iter().map(|root| longest[root]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RopeScaling;

    #[test]
    fn sequences_of_different_lengths_have_frequencies_of_their_own_and_answers_those_of_their_tree()
     {
        let rope = Rope {
            theta: 100.0,
            scaling: RopeScaling::Dynamic {
                factor: 2.0,
                original_max_position_embeddings: 3,
            },
            partial_rotary_factor: None,
        };
        let mut batch = Batch::default();
        batch.push(&[1, 2], None, 0);
        let prompt = batch.push(&[3, 4, 5], None, 0);
        batch.push(&[6], Some(prompt), 0);
        batch.push(&[7, 8], Some(prompt), 0);
        let table = RotaryTable::new(&rope, 4, &batch);
        // Rows 0 and 1 are those of the short sequence, 2 to 6 those of one of five tokens.
        assert_eq!(table.rows, [0, 1, 2, 3, 4, 5, 5, 6]);
        let [_, sine] = table.of(false);
        let second = rope.inverse_frequencies(4, 5)[1];
        assert_eq!(sine[3 * 2 + 1], second.sin());
        assert_eq!(sine[2 + 1], rope.inverse_frequencies(4, 2)[1].sin());
    }

    #[test]
    fn a_token_far_along_its_sequence_needs_a_row_of_its_own_only() {
        let rope = Rope {
            theta: 100.0,
            scaling: RopeScaling::Default,
            partial_rotary_factor: None,
        };
        let mut batch = Batch::default();
        batch.push_after(5000, &[1]);
        batch.push_after(7, &[1, 2]);
        let table = RotaryTable::new(&rope, 4, &batch);
        assert_eq!(table.rows, [2, 0, 1]);
        let [_, sine] = table.of(false);
        assert_eq!(sine.len(), 3 * 2);
        assert_eq!(sine[4], f64::from(5000f32).sin() as f32);
    }
}
