//! Both sides in turn: ours, theirs, ours, theirs, …; medians over passes and their ratios.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{Failure, ours};

/// How both sides are run.
#[derive(clap::Args)]
pub struct Options {
    /// Python with torch, transformers, peft and ivon-opt.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The reference program.
    #[arg(long, default_value = "../shared/reference/finetune.py")]
    reference: PathBuf,
    /// Runs of each side and optimizer.
    #[arg(long, default_value_t = 3)]
    passes: usize,
    /// Where the raw numbers go.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Leave the reference out.
    #[arg(long)]
    ours_only: bool,
    #[command(flatten)]
    ours: ours::Options,
}

/// The figures of a row: what it is, where it stands in a report.
const FIGURES: [(&str, &str); 5] = [
    ("training pass, s", "/sum_step_seconds"),
    ("median step, s", "/median_step_seconds"),
    ("evaluation at the mean, s", "/history/0/mean_seconds"),
    ("evaluation with samples, s", "/history/0/samples_seconds"),
    ("peak memory, MB", "/peak_rss_bytes"),
];

/// Runs both sides and prints the table.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut raw = Vec::new();
    for pass in 0..options.passes {
        for optimizer in ["adamw", "ivon"] {
            let sides: &[&str] = if options.ours_only { &["ours"] } else { &["ours", "reference"] };
            for side in sides {
                let report = if *side == "ours" { ours(options, optimizer)? } else { reference(options, optimizer)? };
                eprintln!("pass {pass} {optimizer} {side}: {:.2} s", number(&report, "/sum_step_seconds").unwrap_or(0.0));
                raw.push(serde_json::json!({"pass": pass, "optimizer": optimizer, "side": side, "report": report}));
            }
        }
    }
    println!("{:8} {:28} {:>10} {:>10} {:>8}", "", "median of passes", "ours", "reference", "ratio");
    for optimizer in ["adamw", "ivon"] {
        for (name, pointer) in FIGURES {
            let of = |side: &str| {
                median(&raw, optimizer, side, pointer).map(|value| if pointer.ends_with("bytes") { value / 1e6 } else { value })
            };
            let (ours, theirs) = (of("ours"), of("reference"));
            let show = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            println!("{optimizer:8} {name:28} {:>10} {:>10} {:>8}", show(ours), show(theirs), show(ratio));
        }
    }
    if let (Some(ivon), Some(adamw)) = (median(&raw, "ivon", "ours", FIGURES[1].1), median(&raw, "adamw", "ours", FIGURES[1].1)) {
        println!("an IVON step over an AdamW step: {:.3}", ivon / adamw);
    }
    if let Some(out) = &options.out {
        std::fs::write(out, serde_json::to_string_pretty(&raw)?)?;
    }
    Ok(())
}

fn number(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}

fn median(raw: &[Value], optimizer: &str, side: &str, pointer: &str) -> Option<f64> {
    let belongs = |run: &&Value| run["optimizer"] == optimizer && run["side"] == side;
    let mut values: Vec<f64> = raw.iter().filter(belongs).filter_map(|run| number(&run["report"], pointer)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn ours(options: &Options, optimizer: &str) -> Result<Value, Failure> {
    let given = &options.ours;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("ours").args(["--optimizer", optimizer, "--model", &given.model]).arg("--data").arg(&given.data);
    for (flag, value) in
        [("--questions", given.questions), ("--eval-limit", given.eval_limit), ("--samples", given.samples), ("--threads", given.threads)]
    {
        command.args([flag, &value.to_string()]);
    }
    command.args(given.as_is.then_some("--as-is")).args(given.recompute.then_some("--recompute"));
    last_line(command)
}

fn reference(options: &Options, optimizer: &str) -> Result<Value, Failure> {
    let given = &options.ours;
    let mut command = Command::new(&options.python);
    command.arg(&options.reference).args(["--optimizer", optimizer]).arg("--data").arg(&given.data);
    command.args(["--model", &given.model, "--bench", &(given.questions / 4).to_string(), "--train-limit", &given.questions.to_string()]);
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

/// Runs a side and reads the JSON of its last line.
fn last_line(mut command: Command) -> Result<Value, Failure> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().filter(|_| output.status.success()).ok_or_else(|| format!("{command:?} failed"))?;
    Ok(serde_json::from_str(line)?)
}
