//! The ranks of a run as one of them sees them: its part, what all agree on, and what the reductions
//! have cost.

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{RankError, Ranks};

/// The ranks of a run, seen by one of them.
pub struct Team<'a> {
    ranks: &'a dyn Ranks,
    /// Whether this rank wants the run to stop.
    wants_stop: AtomicBool,
    /// Whether any rank wanted it at the last step.
    stops: AtomicBool,
    reductions: Mutex<Reductions>,
}

/// What the reductions of training steps have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Reductions {
    /// How many there were.
    pub count: u64,
    /// Bytes that each rank gave to all of them.
    pub bytes: u64,
    /// Wall-clock seconds of all of them, the wait for slower ranks included.
    pub seconds: f64,
}

impl fmt::Debug for Team<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rank {} of {}", self.rank(), self.size())
    }
}

impl<'a> Team<'a> {
    /// All ranks.
    pub fn new(ranks: &'a dyn Ranks) -> Self {
        Self {
            ranks,
            wants_stop: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            reductions: Mutex::default(),
        }
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.ranks.size()
    }

    /// Whether this rank writes the files of the run.
    pub fn writes(&self) -> bool {
        self.rank() == 0
    }

    /// This rank's part of `count` things: parts follow each other, and their lengths differ by one at
    /// most.
    pub fn part(&self, count: usize) -> Range<usize> {
        let bound = |rank: usize| count * rank / self.size();
        bound(self.rank())..bound(self.rank() + 1)
    }

    /// Asks all ranks to stop after the next step.
    pub fn ask_to_stop(&self) {
        self.wants_stop.store(true, Ordering::Relaxed);
    }

    /// Whether any rank asked to stop before the last step.
    pub fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// What the reductions of steps have cost so far.
    pub fn reductions(&self) -> Reductions {
        *self
            .reductions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the numbers of a step by their sums over all ranks, in one reduction. `failed` says
    /// that this rank has none to give.
    ///
    /// # Errors
    /// If any rank has failed, this one among them, or has ended.
    pub fn sum_step(&self, numbers: &mut Vec<f32>, failed: bool) -> Result<(), RankError> {
        let started = Instant::now();
        let flags = [failed, self.wants_stop.load(Ordering::Relaxed)];
        numbers.extend(flags.map(|flag| f32::from(u8::from(flag))));
        self.ranks.sum(numbers)?;
        let flags = numbers.split_off(numbers.len() - flags.len());
        let mut reductions = self
            .reductions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reductions.count += 1;
        reductions.bytes += 4 * (numbers.len() + flags.len()) as u64;
        reductions.seconds += started.elapsed().as_secs_f64();
        self.stops.store(flags[1] > 0.0, Ordering::Relaxed);
        match flags[0] > 0.0 {
            false => Ok(()),
            true => Err(RankError::Step),
        }
    }

    /// The bytes of all ranks, by rank.
    ///
    /// # Errors
    /// If a rank has ended.
    pub fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        self.ranks.gather(own)
    }

    /// The values of all ranks, by rank.
    ///
    /// # Errors
    /// If a rank has ended, or sends another type.
    pub fn gathered<T: Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>, RankError> {
        let malformed = |rank: usize| {
            move |error: serde_json::Error| RankError::Malformed {
                rank,
                reason: error.to_string(),
            }
        };
        let own = serde_json::to_vec(own).map_err(malformed(self.rank()))?;
        let all = self.ranks.gather(&own)?;
        let read = |(rank, bytes): (usize, &Vec<u8>)| {
            serde_json::from_slice(bytes).map_err(malformed(rank))
        };
        all.iter().enumerate().map(read).collect()
    }

    /// The own result if all ranks have one; else an error on every rank: the own one, or that another
    /// rank failed.
    ///
    /// # Errors
    /// As said; and if a rank has ended.
    pub fn agreed<T, E>(&self, own: Result<T, E>) -> Result<T, E>
    where
        E: fmt::Display + From<RankError>,
    {
        let reason = own.as_ref().err().map(ToString::to_string);
        let reasons = self.gathered(&reason)?.into_iter().enumerate();
        let value = own?;
        match reasons
            .flat_map(|(rank, reason)| Some((rank, reason?)))
            .next()
        {
            None => Ok(value),
            Some((rank, reason)) => Err(RankError::Failed { rank, reason }.into()),
        }
    }

    /// What the first rank says, on all ranks; only there is `say` called.
    ///
    /// # Errors
    /// Its error there, and on the others that it failed; and if a rank has ended.
    pub fn from_first<T, E>(&self, say: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Clone + Serialize + DeserializeOwned,
        E: fmt::Display + From<RankError>,
    {
        let own = self.writes().then(say);
        let value = own.as_ref().and_then(|own| own.as_ref().ok());
        let first = self.gathered(&value.cloned())?.into_iter().next();
        let reason = own
            .as_ref()
            .and_then(|own| own.as_ref().err().map(E::to_string));
        let reasons = self.gathered(&reason)?.into_iter().next();
        match (own, first.flatten()) {
            (Some(own), _) => own,
            (None, Some(value)) => Ok(value),
            (None, None) => Err(RankError::Failed {
                rank: 0,
                reason: reasons.flatten().unwrap_or_default(),
            }
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::ThreadRank;

    #[derive(Clone, Debug, PartialEq, thiserror::Error)]
    enum TestError {
        #[error("no luck")]
        Own,
        #[error(transparent)]
        Ranks(#[from] RankError),
    }

    fn on_teams<T: Send>(size: usize, work: impl Fn(&Team<'_>) -> T + Sync) -> Vec<T> {
        ThreadRank::run(size, |ranks| work(&Team::new(ranks)))
    }

    #[test]
    fn parts_are_disjoint_and_all_there_is() {
        for count in [0, 1, 7, 12] {
            let parts = on_teams(4, |team| team.part(count));
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            let lengths = parts.iter().map(ExactSizeIterator::len);
            assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
    }

    #[test]
    fn an_error_of_one_rank_is_one_of_all() {
        let found = on_teams(2, |team| {
            team.agreed(match team.rank() {
                1 => Err(TestError::Own),
                _ => Ok(4),
            })
        });
        let told = RankError::Failed {
            rank: 1,
            reason: "no luck".into(),
        };
        assert_eq!(found, [Err(told.into()), Err(TestError::Own)]);
        assert_eq!(
            on_teams(2, |team| team.agreed(Ok::<_, TestError>(4))),
            [Ok(4), Ok(4)]
        );
    }

    #[test]
    fn what_the_first_rank_says_holds_for_all() {
        let said = |say: fn() -> Result<u8, TestError>| on_teams(2, |team| team.from_first(say));
        assert_eq!(said(|| Ok(7)), [Ok(7), Ok(7)]);
        let told = RankError::Failed {
            rank: 0,
            reason: "no luck".into(),
        };
        assert_eq!(
            said(|| Err(TestError::Own)),
            [Err(TestError::Own), Err(told.into())]
        );
    }

    #[test]
    fn a_step_sums_numbers_and_tells_of_failures_and_stops() {
        let found = on_teams(2, |team| {
            let step = |failed: bool| {
                let mut numbers = vec![1.0, team.rank() as f32];
                (team.sum_step(&mut numbers, failed), numbers, team.stops())
            };
            let first = step(false);
            if team.rank() == 1 {
                team.ask_to_stop();
            }
            (
                first,
                step(false),
                step(team.rank() == 0),
                team.reductions().bytes,
            )
        });
        let sums = vec![2.0, 1.0];
        let expected = (
            (Ok(()), sums.clone(), false),
            (Ok(()), sums.clone(), true),
            (Err(RankError::Step), sums, true),
            3 * 4 * 4,
        );
        assert_eq!(found, vec![expected; 2]);
    }
}
