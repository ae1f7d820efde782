//! The comparisons that lie in `bench/`: all of them read, and the paper's runs on a tiny model.

use std::path::{Path, PathBuf};

use ivon_lora_lab::compare::{CompareConfig, ComparisonResults, Form, compare};
use toml::{Table, Value};

fn bench(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench")).join(name)
}

fn paper(model: &str) -> CompareConfig {
    CompareConfig::read(&bench("paper").join(format!("{model}.toml"))).unwrap()
}

/// The public data sets and, beside them, a tiny model with a tokenizer of its own; none if they are
/// not on this machine.
fn public_data() -> Option<[PathBuf; 2]> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let data = std::env::var_os("IVON_LORA_DATA").map_or_else(beside, PathBuf::from);
    let base = data.join("../cases/base");
    if !(data.is_dir() && base.is_dir()) {
        eprintln!(
            "skipped: no public data at `{}`, set IVON_LORA_DATA",
            data.display()
        );
        return None;
    }
    Some([data, base])
}

/// Sets `table.key`.
fn set(tables: &mut Table, [table, key]: [&str; 2], value: impl Into<Value>) {
    let inner = tables
        .entry(table)
        .or_insert_with(|| Value::Table(Table::new()));
    let inner = inner.as_table_mut().unwrap();
    inner.insert(key.into(), value.into());
}

#[test]
fn every_comparison_in_bench_reads() {
    for name in ["comparison", "posterior"] {
        CompareConfig::read(&bench("results").join(format!("{name}.toml"))).unwrap();
    }
}

#[test]
fn the_paper_s_files_differ_in_the_model_alone() {
    let of = |model: &str| {
        let mut config = paper(model);
        assert_eq!(config.out, Path::new("runs/paper").join(model));
        config.out = PathBuf::new();
        set(&mut config.run, ["model", "path"], "");
        config
    };
    assert_eq!(of("llama-2-7b"), of("llama-3.2-1b"));
    assert_eq!(of("llama-2-7b"), of("qwen3-0.6b"));
}

#[test]
fn the_paper_s_settings_are_those_of_its_scripts() {
    let config = paper("llama-2-7b");
    let of = |method: usize, task: usize| {
        let cell = config.cell(&config.tasks[task], &config.methods[method], 21);
        Table::try_from(cell.unwrap()).unwrap()
    };
    let number = |table: &Table, key: &str| table["optimizer"][key].as_float().unwrap();
    let ess = (0..6).map(|task| number(&of(1, task), "ess"));
    assert_eq!(ess.collect::<Vec<_>>(), [1e7, 1e8, 1e6, 1e6, 1e6, 1e7]);
    let start = (0..6).map(|task| number(&of(1, task), "hess_init"));
    assert_eq!(
        start.collect::<Vec<_>>(),
        [3e-4, 3e-4, 1e-3, 1e-3, 1e-3, 3e-4]
    );
    assert_eq!(number(&of(0, 0), "learning_rate"), 5e-5);
    assert_eq!(number(&of(1, 0), "learning_rate"), 0.03);
    assert_eq!(of(1, 0)["train"]["steps"].as_integer(), Some(10_000));
}

#[test]
fn ten_steps_of_the_paper_s_experiment_on_a_tiny_model_make_its_table() {
    let Some([data, base]) = public_data() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut config = paper("llama-2-7b");
    config.out = folder.path().join("out");
    config.seeds = vec![21];
    set(&mut config.run, ["model", "path"], base.to_str().unwrap());
    set(&mut config.run, ["train", "steps"], 10);
    set(&mut config.run, ["train", "checkpoint_interval"], 10);
    set(&mut config.run, ["evaluation", "samples"], 2);
    set(&mut config.run, ["data", "train_limit"], 40);
    set(&mut config.run, ["data", "eval_limit"], 4);
    for task in &mut config.tasks {
        let path = data.join(&task.name);
        set(
            &mut task.settings,
            ["data", "path"],
            path.to_str().unwrap().to_string(),
        );
    }
    config.validate().unwrap();
    let results = compare(&config, &mut |_| true).unwrap();
    let made = results.comparison().unwrap();
    assert_eq!(made.failed, []);
    let tasks: Vec<&str> = made.table.tasks.iter().map(|task| &*task.task).collect();
    let expected: Vec<&str> = config.tasks.iter().map(|task| &*task.name).collect();
    assert_eq!(tasks, expected);
    for task in &made.table.tasks {
        let trained = task.rows.iter().filter(|row| row.form != Form::Yardstick);
        let names: Vec<&str> = trained.map(|row| &*row.name).collect();
        let expected = [
            "AdamW",
            "IVON, mean",
            "IVON, 2 samples",
            "IVON, our defaults, mean",
            "IVON, our defaults, 2 samples",
        ];
        assert_eq!((names, task.n), (expected.to_vec(), 4), "{}", task.task);
    }
    let packed = folder.path().join("results.jsonl.gz");
    results.write(&packed).unwrap();
    let again = ComparisonResults::read(&packed).unwrap();
    assert_eq!(again.comparison().unwrap().table, made.table);
}
