//! The examples of a training step, as a function of seed, number of examples and step alone, so
//! that a resumed run needs no state.
//!
//! Each epoch has its own order. Examples that do not fill a batch at the end of an epoch are
//! skipped (in another epoch they are others), as in the reference recipe; a set smaller than a
//! batch is one batch.

use crate::random::{Purpose, shuffle, stream};

/// The batches of a run: `batch(step)` for steps from 0.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    seed: u64,
    count: usize,
    batch_size: usize,
    /// The order of the epoch that was used last.
    order: Vec<usize>,
    epoch: Option<u64>,
}

impl EpochOrder {
    /// The order of `count` examples in batches of `batch_size`; a batch size of 0 counts as 1.
    pub fn new(seed: u64, count: usize, batch_size: usize) -> Self {
        Self {
            seed,
            count,
            batch_size: batch_size.clamp(1, count.max(1)),
            order: Vec::new(),
            epoch: None,
        }
    }

    /// The number of steps of one epoch, at least 1.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.count / self.batch_size).max(1) as u64
    }

    /// The examples of a step, by index; empty only if there are no examples.
    pub fn batch(&mut self, step: u64) -> &[usize] {
        let (epoch, place) = (
            step / self.steps_per_epoch(),
            (step % self.steps_per_epoch()) as usize,
        );
        if self.epoch != Some(epoch) {
            self.order = (0..self.count).collect();
            shuffle(
                &mut stream(self.seed, Purpose::DataOrder, epoch, 0, ""),
                &mut self.order,
            );
            self.epoch = Some(epoch);
        }
        let start = place * self.batch_size;
        self.order
            .get(start..(start + self.batch_size).min(self.count))
            .unwrap_or_default()
    }
}

/// The examples of one step, by index; empty only if there are no examples.
pub fn batch_indices(seed: u64, count: usize, batch_size: usize, step: u64) -> Vec<usize> {
    EpochOrder::new(seed, count, batch_size)
        .batch(step)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_each_example_at_most_once_and_drops_what_fills_no_batch() {
        let mut order = EpochOrder::new(3, 10, 4);
        assert_eq!(order.steps_per_epoch(), 2);
        let mut seen: Vec<usize> = (0..2).flat_map(|step| order.batch(step).to_vec()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 8);
        assert_ne!(batch_indices(3, 10, 4, 0), batch_indices(3, 10, 4, 2));
    }

    #[test]
    fn a_step_is_the_same_however_it_is_reached() {
        let mut order = EpochOrder::new(3, 10, 4);
        let all: Vec<Vec<usize>> = (0..9).map(|step| order.batch(step).to_vec()).collect();
        for step in [8, 0, 5, 3] {
            assert_eq!(batch_indices(3, 10, 4, step), all[step as usize]);
            assert_eq!(order.batch(step), all[step as usize]);
        }
    }

    #[test]
    fn a_set_smaller_than_a_batch_is_one_batch_and_an_empty_one_gives_none() {
        assert_eq!(batch_indices(1, 3, 4, 7).len(), 3);
        assert!(batch_indices(1, 0, 4, 7).is_empty());
        assert_eq!(batch_indices(1, 3, 0, 7).len(), 1);
    }
}
