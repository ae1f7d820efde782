//! The whole decoder as one operation of Burn's autodiff: adapter (flat) in, hidden states out.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::attention::{Tile, tiles};
use super::layer::{Layer, Pass, Tape};
use super::layout::Layout;
use crate::data::Batch;
use crate::forward::{Hidden, Observer};
use crate::kernel::{self, Buffer, Pool};
use crate::lora::{Draw, Dropout};
use crate::model::{Decoder, Rope};

/// The decoder on the CPU.
#[derive(Debug)]
pub struct Host {
    decoder: Decoder,
    /// Which of the decoder's rotary embeddings each layer has.
    ropes: Vec<usize>,
    pool: Pool,
    recompute: bool,
}

/// One forward pass: what the operation needs beside the adapter's numbers.
#[derive(Clone, Debug)]
pub struct Call {
    host: Arc<Host>,
    batch: Arc<Batch>,
    layout: Arc<Layout>,
    scaling: f32,
    dropout: Option<Dropout>,
    observer: Option<Arc<dyn Observer>>,
}

/// What a layer keeps for its backward pass: all that it needs, or only its input.
enum Kept {
    Tape(Box<Tape>),
    Input(Buffer),
}

/// What a forward pass keeps.
struct Tapes {
    layers: Vec<Kept>,
    /// The input of the last norm, with its row factors.
    last: Buffer,
    inverse: Buffer,
    /// The adapter that the pass was run with.
    adapter: Vec<f32>,
}

impl Host {
    /// A decoder ready to run. With `recompute`, a layer keeps only its input for the backward pass
    /// and is run again there: a third more work, a fraction of the memory.
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

    /// The hidden states after the last norm at the asked tokens, and the divergence where the
    /// adapter's draw wants it; tracked if the adapter is. `observer` watches the backward pass.
    pub fn hidden(
        self: &Arc<Self>,
        batch: &Batch,
        draw: &Draw,
        observer: Option<Arc<dyn Observer>>,
    ) -> Hidden {
        let Draw { adapter, dropout } = draw;
        let layout = Arc::new(Layout::of(adapter));
        let call = Call {
            host: self.clone(),
            batch: Arc::new(batch.clone()),
            layout,
            scaling: adapter.scaling as f32,
            dropout: *dropout,
            observer,
        };
        let (rows, has_divergence) = (batch.asked.len(), call.layout.has_divergence());
        let found: Tensor<2> = match Layout::flatten(adapter) {
            Some(flat) => Tensor::from_dispatch(<Dispatch as HiddenStates>::hidden_states(
                flat.into_dispatch(),
                call,
            )),
            None => Tensor::from_data(
                call.data(call.forward(&[], false).0),
                &burn::tensor::Device::flex(),
            ),
        };
        if !has_divergence {
            return Hidden {
                states: found,
                penalty: None,
            };
        }
        let divergence = found
            .clone()
            .narrow(0, rows, 1)
            .narrow(1, 0, 1)
            .reshape([1]);
        Hidden {
            states: found.narrow(0, 0, rows),
            penalty: Some(divergence),
        }
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
    /// `[S, H]` of a result, or `[S + 1, H]` where the last row begins with the divergence.
    fn data(&self, hidden: Buffer) -> TensorData {
        let width = self.host.decoder.config.hidden_size;
        TensorData::new(hidden.to_vec(), [hidden.len() / width, width])
    }

    /// Runs `work` with everything that the layers share, on a thread of rayon's: called from any
    /// other thread, each of the hundreds of parallel regions of a pass would put that thread to
    /// sleep and wake it again.
    fn with_pass<R: Send>(
        &self,
        adapter: &[f32],
        d_divergence: f32,
        work: impl FnOnce(&Pass<'_>) -> R + Send,
    ) -> R {
        let ropes = self.host.decoder.config.ropes().0.into_iter();
        let angles: Vec<_> = ropes
            .map(|rope| self.host.angles(&self.batch, rope))
            .collect();
        let keys = if self.layout.has_noise() {
            self.batch.prefix_keys()
        } else {
            Vec::new()
        };
        let tiles: [Vec<Tile>; 2] = [tiles(&self.batch, false), tiles(&self.batch, true)];
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
            divergence: Mutex::new(0.0),
            d_divergence,
        };
        rayon::scope(|_| work(&pass))
    }

    fn layer(&self, index: usize) -> Layer<'_> {
        let layers = &self.host.decoder.layers;
        Layer {
            weights: &layers[index],
            kind: &self.host.decoder.config.layers[index],
            rope: self.host.ropes[index],
            index,
            last: index + 1 == layers.len(),
        }
    }

    /// The hidden states `[S, H]` with a row for the divergence where it is wanted, and what the
    /// backward pass needs if it is to be `kept`.
    fn forward(&self, adapter: &[f32], kept: bool) -> (Buffer, Option<Tapes>) {
        let decoder = &self.host.decoder;
        let (pool, hidden) = (&self.host.pool, decoder.config.hidden_size);
        self.with_pass(adapter, 0.0, |pass| {
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
                    layers.push(Kept::Input(input));
                }
                let (y, tape) = pass.forward(self.layer(index), x);
                if keep && !self.host.recompute {
                    layers.push(Kept::Tape(Box::new(tape)));
                }
                x = y;
            }
            let extra = if self.layout.has_divergence() {
                hidden
            } else {
                0
            };
            let mut normed = pool.take(x.len() + extra);
            let mut inverse = pool.take(self.batch.asked.len());
            let (rows, last) = normed.split_at_mut(x.len());
            kernel::rms_norm(
                &x,
                &decoder.norm,
                decoder.config.rms_norm_eps as f32,
                rows,
                &mut inverse,
            );
            if let Some((divergence, rest)) = last.split_first_mut() {
                *divergence = *pass
                    .divergence
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) as f32;
                rest.fill(0.0);
            }
            let tapes = kept.then(|| Tapes {
                layers,
                last: x,
                inverse,
                adapter: adapter.to_vec(),
            });
            (normed, tapes)
        })
    }

    /// The gradient of the flat adapter from that of the hidden states `[S, H]`, and of the
    /// divergence behind them.
    fn backward(&self, d_hidden: &[f32], tapes: Tapes) -> Vec<f32> {
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
        let (d_hidden, d_divergence) = d_hidden.split_at(last.len());
        self.with_pass(
            &adapter,
            d_divergence.first().copied().unwrap_or(0.0),
            |pass| {
                let mut d = self.host.pool.take(last.len());
                kernel::rms_norm_backward(d_hidden, &last, &decoder.norm, &inverse, &mut d, false);
                for (index, kept) in (first..decoder.layers.len()).zip(layers).rev() {
                    let layer = self.layer(index);
                    let tape = match kept {
                        Kept::Tape(tape) => *tape,
                        Kept::Input(x) => pass.forward(layer, x).1,
                    };
                    match pass.backward(layer, d, tape, &mut gradient, index == first) {
                        Some(dx) => d = dx,
                        None => break,
                    }
                }
            },
        );
        gradient
    }
}

/// The decoder as a backend operation: the adapter `[P]` in, hidden states `[S, H]` out.
#[backend_extension(Flex, Autodiff)]
pub trait HiddenStates: Backend {
    /// Hidden states after the last norm at the asked tokens.
    fn hidden_states(adapter: FloatTensor<Self>, call: Call) -> FloatTensor<Self>;
}

impl HiddenStates for Flex {
    fn hidden_states(adapter: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let adapter = adapter.to_contiguous();
        let hidden = call.forward(adapter.storage::<f32>(), false).0;
        FloatTensor::<Self>::from_data(call.data(hidden))
    }
}

impl<C: CheckpointStrategy> HiddenStates for Autodiff<Flex, C> {
    fn hidden_states(adapter: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let (adapter, node) = adapter.into_parts();
        let adapter = adapter.to_contiguous();
        match HiddenStatesBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::UnTracked(operation) => operation.finish(Flex::hidden_states(adapter, call)),
            OpsKind::Tracked(operation) => {
                let (hidden, tapes) = call.forward(adapter.storage::<f32>(), true);
                let output = FloatTensor::<Flex>::from_data(call.data(hidden));
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

/// The backward pass of [`HiddenStates`].
#[derive(Debug)]
struct HiddenStatesBackward;

/// What the backward pass takes up; Burn wants it to be cloneable, but runs it once.
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

impl Backward<Flex, 1> for HiddenStatesBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let d_hidden = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [Some(parent)] = ops.parents else { return };
        let State { call, tapes } = ops.state;
        let Some(tapes) = tapes.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let gradient = call.backward(d_hidden.storage::<f32>(), tapes);
        let len = gradient.len();
        grads.register::<Flex>(
            parent.id,
            FloatTensor::<Flex>::from_data(TensorData::new(gradient, [len])),
        );
    }
}
