//! The tensors of a decoder layer that are not linear layers: weights of norms, convolutions,
//! decays.

/// A tensor of a decoder layer that is not a linear layer, by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum LayerVector {
    /// The norm of the mixer's input.
    MixerIn,
    /// The norm of the mixer's output.
    MixerOut,
    /// The norm of the MLP's input.
    MlpIn,
    /// The norm of the MLP's output.
    MlpOut,
    QNorm,
    KNorm,
    /// `[channels, 1, kernel]`.
    Convolution,
    /// `[channels, 1, kernel]`.
    DeltaConvolution,
    /// ln of the decay's rate, `A_log`.
    DeltaDecay,
    /// The offset of the decay's time step, `dt_bias`.
    DeltaTimeStep,
    DeltaNorm,
    /// The norm of what a layer's own input adds.
    PerLayerNorm,
    /// By which the layer's output is multiplied, `[1]`.
    Scalar,
}

impl LayerVector {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::MixerIn,
        Self::MixerOut,
        Self::MlpIn,
        Self::MlpOut,
        Self::QNorm,
        Self::KNorm,
        Self::Convolution,
        Self::DeltaConvolution,
        Self::DeltaDecay,
        Self::DeltaTimeStep,
        Self::DeltaNorm,
        Self::PerLayerNorm,
        Self::Scalar,
    ];

    /// Whether 1 is added to its numbers in families whose norms multiply by 1 + w.
    pub fn is_norm_around_one(self) -> bool {
        matches!(
            self,
            Self::MixerIn
                | Self::MixerOut
                | Self::MlpIn
                | Self::MlpOut
                | Self::QNorm
                | Self::KNorm
                | Self::PerLayerNorm
        )
    }
}
