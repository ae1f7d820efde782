//! Runs of several ranks, which are threads here: the trajectory is that of one process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ivon_lora::lora::read_matrices;
use ivon_lora::method::{DrawPer, IvonMethodConfig, Method};
use ivon_lora::ranks::ThreadRank;
use ivon_lora::run::{RunConfig, RunError, TrainedRun, train, train_on_ranks};
use ivon_lora::train::Outcome;
use ivon_lora::watch::Event;
use ivon_lora_toy as toy;

/// The toy's model and data in a folder.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        toy::write_model(&folder.path().join(toy::NAME)).unwrap();
        toy::write_data(&folder.path().join("data"), toy::DATA_SEED).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Twelve steps on few rows.
    fn config(&self, method: Method, out: &str) -> RunConfig {
        let (model, data) = (self.path(toy::NAME), self.path("data"));
        let mut config = toy::run_config(method, &model, &data, &self.path(out));
        config.train.steps = Some(12);
        config.train.batch_size = 6;
        config.train.eval_interval = Some(6);
        config.train.eval_samples = 1;
        config.data.train_limit = Some(60);
        config.data.eval_limit = Some(30);
        config.evaluation.samples = 2;
        config.evaluation.choose_scale = false;
        config
    }
}

fn on_ranks(config: &RunConfig, size: usize, resume: bool) -> Vec<Result<TrainedRun, RunError>> {
    ThreadRank::run(size, |ranks| {
        train_on_ranks(config, resume, ranks, &mut |_| true)
    })
}

/// The matrices of a run's adapter, and the largest absolute weight.
fn weights(run: &Path) -> (BTreeMap<String, Vec<f32>>, f32) {
    let path = run.join("adapter/adapter_model.safetensors");
    let (matrices, _) = read_matrices(&path).unwrap();
    let weights: BTreeMap<String, Vec<f32>> = matrices
        .into_iter()
        .map(|(path, matrix)| (path, matrix.values))
        .collect();
    let all = weights.values().flatten();
    let largest = all.fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    (weights, largest)
}

/// The largest difference of two runs' weights, in terms of the largest weight.
fn difference(one: &Path, other: &Path) -> f32 {
    let ((one, largest), (other, _)) = (weights(one), weights(other));
    assert!(one.keys().eq(other.keys()));
    let pairs = one.values().flatten().zip(other.values().flatten());
    pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

fn nll(run: &Path) -> f64 {
    let text = std::fs::read_to_string(run.join("evaluation.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    report["mean"]["nll"].as_f64().unwrap()
}

#[test]
fn every_method_takes_the_same_steps_on_two_ranks_as_on_one() {
    let place = Place::new();
    for method in Method::all() {
        let name = method.name();
        let alone = place.config(method.clone(), &format!("{name}/alone"));
        let mut both = place.config(method, &format!("{name}/both"));
        if name == "last-layer" {
            for refused in on_ranks(&both, 2, false) {
                let said = refused.unwrap_err().to_string();
                assert!(
                    said.starts_with("`optimizer` is `last-layer` on 2 ranks"),
                    "{said}"
                );
            }
            continue;
        }
        train(&alone, false, &mut |_| true).unwrap();
        both.model.threads = None;
        for run in on_ranks(&both, 2, false) {
            assert_eq!(run.unwrap().steps, 12);
        }
        let runs = [alone, both].map(|config| config.out.unwrap());
        let found = difference(&runs[0], &runs[1]);
        // An eigenbasis of nearly equal eigenvalues turns with the last bit of what it is made of.
        let tolerance = if name == "evon" { 1e-2 } else { 1e-5 };
        eprintln!("{name}: {found:.1e}");
        assert!(found < tolerance, "{name}: {found}");
        assert!((nll(&runs[0]) - nll(&runs[1])).abs() < 1e-4, "{name}");
    }
}

fn ivon(draw_per: DrawPer) -> Method {
    Method::Ivon(IvonMethodConfig {
        draw_per,
        ..IvonMethodConfig::default()
    })
}

#[test]
fn ranks_with_draws_of_their_own_are_one_process_with_a_draw_for_each_micro_batch() {
    let place = Place::new();
    let config = |out: &str, draw_per| {
        let mut config = place.config(ivon(draw_per), out);
        config.train.accumulation = 4;
        config.train.batch_size = 2;
        config
    };
    let alone = config("alone", DrawPer::MicroBatch);
    train(&alone, false, &mut |_| true).unwrap();
    let alone = alone.out.unwrap();
    for size in [2, 4] {
        let run = config(&format!("on-{size}"), DrawPer::MicroBatch);
        let mut bytes = Vec::new();
        let notes = ThreadRank::run(size, |ranks| {
            let mut notes = Vec::new();
            train_on_ranks(&run, false, ranks, &mut |event| {
                if let Event::Note(note) = event {
                    notes.push(note);
                }
                true
            })
            .unwrap();
            notes
        });
        bytes.extend(
            notes[0]
                .iter()
                .filter(|note| note.contains(" reductions of "))
                .cloned(),
        );
        // One a step.
        assert!(
            bytes[0].starts_with(&format!("{size} ranks: 12 reductions of ")),
            "{bytes:?}"
        );
        let found = difference(&alone, &run.out.unwrap());
        assert!(found < 1e-5, "{size}: {found}");
    }
    // With one draw for the step, it is another run.
    let common = config("common", DrawPer::Step);
    train(&common, false, &mut |_| true).unwrap();
    assert!(difference(&alone, &common.out.unwrap()) > 1e-3);
}

#[test]
fn a_run_that_stops_goes_on_the_same_on_as_many_ranks_and_nearly_so_on_others() {
    let place = Place::new();
    let config = |out: &str| place.config(ivon(DrawPer::Step), out);
    let whole = config("whole");
    on_ranks(&whole, 2, false)
        .into_iter()
        .for_each(|run| drop(run.unwrap()));
    let whole = whole.out.unwrap();
    for (out, size, tolerance) in [("two", 2, 0.0), ("one", 1, 1e-5), ("five", 5, 1e-5)] {
        let run = config(out);
        // Only the second rank hears of the stop; the others end with it.
        let stopped = ThreadRank::run(2, |ranks| {
            use ivon_lora::ranks::Ranks;
            let stops =
                |event: Event<'_>| matches!(event, Event::Step(record, _) if record.step == 4);
            let is_second = ranks.rank() == 1;
            train_on_ranks(&run, false, ranks, &mut |event| {
                !(is_second && stops(event))
            })
            .unwrap()
        });
        for stopped in stopped {
            assert_eq!((stopped.outcome, stopped.steps), (Outcome::Interrupted, 5));
        }
        for resumed in on_ranks(&run, size, true) {
            assert_eq!(resumed.unwrap().outcome, Outcome::Finished);
        }
        let found = difference(&whole, &run.out.unwrap());
        assert!(found <= tolerance, "{out}: {found}");
    }
}

#[test]
fn a_rank_that_ends_ends_the_run_and_the_newest_checkpoint_is_usable() {
    let place = Place::new();
    let mut config = place.config(ivon(DrawPer::Step), "run");
    config.train.checkpoint_interval = Some(2);
    let ended = ThreadRank::run(2, |ranks| {
        use ivon_lora::ranks::Ranks;
        let is_second = ranks.rank() == 1;
        // It dies after its fifth step.
        let died = std::panic::AssertUnwindSafe(|| {
            train_on_ranks(&config, false, ranks, &mut |event| {
                if let Event::Step(record, _) = event {
                    assert!(!(is_second && record.step == 5));
                }
                true
            })
        });
        std::panic::catch_unwind(died).map_or(None, |run| Some(run.unwrap_err().to_string()))
    });
    assert_eq!(ended[1], None);
    let said = ended[0].clone().unwrap();
    assert!(
        said.starts_with("the run has lost one of its 2 ranks"),
        "{said}"
    );
    let resumed = train(&config, true, &mut |_| true).unwrap();
    assert_eq!((resumed.outcome, resumed.steps), (Outcome::Finished, 12));
}

#[test]
fn a_rank_with_other_data_is_named_before_the_first_step() {
    let place = Place::new();
    let config = place.config(ivon(DrawPer::Step), "run");
    let other = place.path("other");
    std::fs::create_dir(&other).unwrap();
    for entry in std::fs::read_dir(&config.data.path).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = match entry.file_name().to_string_lossy().starts_with("train") {
            true => text
                .lines()
                .skip(1)
                .map(|line| format!("{line}\n"))
                .collect(),
            false => text,
        };
        std::fs::write(other.join(entry.file_name()), text).unwrap();
    }
    let ended = ThreadRank::run(2, |ranks| {
        use ivon_lora::ranks::Ranks;
        let mut config = config.clone();
        if ranks.rank() == 1 {
            config.data.path.clone_from(&other);
        }
        train_on_ranks(&config, false, ranks, &mut |_| true)
            .unwrap_err()
            .to_string()
    });
    assert_eq!(ended[0], ended[1]);
    assert!(
        ended[0].starts_with("rank 1 has another data file `train"),
        "{}",
        ended[0]
    );
}
