//! GGUF metadata → [`DecoderConfig`]: the family translates it to the keys of its `config.json`,
//! and reads these.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::block_types;
use super::reader::GgufFile;
use super::value::Value as Stored;
use crate::model::blocks;
use crate::model::config::{DecoderConfig, MOST_LAYERS};
use crate::model::encoding::Encoding;
use crate::model::error::ModelError;
use crate::model::family::{Family, Gguf};
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::rope::RopeScaling;
use crate::model::setting::setting;

/// The tensors with divisors of rotary frequencies.
pub(in crate::model) const DIVISORS: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
];

/// What a file's metadata says of the decoder.
pub(super) struct Description {
    /// The shape of the decoder.
    pub config: DecoderConfig,
    /// What the converter did to its tensors.
    pub gguf: Gguf,
    /// The `config.json` that the metadata amounts to; none if no keys say the same.
    pub settings: Option<Map<String, Value>>,
}

/// Reads the shape of the decoder from a file's metadata.
///
/// # Errors
/// [`ModelError::Architecture`] for another family, [`ModelError::Setting`] for a value that is
/// missing, out of range or not supported by the decoder, [`ModelError::MissingTensor`]
/// without an embedding table.
pub(super) fn read(file: &GgufFile) -> Result<Description, ModelError> {
    let name = file.name();
    let architecture = file.text("general.architecture")?;
    let architecture =
        architecture.ok_or_else(|| setting(&name, "general.architecture", "missing", "a text"))?;
    let family = Family::of_gguf(architecture);
    let found = family.and_then(|family| Some((family, family.gguf?)));
    let (family, gguf) = found.ok_or_else(|| ModelError::Architecture {
        file: name.clone(),
        found: architecture.into(),
        supported: Family::gguf_architectures(),
    })?;
    let metadata = Metadata {
        file: &name,
        architecture,
        values: values(file, architecture)?,
        shapes: shapes(file),
        divisors: divisors(file)?,
    };
    refuse_what_the_decoder_lacks(file, &metadata, family)?;
    let mut translation = Translation::default();
    (gguf.translate)(&metadata, &mut translation)?;
    let family = translation
        .relative
        .and_then(Family::of_model_type)
        .unwrap_or(family);
    translation.imply("model_type", family.model_type);
    translation.imply("architectures", vec![family.architecture]);
    let config = decoder(&name, family, &translation);
    let config = config.map_err(|error| translation.by_origin(error))?;
    Ok(Description {
        config,
        gguf,
        settings: translation.into_settings(),
    })
}

/// The decoder that the translated settings describe.
fn decoder(
    file: &str,
    family: &Family,
    translation: &Translation,
) -> Result<DecoderConfig, ModelError> {
    let fields = Fields {
        object: &translation.settings,
        file,
    };
    let mut config = (family.read)(&fields, family, &mut Vec::new())?;
    let attentions = config
        .layers
        .iter_mut()
        .filter_map(|layer| layer.attention_mut());
    for attention in attentions {
        if translation.every_window.is_some() {
            attention.window = translation.every_window;
        }
        if let (Some(rope), Some(divisors)) = (&mut attention.rope, &translation.divisors) {
            rope.scaling = RopeScaling::Factors {
                factors: divisors.clone(),
            };
        }
    }
    config.validate(file)?;
    Ok(config)
}

/// The values under an architecture's name: numbers, flags, texts and short lists of numbers.
fn values(file: &GgufFile, architecture: &str) -> Result<Map<String, Value>, ModelError> {
    let mut values = Map::new();
    for (whole, value) in file.metadata() {
        let key = whole.strip_prefix(architecture);
        let Some(key) = key.and_then(|key| key.strip_prefix('.')) else {
            continue;
        };
        let value = match value {
            Stored::Unsigned(number) => Value::from(*number),
            Stored::Signed(number) => Value::from(*number),
            Stored::Float(number) => Value::from(*number),
            Stored::Bool(flag) => Value::from(*flag),
            Stored::Text(text) => Value::from(text.as_str()),
            Stored::Array(array) if array.count <= MOST_LAYERS => list(file, whole)?,
            Stored::Array(_) => Value::Null,
        };
        values.insert(key.into(), value);
    }
    Ok(values)
}

/// A list of numbers or flags, whole numbers as such; null for others.
fn list(file: &GgufFile, key: &str) -> Result<Value, ModelError> {
    let Ok(numbers) = file.numbers(key) else {
        return Ok(Value::Null);
    };
    let number = |number: f64| match number >= 0.0 && number.fract() == 0.0 {
        true => Value::from(number as u64),
        false => Value::from(number),
    };
    let numbers = numbers.unwrap_or_default().into_iter();
    Ok(numbers.map(number).collect())
}

fn shapes(file: &GgufFile) -> BTreeMap<&str, &[usize]> {
    let tensors = file.tensors().iter();
    let shape = tensors.map(|(name, entry)| (name.as_str(), entry.shape.as_slice()));
    shape.collect()
}

/// The divisors of rotary frequencies that the file has.
fn divisors(file: &GgufFile) -> Result<BTreeMap<&'static str, Vec<f32>>, ModelError> {
    let mut all = BTreeMap::new();
    for name in DIVISORS {
        let Some(entry) = file.tensors().get(name) else {
            continue;
        };
        if entry.ggml_type != Encoding::F32.ggml_type() {
            return Err(ModelError::Encoding {
                file: file.name(),
                name: name.into(),
                found: block_types::name(entry.ggml_type),
                supported: "F32",
            });
        }
        let mut divisors = vec![0.0; entry.shape.iter().product()];
        blocks::dequantize_row(Encoding::F32, file.bytes(entry), &mut divisors);
        all.insert(name, divisors);
    }
    Ok(all)
}

fn refuse_what_the_decoder_lacks(
    file: &GgufFile,
    metadata: &Metadata,
    family: &Family,
) -> Result<(), ModelError> {
    let kind = file.text("general.type")?;
    if let Some(kind) = kind.filter(|kind| *kind != "model") {
        let found = format!("`{kind}`");
        return Err(setting(metadata.file, "general.type", found, "`model`"));
    }
    let experts = metadata.count("expert_count")?;
    if let Some(experts) = experts.filter(|experts| *experts > 0) {
        return Err(metadata.wrong("expert_count", format!("`{experts}`"), "no experts"));
    }
    if metadata.flag("attention.causal")? == Some(false) {
        let expected = "`true`: a token sees no later one";
        return Err(metadata.wrong("attention.causal", "`false`", expected));
    }
    let is_known = |bias: &str| {
        let whole = family.layer_tensors.iter().map(|(gguf, _)| gguf);
        family.qkv_bias
            || whole
                .filter(|gguf| gguf.ends_with(".bias"))
                .any(|gguf| bias.ends_with(gguf))
    };
    let mut names = file.tensors().keys();
    match names.find(|name| name.ends_with(".bias") && !is_known(name)) {
        Some(bias) => {
            let expected = format!("no biases in architecture `{}`", metadata.architecture);
            Err(setting(metadata.file, bias, "there", expected))
        }
        None => Ok(()),
    }
}
