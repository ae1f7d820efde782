//! A program for Ray: each run is a task that begins when those that it waits for have ended. A task
//! whose node is lost is started again, and goes on at its run's newest checkpoint.

use ivon_lora_lab::compare::ListedRun;

use super::jobs::{ClusterJobs, NOT_NOW, mebibytes, quoted};

/// How many times a task is started again whose worker or node is lost.
const STARTED_AGAIN: u32 = 10;

/// The program.
pub fn program(jobs: &ClusterJobs<'_>) -> String {
    let left = jobs.left();
    let is_left = |id: &&String| left.iter().any(|run| run.id == **id);
    let run = |run: &&ListedRun| {
        let after: Vec<String> = run.after.iter().filter(is_left).cloned().collect();
        let bytes = mebibytes(run) << 20;
        format!("    ({}, {bytes}, {}),\n", quoted(&run.id), list(&after))
    };
    let runs: String = left.iter().map(run).collect();
    format!(
        "\"\"\"Makes the runs of a comparison, each as a task of Ray, and then the table.\"\"\"

import subprocess
import sys
import time

import ray

FOLDER = {folder}
# Each run with the bytes of memory to ask for and the runs that it waits for, all of which stand above.
RUNS = [
{runs}]


@ray.remote(num_cpus={threads}, max_retries={STARTED_AGAIN})
def make(run, *before):
    # {NOT_NOW}: another process is making it, or what it waits for.
    while (code := subprocess.run({cell} + [run], cwd=FOLDER).returncode) == {NOT_NOW}:
        time.sleep(10)
    return code


ray.init()
made = {{}}
for run, memory, after in RUNS:
    made[run] = make.options(memory=memory, name=run).remote(run, *[made[before] for before in after])
failed = [run for run, code in made.items() if ray.get(code) != 0]
for run in failed:
    print(f\"failed: {{run}}\", file=sys.stderr)
gathered = subprocess.run({gather}, cwd=FOLDER).returncode
sys.exit(1 if failed else gathered)
",
        folder = quoted(jobs.folder),
        threads = jobs.threads,
        cell = list(&jobs.cell_command()),
        gather = list(&jobs.gather_command()),
    )
}

/// A list of strings.
fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::compare::scheduler::testing::with_jobs;

    #[test]
    fn each_run_waits_for_those_that_are_left_before_it() {
        let program = with_jobs(program);
        let expected = "RUNS = [
    (\"trials/t/ivon/001\", 1756364800, []),
    (\"cells/t/ivon/1\", 1756364800, [\"trials/t/ivon/001\"]),
    (\"cells/t/tfb/1\", 1756364800, [\"cells/t/ivon/1\"]),
]
";
        assert!(program.contains(expected), "{program}");
        assert!(
            program
                .contains("[\"ivon-lora\", \"compare\", \"it's.toml\", \"--quiet\", \"--gather\"]")
        );
    }
}
