//! A file that is created once, by one of several processes on one machine or on many.
//!
//! A finished file gets its name with `link`, which fails where the name exists. NFS does this in one
//! step on its server, as does a local disk; no lock of the file system is used. A reply that gets
//! lost on the way makes a link that was made look refused, so that whose file it is must be read from
//! the file itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, process};

use ivon_lora::files::FileError;

/// Creates a file with these bytes unless there is one, and returns whether the file that is now
/// there has them; they must be of this process alone.
///
/// # Errors
/// If it can neither be created nor read.
pub fn create_once(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let refused = |source| FileError::Io {
        action: "write",
        path: path.into(),
        source,
    };
    let aside = name_aside(path);
    let linked = write_synced(&aside, bytes).and_then(|()| fs::hard_link(&aside, path));
    let _ = fs::remove_file(&aside);
    match (fs::read(path), linked) {
        (Ok(found), _) => Ok(found == bytes),
        (Err(_), Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => Err(refused(error)),
        // Whoever created it has removed it again.
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        (Err(error), _) => Err(refused(error)),
    }
}

/// Writes a file that nobody else knows of.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

/// A name beside `path` that no other process or thread uses.
pub fn name_aside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let host = super::holder::host();
    name.push(format!(".{host}-{}-{number}.tmp", process::id()));
    path.with_file_name(name)
}
