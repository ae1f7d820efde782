//! The data shared by all layers of a forward pass, and a linear layer with its adapter.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};

use super::Plain;
use crate::data::Batch;
use crate::forward::RotaryTable;
use crate::lora::{Draw, LoraPair, PlainRows, PlainSide, Side};
use crate::model::{LinearPath, Projection};

/// The data shared by all layers of a forward pass.
pub struct Pass<'a> {
    pub plain: &'a Plain,
    pub batch: &'a Batch,
    pub draw: &'a Draw,
    /// The rotations by each rotary embedding.
    pub rotary: Vec<Rotation>,
    /// The index of each layer's rotary embedding, if it has one.
    pub rope_of_layer: Vec<Option<usize>>,
    /// The inputs that the layers have of their own, `[N, layers · width]`.
    pub inputs: Option<Tensor<2>>,
    /// The keys and values of the layers so far, `[N, heads, width]` each.
    pub key_values: RefCell<Vec<Option<[Tensor<3>; 2]>>>,
    /// The prefix key of each token if a side needs it; else empty.
    keys: Vec<u64>,
    /// The penalty of the layers so far, `[1]`, nats.
    penalty: RefCell<Option<Tensor<1>>>,
}

/// Cosine and sine of each token's angles, `[N, width]`, of queries and of keys.
pub struct Rotation {
    pub width: usize,
    pub queries: [Tensor<2>; 2],
    pub keys: [Tensor<2>; 2],
}

impl Rotation {
    fn new(plain: &Plain, table: &RotaryTable) -> Self {
        let half = table.width / 2;
        let tensor = |numbers: &[f32]| {
            let of_token = |&row: &u32| {
                let row = &numbers[row as usize * half..][..half];
                row.iter().chain(row).copied()
            };
            let values: Vec<f32> = table.rows.iter().flat_map(of_token).collect();
            let shape = [table.rows.len(), table.width];
            Tensor::from_data(TensorData::new(values, shape), &plain.device)
        };
        Self {
            width: table.width,
            queries: table.of(true).map(tensor),
            keys: table.of(false).map(tensor),
        }
    }
}

impl<'a> Pass<'a> {
    pub fn new(plain: &'a Plain, batch: &'a Batch, draw: &'a Draw) -> Self {
        let (ropes, rope_of_layer) = plain.config.ropes();
        let rotation = |(rope, width)| Rotation::new(plain, &RotaryTable::new(rope, width, batch));
        Self {
            plain,
            batch,
            draw,
            rotary: ropes.into_iter().map(rotation).collect(),
            rope_of_layer,
            inputs: None,
            key_values: RefCell::new(vec![None; plain.layers.len()]),
            keys: match draw.adapter.has_sides() {
                true => batch.prefix_keys(),
                false => Vec::new(),
            },
            penalty: RefCell::default(),
        }
    }

    /// The penalty of all layers, `[1]`, nats.
    pub fn into_penalty(self) -> Option<Tensor<1>> {
        self.penalty.into_inner()
    }

    /// W x + b + s · B A dropout(x), `[N, in]` → `[N, out]`, with rows scaled to their magnitudes if
    /// the pair has them; x itself if there is no such linear layer.
    pub fn project(&self, layer: Option<usize>, projection: Projection, x: Tensor<2>) -> Tensor<2> {
        let weights = match layer {
            Some(layer) => &self.plain.layers[layer],
            None => &self.plain.outside,
        };
        let Some((weight, bias)) = &weights.linears[projection as usize] else {
            return x;
        };
        let mut y = x.clone().matmul(weight.clone());
        if let Some(bias) = bias {
            y = y + bias.clone().unsqueeze::<2>();
        }
        match self.draw.adapter.pair(layer, projection) {
            None => y,
            Some(pair) => {
                let path = self.plain.config.linear_path(layer, projection);
                let x = self.dropped(&path.to_string(), x);
                let low = self.low_rank(path, pair, x.clone());
                match self.row_factors(path, pair, weight) {
                    None => y + low,
                    Some(factors) => {
                        let base = x.matmul(weight.clone());
                        y - base.clone() + (base + low) * factors
                    }
                }
            }
        }
    }

    /// m / ‖W + s · B A‖ of each row, `[1, out]`, if rows have magnitudes m (DoRA); the lengths are
    /// constants, as in PEFT. `weight` is Wᵀ.
    fn row_factors(
        &self,
        path: LinearPath,
        pair: &LoraPair,
        weight: &Tensor<2>,
    ) -> Option<Tensor<2>> {
        let magnitudes = pair.lora_magnitude_vector.as_ref()?.val().transpose();
        let low = pair.lora_B.val().matmul(pair.lora_A.val()).transpose();
        let scaling = self.draw.adapter.scaling.of(path);
        let sum = weight.clone() + low.detach() * scaling;
        let lengths = sum.clone().mul(sum).sum_dim(0).sqrt();
        // A row of zeros stays zero.
        let is_zero = lengths.clone().equal_elem(0.0);
        Some(magnitudes / lengths.mask_fill(is_zero, 1.0))
    }

    /// s · B A x, or s · B f(x, h) with h = A x if the pair has a side.
    fn low_rank(&self, linear: LinearPath, pair: &LoraPair, x: Tensor<2>) -> Tensor<2> {
        let (layer, projection) = (linear.layer, linear.projection);
        let path = linear.to_string();
        let mut low = x.clone().matmul(pair.lora_A.val().transpose());
        if let Some(side) = &pair.side {
            // In the last layer only what later tokens read is computed for all tokens.
            let is_last = layer.is_some_and(|layer| layer + 1 == self.plain.layers.len());
            let all = !is_last || projection.is_before_mixing();
            let rows = PlainRows {
                path: &path,
                keys: &self.keys,
                needed: (!all).then_some(self.batch.asked.as_slice()),
                device: &self.plain.device,
            };
            low = self.beside(side, &rows, x, low);
        }
        low.matmul(pair.lora_B.val().transpose()) * self.draw.adapter.scaling.of(linear)
    }

    /// dropout(x) for the projection at `path`.
    fn dropped(&self, path: &str, x: Tensor<2>) -> Tensor<2> {
        let Some(dropout) = self.draw.dropout else {
            return x;
        };
        let shape = x.dims();
        let mask = dropout.mask(path, self.batch, shape[1]).values();
        x * Tensor::<2>::from_data(TensorData::new(mask, shape), &self.plain.device)
    }

    /// f(x, h) of a side; adds its penalty to the sum.
    fn beside(&self, side: &Side, rows: &PlainRows<'_>, x: Tensor<2>, h: Tensor<2>) -> Tensor<2> {
        let PlainSide { low, penalty } = side.form().plain(rows, x, h);
        if let Some(penalty) = penalty {
            let mut sum = self.penalty.borrow_mut();
            *sum = Some(match sum.take() {
                None => penalty,
                Some(before) => before + penalty,
            });
        }
        low
    }
}
