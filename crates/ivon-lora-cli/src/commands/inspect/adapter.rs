//! An adapter: its options, what it was trained for, and how wide its posterior is in each layer.
//! Needs no base.

use std::path::Path;

use ivon_lora::bundle::{AdapterSummary, LayerSummary, PredictWith, Sidecar, summarise};
use ivon_lora::lora::{LoraConfig, read_peft_config};
use ivon_lora::metrics::Table;
use serde::Serialize;

use super::{Seen, pairs};
use crate::args::ScreenArgs;
use crate::commands::fetch_adapter;
use crate::exit::Failure;
use crate::render::{Screen, count};

/// An adapter at a glance.
#[derive(Debug, Serialize)]
pub struct AdapterSeen {
    config: LoraConfig,
    base: Option<String>,
    made_for: Option<MadeFor>,
    #[serde(flatten)]
    summary: AdapterSummary,
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

/// Reads an adapter folder, or an adapter of the hub.
///
/// # Errors
/// If a file is missing or malformed.
pub fn inspect(folder: &Path) -> Result<AdapterSeen, Failure> {
    let mut screen = Screen::new(ScreenArgs::default());
    let folder = &fetch_adapter(folder, &mut screen)?;
    screen.close();
    let (config, base) = read_peft_config(folder)?;
    let summary = summarise(folder)?;
    let made_for = Sidecar::read(folder)?.map(|sidecar| MadeFor {
        task: sidecar.task.name,
        method: sidecar.method,
        max_length: sidecar.max_length,
        predict_with: sidecar.predict_with,
        samples: sidecar.samples,
        scale: sidecar.scale,
    });
    Ok(AdapterSeen {
        config,
        base,
        made_for,
        summary,
    })
}

impl Seen for AdapterSeen {
    fn text(&self) -> String {
        let config = &self.config;
        let targets = match &config.target_modules {
            ivon_lora::lora::TargetModules::List(names) => names.join(", "),
            ivon_lora::lora::TargetModules::Pattern(pattern) => pattern.clone(),
        };
        let mut lines = vec![
            (
                "base",
                self.base.clone().unwrap_or_else(|| "not named".into()),
            ),
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
            ("weights", count(self.summary.parameters as u64)),
        ];
        lines.extend(self.beside().map(|said| ("holds besides", said)));
        match &self.made_for {
            None => lines.push(("made for", "not said: an adapter of another program".into())),
            Some(made) => {
                let with = match made.predict_with {
                    PredictWith::Mean => "at the mean".into(),
                    PredictWith::Samples => format!("averaged over {} draws", made.samples),
                };
                lines.push((
                    "made for",
                    format!(
                        "task {}, prompts of at most {} tokens",
                        made.task, made.max_length
                    ),
                ));
                lines.push(("trained with", made.method.clone()));
                lines.push(("predicts best", format!("{with}, scale {}", made.scale)));
            }
        }
        let posterior = match &self.summary.posterior {
            None => "none: a point estimate".into(),
            Some(said) => {
                let facts = said.iter().filter(|(key, _)| {
                    ![
                        "content",
                        "format",
                        "format_version",
                        "mean_sha256",
                        "method",
                    ]
                    .contains(&key.as_str())
                });
                let facts: Vec<String> = facts
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
        };
        lines.push(("posterior", posterior));
        pairs(&lines) + "\n" + &self.table().to_text()
    }
}

impl AdapterSeen {
    /// What `predict`, `evaluate` and `merge` do not read, where there is any.
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
        let row = |layer: &LayerSummary| {
            let mut row = vec![
                layer.layer.to_string(),
                layer.all.weights.to_string(),
                format!("{:.2e}", layer.all.rms),
            ];
            row.extend(
                layer
                    .all
                    .sigma
                    .iter()
                    .flatten()
                    .map(|sigma| format!("{sigma:.2e}")),
            );
            row
        };
        Table {
            head,
            rows: self.summary.layers.iter().map(row).collect(),
        }
    }
}
