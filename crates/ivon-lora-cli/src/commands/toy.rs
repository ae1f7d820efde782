//! `train` without model and data: the built-in toy, trained with both optimizers, with their
//! scores side by side.

use std::path::{Path, PathBuf};

use ivon_lora::answer::{EvaluationReport, RunReport};
use ivon_lora::files;
use ivon_lora::method::Method;
use ivon_lora::metrics::{Scores, score_table};
use ivon_lora::ranks::Alone;
use ivon_lora::run::RunConfig;
use ivon_lora_toy as toy;
use serde_json::{Value, json};

use super::prepare;
use super::training::{carry_out, dry_run, value};
use crate::args::TrainArgs;
use crate::exit::Failure;
use crate::render::Screen;
use crate::resolve;
use crate::signals::Signals;

/// The default folder for the toy's model, data and runs.
const FOLDER: &str = "runs/toy";

/// Trains the toy with both optimizers, or with the one named.
///
/// # Errors
/// Same as for any training.
pub fn run(args: &TrainArgs, signals: &Signals) -> Result<(), Failure> {
    let resolved = resolve::train(args)?.config;
    let folder = folder(&resolved, args.resume);
    let configs = configs(args, &resolved, &folder)?;
    if args.dry_run {
        return configs.iter().try_for_each(dry_run);
    }
    prepare(&resolved.model.device, resolved.model.threads)?;
    let mut screen = Screen::new(args.screen);
    screen.note("no model and no data are named: training the built-in toy");
    files::create_folder(&folder)?;
    toy::write_model(&folder.join(toy::NAME))?;
    toy::write_data(&folder.join("data"), toy::DATA_SEED)?;
    let mut reports = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    for config in &configs {
        let out = config.out.as_deref().unwrap_or(&folder);
        screen.note(format!("{} → {}", title(config), out.display()));
        // If the first run was interrupted, the second has not started yet.
        let resume = args.resume && out.join("checkpoints").exists();
        let trained = carry_out(config, resume, &Alone, &mut screen, signals)?;
        values.push(value(&trained));
        let report = trained.report.and_then(RunReport::choices);
        reports.extend(report.map(|report| (title(config), report)));
    }
    screen.result("toy", &text(&reports, &folder), &json!({ "runs": values }))
}

/// Where the toy's files go: `--out`, else a new folder, or with `--resume` the default one.
fn folder(resolved: &RunConfig, resume: bool) -> PathBuf {
    resolved.out.clone().unwrap_or_else(|| {
        if resume {
            FOLDER.into()
        } else {
            first_free(FOLDER)
        }
    })
}

/// A run for each of the toy's methods, or for the one that is named.
fn configs(
    args: &TrainArgs,
    resolved: &RunConfig,
    folder: &Path,
) -> Result<Vec<RunConfig>, Failure> {
    let is_named = args.settings.has("optimizer")
        || (args.config.is_some() && resolved.optimizer != RunConfig::default().optimizer);
    let config = |method: Method| {
        let out = folder.join(method.name());
        let base = toy::run_config(method, &folder.join(toy::NAME), &folder.join("data"), &out);
        Ok(RunConfig {
            out: Some(out),
            ..resolve::train_over(args, &base)?
        })
    };
    if !is_named {
        return toy::methods().into_iter().map(config).collect();
    }
    // A method that the toy has no settings for is trained with its own.
    let named = &resolved.optimizer;
    let with_settings = toy::methods().into_iter();
    let mut with_settings = with_settings.filter(|method| method.name() == named.name());
    let method = with_settings.next().unwrap_or_else(|| named.clone());
    Ok(vec![config(method)?])
}

/// `IVON`, `AdamW`, or the method's name in lower case.
fn title(config: &RunConfig) -> &'static str {
    match &config.optimizer {
        Method::Ivon(_) => "IVON",
        Method::Adamw(_) => "AdamW",
        other => other.name(),
    }
}

/// `runs/toy`, else the first of `runs/toy-2`, `runs/toy-3`, … that does not exist, so that trying
/// the toy twice is not an error.
fn first_free(name: &str) -> PathBuf {
    let numbered = (2..).map(|number| PathBuf::from(format!("{name}-{number}")));
    std::iter::once(PathBuf::from(name))
        .chain(numbered)
        .find(|path| !path.exists())
        .unwrap_or_else(|| name.into())
}

/// The table rows of one optimizer, named after it.
fn rows<'a>((name, report): &'a (&str, EvaluationReport)) -> Vec<(String, Vec<&'a Scores>)> {
    // Without draws, "mean" distinguishes nothing.
    let title = |row: String| match row
        .strip_prefix("mean")
        .filter(|_| report.samples.is_empty())
    {
        Some(rest) => format!("{name}{rest}"),
        None => format!("{name}, {row}"),
    };
    report
        .rows()
        .into_iter()
        .filter(|(row, _)| !row.starts_with("base"))
        .map(|(row, scores)| (title(row), scores))
        .collect()
}

/// The table of both optimizers, one plain sentence for each, and what to do next.
fn text(reports: &[(&str, EvaluationReport)], folder: &Path) -> String {
    let Some((_, first)) = reports.first() else {
        return String::new();
    };
    let base = first
        .base
        .as_ref()
        .map(|base| ("base, untuned".to_string(), vec![base]));
    let rows: Vec<_> = base
        .into_iter()
        .chain(reports.iter().flat_map(rows))
        .collect();
    let sentences: String = reports
        .iter()
        .map(|(name, report)| format!("{name}: {}.\n", report.sentence()))
        .collect();
    format!(
        "The built-in toy, {} made-up questions that were not trained on:\n\n{}\n{sentences}\n\
         This was the toy that comes with the program; all of it is in {}. A real model and your own data:\n\n  \
         ivon-lora train --model HuggingFaceTB/SmolLM2-135M-Instruct --data FOLDER --task sst2\n  ivon-lora train --help",
        first.n,
        score_table(&rows).to_text(),
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("toy").display().to_string();
        assert_eq!(first_free(&name), PathBuf::from(&name));
        std::fs::create_dir(&name).unwrap();
        assert_eq!(first_free(&name), PathBuf::from(format!("{name}-2")));
    }
}
