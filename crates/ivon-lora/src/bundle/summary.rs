//! An adapter folder → the size of its weights and the width of its posterior in each decoder layer,
//! and in the tables over the vocabulary. Needs no base.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{BundleError, POSTERIOR_FILE};
use crate::lora::{
    ADAPTER_FILE, HostMatrix, OtherContents, is_factor, is_magnitudes, read_matrices, table_of,
};
use crate::metrics::quantile;
use crate::model::Table;
use crate::posterior::PosteriorKind;

/// A summary of an adapter's weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// Number of weights: those of A and B, of magnitudes and of whole tables.
    pub parameters: usize,
    /// What else the file holds.
    pub beside: OtherContents,
    /// The metadata of `posterior.safetensors`, if there is one.
    pub posterior: Option<BTreeMap<String, String>>,
    /// The decoder layers with weights, from the bottom up.
    pub layers: Vec<LayerSummary>,
    /// The tables over the vocabulary with weights, in the order of the forward pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableSummary>,
}

/// A table over the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TableSummary {
    /// Its name, such as `lm_head`.
    pub table: &'static str,
    /// All of its weights.
    #[serde(flatten)]
    pub all: WeightSummary,
}

/// One decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Counted from 0.
    pub layer: usize,
    /// All of its weights.
    #[serde(flatten)]
    pub all: WeightSummary,
    /// Those of A alone.
    pub a: WeightSummary,
    /// Those of B alone.
    pub b: WeightSummary,
}

/// A summary of some weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct WeightSummary {
    /// Their number.
    pub weights: usize,
    /// Root mean square of the mean's weights.
    pub rms: f64,
    /// The 5 %, 50 % and 95 % quantiles of σ; none if the posterior's file has no variance for every
    /// weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma: Option<[f64; 3]>,
}

/// Reads mean and variance of an adapter folder.
///
/// # Errors
/// If the adapter is missing, or a file is malformed.
pub fn summarise(folder: &Path) -> Result<AdapterSummary, BundleError> {
    let (mean, _) = read_matrices(&folder.join(ADAPTER_FILE))?;
    let path = folder.join(POSTERIOR_FILE);
    let (variance, posterior) = match path.exists() {
        true => read_matrices(&path).map(|(variance, metadata)| (variance, Some(metadata)))?,
        false => Default::default(),
    };
    // Other kinds of posteriors keep something else in their file.
    let kind = kind_of(posterior.as_ref());
    let variance = kind.map_or_else(BTreeMap::new, |kind| kind.weight_variances(variance));
    let beside = OtherContents::of(&mean);
    let is_known = |name: &str| is_factor(name) || is_magnitudes(name) || table_of(name).is_some();
    let parameters = mean.iter().filter(|(name, _)| is_known(name));
    let parameters = parameters.map(|(_, matrix)| matrix.values.len()).sum();
    // The widths that are shown are those of A and B.
    let tables = tables(&mean, &variance);
    let factors = mean.into_iter().filter(|(name, _)| is_factor(name));
    let factors = factors.collect();
    let variance = variance.into_iter();
    let variance = variance.filter(|(name, _)| is_factor(name)).collect();
    Ok(AdapterSummary {
        parameters,
        beside,
        posterior,
        layers: layers(&factors, &variance),
        tables,
    })
}

/// The built-in kind in a file's metadata.
fn kind_of(posterior: Option<&BTreeMap<String, String>>) -> Option<PosteriorKind> {
    PosteriorKind::of(posterior?.get("content")?)
}

impl AdapterSummary {
    /// What the posterior is, as the end of a sentence that begins "the posterior is"; none for a point
    /// estimate.
    pub fn posterior_in_words(&self) -> Option<String> {
        let metadata = self.posterior.as_ref()?;
        let other = || match metadata.get("content") {
            Some(tag) => format!("of a kind that is not built in, `{tag}`"),
            None => "of a kind that its file does not name".into(),
        };
        Some(kind_of(Some(metadata)).map_or_else(other, |kind| kind.stored().words.into()))
    }

    /// Whether the standard deviation of each weight is known.
    pub fn has_sigma(&self) -> bool {
        let layers = self.layers.iter().map(|layer| &layer.all);
        let mut all = layers.chain(self.tables.iter().map(|table| &table.all));
        all.any(|weights| weights.sigma.is_some())
    }
}

/// Weights and standard deviations of A, then of B.
type Weights = [(Vec<f64>, Vec<f64>); 2];

/// The summary of each layer.
fn layers(
    mean: &BTreeMap<String, HostMatrix>,
    variance: &BTreeMap<String, HostMatrix>,
) -> Vec<LayerSummary> {
    let mut found: BTreeMap<usize, Weights> = BTreeMap::new();
    for (name, matrix) in mean {
        let [layer, factor] = place_of(name);
        found.entry(layer).or_default()[factor]
            .0
            .extend(matrix.values.iter().map(|&value| f64::from(value)));
    }
    for (name, matrix) in variance {
        let [layer, factor] = place_of(name);
        found.entry(layer).or_default()[factor]
            .1
            .extend(matrix.values.iter().map(|&value| f64::from(value).sqrt()));
    }
    found
        .into_iter()
        .map(|(layer, [a, b])| {
            let all = ([&a.0[..], &b.0[..]].concat(), [&a.1[..], &b.1[..]].concat());
            LayerSummary {
                layer,
                all: weights(all),
                a: weights(a),
                b: weights(b),
            }
        })
        .collect()
}

/// The summary of each table.
fn tables(
    mean: &BTreeMap<String, HostMatrix>,
    variance: &BTreeMap<String, HostMatrix>,
) -> Vec<TableSummary> {
    let of = |matrices: &BTreeMap<String, HostMatrix>, table: Table| -> Vec<f64> {
        let parts = matrices.iter();
        let parts = parts.filter(|(name, _)| table_of(name) == Some(table));
        let values = parts.flat_map(|(_, matrix)| &matrix.values);
        values.map(|&value| f64::from(value)).collect()
    };
    let summary = |table: Table| {
        let sigma = of(variance, table).into_iter().map(f64::sqrt).collect();
        TableSummary {
            table: table.name(),
            all: weights((of(mean, table), sigma)),
        }
    };
    let tables = Table::ALL.into_iter().map(summary);
    tables.filter(|table| table.all.weights > 0).collect()
}

fn weights((weights, mut sigma): (Vec<f64>, Vec<f64>)) -> WeightSummary {
    sigma.sort_by(f64::total_cmp);
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    WeightSummary {
        weights: weights.len(),
        rms: (squares / weights.len().max(1) as f64).sqrt(),
        sigma: (!sigma.is_empty()).then(|| [0.05, 0.5, 0.95].map(|share| quantile(&sigma, share))),
    }
}

/// The number after `layers.` in a PEFT name, and whether it is a B.
fn place_of(name: &str) -> [usize; 2] {
    let number = name
        .split_once("layers.")
        .and_then(|(_, rest)| rest.split('.').next())
        .and_then(|number| number.parse().ok());
    [number.unwrap_or(0), usize::from(name.contains("lora_B"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::write_posterior;
    use crate::lora::{write_matrices, write_peft};
    use crate::posterior::{Gaussian, Laplace, LaplacePrediction, Swag};
    use crate::testing::tiny::{adapter, config};

    #[test]
    fn layers_are_told_by_name_and_sigma_is_the_root_of_the_variance() {
        let of = |factor: &str, values: Vec<f32>| {
            let name = format!("base_model.model.model.layers.12.self_attn.q_proj.{factor}.weight");
            (
                name,
                HostMatrix {
                    shape: [1, values.len()],
                    values,
                },
            )
        };
        let mean = BTreeMap::from([of("lora_A", vec![3.0, 4.0]), of("lora_B", vec![0.0])]);
        let found = layers(
            &mean,
            &BTreeMap::from([of("lora_A", vec![0.25, 0.25]), of("lora_B", vec![4.0])]),
        );
        assert_eq!(
            (found.len(), found[0].layer, found[0].all.weights),
            (1, 12, 3)
        );
        assert_eq!(
            (found[0].a.rms, found[0].a.sigma),
            (12.5f64.sqrt(), Some([0.5; 3]))
        );
        assert_eq!((found[0].b.rms, found[0].b.sigma), (0.0, Some([2.0; 3])));
        assert_eq!(found[0].all.sigma.map(|sigma| sigma[1]), Some(0.5));
        assert_eq!(layers(&mean, &BTreeMap::new())[0].all.sigma, None);
    }

    #[test]
    fn tables_and_other_whole_layers_are_counted_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mean = adapter(2, "q_proj");
        write_peft(folder.path(), &mean, &config("q_proj"), None).unwrap();
        let path = folder.path().join(ADAPTER_FILE);
        let (mut matrices, metadata) = read_matrices(&path).unwrap();
        let mut insert = |name: &str| {
            let matrix = HostMatrix {
                shape: [96, 32],
                values: vec![1.0; 96 * 32],
            };
            matrices.insert(format!("base_model.model.{name}.weight"), matrix);
        };
        for name in ["score", "lm_head", "model.embed_tokens.base_layer"] {
            insert(name);
        }
        write_matrices(&path, &matrices, metadata).unwrap();
        let summary = summarise(folder.path()).unwrap();
        let count = mean.parameter_count() + 96 * 32;
        assert_eq!((summary.parameters, summary.layers.len()), (count, 2));
        let [table] = &summary.tables[..] else {
            panic!("{:?}", summary.tables)
        };
        assert_eq!((table.table, table.all.weights), ("lm_head", 96 * 32));
        let [whole] = &summary.beside.whole[..] else {
            panic!("{:?}", summary.beside)
        };
        assert_eq!((whole.module.as_str(), whole.shape), ("score", [96, 32]));
    }

    #[test]
    fn a_kind_without_variances_of_weights_has_no_sigma_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mean = adapter(2, "q_proj");
        write_peft(folder.path(), &mean, &config("q_proj"), None).unwrap();
        let variance = mean.clone_with(|_, tensor| tensor * 0.0 + 0.01);
        let swag = Swag::new(mean.clone(), variance.clone(), vec![]).unwrap();
        write_posterior(folder.path(), &swag, "swag", 1.0).unwrap();
        let summary = summarise(folder.path()).unwrap();
        assert!(!summary.has_sigma() && summary.posterior_in_words().unwrap().starts_with("SWAG"));
        let gaussian = Gaussian::new(mean, variance).unwrap();
        let laplace = Laplace::new(gaussian, LaplacePrediction::Samples).unwrap();
        write_posterior(folder.path(), &laplace, "laplace", 1.0).unwrap();
        let summary = summarise(folder.path()).unwrap();
        assert!(
            summary.has_sigma() && summary.posterior_in_words().unwrap().starts_with("Laplace")
        );
    }

    #[test]
    fn a_folder_is_read_with_or_without_a_posterior() {
        let folder = tempfile::tempdir().unwrap();
        let mean = adapter(2, "q_proj");
        write_peft(folder.path(), &mean, &config("q_proj"), None).unwrap();
        let point = summarise(folder.path()).unwrap();
        assert_eq!(
            (
                point.parameters,
                point.layers.len(),
                point.posterior.clone()
            ),
            (mean.parameter_count(), 2, None)
        );
        let variance = mean.clone_with(|_, tensor| tensor * 0.0 + 0.01);
        write_posterior(
            folder.path(),
            &Gaussian::new(mean, variance).unwrap(),
            "ivon",
            0.3,
        )
        .unwrap();
        let summary = summarise(folder.path()).unwrap();
        assert_eq!(summary.posterior.as_ref().unwrap()["method"], "ivon");
        assert!((summary.layers[1].all.sigma.unwrap()[1] - 0.1).abs() < 1e-6);
        assert!(
            summary.has_sigma()
                && summary
                    .posterior_in_words()
                    .unwrap()
                    .starts_with("a normal distribution")
        );
        assert_eq!(point.posterior_in_words(), None);
        assert!(summarise(Path::new("/nowhere")).is_err());
    }
}
