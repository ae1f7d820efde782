//! Ctrl-C and SIGTERM: the first asks for the end, so that the work is saved; a second ends the
//! program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Exit;

/// What was asked from outside.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// The number of the signal that came; 0 for none.
    came: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        ignore_file_size_limit();
        let signals = Self::default();
        let again = Arc::new(AtomicBool::new(false));
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // In this order: the first signal finds the flag down, the second finds it up and
            // leaves.
            flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&signals.came), signal as usize)?;
        }
        Ok(signals)
    }

    /// Whether the work shall go on.
    pub fn go_on(&self) -> bool {
        self.exit().is_none()
    }

    /// How to leave, if a signal came.
    pub fn exit(&self) -> Option<Exit> {
        match self.came.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGTERM => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}

/// A write past the limit on a file's size (`ulimit -f`) fails with an error, which is said, in
/// place of a signal, which kills.
fn ignore_file_size_limit() {
    #[cfg(unix)]
    // Sound: SIG_IGN is no function that could be called.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
