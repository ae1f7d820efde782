//! A longer piece of work of known size, told step by step.

use super::{Event, Stage, Watch};

/// How far a piece of work has come, and who hears of it.
pub struct Progress<'w> {
    watch: Option<Watch<'w>>,
    stage: Stage,
    done: usize,
    total: usize,
}

/// Whoever watches has asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// What was done.
    pub done: usize,
    /// What there was to do.
    pub total: usize,
}

impl<'w> Progress<'w> {
    /// Work of which nothing is done.
    pub fn new(stage: Stage, total: usize, watch: Watch<'w>) -> Self {
        Self {
            watch: Some(watch),
            stage,
            done: 0,
            total,
        }
    }

    /// Work that nobody watches.
    pub fn silent() -> Self {
        Self {
            watch: None,
            stage: Stage::Evaluating,
            done: 0,
            total: 0,
        }
    }

    /// Says that so much more is done.
    ///
    /// # Errors
    /// If whoever watches says stop.
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
