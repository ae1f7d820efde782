//! The frozen decoder: every weight of the checkpoint, with the checkpoint's names.

use std::convert::Infallible;

use super::checkpoint::Checkpoint;
use super::compute::Compute;
use super::config::DecoderConfig;
use super::error::ModelError;
use super::layer_vector::LayerVector;
use super::matrix::FrozenMatrix;
use super::projection::{LinearShape, Projection};
use super::tensor::StoredTensor;

/// A frozen linear layer y = W x + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// W, `[out, in]`.
    pub weight: FrozenMatrix,
    /// b, `[out]`.
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// A layer that is not there: 0 × 0.
    fn absent() -> Self {
        Self {
            weight: FrozenMatrix::new(0, 0, Vec::new()),
            bias: None,
        }
    }
}

/// The weights of one layer, of the parts that its kind has.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// In the order of [`Projection::ALL`]; 0 × 0 where there is none.
    linears: Vec<Linear>,
    /// In the order of [`LayerVector::ALL`]; empty where there is none.
    vectors: Vec<Vec<f32>>,
}

impl DecoderLayer {
    fn empty() -> Self {
        Self {
            linears: vec![Linear::absent(); Projection::ALL.len()],
            vectors: vec![Vec::new(); LayerVector::ALL.len()],
        }
    }

    /// The linear layer of a projection; 0 × 0 if the layer's kind has none.
    pub fn linear(&self, projection: Projection) -> &Linear {
        &self.linears[projection as usize]
    }

    /// The same, to be changed.
    pub fn linear_mut(&mut self, projection: Projection) -> &mut Linear {
        &mut self.linears[projection as usize]
    }

    /// A weight that is not a linear layer, as it is multiplied; empty if the layer's kind has
    /// none.
    pub fn vector(&self, vector: LayerVector) -> &[f32] {
        &self.vectors[vector as usize]
    }

    /// The linear layers that it has, with their roles.
    pub fn linears(&self) -> impl Iterator<Item = (Projection, &Linear)> {
        let all = Projection::ALL.into_iter().zip(&self.linears);
        all.filter(|(_, linear)| linear.weight.rows() > 0)
    }

    /// The size of its linear layers, in bytes.
    fn bytes(&self) -> usize {
        let sizes = self.linears.iter().map(|linear| linear.weight.bytes());
        sizes.sum()
    }
}

/// The weights from which each layer's own input is computed (Gemma 4).
#[derive(Clone, Debug)]
pub struct PerLayerInputs {
    /// The table `[V, layers · width]`, in the checkpoint's encoding.
    pub embed_tokens_per_layer: FrozenMatrix,
    /// The norm of each layer's part, `[width]`.
    pub per_layer_projection_norm: Vec<f32>,
}

/// A decoder-only language model, frozen.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Its shape.
    pub config: DecoderConfig,
    /// The embedding table `[V, H]`, which stays in the checkpoint's file: only the rows that are
    /// looked up are read.
    pub embed_tokens: FrozenMatrix,
    /// The linear layers outside the layers.
    pub outside: DecoderLayer,
    /// The tables of the layers' own inputs, if they have any.
    pub per_layer_inputs: Option<PerLayerInputs>,
    /// The layers.
    pub layers: Vec<DecoderLayer>,
    /// Weight of the last norm, `[H]`.
    pub norm: Vec<f32>,
    /// The output table `[V, H]`; none if it is the embedding table.
    pub lm_head: Option<FrozenMatrix>,
}

/// How the weights of the linear layers are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasePrecision {
    /// In f32: fastest on a CPU.
    #[default]
    F32,
    /// In bf16: half the memory of f32, whatever the checkpoint's encoding.
    Bf16,
    /// In the checkpoint's encoding, including GGUF blocks.
    AsIs,
    /// Rounded to blocks of Q8_0, whatever the checkpoint holds: 34 bytes for 32 weights.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl Decoder {
    /// Reads a checkpoint tensor by tensor, and releases the memory of each after it is read.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape or cannot be decoded.
    pub fn load(checkpoint: &Checkpoint, precision: BasePrecision) -> Result<Self, ModelError> {
        Self::load_for(checkpoint, precision, Compute::F32)
    }

    /// [`Self::load`] for products with the linear layers in these numbers. In 8-bit integers,
    /// floating-point weights are kept in blocks of Q8_0, and in bf16 where rows are no whole number
    /// of blocks.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_for(
        checkpoint: &Checkpoint,
        precision: BasePrecision,
        compute: Compute,
    ) -> Result<Self, ModelError> {
        let stored = Stored {
            checkpoint,
            precision,
            compute,
        };
        compose(checkpoint.config(), &stored)
    }

    /// A decoder of this shape from the numbers that `values` returns for the name and the shape of
    /// each tensor, norms as they are multiplied; for measurements.
    pub fn from_values(
        config: &DecoderConfig,
        values: impl Fn(&str, &[usize]) -> Vec<f32>,
    ) -> Self {
        match compose(config, &Given(values)) {
            Ok(decoder) => decoder,
            Err(never) => match never {},
        }
    }

    /// The output table `[V, H]`.
    pub fn output(&self) -> &FrozenMatrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// The size of all weights in bytes, those of the tables in their file.
    pub fn bytes(&self) -> usize {
        let inputs = self.per_layer_inputs.as_ref();
        let inputs = inputs.map_or(0, |inputs| inputs.embed_tokens_per_layer.bytes());
        let layers = self.layers.iter().chain([&self.outside]);
        let layers = layers.map(DecoderLayer::bytes).sum::<usize>();
        let head = self.lm_head.as_ref().map_or(0, FrozenMatrix::bytes);
        layers + inputs + self.embed_tokens.bytes() + head
    }
}

/// Where the weights of a decoder come from, by the names of their tensors.
trait Source {
    /// What can fail.
    type Error;

    /// The weight of a linear layer.
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, Self::Error>;

    /// A table over the vocabulary.
    fn table(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, Self::Error>;

    /// Another tensor.
    fn vector(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Self::Error>;

    /// The weight of a norm, as it is multiplied.
    fn norm(&self, name: &str, len: usize) -> Result<Vec<f32>, Self::Error>;
}

/// A decoder of this shape, part by part as its configuration composes it.
fn compose<S: Source>(config: &DecoderConfig, source: &S) -> Result<Decoder, S::Error> {
    let hidden = config.hidden_size;
    let shape = [config.vocab_size, hidden];
    let mut outside = DecoderLayer::empty();
    for shape in config.linears_outside() {
        *outside.linear_mut(shape.projection) = linear(config, source, None, &shape)?;
    }
    let inputs = config.ends.vocab_size_per_layer_input;
    let inputs = config.per_layer_input().zip(inputs);
    let inputs = inputs.map(|(width, rows)| per_layer_inputs(config, source, [width, rows]));
    let layers = 0..config.layers.len();
    let lm_head = (!config.tie_word_embeddings).then_some("lm_head.weight");
    Ok(Decoder {
        config: config.clone(),
        embed_tokens: source.table(&config.embedding(), shape)?,
        outside,
        per_layer_inputs: inputs.transpose()?,
        layers: layers
            .map(|index| layer(config, source, index))
            .collect::<Result<_, _>>()?,
        norm: source.norm(&config.outside_name("norm.weight"), hidden)?,
        lm_head: lm_head.map(|name| source.table(name, shape)).transpose()?,
    })
}

fn per_layer_inputs<S: Source>(
    config: &DecoderConfig,
    source: &S,
    [width, rows]: [usize; 2],
) -> Result<PerLayerInputs, S::Error> {
    let table = config.outside_name("embed_tokens_per_layer.weight");
    let norm = config.outside_name("per_layer_projection_norm.weight");
    let all = width * config.layers.len();
    Ok(PerLayerInputs {
        embed_tokens_per_layer: source.table(&table, [rows, all])?,
        per_layer_projection_norm: source.norm(&norm, width)?,
    })
}

fn layer<S: Source>(
    config: &DecoderConfig,
    source: &S,
    index: usize,
) -> Result<DecoderLayer, S::Error> {
    let (kind, hidden) = (&config.layers[index], config.hidden_size);
    let mut layer = DecoderLayer::empty();
    for shape in kind.linears(hidden) {
        *layer.linear_mut(shape.projection) = linear(config, source, Some(index), &shape)?;
    }
    for (vector, shape) in kind.vectors(hidden) {
        let name = config.vector_name(index, vector);
        layer.vectors[vector as usize] = match vector.is_norm_around_one() {
            true => source.norm(&name, shape[0])?,
            false => source.vector(&name, &shape)?,
        };
    }
    Ok(layer)
}

fn linear<S: Source>(
    config: &DecoderConfig,
    source: &S,
    layer: Option<usize>,
    shape: &LinearShape,
) -> Result<Linear, S::Error> {
    let path = config.linear_path(layer, shape.projection);
    let bias = || source.vector(&path.tensor("bias"), &shape.shape[..1]);
    Ok(Linear {
        weight: source.matrix(&path.tensor("weight"), shape.shape)?,
        bias: shape.has_bias.then(bias).transpose()?,
    })
}

/// The tensors of a checkpoint; the memory of each is released after it is read.
struct Stored<'a> {
    checkpoint: &'a Checkpoint,
    precision: BasePrecision,
    compute: Compute,
}

impl Stored<'_> {
    /// Whether a weight would be kept in floating-point numbers.
    fn is_float(&self, stored: &StoredTensor<'_>) -> bool {
        match self.precision {
            BasePrecision::F32 | BasePrecision::Bf16 => true,
            BasePrecision::AsIs => stored.encoding.block().0 == 1,
            BasePrecision::Q8_0 => false,
        }
    }
}

impl Source for Stored<'_> {
    type Error = ModelError;

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, ModelError> {
        let stored = self.checkpoint.tensor_of(name, &shape)?;
        let matrix = match self.precision {
            _ if self.compute == Compute::Int8 && self.is_float(&stored) => {
                FrozenMatrix::in_blocks(&stored).unwrap_or_else(|| FrozenMatrix::rounded(&stored))
            }
            BasePrecision::F32 => FrozenMatrix::widened(&stored),
            BasePrecision::Bf16 => FrozenMatrix::rounded(&stored),
            BasePrecision::AsIs => FrozenMatrix::kept(&stored),
            BasePrecision::Q8_0 => {
                FrozenMatrix::in_blocks(&stored).ok_or_else(|| ModelError::NotInBlocks {
                    name: stored.name.clone(),
                    columns: shape[1],
                })?
            }
        };
        self.checkpoint.release(&stored);
        Ok(matrix.computed_in(self.compute))
    }

    /// Only the rows that are looked up come into memory.
    fn table(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, ModelError> {
        let stored = self.checkpoint.tensor_of(name, &shape)?;
        Ok(FrozenMatrix::mapped(&stored))
    }

    fn vector(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor_of(name, shape)?.to_f32())
    }

    fn norm(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let mut weight = self.vector(name, &[len])?;
        if self.checkpoint.config().family().norms_add_one {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        Ok(weight)
    }
}

/// Numbers by name and shape.
struct Given<F>(F);

impl<F: Fn(&str, &[usize]) -> Vec<f32>> Source for Given<F> {
    type Error = Infallible;

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, Infallible> {
        let values = (self.0)(name, &shape);
        Ok(FrozenMatrix::new(shape[0], shape[1], values))
    }

    fn table(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, Infallible> {
        self.matrix(name, shape)
    }

    fn vector(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Infallible> {
        Ok((self.0)(name, shape))
    }

    fn norm(&self, name: &str, len: usize) -> Result<Vec<f32>, Infallible> {
        self.vector(name, &[len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;

    #[test]
    fn the_numbers_of_a_checkpoint_make_the_decoder_that_is_loaded_from_it() {
        for family in ["llama", "qwen2", "gemma4", "lfm2"] {
            let folder = golden().join("tiny").join(family);
            let checkpoint = Checkpoint::open(&folder.display().to_string()).unwrap();
            let loaded = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
            let made = Decoder::from_values(checkpoint.config(), |name, shape| {
                checkpoint.tensor_of(name, shape).unwrap().to_f32()
            });
            let rows = |matrix: &FrozenMatrix| {
                let all: Vec<u32> = (0..matrix.rows() as u32).collect();
                matrix.gather(&all)
            };
            assert_eq!(rows(loaded.output()), rows(made.output()));
            assert_eq!((&loaded.norm, loaded.bytes()), (&made.norm, made.bytes()));
            for (loaded, made) in loaded.layers.iter().zip(&made.layers) {
                assert_eq!(loaded.vectors, made.vectors, "{family}");
                for ((_, loaded), (_, made)) in loaded.linears().zip(made.linears()) {
                    assert_eq!(rows(&loaded.weight), rows(&made.weight));
                    assert_eq!(loaded.bias, made.bias);
                }
            }
        }
    }
}
