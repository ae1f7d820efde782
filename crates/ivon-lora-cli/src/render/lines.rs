//! Plain lines, for a log file or a screen reader: about twenty for the steps of a run, and at
//! least one every half minute.

use std::time::{Duration, Instant};

use ivon_lora::watch::{Event, StepRecord};

use super::pace::Pace;
use super::{is_checkpoint, say, text};
use crate::names;

/// The longest silence.
const SILENCE: Duration = Duration::from_secs(30);
/// Number of lines for the steps of a run.
const LINES: u64 = 20;

/// A screen that only ever adds lines.
#[derive(Debug, Default)]
pub struct Lines {
    pace: Pace,
    spoke: Option<Instant>,
}

impl Lines {
    /// Shows an event.
    pub fn show(&mut self, event: &Event<'_>) {
        self.spoke.get_or_insert_with(Instant::now);
        match event {
            Event::Note(text) => say(text),
            Event::Warning(text) => say(&format!("warning: {}", names::written(text))),
            Event::Step(record, of) => self.step(record, *of),
            Event::Evaluation(record) => say(&text::evaluation(record)),
            // These arrive as progress and as a note.
            Event::Received { .. } | Event::Member(..) => {}
            Event::Saved(path) if is_checkpoint(path) => {}
            Event::Saved(path) => say(&format!("wrote {}", path.display())),
            Event::Progress { what, done, total } if self.is_time() => {
                self.spoke = Some(Instant::now());
                say(&format!("{}: {done} of {total}", what.words()));
            }
            Event::Progress { .. } => {}
        }
    }

    fn step(&mut self, record: &StepRecord, of: u64) {
        self.pace.add(record);
        let due = record.step == 1
            || record.step == of
            || record.step.is_multiple_of((of / LINES).max(1));
        if due || self.is_time() {
            self.spoke = Some(Instant::now());
            say(&step(record.step, of, &self.pace));
        }
    }

    fn is_time(&self) -> bool {
        self.spoke.is_some_and(|spoke| spoke.elapsed() >= SILENCE)
    }
}

/// A step on one line.
fn step(step: u64, of: u64, pace: &Pace) -> String {
    let left = text::duration(pace.left(of.saturating_sub(step)));
    format!(
        "step {step} of {of}: loss {:.4}, {:.0} tokens/s, {left} left",
        pace.loss, pace.tokens_per_second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_with_loss_speed_and_time_left() {
        let mut pace = Pace::default();
        pace.add(&StepRecord {
            loss: 0.25,
            step_seconds: 0.5,
            tokens: 600,
            ..StepRecord::default()
        });
        assert_eq!(
            step(1, 121, &pace),
            "step 1 of 121: loss 0.2500, 1200 tokens/s, 1 min left"
        );
    }
}
