//! Who makes a run: a process of a machine, and whether it is known to have ended.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::process;

use serde::{Deserialize, Serialize};

/// A process that makes a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The name of its machine.
    host: String,
    /// Its number there.
    process: u32,
    /// When it started, in the machine's ticks; none where the system does not say.
    started: Option<u64>,
    /// The boot of the machine and the process numbers' namespace within which `process` and
    /// `started` mean one process; none where the system does not say.
    machine: Option<String>,
    /// Tells apart the claims of one process.
    number: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {} of {}", self.process, self.host)
    }
}

impl Holder {
    /// This process, for one claim.
    pub fn new() -> Self {
        Self {
            host: host(),
            process: process::id(),
            started: started(process::id()),
            machine: machine(),
            number: RandomState::new().build_hasher().finish(),
        }
    }

    /// Whether the process ran on this machine and has ended.
    pub fn has_ended(&self) -> bool {
        self.machine.is_some()
            && self.machine == machine()
            && self.started.is_some()
            && self.started != started(self.process)
    }
}

/// The name of this machine; `unknown` where the system does not say.
pub fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.unwrap_or_default();
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-.".contains(*letter);
    let plain: String = name.trim().chars().filter(is_plain).collect();
    match plain.is_empty() {
        true => "unknown".into(),
        false => plain,
    }
}

/// This boot of this machine, and the namespace of its process numbers: containers have their own.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// When the process of this number started, in ticks since the boot; none if there is none, or it is
/// only waited for.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_machine_that_has_ended_is_known_to() {
        let own = Holder::new();
        assert!(!own.has_ended());
        assert_ne!(own.number, Holder::new().number);
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = Holder {
            process: child.id(),
            started: started(child.id()),
            ..own.clone()
        };
        assert!(other.started.is_some() && !other.has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.has_ended());
        // Another process with its number.
        let recycled = Holder {
            started: own.started.map(|ticks| ticks + 1),
            ..own.clone()
        };
        assert!(recycled.has_ended());
        // Of another machine nothing is known.
        let elsewhere = Holder {
            machine: Some("another".into()),
            ..recycled
        };
        assert!(!elsewhere.has_ended());
    }
}
