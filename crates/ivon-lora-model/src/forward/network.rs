//! A frozen decoder on its device.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::cpu::{FlatDraws, Host, SequenceCache};
use super::hidden::Hidden;
use super::observe::Observer;
use super::plain::Plain;
use super::tables::OutputChange;
use super::vocabulary::{
    VOCABULARY_PART, log_normaliser, log_sum_exp, mean_next_tokens, next_token,
};
use crate::data::Batch;
use crate::kernel::{self, NextToken, Output, OutputLayer};
use crate::lora::Draw;
use crate::model::{Decoder, DecoderConfig, FrozenMatrix, LinearPath, Table};

/// The logits of a whole table that are in memory at once, unless they are those of one part.
const MOST_LOGITS: usize = 1 << 24;

/// A frozen decoder on a device.
#[derive(Clone, Debug)]
pub struct Network {
    body: Body,
    device: Device,
}

/// The implementation: the CPU operation, or Burn's operations.
#[derive(Clone, Debug)]
enum Body {
    Host(Arc<Host>),
    Plain(Arc<Plain>),
}

impl Network {
    /// Puts a decoder on a device: the CPU uses the weights in their precision, other devices get
    /// them as f32 tensors.
    ///
    /// With `recompute`, the backward pass keeps less and computes more (CPU only).
    pub fn new(decoder: Decoder, device: &Device, recompute: bool) -> Self {
        let body = if *device == Device::flex() {
            Body::Host(Arc::new(Host::new(decoder, recompute)))
        } else {
            Body::Plain(Arc::new(Plain::new(decoder, device)))
        };
        Self {
            body,
            device: device.clone(),
        }
    }

    /// Puts a decoder on any device as plain Burn operations.
    pub fn plain(decoder: Decoder, device: &Device) -> Self {
        Self {
            body: Body::Plain(Arc::new(Plain::new(decoder, device))),
            device: device.clone(),
        }
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        match &self.body {
            Body::Host(host) => &host.decoder().config,
            Body::Plain(plain) => plain.config(),
        }
    }

    /// The device of the decoder.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn output(&self) -> &FrozenMatrix {
        match &self.body {
            Body::Host(host) => host.decoder().output(),
            Body::Plain(plain) => plain.output(),
        }
    }

    /// The lengths of the rows of the linear layer at `path`, `[out]`: the magnitudes with which
    /// DoRA starts.
    pub fn row_lengths(&self, path: LinearPath) -> Vec<f32> {
        match &self.body {
            Body::Host(host) => host.row_lengths(path),
            Body::Plain(plain) => plain.row_lengths(path),
        }
    }

    /// A table over the vocabulary, row by row, `[V, H]`: what it is before it is trained as a whole.
    pub fn table(&self, table: Table) -> Vec<f32> {
        let matrix = self.matrix(table);
        let all: Vec<u32> = (0..matrix.rows() as u32).collect();
        matrix.gather(&all)
    }

    /// Writes a row of a table over the vocabulary to `out`, `[H]`.
    pub fn table_row(&self, table: Table, row: usize, out: &mut [f32]) {
        self.matrix(table).row(row, out);
    }

    fn matrix(&self, table: Table) -> &FrozenMatrix {
        match (table, &self.body) {
            (Table::LmHead, _) => self.output(),
            (Table::EmbedTokens, Body::Host(host)) => &host.decoder().embed_tokens,
            (Table::EmbedTokens, Body::Plain(plain)) => plain.embed_tokens(),
        }
    }

    /// The hidden states at the tokens that the batch requests; tracked if the adapter is.
    pub fn hidden(&self, batch: &Batch, draw: &Draw) -> Hidden {
        let hidden = match &self.body {
            Body::Host(host) => host.hidden(batch, draw, None),
            Body::Plain(plain) => plain.hidden(batch, draw),
        };
        with_output(hidden, batch, draw)
    }

    /// [`hidden`](Self::hidden) with an observer of the backward pass; none if the decoder runs as
    /// plain Burn operations, which cannot be observed.
    pub fn hidden_watched(
        &self,
        batch: &Batch,
        draw: &Draw,
        observer: &Arc<dyn Observer>,
    ) -> Option<Hidden> {
        match &self.body {
            Body::Host(host) => {
                let hidden = host.hidden(batch, draw, Some(observer.clone()));
                Some(with_output(hidden, batch, draw))
            }
            Body::Plain(_) => None,
        }
    }

    fn output_layer(&self) -> OutputLayer<'_> {
        let ends = &self.config().ends;
        OutputLayer {
            table: self.output(),
            divisor: ends.logits_scaling as f32,
            cap: ends.final_logit_softcapping.map(|cap| cap as f32),
        }
    }

    /// The tokens of the vocabulary, a part at a time for hidden states.
    fn vocabulary(&self, hidden: &Hidden) -> impl Iterator<Item = Vec<u32>> {
        let size = self.config().vocab_size as u32;
        let is_whole = hidden.output.as_ref().is_some_and(OutputChange::is_whole);
        // The gradient of each part of a whole table is as large as the table.
        let part = match is_whole {
            true => VOCABULARY_PART.max(MOST_LOGITS / hidden.states.dims()[0].max(1)),
            false => VOCABULARY_PART,
        };
        (0..size)
            .step_by(part)
            .map(move |start| (start..size.min(start.saturating_add(part as u32))).collect())
    }

    /// ln Σ exp(logits) over the whole vocabulary at hidden states, `[S]`, nats; tracked if they
    /// are. Neither pass keeps the logits, unless the adapter changes the output layer.
    pub fn log_normaliser(&self, hidden: &Hidden) -> Tensor<1> {
        if hidden.output.is_none() {
            return log_normaliser(hidden.states.clone(), self.output_layer());
        }
        let parts = self
            .vocabulary(hidden)
            .map(|part| log_sum_exp(self.logits_of(hidden, &part)));
        log_sum_exp(Tensor::cat(parts.collect(), 1)).squeeze_dim::<1>(1)
    }

    /// ln p of `tokens` `[S]` at hidden states, `[S]`, nats; tracked if they are.
    pub fn log_probabilities_of(&self, hidden: &Hidden, tokens: &[u32]) -> Tensor<1> {
        self.logits_at(hidden, tokens) - self.log_normaliser(hidden)
    }

    /// The distribution of the token after each hidden state, `[S]`: the mean of those of several
    /// draws, at `targets` `[S]`.
    pub fn next_tokens(&self, draws: &[Hidden], targets: &[u32]) -> Vec<NextToken> {
        if draws.iter().all(|hidden| hidden.output.is_none()) {
            let states: Vec<_> = draws.iter().map(|hidden| hidden.states.clone()).collect();
            return next_token(&states, self.output_layer(), targets);
        }
        mean_next_tokens(draws.len(), targets, |draw, rows| {
            let device = draws[draw].states.device().without_autodiff();
            let rows: Vec<i64> = rows.map(|row| row as i64).collect();
            let hidden = draws[draw].select(Tensor::from_data(rows.as_slice(), &device));
            let parts = self
                .vocabulary(&hidden)
                .map(|part| self.logits_of(&hidden, &part));
            Tensor::cat(parts.collect(), 1).without_autodiff()
        })
    }

    /// Whether the decoder is the CPU's.
    pub(super) fn is_host(&self) -> bool {
        matches!(self.body, Body::Host(_))
    }

    /// A pass over new tokens of sequences on the CPU, see [`Host::read`].
    pub(super) fn read(
        &self,
        draws: &FlatDraws,
        batch: Batch,
        owners: &[usize],
        sequences: Vec<&mut SequenceCache>,
    ) -> Option<Vec<f32>> {
        match &self.body {
            Body::Host(host) => Some(host.read(draws, batch, owners, sequences)),
            Body::Plain(_) => None,
        }
    }

    /// Logits of all tokens of the vocabulary at hidden states, `[S, V]`.
    pub fn all_logits(&self, hidden: &Hidden) -> Vec<f32> {
        if hidden.output.is_none() {
            return self.logits_of_base(&numbers(hidden.states.clone()));
        }
        let parts = self
            .vocabulary(hidden)
            .map(|part| self.logits_of(hidden, &part));
        numbers(Tensor::cat(parts.collect(), 1))
    }

    /// Logits of all tokens of the vocabulary under a draw, `[S, V]`, from hidden states `[S, H]`.
    pub(super) fn logits_under(&self, draw: &Draw, states: &[f32]) -> Vec<f32> {
        if draw.adapter.table(Table::LmHead).is_none() {
            return self.logits_of_base(states);
        }
        let width = self.config().hidden_size;
        let states = TensorData::new(states.to_vec(), [states.len() / width, width]);
        let hidden = Hidden {
            states: Tensor::from_data(states, &self.device.clone().without_autodiff()),
            output: None,
            penalty: None,
        };
        self.all_logits(&with_output(hidden, &Batch::default(), draw))
    }

    /// Logits of all tokens by the base's output layer, `[S, V]`, from hidden states `[S, H]`.
    fn logits_of_base(&self, hidden: &[f32]) -> Vec<f32> {
        let matrix = self.output();
        let rows = hidden.len() / self.config().hidden_size;
        let mut logits = vec![0.0; rows * matrix.rows()];
        let output = Output {
            matrix,
            y: &mut logits,
            onto: None,
        };
        kernel::apply_to_few(hidden, vec![output]);
        let ends = &self.config().ends;
        let divisor = ends.logits_scaling as f32;
        if divisor != 1.0 {
            logits.iter_mut().for_each(|logit| *logit /= divisor);
        }
        if let Some(cap) = ends.final_logit_softcapping.map(|cap| cap as f32) {
            let limited = |logit: f32| (logit / cap).tanh() * cap;
            logits.iter_mut().for_each(|logit| *logit = limited(*logit));
        }
        logits
    }

    /// Logits of `tokens` at each of the hidden states, `[S, tokens]`: only these rows of the output
    /// table are read.
    pub fn logits_of(&self, hidden: &Hidden, tokens: &[u32]) -> Tensor<2> {
        let rows = self.output_rows(tokens, hidden);
        let logits = hidden.states.clone().matmul(rows.transpose());
        let change = hidden.output.as_ref();
        self.finished(self.changed(logits, change.and_then(|change| change.logits_of(tokens))))
    }

    /// Rows of the output table, divided as logits are, `[tokens, H]`, on the device of `hidden`.
    fn output_rows(&self, tokens: &[u32], hidden: &Hidden) -> Tensor<2> {
        let whole = hidden.output.as_ref();
        if let Some(rows) = whole.and_then(|output| output.rows(tokens)) {
            return rows / self.config().ends.logits_scaling;
        }
        let shape = [tokens.len(), self.config().hidden_size];
        let rows = TensorData::new(self.gathered(tokens), shape);
        Tensor::from_data(rows, &hidden.states.device().without_autodiff())
    }

    /// Logits with what the factors of the output layer add to them.
    fn changed<const D: usize>(&self, logits: Tensor<D>, change: Option<Tensor<D>>) -> Tensor<D> {
        match change {
            Some(change) => logits + change / self.config().ends.logits_scaling,
            None => logits,
        }
    }

    /// Rows of the output table, divided as logits are.
    fn gathered(&self, tokens: &[u32]) -> Vec<f32> {
        let mut rows = self.output().gather(tokens);
        let divisor = self.config().ends.logits_scaling as f32;
        if divisor != 1.0 {
            rows.iter_mut().for_each(|number| *number /= divisor);
        }
        rows
    }

    /// Logits, limited if the model limits them.
    fn finished<const D: usize>(&self, logits: Tensor<D>) -> Tensor<D> {
        match self.config().ends.final_logit_softcapping {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// The mean square of the numbers of these tokens' rows of the output table.
    pub fn output_mean_squares(&self, tokens: &[u32]) -> Vec<f32> {
        let width = self.config().hidden_size;
        let mean_square = |row: &[f32]| {
            let sum: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            (sum / width as f64) as f32
        };
        let rows = self.gathered(tokens);
        rows.chunks_exact(width).map(mean_square).collect()
    }

    /// The logit of one token at each hidden state: M states and M tokens → `[M]`.
    pub fn logits_at(&self, hidden: &Hidden, tokens: &[u32]) -> Tensor<1> {
        let rows = self.output_rows(tokens, hidden);
        let products = hidden.states.clone() * rows;
        let logits = products.sum_dim(1).squeeze_dim::<1>(1);
        let change = hidden.output.as_ref();
        self.finished(self.changed(logits, change.and_then(|change| change.logits_at(tokens))))
    }
}

/// The numbers of a tensor.
fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_to_vec().unwrap_or_default()
}

/// With what the adapter of a draw does to the output layer.
fn with_output(hidden: Hidden, batch: &Batch, draw: &Draw) -> Hidden {
    Hidden {
        output: OutputChange::of(draw, batch, &hidden.states),
        ..hidden
    }
}
