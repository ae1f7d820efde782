//! What `scale`, `prune` and `shift` work on.

use std::path::PathBuf;

use clap::Args;

/// Which adapter, on which base model and rows.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The folder of a run, or of an adapter
    #[arg(value_name = "RUN|ADAPTER")]
    pub path: PathBuf,
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default that of the run
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A folder of data files, or a file; by default the run's own rows
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
}
