//! The data shared by the layers of a forward or backward pass, and one layer of it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;

use super::attention::Tile;
use super::cache::{Carry, PassCache};
use super::key_values::SharedKeyValues;
use super::layer_inputs::LayerInputs;
use super::layout::AdapterLayout;
use super::runs::{Carried, Runs};
use crate::data::Batch;
use crate::forward::{Observer, RotaryTable};
use crate::kernel::{self, Buffer, ColumnsMut, Pool, View};
use crate::lora::Dropout;
use crate::model::{DecoderConfig, DecoderLayer, LayerKind, Projection};

/// The data shared by all layers of a pass.
pub struct Pass<'a> {
    pub config: &'a DecoderConfig,
    pub pool: &'a Pool,
    pub batch: &'a Batch,
    /// The rotations by each rotary embedding.
    pub rotary: &'a [RotaryTable],
    /// The runs of tokens along which states are carried.
    pub runs: &'a Runs,
    /// The draws of the adapter, each with its tokens, in order; more than one only where no
    /// gradient is needed.
    pub draws: &'a [DrawTokens<'a>],
    pub layout: &'a AdapterLayout,
    pub dropout: Option<Dropout>,
    /// Watches the backward pass.
    pub observer: Option<&'a dyn Observer>,
    /// Tiles of all tokens, and of the requested ones.
    pub tiles: [&'a [Tile]; 2],
    /// The prefix key of each token if a side needs it; else empty.
    pub keys: &'a [u64],
    /// The keys and values that several layers use.
    pub key_values: &'a SharedKeyValues,
    /// The layers' own inputs, if they have any.
    pub inputs: Option<&'a LayerInputs>,
    /// What is known of sequences that are read in several passes, if these are such sequences.
    pub cache: Option<&'a PassCache>,
    /// The penalty of the layers so far in the forward pass, nats; in the backward pass its
    /// gradient.
    pub penalty: Mutex<f64>,
    pub d_penalty: f32,
}

/// A draw of the adapter, and the tokens of the batch that are computed with it.
#[derive(Clone, Debug)]
pub struct DrawTokens<'a> {
    /// The adapter, flat.
    pub adapter: &'a [f32],
    pub tokens: Range<usize>,
}

/// One layer of a pass, or what stands outside the layers; in the last layer only the requested
/// tokens continue after the mixer.
#[derive(Clone, Copy)]
pub struct LayerPass<'a> {
    pub pass: &'a Pass<'a>,
    pub weights: &'a DecoderLayer,
    pub kind: &'a LayerKind,
    /// The index of its rotary embedding, if it has one.
    pub rope: Option<usize>,
    /// None outside the layers.
    pub index: Option<usize>,
    pub last: bool,
    /// Whether later layers use its keys and values.
    pub is_shared: bool,
}

/// What the backward pass of a mixer is given.
pub struct MixerGradient<'a> {
    /// The gradient of its output.
    pub d_out: &'a [f32],
    /// Its input.
    pub input: &'a [f32],
    /// The gradient of the adapter, flat, to be written.
    pub gradient: &'a mut [f32],
    /// Whether anything below needs the gradient of the input.
    pub wants_dx: bool,
}

impl<'a> LayerPass<'a> {
    /// A buffer of `len` numbers with arbitrary contents.
    pub fn take(&self, len: usize) -> Buffer {
        self.pass.pool.take(len)
    }

    /// The tiles of its queries.
    pub fn tiles(&self) -> &'a [Tile] {
        self.pass.tiles[usize::from(self.last)]
    }

    /// The index in the batch of the token of each row of a projection; none: all in order.
    pub fn tokens(&self, projection: Projection) -> Option<&'a [usize]> {
        let all = !self.last || projection.is_before_mixing();
        (!all).then_some(self.pass.batch.asked.as_slice())
    }

    /// The rows of a draw in the outputs of a projection; requested tokens are in order if there is
    /// more than one draw.
    pub fn rows(&self, projection: Projection, draw: &DrawTokens<'_>) -> Range<usize> {
        let place = |token: usize| match self.tokens(projection) {
            Some(tokens) => tokens.partition_point(|&asked| asked < token),
            None => token,
        };
        place(draw.tokens.start)..place(draw.tokens.end)
    }

    /// Whether it reads few tokens of sequences that earlier passes have read.
    pub fn is_step(&self) -> bool {
        self.pass.cache.is_some_and(|cache| cache.has_past)
    }

    /// What earlier passes left of each sequence for this layer; empty if there were none.
    pub fn past(&self, what: Carry) -> Carried {
        let cache = self.pass.cache.zip(self.index);
        cache.map_or_else(Vec::new, |(cache, index)| cache.take(index, what))
    }

    /// Leaves for later passes what this layer carries on, if there will be any.
    pub fn leave(&self, what: Carry, carried: Carried) {
        if let Some((cache, index)) = self.pass.cache.zip(self.index) {
            cache.put(index, what, carried);
        }
    }

    /// The rows of queries, or of keys, in a table of rotations.
    pub fn rotary_rows<'b>(&self, table: &'b RotaryTable, are_queries: bool) -> Cow<'b, [u32]> {
        match self.last && are_queries {
            true => {
                let asked = self.pass.batch.asked.iter();
                asked.map(|&token| table.rows[token]).collect()
            }
            false => Cow::Borrowed(&table.rows),
        }
    }

    /// x · w / √(mean(x²) + ε) row by row, and the factor 1/√… of each row.
    pub fn norm(&self, x: &[f32], weight: &[f32]) -> (Buffer, Buffer) {
        let mut normed = self.take(x.len());
        let mut inverse = self.take(x.len() / weight.len());
        let epsilon = self.pass.config.rms_norm_eps as f32;
        kernel::rms_norm(x, weight, epsilon, &mut normed, &mut inverse);
        (normed, inverse)
    }

    /// The same norm, from the row factors.
    pub fn norm_again(&self, x: &[f32], weight: &[f32], inverse: &[f32]) -> Buffer {
        let mut normed = self.take(x.len());
        kernel::rms_norm_again(x, weight, inverse, &mut normed);
        normed
    }

    /// The rows of `x` `[N, width]` at the requested tokens.
    pub fn pick(&self, x: &[f32]) -> Buffer {
        let asked = &self.pass.batch.asked;
        let width = x.len() / self.pass.batch.len().max(1);
        let mut picked = self.take(asked.len() * width);
        for (row, &token) in picked.chunks_exact_mut(width.max(1)).zip(asked) {
            row.copy_from_slice(&x[token * width..(token + 1) * width]);
        }
        picked
    }

    /// Adds rows at the requested tokens to `x` `[N, width]`: the gradient of [`Self::pick`].
    pub fn put(&self, picked: &[f32], x: &mut [f32]) {
        let asked = &self.pass.batch.asked;
        let width = x.len() / self.pass.batch.len().max(1);
        for (row, &token) in picked.chunks_exact(width.max(1)).zip(asked) {
            kernel::add(&mut x[token * width..(token + 1) * width], row);
        }
    }

    /// A gradient of all tokens from one that, in the last layer, has rows at the requested ones
    /// only.
    pub fn of_all_tokens(&self, picked: Buffer) -> Buffer {
        let (asked, tokens) = (self.pass.batch.asked.len(), self.pass.batch.len());
        if !self.last {
            return picked;
        }
        let mut all = self.pass.pool.zeros(picked.len() / asked.max(1) * tokens);
        self.put(&picked, &mut all);
        all
    }

    /// Some columns of a matrix: the first, how many, and how many the matrix has.
    pub fn columns(&self, x: &[f32], [first, columns, stride]: [usize; 3]) -> Buffer {
        let rows = x.len() / stride;
        let mut out = self.take(rows * columns);
        if rows > 0 {
            let values = &x[first..];
            let view = View {
                values,
                rows,
                columns,
                stride,
            };
            kernel::copy_columns(view, ColumnsMut::all(&mut out, columns));
        }
        out
    }
}
