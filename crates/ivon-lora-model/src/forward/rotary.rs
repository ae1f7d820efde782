//! The cosines and sines by which the queries and keys of a batch are rotated.
//!
//! Some rotary embeddings depend on the length of a sequence. A sequence is a tree of segments here;
//! its length is that of its longest path, so that what else is in a batch has no influence.

use crate::data::Batch;
use crate::model::Rope;

/// The rotations of a batch by one rotary embedding: a table with a row per position, and, where
/// the length of a sequence counts, per length.
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
        // Each class of lengths with its first row, and the number of its rows.
        let mut classes: Vec<(usize, usize, usize)> = Vec::new();
        let mut rows = 0;
        for (segment, &length) in batch.segments.iter().zip(&lengths) {
            let class = rope.length_class(length);
            let first = match classes.iter().find(|(known, ..)| *known == class) {
                Some((_, first, _)) => *first,
                None => {
                    let of_class = lengths.iter().filter(|l| rope.length_class(**l) == class);
                    let longest = of_class.max().copied().unwrap_or(0);
                    table.extend(rope, rope.inverse_frequencies(head_dim, length), longest);
                    classes.push((class, rows, longest));
                    rows += longest;
                    rows - longest
                }
            };
            let positions = &batch.positions[segment.start..segment.start + segment.len];
            let positions = positions.iter().map(|&position| position + first as u32);
            table.rows.extend(positions);
        }
        table
    }

    /// Adds rows for the positions below `count`.
    fn extend(&mut self, rope: &Rope, frequencies: Vec<f32>, count: usize) {
        let factor = rope.attention_factor();
        for position in 0..count as u32 {
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
}
