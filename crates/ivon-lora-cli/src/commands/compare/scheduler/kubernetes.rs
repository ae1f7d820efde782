//! An indexed Job for Kubernetes: each index makes one run. Those of earlier waves have lower indices
//! and are started first; a pod whose run has to wait for others ends with a code of its own, and is
//! started again later without counting as failed.

use super::jobs::{ClusterJobs, NOT_NOW, mebibytes, quoted, shell_words};

/// How many runs are made at once at most.
const MOST_AT_ONCE: usize = 16;
/// How many times a run that fails is tried again.
const TRIED_AGAIN: u32 = 3;

/// The manifest.
pub fn manifest(jobs: &ClusterJobs<'_>) -> String {
    let left = jobs.left();
    let ids: String = left
        .iter()
        .map(|run| format!("                {} \\\n", run.id))
        .collect();
    let memory = left.iter().map(|run| mebibytes(run)).max().unwrap_or(0);
    format!(
        "# Makes the runs of a comparison, each as an index of a Job; `--gather` makes the table. The volume must
# be one that all pods can write at once (ReadWriteMany), with the folder of the comparison's file in it.
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completionMode: Indexed
  completions: {count}
  parallelism: {at_once}
  backoffLimitPerIndex: {TRIED_AGAIN}
  podFailurePolicy:
    rules:
      # A node was drained, or a pod made room for another: the run goes on at its newest checkpoint.
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
      # Another pod is making the run, or what it waits for.
      - action: Ignore
        onExitCodes:
          containerName: run
          operator: In
          values: [{NOT_NOW}]
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: run
          image: {image}
          workingDir: {folder}
          command:
            - /bin/sh
            - -c
            - |
              set -- \\
{ids}                ;
              shift \"$JOB_COMPLETION_INDEX\"
              exec {cell} \"$1\"
          resources:
            requests:
              cpu: {threads}
              memory: {memory}Mi
            limits:
              memory: {memory}Mi
          volumeMounts:
            - name: shared
              mountPath: {folder}
      volumes:
        - name: shared
          persistentVolumeClaim:
            claimName: {volume}
",
        name = jobs.name,
        count = left.len(),
        at_once = left.len().min(MOST_AT_ONCE),
        image = quoted(jobs.container.image),
        folder = quoted(jobs.folder),
        cell = shell_words(&jobs.cell_command()),
        threads = jobs.threads,
        volume = quoted(jobs.container.volume),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::compare::scheduler::testing::with_jobs;

    #[test]
    fn each_index_makes_its_run() {
        let manifest = with_jobs(|jobs| {
            let command = ["echo".to_string(), "it's".into()];
            manifest(&ClusterJobs {
                command: &command,
                ..*jobs
            })
        });
        assert!(manifest.contains("\n  completions: 3\n"), "{manifest}");
        let script = manifest.split("- |\n").nth(1).unwrap();
        let script = script.split("          resources:").next().unwrap();
        for (index, run) in ["trials/t/ivon/001", "cells/t/ivon/1", "cells/t/tfb/1"]
            .into_iter()
            .enumerate()
        {
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-c", script])
                .env("JOB_COMPLETION_INDEX", index.to_string());
            let said = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            assert_eq!(said, format!("it's --threads 4 --quiet --cell {run}\n"));
        }
    }
}
