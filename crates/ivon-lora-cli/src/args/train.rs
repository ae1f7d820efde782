//! `ivon-lora train`.

use std::path::PathBuf;

use clap::Args;

use super::{ScreenArgs, SettingFlags};
use crate::settings::{Setting, settings};

/// Train an adapter, evaluate it, and write it with its posterior
///
/// Flags override the file given by --config, which overrides the defaults. Settings without a flag
/// have a key in that file; `ivon-lora init` writes a file with all of them. Without --model and
/// --data, a small built-in model is trained on a built-in data set.
#[derive(Debug, Default, Args)]
#[command(after_help = after_help())]
pub struct TrainArgs {
    /// A TOML file with the settings of the run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: SettingFlags,
    /// Continue from the newest checkpoint in --out
    #[arg(long)]
    pub resume: bool,
    /// Print the resolved run as TOML and stop
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

const EXAMPLE: &str = "\
Example:
  ivon-lora train --model HuggingFaceTB/SmolLM2-135M --data data/sst2 --task sst2 --steps 400";

/// Width of the list of keys.
const WIDTH: usize = 96;

/// The keys of the file that have no flag, taken from the table of settings, and an example.
fn after_help() -> String {
    let mut lines = vec![String::from("Keys of the file that have no flag:")];
    let keys: Vec<String> = settings()
        .iter()
        .filter(|setting| setting.key.flag.is_none())
        .map(Setting::name)
        .collect();
    for (place, key) in keys.iter().enumerate() {
        let word = format!(" {key}{}", if place + 1 == keys.len() { "." } else { "," });
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= WIDTH => line.push_str(&word),
            _ => lines.push(word.trim_start().into()),
        }
    }
    format!("{}\n\n{EXAMPLE}", lines.join("\n"))
}
