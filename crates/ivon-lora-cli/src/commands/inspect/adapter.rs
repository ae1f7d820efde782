//! An adapter: its options, what it was trained for, and how wide its posterior is in each layer. Needs no base.

use std::collections::BTreeMap;
use std::path::Path;

use ivon_lora::data::Task;
use ivon_lora::files;
use ivon_lora::lora::{ADAPTER_FILE, LoraConfig, LoraError, read_peft_config};
use ivon_lora::metrics::quantile;
use ivon_lora::posterior::{POSTERIOR_FILE, PredictWith, Sidecar};
use ivon_lora::report::Table;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Seen, pairs};
use crate::exit::Failure;
use crate::render::count;

const LARGEST: u64 = 16 << 30;
/// The longest header of a safetensors file.
const LONGEST_HEADER: u64 = 100 << 20;

/// An adapter at a glance.
#[derive(Debug, Serialize)]
pub struct AdapterSeen {
    config: LoraConfig,
    base: Option<String>,
    parameters: u64,
    made_for: Option<MadeFor>,
    /// What `posterior.safetensors` says of itself.
    posterior: Option<BTreeMap<String, String>>,
    /// Spread of the weights of each decoder layer.
    layers: Vec<Layer>,
}

/// What the sidecar says.
#[derive(Debug, Serialize)]
struct MadeFor {
    task: String,
    method: String,
    max_length: usize,
    predict_with: PredictWith,
    samples: usize,
    scale: f64,
}

/// One decoder layer.
#[derive(Debug, Serialize)]
struct Layer {
    layer: usize,
    weights: usize,
    /// Root mean square of the mean's weights.
    rms: f64,
    /// σ: its 5 %, 50 % and 95 % quantiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    sigma: Option<[f64; 3]>,
}

/// Reads an adapter folder.
///
/// # Errors
/// If a file is missing or malformed.
pub fn inspect(folder: &Path) -> Result<AdapterSeen, Failure> {
    let (config, base) = read_peft_config(folder)?;
    let (mean, _) = tensors(&folder.join(ADAPTER_FILE))?;
    let posterior = folder.join(POSTERIOR_FILE);
    let (mut variance, metadata) =
        if posterior.exists() { tensors(&posterior).map(|(values, metadata)| (values, Some(metadata)))? } else { Default::default() };
    if !holds_variance(&metadata) {
        variance.clear();
    }
    let made_for = Sidecar::read(folder)?.map(|sidecar| MadeFor {
        task: serde_json::from_value::<Task>(sidecar.task).map_or_else(|_| "unknown".into(), |task| task.name),
        method: sidecar.method,
        max_length: sidecar.max_length,
        predict_with: sidecar.predict_with,
        samples: sidecar.samples,
        scale: sidecar.scale,
    });
    let parameters = mean.values().map(|values| values.len() as u64).sum();
    Ok(AdapterSeen { config, base, parameters, made_for, posterior: metadata, layers: layers(&mean, &variance) })
}

/// Whether the posterior's file holds a variance for each weight.
fn holds_variance(metadata: &Option<BTreeMap<String, String>>) -> bool {
    metadata.as_ref().is_some_and(|said| said.get("content").is_some_and(|content| content == "variance"))
}

type Tensors = BTreeMap<String, Vec<f64>>;

/// The statistics of each decoder layer.
fn layers(mean: &Tensors, variance: &Tensors) -> Vec<Layer> {
    let mut found: BTreeMap<usize, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for (name, values) in mean {
        found.entry(layer_of(name)).or_default().0.extend(values);
    }
    for (name, values) in variance {
        found.entry(layer_of(name)).or_default().1.extend(values.iter().map(|variance| variance.sqrt()));
    }
    let layer = |(layer, (weights, mut sigma)): (usize, (Vec<f64>, Vec<f64>))| {
        sigma.sort_by(f64::total_cmp);
        let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
        Layer {
            layer,
            weights: weights.len(),
            rms: (squares / weights.len().max(1) as f64).sqrt(),
            sigma: (!sigma.is_empty()).then(|| [0.05, 0.5, 0.95].map(|share| quantile(&sigma, share))),
        }
    };
    found.into_iter().map(layer).collect()
}

/// The number after `layers.` in a PEFT name.
fn layer_of(name: &str) -> usize {
    name.split_once("layers.").and_then(|(_, rest)| rest.split('.').next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// All tensors of a small safetensors file as f64, and its metadata. The library's reader wants the base's shape; this does not.
fn tensors(path: &Path) -> Result<(Tensors, BTreeMap<String, String>), Failure> {
    let bytes = files::read_bytes(path, LARGEST)?;
    let malformed = |reason: String| LoraError::Malformed { path: path.into(), expected: "a safetensors file", reason };
    let short = || malformed("it ends before its header does".into());
    let length = bytes.first_chunk::<8>().map(|first| u64::from_le_bytes(*first)).ok_or_else(short)?;
    if length > LONGEST_HEADER {
        return Err(malformed(format!("its header would have {length} bytes")).into());
    }
    let header = bytes.get(8..8 + length as usize).ok_or_else(short)?;
    let data = bytes.get(8 + length as usize..).ok_or_else(short)?;
    let header: Map<String, Value> = serde_json::from_slice(header).map_err(|error| malformed(error.to_string()))?;
    let mut found = Tensors::new();
    let mut metadata = BTreeMap::new();
    for (name, entry) in header {
        if name == "__metadata__" {
            metadata = serde_json::from_value(entry).map_err(|error| malformed(error.to_string()))?;
            continue;
        }
        let offsets: Option<[usize; 2]> = entry.get("data_offsets").and_then(|offsets| serde_json::from_value(offsets.clone()).ok());
        let range =
            offsets.and_then(|[from, to]| data.get(from..to)).ok_or_else(|| malformed(format!("tensor `{name}` lies outside of it")))?;
        let kind = entry.get("dtype").and_then(Value::as_str).unwrap_or_default();
        let values = numbers(kind, range).ok_or_else(|| LoraError::Type { name: name.clone(), found: kind.into() })?;
        found.insert(name, values);
    }
    Ok((found, metadata))
}

fn numbers(kind: &str, bytes: &[u8]) -> Option<Vec<f64>> {
    let halves = || bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    Some(match kind {
        "F32" => bytes.as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect(),
        "BF16" => halves().map(|half| f64::from(f32::from_bits(u32::from(half) << 16))).collect(),
        "F16" => halves().map(half_to_f64).collect(),
        _ => return None,
    })
}

/// IEEE half: sign, five bits of exponent, ten of mantissa.
fn half_to_f64(half: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 1023));
    let size = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
    };
    if half >> 15 == 1 { -size } else { size }
}

impl Seen for AdapterSeen {
    fn text(&self) -> String {
        let config = &self.config;
        let targets = match &config.target_modules {
            ivon_lora::lora::TargetModules::List(names) => names.join(", "),
            ivon_lora::lora::TargetModules::Pattern(pattern) => pattern.clone(),
        };
        let mut lines = vec![
            ("base", self.base.clone().unwrap_or_else(|| "not named".into())),
            (
                "rank",
                format!(
                    "{}, alpha {}, scaled by {:.3}{}",
                    config.rank,
                    config.alpha,
                    config.scaling(),
                    if config.use_rslora { " (rsLoRA)" } else { "" }
                ),
            ),
            ("layers", targets),
            ("weights", count(self.parameters)),
        ];
        match &self.made_for {
            None => lines.push(("made for", "not said: an adapter of another program".into())),
            Some(made) => {
                let with = match made.predict_with {
                    PredictWith::Mean => "at the mean".into(),
                    PredictWith::Samples => format!("averaged over {} draws", made.samples),
                };
                lines.push(("made for", format!("task {}, prompts of at most {} tokens", made.task, made.max_length)));
                lines.push(("trained with", made.method.clone()));
                lines.push(("predicts best", format!("{with}, scale {}", made.scale)));
            }
        }
        let posterior = match &self.posterior {
            None => "none: a point estimate".into(),
            Some(said) => {
                let facts = said
                    .iter()
                    .filter(|(key, _)| !["content", "format", "format_version", "mean_sha256", "method"].contains(&key.as_str()));
                let facts: Vec<String> = facts.map(|(key, value)| format!("{} {value}", key.replace('_', " "))).collect();
                let of = |key: &str| said.get(key).map_or("unknown", String::as_str);
                format!("{} of {}: {}", of("content"), of("method"), facts.join(", "))
            }
        };
        lines.push(("posterior", posterior));
        pairs(&lines) + "\n" + &self.table().to_text()
    }
}

impl AdapterSeen {
    fn table(&self) -> Table {
        let sampled = holds_variance(&self.posterior);
        let mut head = vec!["layer".to_string(), "weights".into(), "rms".into()];
        if sampled {
            head.extend(["σ 5 %", "σ 50 %", "σ 95 %"].map(String::from));
        }
        let row = |layer: &Layer| {
            let mut row = vec![layer.layer.to_string(), layer.weights.to_string(), format!("{:.2e}", layer.rms)];
            row.extend(layer.sigma.iter().flatten().map(|sigma| format!("{sigma:.2e}")));
            row
        };
        Table { head, rows: self.layers.iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_widen_exactly() {
        assert_eq!([0x3c00, 0xc000, 0x0001, 0x7bff].map(half_to_f64), [1.0, -2.0, 2f64.powi(-24), 65504.0]);
        assert!(half_to_f64(0x7c00).is_infinite() && half_to_f64(0x7e00).is_nan());
        assert_eq!(numbers("BF16", &[0x80, 0x3f, 0x00, 0xc0]).unwrap(), [1.0, -2.0]);
        assert_eq!(numbers("I8", &[1]), None);
    }

    #[test]
    fn layers_are_told_by_name_and_sigma_is_the_root_of_the_variance() {
        let of = |values: Vec<f64>| Tensors::from([("base_model.model.model.layers.12.self_attn.q_proj.lora_A.weight".into(), values)]);
        let found = layers(&of(vec![3.0, 4.0]), &of(vec![0.25, 0.25]));
        assert_eq!((found.len(), found[0].layer, found[0].weights), (1, 12, 2));
        assert_eq!((found[0].rms, found[0].sigma), (12.5f64.sqrt(), Some([0.5; 3])));
    }
}
