//! Grouped-query attention over packed segments: variable lengths, no padding, no stored score matrix.
//!
//! Queries are worked through in tiles of a segment. A tile sees all tokens of the segments above and the
//! tokens of its own segment up to each query; the tokens that it sees, end to end, have the positions
//! 0, 1, 2, …, so that the causal limit and the sliding window are both ranges of columns.

use std::collections::BTreeMap;
use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::kernel::softmax_row;
use super::product::{Factor, Shared, Target, Threads, View, product};
use crate::data::Batch;

/// Queries of a tile.
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
    /// Sliding window, in tokens, the query's own included.
    pub window: Option<usize>,
}

/// Consecutive queries of one segment.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Their rows in the query matrix.
    rows: Range<usize>,
    /// The tokens that the first of them sees in full, end to end: those above, and its own segment before it.
    seen: Vec<Range<usize>>,
    /// Which tree of segments the tile belongs to; trees share no keys.
    tree: usize,
    /// Position of the first query.
    position: usize,
}

/// Cuts a batch into tiles: of all tokens, or of the asked ones only (a tile each).
pub fn tiles(batch: &Batch, asked_only: bool) -> Vec<Tile> {
    let mut trees: Vec<usize> = Vec::with_capacity(batch.segments.len());
    for (index, segment) in batch.segments.iter().enumerate() {
        trees.push(segment.parent.map_or(index, |parent| trees[parent]));
    }
    let tile = |segment: usize, tokens: Range<usize>, first_row: usize| {
        let mut seen = batch.above(segment);
        seen.push(batch.segments[segment].start..tokens.end);
        Tile { rows: first_row..first_row + tokens.len(), seen, tree: trees[segment], position: batch.positions[tokens.start] as usize }
    };
    if asked_only {
        let segment_of = |token| batch.segments.partition_point(|segment| segment.start <= token) - 1;
        return batch.asked.iter().enumerate().map(|(row, &token)| tile(segment_of(token), token..token + 1, row)).collect();
    }
    let mut tiles = Vec::new();
    for (index, segment) in batch.segments.iter().enumerate() {
        let end = segment.start + segment.len;
        for start in (segment.start..end).step_by(TILE) {
            tiles.push(tile(index, start..end.min(start + TILE), start));
        }
    }
    tiles
}

impl Tile {
    fn keys(&self) -> usize {
        self.seen.iter().map(Range::len).sum()
    }

    /// Columns that query `row` of the tile attends to.
    fn columns(&self, row: usize, window: Option<usize>) -> Range<usize> {
        let end = self.position + row + 1;
        window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// A head's columns in some rows of a token-major matrix `[tokens, heads · width]`.
fn head<'a>(values: &'a [f32], heads: usize, width: usize, head: usize, rows: &Range<usize>) -> View<'a> {
    let stride = heads * width;
    View { values: &values[(rows.start * stride + head * width).min(values.len())..], rows: rows.len(), columns: width, stride }
}

/// P `[tile, keys]` = softmax(scale · Q Kᵀ) of one head, in `scores`.
fn probabilities(heads: Heads, tile: &Tile, query_head: usize, q: &[f32], k: &[f32], scores: &mut Vec<f32>) {
    let keys = tile.keys();
    scores.resize(tile.rows.len() * keys, 0.0);
    let key_head = query_head / (heads.queries / heads.keys);
    let queries = head(q, heads.queries, heads.width, query_head, &tile.rows);
    let scale = 1.0 / (heads.width as f32).sqrt();
    let mut column = 0;
    for seen in &tile.seen {
        let keys_seen = head(k, heads.keys, heads.width, key_head, seen);
        product(Target::over(&mut scores[column..], keys), scale, Factor::Plain(queries), Factor::Transposed(keys_seen), Threads::One);
        column += seen.len();
    }
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                let columns = tile.columns(row, heads.window);
                softmax_row(scores, columns.start, columns.end);
            }
        },
    );
}

/// out `[Nq, queries · width]` ← softmax(scale · Q Kᵀ) V for every tile and head.
pub fn attend(heads: Heads, tiles: &[Tile], q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
    let stride = heads.queries * heads.width;
    let out = Shared::new(out);
    (0..tiles.len() * heads.queries).into_par_iter().for_each_init(Vec::new, |scores, task| {
        let (tile, query_head) = (&tiles[task / heads.queries], task % heads.queries);
        probabilities(heads, tile, query_head, q, k, scores);
        let keys = tile.keys();
        let mut column = 0;
        for (index, seen) in tile.seen.iter().enumerate() {
            let weights = View { values: &scores[column..], rows: tile.rows.len(), columns: seen.len(), stride: keys };
            let values = head(v, heads.keys, heads.width, query_head / (heads.queries / heads.keys), seen);
            // Sound: a task writes the rows of its tile in the columns of its head, and no other task does.
            let target = unsafe { out.target(tile.rows.start * stride + query_head * heads.width, stride, index > 0) };
            product(target, 1.0, Factor::Plain(weights), Factor::Plain(values), Threads::One);
            column += seen.len();
        }
    });
}

/// What [`attend_backward`] reads: the inputs and output of [`attend`], and the gradient of the output.
pub struct Attended<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub out: &'a [f32],
    pub d_out: &'a [f32],
}

/// The gradients of [`attend`]: writes `dq`, adds to `dk` and `dv`.
///
/// With P the probabilities, recomputed: dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − rowsum(dO ⊙ O)),
/// dQ = scale · dS K, dK = scale · dSᵀ Q.
pub fn attend_backward(heads: Heads, tiles: &[Tile], given: &Attended<'_>, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
    let group = heads.queries / heads.keys;
    let (dq, dk, dv) = (Shared::new(dq), Shared::new(dk), Shared::new(dv));
    // Tiles of a tree need not be adjacent: answers may follow their prompts or stand all at the end.
    let mut trees: BTreeMap<usize, Vec<&Tile>> = BTreeMap::new();
    for tile in tiles {
        trees.entry(tile.tree).or_default().push(tile);
    }
    let trees: Vec<Vec<&Tile>> = trees.into_values().collect();
    (0..trees.len() * heads.keys).into_par_iter().for_each_init(Default::default, |scratch: &mut Scratch, task| {
        let (tree, key_head) = (&trees[task / heads.keys], task % heads.keys);
        for tile in tree {
            for query_head in key_head * group..(key_head + 1) * group {
                tile_backward(heads, tile, query_head, given, scratch, [dq, dk, dv]);
            }
        }
    });
}

/// P and dP of a tile.
#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
}

/// One tile and one query head of [`attend_backward`].
fn tile_backward(heads: Heads, tile: &Tile, query_head: usize, given: &Attended<'_>, scratch: &mut Scratch, [dq, dk, dv]: [Shared<'_>; 3]) {
    let key_head = query_head / (heads.queries / heads.keys);
    let (rows, keys, width) = (tile.rows.len(), tile.keys(), heads.width);
    let (query_stride, key_stride) = (heads.queries * width, heads.keys * width);
    let scale = 1.0 / (width as f32).sqrt();
    probabilities(heads, tile, query_head, given.q, given.k, &mut scratch.probabilities);
    scratch.gradients.resize(rows * keys, 0.0);
    let queries = head(given.q, heads.queries, width, query_head, &tile.rows);
    let d_out = head(given.d_out, heads.queries, width, query_head, &tile.rows);
    let out = head(given.out, heads.queries, width, query_head, &tile.rows);
    let mut column = 0;
    for seen in &tile.seen {
        let values = head(given.v, heads.keys, width, key_head, seen);
        product(Target::over(&mut scratch.gradients[column..], keys), 1.0, Factor::Plain(d_out), Factor::Transposed(values), Threads::One);
        let weights = View { values: &scratch.probabilities[column..], rows, columns: seen.len(), stride: keys };
        // Sound, here and below: a task has its tree's keys in its key head to itself, and its tiles' queries.
        let target = unsafe { dv.target(seen.start * key_stride + key_head * width, key_stride, true) };
        product(target, 1.0, Factor::Transposed(weights), Factor::Plain(d_out), Threads::One);
        column += seen.len();
    }
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in 0..rows {
                let place = row * query_stride..row * query_stride + width;
                let along: f32 = out.values[place.clone()].iter().zip(&d_out.values[place]).map(|(o, d)| o * d).sum();
                let row = row * keys..(row + 1) * keys;
                for (d, p) in scratch.gradients[row.clone()].iter_mut().zip(&scratch.probabilities[row]) {
                    *d = p * (*d - along);
                }
            }
        },
    );
    let mut column = 0;
    for (index, seen) in tile.seen.iter().enumerate() {
        let gradients = View { values: &scratch.gradients[column..], rows, columns: seen.len(), stride: keys };
        let keys_seen = head(given.k, heads.keys, width, key_head, seen);
        let target = unsafe { dq.target(tile.rows.start * query_stride + query_head * width, query_stride, index > 0) };
        product(target, scale, Factor::Plain(gradients), Factor::Plain(keys_seen), Threads::One);
        let target = unsafe { dk.target(seen.start * key_stride + key_head * width, key_stride, true) };
        product(target, scale, Factor::Transposed(gradients), Factor::Plain(queries), Threads::One);
        column += seen.len();
    }
}
