//! A Llama-shaped decoder whose weights can all be trained, in plain Burn operations. Its
//! parameters have the names and shapes of the checkpoint that is written; all sequences of a batch
//! have the same length.

use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, silu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use ivon_lora::model::DecoderConfig;
use ivon_lora::random::{Purpose, stream, uniform};

/// The decoder; its output layer is its embedding table.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[V, H]`.
    pub embed_tokens: Param<Tensor<2>>,
    pub layers: Vec<Layer>,
    /// `[H]`.
    pub norm: Param<Tensor<1>>,
}

/// A decoder layer; matrices are `[out, in]`.
#[derive(Module, Debug)]
pub struct Layer {
    pub input_layernorm: Param<Tensor<1>>,
    pub q_proj: Param<Tensor<2>>,
    pub k_proj: Param<Tensor<2>>,
    pub v_proj: Param<Tensor<2>>,
    pub o_proj: Param<Tensor<2>>,
    pub post_attention_layernorm: Param<Tensor<1>>,
    pub gate_proj: Param<Tensor<2>>,
    pub up_proj: Param<Tensor<2>>,
    pub down_proj: Param<Tensor<2>>,
}

/// What all layers of a forward pass have in common.
struct Pass<'a> {
    config: &'a DecoderConfig,
    /// `[T, head_dim]`.
    cosine: Tensor<2>,
    sine: Tensor<2>,
    /// True where a query must not attend, `[T, T]`.
    later: Tensor<2, Bool>,
}

/// `rows · columns` normal numbers (Box–Muller), addressed by seed and path.
fn normals(seed: u64, path: &str, count: usize, deviation: f64) -> Vec<f32> {
    let mut random = stream(seed, Purpose::Initialisation, 0, 0, path);
    let mut normal = || {
        (-2.0 * (1.0 - uniform(&mut random)).ln()).sqrt()
            * (std::f64::consts::TAU * uniform(&mut random)).cos()
    };
    (0..count).map(|_| (deviation * normal()) as f32).collect()
}

/// A random matrix `[rows, columns]` of this standard deviation, addressed by seed and path.
fn matrix(
    seed: u64,
    path: &str,
    [rows, columns]: [usize; 2],
    deviation: f64,
    device: &Device,
) -> Param<Tensor<2>> {
    let values = normals(seed, path, rows * columns, deviation);
    Param::from_tensor(Tensor::<2>::from_data(
        TensorData::new(values, [rows, columns]),
        device,
    ))
}

fn ones(count: usize, device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::<1>::ones([count], device))
}

impl Layer {
    fn new(config: &DecoderConfig, index: usize, seed: u64, device: &Device) -> Self {
        let linear = |name: &str, shape: [usize; 2], gain: f64| {
            let deviation = gain / (shape[1] as f64).sqrt();
            matrix(seed, &format!("{index}.{name}"), shape, deviation, device)
        };
        let (hidden, wide) = (config.hidden_size, config.intermediate_size());
        let queries = config.heads()[0] * config.heads()[2];
        let keys = config.heads()[1] * config.heads()[2];
        let added = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        Self {
            input_layernorm: ones(hidden, device),
            q_proj: linear("q_proj", [queries, hidden], 1.0),
            k_proj: linear("k_proj", [keys, hidden], 1.0),
            v_proj: linear("v_proj", [keys, hidden], 1.0),
            o_proj: linear("o_proj", [hidden, queries], added),
            post_attention_layernorm: ones(hidden, device),
            gate_proj: linear("gate_proj", [wide, hidden], 1.0),
            up_proj: linear("up_proj", [wide, hidden], 1.0),
            down_proj: linear("down_proj", [hidden, wide], added),
        }
    }
}

impl Decoder {
    /// A decoder with weights of standard deviation 1/√in (0.05 for the embedding; projections into
    /// the residual stream are smaller by √(2 · layers), as in GPT-2).
    pub fn new(config: &DecoderConfig, seed: u64, device: &Device) -> Self {
        let table = [config.vocab_size, config.hidden_size];
        Self {
            embed_tokens: matrix(seed, "embed_tokens", table, 0.05, device),
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::new(config, index, seed, device))
                .collect(),
            norm: ones(config.hidden_size, device),
        }
    }

    /// Logits of the next token at every position: B sequences of T tokens → `[B · T, V]`.
    pub fn logits(&self, config: &DecoderConfig, tokens: &[Vec<u32>]) -> Tensor<2> {
        let device = self.norm.val().device().without_autodiff();
        let (count, length) = (tokens.len(), tokens[0].len());
        let ids: Vec<i64> = tokens
            .iter()
            .flatten()
            .map(|&token| i64::from(token))
            .collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count * length]), &device);
        let pass = Pass::new(config, length, &device);
        let mut x = self.embed_tokens.val().select(0, ids);
        for layer in &self.layers {
            x = layer.forward(&pass, x, count, length);
        }
        pass.norm(x, &self.norm)
            .matmul(self.embed_tokens.val().transpose())
    }

    /// Mean cross-entropy of the next tokens, nats; each row holds T + 1 tokens.
    pub fn loss(&self, config: &DecoderConfig, rows: &[Vec<u32>]) -> Tensor<1> {
        let inputs: Vec<Vec<u32>> = rows
            .iter()
            .map(|row| row[..row.len() - 1].to_vec())
            .collect();
        let logits = self.logits(config, &inputs);
        let targets: Vec<i64> = rows
            .iter()
            .flat_map(|row| row[1..].iter().map(|&token| i64::from(token)))
            .collect();
        let targets = Tensor::<2, Int>::from_data(
            TensorData::new(targets.clone(), [targets.len(), 1]),
            &logits.device().without_autodiff(),
        );
        log_softmax(logits, 1).gather(1, targets).mean().neg()
    }

    /// Every parameter under its name in the checkpoint: shape and numbers.
    pub fn named(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let read = |data: TensorData| {
            (
                data.shape().to_vec(),
                data.try_to_vec::<f32>().expect("f32 on the host"),
            )
        };
        let matrix = |name: String, parameter: &Param<Tensor<2>>| {
            let (shape, values) = read(parameter.val().into_data());
            (name, shape, values)
        };
        let vector = |name: String, parameter: &Param<Tensor<1>>| {
            let (shape, values) = read(parameter.val().into_data());
            (name, shape, values)
        };
        let mut all = vec![
            matrix("model.embed_tokens.weight".into(), &self.embed_tokens),
            vector("model.norm.weight".into(), &self.norm),
        ];
        for (index, layer) in self.layers.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            all.push(vector(name("input_layernorm"), &layer.input_layernorm));
            all.push(vector(
                name("post_attention_layernorm"),
                &layer.post_attention_layernorm,
            ));
            for (part, parameter) in [
                ("self_attn.q_proj", &layer.q_proj),
                ("self_attn.k_proj", &layer.k_proj),
                ("self_attn.v_proj", &layer.v_proj),
                ("self_attn.o_proj", &layer.o_proj),
                ("mlp.gate_proj", &layer.gate_proj),
                ("mlp.up_proj", &layer.up_proj),
                ("mlp.down_proj", &layer.down_proj),
            ] {
                all.push(matrix(name(part), parameter));
            }
        }
        all
    }
}

impl<'a> Pass<'a> {
    fn new(config: &'a DecoderConfig, length: usize, device: &Device) -> Self {
        let (rope, width) = config.ropes().0[0];
        let frequencies = rope.inverse_frequencies(width, length);
        let angles = (0..length).flat_map(|position| {
            let half = frequencies
                .iter()
                .map(move |frequency| f64::from(position as f32 * frequency));
            half.clone().chain(half)
        });
        let (cosine, sine): (Vec<f32>, Vec<f32>) = angles
            .map(|angle| (angle.cos() as f32, angle.sin() as f32))
            .unzip();
        let later: Vec<bool> = (0..length)
            .flat_map(|row| (0..length).map(move |column| column > row))
            .collect();
        let shape = [length, config.heads()[2]];
        Self {
            config,
            cosine: Tensor::from_data(TensorData::new(cosine, shape), device),
            sine: Tensor::from_data(TensorData::new(sine, shape), device),
            later: Tensor::from_data(TensorData::new(later, [length, length]), device),
        }
    }

    /// x · w / √(mean(x²) + ε), `[N, H]`.
    fn norm(&self, x: Tensor<2>, weight: &Param<Tensor<1>>) -> Tensor<2> {
        let inverse = (x.clone().square().mean_dim(1) + self.config.rms_norm_eps)
            .sqrt()
            .recip();
        x * inverse * weight.val().unsqueeze::<2>()
    }

    /// `[B · T, heads · width]` → `[B, heads, T, width]`, with rotary embedding if `turn`.
    fn heads(
        &self,
        x: Tensor<2>,
        [count, length]: [usize; 2],
        heads: usize,
        turn: bool,
    ) -> Tensor<4> {
        let width = self.config.heads()[2];
        let x = x.reshape([count, length, heads, width]).swap_dims(1, 2);
        if !turn {
            return x;
        }
        let half = width / 2;
        let turned = Tensor::cat(
            vec![
                x.clone().narrow(3, half, half).neg(),
                x.clone().narrow(3, 0, half),
            ],
            3,
        );
        x * self.cosine.clone().unsqueeze::<4>() + turned * self.sine.clone().unsqueeze::<4>()
    }
}

impl Layer {
    fn forward(&self, pass: &Pass<'_>, x: Tensor<2>, count: usize, length: usize) -> Tensor<2> {
        let linear = |x: Tensor<2>, weight: &Param<Tensor<2>>| x.matmul(weight.val().transpose());
        let normed = pass.norm(x.clone(), &self.input_layernorm);
        let (heads, groups) = (pass.config.heads()[0], pass.config.heads()[1]);
        let shape = [count, length];
        let q = pass.heads(linear(normed.clone(), &self.q_proj), shape, heads, true);
        let k = pass.heads(linear(normed.clone(), &self.k_proj), shape, groups, true);
        let v = pass.heads(linear(normed, &self.v_proj), shape, groups, false);
        let width = pass.config.heads()[2];
        // Each key head serves `heads / groups` consecutive query heads.
        let repeat = |x: Tensor<4>| {
            let wide =
                x.unsqueeze_dim::<5>(2)
                    .expand([count, groups, heads / groups, length, width]);
            wide.reshape([count, heads, length, width])
        };
        let scores = q.matmul(repeat(k).swap_dims(2, 3)) * (1.0 / (width as f64).sqrt());
        let weights = softmax(
            scores.mask_fill(pass.later.clone().unsqueeze::<4>(), f32::NEG_INFINITY),
            3,
        );
        let mixed = weights
            .matmul(repeat(v))
            .swap_dims(1, 2)
            .reshape([count * length, heads * width]);
        let x = x + linear(mixed, &self.o_proj);
        let normed = pass.norm(x.clone(), &self.post_attention_layernorm);
        let gated = silu(linear(normed.clone(), &self.gate_proj)) * linear(normed, &self.up_proj);
        x + linear(gated, &self.down_proj)
    }
}
