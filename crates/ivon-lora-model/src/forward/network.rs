//! A frozen decoder on its device.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::cpu::Host;
use super::hidden::Hidden;
use super::observe::Observer;
use super::plain::Plain;
use crate::data::Batch;
use crate::lora::Draw;
use crate::model::{Decoder, DecoderConfig, FrozenMatrix, LinearPath};

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

    /// The hidden states at the tokens that the batch requests; tracked if the adapter is.
    pub fn hidden(&self, batch: &Batch, draw: &Draw) -> Hidden {
        match &self.body {
            Body::Host(host) => host.hidden(batch, draw, None),
            Body::Plain(plain) => plain.hidden(batch, draw),
        }
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
            Body::Host(host) => Some(host.hidden(batch, draw, Some(observer.clone()))),
            Body::Plain(_) => None,
        }
    }

    /// Logits of `tokens` from hidden states `[S, H]`, `[S, tokens]`: only these rows of the output
    /// table are read.
    pub fn logits_of(&self, hidden: Tensor<2>, tokens: &[u32]) -> Tensor<2> {
        let rows = self.output_rows(tokens, &hidden);
        self.finished(hidden.matmul(rows.transpose()))
    }

    /// Rows of the output table, divided as logits are, `[tokens, H]`, on the device of `hidden`.
    fn output_rows(&self, tokens: &[u32], hidden: &Tensor<2>) -> Tensor<2> {
        let shape = [tokens.len(), self.config().hidden_size];
        let rows = TensorData::new(self.gathered(tokens), shape);
        Tensor::from_data(rows, &hidden.device().without_autodiff())
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

    /// The logit of one token at each hidden state: `[M, H]` and M tokens → `[M]`.
    pub fn logits_at(&self, hidden: Tensor<2>, tokens: &[u32]) -> Tensor<1> {
        let rows = self.output_rows(tokens, &hidden);
        self.finished((hidden * rows).sum_dim(1).squeeze_dim::<1>(1))
    }
}
