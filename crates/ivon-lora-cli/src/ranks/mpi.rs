//! Ranks over MPI.

use std::io::Write;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ivon_lora::ranks::{RankError, Ranks};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use crate::colour;
use crate::exit::Exit;
use crate::signals::Signals;

/// How long a wait for others goes on after a signal. The launcher sends SIGTERM when it has lost a
/// process, and SIGKILL a second later.
const GRACE: Duration = Duration::from_millis(600);
/// How long a wait keeps the processor, and then how long it only yields it.
const SPIN: Duration = Duration::from_micros(200);
const YIELD: Duration = Duration::from_millis(5);
const NAP: Duration = Duration::from_micros(100);

/// This process among those that a launcher of MPI has started.
pub struct MpiRanks {
    world: Mutex<World>,
    rank: usize,
    size: usize,
    signals: Signals,
}

/// What MPI is called through, by one thread at a time.
struct World {
    communicator: SimpleCommunicator,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

// Sound: MPI is started for calls by any thread, one at a time, which the mutex ensures.
unsafe impl Send for World {}

impl MpiRanks {
    /// Starts MPI.
    pub fn start(signals: Signals) -> Result<Self, String> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or("MPI was started before in this process")?;
        if threading < Threading::Serialized {
            return Err("this MPI cannot be called from several threads".into());
        }
        let communicator = universe.world();
        Ok(Self {
            rank: communicator.rank() as usize,
            size: communicator.size() as usize,
            world: Mutex::new(World {
                communicator,
                _universe: universe,
            }),
            signals,
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request is complete. A request cannot be given up, so that the program ends here
    /// if a process has been lost.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let started = Instant::now();
        let mut signalled: Option<Instant> = None;
        while let Err(pending) = request.test() {
            request = pending;
            if self.signals.exit().is_some()
                && signalled.get_or_insert_with(Instant::now).elapsed() > GRACE
            {
                self.end();
            }
            match started.elapsed() {
                waited if waited < SPIN => std::hint::spin_loop(),
                waited if waited < YIELD => thread::yield_now(),
                _ => thread::sleep(NAP),
            }
        }
    }

    /// Ends the program with a sentence.
    fn end(&self) -> ! {
        let (rank, size) = (self.rank, self.size);
        let lost = RankError::Lost { rank, size };
        let message = format!(
            "error: {lost}\n\nhint: go on from the newest checkpoint with `--resume`, on any number of ranks"
        );
        let _ = writeln!(std::io::stderr().lock(), "{}", colour::error(&message));
        process::exit(Exit::Failure as i32)
    }

    /// The same number of bytes of each rank, end to end.
    fn gather_equal(&self, own: &[u8]) -> Vec<u8> {
        let mut all = vec![0u8; own.len() * self.size];
        let world = self.world();
        scope(|scope| {
            self.wait(
                world
                    .communicator
                    .immediate_all_gather_into(scope, own, &mut all[..]),
            );
        });
        all
    }
}

impl Drop for MpiRanks {
    /// The end of MPI waits for all processes, which may wait for this one.
    fn drop(&mut self) {
        if thread::panicking() {
            abort(Exit::Failure as i32);
        }
    }
}

impl Ranks for MpiRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), RankError> {
        let own = values.to_vec();
        let world = self.world();
        let sum = SystemOperation::sum();
        scope(|scope| {
            let communicator = &world.communicator;
            self.wait(communicator.immediate_all_reduce_into(scope, &own[..], values, sum));
        });
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        let lengths = self.gather_equal(&(own.len() as u64).to_le_bytes());
        let lengths = lengths.as_chunks::<8>().0.iter();
        let lengths: Vec<usize> = lengths
            .map(|eight| u64::from_le_bytes(*eight) as usize)
            .collect();
        // Of one length, as far as the longest.
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = self.gather_equal(&padded);
        let part = |(rank, length): (usize, &usize)| all[rank * longest..][..*length].to_vec();
        Ok(lengths.iter().enumerate().map(part).collect())
    }
}

/// Ends all processes.
pub fn abort(code: i32) {
    SimpleCommunicator::world().abort(code);
}
