//! Grouped-query attention over packed segments of variable length, without padding and without
//! storing the score matrix.
//!
//! Queries are processed in tiles of a segment. A tile attends to all tokens of the ancestor
//! segments and to the tokens of its own segment up to each query. Concatenated, these tokens have
//! the positions 0, 1, 2, …, so that the causal limit and the sliding window are both ranges of
//! columns.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::data::Batch;
use crate::kernel::{
    Factor, Shared, Target, Threads, View, product, softcap_row, softcap_row_backward, softmax_row,
    wide,
};
use crate::model::Attention;

/// Queries in a tile.
const TILE: usize = 64;

/// The sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads.
    pub keys: usize,
    /// Width of a head.
    pub width: usize,
    /// Sliding window in tokens, including the query's own; none: unlimited.
    pub window: Option<usize>,
    /// By which Q Kᵀ is multiplied.
    pub multiplier: f32,
    /// c, if scores s become c tanh(s / c).
    pub softcap: Option<f32>,
}

impl Heads {
    /// Those of a layer.
    pub fn of(attention: &Attention) -> Self {
        Self {
            queries: attention.num_attention_heads,
            keys: attention.num_key_value_heads,
            width: attention.head_dim,
            window: attention.window,
            multiplier: attention.score_multiplier(),
            softcap: attention.softcap.map(|cap| cap as f32),
        }
    }

    /// Query heads that share a key head.
    fn group(self) -> usize {
        self.queries / self.keys
    }
}

/// Consecutive queries of one segment.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Their rows in the query matrix.
    rows: Range<usize>,
    /// The tokens that the first query attends to, concatenated: those of the ancestors, and those
    /// before it in its own segment.
    seen: Vec<Range<usize>>,
    /// The segment of the tile.
    segment: usize,
    /// Position of the first query.
    position: usize,
}

/// The tiles of all tokens of a batch.
pub fn tiles(batch: &Batch) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for (index, segment) in batch.segments.iter().enumerate() {
        let end = segment.start + segment.len;
        for start in (segment.start..end).step_by(TILE) {
            tiles.push(Tile::new(batch, index, start..end.min(start + TILE), start));
        }
    }
    tiles
}

/// A tile for each of the requested tokens of a batch.
pub fn asked_tiles(batch: &Batch) -> Vec<Tile> {
    let asked = batch.asked.iter().enumerate();
    asked
        .map(|(row, &token)| {
            let next = batch
                .segments
                .partition_point(|segment| segment.start <= token);
            Tile::new(batch, next - 1, token..token + 1, row)
        })
        .collect()
}

impl Tile {
    fn new(batch: &Batch, segment: usize, tokens: Range<usize>, first_row: usize) -> Self {
        let mut seen = batch.above(segment);
        seen.push(batch.segments[segment].start..tokens.end);
        Self {
            rows: first_row..first_row + tokens.len(),
            seen,
            segment,
            position: batch.positions[tokens.start] as usize,
        }
    }

    fn keys(&self) -> usize {
        self.seen.iter().map(Range::len).sum()
    }

    /// Columns that query `row` of the tile attends to.
    fn columns(&self, row: usize, window: Option<usize>) -> Range<usize> {
        let end = self.position + row + 1;
        window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// One query head of a tile, with the key head that it uses.
#[derive(Clone, Copy)]
struct TileHead<'a> {
    heads: Heads,
    tile: &'a Tile,
    query_head: usize,
}

impl<'a> TileHead<'a> {
    fn key_head(self) -> usize {
        self.query_head / self.heads.group()
    }

    /// The tile's rows in a matrix of all query heads, `[tokens, queries · width]`.
    fn queries<'b>(self, values: &'b [f32]) -> View<'b> {
        head(
            values,
            [self.heads.queries, self.heads.width],
            self.query_head,
            &self.tile.rows,
        )
    }

    /// The rows of some tokens in a matrix of all key heads, `[tokens, keys · width]`.
    fn keys<'b>(self, values: &'b [f32], seen: &Range<usize>) -> View<'b> {
        head(
            values,
            [self.heads.keys, self.heads.width],
            self.key_head(),
            seen,
        )
    }

    /// The runs of tokens that the tile attends to, each with its index and its first column in the
    /// score matrix.
    fn runs(self) -> impl Iterator<Item = (usize, usize, &'a Range<usize>)> {
        let mut next = 0;
        self.tile.seen.iter().enumerate().map(move |(index, seen)| {
            let column = next;
            next += seen.len();
            (index, column, seen)
        })
    }

    /// The columns of a run in a score matrix, `[tile, keys]`.
    fn scores<'b>(self, scores: &'b [f32], column: usize, seen: &Range<usize>) -> View<'b> {
        View {
            values: &scores[column..],
            rows: self.tile.rows.len(),
            columns: seen.len(),
            stride: self.tile.keys(),
        }
    }

    /// The scores `[tile, keys]` = multiplier · Q Kᵀ, limited if they are.
    fn score(self, q: &[f32], k: &[f32], scores: &mut Vec<f32>) {
        let keys = self.tile.keys();
        scores.resize(self.tile.rows.len() * keys, 0.0);
        for (_, column, seen) in self.runs() {
            product(
                Target::over(&mut scores[column..], keys),
                self.heads.multiplier,
                Factor::Plain(self.queries(q)),
                Factor::Transposed(self.keys(k, seen)),
                Threads::One,
            );
        }
        if let Some(cap) = self.heads.softcap {
            wide(
                #[inline(always)]
                || softcap_row(scores, cap),
            );
        }
    }

    /// P `[tile, keys]` = softmax(scores), in `scores`.
    fn probabilities(self, scores: &mut [f32]) {
        let keys = self.tile.keys();
        wide(
            #[inline(always)]
            || {
                for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                    let columns = self.tile.columns(row, self.heads.window);
                    softmax_row(scores, columns.start, columns.end);
                }
            },
        );
    }

    /// The position of the tile's rows in a matrix of all query heads.
    fn query_target<'b>(self, shared: Shared<'b>, add: bool) -> Target<'b> {
        let stride = self.heads.queries * self.heads.width;
        let start = self.tile.rows.start * stride + self.query_head * self.heads.width;
        // SAFETY: no other task writes the queries of these tiles in these heads.
        unsafe { shared.target(start, stride, add) }
    }

    /// out ← P V.
    fn attend(self, scores: &[f32], v: &[f32], out: Shared<'_>) {
        for (index, column, seen) in self.runs() {
            product(
                self.query_target(out, index > 0),
                1.0,
                Factor::Plain(self.scores(scores, column, seen)),
                Factor::Plain(self.keys(v, seen)),
                Threads::One,
            );
        }
    }
}

/// A head's columns in some rows of a token-major matrix `[tokens, heads · width]`.
fn head<'a>(
    values: &'a [f32],
    [heads, width]: [usize; 2],
    head: usize,
    rows: &Range<usize>,
) -> View<'a> {
    let stride = heads * width;
    View {
        values: &values[(rows.start * stride + head * width).min(values.len())..],
        rows: rows.len(),
        columns: width,
        stride,
    }
}

/// out `[Nq, queries · width]` ← softmax(multiplier · Q Kᵀ) V for every tile and head.
pub fn attend(heads: Heads, tiles: &[Tile], [q, k, v]: [&[f32]; 3], out: &mut [f32]) {
    let out = Shared::new(out);
    (0..tiles.len() * heads.queries)
        .into_par_iter()
        .for_each_init(Vec::new, |scores, task| {
            let tile_head = TileHead {
                heads,
                tile: &tiles[task / heads.queries],
                query_head: task % heads.queries,
            };
            tile_head.score(q, k, scores);
            tile_head.probabilities(scores);
            tile_head.attend(scores, v, out);
        });
}

/// The inputs of [`attend_backward`]: inputs and output of [`attend`], and the gradient of the
/// output.
pub struct AttentionValues<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub out: &'a [f32],
    pub d_out: &'a [f32],
}

/// The gradients of [`attend`]: writes `dq`, adds to `dk` and `dv`.
///
/// With P the probabilities, recomputed: dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − rowsum(dO ⊙ O)),
/// dQ = multiplier · dS K, dK = multiplier · dSᵀ Q.
///
/// A task is a segment and a key head. It adds directly to the keys and values of its own segment.
/// Many tasks share the ancestor segments, so their gradients are returned and added in the order
/// of the segments.
pub fn attend_backward(
    heads: Heads,
    tiles: &[Tile],
    given: &AttentionValues<'_>,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let mut segments: BTreeMap<usize, Vec<&Tile>> = BTreeMap::new();
    for tile in tiles {
        segments.entry(tile.segment).or_default().push(tile);
    }
    let segments: Vec<Vec<&Tile>> = segments.into_values().collect();
    let ancestors: Vec<AncestorGradient> = {
        let gradients = Gradients {
            dq: Shared::new(dq),
            dk: Shared::new(&mut *dk),
            dv: Shared::new(&mut *dv),
        };
        (0..segments.len() * heads.keys)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, task| {
                let (tiles, key_head) = (&segments[task / heads.keys], task % heads.keys);
                segment_backward(heads, (tiles, key_head), given, gradients, scratch)
            })
            .collect()
    };
    for gradient in ancestors {
        gradient.add_to(heads, dk, dv);
    }
}

/// The gradients of [`attend`].
#[derive(Clone, Copy)]
struct Gradients<'a> {
    dq: Shared<'a>,
    dk: Shared<'a>,
    dv: Shared<'a>,
}

/// A task of [`attend_backward`]: the tiles of a segment and a key head. Returns the gradients of
/// the ancestor segments.
fn segment_backward(
    heads: Heads,
    (tiles, key_head): (&[&Tile], usize),
    given: &AttentionValues<'_>,
    gradients: Gradients<'_>,
    scratch: &mut Scratch,
) -> AncestorGradient {
    let mut ancestors = AncestorGradient::new(heads, tiles[0], key_head);
    for tile in tiles {
        for query_head in key_head * heads.group()..(key_head + 1) * heads.group() {
            let tile_head = TileHead {
                heads,
                tile,
                query_head,
            };
            tile_head.score(given.q, given.k, &mut scratch.probabilities);
            scratch.keep_scores(heads.softcap);
            tile_head.probabilities(&mut scratch.probabilities);
            tile_head.values_backward(given, gradients, scratch, &mut ancestors);
            tile_head.scores_backward(given, scratch);
            tile_head.keys_backward(given, gradients, scratch, &mut ancestors);
        }
    }
    ancestors
}

/// Gradients of the keys and values of the ancestor segments, `[ancestor tokens, width]` each, for
/// one key head.
struct AncestorGradient {
    above: Vec<Range<usize>>,
    key_head: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl AncestorGradient {
    fn new(heads: Heads, tile: &Tile, key_head: usize) -> Self {
        let above = tile.seen[..tile.seen.len() - 1].to_vec();
        let len = above.iter().map(Range::len).sum::<usize>() * heads.width;
        Self {
            above,
            key_head,
            keys: vec![0.0; len],
            values: vec![0.0; len],
        }
    }

    fn add_to(self, heads: Heads, dk: &mut [f32], dv: &mut [f32]) {
        let tokens = self.above.into_iter().flatten();
        for ((token, keys), values) in tokens
            .zip(self.keys.chunks_exact(heads.width))
            .zip(self.values.chunks_exact(heads.width))
        {
            let place = (token * heads.keys + self.key_head) * heads.width;
            for (sum, part) in dk[place..place + heads.width].iter_mut().zip(keys) {
                *sum += part;
            }
            for (sum, part) in dv[place..place + heads.width].iter_mut().zip(values) {
                *sum += part;
            }
        }
    }
}

/// P and dP of a tile, and its scores if they are limited.
#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
    scores: Vec<f32>,
}

impl Scratch {
    /// Keeps the scores, which become P, if their gradient depends on them.
    fn keep_scores(&mut self, softcap: Option<f32>) {
        self.scores.clear();
        if softcap.is_some() {
            self.scores.extend_from_slice(&self.probabilities);
        }
    }
}

impl TileHead<'_> {
    /// dP = dO Vᵀ; Pᵀ dO is added to dV.
    fn values_backward(
        self,
        given: &AttentionValues<'_>,
        gradients: Gradients<'_>,
        scratch: &mut Scratch,
        ancestors: &mut AncestorGradient,
    ) {
        let (keys, d_out) = (self.tile.keys(), self.queries(given.d_out));
        scratch.gradients.resize(self.tile.rows.len() * keys, 0.0);
        for (index, column, seen) in self.runs() {
            product(
                Target::over(&mut scratch.gradients[column..], keys),
                1.0,
                Factor::Plain(d_out),
                Factor::Transposed(self.keys(given.v, seen)),
                Threads::One,
            );
            product(
                self.key_target(index, column, gradients.dv, &mut ancestors.values),
                1.0,
                Factor::Transposed(self.scores(&scratch.probabilities, column, seen)),
                Factor::Plain(d_out),
                Threads::One,
            );
        }
    }

    /// dS = P ⊙ (dP − rowsum(dO ⊙ O)), in place of dP.
    fn scores_backward(self, given: &AttentionValues<'_>, scratch: &mut Scratch) {
        let (rows, keys, width) = (self.tile.rows.len(), self.tile.keys(), self.heads.width);
        let stride = self.heads.queries * width;
        let (out, d_out) = (self.queries(given.out), self.queries(given.d_out));
        wide(
            #[inline(always)]
            || {
                for row in 0..rows {
                    let place = row * stride..row * stride + width;
                    let along: f32 = out.values[place.clone()]
                        .iter()
                        .zip(&d_out.values[place])
                        .map(|(o, d)| o * d)
                        .sum();
                    let row = row * keys..(row + 1) * keys;
                    for (d, p) in scratch.gradients[row.clone()]
                        .iter_mut()
                        .zip(&scratch.probabilities[row])
                    {
                        *d = p * (*d - along);
                    }
                }
            },
        );
        if let Some(cap) = self.heads.softcap {
            wide(
                #[inline(always)]
                || softcap_row_backward(&mut scratch.gradients, &scratch.scores, cap),
            );
        }
    }

    /// dQ = multiplier · dS K; multiplier · dSᵀ Q is added to dK.
    fn keys_backward(
        self,
        given: &AttentionValues<'_>,
        gradients: Gradients<'_>,
        scratch: &Scratch,
        ancestors: &mut AncestorGradient,
    ) {
        for (index, column, seen) in self.runs() {
            let d_scores = self.scores(&scratch.gradients, column, seen);
            product(
                self.query_target(gradients.dq, index > 0),
                self.heads.multiplier,
                Factor::Plain(d_scores),
                Factor::Plain(self.keys(given.k, seen)),
                Threads::One,
            );
            product(
                self.key_target(index, column, gradients.dk, &mut ancestors.keys),
                self.heads.multiplier,
                Factor::Transposed(d_scores),
                Factor::Plain(self.queries(given.q)),
                Threads::One,
            );
        }
    }

    /// The target for the keys or values of a run: in place for the tile's own segment, in `ancestors`
    /// for its ancestors.
    fn key_target<'b>(
        self,
        index: usize,
        column: usize,
        shared: Shared<'b>,
        ancestors: &'b mut [f32],
    ) -> Target<'b> {
        let width = self.heads.width;
        if index + 1 < self.tile.seen.len() {
            return Target::onto(&mut ancestors[column * width..], width);
        }
        let stride = self.heads.keys * width;
        let start = self.tile.seen[index].start * stride + self.key_head() * width;
        // SAFETY: no other task writes the tokens of this segment in this key head.
        unsafe { shared.target(start, stride, true) }
    }
}
