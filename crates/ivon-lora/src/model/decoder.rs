//! The frozen decoder: every weight of the checkpoint, in the words of the checkpoint.

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

/// One layer: attention, then the gated layer, each behind a norm.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// Weight of the norm before attention, `[H]`.
    pub input_layernorm: Vec<f32>,
    /// Weight of the norm before the gated layer, `[H]`.
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
    /// The embedding table `[V, H]`, kept in the checkpoint's encoding: only looked-up rows are
    /// widened.
    pub embed_tokens: FrozenMatrix,
    /// The layers.
    pub layers: Vec<DecoderLayer>,
    /// Weight of the last norm, `[H]`.
    pub norm: Vec<f32>,
    /// The output table `[V, H]`; none where it is the embedding table.
    pub lm_head: Option<FrozenMatrix>,
}

/// How the weights of the linear layers are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasePrecision {
    /// Widened to f32: fastest on a CPU.
    #[default]
    F32,
    /// Rounded to bf16: half the memory of f32, whatever the checkpoint holds.
    Bf16,
    /// As they lie in the checkpoint, GGUF blocks included: smallest.
    AsIs,
}

impl Decoder {
    /// Reads a checkpoint tensor by tensor; each tensor's pages are given back once it is read.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape or cannot be decoded.
    pub fn load(checkpoint: &Checkpoint, precision: BasePrecision) -> Result<Self, ModelError> {
        let config = checkpoint.config();
        let hidden = config.hidden_size;
        let read = |name: &str, shape: &[usize], precision: BasePrecision| {
            let stored = checkpoint.tensor_of(name, shape)?;
            let matrix = match precision {
                BasePrecision::F32 => FrozenMatrix::widened(&stored),
                BasePrecision::Bf16 => FrozenMatrix::rounded(&stored),
                BasePrecision::AsIs => FrozenMatrix::kept(&stored),
            };
            checkpoint.release(&stored);
            Ok::<_, ModelError>(matrix)
        };
        let vector = |name: &str, len: usize| {
            Ok::<_, ModelError>(checkpoint.tensor_of(name, &[len])?.to_f32())
        };
        let table = |name: &str| read(name, &[config.vocab_size, hidden], BasePrecision::AsIs);
        let linear = |prefix: &str, projection: Projection| {
            let [outputs, inputs] = projection.shape(config);
            let path = format!("{prefix}.{}", projection.path());
            let weight = read(&format!("{path}.weight"), &[outputs, inputs], precision)?;
            let biased = config.attention_bias
                && matches!(projection, Projection::Q | Projection::K | Projection::V);
            let bias = biased
                .then(|| vector(&format!("{path}.bias"), outputs))
                .transpose()?;
            Ok::<_, ModelError>(Linear { weight, bias })
        };
        let layer = |index: usize| {
            let prefix = format!("model.layers.{index}");
            let head_norm = |name: &str| {
                config
                    .qk_norm
                    .then(|| {
                        vector(
                            &format!("{prefix}.self_attn.{name}.weight"),
                            config.head_dim,
                        )
                    })
                    .transpose()
            };
            let mut linears = Vec::with_capacity(7);
            for projection in Projection::ALL {
                linears.push(linear(&prefix, projection)?);
            }
            Ok(DecoderLayer {
                input_layernorm: vector(&format!("{prefix}.input_layernorm.weight"), hidden)?,
                post_attention_layernorm: vector(
                    &format!("{prefix}.post_attention_layernorm.weight"),
                    hidden,
                )?,
                q_norm: head_norm("q_norm")?,
                k_norm: head_norm("k_norm")?,
                linears: linears
                    .try_into()
                    .unwrap_or_else(|_| unreachable!("seven projections were pushed")),
            })
        };
        Ok(Self {
            config: config.clone(),
            embed_tokens: table("model.embed_tokens.weight")?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_, ModelError>>()?,
            norm: vector("model.norm.weight", hidden)?,
            lm_head: if config.tie_word_embeddings {
                None
            } else {
                Some(table("lm_head.weight")?)
            },
        })
    }

    /// The output table `[V, H]`.
    pub fn output(&self) -> &FrozenMatrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Bytes of all weights in memory.
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
