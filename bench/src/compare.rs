//! Both sides alternately: ours, theirs, ours, theirs, …; medians over passes, and their ratios.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::measure::median;
use crate::report::{self, last_line};
use crate::{Failure, ours};

/// How to run both sides.
#[derive(clap::Args)]
pub struct Options {
    /// Python with torch, transformers, peft and ivon-opt.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The reference program.
    #[arg(long, default_value = "../shared/reference/finetune.py")]
    reference: PathBuf,
    /// Number of runs per side and optimizer.
    #[arg(long, default_value_t = 3)]
    passes: usize,
    /// Where to write the raw numbers as JSON, with machine, versions and command.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Skip the reference.
    #[arg(long)]
    ours_only: bool,
    #[command(flatten)]
    ours: ours::Options,
}

/// The rows of the table: name, and location in a report.
const FIGURES: [(&str, &str); 13] = [
    ("training pass, s", "/sum_step_seconds"),
    ("median step, s", "/median_step_seconds"),
    ("evaluation at the mean, s", "/history/0/mean_seconds"),
    ("evaluation with samples, s", "/history/0/samples_seconds"),
    ("start to first step, s", "/first_step_after_seconds"),
    ("peak memory, MB", "/peak_rss_bytes"),
    ("peak of training, MB", "/training_peak_bytes"),
    ("resident after tokenizer, MB", "/stages/1/resident_bytes"),
    ("resident after data, MB", "/stages/2/resident_bytes"),
    ("resident after decoder, MB", "/stages/3/resident_bytes"),
    ("training, GFLOP/s", "/operations_per_second"),
    ("large product, GFLOP/s", "/product_operations_per_second"),
    ("training / large product", "/share_of_product_rate"),
];

/// Runs both sides and prints the table.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runs = runs(options)?;
    print_table(&runs);
    let versions = if options.ours_only {
        None
    } else {
        reference_versions(&options.python)
    };
    report::write(
        options.out.as_deref(),
        &json!({"reference_versions": versions, "runs": runs}),
    )
}

/// All passes of both sides with both optimizers, alternately.
fn runs(options: &Options) -> Result<Vec<Value>, Failure> {
    let sides: &[&str] = if options.ours_only {
        &["ours"]
    } else {
        &["ours", "reference"]
    };
    let mut runs = Vec::new();
    for pass in 0..options.passes {
        for optimizer in ["adamw", "ivon"] {
            for side in sides {
                let report = match *side {
                    "ours" => ours(options, optimizer)?,
                    _ => reference(options, optimizer)?,
                };
                let seconds = number(&report, "/sum_step_seconds").unwrap_or(0.0);
                eprintln!("pass {pass} {optimizer} {side}: {seconds:.2} s");
                runs.push(
                    json!({"pass": pass, "optimizer": optimizer, "side": side, "report": report}),
                );
            }
        }
    }
    Ok(runs)
}

fn print_table(runs: &[Value]) {
    println!(
        "{:8} {:28} {:>10} {:>10} {:>8}",
        "", "median of passes", "ours", "reference", "ratio"
    );
    let shown = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
    for optimizer in ["adamw", "ivon"] {
        for (name, pointer) in FIGURES {
            let ours = of_side(runs, optimizer, "ours", pointer);
            let theirs = of_side(runs, optimizer, "reference", pointer);
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            println!(
                "{optimizer:8} {name:28} {:>10} {:>10} {:>8}",
                shown(ours),
                shown(theirs),
                shown(ratio)
            );
        }
    }
    let step = |optimizer| of_side(runs, optimizer, "ours", FIGURES[1].1);
    if let (Some(ivon), Some(adamw)) = (step("ivon"), step("adamw")) {
        println!("an IVON step over an AdamW step: {:.3}", ivon / adamw);
    }
}

fn number(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}

/// The median over a side's runs, in the unit of its row.
fn of_side(runs: &[Value], optimizer: &str, side: &str, pointer: &str) -> Option<f64> {
    let belongs = |run: &&Value| run["optimizer"] == optimizer && run["side"] == side;
    let values: Vec<f64> = runs
        .iter()
        .filter(belongs)
        .filter_map(|run| number(&run["report"], pointer))
        .collect();
    let unit = match pointer {
        pointer if pointer.ends_with("bytes") => 1e-6,
        pointer if pointer.ends_with("operations_per_second") => 1e-9,
        _ => 1.0,
    };
    (!values.is_empty()).then(|| unit * median(values))
}

/// Versions of the reference's packages, as reported by its Python.
fn reference_versions(python: &Path) -> Option<Value> {
    let program = "import json, platform, importlib.metadata as m; \
                   print(json.dumps({'python': platform.python_version()} | {p: m.version(p) for p in ('torch', 'transformers', 'peft', 'ivon-opt')}))";
    let output = Command::new(python).args(["-c", program]).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn ours(options: &Options, optimizer: &str) -> Result<Value, Failure> {
    let given = &options.ours;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("ours")
        .args(["--optimizer", optimizer, "--model", &given.model])
        .arg("--data")
        .arg(&given.data);
    for (flag, value) in [
        ("--questions", given.questions),
        ("--eval-limit", given.eval_limit),
        ("--samples", given.samples),
        ("--threads", given.threads),
    ] {
        command.args([flag, &value.to_string()]);
    }
    command
        .args(given.as_is.then_some("--as-is"))
        .args(["--compute", &given.compute])
        .args(given.recompute.then_some("--recompute"));
    last_line(command)
}

fn reference(options: &Options, optimizer: &str) -> Result<Value, Failure> {
    let given = &options.ours;
    let mut command = Command::new(&options.python);
    command
        .arg(&options.reference)
        .args(["--optimizer", optimizer])
        .arg("--data")
        .arg(&given.data);
    command.args([
        "--model",
        &given.model,
        "--bench",
        &(given.questions / 4).to_string(),
        "--train-limit",
        &given.questions.to_string(),
    ]);
    command.args([
        "--eval-limit",
        &given.eval_limit.to_string(),
        "--samples",
        &given.samples.to_string(),
        "--threads",
        &given.threads.to_string(),
    ]);
    last_line(command)
}
