//! The data shared by the layers of a forward or backward pass, and one layer of it.

use std::borrow::Cow;
use std::sync::Mutex;

use super::attention::{Heads, Tile};
use super::layout::AdapterLayout;
use crate::data::Batch;
use crate::forward::Observer;
use crate::kernel::{self, Buffer, Pool};
use crate::lora::Dropout;
use crate::model::{DecoderConfig, DecoderLayer, LayerKind, Projection};

/// The data shared by all layers of a pass.
pub struct Pass<'a> {
    pub config: &'a DecoderConfig,
    pub pool: &'a Pool,
    pub batch: &'a Batch,
    /// Cosine and sine of the rotary angles, `[positions, head_dim / 2]`, for each rotary
    /// embedding.
    pub angles: &'a [(Vec<f32>, Vec<f32>)],
    /// The adapter, flat, with its layout.
    pub adapter: &'a [f32],
    pub layout: &'a AdapterLayout,
    /// The factor s of B A.
    pub scaling: f32,
    pub dropout: Option<Dropout>,
    /// Watches the backward pass.
    pub observer: Option<&'a dyn Observer>,
    /// Tiles of all tokens, and of the requested ones.
    pub tiles: [&'a [Tile]; 2],
    /// The prefix key of each token if a side needs it; else empty.
    pub keys: &'a [u64],
    /// The penalty of the layers so far in the forward pass, nats; in the backward pass its
    /// gradient.
    pub penalty: Mutex<f64>,
    pub d_penalty: f32,
}

/// One layer of a pass; in the last one only the requested tokens continue after attention.
#[derive(Clone, Copy)]
pub struct LayerPass<'a> {
    pub pass: &'a Pass<'a>,
    pub weights: &'a DecoderLayer,
    pub kind: &'a LayerKind,
    /// The index of its rotary embedding.
    pub rope: usize,
    pub index: usize,
    pub last: bool,
}

impl<'a> LayerPass<'a> {
    /// A buffer of `len` numbers with arbitrary contents.
    pub fn take(&self, len: usize) -> Buffer {
        self.pass.pool.take(len)
    }

    /// The sizes of its attention.
    pub fn heads(&self) -> Heads {
        Heads {
            queries: self.pass.config.num_attention_heads,
            keys: self.pass.config.num_key_value_heads,
            width: self.pass.config.head_dim,
            window: self.kind.window,
        }
    }

    /// The tiles of its queries.
    pub fn tiles(&self) -> &'a [Tile] {
        self.pass.tiles[usize::from(self.last)]
    }

    /// The index in the batch of the token of each row of a projection; none: all in order.
    pub fn tokens(&self, projection: Projection) -> Option<&'a [usize]> {
        let all = !self.last || matches!(projection, Projection::K | Projection::V);
        (!all).then_some(self.pass.batch.asked.as_slice())
    }

    /// The positions of the rows of a projection.
    pub fn positions(&self, projection: Projection) -> Cow<'a, [u32]> {
        let positions = &self.pass.batch.positions;
        match self.tokens(projection) {
            Some(tokens) => tokens.iter().map(|&token| positions[token]).collect(),
            None => Cow::Borrowed(positions),
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

    /// The rows of `x` `[N, H]` at the requested tokens.
    pub fn pick(&self, x: &[f32]) -> Buffer {
        let (asked, width) = (&self.pass.batch.asked, self.pass.config.hidden_size);
        let mut picked = self.take(asked.len() * width);
        for (row, &token) in picked.chunks_exact_mut(width).zip(asked) {
            row.copy_from_slice(&x[token * width..(token + 1) * width]);
        }
        picked
    }

    /// Adds rows at the requested tokens to `x` `[N, H]`: the gradient of [`Self::pick`].
    pub fn put(&self, picked: &[f32], x: &mut [f32]) {
        let (asked, width) = (&self.pass.batch.asked, self.pass.config.hidden_size);
        for (row, &token) in picked.chunks_exact(width).zip(asked) {
            kernel::add(&mut x[token * width..(token + 1) * width], row);
        }
    }
}
