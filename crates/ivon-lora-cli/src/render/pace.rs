//! How fast a run is, and how long it will still take.

use std::time::Duration;

use ivon_lora::watch::StepRecord;

/// Weight of the newest step in the averages shown.
const NEWEST: f64 = 0.1;

/// Running averages over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// The running mean of the loss.
    pub loss: f64,
    /// The running mean of tokens per second.
    pub tokens_per_second: f64,
    seconds: f64,
    steps: u64,
}

impl Pace {
    /// Adds a step to the averages.
    pub fn add(&mut self, step: &StepRecord) {
        let seconds = step.step_seconds.max(1e-9);
        let speed = step.tokens as f64 / seconds;
        let weight = if self.steps == 0 { 1.0 } else { NEWEST };
        self.loss += weight * (step.loss - self.loss);
        self.tokens_per_second += weight * (speed - self.tokens_per_second);
        self.seconds += seconds;
        self.steps += 1;
    }

    /// How long `steps` more steps will take at the mean speed so far.
    pub fn left(&self, steps: u64) -> Duration {
        let seconds = self.seconds / self.steps.max(1) as f64 * steps as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_steps_left_at_the_mean_speed() {
        let mut pace = Pace::default();
        for (loss, step_seconds) in [(1.0, 1.0), (0.5, 3.0)] {
            pace.add(&StepRecord {
                loss,
                step_seconds,
                tokens: 300,
                ..StepRecord::default()
            });
        }
        assert_eq!(pace.left(10), Duration::from_secs(20));
        assert!(
            (pace.loss - 0.95).abs() < 1e-12 && (pace.tokens_per_second - 280.0).abs() < 1e-9,
            "{pace:?}"
        );
        assert_eq!(Pace::default().left(5), Duration::ZERO);
    }
}
