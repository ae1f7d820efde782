//! The learning rate of each step, as a factor of the base rate.

use serde::{Deserialize, Serialize};

/// How the learning rate changes over a run. With a warm-up of w steps, step s < w has the factor
/// s/w.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// 1.
    Constant,
    /// Linearly from 1 down to 0 after the last step.
    #[default]
    Linear,
    /// ½ (1 + cos π x) with x from 0 to 1.
    Cosine,
}

impl Schedule {
    /// The factor of step `step` (from 0) of `steps`, the first `warmup` of which warm up; as in
    /// transformers' `get_scheduler`.
    pub fn factor(self, step: u64, steps: u64, warmup: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Linear => (1.0 - done).max(0.0),
            Self::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * done).cos())).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_agree_with_transformers() {
        let golden = crate::testing::golden_json("schedules.json");
        for case in golden["cases"].as_array().unwrap() {
            let schedule = match case["name"].as_str().unwrap() {
                "linear" => Schedule::Linear,
                "cosine" => Schedule::Cosine,
                _ => Schedule::Constant,
            };
            let [warmup, steps] =
                ["num_warmup_steps", "num_training_steps"].map(|key| case[key].as_u64().unwrap());
            // The plain `constant` of transformers knows no warm-up.
            let warmup = if case["name"] == "constant" {
                0
            } else {
                warmup
            };
            for (step, expected) in case["factor_at_step"]
                .as_array()
                .unwrap()
                .iter()
                .enumerate()
            {
                let found = schedule.factor(step as u64, steps, warmup);
                // Past its end transformers' cosine rises again; a run ends there.
                if step as u64 <= steps {
                    assert!(
                        (found - expected.as_f64().unwrap()).abs() <= 1e-12,
                        "{case} at {step}: {found}"
                    );
                }
            }
        }
    }
}
