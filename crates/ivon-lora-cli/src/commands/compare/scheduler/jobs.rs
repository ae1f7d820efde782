//! What a scheduler needs to know of the runs that are left to make.

use ivon_lora_lab::compare::ListedRun;

use crate::exit::Exit;

/// The exit code by which `--cell` says that a run cannot be made now: it waits for others, or another
/// process makes it.
pub const NOT_NOW: i32 = Exit::NotNow as i32;
/// Estimates of time are right to within a third on the machine that made them; nodes may be slower.
const TIMES_LONGER: f64 = 4.0;
const MINUTES_MORE: f64 = 10.0;
/// Estimates of memory are right to within a third.
const TIMES_LARGER: f64 = 1.5;
const BYTES_MORE: f64 = 256e6;

/// The runs that are left to make, and how each of them is started.
#[derive(Clone, Copy, Debug)]
pub struct ClusterJobs<'a> {
    /// A name for all of them, of lower-case letters, digits and dashes.
    pub name: &'a str,
    /// All runs, in the order of `--list`.
    pub runs: &'a [ListedRun],
    /// The program with the arguments that every run has: `ivon-lora compare comparison.toml`.
    pub command: &'a [String],
    /// The folder in which it is started, on every machine.
    pub folder: &'a str,
    /// The folder of the comparison, as an absolute path.
    pub out: &'a str,
    /// Threads of a run.
    pub threads: usize,
    /// Where a run finds program and folder, if it is made in a container.
    pub container: Container<'a>,
}

/// An image and a volume.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// The image with the program.
    pub image: &'a str,
    /// The name of the claim on a volume that all pods can write, mounted at the folder.
    pub volume: &'a str,
}

impl<'a> ClusterJobs<'a> {
    /// The runs that are not finished, those of an earlier wave first.
    pub fn left(&self) -> Vec<&'a ListedRun> {
        let left = self.runs.iter().filter(|run| !run.is_finished);
        let mut left: Vec<_> = left.collect();
        left.sort_by_key(|run| run.wave);
        left
    }

    /// The arguments that make a run, which is named after them.
    pub fn cell_command(&self) -> Vec<String> {
        let threads = self.threads.to_string();
        self.with(&["--threads", &threads, "--quiet", "--cell"])
    }

    /// The arguments that make the table.
    pub fn gather_command(&self) -> Vec<String> {
        self.with(&["--quiet", "--gather"])
    }

    fn with(&self, flags: &[&str]) -> Vec<String> {
        let flags = flags.iter().map(|flag| flag.to_string());
        self.command.iter().cloned().chain(flags).collect()
    }
}

/// The memory to ask for, in MiB.
pub fn mebibytes(run: &ListedRun) -> u64 {
    ((TIMES_LARGER * run.bytes + BYTES_MORE) / f64::from(1 << 20)).ceil() as u64
}

/// The time to ask for, in minutes.
pub fn minutes(run: &ListedRun) -> u64 {
    (TIMES_LONGER * run.minutes + MINUTES_MORE).ceil() as u64
}

/// Words as a shell reads them.
pub fn shell_words(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// A word as a shell reads it.
pub fn shell_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A string of JSON, which YAML and Python read as well.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::compare::scheduler::testing::run;

    #[test]
    fn a_shell_reads_words_as_they_are() {
        let words = ["a b", "it's", "", "cells/t/ivon/1", "$HOME"].map(String::from);
        let line = format!("printf '%s\\n' {}", shell_words(&words));
        let said = std::process::Command::new("sh")
            .arg("-c")
            .arg(line)
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), words);
    }

    #[test]
    fn what_is_asked_for_leaves_room() {
        let run = run("cells/t/ivon/1", 1, &[]);
        assert_eq!((mebibytes(&run), minutes(&run)), (1675, 30));
    }
}
