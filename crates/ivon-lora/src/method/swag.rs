//! SWAG (Maddox et al., arXiv 1902.02476): AdamW, then a phase at a constant learning rate in which
//! snapshots of the weights are collected.
//!
//! Mean and variance are over all snapshots, divided by how many there are (not by how many were
//! planned); the low-rank part has the newest of them, as deviations from the final mean.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::adamw::{Adamw, AdamwConfig};
use super::bytes::{Reader, Writer};
use super::{Settings, Setup, flat};
use crate::lora::Adapter;
use crate::posterior::{PointEstimate, Posterior, Swag};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Objective, Optimizer, TrainError, Update};

/// The most snapshots of the low-rank part: each is as large as the adapter, in memory and on disk.
const MAX_RANK: usize = 1000;

/// AdamW's settings and those of the collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwagConfig {
    /// Those of the training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// The share of the steps before the collection begins, from 0 to below 1.
    pub swag_start: f64,
    /// The constant learning rate of the collection, as a share of `learning_rate`.
    pub swag_rate: f64,
    /// Snapshots to collect, spread evenly over the rest of the steps; at most one a step.
    pub swag_snapshots: u64,
    /// How many of the newest snapshots make the low-rank part; 0 for a diagonal posterior.
    pub swag_rank: usize,
}

impl SwagConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 4] = [
        Key::new(
            "swag_start",
            Kind::Number,
            "The share of the steps before snapshots are collected.",
        ),
        Key::new(
            "swag_rate",
            Kind::Number,
            "The constant learning rate of the collection, as a share of learning_rate.",
        ),
        Key::new(
            "swag_snapshots",
            Kind::Whole,
            "Snapshots to collect, evenly over the rest of the steps.",
        ),
        Key::new(
            "swag_rank",
            Kind::Whole,
            "The newest snapshots that make the low-rank part; 0 for a diagonal posterior.",
        ),
    ];
}

impl Default for SwagConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            swag_start: 0.75,
            swag_rate: 0.5,
            swag_snapshots: 20,
            swag_rank: 20,
        }
    }
}

impl Settings for SwagConfig {
    fn name(&self) -> &'static str {
        "swag"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(0.0..1.0).contains(&self.swag_start) {
            return Err(SettingError::value(
                "swag_start",
                self.swag_start,
                "a number from 0 to below 1",
            )
            .into());
        }
        if !(self.swag_rate.is_finite() && self.swag_rate > 0.0) {
            return Err(SettingError::value(
                "swag_rate",
                self.swag_rate,
                "a finite number above 0",
            )
            .into());
        }
        if self.swag_snapshots == 0 {
            return Err(SettingError::value("swag_snapshots", "0", "at least 1").into());
        }
        if self.swag_rank > MAX_RANK {
            return Err(SettingError::value("swag_rank", self.swag_rank, "at most 1000").into());
        }
        self.adamw.validate()
    }

    fn trains_tables(&self) -> bool {
        true
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let count = adapter.parameter_count();
        let phase = Phase {
            first: (self.swag_start * setup.steps as f64) as u64,
            steps: setup.steps,
            snapshots: self.swag_snapshots,
            learning_rate: self.swag_rate * self.adamw.learning_rate,
        };
        let collected = SnapshotMoments {
            count: 0,
            mean: vec![0.0; count],
            squares: vec![0.0; count],
            newest: Vec::new(),
            rank: self.swag_rank,
        };
        Ok(Box::new(SwagOptimizer {
            adamw: self.adamw.optimizer(adapter)?,
            phase,
            collected,
        }))
    }
}

/// The phase of collection: when snapshots are taken, and at which learning rate.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// Steps before it.
    first: u64,
    /// Steps of the run.
    steps: u64,
    snapshots: u64,
    learning_rate: f64,
}

impl Phase {
    /// Whether a snapshot is taken after this step, counted from 1.
    fn collects(&self, step: u64) -> bool {
        let due = |step: u64| {
            step.saturating_sub(self.first) * self.snapshots / (self.steps - self.first).max(1)
        };
        step > self.first && due(step) > due(step - 1)
    }
}

/// Running moments of the snapshots by Welford's algorithm, in f64, and the newest snapshots.
#[derive(Clone, Debug)]
struct SnapshotMoments {
    count: u64,
    mean: Vec<f64>,
    /// Σ (θ − mean)².
    squares: Vec<f64>,
    newest: Vec<Vec<f32>>,
    rank: usize,
}

impl SnapshotMoments {
    fn add(&mut self, snapshot: Vec<f32>) {
        self.count += 1;
        for ((&value, mean), squares) in snapshot.iter().zip(&mut self.mean).zip(&mut self.squares)
        {
            let before = f64::from(value) - *mean;
            *mean += before / self.count as f64;
            *squares += before * (f64::from(value) - *mean);
        }
        self.newest.push(snapshot);
        if self.newest.len() > self.rank {
            self.newest.remove(0);
        }
    }

    /// Mean, variances and deviations, each as long as the adapter.
    fn moments(&self) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
        let variance = self
            .squares
            .iter()
            .map(|square| (square / self.count.max(1) as f64) as f32)
            .collect();
        let deviation = |snapshot: &Vec<f32>| {
            snapshot
                .iter()
                .zip(&self.mean)
                .map(|(&value, mean)| (f64::from(value) - mean) as f32)
                .collect()
        };
        (
            self.mean.iter().map(|&mean| mean as f32).collect(),
            variance,
            self.newest.iter().map(deviation).collect(),
        )
    }
}

/// AdamW, and the snapshots of its path.
#[derive(Debug)]
struct SwagOptimizer {
    adamw: Adamw,
    phase: Phase,
    collected: SnapshotMoments,
}

impl Optimizer for SwagOptimizer {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let collecting = self.adamw.steps() >= self.phase.first;
        let learning_rate = match collecting {
            true => self.phase.learning_rate,
            false => learning_rate,
        };
        let update = self.adamw.step(learning_rate, objective)?;
        if self.phase.collects(self.adamw.steps()) {
            self.collected.add(self.adamw.adapter().flatten()?);
        }
        Ok(update)
    }

    fn adapter(&self) -> &Adapter {
        self.adamw.adapter()
    }

    /// A point estimate before the first snapshot.
    fn posterior(&self) -> Box<dyn Posterior> {
        let adapter = self.adamw.adapter().valid();
        if self.collected.count == 0 {
            return Box::new(PointEstimate { adapter });
        }
        let device = flat::device(&adapter);
        let like = |values: Vec<f32>| {
            let len = values.len();
            let values = Tensor::from_data(TensorData::new(values, [len]), &device);
            flat::with_values(&adapter, &values)
        };
        let (mean, variance, deviations) = self.collected.moments();
        let mean = like(mean);
        match Swag::new(
            mean.clone(),
            like(variance),
            deviations.into_iter().map(like).collect(),
        ) {
            Ok(swag) => Box::new(swag),
            // Unreachable: all have one layout, and a sum of squares is not negative.
            Err(_) => Box::new(PointEstimate { adapter: mean }),
        }
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        let collected = &self.collected;
        let writer = Writer::default()
            .bytes(&self.adamw.state()?)
            .whole(collected.count)
            .doubles(&collected.mean)
            .doubles(&collected.squares);
        let writer = writer.whole(collected.newest.len() as u64);
        Ok(collected
            .newest
            .iter()
            .fold(writer, |writer, snapshot| writer.singles(snapshot))
            .finish())
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let (len, rank) = (self.collected.mean.len(), self.collected.rank);
        let mut reader = Reader::new(state);
        let adamw = reader.bytes()?;
        let (count, mean, squares) = (reader.whole()?, reader.doubles(len)?, reader.doubles(len)?);
        let kept = reader.whole()?;
        if kept > rank as u64 {
            return Err(TrainError::Optimizer {
                reason: format!("the state has {kept} snapshots, expected at most {rank}"),
            });
        }
        let newest = (0..kept)
            .map(|_| reader.singles(len))
            .collect::<Result<_, _>>()?;
        reader.finish()?;
        self.adamw.restore(adapter, adamw)?;
        self.collected = SnapshotMoments {
            count,
            mean,
            squares,
            newest,
            rank,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_normals;

    #[test]
    fn snapshots_are_spread_evenly_and_end_with_the_last_step() {
        let taken = |steps: u64, first: u64, snapshots: u64| -> Vec<u64> {
            let phase = Phase {
                first,
                steps,
                snapshots,
                learning_rate: 0.0,
            };
            (1..=steps).filter(|&step| phase.collects(step)).collect()
        };
        assert_eq!(taken(100, 75, 5), [80, 85, 90, 95, 100]);
        assert_eq!(taken(10, 7, 20), [8, 9, 10]);
        assert_eq!(taken(4, 0, 1), [4]);
    }

    #[test]
    fn moments_are_those_of_two_passes_over_all_snapshots_and_deviations_are_from_the_final_mean() {
        let snapshots: Vec<Vec<f32>> = (0..7)
            .map(|k| {
                golden_normals(k, 5)
                    .into_iter()
                    .map(|x| 100.0 + 0.01 * x as f32)
                    .collect()
            })
            .collect();
        let mut collected = SnapshotMoments {
            count: 0,
            mean: vec![0.0; 5],
            squares: vec![0.0; 5],
            newest: Vec::new(),
            rank: 3,
        };
        snapshots
            .iter()
            .for_each(|snapshot| collected.add(snapshot.clone()));
        let (mean, variance, deviations) = collected.moments();
        for place in 0..5 {
            let values: Vec<f64> = snapshots
                .iter()
                .map(|snapshot| f64::from(snapshot[place]))
                .collect();
            let expected = values.iter().sum::<f64>() / 7.0;
            let spread = values
                .iter()
                .map(|value| (value - expected).powi(2))
                .sum::<f64>()
                / 7.0;
            assert!((f64::from(mean[place]) - expected).abs() < 1e-5);
            assert!((f64::from(variance[place]) / spread - 1.0).abs() < 1e-5);
            for (deviation, value) in deviations.iter().zip(&values[4..]) {
                assert!((f64::from(deviation[place]) - (value - expected)).abs() < 1e-7);
            }
        }
        assert_eq!(deviations.len(), 3);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: SwagConfig| config.validate().unwrap_err().to_string();
        let default = SwagConfig::default;
        assert_eq!(
            message(SwagConfig {
                swag_start: 1.0,
                ..default()
            }),
            "`swag_start` is `1`, expected a number from 0 to below 1"
        );
        assert_eq!(
            message(SwagConfig {
                swag_rate: 0.0,
                ..default()
            }),
            "`swag_rate` is `0`, expected a finite number above 0"
        );
        assert_eq!(
            message(SwagConfig {
                swag_snapshots: 0,
                ..default()
            }),
            "`swag_snapshots` is `0`, expected at least 1"
        );
        assert_eq!(
            message(SwagConfig {
                swag_rank: 1001,
                ..default()
            }),
            "`swag_rank` is `1001`, expected at most 1000"
        );
    }
}
