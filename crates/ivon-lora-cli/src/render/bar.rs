//! A progress bar at the bottom of a terminal, with everything else scrolling above it.

use indicatif::{ProgressBar, ProgressStyle};
use ivon_lora::watch::Event;

use super::pace::Pace;
use super::{is_checkpoint, say, text};
use crate::names;

/// The bar, if shown, and what it counts.
#[derive(Debug, Default)]
pub struct Bar {
    shown: Option<(&'static str, ProgressBar)>,
    pace: Pace,
}

impl Bar {
    /// Shows an event.
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Note(text) => self.above(text),
            Event::Warning(text) => self.above(&format!(
                "{} {}",
                crate::colour::warning(),
                names::written(text)
            )),
            Event::Step(record, of) => {
                self.pace.add(record);
                let left = text::duration(self.pace.left(of.saturating_sub(record.step)));
                let message = format!(
                    "loss {:.4}  {:.0} tokens/s  {left} left",
                    self.pace.loss, self.pace.tokens_per_second
                );
                self.move_to("training", record.step, *of, message);
            }
            Event::Evaluation(record) => self.above(&text::evaluation(record)),
            // These arrive as progress and as a note.
            Event::Received { .. } | Event::Member(..) => {}
            Event::Saved(path) if is_checkpoint(path) => {}
            Event::Saved(path) => self.above(&format!("wrote {}", path.display())),
            Event::Progress { what, done, total } => {
                self.move_to(what.words(), *done as u64, *total as u64, String::new())
            }
        }
    }

    /// Removes the bar.
    pub fn clear(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
            bar.finish_and_clear();
        }
    }

    fn above(&self, text: &str) {
        match &self.shown {
            Some((_, bar)) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn move_to(&mut self, what: &'static str, done: u64, total: u64, message: String) {
        if self.shown.as_ref().is_none_or(|(shown, _)| *shown != what) {
            self.clear();
            let bar = ProgressBar::new(total);
            if let Ok(style) =
                ProgressStyle::with_template("{prefix}  [{bar:30}] {pos}/{len}  {msg}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(what);
            self.shown = Some((what, bar));
        }
        let Some((_, bar)) = &self.shown else { return };
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(message);
        if done >= total {
            self.clear();
        }
    }
}
