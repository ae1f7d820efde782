//! A lower bound on the cost of a step: the floating-point operations of the products with frozen
//! weights.
//!
//! The product of n rows with a matrix of w weights takes 2·n·w operations. Every linear layer is
//! one product in the forward pass and another in the backward pass, for the gradient of its input,
//! so that training costs 4 operations per weight and token. What is saved:
//! - past its attention, the last layer computes only the scored tokens; only K and V are computed
//!   for all tokens;
//! - nothing is propagated back below the first adapted layer, and in that layer nothing through Q,
//!   K and V;
//! - the embedding is a lookup, and only the answers' rows of the output table are read (not
//!   counted).
//!
//! With recomputation, each adapted layer runs its forward pass once more. Attention, norms,
//! low-rank products and the optimizer are not counted: they are what keeps a program below the
//! rate of a large product.

use ivon_lora::model::{DecoderConfig, LinearShape, Projection};

/// Whether a projection reads the layer's input.
fn reads_input(projection: Projection) -> bool {
    projection == Projection::Q || projection.is_before_mixing()
}

/// The work of one forward or training pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// N, tokens of the packed batch.
    pub tokens: usize,
    /// S, scored tokens: those whose hidden state is needed.
    pub asked: usize,
}

fn weights(linear: &LinearShape) -> usize {
    linear.shape.iter().product()
}

impl Pass {
    /// Operations of the products with those weights of one layer that `counts` selects, in one
    /// direction.
    fn layer(
        self,
        config: &DecoderConfig,
        layer: usize,
        counts: impl Fn(Projection) -> bool,
    ) -> f64 {
        let last = layer + 1 == config.num_hidden_layers;
        let rows = |projection: Projection| match last && !projection.is_before_mixing() {
            true => self.asked,
            false => self.tokens,
        };
        let linears = config.layers[layer].linears(config.hidden_size).into_iter();
        linears
            .filter(|linear| counts(linear.projection))
            .map(|linear| 2.0 * rows(linear.projection) as f64 * weights(&linear) as f64)
            .sum()
    }

    /// Floating-point operations of a forward pass.
    pub fn forward(self, config: &DecoderConfig) -> f64 {
        (0..config.num_hidden_layers)
            .map(|layer| self.layer(config, layer, |_| true))
            .sum()
    }

    /// Floating-point operations of a forward and a backward pass; `first` is the first adapted
    /// layer.
    pub fn training(self, config: &DecoderConfig, first: usize, recompute: bool) -> f64 {
        let back = |layer: usize| {
            self.layer(config, layer, |projection| {
                layer > first || !reads_input(projection)
            })
        };
        let again = |layer: usize| {
            if recompute {
                self.layer(config, layer, |_| true)
            } else {
                0.0
            }
        };
        self.forward(config)
            + (first..config.num_hidden_layers)
                .map(|layer| back(layer) + again(layer))
                .sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes;

    #[test]
    fn four_operations_per_weight_and_token_but_for_the_exceptions() {
        let config = shapes::named("tiny").unwrap();
        // Q and O have 64 × 64 weights, K and V 32 × 64, the gated layer three of 96 × 64.
        let (input, rest) = (4096.0 + 2.0 * 2048.0, 4096.0 + 3.0 * 6144.0);
        let pass = Pass {
            tokens: 10,
            asked: 3,
        };
        let first_layer = 2.0 * 10.0 * (input + rest);
        let last_layer = 2.0 * (10.0 * 2.0 * 2048.0 + 3.0 * (4096.0 + rest));
        assert_eq!(pass.forward(&config), first_layer + last_layer);
        assert_eq!(
            pass.training(&config, 0, false),
            first_layer + 2.0 * last_layer + 2.0 * 10.0 * rest
        );
        assert_eq!(
            pass.training(&config, 1, false),
            first_layer + last_layer + 2.0 * 3.0 * rest
        );
        assert_eq!(
            pass.training(&config, 1, true),
            first_layer + 2.0 * last_layer + 2.0 * 3.0 * rest
        );
    }

    #[test]
    fn a_step_of_smollm2_on_four_questions_costs_what_its_weights_say() {
        // 265 tokens, 106.2 million linear weights: 113 GFLOP if nothing were saved.
        let config = shapes::named("smollm2-135m").unwrap();
        let found = Pass {
            tokens: 265,
            asked: 4,
        }
        .training(&config, 0, false)
            / 1e9;
        assert!((105.0..112.0).contains(&found), "{found}");
    }
}
