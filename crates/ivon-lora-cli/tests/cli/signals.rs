//! Ctrl-C and SIGTERM save and exit; a run continues where it stopped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::helpers::{Place, exists};

/// More steps than any test waits for.
const LONG: &str = "train --model model --data data --task sst2 --out run --steps 1000000 --eval-interval 1000000 --threads 1";

/// Starts a long run and waits until it has taken a step.
fn started(place: &Place, more: &str) -> Child {
    let mut child = place
        .command(&format!("{LONG} {more}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().starts_with("step ") || line_is_resumed(&place.path("run"))),
        "no step was taken"
    );
    // The rest of its output must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// A resumed run prints nothing until its next round number of steps.
fn line_is_resumed(run: &std::path::Path) -> bool {
    exists(run.join("checkpoints"))
}

fn stop(mut child: Child, signal: i32) -> Option<i32> {
    // SAFETY: a signal to our own child, which has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, signal) };
    child.wait().unwrap().code()
}

#[test]
fn a_signal_saves_and_the_run_can_be_resumed() {
    let place = Place::new();
    assert_eq!(stop(started(&place, ""), libc::SIGINT), Some(130));
    let saved = || {
        std::fs::read_dir(place.path("run/checkpoints"))
            .unwrap()
            .count()
    };
    assert_eq!(saved(), 1);
    assert!(!exists(place.path("run/adapter")));
    assert_eq!(stop(started(&place, "--resume"), libc::SIGTERM), Some(143));
    assert!(saved() >= 1);
}

/// A run short enough for a test to wait for and long enough to be killed, with frequent
/// checkpoints.
const WHOLE: &str = "train --model model --data data --task sst2 --steps 400 --eval-interval 400 --checkpoint-interval 5 --samples 1 --threads 1 --quiet";

/// `step-5`, and nothing after it.
fn is_complete(name: &str) -> bool {
    name.strip_prefix("step-")
        .is_some_and(|step| step.parse::<u64>().is_ok())
}

#[test]
fn killed_at_random_moments_a_run_goes_on_from_its_newest_checkpoint_to_the_same_adapter() {
    let place = Place::new();
    place.run(&format!("{WHOLE} --out whole")).ok();
    let mut numbers = 0x9E37_79B9u64;
    let mut kills = 0;
    // Each attempt lives a little longer than the previous one, so that the run eventually
    // finishes.
    for attempt in 0..60 {
        // A run killed before its first checkpoint had its final name has nothing to resume from,
        // and starts over.
        let complete =
            std::fs::read_dir(place.path("killed/checkpoints")).is_ok_and(|mut entries| {
                entries.any(|entry| {
                    entry.is_ok_and(|entry| is_complete(&entry.file_name().to_string_lossy()))
                })
            });
        let resume = if complete { "--resume" } else { "" };
        if resume.is_empty() && exists(place.path("killed")) {
            std::fs::remove_dir_all(place.path("killed")).unwrap();
        }
        let mut child = place
            .command(&format!("{WHOLE} --out killed {resume}"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        numbers = numbers
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(std::time::Duration::from_millis(
            60 + 25 * attempt + (numbers >> 33) % 120,
        ));
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
            assert!(status.success(), "after {kills} kills: {said}");
            break;
        }
        assert_eq!(stop(child, libc::SIGKILL), None);
        kills += 1;
    }
    assert!(kills > 0, "the run was over before it could be killed");
    for file in [
        "adapter/adapter_model.safetensors",
        "adapter/posterior.safetensors",
        "evaluation.json",
    ] {
        let [whole, killed] = ["whole", "killed"]
            .map(|run| std::fs::read(place.path(&format!("{run}/{file}"))).unwrap());
        assert!(whole == killed, "{file} differs after {kills} kills");
    }
}

/// Two runs at a time, longer than any test waits for.
const COMPARISON: &str = "
out = 'compared'
seeds = [1]
jobs = 2
[run.model]
path = 'model'
[run.train]
steps = 1000000
eval_interval = 1000000
[[task]]
name = 'films'
[task.data]
path = 'data'
task = 'sst2'
[[method]]
name = 'adamw'
[method.optimizer]
name = 'adamw'
[[method]]
name = 'ivon'
[method.optimizer]
name = 'ivon'
";

#[test]
fn a_signal_stops_all_runs_of_a_comparison_and_each_of_them_goes_on() {
    let place = Place::new();
    place.write("comparison.toml", COMPARISON);
    let cells = ["adamw", "ivon"].map(|name| place.path(&format!("compared/cells/films/{name}/1")));
    let newest = || {
        cells.clone().map(|cell| {
            let names = std::fs::read_dir(cell.join("checkpoints"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            names
                .filter_map(|name| {
                    name.to_string_lossy()
                        .strip_prefix("step-")?
                        .parse::<u64>()
                        .ok()
                })
                .max()
                .unwrap()
        })
    };
    let mut before = [0, 0];
    for _ in 0..2 {
        let mut child = place
            .command("compare comparison.toml --threads 1 --pack results.jsonl.gz")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let begun = lines
            .by_ref()
            .filter(|line| line.starts_with("films, ") && line.ends_with(", seed 1"))
            .take(2)
            .count();
        assert_eq!(begun, 2);
        std::thread::spawn(move || lines.for_each(drop));
        // Wait until both have taken one step more than was saved.
        let steps = |cell: &std::path::PathBuf| {
            std::fs::read_to_string(cell.join("metrics.jsonl"))
                .map_or(0, |text| text.lines().count() as u64)
        };
        while cells
            .iter()
            .zip(before)
            .any(|(cell, before)| steps(cell) <= before)
        {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(stop(child, libc::SIGINT), Some(130));
        let after = newest();
        assert!(
            after
                .iter()
                .zip(before)
                .all(|(after, before)| *after > before),
            "{before:?} {after:?}"
        );
        before = after;
        // What there is until then is packed all the same.
        let packed = place.run("compare --from results.jsonl.gz").ok();
        assert!(packed.contains("films, 12 examples\n"), "{packed}");
        std::fs::remove_file(place.path("results.jsonl.gz")).unwrap();
    }
}

#[test]
fn ctrl_c_between_two_answers_ends_a_conversation_at_once() {
    let place = Place::new();
    let template = "{% for message in messages %}{{ message.content }} {% endfor %}";
    place.write("template.jinja", template);
    let chat = "chat --model model --chat-template template.jinja --max-tokens 2 --threads 1";
    let mut child = place
        .command(chat)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"good film\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // The line ends before the next message is waited for.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(stop(child, libc::SIGINT), Some(130));
    drop(stdin);
}
