//! The ranks that make one run together, as `mpirun` has started them.

use std::ops::Deref;

use ivon_lora::ranks::{Alone, Ranks};

use crate::exit::CliError;
use crate::signals::Signals;

#[cfg(feature = "mpi")]
mod mpi;

/// By which the launchers of Open MPI and MPICH say how many processes they have started.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// This process among those that make a run.
pub struct RunRanks(Box<dyn Ranks>);

impl Deref for RunRanks {
    type Target = dyn Ranks;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

impl RunRanks {
    /// One process alone.
    pub fn alone() -> Self {
        Self(Box::new(Alone))
    }

    /// Those that were started together with this process.
    ///
    /// # Errors
    /// If there are others and the program was built without MPI, or MPI does not start.
    pub fn started(signals: &Signals) -> Result<Self, CliError> {
        match started_with() {
            0 | 1 => Ok(Self::alone()),
            size => together(size, signals).map(Self),
        }
    }

    /// Whether this process shows and writes what there is to show and to write.
    pub fn speaks(&self) -> bool {
        self.rank() == 0
    }
}

/// How many processes a launcher has started together; 0 without one.
fn started_with() -> usize {
    let size = |name| std::env::var(name).ok()?.parse().ok();
    SIZES.into_iter().find_map(size).unwrap_or(0)
}

#[cfg(feature = "mpi")]
fn together(_: usize, signals: &Signals) -> Result<Box<dyn Ranks>, CliError> {
    let ranks = mpi::MpiRanks::start(signals.clone()).map_err(|message| CliError {
        message,
        hint: None,
        exit: crate::exit::Exit::Failure,
    })?;
    Ok(Box::new(ranks))
}

#[cfg(not(feature = "mpi"))]
fn together(size: usize, _: &Signals) -> Result<Box<dyn Ranks>, CliError> {
    let message = format!(
        "{size} processes were started together, but this program is built without MPI: each of them would make the whole run"
    );
    let hint = "build it with MPI (docs/cluster.md), or start one process".to_string();
    Err(CliError::usage(message, Some(hint)))
}

/// Ends all processes of a run of which this one has failed, as the others may wait for it for ever.
#[cfg(feature = "mpi")]
pub fn abort(exit: crate::exit::Exit) {
    mpi::abort(exit as i32);
}

/// A process alone has nobody to end.
#[cfg(not(feature = "mpi"))]
pub fn abort(_: crate::exit::Exit) {}
