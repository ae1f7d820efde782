//! Numbers on the host that AdamW trains beside an adapter: logits of masks, standard deviations.

use super::adamw::AdamwConfig;
use super::bytes::{Reader, Writer};
use super::flat;
use crate::train::TrainError;

/// A vector and the state of its AdamW. There is no weight decay: what such numbers are pulled to is
/// a prior's business.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamwVector {
    /// `[n]`.
    pub values: Vec<f32>,
    /// m and v, `[n]`.
    moments: [Vec<f32>; 2],
    /// Steps taken.
    step: u64,
}

impl AdamwVector {
    /// The vector before its first step.
    pub fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self {
            values,
            moments: [zeros.clone(), zeros],
            step: 0,
        }
    }

    /// The vector after a step of AdamW with this configuration, but for its learning rate and decay.
    ///
    /// # Errors
    /// If the device does not return its data.
    pub fn after_step(
        &self,
        config: &AdamwConfig,
        gradient: Vec<f32>,
        learning_rate: f64,
    ) -> Result<Self, TrainError> {
        let config = AdamwConfig {
            weight_decay: 0.0,
            ..config.clone()
        };
        let step = self.step + 1;
        let (values, [first, second]) = config.update(
            flat::on_cpu(self.values.clone()),
            self.moments.clone().map(flat::on_cpu),
            flat::on_cpu(gradient),
            learning_rate,
            step,
        );
        Ok(Self {
            values: flat::to_host(values)?,
            moments: [flat::to_host(first)?, flat::to_host(second)?],
            step,
        })
    }

    /// Appends steps, numbers and both moments to a state.
    pub fn write(&self, writer: Writer) -> Writer {
        let [first, second] = &self.moments;
        writer
            .whole(self.step)
            .singles(&self.values)
            .singles(first)
            .singles(second)
    }

    /// Reads a vector of `len` numbers from a state.
    ///
    /// # Errors
    /// If too few bytes are left, or a list has another length.
    pub fn read(reader: &mut Reader<'_>, len: usize) -> Result<Self, TrainError> {
        Ok(Self {
            step: reader.whole()?,
            values: reader.singles(len)?,
            moments: [reader.singles(len)?, reader.singles(len)?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: AdamwConfig = AdamwConfig {
        learning_rate: 1.0,
        beta1: 0.8,
        beta2: 0.9,
        epsilon: 0.0,
        weight_decay: 0.5,
        max_grad_norm: 0.0,
    };

    #[test]
    fn two_steps_are_those_worked_out_by_hand_without_decay() {
        let vector = AdamwVector::new(vec![1.0, -1.0, 3.0]);
        // The first step is the gradient's sign.
        let first = vector
            .after_step(&CONFIG, vec![2.0, -4.0, 1.0], 0.1)
            .unwrap();
        let is_close = |found: &[f32], expected: [f64; 3]| {
            let pairs = found.iter().zip(expected);
            pairs
                .into_iter()
                .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6)
        };
        assert!(is_close(&first.values, [0.9, -0.9, 2.9]), "{first:?}");
        // m = 0.8 · 0.2 g + 0.2 g′ over 0.36, v = 0.9 · 0.1 g² + 0.1 g′² over 0.19.
        let second = first
            .after_step(&CONFIG, vec![2.0, 0.0, -1.0], 0.1)
            .unwrap();
        let by = |g: f64, other: f64| {
            let mean = (0.16 * g + 0.2 * other) / 0.36;
            0.1 * mean / ((0.09 * g * g + 0.1 * other * other) / 0.19).sqrt()
        };
        let expected = [
            0.9 - by(2.0, 2.0),
            -0.9 - by(-4.0, 0.0),
            2.9 - by(1.0, -1.0),
        ];
        assert!(is_close(&second.values, expected), "{second:?}");
    }

    #[test]
    fn a_state_reads_back_and_one_of_another_length_is_refused() {
        let vector = AdamwVector::new(vec![1.0, 2.0]);
        let vector = vector.after_step(&CONFIG, vec![0.5, 3.0], 0.1).unwrap();
        let state = vector.write(Writer::default()).finish();
        assert_eq!(
            AdamwVector::read(&mut Reader::new(&state), 2).unwrap(),
            vector
        );
        let error = AdamwVector::read(&mut Reader::new(&state), 3).unwrap_err();
        assert!(
            error.to_string().contains("2 numbers, expected 3"),
            "{error}"
        );
    }
}
