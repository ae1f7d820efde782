//! Attention of single tokens over all tokens of their sequences, whose keys and values earlier
//! passes have left: a task is a token and a key head, with all query heads that share it.

use std::ops::Range;

use rayon::prelude::*;

use super::attention::Heads;
use super::cached_rows::CachedRows;
use crate::kernel::{
    Factor, Shared, Target, Threads, View, product, softcap_row, softmax_row, wide,
};

/// A token that attends.
pub struct Query<'a> {
    /// Its position in its sequence.
    pub position: usize,
    /// The keys and values of its sequence, part after part.
    pub parts: &'a [&'a CachedRows],
}

/// out `[n, queries · width]` ← softmax(multiplier · Q Kᵀ) V, row by row for these tokens.
pub fn attend_cached(heads: Heads, queries: &[Query<'_>], q: &[f32], out: &mut [f32]) {
    let out = Shared::new(out);
    (0..queries.len() * heads.keys)
        .into_par_iter()
        .for_each_init(Vec::new, |scores, task| {
            let head = QueryHead {
                heads,
                query: &queries[task / heads.keys],
                row: task / heads.keys,
                key_head: task % heads.keys,
            };
            head.score(q, scores);
            head.attend(scores, out);
        });
}

/// A token and one key head.
struct QueryHead<'a> {
    heads: Heads,
    query: &'a Query<'a>,
    row: usize,
    key_head: usize,
}

impl QueryHead<'_> {
    /// The query heads that share the key head.
    fn group(&self) -> usize {
        self.heads.queries / self.heads.keys
    }

    /// The first number of the group in a matrix of all query heads.
    fn start(&self) -> usize {
        (self.row * self.heads.queries + self.key_head * self.group()) * self.heads.width
    }

    /// The positions that the token sees.
    fn seen(&self) -> Range<usize> {
        let end = self.query.position + 1;
        let window = self.heads.window;
        window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// The parts that the token sees: the first column in the scores, and keys and values.
    fn parts(&self) -> impl Iterator<Item = (usize, [View<'_>; 2])> {
        let (seen, width) = (self.seen(), self.heads.width);
        let first = seen.start;
        let parts = self.query.parts.iter().map(move |part| {
            let all = part.positions();
            let positions = all.start.max(seen.start)..all.end.min(seen.end);
            (part, positions)
        });
        let parts = parts.filter(|(_, positions)| !positions.is_empty());
        parts.map(move |(part, positions)| {
            let head = self.key_head * width..(self.key_head + 1) * width;
            (positions.start - first, part.head(&positions, head))
        })
    }

    /// softmax(multiplier · Q Kᵀ), `[group, seen]`.
    fn score(&self, q: &[f32], scores: &mut Vec<f32>) {
        let (group, width, keys) = (self.group(), self.heads.width, self.seen().len());
        scores.resize(group * keys, 0.0);
        let q = View::new(&q[self.start()..][..group * width], group, width);
        for (column, [k, _]) in self.parts() {
            product(
                Target::over(&mut scores[column..], keys),
                self.heads.multiplier,
                Factor::Plain(q),
                Factor::Transposed(k),
                Threads::One,
            );
        }
        let softcap = self.heads.softcap;
        wide(
            #[inline(always)]
            || {
                if let Some(cap) = softcap {
                    softcap_row(scores, cap);
                }
                for scores in scores.chunks_exact_mut(keys) {
                    softmax_row(scores, 0, keys);
                }
            },
        );
    }

    /// out ← P V.
    fn attend(&self, scores: &[f32], out: Shared<'_>) {
        let keys = self.seen().len();
        for (index, (column, [_, v])) in self.parts().enumerate() {
            let probabilities = View {
                values: &scores[column..],
                rows: self.group(),
                columns: v.rows,
                stride: keys,
            };
            // SAFETY: no other task writes these heads of this token.
            let target = unsafe { out.target(self.start(), self.heads.width, index > 0) };
            let (left, right) = (Factor::Plain(probabilities), Factor::Plain(v));
            product(target, 1.0, left, right, Threads::One);
        }
    }
}
