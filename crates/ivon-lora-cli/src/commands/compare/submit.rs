//! `compare --submit`: the runs that are left → a file for a scheduler, and its submission.

use std::path::{Path, PathBuf};
use std::process::Command;

use ivon_lora::files::{self, FileError};
use ivon_lora_lab::compare::{CompareConfig, list};

use super::scheduler::{ClusterJobs, Container, Scheduler};
use crate::args::CompareArgs;
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::suggest::did_you_mean;

/// The image for Kubernetes if none is named.
const IMAGE: &str = concat!("ivon-lora:", env!("CARGO_PKG_VERSION"));
/// The claim on a volume if none is named.
const VOLUME: &str = "ivon-lora";

/// Writes the file, and submits it if that is asked for.
///
/// # Errors
/// If there is no such scheduler, the file cannot be written, or its command fails.
pub fn run(
    config: &CompareConfig,
    args: &CompareArgs,
    scheduler: &str,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let scheduler = named(scheduler)?;
    let runs = list(config)?;
    let left = runs.iter().filter(|run| !run.is_finished).count();
    if left == 0 {
        return Err(CliError::usage(
            "all runs are finished: there is nothing to submit",
            Some("`--gather` makes their table".into()),
        )
        .into());
    }
    files::create_folder(&config.out)?;
    let (folder, out) = (absolute(Path::new(""))?, absolute(&config.out)?);
    let command = command(config, args, scheduler);
    let name = name(&args.file.clone().unwrap_or_default());
    let text = scheduler.text(&ClusterJobs {
        name: &name,
        runs: &runs,
        command: &command,
        folder: &folder.to_string_lossy(),
        out: &out.to_string_lossy(),
        threads: rayon::current_num_threads(),
        container: Container {
            image: args.image.as_deref().unwrap_or(IMAGE),
            volume: args.volume.as_deref().unwrap_or(VOLUME),
        },
    });
    let path = out.join(scheduler.file_name());
    files::write_bytes(&path, text.as_bytes())?;
    let submission = [scheduler.command().join(" "), path.display().to_string()].join(" ");
    let value = serde_json::json!({ "file": path, "runs": left, "command": submission });
    let how = match args.now {
        true => format!("`{submission}` submits them now"),
        false => format!("submit them by `{submission}`"),
    };
    let text = format!("{left} runs are written to {}; {how}", path.display());
    screen.result("written", &text, &value)?;
    match args.now {
        true => submit(scheduler, &path),
        false => Ok(()),
    }
}

/// The scheduler of this name.
fn named(name: &str) -> Result<Scheduler, CliError> {
    let names = Scheduler::ALL.map(Scheduler::name);
    let mut all = Scheduler::ALL.into_iter();
    all.find(|scheduler| scheduler.name() == name)
        .ok_or_else(|| {
            let expected = names.join("`, `");
            let message = format!("`--submit` is `{name}`, expected one of `{expected}`");
            CliError::usage(message, did_you_mean(name, names))
        })
}

/// The program with the arguments of every run. In a container it is found by its name.
fn command(config: &CompareConfig, args: &CompareArgs, scheduler: Scheduler) -> Vec<String> {
    let program = match scheduler {
        Scheduler::Kubernetes => PathBuf::from("ivon-lora"),
        // The path of this program, else its name.
        Scheduler::Slurm | Scheduler::Ray => {
            std::env::current_exe().unwrap_or_else(|_| "ivon-lora".into())
        }
    };
    let file = args.file.clone().unwrap_or_default();
    let mut words = vec![
        program.display().to_string(),
        "compare".into(),
        file.display().to_string(),
    ];
    if args.out.is_some() {
        words.extend(["--out".into(), config.out.display().to_string()]);
    }
    if let Some(seconds) = args.stale_after {
        words.extend(["--stale-after".into(), seconds.to_string()]);
    }
    words
}

/// The name of a file as a scheduler takes it: lower-case letters, digits and dashes.
fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |letter: char| match letter.is_ascii_alphanumeric() {
        true => letter.to_ascii_lowercase(),
        false => '-',
    };
    let name: String = stem.chars().take(50).map(plain).collect();
    match name.trim_matches('-') {
        "" => "comparison".into(),
        name => name.into(),
    }
}

/// A path from the root; of an empty one the current folder.
fn absolute(path: &Path) -> Result<PathBuf, FileError> {
    let current = std::env::current_dir().map_err(|source| FileError::Io {
        action: "read",
        path: ".".into(),
        source,
    })?;
    Ok(current.join(path).components().collect())
}

/// Submits the file.
fn submit(scheduler: Scheduler, path: &Path) -> Result<(), Failure> {
    let failed = |message: String| CliError {
        message,
        hint: Some("submit the file by hand, where the scheduler's programs are".into()),
        exit: Exit::Failure,
    };
    let [program, arguments @ ..] = scheduler.command() else {
        return Ok(());
    };
    let status = Command::new(program).args(arguments).arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("`{program}` ended with {status}")).into()),
        Err(error) => Err(failed(format!("could not start `{program}`: {error}")).into()),
    }
}
