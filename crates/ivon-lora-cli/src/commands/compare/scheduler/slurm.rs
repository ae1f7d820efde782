//! A script for Slurm: run by hand it submits itself as arrays of jobs, those of each wave after all
//! of the waves before; within a job it makes one run.

use super::jobs::{ClusterJobs, NOT_NOW, mebibytes, minutes, shell_word, shell_words};
use ivon_lora_lab::compare::ListedRun;

/// The largest array that Slurm takes by default has the indices 0 to 1000.
const LARGEST_ARRAY: usize = 1000;

/// The script.
pub fn script(jobs: &ClusterJobs<'_>) -> String {
    let left = jobs.left();
    let (folder, out) = (shell_word(jobs.folder), shell_word(jobs.out));
    let ids: String = left.iter().map(|run| format!("  {}\n", run.id)).collect();
    let mut text = format!(
        "#!/bin/bash
# Makes the runs of a comparison, each as a job of its own: `bash` submits them, in an order in which
# no job waits for a later one. A job that is put back in the queue goes on at its newest checkpoint.
#SBATCH --job-name={name}
#SBATCH --cpus-per-task={threads}
#SBATCH --requeue
#SBATCH --open-mode=append

cd {folder} || exit 1
runs=(
{ids})

# Within a job: the run at its place, or the table.
if [ -n \"$IVON_LORA_FIRST\" ]; then
  run=${{runs[$((IVON_LORA_FIRST + SLURM_ARRAY_TASK_ID))]}}
  # {NOT_NOW}: another job is making it, or what it waits for.
  while {cell} \"$run\"; code=$?; [ $code = {NOT_NOW} ]; do sleep 30; done
  exit $code
elif [ -n \"$IVON_LORA_GATHER\" ]; then
  exec {gather}
fi

# By hand: everything is submitted. The resources are those of the largest run of an array.
script=$(realpath \"$0\")
submitted=
submit() {{
  job=$(sbatch --parsable --output={out}/slurm/%A-%a.txt ${{after:+--dependency=afterany$after}} \"$@\" \"$script\") || exit 1
  echo \"submitted ${{job%%;*}}: $*\"
  submitted=$submitted:${{job%%;*}}
}}
mkdir -p {out}/slurm || exit 1
",
        name = jobs.name,
        threads = jobs.threads,
        cell = shell_words(&jobs.cell_command()),
        gather = shell_words(&jobs.gather_command()),
    );
    let mut first = 0;
    for wave in left.chunk_by(|one, other| one.wave == other.wave) {
        text.push_str("after=$submitted\n");
        for array in wave.chunks(LARGEST_ARRAY) {
            text.push_str(&submission(array, first));
            first += array.len();
        }
    }
    text + "after=$submitted\nsubmit --mem=2G --time=60 --export=ALL,IVON_LORA_GATHER=1\n"
}

/// The line that submits an array of runs, the first of which stands at a place of the script's list.
fn submission(runs: &[&ListedRun], first: usize) -> String {
    let largest = |of: fn(&ListedRun) -> u64| runs.iter().map(|run| of(run)).max().unwrap_or(0);
    format!(
        "submit --array=0-{last} --mem={memory}M --time={time} --export=ALL,IVON_LORA_FIRST={first}\n",
        last = runs.len().saturating_sub(1),
        memory = largest(mebibytes),
        time = largest(minutes),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::commands::compare::scheduler::testing::with_jobs;

    #[test]
    fn each_wave_is_an_array_after_those_before() {
        let script = with_jobs(script);
        let submitted: Vec<&str> = script
            .lines()
            .filter(|line| line.starts_with("submit --"))
            .collect();
        assert_eq!(
            submitted,
            [
                "submit --array=0-0 --mem=1675M --time=30 --export=ALL,IVON_LORA_FIRST=0",
                "submit --array=0-0 --mem=1675M --time=30 --export=ALL,IVON_LORA_FIRST=1",
                "submit --array=0-0 --mem=1675M --time=30 --export=ALL,IVON_LORA_FIRST=2",
                "submit --mem=2G --time=60 --export=ALL,IVON_LORA_GATHER=1",
            ]
        );
        // What is finished is not made again.
        assert!(!script.contains("trials/t/ivon/000"));
    }

    #[test]
    fn a_shell_runs_the_script_in_both_of_its_roles() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().to_str().unwrap();
        let script = with_jobs(|jobs| {
            let (out, command) = (format!("{folder}/compared"), ["echo".to_string()]);
            script(&ClusterJobs {
                folder,
                out: &out,
                command: &command,
                ..*jobs
            })
        });
        let path = place.path().join("slurm.sh");
        fs::write(&path, script).unwrap();
        // An `sbatch` that only says what it was given.
        let fake = "#!/bin/sh\necho \"$@\" >> said\necho 7\n";
        fs::write(place.path().join("sbatch"), fake).unwrap();
        Command::new("chmod")
            .arg("+x")
            .arg(place.path().join("sbatch"))
            .status()
            .unwrap();
        let bash = |variables: &[(&str, &str)]| {
            let mut bash = Command::new("bash");
            bash.arg(&path)
                .envs(variables.iter().copied())
                .current_dir(&place);
            let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
            let out = bash.env("PATH", path).output().unwrap();
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(bash(&[]).lines().count(), 4);
        let said = fs::read_to_string(place.path().join("said")).unwrap();
        let said: Vec<&str> = said.lines().collect();
        assert!(
            !said[0].contains("--dependency") && said[0].ends_with("slurm.sh"),
            "{said:?}"
        );
        assert!(said[2].contains("--dependency=afterany:7:7 "), "{said:?}");
        let made = bash(&[("IVON_LORA_FIRST", "1"), ("SLURM_ARRAY_TASK_ID", "1")]);
        assert_eq!(made, "--threads 4 --quiet --cell cells/t/tfb/1\n");
        assert_eq!(bash(&[("IVON_LORA_GATHER", "1")]), "--quiet --gather\n");
    }
}
