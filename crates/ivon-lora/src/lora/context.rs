//! A small network beside each A and B that predicts, token by token, a matrix between them
//! (C-LoRA, arXiv 2505.17773):
//!
//! ```text
//! y = W x + s · B E h,   h = A drop(x),   E = M(h) + √τ Σ(h) ⊙ ε,   ε standard normal
//! (M, Q) = W₂ relu(W₁ h + b₁) + b₂,   Σ = σ(Q)² (σ is the logistic function)
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use ivon::noise::Address;

use super::parameters::parameter;
use super::{Adapter, HostMatrix, LoraError, LoraPair, parameter_path};
use crate::random::{Purpose, stream, uniform};

/// The network of one adapted layer. The last column of each matrix is its bias.
#[derive(Module, Debug)]
pub struct Context {
    /// W₁ and b₁, `[hidden, r + 1]`.
    pub inner: Param<Tensor<2>>,
    /// W₂ and b₂, `[2 r², hidden + 1]`: the rows of M, row by row, then those of Q.
    pub outer: Param<Tensor<2>>,
    /// Which function of E's distribution a forward pass computes.
    #[module(skip)]
    pub draw: ContextDraw,
}

/// Which function of E's distribution a forward pass computes: the mean by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ContextDraw {
    /// The noise; none for the mean.
    pub noise: Option<ContextNoise>,
    /// The divergence from the prior, where it is wanted.
    pub divergence: Option<Divergence>,
}

/// ε by address. A token's ε depends on the draw, the layer and the tokens up to it: a draw is one
/// function of a text, in whatever batch it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContextNoise {
    /// Names the draw.
    pub address: Address,
    /// √τ.
    pub factor: f32,
}

/// weight · Σ over tokens, layers and entries of KL(N(M, Σ²) ‖ N(0, p²)), nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// p, the prior's standard deviation.
    pub prior_sd: f32,
    /// What a nat of it counts.
    pub weight: f32,
}

/// How the networks of an adapter start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContextStart {
    /// Numbers between W₁ and W₂.
    pub hidden: usize,
    /// About what every entry of Σ is.
    pub sd: f64,
    /// Names the numbers.
    pub seed: u64,
}

impl ContextStart {
    /// W₁, b₁ and W₂ uniform in ±1/√(inputs), as PyTorch's linear layers start; b₂ so that E is
    /// about the identity and Σ about `sd`.
    fn context(self, path: &str, rank: usize, device: &Device) -> Context {
        let random = |part: &str, rows: usize, columns: usize| {
            let bound = 1.0 / (columns as f64 - 1.0).sqrt();
            let mut numbers = stream(
                self.seed,
                Purpose::Initialisation,
                0,
                0,
                &format!("{path}.{part}"),
            );
            (0..rows * columns)
                .map(|_| (bound * (2.0 * uniform(&mut numbers) - 1.0)) as f32)
                .collect::<Vec<f32>>()
        };
        let [inner, mut outer] = [
            random("inner", self.hidden, rank + 1),
            random("outer", 2 * rank * rank, self.hidden + 1),
        ];
        let root = self.sd.sqrt();
        let spread = (root / (1.0 - root)).ln() as f32;
        for (row, values) in outer.chunks_exact_mut(self.hidden + 1).enumerate() {
            values[self.hidden] = match row.checked_sub(rank * rank) {
                Some(_) => spread,
                None => f32::from(u8::from(row / rank == row % rank)),
            };
        }
        Context {
            inner: parameter(
                HostMatrix {
                    shape: [self.hidden, rank + 1],
                    values: inner,
                },
                device,
            ),
            outer: parameter(
                HostMatrix {
                    shape: [2 * rank * rank, self.hidden + 1],
                    values: outer,
                },
                device,
            ),
            draw: ContextDraw::default(),
        }
    }
}

/// Σ = σ(q)².
pub(crate) fn spread(q: f32) -> f32 {
    let root = 1.0 / (1.0 + (-q).exp());
    root * root
}

impl Adapter {
    /// With a network beside every A and B, in the place of one that may be there.
    pub fn with_contexts(&self, start: ContextStart) -> Self {
        self.map_contexts(|path, pair| {
            let rank = pair.lora_A.lazy_shape().dims::<2>()[0];
            Some(start.context(path, rank, &pair.lora_A.val().device()))
        })
    }

    /// With another draw of E; what has no networks stays as it is.
    pub fn with_context_draw(&self, draw: ContextDraw) -> Self {
        self.map_contexts(|_, pair| {
            pair.context
                .clone()
                .map(|context| Context { draw, ..context })
        })
    }

    /// Whether a matrix between A and B is predicted anywhere.
    pub fn is_contextual(&self) -> bool {
        self.pairs().any(|(_, _, pair)| pair.context.is_some())
    }

    fn map_contexts(&self, change: impl Fn(&str, &LoraPair) -> Option<Context>) -> Self {
        self.map_pairs(|layer, projection, pair| {
            let path = parameter_path(layer, projection, "context");
            LoraPair {
                context: change(&path, pair),
                ..pair.clone()
            }
        })
    }

    /// The adapter with only A and B.
    pub fn without_contexts(&self) -> Self {
        self.map_contexts(|_, _| None)
    }
}

impl Context {
    /// The tensors of a network by the ends of their paths.
    pub(super) const PARTS: [&'static str; 2] = ["context.inner", "context.outer"];

    /// A network of the matrices that were found under `paths`, `[hidden, r + 1]` and
    /// `[2 r², hidden + 1]`; none where neither is there.
    pub(super) fn from_matrices(
        paths: &[String; 2],
        found: [Option<HostMatrix>; 2],
        rank: usize,
        device: &Device,
    ) -> Result<Option<Self>, LoraError> {
        let (inner, outer) = match found {
            [None, None] => return Ok(None),
            [Some(inner), Some(outer)] => (inner, outer),
            [inner, _] => {
                let [first, second] = paths.clone();
                let name = if inner.is_some() { second } else { first };
                return Err(LoraError::MissingTensor {
                    path: "the adapter".into(),
                    name,
                });
            }
        };
        let hidden = inner.shape[0].max(1);
        for (name, found, expected) in [
            (&paths[0], inner.shape, [hidden, rank + 1]),
            (&paths[1], outer.shape, [2 * rank * rank, hidden + 1]),
        ] {
            if found != expected {
                return Err(LoraError::Shape {
                    name: name.clone(),
                    expected: expected.into(),
                    found: found.into(),
                });
            }
        }
        Ok(Some(Self {
            inner: parameter(inner, device),
            outer: parameter(outer, device),
            draw: ContextDraw::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny::adapter;
    use super::*;

    const START: ContextStart = ContextStart {
        hidden: 6,
        sd: 0.05,
        seed: 3,
    };

    #[test]
    fn networks_start_near_the_identity_with_the_spread_that_was_asked_for() {
        let contextual = adapter(1, "q_proj,v_proj").with_contexts(START);
        let matrices = contextual.to_matrices().unwrap();
        let paths: Vec<&str> = matrices
            .iter()
            .map(|(path, _)| path.strip_prefix("layers.0.self_attn.").unwrap())
            .collect();
        let expected = ["lora_A", "lora_B", "context.inner", "context.outer"];
        let expected: Vec<String> = ["q_proj", "v_proj"]
            .iter()
            .flat_map(|at| expected.map(|part| format!("{at}.{part}")))
            .collect();
        assert_eq!(paths, expected);
        let (inner, outer) = (&matrices[2].1, &matrices[3].1);
        assert_eq!((inner.shape, outer.shape), ([6, 5], [32, 7]));
        assert!(
            inner.values.iter().all(|value| value.abs() <= 0.5)
                && inner.values.iter().any(|value| value.abs() > 0.25)
        );
        for (row, values) in outer.values.chunks(7).enumerate() {
            let bias = values[6];
            assert!(
                values[..6]
                    .iter()
                    .all(|value| value.abs() <= 1.0 / 6f32.sqrt())
            );
            if row < 16 {
                assert_eq!(bias, if row % 5 == 0 { 1.0 } else { 0.0 });
            } else {
                assert!((spread(bias) - 0.05).abs() < 1e-6);
            }
        }
        assert_ne!(matrices[2].1, matrices[6].1);
        assert_eq!(
            contextual.without_contexts().flatten().unwrap(),
            adapter(1, "q_proj,v_proj").flatten().unwrap()
        );
    }

    #[test]
    fn a_draw_is_kept_where_numbers_change_and_gradients_are_tracked() {
        let noise = ContextNoise {
            address: Address {
                seed: 1,
                purpose: ivon::noise::Purpose::Training,
                step: 2,
                draw: 3,
            },
            factor: 0.5,
        };
        let draw = ContextDraw {
            noise: Some(noise),
            divergence: Some(Divergence {
                prior_sd: 0.2,
                weight: 1.0,
            }),
        };
        let drawn = adapter(1, "q_proj")
            .with_contexts(START)
            .with_context_draw(draw);
        let draw_of = |adapter: &Adapter| {
            adapter
                .pairs()
                .next()
                .unwrap()
                .2
                .context
                .as_ref()
                .unwrap()
                .draw
        };
        let trained = drawn.clone().train();
        assert_eq!(
            [
                draw_of(&drawn.clone_with(|_, tensor| tensor * 2.0)),
                draw_of(&trained),
                draw_of(&trained.valid())
            ],
            [draw; 3]
        );
        assert!(drawn.is_contextual() && !adapter(1, "q_proj").is_contextual());
    }
}
