//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{RankError, Ranks};

/// Ranks that are threads of one process.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    shared: Arc<Shared>,
}

/// What threads leave for each other.
#[derive(Debug)]
struct Shared {
    size: usize,
    exchange: Mutex<Exchange>,
    changed: Condvar,
}

/// One gathering after the other.
#[derive(Debug, Default)]
struct Exchange {
    /// How many gatherings are complete.
    round: u64,
    /// The bytes of this gathering by rank, as far as they have come.
    coming: Vec<Option<Vec<u8>>>,
    /// Those of the last complete one.
    complete: Arc<Vec<Vec<u8>>>,
    /// How many ranks have ended.
    gone: usize,
}

impl ThreadRank {
    /// Runs `work` on as many threads as there are ranks, and returns what each of them returned.
    pub fn run<T: Send>(size: usize, work: impl Fn(&Self) -> T + Sync) -> Vec<T> {
        let shared = Arc::new(Shared {
            size,
            exchange: Mutex::new(Exchange {
                coming: vec![None; size],
                ..Exchange::default()
            }),
            changed: Condvar::new(),
        });
        let work = &work;
        std::thread::scope(|scope| {
            let start = |rank| {
                let shared = Arc::clone(&shared);
                scope.spawn(move || work(&Self { rank, shared }))
            };
            let threads: Vec<_> = (0..size).map(start).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, T>| match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect()
        })
    }

    fn exchange(&self, own: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>, RankError> {
        let Shared { size, changed, .. } = &*self.shared;
        let lock = || {
            self.shared
                .exchange
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let mut exchange = lock();
        let round = exchange.round;
        exchange.coming[self.rank] = Some(own);
        if exchange.coming.iter().all(Option::is_some) {
            let complete = exchange.coming.iter_mut().filter_map(Option::take);
            exchange.complete = Arc::new(complete.collect());
            exchange.round += 1;
            changed.notify_all();
        }
        while exchange.round == round {
            if exchange.gone > 0 {
                let (rank, size) = (self.rank, *size);
                return Err(RankError::Lost { rank, size });
            }
            exchange = changed
                .wait(exchange)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Arc::clone(&exchange.complete))
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        let exchange = self.shared.exchange.lock();
        exchange.unwrap_or_else(PoisonError::into_inner).gone += 1;
        self.shared.changed.notify_all();
    }
}

impl Ranks for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    /// In the order of the ranks.
    fn sum(&self, values: &mut [f32]) -> Result<(), RankError> {
        let own = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let all = self.exchange(own)?;
        values.fill(0.0);
        for bytes in all.iter() {
            let numbers = bytes.as_chunks::<4>().0.iter();
            let pairs = values.iter_mut().zip(numbers);
            pairs.for_each(|(sum, four)| *sum += f32::from_le_bytes(*four));
        }
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        Ok(self.exchange(own.to_vec())?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_has_the_sums_and_what_all_have_said() {
        let found = ThreadRank::run(3, |ranks| {
            let mut values = [1.0, ranks.rank() as f32];
            ranks.sum(&mut values).unwrap();
            (values, ranks.gather(&[ranks.rank() as u8]).unwrap())
        });
        assert_eq!(
            found,
            vec![([3.0, 3.0], vec![vec![0], vec![1], vec![2]]); 3]
        );
    }

    #[test]
    fn a_rank_that_ends_is_missed_by_those_that_wait_for_it() {
        let found = ThreadRank::run(3, |ranks| match ranks.rank() {
            1 => Ok(()),
            _ => ranks.sum(&mut [1.0]),
        });
        let lost = |rank| Err(RankError::Lost { rank, size: 3 });
        assert_eq!(found, [lost(0), Ok(()), lost(2)]);
    }
}
