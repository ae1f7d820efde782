//! The whole decoder as one operation of Burn's autodiff: adapter (flat) in, hidden states out.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::attention::{asked_tiles, tiles};
use super::layer::Tape;
use super::layout::AdapterLayout;
use super::pass::{LayerPass, Pass};
use crate::data::Batch;
use crate::forward::{Hidden, Observer};
use crate::kernel::{self, Buffer, Pool};
use crate::lora::{Draw, Dropout};
use crate::model::{Decoder, Rope};

/// The decoder on the CPU.
#[derive(Debug)]
pub struct Host {
    decoder: Decoder,
    /// The index of each layer's rotary embedding.
    ropes: Vec<usize>,
    pool: Pool,
    recompute: bool,
}

/// One forward pass: the inputs of the operation besides the adapter's parameters.
#[derive(Clone, Debug)]
pub struct Call {
    host: Arc<Host>,
    batch: Arc<Batch>,
    layout: Arc<AdapterLayout>,
    scaling: f32,
    dropout: Option<Dropout>,
    observer: Option<Arc<dyn Observer>>,
}

/// What a layer keeps for its backward pass: everything, or only its input.
enum LayerTape {
    Whole(Box<Tape>),
    Input(Buffer),
}

impl LayerTape {
    /// Everything that the layer needs, computed again where only its input was kept.
    fn completed(self, layer: &LayerPass<'_>) -> Tape {
        match self {
            Self::Whole(tape) => *tape,
            Self::Input(x) => layer.forward(x).1,
        }
    }
}

/// What a forward pass keeps.
struct Tapes {
    layers: Vec<LayerTape>,
    /// The input of the last norm, with its row factors.
    last: Buffer,
    inverse: Buffer,
    /// The adapter used in the pass.
    adapter: Vec<f32>,
}

impl Host {
    /// A decoder on the CPU. With `recompute`, a layer keeps only its input for the backward pass
    /// and its forward pass is repeated there: a third more work for a fraction of the memory.
    pub fn new(decoder: Decoder, recompute: bool) -> Self {
        Self {
            ropes: decoder.config.ropes().1,
            decoder,
            pool: Pool::default(),
            recompute,
        }
    }

    /// The frozen weights.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The hidden states after the last norm at the requested tokens, and the penalty if the
    /// adapter's draw has one; tracked if the adapter is. `observer` watches the backward pass.
    pub fn hidden(
        self: &Arc<Self>,
        batch: &Batch,
        draw: &Draw,
        observer: Option<Arc<dyn Observer>>,
    ) -> Hidden {
        let Draw { adapter, dropout } = draw;
        let call = Call {
            host: self.clone(),
            batch: Arc::new(batch.clone()),
            layout: Arc::new(AdapterLayout::of(adapter)),
            scaling: adapter.scaling as f32,
            dropout: *dropout,
            observer,
        };
        let shape = [batch.asked.len(), self.decoder.config.hidden_size];
        let has_penalty = call.layout.has_penalty();
        let outputs: Tensor<1> = match AdapterLayout::flatten(adapter) {
            Some(flat) => {
                let flat = flat.into_dispatch();
                Tensor::from_dispatch(<Dispatch as DecoderPass>::decoder_pass(flat, call))
            }
            None => Tensor::from_data(call.forward(&[], false).0, &burn::tensor::Device::flex()),
        };
        split_outputs(outputs, shape, has_penalty)
    }

    /// Cosine and sine of every position's rotary angles up to the largest in the batch.
    fn angles(&self, batch: &Batch, rope: &Rope) -> (Vec<f32>, Vec<f32>) {
        let frequencies = rope.inverse_frequencies(self.decoder.config.head_dim);
        let positions = batch.positions.iter().max().map_or(0, |&last| last + 1);
        let angle = |position: u32| {
            frequencies
                .iter()
                .map(move |frequency| f64::from(position as f32 * frequency))
        };
        (0..positions)
            .flat_map(angle)
            .map(|angle| (angle.cos() as f32, angle.sin() as f32))
            .unzip()
    }
}

impl Call {
    /// Runs `work` with the data shared by all layers, on a rayon thread: called from any other
    /// thread, each of the hundreds of parallel regions of a pass would put that thread to sleep
    /// and wake it again.
    fn with_pass<R: Send>(
        &self,
        adapter: &[f32],
        d_penalty: f32,
        work: impl FnOnce(&Pass<'_>) -> R + Send,
    ) -> R {
        let ropes = self.host.decoder.config.ropes().0.into_iter();
        let angles: Vec<_> = ropes
            .map(|rope| self.host.angles(&self.batch, rope))
            .collect();
        let keys = self.keys();
        let tiles = [tiles(&self.batch), asked_tiles(&self.batch)];
        let pass = Pass {
            config: &self.host.decoder.config,
            pool: &self.host.pool,
            batch: &self.batch,
            angles: &angles,
            adapter,
            layout: &self.layout,
            scaling: self.scaling,
            dropout: self.dropout,
            observer: self.observer.as_deref(),
            tiles: [&tiles[0], &tiles[1]],
            keys: &keys,
            penalty: Mutex::new(0.0),
            d_penalty,
        };
        rayon::scope(|_| work(&pass))
    }

    /// The prefix key of each token if a side needs it; else empty.
    fn keys(&self) -> Vec<u64> {
        if self.layout.reads_keys() {
            self.batch.prefix_keys()
        } else {
            Vec::new()
        }
    }

    fn layer<'a>(&'a self, pass: &'a Pass<'a>, index: usize) -> LayerPass<'a> {
        let layers = &self.host.decoder.layers;
        LayerPass {
            pass,
            weights: &layers[index],
            kind: &self.host.decoder.config.layers[index],
            rope: self.host.ropes[index],
            index,
            last: index + 1 == layers.len(),
        }
    }

    /// The outputs of the operation, and what the backward pass needs if `kept`.
    fn forward(&self, adapter: &[f32], kept: bool) -> (TensorData, Option<Tapes>) {
        self.with_pass(adapter, 0.0, |pass| {
            let (last, layers) = self.run_layers(pass, kept);
            let config = &self.host.decoder.config;
            let mut states = self.host.pool.take(last.len());
            let mut inverse = self.host.pool.take(self.batch.asked.len());
            kernel::rms_norm(
                &last,
                &self.host.decoder.norm,
                config.rms_norm_eps as f32,
                &mut states,
                &mut inverse,
            );
            let mut outputs = states.to_vec();
            if self.layout.has_penalty() {
                let penalty = pass.penalty.lock().unwrap_or_else(PoisonError::into_inner);
                outputs.push(*penalty as f32);
            }
            let len = outputs.len();
            let tapes = kept.then(|| Tapes {
                layers,
                last,
                inverse,
                adapter: adapter.to_vec(),
            });
            (TensorData::new(outputs, [len]), tapes)
        })
    }

    /// The output of the last layer at the requested tokens, `[S, H]`, and, if `kept`, what the
    /// layers from the first adapted one on keep for their backward pass.
    fn run_layers(&self, pass: &Pass<'_>, kept: bool) -> (Buffer, Vec<LayerTape>) {
        let (decoder, pool) = (&self.host.decoder, &self.host.pool);
        let hidden = decoder.config.hidden_size;
        let mut x = pool.take(self.batch.len() * hidden);
        for (row, &token) in x.chunks_exact_mut(hidden).zip(&self.batch.tokens) {
            decoder.embed_tokens.row(token as usize, row);
        }
        let first = self.layout.first_layer().unwrap_or(usize::MAX);
        let mut layers = Vec::new();
        for index in 0..decoder.layers.len() {
            let keep = kept && index >= first;
            if keep && self.host.recompute {
                let mut input = pool.take(x.len());
                input.copy_from_slice(&x);
                layers.push(LayerTape::Input(input));
            }
            let (y, tape) = self.layer(pass, index).forward(x);
            if keep && !self.host.recompute {
                layers.push(LayerTape::Whole(Box::new(tape)));
            }
            x = y;
        }
        (x, layers)
    }

    /// The gradient of the flat adapter from that of the outputs.
    fn backward(&self, d_outputs: &[f32], tapes: Tapes) -> Vec<f32> {
        let decoder = &self.host.decoder;
        let mut gradient = vec![0.0; self.layout.len()];
        let Some(first) = self.layout.first_layer() else {
            return gradient;
        };
        let Tapes {
            layers,
            last,
            inverse,
            adapter,
        } = tapes;
        let (d_states, d_penalty) = d_outputs.split_at(last.len());
        let d_penalty = d_penalty.first().copied().unwrap_or(0.0);
        self.with_pass(&adapter, d_penalty, |pass| {
            let mut d = self.host.pool.take(last.len());
            kernel::rms_norm_backward(d_states, &last, &decoder.norm, &inverse, &mut d, false);
            for (index, tape) in (first..decoder.layers.len()).zip(layers).rev() {
                let layer = self.layer(pass, index);
                let tape = tape.completed(&layer);
                match layer.backward(d, tape, &mut gradient, index > first) {
                    Some(dx) => d = dx,
                    None => break,
                }
            }
        });
        gradient
    }
}

/// The hidden states of this `shape` from the outputs of the operation, and the penalty after them.
fn split_outputs(outputs: Tensor<1>, shape: [usize; 2], has_penalty: bool) -> Hidden {
    if !has_penalty {
        return Hidden {
            states: outputs.reshape(shape),
            penalty: None,
        };
    }
    let count = shape[0] * shape[1];
    Hidden {
        states: outputs.clone().narrow(0, 0, count).reshape(shape),
        penalty: Some(outputs.narrow(0, count, 1)),
    }
}

/// The decoder as a backend operation. Input: the adapter `[P]`; output: the hidden states after
/// the last norm at the requested tokens, S · H numbers, followed by the penalty if there is one.
///
/// Burn allows one output per operation, hence the flat tensor: [`Host::hidden`] splits it at once,
/// and nothing else sees it.
#[backend_extension(Flex, Autodiff)]
pub trait DecoderPass: Backend {
    /// See [`DecoderPass`].
    fn decoder_pass(adapter: FloatTensor<Self>, call: Call) -> FloatTensor<Self>;
}

impl DecoderPass for Flex {
    fn decoder_pass(adapter: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let adapter = adapter.to_contiguous();
        FloatTensor::<Self>::from_data(call.forward(adapter.storage::<f32>(), false).0)
    }
}

impl<C: CheckpointStrategy> DecoderPass for Autodiff<Flex, C> {
    fn decoder_pass(adapter: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let (adapter, node) = adapter.into_parts();
        let adapter = adapter.to_contiguous();
        match DecoderPassBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::UnTracked(operation) => operation.finish(Flex::decoder_pass(adapter, call)),
            OpsKind::Tracked(operation) => {
                let (outputs, tapes) = call.forward(adapter.storage::<f32>(), true);
                let output = FloatTensor::<Flex>::from_data(outputs);
                operation.finish(
                    State {
                        call,
                        tapes: Arc::new(Mutex::new(tapes)),
                    },
                    output,
                )
            }
        }
    }
}

/// The backward pass of [`DecoderPass`].
#[derive(Debug)]
struct DecoderPassBackward;

/// The state for the backward pass; Burn requires it to be cloneable, but runs it once.
#[derive(Clone)]
struct State {
    call: Call,
    tapes: Arc<Mutex<Option<Tapes>>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").finish_non_exhaustive()
    }
}

impl Backward<Flex, 1> for DecoderPassBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let d_outputs = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [Some(parent)] = ops.parents else { return };
        let State { call, tapes } = ops.state;
        let Some(tapes) = tapes.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let gradient = call.backward(d_outputs.storage::<f32>(), tapes);
        let len = gradient.len();
        grads.register::<Flex>(
            parent.id,
            FloatTensor::<Flex>::from_data(TensorData::new(gradient, [len])),
        );
    }
}
