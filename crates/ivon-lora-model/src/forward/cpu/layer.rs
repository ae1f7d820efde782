//! One decoder layer on slices, forward and backward: a mixer, the MLP, and the layer's own input.

use super::delta_net::DeltaNetTape;
use super::half::{HalfNorms, HalfTape};
use super::mlp::MlpTape;
use super::pass::{LayerPass, MixerGradient};
use super::per_layer_input::PerLayerTape;
use super::self_attention::AttentionTape;
use super::short_convolution::ConvolutionTape;
use crate::kernel::{self, Buffer};
use crate::model::{LayerVector, Mixer};

/// What a layer's forward pass keeps for its backward pass.
pub struct Tape {
    mixer: HalfTape<MixerTape>,
    mlp: HalfTape<MlpTape>,
    input: Option<PerLayerTape>,
}

enum MixerTape {
    Attention(Box<AttentionTape>),
    DeltaNet(Box<DeltaNetTape>),
    ShortConvolution(Box<ConvolutionTape>),
}

impl LayerPass<'_> {
    /// y of x `[N, H]`; `[S, H]` at the requested tokens for the last layer.
    pub fn forward(&self, x: Buffer) -> (Buffer, Tape) {
        let mixer = |input: &[f32], onto: Option<&[f32]>| self.mix(input, onto);
        let (middle, mixer) = self.half(x, HalfNorms::MIXER, mixer);
        let mlp = |input: &[f32], onto: Option<&[f32]>| self.mlp(input, onto);
        let (y, mlp) = self.half(middle, HalfNorms::MLP, mlp);
        let (mut y, input) = match self.kind.per_layer_input {
            Some(width) => {
                let (y, tape) = self.add_per_layer_input(y, width);
                (y, Some(tape))
            }
            None => (y, None),
        };
        if let [scalar] = self.weights.vector(LayerVector::Scalar) {
            kernel::scale(&mut y, *scalar);
        }
        (y, Tape { mixer, mlp, input })
    }

    fn mix(&self, input: &[f32], onto: Option<&[f32]>) -> (Buffer, MixerTape) {
        match &self.kind.mixer {
            Mixer::Attention(attention) => {
                let (y, tape) = self.attention(attention, input, onto);
                (y, MixerTape::Attention(Box::new(tape)))
            }
            Mixer::DeltaNet(net) => {
                let (y, tape) = self.delta_net(net, input, onto);
                (y, MixerTape::DeltaNet(Box::new(tape)))
            }
            Mixer::ShortConvolution(convolution) => {
                let (y, tape) = self.short_convolution(convolution, input, onto);
                (y, MixerTape::ShortConvolution(Box::new(tape)))
            }
        }
    }

    /// dx `[N, H]` from dy; writes the gradients of the adapter to `gradient`. No dx if nothing
    /// below `wants_dx`.
    pub fn backward(
        &self,
        mut dy: Buffer,
        tape: Tape,
        gradient: &mut [f32],
        wants_dx: bool,
    ) -> Option<Buffer> {
        if let [scalar] = self.weights.vector(LayerVector::Scalar) {
            kernel::scale(&mut dy, *scalar);
        }
        if let Some((tape, width)) = tape.input.zip(self.kind.per_layer_input) {
            dy = self.per_layer_input_backward(dy, tape, width, gradient);
        }
        let mlp = |tape, d_out: &[f32], input: &[f32]| {
            Some(self.mlp_backward(tape, d_out, input, gradient))
        };
        let d_middle = self.half_backward(dy, tape.mlp, HalfNorms::MLP, mlp)?;
        let mixer = |tape, d_out: &[f32], input: &[f32]| {
            let given = MixerGradient {
                d_out,
                input,
                gradient,
                wants_dx,
            };
            self.mix_backward(tape, given)
        };
        self.half_backward(d_middle, tape.mixer, HalfNorms::MIXER, mixer)
    }

    fn mix_backward(&self, tape: MixerTape, given: MixerGradient<'_>) -> Option<Buffer> {
        match (&self.kind.mixer, tape) {
            (Mixer::Attention(attention), MixerTape::Attention(tape)) => {
                self.attention_backward(attention, *tape, given)
            }
            (Mixer::DeltaNet(net), MixerTape::DeltaNet(tape)) => {
                self.delta_net_backward(net, *tape, given)
            }
            (Mixer::ShortConvolution(convolution), MixerTape::ShortConvolution(tape)) => {
                self.short_convolution_backward(convolution, *tape, given)
            }
            // A tape is the one of this layer's own forward pass.
            _ => None,
        }
    }
}
