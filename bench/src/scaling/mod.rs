//! How time and memory grow with batch and length, model size, number of steps, and number of
//! draws.
//!
//! Each point runs in a process of its own (`bench scaling-point …`), so that its peak memory is
//! its own. Tokens are random, so no prompts share a prefix: N tokens are N tokens.

pub mod point;

use std::path::{Path, PathBuf};
use std::process::Command;

use ivon_lora::model::Encoding;
use serde_json::{Value, json};

use point::BaseOptions;

use crate::plot::{Axis, Panel, figure};
use crate::write_model::{bytes_as_tokens, write};
use crate::{Failure, report, shapes, write_folder};

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    /// The shape for every part except the one over model sizes.
    #[arg(long, default_value = "smollm2-135m")]
    shape: String,
    /// The shapes for the part over model sizes.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "smollm2-135m,smollm2-360m,tinyllama-1.1b"
    )]
    sizes: Vec<String>,
    /// Steps per point.
    #[arg(long, default_value_t = 6)]
    steps: usize,
    /// Number of short steps over which memory is recorded.
    #[arg(long, default_value_t = 1000)]
    short_steps: usize,
    /// The folder of the models, which are written there if missing (Q8_0, random weights).
    #[arg(long, default_value = "models/random")]
    models: PathBuf,
    /// Where to write the report as JSON, with machine, versions and command.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to write the plot as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    #[command(flatten)]
    base: BaseOptions,
}

/// Numbers of sequences and of tokens per sequence.
const BATCHES: [(usize, usize); 4] = [(1, 64), (4, 64), (16, 64), (16, 320)];
/// Time per token is reported relative to this point.
const REFERENCE: (usize, usize) = (4, 64);
const SAMPLES: [usize; 6] = [0, 1, 2, 4, 8, 16];

/// The reports of all points.
struct Reports {
    /// One for each of [`BATCHES`].
    batches: Vec<Value>,
    /// One for each model size, with the name of its shape.
    sizes: Vec<Value>,
    /// Of many short steps.
    short: Value,
    /// With each number of draws.
    draws: Value,
}

/// Measures every point and prints tables.
pub fn run(options: &Options) -> Result<(), Failure> {
    let model = model_of(&options.models, &options.shape)?;
    let batches = measure_batches(options, &model)?;
    print_batches(&options.shape, &batches);
    let sizes = measure_sizes(options)?;
    print_sizes(&sizes);
    let reports = Reports {
        batches,
        sizes,
        short: measure_short_steps(options, &model)?,
        draws: measure_draws(options, &model)?,
    };
    let resident = series(&reports.short, "resident_bytes_after_steps", 1e-6);
    print_series("step", "resident, MB", &resident);
    let seconds = series(&reports.draws, "evaluation_seconds_by_samples", 1.0);
    print_series("samples", "evaluation, s", &seconds);
    if let Some(path) = &options.plot {
        let svg = figure(&panels(&reports));
        ivon_lora::files::write_bytes(path, svg.as_bytes())?;
    }
    report::write(
        options.out.as_deref(),
        &json!({
            "shape": options.shape, "batches": reports.batches, "sizes": reports.sizes,
            "short_steps": reports.short, "samples": reports.draws,
        }),
    )
}

fn measure_batches(options: &Options, model: &Path) -> Result<Vec<Value>, Failure> {
    let one = |(batch, length): (usize, usize)| {
        let numbers = [
            ("--batch", batch),
            ("--length", length),
            ("--steps", options.steps),
        ];
        point(options, model, &numbers, &[])
    };
    BATCHES.into_iter().map(one).collect()
}

fn measure_sizes(options: &Options) -> Result<Vec<Value>, Failure> {
    let one = |shape: &String| {
        let model = model_of(&options.models, shape)?;
        let report = point(options, &model, &[("--steps", options.steps)], &[])?;
        Ok(json!({"shape": shape, "report": report}))
    };
    options.sizes.iter().map(one).collect()
}

fn measure_short_steps(options: &Options, model: &Path) -> Result<Value, Failure> {
    let every = options.short_steps.div_ceil(20).max(1);
    let numbers = [
        ("--batch", 1),
        ("--length", 16),
        ("--steps", options.short_steps),
        ("--watch-every", every),
    ];
    point(options, model, &numbers, &[])
}

fn measure_draws(options: &Options, model: &Path) -> Result<Value, Failure> {
    let samples = SAMPLES.map(|samples| samples.to_string()).join(",");
    let numbers = [("--batch", 16), ("--steps", 1)];
    point(options, model, &numbers, &["--samples", &samples])
}

/// The file of a shape, written if missing.
fn model_of(folder: &Path, shape: &str) -> Result<PathBuf, Failure> {
    if shapes::config_json(shape).is_some() {
        let path = folder.join(shape);
        if !path.exists() {
            eprintln!("writing `{}`", path.display());
            write_folder::write(&path, shape, 1)?;
        }
        return Ok(path);
    }
    let path = folder.join(format!("{shape}-q8_0.gguf"));
    if !path.exists() {
        let config = shapes::named(shape).ok_or_else(|| format!("there is no shape `{shape}`"))?;
        ivon_lora::files::create_folder(folder)?;
        eprintln!("writing `{}`", path.display());
        write(&path, &config, Encoding::Q8_0, bytes_as_tokens(), 1)?;
    }
    Ok(path)
}

fn point(
    options: &Options,
    model: &Path,
    numbers: &[(&str, usize)],
    more: &[&str],
) -> Result<Value, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["scaling-point", "--model"])
        .arg(model)
        .args(options.base.flags())
        .args(more);
    for (flag, number) in numbers {
        command.args([flag, &number.to_string().as_str()]);
    }
    eprintln!("{command:?}");
    report::last_line(command)
}

fn number(report: &Value, key: &str) -> f64 {
    report[key].as_f64().unwrap_or(f64::NAN)
}

/// The pairs in an array of a report, the second number multiplied by `factor`.
fn series(report: &Value, key: &str, factor: f64) -> Vec<(f64, f64)> {
    let pairs = report[key].as_array().map_or(&[][..], Vec::as_slice);
    pairs
        .iter()
        .filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_f64()? * factor)))
        .collect()
}

fn label(report: &Value) -> String {
    format!("{} × {}", report["batch"], report["length"])
}

fn print_batches(shape: &str, batches: &[Value]) {
    let reference = batches
        .iter()
        .find(|report| report["batch"] == REFERENCE.0 && report["length"] == REFERENCE.1);
    let reference = reference.map_or(f64::NAN, |report| number(report, "seconds_per_token"));
    println!(
        "{shape}, batch × length:\n{:10} {:>10} {:>10} {:>12} {:>12} {:>14}",
        "", "ms/token", "of 4 × 64", "GFLOP/s", "of product", "peak, MB"
    );
    for report in batches {
        println!(
            "{:10} {:10.3} {:10.2} {:12.1} {:12.2} {:14.0}",
            label(report),
            1e3 * number(report, "seconds_per_token"),
            number(report, "seconds_per_token") / reference,
            1e-9 * number(report, "operations_per_second"),
            number(report, "share_of_product_rate"),
            1e-6 * number(report, "training_peak_bytes"),
        );
    }
}

fn print_sizes(sizes: &[Value]) {
    println!(
        "\n{:16} {:>12} {:>10} {:>12} {:>12} {:>14}",
        "4 × 64", "parameters", "ms/token", "GFLOP/s", "of product", "peak, MB"
    );
    for size in sizes {
        let report = &size["report"];
        println!(
            "{:16} {:12} {:10.3} {:12.1} {:12.2} {:14.0}",
            size["shape"].as_str().unwrap_or_default(),
            report["parameters"],
            1e3 * number(report, "seconds_per_token"),
            1e-9 * number(report, "operations_per_second"),
            number(report, "share_of_product_rate"),
            1e-6 * number(report, "training_peak_bytes"),
        );
    }
}

fn print_series(x: &str, y: &str, points: &[(f64, f64)]) {
    println!("\n{x:>10} {y:>16}");
    for (at, value) in points {
        println!("{at:10} {value:16.3}");
    }
}

fn panels(reports: &Reports) -> Vec<Panel> {
    let names: Vec<String> = reports.batches.iter().map(label).collect();
    let names = || Axis::Names(names.clone());
    let axis = |title: &str| Axis::Numbers(title.into());
    let time_by_batch = over_batches(&reports.batches, "seconds_per_token", 1e3);
    let peak_by_batch = over_batches(&reports.batches, "training_peak_bytes", 1e-6);
    let time_by_size = over_sizes(&reports.sizes, "seconds_per_token", 1e3);
    let peak_by_size = over_sizes(&reports.sizes, "training_peak_bytes", 1e-6);
    let resident = series(&reports.short, "resident_bytes_after_steps", 1e-6);
    let seconds = series(&reports.draws, "evaluation_seconds_by_samples", 1.0);
    let (time, peak, size) = (
        "time per token",
        "peak memory of training",
        "million parameters",
    );
    vec![
        Panel::new(time, names(), "ms", time_by_batch),
        Panel::new(peak, names(), "MB", peak_by_batch),
        Panel::new(time, axis(size), "ms", time_by_size),
        Panel::new(peak, axis(size), "MB", peak_by_size),
        Panel::new("resident memory", axis("steps"), "MB", resident),
        Panel::new("evaluation", axis("samples"), "s", seconds),
    ]
}

fn over_batches(batches: &[Value], key: &str, factor: f64) -> Vec<(f64, f64)> {
    let point = |(at, report)| (at as f64, factor * number(report, key));
    batches.iter().enumerate().map(point).collect()
}

fn over_sizes(sizes: &[Value], key: &str, factor: f64) -> Vec<(f64, f64)> {
    let point = |size: &Value| {
        let report = &size["report"];
        (
            1e-6 * number(report, "parameters"),
            factor * number(report, key),
        )
    };
    sizes.iter().map(point).collect()
}
