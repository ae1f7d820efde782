//! An adapter as other programs multiply it: A and B of each linear layer with one factor, and nothing
//! besides.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;

use super::peft::in_file;
use super::target::module_path;
use super::{Adapter, HostMatrix, LoraConfig, LoraError, PeftAdapter, TargetModules};
use crate::model::{DecoderConfig, LinearPath};

/// A and B of a linear layer.
pub(super) struct PortablePair {
    pub path: LinearPath,
    /// `[r, in]`.
    pub a: HostMatrix,
    /// `[out, r]`.
    pub b: HostMatrix,
    /// The factor s of B A.
    pub scale: f64,
}

/// The pairs of an adapter that has nothing else.
///
/// # Errors
/// [`LoraError::NotPortable`] if it changes tables, has magnitudes or sides, or adapts nothing; if the
/// device does not return its data.
pub(super) fn portable_pairs(
    adapter: &Adapter,
    format: &'static str,
) -> Result<Vec<PortablePair>, LoraError> {
    let refused = |what| Err(LoraError::NotPortable { format, what });
    if adapter.has_sides() {
        return refused("an addition between A and B");
    }
    if adapter.has_magnitudes() {
        return refused("magnitudes (`use_dora`)");
    }
    if adapter.tables().next().is_some() {
        return refused("changes of embeddings or output layer");
    }
    let pair = |(path, pair): (LinearPath, &super::LoraPair)| {
        let read = |part: &str, tensor| HostMatrix::read(&path.part(part), tensor);
        Ok(PortablePair {
            path,
            a: read("lora_A", pair.lora_A.val())?,
            b: read("lora_B", pair.lora_B.val())?,
            scale: adapter.scaling.of(path),
        })
    };
    let pairs: Vec<PortablePair> = adapter
        .pairs()
        .map(pair)
        .collect::<Result<_, LoraError>>()?;
    match pairs.is_empty() {
        true => refused("no layer"),
        false => Ok(pairs),
    }
}

/// The adapter of these pairs, of which there is at least one, with the options that PEFT would have for
/// them. `file` is named in errors.
///
/// # Errors
/// If a matrix does not fit the decoder, or ranks differ within a pair.
pub(super) fn adapter_of_pairs(
    pairs: Vec<PortablePair>,
    file: &Path,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<PeftAdapter, LoraError> {
    let rank_of = |pair: &PortablePair| pair.a.shape[0];
    let alpha_of = |pair: &PortablePair| pair.scale * rank_of(pair) as f64;
    let (rank, alpha) = pairs
        .first()
        .map_or((1, 1.0), |pair| (rank_of(pair), alpha_of(pair)));
    let other_rank = |pair: &&PortablePair| rank_of(pair) != rank;
    let other_alpha = |pair: &&PortablePair| alpha_of(pair) != alpha;
    let ranks = pairs.iter().filter(other_rank);
    let alphas = pairs.iter().filter(other_alpha);
    let mut config = LoraConfig {
        rank,
        alpha,
        dropout: 0.0,
        rank_pattern: ranks
            .map(|pair| (module_path(pair.path), rank_of(pair)))
            .collect(),
        alpha_pattern: alphas
            .map(|pair| (module_path(pair.path), alpha_of(pair)))
            .collect(),
        ..LoraConfig::default()
    };
    let scaling = config.scaling_in(decoder)?;
    let mut matrices = BTreeMap::new();
    for PortablePair { path, a, b, .. } in pairs {
        matrices.insert(path.part("lora_A"), a);
        matrices.insert(path.part("lora_B"), b);
    }
    let adapter = Adapter::from_matrices(matrices, scaling, decoder, device)
        .map_err(|error| in_file(error, file))?;
    let (targets, layers) = adapter.portable_targets();
    config.target_modules = TargetModules::List(targets);
    config.layers_to_transform = layers;
    Ok(PeftAdapter {
        adapter,
        config,
        base_model_name_or_path: None,
        note: None,
    })
}

impl HostMatrix {
    /// All numbers times a factor.
    pub(super) fn times(mut self, factor: f64) -> Self {
        if factor != 1.0 {
            let scaled = |value: &mut f32| *value = (f64::from(*value) * factor) as f32;
            self.values.iter_mut().for_each(scaled);
        }
        self
    }
}
