//! An adapter: its options, what it was trained for, and the width of its posterior in each layer.
//! Needs no base model.

use std::path::Path;

use ivon_lora::bundle::{AdapterSummary, PredictWith, Sidecar, WeightSummary, summarise};
use ivon_lora::lora::{LoraConfig, TargetModules, read_peft_config};
use ivon_lora::metrics::Table;
use serde::Serialize;

use super::{Overview, pairs};
use crate::args::ScreenArgs;
use crate::commands::fetch_adapter;
use crate::exit::Failure;
use crate::render::{Screen, count};

/// An adapter at a glance.
#[derive(Debug, Serialize)]
pub struct AdapterOverview {
    config: LoraConfig,
    base: Option<String>,
    made_for: Option<Provenance>,
    #[serde(flatten)]
    summary: AdapterSummary,
}

/// What the sidecar records about training.
#[derive(Debug, Serialize)]
struct Provenance {
    task: String,
    method: String,
    max_length: usize,
    predict_with: PredictWith,
    samples: usize,
    scale: f64,
}

/// Reads an adapter folder, or an adapter on the hub.
///
/// # Errors
/// If a file is missing or malformed.
pub fn inspect(folder: &Path) -> Result<AdapterOverview, Failure> {
    let mut screen = Screen::new(ScreenArgs::default());
    let folder = &fetch_adapter(folder, &mut screen)?;
    screen.close();
    let (config, base) = read_peft_config(folder)?;
    let summary = summarise(folder)?;
    let made_for = Sidecar::read(folder)?.map(|sidecar| Provenance {
        task: sidecar.task.name,
        method: sidecar.method,
        max_length: sidecar.max_length,
        predict_with: sidecar.predict_with,
        samples: sidecar.samples,
        scale: sidecar.scale,
    });
    Ok(AdapterOverview {
        config,
        base,
        made_for,
        summary,
    })
}

impl Overview for AdapterOverview {
    fn text(&self) -> String {
        let config = &self.config;
        let targets = match &config.target_modules {
            TargetModules::List(names) => names.join(", "),
            TargetModules::Pattern(pattern) => pattern.clone(),
        };
        let base = self.base.clone().unwrap_or_else(|| "not named".into());
        let rank_stabilised = if config.use_rslora { " (rsLoRA)" } else { "" };
        let dora = match config.use_dora {
            true => ", rows of their own magnitude (DoRA)",
            false => "",
        };
        let layers = match &config.modules_to_save[..] {
            [] => targets,
            whole => format!("{targets}; whole: {}", whole.join(", ")),
        };
        let mut lines = vec![
            ("base", base),
            (
                "rank",
                format!(
                    "{}, alpha {}, scaled by {:.3}{rank_stabilised}{dora}",
                    config.rank,
                    config.alpha,
                    config.scaling(),
                ),
            ),
            ("layers", layers),
            ("weights", count(self.summary.parameters as u64)),
        ];
        lines.extend(patterns(config).map(|said| ("by layer", said)));
        lines.extend(self.beside().map(|said| ("holds besides", said)));
        match &self.made_for {
            None => lines.push(("made for", "not said: an adapter of another program".into())),
            Some(made_for) => lines.extend(made_for.lines()),
        }
        lines.push(("posterior", self.posterior()));
        pairs(&lines) + "\n" + &self.table().to_text()
    }
}

/// The ranks and alphas of single layers, if there are any.
fn patterns(config: &LoraConfig) -> Option<String> {
    let ranks = config.rank_pattern.iter();
    let ranks = ranks.map(|(key, rank)| format!("rank {rank} in `{key}`"));
    let alphas = config.alpha_pattern.iter();
    let alphas = alphas.map(|(key, alpha)| format!("alpha {alpha} in `{key}`"));
    let all: Vec<String> = ranks.chain(alphas).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

impl Provenance {
    fn lines(&self) -> [(&'static str, String); 3] {
        let with = match self.predict_with {
            PredictWith::Mean => "at the mean".into(),
            PredictWith::Samples => format!("averaged over {} draws", self.samples),
        };
        [
            (
                "made for",
                format!(
                    "task {}, prompts of at most {} tokens",
                    self.task, self.max_length
                ),
            ),
            ("trained with", self.method.clone()),
            ("predicts best", format!("{with}, scale {}", self.scale)),
        ]
    }
}

/// Entries of the posterior's file that are shown elsewhere or are only for programs.
const NOT_SHOWN: [&str; 5] = [
    "content",
    "format",
    "format_version",
    "mean_sha256",
    "method",
];

impl AdapterOverview {
    /// The metadata of the posterior's file.
    fn posterior(&self) -> String {
        let Some(said) = &self.summary.posterior else {
            return "none: a point estimate".into();
        };
        let facts: Vec<String> = said
            .iter()
            .filter(|(key, _)| !NOT_SHOWN.contains(&key.as_str()))
            .map(|(key, value)| format!("{} {value}", key.replace('_', " ")))
            .collect();
        let of = |key: &str| said.get(key).map_or("unknown", String::as_str);
        format!(
            "{} of {}: {}",
            of("content"),
            of("method"),
            facts.join(", ")
        )
    }

    /// Tensors that `predict`, `evaluate` and `merge` do not support, if any.
    fn beside(&self) -> Option<String> {
        let beside = &self.summary.beside;
        let whole = beside.whole.iter().map(|layer| {
            let [rows, columns] = layer.shape;
            format!(
                "the whole layer {} ({rows} × {columns}: {} weights)",
                layer.module,
                count((rows * columns) as u64)
            )
        });
        let adapted = beside
            .adapted
            .iter()
            .map(|module| format!("A and B of {module}"));
        let said: Vec<String> = whole.chain(adapted).collect();
        (!said.is_empty()).then(|| {
            format!(
                "{}; with them the adapter cannot be used here, merge it with PEFT first",
                said.join(", ")
            )
        })
    }

    fn table(&self) -> Table {
        let mut head = vec!["layer".to_string(), "weights".into(), "rms".into()];
        if self.summary.has_sigma() {
            head.extend(["σ 5 %", "σ 50 %", "σ 95 %"].map(String::from));
        }
        let layers = self.summary.layers.iter();
        let layers = layers.map(|layer| row(layer.layer.to_string(), &layer.all));
        let tables = self.summary.tables.iter();
        let tables = tables.map(|table| row(table.table.to_string(), &table.all));
        Table {
            head,
            rows: layers.chain(tables).collect(),
        }
    }
}

fn row(place: String, all: &WeightSummary) -> Vec<String> {
    let mut row = vec![place, all.weights.to_string(), format!("{:.2e}", all.rms)];
    let sigma = all.sigma.iter().flatten();
    row.extend(sigma.map(|sigma| format!("{sigma:.2e}")));
    row
}
