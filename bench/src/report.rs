//! Reports: read from the measuring process, written with everything a reader needs to repeat the
//! measurement.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Failure, machine};

/// Writes `report` to `out`, if given, as JSON with machine, versions and command.
///
/// # Errors
/// If the file cannot be written.
pub fn write(out: Option<&Path>, report: &Value) -> Result<(), Failure> {
    let Some(out) = out else { return Ok(()) };
    let whole = json!({
        "command": machine::command_line(),
        "machine": machine::describe(),
        "versions": machine::versions(),
        "report": report,
    });
    Ok(ivon_lora::files::write_bytes(
        out,
        (serde_json::to_string_pretty(&whole)? + "\n").as_bytes(),
    )?)
}

/// Runs a measurement and reads the JSON on its last line.
///
/// # Errors
/// If the process fails or prints something else.
pub fn last_line(mut command: Command) -> Result<Value, Failure> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .last()
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("{command:?} failed"))?;
    Ok(serde_json::from_str(line)?)
}
