//! The products with a frozen matrix, forward and backward, in f32 and in 8-bit integers: rates and
//! errors, in turn in one process.

use std::path::PathBuf;
use std::time::Instant;

use ivon_lora::kernel::{Output, apply, apply_to_few, apply_transposed};
use ivon_lora::model::gguf::quantize::quantize;
use ivon_lora::model::{Change, Compute, Encoding, FrozenMatrix, StoredTensor};
use ivon_lora::random::{Purpose, stream, uniform};
use serde_json::{Value, json};

use crate::measure::median;
use crate::{Failure, machine, report};

/// `[out, in]`: matrices of SmolLM2-135M and of Llama-2-7B.
const SHAPES: [[usize; 2]; 6] = [
    [576, 576],
    [1536, 576],
    [576, 1536],
    [4096, 4096],
    [11_008, 4096],
    [4096, 11_008],
];

/// What is measured.
#[derive(clap::Args)]
pub struct Options {
    /// The numbers of rows of x: those up to 16 by the product of few rows.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 64, 265])]
    rows: Vec<usize>,
    /// The encodings of the matrix: of `f32`, `f16`, `bf16`, `q8_0` and `q4_0`.
    #[arg(long, value_delimiter = ',', default_values_t = ["f32", "q8_0", "q4_0"].map(String::from))]
    encodings: Vec<String>,
    /// How many of the six shapes.
    #[arg(long, default_value_t = 6)]
    shapes: usize,
    /// Measurements of each, of which the median counts.
    #[arg(long, default_value_t = 7)]
    passes: usize,
    /// CPU threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where to write the report as JSON, with machine, versions and command.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measures, and prints one JSON object on a line for each shape and number of rows.
pub fn run(options: &Options) -> Result<(), Failure> {
    machine::start_threads(options.threads)?;
    let mut found = Vec::new();
    for shape in SHAPES.into_iter().take(options.shapes) {
        let values = normal(shape[0] * shape[1]);
        let mut matrices = Vec::new();
        for name in &options.encodings {
            let matrix = encoded(name, shape, &values)?;
            matrices.push((name, "f32", matrix.clone()));
            matrices.push((name, "int8", matrix.computed_in(Compute::Int8)));
        }
        for &rows in &options.rows {
            let row = measure(options, shape, rows, &matrices);
            println!("{row}");
            found.push(row);
        }
    }
    report::write(options.out.as_deref(), &json!({ "products": found }))
}

/// Nearly normal numbers: sums of four uniform ones.
fn normal(count: usize) -> Vec<f32> {
    let mut stream = stream(0, Purpose::Initialisation, 0, 0, "products");
    let mut number = || (0..4).map(|_| uniform(&mut stream) - 0.5).sum::<f64>() as f32;
    (0..count).map(|_| number()).collect()
}

fn encoded(name: &str, shape: [usize; 2], values: &[f32]) -> Result<FrozenMatrix, Failure> {
    let encoding = Encoding::ALL.into_iter();
    let mut encoding = encoding.filter(|(_, known, _)| known.eq_ignore_ascii_case(name));
    let (encoding, ..) = encoding.next().ok_or("an encoding")?;
    if encoding == Encoding::F32 {
        return Ok(FrozenMatrix::new(shape[0], shape[1], values.to_vec()));
    }
    let mut bytes = Vec::new();
    if !quantize(encoding, values, &mut bytes) {
        return Err("an encoding that can be written".into());
    }
    let shape = shape.to_vec();
    let stored = StoredTensor::new("w".into(), shape, encoding, &bytes, Change::default());
    let stored = stored.ok_or("whole blocks")?;
    Ok(FrozenMatrix::kept(&stored))
}

/// The rates of all matrices with so many rows of x, in turn, and the errors against the first.
fn measure(
    options: &Options,
    shape: [usize; 2],
    rows: usize,
    matrices: &[(&String, &str, FrozenMatrix)],
) -> Value {
    let x = normal(rows * shape[1]);
    let dy = normal(rows * shape[0]);
    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    let operations = 2.0 * (rows * shape[0] * shape[1]) as f64;
    // Long enough for the clock, and as often as that takes.
    let times = (2e8 / operations).ceil().max(1.0) as usize;
    let mut seconds = vec![[Vec::new(), Vec::new()]; matrices.len()];
    let mut errors = vec![[0.0; 2]; matrices.len()];
    for _ in 0..options.passes.max(1) {
        let mut first = None;
        for (index, (.., matrix)) in matrices.iter().enumerate() {
            let started = Instant::now();
            (0..times).for_each(|_| forward(matrix, &x, &mut y, rows));
            seconds[index][0].push(started.elapsed().as_secs_f64() / times as f64);
            let started = Instant::now();
            (0..times).for_each(|_| apply_transposed(&[(matrix, &dy)], &mut dx, false));
            seconds[index][1].push(started.elapsed().as_secs_f64() / times as f64);
            let (y_first, dx_first) = first.get_or_insert_with(|| (y.clone(), dx.clone()));
            errors[index] = [relative_error(&y, y_first), relative_error(&dx, dx_first)];
        }
    }
    let rates = matrices.iter().zip(seconds).zip(errors);
    let rates = rates.map(|(((encoding, compute, matrix), seconds), errors)| {
        let [forward, backward] = seconds.map(median);
        json!({
            "weights": encoding,
            "compute": compute,
            "forward_gflops": (operations / forward / 1e9).round(),
            "backward_gflops": (operations / backward / 1e9).round(),
            "forward_gigabytes_per_second": (matrix.bytes() as f64 / forward / 1e7).round() / 100.0,
            "errors": errors.map(|error| (error * 1e5).round() / 1e5),
        })
    });
    json!({ "shape": shape, "rows": rows, "rates": rates.collect::<Vec<_>>() })
}

fn forward(matrix: &FrozenMatrix, x: &[f32], y: &mut [f32], rows: usize) {
    let output = Output {
        matrix,
        y,
        onto: None,
    };
    match rows {
        0..=16 => apply_to_few(x, vec![output]),
        _ => apply(x, vec![output]),
    }
}

/// |found − expected| / |expected|, of all elements together.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let pairs = found.iter().zip(expected);
    let squares = pairs.map(|(x, y)| [(x - y).powi(2), y * y].map(f64::from));
    let [error, size] = squares.fold([0.0; 2], |sums, x| [sums[0] + x[0], sums[1] + x[1]]);
    (error / size).sqrt()
}
