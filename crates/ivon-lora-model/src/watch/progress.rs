//! The progress of an operation with a known number of units.

use super::{Event, Stage, Watch};

/// How many units are done, and who is told.
pub struct Progress<'w> {
    watch: Option<Watch<'w>>,
    stage: Stage,
    done: usize,
    total: usize,
}

/// The callback asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Units done.
    pub done: usize,
    /// Units in total.
    pub total: usize,
}

impl<'w> Progress<'w> {
    /// Progress of a stage that has not started.
    pub fn new(stage: Stage, total: usize, watch: Watch<'w>) -> Self {
        Self {
            watch: Some(watch),
            stage,
            done: 0,
            total,
        }
    }

    /// Progress that nobody watches.
    pub fn silent() -> Self {
        Self {
            watch: None,
            stage: Stage::Evaluating,
            done: 0,
            total: 0,
        }
    }

    /// Reports `by` further units as done.
    ///
    /// # Errors
    /// If the callback asks to stop.
    pub fn advance(&mut self, by: usize) -> Result<(), Stopped> {
        self.done += by;
        let Self { done, total, .. } = *self;
        let event = Event::Progress {
            what: self.stage,
            done,
            total,
        };
        match self.watch.as_mut().is_none_or(|watch| watch(event)) {
            true => Ok(()),
            false => Err(Stopped { done, total }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_adds_up_until_whoever_watches_says_stop() {
        let mut heard = Vec::new();
        let mut watch = |event: Event<'_>| {
            let Event::Progress { what, done, total } = event else {
                return false;
            };
            heard.push((what, done, total));
            done < 5
        };
        let mut progress = Progress::new(Stage::Test, 9, &mut watch);
        assert_eq!(progress.advance(2), Ok(()));
        assert_eq!(progress.advance(3), Err(Stopped { done: 5, total: 9 }));
        assert_eq!(heard, [(Stage::Test, 2, 9), (Stage::Test, 5, 9)]);
    }
}
