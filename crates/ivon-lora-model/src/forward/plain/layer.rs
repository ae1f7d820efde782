//! A decoder layer in plain operations: a mixer, the MLP, and the layer's own input, with their
//! norms and residual connections.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu_approximate, silu};

use super::pass::Pass;
use crate::model::{Gate, LayerVector, Mixer, Mlp, Projection};

impl Pass<'_> {
    /// y of x `[N, H]`.
    pub fn layer(&self, index: usize, x: Tensor<2>) -> Tensor<2> {
        let kind = &self.plain.config.layers[index];
        let input = self.normed(index, LayerVector::MixerIn, x.clone());
        let mixed = match &kind.mixer {
            Mixer::Attention(attention) => self.attention(index, attention, input),
            Mixer::DeltaNet(net) => self.delta_net(index, net, input),
            Mixer::ShortConvolution(convolution) => {
                self.short_convolution(index, convolution, input)
            }
        };
        let mixed = self.normed(index, LayerVector::MixerOut, mixed);
        let middle = x + mixed * kind.residual_multiplier;
        let input = self.normed(index, LayerVector::MlpIn, middle.clone());
        let output = self.mlp(index, &kind.mlp, input);
        let output = self.normed(index, LayerVector::MlpOut, output);
        let mut y = middle + output * kind.residual_multiplier;
        if let (Some(width), Some(inputs)) = (kind.per_layer_input, &self.inputs) {
            let own = inputs.clone().narrow(1, index * width, width);
            let gate = self.project(Some(index), Projection::PerLayerGate, y.clone());
            let gated = gelu_approximate(gate) * own;
            let added = self.project(Some(index), Projection::PerLayerProjection, gated);
            y = y + self.normed(index, LayerVector::PerLayerNorm, added);
        }
        match self.plain.layers[index].vector(LayerVector::Scalar) {
            Some(scalar) => y * scalar.clone().unsqueeze::<2>(),
            None => y,
        }
    }

    /// x normalised, if the layer has this norm.
    fn normed(&self, index: usize, norm: LayerVector, x: Tensor<2>) -> Tensor<2> {
        match self.plain.layers[index].vector(norm) {
            Some(weight) => self.plain.norm(x, weight),
            None => x,
        }
    }

    /// down(act(gate x) ⊙ up x).
    fn mlp(&self, index: usize, mlp: &Mlp, x: Tensor<2>) -> Tensor<2> {
        let wide = mlp.intermediate_size;
        let [gate, up] = match mlp.is_fused {
            true => {
                let both = self.project(Some(index), Projection::GateUp, x);
                [both.clone().narrow(1, 0, wide), both.narrow(1, wide, wide)]
            }
            false => [
                self.project(Some(index), Projection::Gate, x.clone()),
                self.project(Some(index), Projection::Up, x),
            ],
        };
        let gate = match mlp.gate {
            Gate::Silu => silu(gate),
            Gate::GeluTanh => gelu_approximate(gate),
        };
        self.project(Some(index), Projection::Down, gate * up)
    }
}
