//! A comparison made by several processes on a shared folder: lists, single runs, claims, the table,
//! and files for schedulers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::helpers::{Place, ProgramOutput, exists};

/// Methods that train, that are tuned, and that take an adapter.
const FILE: &str = r#"
out = "compared"
seeds = [1, 2]
[run.model]
path = "model"
[run.train]
steps = 4
[run.evaluation]
samples = 2
[[task]]
name = "films"
[task.data]
path = "data"
task = "sst2"
[[method]]
name = "TFB"
trained_by = "AdamW"
[method.optimizer]
name = "tfb"
[[method]]
name = "AdamW"
[method.optimizer]
name = "adamw"
[method.tune]
learning_rate = { from = 1e-4, to = 1e-2 }
[tuning]
trials = 2
"#;

const COMMAND: &str = "compare comparison.toml --threads 1";

fn place(text: &str) -> Place {
    let place = Place::with_calibrate();
    place.write("comparison.toml", text);
    place
}

/// The table without the times, which no two processes share.
fn scores(place: &Place, out: &str) -> Value {
    let mut table = place.json(&format!("{out}/comparison.json"))["table"].take();
    for task in table["tasks"].as_array_mut().unwrap() {
        for row in task["rows"].as_array_mut().unwrap() {
            row["training_time"].take();
            row["prediction_time"].take();
        }
    }
    table
}

fn ids(place: &Place) -> Vec<String> {
    let listed = place.run(&format!("{COMMAND} --list --json")).ok();
    let lines = listed.lines();
    lines
        .map(|line| {
            let run: Value = serde_json::from_str(line).unwrap();
            assert!(run["minutes"].as_f64().unwrap() > 0.0 && run["bytes"].as_f64().unwrap() > 1e7);
            run["id"].as_str().unwrap().to_string()
        })
        .collect()
}

#[test]
fn runs_that_are_made_one_by_one_come_to_the_table_of_a_single_process() {
    let place = place(FILE);
    let listed = place.run(&format!("{COMMAND} --list")).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 6, "{listed}");
    assert!(
        lines[0].starts_with("trials/films/adamw/000  0.0 min  0.0")
            && lines[3].starts_with("cells/films/tfb/1  ")
            && lines[3]
                .contains("  after 3 runs, from trials/films/adamw/000 to cells/films/adamw/1"),
        "{listed}"
    );
    // Nothing is begun before what it waits for.
    let cell = |id: &str| place.run(&format!("{COMMAND} --cell {id}"));
    cell("cells/films/adamw/1").fails_with(
        75,
        &["error: cells/films/adamw/1 waits for `trials/films/adamw/000` and 1 others, which are not finished"],
    );
    cell("trials/films/adamw/000").ok();
    cell("trials/films/adamw/001").ok();
    cell("cells/films/tfb/2").fails_with(75, &["waits for `cells/films/adamw/2`, which"]);
    for id in ["cells/films/adamw/2", "cells/films/tfb/2"] {
        assert_eq!(cell(id).ok(), format!("{id} is finished\n"));
    }
    // What is there is a table, and what is missing is said.
    let gathered = place.run(&format!("{COMMAND} --gather --pack results.jsonl.gz"));
    assert!(
        gathered.stderr.contains("not all runs are made yet"),
        "{}",
        gathered.stderr
    );
    assert!(gathered.ok().contains("\nTFB, 2 samples "));
    assert_eq!(
        place.json("compared/comparison.json")["is_interrupted"],
        true
    );
    place.run("compare --from results.jsonl.gz").ok();
    assert!(
        place
            .run(&format!("{COMMAND} --list"))
            .ok()
            .lines()
            .filter(|line| line.contains("  finished"))
            .count()
            == 4
    );

    for id in ids(&place) {
        cell(&id).ok();
    }
    place.run(&format!("{COMMAND} --gather")).ok();
    place.run(&format!("{COMMAND} --out alone")).ok();
    assert_eq!(scores(&place, "compared"), scores(&place, "alone"));
    assert_eq!(
        place.read("compared/trials.json"),
        place.read("alone/trials.json")
    );
    assert_eq!(
        place.json("compared/comparison.json")["is_interrupted"],
        false
    );
    cell("cells/films/adam/2").fails_with(
        2,
        &[
            "`cells/films/adam/2` is no run of this comparison",
            "`ivon-lora compare` with `--list` lists them",
        ],
    );
}

#[test]
fn a_run_that_fails_is_told_to_those_that_wait_for_it() {
    let place = place(FILE);
    let cell = |id: &str| place.run(&format!("{COMMAND} --cell {id}"));
    for trial in ["000", "001"] {
        place.write(
            &format!("compared/trials/films/adamw/{trial}"),
            "a file where a folder is expected",
        );
        cell(&format!("trials/films/adamw/{trial}"))
            .fails_with(1, &["hint: the same command tries it again"]);
    }
    cell("cells/films/adamw/1").fails_with(1, &["the choice of settings of `AdamW` is not made"]);
    let gathered = place.run(&format!("{COMMAND} --gather"));
    assert!(
        gathered
            .stdout
            .contains("\nfailed: films, AdamW, seed 1: the choice of settings"),
        "{}",
        gathered.stdout
    );
    gathered.fails_with_result(1, &["error: 4 of the comparison's runs and files failed"]);
}

#[test]
fn a_run_that_a_living_process_makes_is_left_to_it() {
    let place = place(&FILE.replace("steps = 4", "steps = 1000000\neval_interval = 1000000"));
    let start = || {
        let mut command = place.command(&format!("{COMMAND} --cell trials/films/adamw/000"));
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let wait_for_steps = |child: &mut Child| {
        let metrics = place.path("compared/trials/films/adamw/000/metrics.jsonl");
        while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
            assert!(child.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(20));
        }
    };
    let mut first = start();
    wait_for_steps(&mut first);
    let second = place.run(&format!("{COMMAND} --cell trials/films/adamw/000"));
    second.fails_with(
        75,
        &[
            "trials/films/adamw/000 is left alone: process ",
            " is making it",
        ],
    );
    // Killed, it is known to have ended at once.
    first.kill().unwrap();
    first.wait().unwrap();
    let mut third = start();
    thread::sleep(Duration::from_millis(1500));
    assert!(
        third.try_wait().unwrap().is_none(),
        "the run was not taken over"
    );
    third.kill().unwrap();
    third.wait().unwrap();
}

/// Four methods with sixteen seeds each, one of which takes another's adapters.
fn sixty_four() -> String {
    let seeds: Vec<String> = (1..=16).map(|seed| seed.to_string()).collect();
    let method = |name: &str, more: &str| {
        format!("[[method]]\nname = '{name}'\n{more}[method.optimizer]\nname = '{name}'\n")
    };
    let head = FILE.split("[[method]]").next().unwrap();
    let head = head.replace("[1, 2]", &format!("[{}]", seeds.join(", ")));
    [
        head,
        method("mc-dropout", "trained_by = 'adamw'\n"),
        method("adamw", ""),
        method("ivon", ""),
        method("swag", ""),
    ]
    .concat()
}

/// What the workers have seen.
#[derive(Default)]
struct Seen {
    /// Cells that are known to be finished.
    finished: BTreeSet<String>,
    /// How many processes have made a cell from its beginning, or its checkpoint, to its end.
    made: BTreeMap<String, usize>,
    killed: usize,
    not_now: usize,
}

/// A worker: makes the cells that are not finished, each in a process that it may kill.
fn work(place: &Place, ids: &[String], seed: u64, seen: &Mutex<Seen>) {
    let mut number = seed;
    let mut random = |below: u64| {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (number >> 33) % below
    };
    loop {
        let left: Vec<&String> = ids
            .iter()
            .filter(|id| !seen.lock().unwrap().finished.contains(*id))
            .collect();
        if left.is_empty() {
            return;
        }
        // Near each other, so that workers meet.
        let id = left[random(left.len().min(6) as u64) as usize];
        let mut command = place.command(&format!("{COMMAND} --cell {id}"));
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let is_killed = random(3) == 0 && killed(&mut child, Duration::from_millis(random(500)));
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let code = child.wait().unwrap().code();
        let mut seen = seen.lock().unwrap();
        let has_begun = said.lines().any(|line| line.starts_with("films, "));
        match code {
            Some(0) => {
                seen.finished.insert(id.clone());
                *seen.made.entry(id.clone()).or_default() += usize::from(has_begun);
            }
            Some(75) => seen.not_now += 1,
            None => seen.killed += usize::from(is_killed),
            _ => panic!("{id}: {said}"),
        }
    }
}

/// Kills a process after a while; returns whether it was still there.
fn killed(child: &mut Child, after: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().is_ok()
}

#[test]
fn sixty_four_cells_over_four_workers_that_are_killed_at_random_are_each_finished_once() {
    let place = place(&sixty_four());
    let ids = ids(&place);
    assert_eq!(ids.len(), 64);
    let seen = Mutex::new(Seen::default());
    thread::scope(|scope| {
        for worker in 0..4 {
            let (place, ids, seen) = (&place, &ids, &seen);
            scope.spawn(move || work(place, ids, 17 + worker, seen));
        }
    });
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.killed > 4 && seen.not_now > 4,
        "{} killed, {} not now",
        seen.killed,
        seen.not_now
    );
    assert!(seen.made.values().all(|made| *made <= 1), "{:?}", seen.made);
    for id in &ids {
        let records = place.read(&format!("compared/{id}/metrics.jsonl"));
        let steps = if id.contains("mc-dropout") { 0 } else { 4 };
        assert_eq!(
            records
                .lines()
                .filter(|line| line.contains("\"loss\""))
                .count(),
            steps,
            "{id}"
        );
        assert!(
            !exists(place.path(&format!("compared/{id}/checkpoints"))),
            "{id}"
        );
    }
    place.run(&format!("{COMMAND} --gather")).ok();
    ProgramOutput::of(
        place
            .command(&format!("{COMMAND} --out alone"))
            .output()
            .unwrap(),
    )
    .ok();
    assert_eq!(scores(&place, "compared"), scores(&place, "alone"));
}

#[test]
fn the_runs_that_are_left_are_written_for_each_scheduler() {
    let place = place(FILE);
    for (scheduler, file, part) in [
        ("slurm", "slurm.sh", "submit --array=0-1 "),
        ("kubernetes", "kubernetes.yaml", "completions: 6\n"),
        ("ray", "on_ray.py", "(\"cells/films/tfb/2\", "),
    ] {
        let written = place.run(&format!("{COMMAND} --submit {scheduler}")).ok();
        assert!(
            written.starts_with("6 runs are written to ") && written.contains(file),
            "{written}"
        );
        let text = place.read(&format!("compared/{file}"));
        assert!(text.contains(part), "{text}");
    }
    place.run(&format!("{COMMAND} --submit slrm")).fails_with(
        2,
        &[
            "`--submit` is `slrm`, expected one of `slurm`, `kubernetes`, `ray`",
            "did you mean `slurm`?",
        ],
    );
    place
        .run(&format!("{COMMAND} --stale-after 0 --list"))
        .fails_with(2, &["`--stale-after` is `0`"]);
    place.run(COMMAND).ok();
    place
        .run(&format!("{COMMAND} --submit ray"))
        .fails_with(2, &["all runs are finished: there is nothing to submit"]);
}
