//! The frozen decoder: every weight of the checkpoint, with the checkpoint's names.

use super::checkpoint::Checkpoint;
use super::config::DecoderConfig;
use super::error::ModelError;
use super::layer_kind::LayerKind;
use super::layer_vector::LayerVector;
use super::matrix::FrozenMatrix;
use super::projection::{LinearShape, Projection};

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
        let config = checkpoint.config();
        let loader = Loader {
            checkpoint,
            precision,
        };
        let lm_head = (!config.tie_word_embeddings).then_some("lm_head.weight");
        let shape = [config.vocab_size, config.hidden_size];
        Ok(Self {
            config: config.clone(),
            embed_tokens: loader.table(&config.embedding(), shape)?,
            outside: loader.outside()?,
            per_layer_inputs: loader.per_layer_inputs()?,
            layers: (0..config.num_hidden_layers)
                .map(|index| loader.layer(index))
                .collect::<Result<_, ModelError>>()?,
            norm: loader.norm(&config.outside_name("norm.weight"), config.hidden_size)?,
            lm_head: lm_head.map(|name| loader.table(name, shape)).transpose()?,
        })
    }

    /// A decoder of this shape from the numbers that `values` returns for the name and the shape of
    /// each tensor, norms as they are multiplied; for measurements.
    pub fn from_values(
        config: &DecoderConfig,
        values: impl Fn(&str, &[usize]) -> Vec<f32>,
    ) -> Self {
        let matrix = |name: &str, shape: [usize; 2]| {
            FrozenMatrix::new(shape[0], shape[1], values(name, &shape))
        };
        let linear = |layer, shape: &LinearShape| {
            let path = config.linear_path(layer, shape.projection);
            let bias = || values(&path.tensor("bias"), &shape.shape[..1]);
            Linear {
                weight: matrix(&path.tensor("weight"), shape.shape),
                bias: shape.has_bias.then(bias),
            }
        };
        let table = [config.vocab_size, config.hidden_size];
        let mut outside = DecoderLayer::empty();
        for shape in config.linears_outside() {
            *outside.linear_mut(shape.projection) = linear(None, &shape);
        }
        let layer = |(index, kind): (usize, &LayerKind)| {
            let mut layer = DecoderLayer::empty();
            for shape in kind.linears(config.hidden_size) {
                *layer.linear_mut(shape.projection) = linear(Some(index), &shape);
            }
            for (vector, shape) in kind.vectors(config.hidden_size) {
                let name = config.vector_name(index, vector);
                layer.vectors[vector as usize] = values(&name, &shape);
            }
            layer
        };
        let inputs = config
            .per_layer_input()
            .zip(config.ends.vocab_size_per_layer_input);
        let inputs = inputs.map(|(width, rows)| {
            let table = config.outside_name("embed_tokens_per_layer.weight");
            let norm = config.outside_name("per_layer_projection_norm.weight");
            PerLayerInputs {
                embed_tokens_per_layer: matrix(&table, [rows, width * config.layers.len()]),
                per_layer_projection_norm: values(&norm, &[width]),
            }
        });
        Self {
            config: config.clone(),
            embed_tokens: matrix(&config.embedding(), table),
            outside,
            per_layer_inputs: inputs,
            layers: config.layers.iter().enumerate().map(layer).collect(),
            norm: values(&config.outside_name("norm.weight"), &table[1..]),
            lm_head: (!config.tie_word_embeddings).then(|| matrix("lm_head.weight", table)),
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

/// Reads tensors of a checkpoint by name, and releases the memory of each after it is read.
struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    precision: BasePrecision,
}

impl Loader<'_> {
    fn matrix(
        &self,
        name: &str,
        shape: [usize; 2],
        precision: BasePrecision,
    ) -> Result<FrozenMatrix, ModelError> {
        let stored = self.checkpoint.tensor_of(name, &shape)?;
        let matrix = match precision {
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
        Ok(matrix)
    }

    fn vector(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor_of(name, shape)?.to_f32())
    }

    /// The weight of a norm, as it is multiplied.
    fn norm(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let mut weight = self.vector(name, &[len])?;
        if self.checkpoint.config().family().norms_add_one {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        Ok(weight)
    }

    /// A table over the vocabulary, of which only the rows that are looked up come into memory.
    fn table(&self, name: &str, shape: [usize; 2]) -> Result<FrozenMatrix, ModelError> {
        Ok(FrozenMatrix::mapped(
            &self.checkpoint.tensor_of(name, &shape)?,
        ))
    }

    fn per_layer_inputs(&self) -> Result<Option<PerLayerInputs>, ModelError> {
        let config = self.checkpoint.config();
        let (Some(width), Some(rows)) = (
            config.per_layer_input(),
            config.ends.vocab_size_per_layer_input,
        ) else {
            return Ok(None);
        };
        let table = config.outside_name("embed_tokens_per_layer.weight");
        let all = width * config.layers.len();
        Ok(Some(PerLayerInputs {
            embed_tokens_per_layer: self.table(&table, [rows, all])?,
            per_layer_projection_norm: self.norm(
                &config.outside_name("per_layer_projection_norm.weight"),
                width,
            )?,
        }))
    }

    fn outside(&self) -> Result<DecoderLayer, ModelError> {
        let mut layer = DecoderLayer::empty();
        for shape in self.checkpoint.config().linears_outside() {
            *layer.linear_mut(shape.projection) = self.linear(None, &shape)?;
        }
        Ok(layer)
    }

    fn layer(&self, index: usize) -> Result<DecoderLayer, ModelError> {
        let config = self.checkpoint.config();
        let (kind, hidden) = (&config.layers[index], config.hidden_size);
        let mut layer = DecoderLayer::empty();
        for shape in kind.linears(hidden) {
            *layer.linear_mut(shape.projection) = self.linear(Some(index), &shape)?;
        }
        for (vector, shape) in kind.vectors(hidden) {
            let name = config.vector_name(index, vector);
            layer.vectors[vector as usize] = match vector.is_norm_around_one() {
                true => self.norm(&name, shape[0])?,
                false => self.vector(&name, &shape)?,
            };
        }
        Ok(layer)
    }

    fn linear(&self, layer: Option<usize>, shape: &LinearShape) -> Result<Linear, ModelError> {
        let path = self
            .checkpoint
            .config()
            .linear_path(layer, shape.projection);
        let weight = self.matrix(&path.tensor("weight"), shape.shape, self.precision)?;
        let bias = shape
            .has_bias
            .then(|| self.vector(&path.tensor("bias"), &shape.shape[..1]));
        Ok(Linear {
            weight,
            bias: bias.transpose()?,
        })
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
