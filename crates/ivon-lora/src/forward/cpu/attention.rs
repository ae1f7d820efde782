//! Grouped-query attention over packed segments: variable lengths, no padding, no stored score
//! matrix.
//!
//! Queries are worked through in tiles of a segment. A tile sees all tokens of the segments above
//! and the tokens of its own segment up to each query; the tokens that it sees, end to end, have
//! the positions 0, 1, 2, …, so that the causal limit and the sliding window are both ranges of
//! columns.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::data::Batch;
use crate::kernel::{Factor, Shared, Target, Threads, View, product, softmax_row, wide};

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

impl Heads {
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
    /// The tokens that the first of them sees in full, end to end: those above, and its own segment
    /// before it.
    seen: Vec<Range<usize>>,
    /// The segment that it is cut from.
    segment: usize,
    /// Position of the first query.
    position: usize,
}

/// Cuts a batch into tiles: of all tokens, or of the asked ones only (a tile each).
pub fn tiles(batch: &Batch, asked_only: bool) -> Vec<Tile> {
    let tile = |segment: usize, tokens: Range<usize>, first_row: usize| {
        let mut seen = batch.above(segment);
        seen.push(batch.segments[segment].start..tokens.end);
        Tile {
            rows: first_row..first_row + tokens.len(),
            seen,
            segment,
            position: batch.positions[tokens.start] as usize,
        }
    };
    if asked_only {
        let segment_of = |token| {
            batch
                .segments
                .partition_point(|segment| segment.start <= token)
                - 1
        };
        return batch
            .asked
            .iter()
            .enumerate()
            .map(|(row, &token)| tile(segment_of(token), token..token + 1, row))
            .collect();
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
fn head<'a>(
    values: &'a [f32],
    heads: usize,
    width: usize,
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

/// P `[tile, keys]` = softmax(scale · Q Kᵀ) of one head, in `scores`.
fn probabilities(
    heads: Heads,
    tile: &Tile,
    query_head: usize,
    q: &[f32],
    k: &[f32],
    scores: &mut Vec<f32>,
) {
    let keys = tile.keys();
    scores.resize(tile.rows.len() * keys, 0.0);
    let key_head = query_head / heads.group();
    let queries = head(q, heads.queries, heads.width, query_head, &tile.rows);
    let scale = 1.0 / (heads.width as f32).sqrt();
    let mut column = 0;
    for seen in &tile.seen {
        let keys_seen = head(k, heads.keys, heads.width, key_head, seen);
        product(
            Target::over(&mut scores[column..], keys),
            scale,
            Factor::Plain(queries),
            Factor::Transposed(keys_seen),
            Threads::One,
        );
        column += seen.len();
    }
    wide(
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
    (0..tiles.len() * heads.queries)
        .into_par_iter()
        .for_each_init(Vec::new, |scores, task| {
            let (tile, query_head) = (&tiles[task / heads.queries], task % heads.queries);
            probabilities(heads, tile, query_head, q, k, scores);
            let keys = tile.keys();
            let mut column = 0;
            for (index, seen) in tile.seen.iter().enumerate() {
                let weights = View {
                    values: &scores[column..],
                    rows: tile.rows.len(),
                    columns: seen.len(),
                    stride: keys,
                };
                let values = head(v, heads.keys, heads.width, query_head / heads.group(), seen);
                // Sound: a task writes the rows of its tile in the columns of its head, and no
                // other task does.
                let target = unsafe {
                    out.target(
                        tile.rows.start * stride + query_head * heads.width,
                        stride,
                        index > 0,
                    )
                };
                product(
                    target,
                    1.0,
                    Factor::Plain(weights),
                    Factor::Plain(values),
                    Threads::One,
                );
                column += seen.len();
            }
        });
}

/// What [`attend_backward`] reads: the inputs and output of [`attend`], and the gradient of the
/// output.
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
///
/// A task is a segment and a key head. It adds to its own segment's keys and values in place; what
/// it owes to the segments above, which many tasks share, it hands back, and that is added in the
/// order of the segments.
pub fn attend_backward(
    heads: Heads,
    tiles: &[Tile],
    given: &Attended<'_>,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let mut segments: BTreeMap<usize, Vec<&Tile>> = BTreeMap::new();
    for tile in tiles {
        segments.entry(tile.segment).or_default().push(tile);
    }
    let segments: Vec<Vec<&Tile>> = segments.into_values().collect();
    let owed: Vec<Owed> = {
        let (dq, dk, dv) = (
            Shared::new(dq),
            Shared::new(&mut *dk),
            Shared::new(&mut *dv),
        );
        let task = |scratch: &mut Scratch, task: usize| {
            let (tiles, key_head) = (&segments[task / heads.keys], task % heads.keys);
            let mut owed = Owed::new(heads, tiles[0], key_head);
            for tile in tiles {
                for query_head in key_head * heads.group()..(key_head + 1) * heads.group() {
                    tile_backward(
                        heads,
                        tile,
                        query_head,
                        given,
                        scratch,
                        [dq, dk, dv],
                        &mut owed,
                    );
                }
            }
            owed
        };
        (0..segments.len() * heads.keys)
            .into_par_iter()
            .map_init(Scratch::default, task)
            .collect()
    };
    for owed in owed {
        owed.pay(heads, dk, dv);
    }
}

/// Gradients of the keys and values of the segments above, `[tokens above, width]` each, of one key
/// head.
struct Owed {
    above: Vec<Range<usize>>,
    key_head: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Owed {
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

    fn pay(self, heads: Heads, dk: &mut [f32], dv: &mut [f32]) {
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

/// P and dP of a tile.
#[derive(Default)]
struct Scratch {
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
}

/// Where a task adds to the keys or values of its own segment.
fn own_place<'a>(
    heads: Heads,
    shared: Shared<'a>,
    segment: &Range<usize>,
    key_head: usize,
) -> Target<'a> {
    let stride = heads.keys * heads.width;
    // Sound: a task has the tokens of its segment in its key head to itself.
    unsafe {
        shared.target(
            segment.start * stride + key_head * heads.width,
            stride,
            true,
        )
    }
}

/// One tile and one query head of [`attend_backward`].
fn tile_backward(
    heads: Heads,
    tile: &Tile,
    query_head: usize,
    given: &Attended<'_>,
    scratch: &mut Scratch,
    [dq, dk, dv]: [Shared<'_>; 3],
    owed: &mut Owed,
) {
    let key_head = query_head / heads.group();
    let (rows, keys, width) = (tile.rows.len(), tile.keys(), heads.width);
    let query_stride = heads.queries * width;
    let scale = 1.0 / (width as f32).sqrt();
    probabilities(
        heads,
        tile,
        query_head,
        given.q,
        given.k,
        &mut scratch.probabilities,
    );
    scratch.gradients.resize(rows * keys, 0.0);
    let queries = head(given.q, heads.queries, width, query_head, &tile.rows);
    let d_out = head(given.d_out, heads.queries, width, query_head, &tile.rows);
    let out = head(given.out, heads.queries, width, query_head, &tile.rows);
    let own = tile.seen.len() - 1;
    let mut column = 0;
    for (index, seen) in tile.seen.iter().enumerate() {
        let values = head(given.v, heads.keys, width, key_head, seen);
        product(
            Target::over(&mut scratch.gradients[column..], keys),
            1.0,
            Factor::Plain(d_out),
            Factor::Transposed(values),
            Threads::One,
        );
        let weights = View {
            values: &scratch.probabilities[column..],
            rows,
            columns: seen.len(),
            stride: keys,
        };
        let target = if index == own {
            own_place(heads, dv, seen, key_head)
        } else {
            Target::onto(&mut owed.values[column * width..], width)
        };
        product(
            target,
            1.0,
            Factor::Transposed(weights),
            Factor::Plain(d_out),
            Threads::One,
        );
        column += seen.len();
    }
    wide(
        #[inline(always)]
        || {
            for row in 0..rows {
                let place = row * query_stride..row * query_stride + width;
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
    let mut column = 0;
    for (index, seen) in tile.seen.iter().enumerate() {
        let gradients = View {
            values: &scratch.gradients[column..],
            rows,
            columns: seen.len(),
            stride: keys,
        };
        let keys_seen = head(given.k, heads.keys, width, key_head, seen);
        // Sound: a task has the queries of its tiles in its heads to itself.
        let target = unsafe {
            dq.target(
                tile.rows.start * query_stride + query_head * width,
                query_stride,
                index > 0,
            )
        };
        product(
            target,
            scale,
            Factor::Plain(gradients),
            Factor::Plain(keys_seen),
            Threads::One,
        );
        let target = if index == own {
            own_place(heads, dk, seen, key_head)
        } else {
            Target::onto(&mut owed.keys[column * width..], width)
        };
        product(
            target,
            scale,
            Factor::Transposed(gradients),
            Factor::Plain(queries),
            Threads::One,
        );
        column += seen.len();
    }
}
