//! Trains the built-in toy with IVON and with AdamW through the library, and prints both next to
//! the best possible scores.
//!
//! ```sh
//! cargo run --release -p bench -- toy         # the run's own seed
//! cargo run --release -p bench -- toy 1 2 3   # several, to see the spread
//! ```

use std::path::Path;
use std::time::Instant;

use ivon_lora::answer::{EvaluationReport, RunReport};
use ivon_lora::data::Role;
use ivon_lora::metrics::{Scores, score_table};
use ivon_lora::run::train;
use ivon_lora_toy as toy;
use ivon_lora_toy::questions::Question;

use crate::Failure;

/// What to train.
#[derive(clap::Args)]
pub struct Options {
    /// Seeds; one run of each optimizer per seed.
    #[arg(default_values_t = [1])]
    seeds: Vec<u64>,
}

/// Trains with one of the toy's methods.
fn once(root: &Path, method: usize, seed: u64) -> Result<(EvaluationReport, f64), Failure> {
    let out = root.join(format!("run-{method}-{seed}"));
    let mut config = toy::run_config(
        toy::methods()[method].clone(),
        &root.join(toy::NAME),
        &root.join("data"),
        &out,
    );
    config.seed = seed;
    let started = Instant::now();
    let report = train(&config, false, &mut |_| true)?
        .report
        .and_then(RunReport::choices)
        .ok_or("the run was stopped")?;
    Ok((report, started.elapsed().as_secs_f64()))
}

/// The rows of the table: a name, and the scores of every seed.
type ScoreRows = Vec<(String, Vec<Scores>)>;

/// Trains and prints.
pub fn run(options: &Options) -> Result<(), Failure> {
    let root = tempfile::tempdir()?;
    toy::write_model(&root.path().join(toy::NAME))?;
    toy::write_data(&root.path().join("data"), toy::DATA_SEED)?;
    let mut rows = ScoreRows::new();
    for (index, method) in toy::methods().iter().enumerate() {
        let one = |seed: &u64| once(root.path(), index, *seed);
        let runs: Vec<_> = options.seeds.iter().map(one).collect::<Result<_, _>>()?;
        for (report, seconds) in &runs {
            println!("{}: {seconds:.0} s; {}", method.name(), report.sentence());
        }
        for (report, _) in &runs {
            add_rows(&mut rows, method.name(), report);
        }
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, scores)| (name.clone(), scores.iter().collect()))
        .collect();
    println!("\n{}", score_table(&rows).to_text());
    print_best_possible();
    Ok(())
}

/// Adds the scores of a run to the rows of the same names.
fn add_rows(rows: &mut ScoreRows, method: &str, report: &EvaluationReport) {
    for (name, scores) in report.rows() {
        let name = if name.starts_with("base") {
            name
        } else {
            format!("{method}, {name}")
        };
        let scores = scores.into_iter().cloned();
        match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => known.extend(scores),
            None => rows.push((name, scores.collect())),
        }
    }
}

/// The scores on test of a predictor that knows how the labels are drawn.
fn print_best_possible() {
    let questions = toy::questions::questions(Role::Test, toy::DATA_SEED);
    let count = questions.len() as f64;
    let correct = questions.iter().filter(|question| question.bayes_correct());
    let accuracy = correct.count() as f64 / count;
    let nll = questions.iter().map(Question::bayes_nll).sum::<f64>() / count;
    println!("who knows the generator: accuracy {accuracy:.3}, NLL {nll:.3}");
}
