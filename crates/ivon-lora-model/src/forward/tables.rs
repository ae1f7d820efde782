//! The tables over the vocabulary at both ends of the forward pass, with what an adapter does to
//! them. Only the rows of tokens that occur, or are scored, are read and differentiated.
//!
//! With rows e and w of the two tables, factors R and C of each (see
//! [`AdaptedTable`](crate::lora::AdaptedTable)) and the model's own multipliers m and d:
//!
//! ```text
//! x = m (e + s · r C)      z = (w h + s · r (C drop(h))) / d
//! ```
//!
//! As in PEFT there is no dropout before the factors of the embeddings.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::Batch;
use crate::lora::{AdaptedTable, Draw};
use crate::model::{DecoderConfig, FrozenMatrix, Table};

/// The embeddings of a batch, multiplied as the model does, `[N, H]`, if the adapter changes them.
/// The base's table is `base`.
pub fn embeddings(
    base: &FrozenMatrix,
    config: &DecoderConfig,
    batch: &Batch,
    draw: &Draw,
    device: &Device,
) -> Option<Tensor<2>> {
    let table = draw.adapter.table(Table::EmbedTokens)?;
    let tokens = &batch.tokens;
    let rows = match (table.factor_rows(tokens), table.factor_columns()) {
        (Some(rows), Some(columns)) => {
            let shape = [tokens.len(), config.hidden_size];
            let base = TensorData::new(base.gather(tokens), shape);
            let scaling = draw.adapter.scaling.of_table(Table::EmbedTokens);
            Tensor::from_data(base, device) + rows.matmul(columns) * scaling
        }
        _ => table.whole_rows(tokens)?,
    };
    Some(rows * config.ends.embedding_multiplier)
}

/// What an adapter does to the output layer of a forward pass.
#[derive(Clone, Debug)]
pub struct OutputChange {
    table: AdaptedTable,
    /// s · C drop(h) of each hidden state, `[S, r]`; none for a whole table.
    low: Option<Tensor<2>>,
}

impl OutputChange {
    /// That of an adapter for hidden states `[S, H]` at the tokens that a batch requests.
    pub fn of(draw: &Draw, batch: &Batch, states: &Tensor<2>) -> Option<Self> {
        let table = draw.adapter.table(Table::LmHead)?;
        let scaling = draw.adapter.scaling.of_table(Table::LmHead);
        let low = table.factor_columns().map(|columns| {
            let states = dropped(draw, batch, states.clone());
            states.matmul(columns.transpose()) * scaling
        });
        Some(Self {
            table: table.clone(),
            low,
        })
    }

    /// Whether a whole table stands in the place of the base's.
    pub fn is_whole(&self) -> bool {
        self.low.is_none()
    }

    /// Of some of the hidden states.
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        Self {
            table: self.table.clone(),
            low: self.low.clone().map(|low| low.select(0, rows)),
        }
    }

    /// The rows of these tokens in place of the base's, `[tokens, H]`, if there are any.
    pub fn rows(&self, tokens: &[u32]) -> Option<Tensor<2>> {
        self.table.whole_rows(tokens)
    }

    /// What is added to the logits of these tokens, `[S, tokens]`, before they are divided.
    pub fn logits_of(&self, tokens: &[u32]) -> Option<Tensor<2>> {
        let (low, rows) = (self.low.clone()?, self.table.factor_rows(tokens)?);
        Some(low.matmul(rows.transpose()))
    }

    /// What is added to the logit of one token at each hidden state, `[S]`, before it is divided.
    pub fn logits_at(&self, tokens: &[u32]) -> Option<Tensor<1>> {
        let (low, rows) = (self.low.clone()?, self.table.factor_rows(tokens)?);
        Some((low * rows).sum_dim(1).squeeze_dim::<1>(1))
    }
}

/// drop(h) of the hidden states at the tokens that a batch requests.
fn dropped(draw: &Draw, batch: &Batch, states: Tensor<2>) -> Tensor<2> {
    let Some(dropout) = draw.dropout else {
        return states;
    };
    let shape = states.dims();
    let mask = dropout.mask(Table::LmHead.name(), batch, shape[1]);
    let mut values = vec![0.0; shape[0] * shape[1]];
    let ones = vec![1.0; values.len()];
    mask.apply(&ones, Some(&batch.asked), &mut values, false);
    let device = states.device().without_autodiff();
    states * Tensor::<2>::from_data(TensorData::new(values, shape), &device)
}
