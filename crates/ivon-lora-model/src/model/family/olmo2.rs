//! OLMo 2: norms after attention and MLP, and one norm over all heads of queries, and of keys.

use super::description::Family;
use super::llama::{LLAMA, read as read_llama};
use crate::model::attention::HeadNorm;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::layer_kind::Norms;

pub(super) const OLMO2: Family = Family {
    model_type: "olmo2",
    architecture: "Olmo2ForCausalLM",
    gguf: None,
    read,
    rms_norm_eps: 1e-5,
    bias_flags: &["attention_bias"],
    qk_norm: HeadNorm::Whole,
    ..LLAMA
};

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let mut config = read_llama(fields, family, notes)?;
    for layer in &mut config.layers {
        layer.norms = Norms::After;
    }
    Ok(config)
}
