//! `ivon-lora compare`.

use std::path::PathBuf;

use clap::Args;

use super::ScreenArgs;

/// Train several methods on several tasks and seeds with equal tuning effort, and compare them in
/// one table
///
/// A single file describes the comparison. Finished runs are not repeated: a comparison that was
/// stopped continues where it was, and a method added to the file costs only its own runs. A run
/// that fails is reported, and the others continue.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora compare comparison.toml --dry-run\n  ivon-lora compare comparison.toml --pack results.jsonl.gz\n  ivon-lora compare --from results.jsonl.gz\n  ivon-lora compare comparison.toml --submit slurm --threads 4"
)]
pub struct CompareArgs {
    /// The TOML file of the comparison
    #[arg(value_name = "FILE", required_unless_present = "from")]
    pub file: Option<PathBuf>,
    /// The folder for all output; by default the one named in the file
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Pack the results into this file, from which the table can be made again
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub pack: Option<PathBuf>,
    /// Make the table again from packed results; `--out` names a folder for its formats
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "pack", "dry_run", "jobs", "threads"])]
    pub from: Option<PathBuf>,
    /// Print what is left to do and roughly how long it will take, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Print one line per run with its id, what it will take and what it waits for, and stop
    #[arg(long, group = "part", conflicts_with_all = ["dry_run", "pack", "from"], help_heading = "On a cluster")]
    pub list: bool,
    /// Make only the run with this id
    ///
    /// A finished run is not made again, and one that another process is making is left to it: exit
    /// code 75 says so, or that the run waits for others.
    #[arg(long, value_name = "ID", group = "part", conflicts_with_all = ["dry_run", "pack", "from", "jobs"], help_heading = "On a cluster")]
    pub cell: Option<String>,
    /// Make the table of the runs that are finished, and run nothing
    #[arg(long, group = "part", conflicts_with_all = ["dry_run", "from", "jobs"], help_heading = "On a cluster")]
    pub gather: bool,
    /// Write a file by which a scheduler makes all runs: slurm, kubernetes or ray
    #[arg(long, value_name = "SCHEDULER", group = "part", conflicts_with_all = ["dry_run", "pack", "from", "jobs"], help_heading = "On a cluster")]
    pub submit: Option<String>,
    /// Submit that file at once
    #[arg(long, requires = "submit", help_heading = "On a cluster")]
    pub now: bool,
    /// For Kubernetes, the image with the program
    #[arg(
        long,
        value_name = "IMAGE",
        requires = "submit",
        help_heading = "On a cluster"
    )]
    pub image: Option<String>,
    /// For Kubernetes, the claim on a volume that all pods can write
    #[arg(
        long,
        value_name = "NAME",
        requires = "submit",
        help_heading = "On a cluster"
    )]
    pub volume: Option<String>,
    /// Take over a run whose process has given no sign of life for this long; 180 by default
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "from",
        help_heading = "On a cluster"
    )]
    pub stale_after: Option<u32>,
    /// How many runs to make at a time, memory permitting; by default as the file says
    #[arg(long, value_name = "N")]
    pub jobs: Option<u32>,
    /// CPU threads for all runs together; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}
