//! A claim on a run: of several processes on a shared folder, the one that holds it makes the run.
//!
//! The claims on a run are files `claim-1`, `claim-2`, … in a folder of its own; the one of the
//! highest number is in force. It says who holds it, and its holder writes it again at intervals: a
//! claim that has not been written for the stated time is stale, and so is that of a process known to
//! have ended. The file with the next number is then created once, by one of all that want it, and
//! the stale one is removed. A holder that was only stopped for a while finds its file gone, and
//! stops.
//!
//! The age of a claim is measured against a file that is written at the moment, because on a shared
//! folder both times are the server's: the clocks of the machines do not matter.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::holder::Holder;
use super::once::{create_once, name_aside};
use ivon_lora::files::{self, FileError};

const LARGEST: u64 = 1 << 16;
const PREFIX: &str = "claim-";
/// How many times a claim is written before it could be stale.
const BEATS: u32 = 6;

/// A claim that this process holds until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    bytes: Vec<u8>,
    is_lost: Arc<AtomicBool>,
    beat: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Whether a run was claimed.
#[derive(Debug)]
pub enum Attempt {
    /// This process makes it.
    Claimed(Claim),
    /// Another one does.
    Held(Holder),
}

/// The claim of the highest number in a folder.
struct Found {
    number: u64,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Claim {
    /// Claims the run of a folder, unless another process holds a claim that is not stale.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn take(folder: &Path, stale_after: Duration) -> Result<Attempt, FileError> {
        files::create_folder(folder)?;
        let before = newest(folder);
        if let Some(found) = &before
            && let Some(holder) = found.holder()
            && !found.is_stale(&holder, stale_after)?
        {
            return Ok(Attempt::Held(holder));
        }
        let holder = Holder::new();
        let bytes = serde_json::to_vec(&holder).unwrap_or_default();
        let number = before.as_ref().map_or(1, |found| found.number + 1);
        let path = folder.join(format!("{PREFIX}{number}"));
        if !create_once(&path, &bytes)? {
            return held_by_another(folder, holder);
        }
        // Whoever saw an older state of the folder may have created another number meanwhile.
        let is_other = |found: &Found| {
            found.path != path && before.as_ref().is_none_or(|old| old.bytes != found.bytes)
        };
        if claims(folder).iter().any(is_other) {
            let _ = fs::remove_file(&path);
            return held_by_another(folder, holder);
        }
        if let Some(stale) = before {
            let _ = fs::remove_file(stale.path);
        }
        Ok(Attempt::Claimed(Self::held(path, bytes, stale_after)))
    }

    /// Begins to write the claim at intervals.
    fn held(path: PathBuf, bytes: Vec<u8>, stale_after: Duration) -> Self {
        let is_lost = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = channel();
        let thread = {
            let (path, bytes, is_lost) = (path.clone(), bytes.clone(), Arc::clone(&is_lost));
            thread::spawn(move || {
                let mut written = Instant::now();
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(stale_after / BEATS)
                {
                    match write_again(&path, &bytes) {
                        Ok(true) => written = Instant::now(),
                        // A server that does not answer may do so in time.
                        Err(_) if written.elapsed() < stale_after => {}
                        Ok(false) | Err(_) => return is_lost.store(true, Ordering::Relaxed),
                    }
                }
            })
        };
        Self {
            path,
            bytes,
            is_lost,
            beat: Some((stop, thread)),
        }
    }

    /// Whether another process has taken the run over, because this one did not write its claim for
    /// too long; known with a delay of a beat.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Whether this process holds the claim at this moment.
    pub fn is_held(&self) -> bool {
        !self.is_lost() && fs::read(&self.path).is_ok_and(|found| found == self.bytes)
    }
}

impl Drop for Claim {
    /// Gives the run back.
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beat.take() {
            drop(stop);
            let _ = thread.join();
        }
        if self.is_held() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Found {
    /// Who holds it; none if it is malformed.
    fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(&self.bytes).ok()
    }

    /// Whether its holder has ended, or has not written it for `stale_after`.
    fn is_stale(&self, holder: &Holder, stale_after: Duration) -> Result<bool, FileError> {
        if holder.has_ended() {
            return Ok(true);
        }
        let refused = |source| FileError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        };
        let age = age(&self.path).map_err(refused)?;
        Ok(age.is_none_or(|age| age > stale_after))
    }
}

/// Who holds the run of a folder now, so far as it is known; `own` has just lost it.
fn held_by_another(folder: &Path, own: Holder) -> Result<Attempt, FileError> {
    let other = newest(folder).and_then(|found| found.holder());
    Ok(Attempt::Held(other.unwrap_or(own)))
}

/// Who makes the run of a folder, by a claim that is not stale.
pub fn holder_of(folder: &Path, stale_after: Duration) -> Option<Holder> {
    let found = newest(folder)?;
    let holder = found.holder()?;
    let is_stale = found.is_stale(&holder, stale_after).unwrap_or(true);
    (!is_stale).then_some(holder)
}

/// How long ago a file was written, by the clock of the file system; none if it is gone.
fn age(path: &Path) -> io::Result<Option<Duration>> {
    let now = name_aside(path);
    fs::write(&now, b"now")?;
    let written = fs::metadata(&now).and_then(|file| file.modified());
    let _ = fs::remove_file(&now);
    let Ok(claimed) = fs::metadata(path).and_then(|file| file.modified()) else {
        return Ok(None);
    };
    Ok(Some(written?.duration_since(claimed).unwrap_or_default()))
}

/// Writes a claim again in its place; returns whether it was still there with these bytes.
fn write_again(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    match fs::read(path) {
        Ok(found) if found == bytes => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // Without truncation, so that a reader sees the same bytes at every moment.
    let mut file = fs::File::options().write(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(true)
}

fn newest(folder: &Path) -> Option<Found> {
    claims(folder).into_iter().max_by_key(|found| found.number)
}

fn claims(folder: &Path) -> Vec<Found> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
        let path = entry.path();
        let bytes = files::read_bytes(&path, LARGEST).ok()?;
        Some(Found {
            number,
            path,
            bytes,
        })
    };
    entries.filter_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const LONG: Duration = Duration::from_secs(600);

    fn claimed(folder: &Path, stale_after: Duration) -> Option<Claim> {
        match Claim::take(folder, stale_after).unwrap() {
            Attempt::Claimed(claim) => Some(claim),
            Attempt::Held(_) => None,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().into_owned()
        };
        entries.map(name).collect()
    }

    #[test]
    fn a_run_is_claimed_by_one_and_given_back() {
        let place = tempfile::tempdir().unwrap();
        let first = claimed(place.path(), LONG).unwrap();
        assert!(first.is_held());
        assert!(claimed(place.path(), LONG).is_none());
        assert!(holder_of(place.path(), LONG).is_some());
        drop(first);
        assert_eq!(names(place.path()), [""; 0]);
        assert!(claimed(place.path(), LONG).is_some());
    }

    #[test]
    fn of_many_that_want_a_run_at_once_at_most_one_holds_it_at_any_moment() {
        let place = tempfile::tempdir().unwrap();
        let (holding, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let Some(claim) = claimed(place.path(), LONG) else {
                            continue;
                        };
                        assert_eq!(holding.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        holding.fetch_sub(1, Ordering::SeqCst);
                        drop(claim);
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }

    #[test]
    fn a_claim_that_is_written_again_stays_and_one_that_is_not_is_taken_over() {
        let place = tempfile::tempdir().unwrap();
        let short = Duration::from_millis(900);
        let first = claimed(place.path(), short).unwrap();
        thread::sleep(2 * short);
        assert!(first.is_held() && claimed(place.path(), short).is_none());
        // Its holder is stopped for so long that its claim is stale.
        let stopped = Claim {
            beat: None,
            path: first.path.clone(),
            bytes: first.bytes.clone(),
            is_lost: Arc::default(),
        };
        let (stop, thread) = {
            let mut first = first;
            first.is_lost.store(true, Ordering::Relaxed);
            first.beat.take().unwrap()
        };
        drop(stop);
        thread.join().unwrap();
        thread::sleep(2 * short);
        let second = claimed(place.path(), short).unwrap();
        assert_eq!(names(place.path()), ["claim-2"]);
        assert!(second.is_held() && !stopped.is_held());
        // What the first does when it goes on takes nothing from the second.
        drop(stopped);
        assert!(second.is_held());
    }

    #[test]
    fn a_holder_whose_claim_is_gone_hears_of_it() {
        let place = tempfile::tempdir().unwrap();
        let claim = claimed(place.path(), Duration::from_millis(120)).unwrap();
        fs::remove_file(&claim.path).unwrap();
        let started = Instant::now();
        while !claim.is_lost() && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(claim.is_lost());
    }

    #[test]
    fn a_malformed_claim_is_nobodys() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("claim-7"), "{").unwrap();
        let claim = claimed(place.path(), LONG).unwrap();
        assert_eq!(names(place.path()), ["claim-8"]);
        assert!(claim.is_held());
    }
}
