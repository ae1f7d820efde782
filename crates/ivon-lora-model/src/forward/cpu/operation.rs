//! The whole decoder as one operation of Burn's autodiff: adapter (flat) in, hidden states out. If the
//! adapter changes the embeddings, these are an input as well, at the end of the flat vector.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::attention::{asked_tiles, tiles};
use super::cache::PassCache;
use super::key_values::{KeysAndValues, SharedKeyValues};
use super::layer::Tape;
use super::layer_inputs::LayerInputs;
use super::layout::AdapterLayout;
use super::magnitude::row_lengths;
use super::pass::{DrawTokens, LayerPass, Pass};
use super::per_layer_input::LayerInputsTape;
use super::runs::Runs;
use crate::data::Batch;
use crate::forward::tables::embeddings;
use crate::forward::{Hidden, Observer, RotaryTable};
use crate::kernel::{self, Buffer, Pool, View};
use crate::lora::{Draw, Dropout};
use crate::model::{Decoder, LinearPath, Table};

/// The decoder on the CPU.
#[derive(Debug)]
pub struct Host {
    decoder: Decoder,
    /// The index of each layer's rotary embedding, if it has one.
    ropes: Vec<Option<usize>>,
    /// Whether later layers use the keys and values of a layer.
    is_shared: Vec<bool>,
    /// The window of those that see the keys of each layer; none: all tokens are seen.
    pub(super) windows: Vec<Option<usize>>,
    pool: Pool,
    recompute: bool,
}

/// One forward pass: the inputs of the operation besides the adapter's parameters.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) host: Arc<Host>,
    pub(super) batch: Arc<Batch>,
    pub(super) layout: Arc<AdapterLayout>,
    /// Whether anything above needs the gradient of the embeddings.
    pub(super) tracks_embeddings: bool,
    pub(super) dropout: Option<Dropout>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

/// What a pass is given besides its batch.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub draws: &'a [DrawTokens<'a>],
    /// The embeddings `[N, H]` if the adapter changes them, else empty.
    pub changed: &'a [f32],
    pub cache: Option<&'a PassCache>,
}

/// What the layers of a pass share with each other.
#[derive(Clone, Copy)]
struct Between<'a> {
    key_values: &'a SharedKeyValues,
    inputs: Option<&'a LayerInputs>,
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

/// The inputs that the layers have of their own, with what their gradient needs.
type Inputs = (LayerInputs, LayerInputsTape);

/// What a forward pass keeps.
pub(super) struct Tapes {
    layers: Vec<LayerTape>,
    inputs: Option<Inputs>,
    /// The keys and values that several layers use, by layer.
    key_values: BTreeMap<usize, Arc<KeysAndValues>>,
    /// The input of the last norm, with its row factors.
    last: Buffer,
    inverse: Buffer,
    /// The adapter used in the pass.
    adapter: Vec<f32>,
    /// The length of the operation's input.
    inputs_len: usize,
}

impl Host {
    /// A decoder on the CPU. With `recompute`, a layer keeps only its input for the backward pass
    /// and its forward pass is repeated there: a third more work for a fraction of the memory.
    pub fn new(decoder: Decoder, recompute: bool) -> Self {
        Self {
            ropes: decoder.config.ropes().1,
            is_shared: decoder.config.layers_with_shared_keys(),
            windows: decoder.config.windows_on_keys(),
            decoder,
            pool: Pool::default(),
            recompute,
        }
    }

    /// The frozen weights.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The lengths of the rows of a linear layer, `[out]`.
    pub fn row_lengths(&self, path: LinearPath) -> Vec<f32> {
        let (outside, layers) = (&self.decoder.outside, &self.decoder.layers);
        let layer = path.layer.map_or(outside, |layer| &layers[layer]);
        let weight = &layer.linear(path.projection).weight;
        let nothing = View::new(&[], 0, 0);
        row_lengths(weight, nothing, nothing, 0.0)
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
        let changed = adapter.table(Table::EmbedTokens);
        let call = Call {
            host: self.clone(),
            batch: Arc::new(batch.clone()),
            layout: Arc::new(AdapterLayout::of(adapter)),
            tracks_embeddings: changed.is_some_and(|table| table.is_tracked()),
            dropout: *dropout,
            observer,
        };
        let (table, config) = (&self.decoder.embed_tokens, &self.decoder.config);
        let embeddings = embeddings(table, config, batch, draw, &burn::tensor::Device::flex());
        let shape = [batch.asked.len(), self.decoder.config.hidden_size];
        let has_penalty = call.layout.has_penalty();
        let outputs: Tensor<1> = match AdapterLayout::flatten(adapter, embeddings) {
            Some(flat) => {
                let flat = flat.into_dispatch();
                Tensor::from_dispatch(<Dispatch as DecoderPass>::decoder_pass(flat, call))
            }
            None => Tensor::from_data(call.forward(&[], false).0, &burn::tensor::Device::flex()),
        };
        split_outputs(outputs, shape, has_penalty)
    }
}

impl Call {
    /// Runs `work` with the data shared by all layers, on a rayon thread: called from any other
    /// thread, each of the hundreds of parallel regions of a pass would put that thread to sleep
    /// and wake it again.
    fn with_pass<R: Send>(
        &self,
        given: Given<'_>,
        between: Between<'_>,
        d_penalty: f32,
        work: impl FnOnce(&Pass<'_>) -> R + Send,
    ) -> R {
        let ropes = self.host.decoder.config.ropes().0.into_iter();
        let rotary: Vec<_> = ropes
            .map(|(rope, width)| RotaryTable::new(rope, width, &self.batch))
            .collect();
        let keys = self.keys();
        let runs = Runs::of(&self.batch, given.cache.is_some());
        // Where tokens attend to earlier passes they do so one by one.
        let tiles = match given.cache.is_some_and(|cache| cache.has_past) {
            true => [Vec::new(), Vec::new()],
            false => [tiles(&self.batch), asked_tiles(&self.batch)],
        };
        let pass = Pass {
            config: &self.host.decoder.config,
            pool: &self.host.pool,
            batch: &self.batch,
            rotary: &rotary,
            runs: &runs,
            draws: given.draws,
            layout: &self.layout,
            dropout: self.dropout,
            observer: self.observer.as_deref(),
            tiles: [&tiles[0], &tiles[1]],
            keys: &keys,
            key_values: between.key_values,
            inputs: between.inputs,
            cache: given.cache,
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
            index: Some(index),
            last: index + 1 == layers.len(),
            is_shared: self.host.is_shared[index],
        }
    }

    /// What stands outside the layers.
    fn outside<'a>(&'a self, pass: &'a Pass<'a>) -> LayerPass<'a> {
        let decoder = &self.host.decoder;
        LayerPass {
            pass,
            weights: &decoder.outside,
            kind: &decoder.config.layers[0],
            rope: None,
            index: None,
            last: false,
            is_shared: false,
        }
    }

    /// The first layer that needs a gradient.
    fn first_layer(&self) -> Option<usize> {
        match self.tracks_embeddings {
            true => Some(0),
            false => self.layout.first_layer(),
        }
    }

    /// The outputs of the operation, and what the backward pass needs if `kept`. `flat` has the
    /// adapter, and the embeddings if the adapter changes them.
    fn forward(&self, flat: &[f32], kept: bool) -> (TensorData, Option<Tapes>) {
        let (adapter, changed) = flat.split_at(self.layout.len().min(flat.len()));
        let draws = [self.all_tokens(adapter)];
        let given = Given {
            draws: &draws,
            changed,
            cache: None,
        };
        let (outputs, tapes) = self.run(given, kept);
        let len = outputs.len();
        (TensorData::new(outputs, [len]), tapes)
    }

    /// All tokens under one adapter.
    fn all_tokens<'a>(&self, adapter: &'a [f32]) -> DrawTokens<'a> {
        DrawTokens {
            adapter,
            tokens: 0..self.batch.len(),
        }
    }

    /// The hidden states at the requested tokens, followed by the penalty if there is one, and what
    /// the backward pass needs if `kept`.
    pub(super) fn run(&self, given: Given<'_>, kept: bool) -> (Vec<f32>, Option<Tapes>) {
        let key_values = SharedKeyValues::default();
        let (x, inputs) = self.embed(given);
        let between = Between {
            key_values: &key_values,
            inputs: inputs.as_ref().map(|inputs| &inputs.0),
        };
        let (outputs, run) = self.with_pass(given, between, 0.0, |pass| {
            let (last, layers) = self.run_layers(pass, x, kept);
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
            (outputs, (last, inverse, layers))
        });
        let (last, inverse, layers) = run;
        let adapter = given.draws.first().map(|draw| draw.adapter);
        let tapes = kept.then(|| Tapes {
            layers,
            inputs,
            key_values: key_values.into_values(),
            last,
            inverse,
            inputs_len: adapter.map_or(0, <[f32]>::len) + given.changed.len(),
            adapter: adapter.unwrap_or_default().to_vec(),
        });
        (outputs, tapes)
    }

    /// The embeddings `[N, H]`, those that are changed or else the base's, and the inputs that the
    /// layers have of their own.
    fn embed(&self, given: Given<'_>) -> (Buffer, Option<Inputs>) {
        let decoder = &self.host.decoder;
        let hidden = decoder.config.hidden_size;
        let mut x = self.host.pool.take(self.batch.len() * hidden);
        if given.changed.is_empty() {
            self.look_up(&mut x);
        } else {
            x.copy_from_slice(given.changed);
        }
        let inputs = decoder.per_layer_inputs.as_ref().map(|tables| {
            let between = Between {
                key_values: &SharedKeyValues::default(),
                inputs: None,
            };
            self.with_pass(given, between, 0.0, |pass| {
                self.outside(pass).layer_inputs(tables, &x)
            })
        });
        (x, inputs)
    }

    /// Writes the base's embeddings to `x` `[N, H]`.
    fn look_up(&self, x: &mut [f32]) {
        let decoder = &self.host.decoder;
        let rows = x.chunks_exact_mut(decoder.config.hidden_size);
        for (row, &token) in rows.zip(&self.batch.tokens) {
            decoder.embed_tokens.row(token as usize, row);
        }
        let multiplier = decoder.config.ends.embedding_multiplier;
        if multiplier != 1.0 {
            kernel::scale(x, multiplier);
        }
    }

    /// The output of the last layer at the requested tokens, `[S, H]`, and, if `kept`, what the
    /// layers from the first adapted one on keep for their backward pass.
    fn run_layers(&self, pass: &Pass<'_>, mut x: Buffer, kept: bool) -> (Buffer, Vec<LayerTape>) {
        let (decoder, pool) = (&self.host.decoder, &self.host.pool);
        let first = self.first_layer().unwrap_or(usize::MAX);
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

    /// Writes the gradient of the adapter in the layers from that of the last one's output; returns
    /// that of the embeddings if it is needed.
    fn layers_backward(
        &self,
        pass: &Pass<'_>,
        mut d: Buffer,
        layers: Vec<LayerTape>,
        gradient: &mut [f32],
    ) -> Option<Buffer> {
        let first = self.first_layer()?;
        let each = (first..self.host.decoder.layers.len()).zip(layers);
        for (index, tape) in each.rev() {
            let layer = self.layer(pass, index);
            let tape = tape.completed(&layer);
            let wants_dx = index > first || self.tracks_embeddings;
            d = layer.backward(d, tape, gradient, wants_dx)?;
        }
        self.tracks_embeddings.then_some(d)
    }

    /// The gradient of the operation's input from that of the outputs.
    fn backward(&self, d_outputs: &[f32], tapes: Tapes) -> Vec<f32> {
        let decoder = &self.host.decoder;
        let mut gradient = vec![0.0; tapes.inputs_len];
        if self.first_layer().is_none() {
            return gradient;
        }
        let Tapes {
            layers,
            inputs,
            key_values,
            last,
            inverse,
            adapter,
            ..
        } = tapes;
        let (d_states, d_penalty) = d_outputs.split_at(last.len());
        let d_penalty = d_penalty.first().copied().unwrap_or(0.0);
        let key_values = SharedKeyValues::again(key_values);
        let draws = [self.all_tokens(&adapter)];
        let given = Given {
            draws: &draws,
            changed: &[],
            cache: None,
        };
        let between = Between {
            key_values: &key_values,
            inputs: inputs.as_ref().map(|inputs| &inputs.0),
        };
        self.with_pass(given, between, d_penalty, |pass| {
            let mut d = self.host.pool.take(last.len());
            kernel::rms_norm_backward(d_states, &last, &decoder.norm, &inverse, &mut d, false);
            let mut dx = self.layers_backward(pass, d, layers, &mut gradient);
            if let (Some(tables), Some((inputs, tape))) = (&decoder.per_layer_inputs, &inputs) {
                let (outside, given) = (self.outside(pass), (inputs, tape));
                outside.layer_inputs_backward(tables, given, dx.as_deref_mut(), &mut gradient);
            }
            if let Some(dx) = dx {
                gradient[self.layout.len()..].copy_from_slice(&dx);
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
            output: None,
            penalty: None,
        };
    }
    let count = shape[0] * shape[1];
    Hidden {
        states: outputs.clone().narrow(0, 0, count).reshape(shape),
        output: None,
        penalty: Some(outputs.narrow(0, count, 1)),
    }
}

/// The decoder as a backend operation. Input: the adapter `[P]`, followed by the embeddings `[N · H]`
/// if the adapter changes them; output: the hidden states after
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
