//! Runs for the tests of schedulers.

use ivon_lora_lab::compare::ListedRun;

use super::jobs::{ClusterJobs, Container};

pub fn run(id: &str, wave: usize, after: &[&str]) -> ListedRun {
    ListedRun {
        id: id.into(),
        method: "IVON".into(),
        task: "sst2".into(),
        seed: 1,
        trial: None,
        after: after.iter().map(|id| id.to_string()).collect(),
        wave,
        minutes: 5.0,
        bytes: 1e9,
        is_finished: false,
    }
}

/// Two trials, one of them finished, a cell after both, and one that takes its adapter.
pub fn with_jobs<T>(ask: impl FnOnce(&ClusterJobs<'_>) -> T) -> T {
    let finished = ListedRun {
        is_finished: true,
        ..run("trials/t/ivon/000", 0, &[])
    };
    let trials = ["trials/t/ivon/000", "trials/t/ivon/001"];
    let runs = [
        finished,
        run(trials[1], 0, &[]),
        run("cells/t/ivon/1", 1, &trials),
        run("cells/t/tfb/1", 2, &["cells/t/ivon/1"]),
    ];
    let command = ["ivon-lora", "compare", "it's.toml"].map(String::from);
    ask(&ClusterJobs {
        name: "comparison",
        runs: &runs,
        command: &command,
        folder: "/shared/my work",
        out: "/shared/my work/compared",
        threads: 4,
        container: Container {
            image: "registry/ivon-lora:1",
            volume: "shared",
        },
    })
}
