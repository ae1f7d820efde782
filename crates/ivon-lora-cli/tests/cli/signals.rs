//! Ctrl-C and SIGTERM save and leave; a run goes on where it stopped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::helpers::{Place, exists};

/// More steps than any test waits for.
const LONG: &str = "train --model model --data data --task sst2 --out run --steps 1000000 --eval-interval 1000000 --threads 1";

/// Starts a long run and waits until it has taken a step.
fn started(place: &Place, more: &str) -> Child {
    let mut child = place.command(&format!("{LONG} {more}")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("step ") || line_is_resumed(&place.path("run"))), "no step was taken");
    // The rest of its words must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// A resumed run is silent until its next round number of steps.
fn line_is_resumed(run: &std::path::Path) -> bool {
    exists(run.join("checkpoints"))
}

fn stop(mut child: Child, signal: i32) -> Option<i32> {
    // SAFETY: a signal to a child of ours that was not waited for yet.
    unsafe { libc::kill(child.id() as i32, signal) };
    child.wait().unwrap().code()
}

#[test]
fn a_signal_saves_and_the_run_can_be_resumed() {
    let place = Place::new();
    assert_eq!(stop(started(&place, ""), libc::SIGINT), Some(130));
    let saved = || std::fs::read_dir(place.path("run/checkpoints")).unwrap().count();
    assert_eq!(saved(), 1);
    assert!(!exists(place.path("run/adapter")));
    assert_eq!(stop(started(&place, "--resume"), libc::SIGTERM), Some(143));
    assert!(saved() >= 1);
}
