//! The frozen decoder: every weight of the checkpoint, with the checkpoint's names.

use super::checkpoint::Checkpoint;
use super::config::DecoderConfig;
use super::error::ModelError;
use super::matrix::FrozenMatrix;
use super::projection::Projection;

/// A frozen linear layer y = W x + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// W, `[out, in]`.
    pub weight: FrozenMatrix,
    /// b, `[out]`.
    pub bias: Option<Vec<f32>>,
}

/// One layer: attention, then the gated MLP, each after a norm.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// Weight of the norm before attention, `[H]`.
    pub input_layernorm: Vec<f32>,
    /// Weight of the norm before the MLP, `[H]`.
    pub post_attention_layernorm: Vec<f32>,
    /// Weight of the norm of each query head, `[head_dim]` (Qwen3).
    pub q_norm: Option<Vec<f32>>,
    /// Weight of the norm of each key head, `[head_dim]` (Qwen3).
    pub k_norm: Option<Vec<f32>>,
    /// The seven linear layers, in the order of [`Projection::ALL`].
    pub linears: [Linear; 7],
}

impl DecoderLayer {
    /// The linear layer of a projection.
    pub fn linear(&self, projection: Projection) -> &Linear {
        &self.linears[projection as usize]
    }
}

/// A decoder-only language model, frozen.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Its shape.
    pub config: DecoderConfig,
    /// The embedding table `[V, H]`, kept in the checkpoint's encoding: only the rows that are
    /// looked up are converted to f32.
    pub embed_tokens: FrozenMatrix,
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
        Ok(Self {
            config: config.clone(),
            embed_tokens: loader.table("model.embed_tokens.weight")?,
            layers: (0..config.num_hidden_layers)
                .map(|index| loader.layer(index))
                .collect::<Result<_, ModelError>>()?,
            norm: loader.vector("model.norm.weight", config.hidden_size)?,
            lm_head: lm_head.map(|name| loader.table(name)).transpose()?,
        })
    }

    /// The output table `[V, H]`.
    pub fn output(&self) -> &FrozenMatrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// The size of all weights in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let linears = self
            .layers
            .iter()
            .flat_map(|layer| &layer.linears)
            .map(|linear| linear.weight.bytes())
            .sum::<usize>();
        linears + self.embed_tokens.bytes() + self.lm_head.as_ref().map_or(0, FrozenMatrix::bytes)
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

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.tensor_of(name, &[len])?.to_f32())
    }

    /// A table over the vocabulary, in the checkpoint's encoding.
    fn table(&self, name: &str) -> Result<FrozenMatrix, ModelError> {
        let config = self.checkpoint.config();
        let shape = [config.vocab_size, config.hidden_size];
        self.matrix(name, shape, BasePrecision::AsIs)
    }

    fn layer(&self, index: usize) -> Result<DecoderLayer, ModelError> {
        let hidden = self.checkpoint.config().hidden_size;
        let prefix = format!("model.layers.{index}");
        let norm = |name: &str| self.vector(&format!("{prefix}.{name}.weight"), hidden);
        let [q, k, v, o, gate, up, down] =
            Projection::ALL.map(|projection| self.linear(&prefix, projection));
        Ok(DecoderLayer {
            linears: [q?, k?, v?, o?, gate?, up?, down?],
            input_layernorm: norm("input_layernorm")?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            q_norm: self.head_norm(&prefix, "q_norm")?,
            k_norm: self.head_norm(&prefix, "k_norm")?,
        })
    }

    fn linear(&self, prefix: &str, projection: Projection) -> Result<Linear, ModelError> {
        let config = self.checkpoint.config();
        let shape = projection.shape(config);
        let path = format!("{prefix}.{}", projection.path());
        let weight = self.matrix(&format!("{path}.weight"), shape, self.precision)?;
        let has_bias = config.attention_bias
            && matches!(projection, Projection::Q | Projection::K | Projection::V);
        let bias = has_bias.then(|| self.vector(&format!("{path}.bias"), shape[0]));
        Ok(Linear {
            weight,
            bias: bias.transpose()?,
        })
    }

    /// The norm of each head of queries or keys, if the family has one.
    fn head_norm(&self, prefix: &str, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let config = self.checkpoint.config();
        let name = format!("{prefix}.self_attn.{name}.weight");
        let norm = config.qk_norm.then(|| self.vector(&name, config.head_dim));
        norm.transpose()
    }
}
