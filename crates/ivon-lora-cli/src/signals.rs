//! Ctrl-C and SIGTERM: the first requests an orderly stop, which saves the work; a second ends the
//! program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Exit;

/// The signals received so far.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// The number of the latest signal; 0 for none.
    came: Arc<AtomicUsize>,
    /// Whether the next signal ends the program at once.
    again: Arc<AtomicBool>,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        ignore_file_size_limit();
        let signals = Self::default();
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // The order matters: the first signal finds the flag unset, the second finds it set and
            // exits.
            flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&signals.again))?;
            flag::register(signal, Arc::clone(&signals.again))?;
            flag::register_usize(signal, Arc::clone(&signals.came), signal as usize)?;
        }
        Ok(signals)
    }

    /// There is no work to save: the next signal ends the program at once.
    pub fn idle(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// Work begins, which the next signal stops; one that came before counts no longer.
    pub fn at_work(&self) {
        self.came.store(0, Ordering::Relaxed);
        self.again.store(false, Ordering::Relaxed);
    }

    /// Whether to continue the work.
    pub fn go_on(&self) -> bool {
        self.exit().is_none()
    }

    /// The exit code, if a signal was received.
    pub fn exit(&self) -> Option<Exit> {
        match self.came.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGTERM => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}

/// Makes a write beyond the file-size limit (`ulimit -f`) fail with an error, which is reported,
/// instead of a signal, which kills.
fn ignore_file_size_limit() {
    #[cfg(unix)]
    // Sound: SIG_IGN installs no handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
