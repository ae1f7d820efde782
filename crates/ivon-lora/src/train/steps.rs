//! The training loop: learning rate → step → record → evaluation and checkpoint at intervals → end.

use std::path::Path;
use std::time::Instant;

use super::checkpoint::Position;
use super::{
    Checkpoints, Goal, Length, METRICS_FILE, MetricsFile, Optimizer, TrainConfig, TrainError,
};
use crate::files;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::predict::PredictError;
use crate::ranks::Team;
use crate::watch::{Evaluation, EvaluationRecord, Event, StepRecord, Watch};

/// The name of the checkpoints' folder in a run's folder.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

/// What the training loop needs besides an optimizer.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// The frozen decoder that the adapter belongs to.
    pub network: &'a Network,
    /// What is learned, and how it is scored.
    pub goal: &'a dyn Goal,
    /// Length, schedule, intervals.
    pub config: &'a TrainConfig,
    /// The learning rate before the schedule.
    pub learning_rate: f64,
    /// Probability that an input of A is dropped.
    pub dropout: f64,
    /// Seed of the data order and of dropout masks.
    pub seed: u64,
    /// The folder for records and checkpoints; must exist.
    pub folder: &'a Path,
    /// The ranks that train together, of which the first writes; none if one process trains.
    pub team: Option<&'a Team<'a>>,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were taken.
    Finished,
    /// The score has not improved for as many evaluations as the settings allow.
    StoppedEarly,
    /// The watcher said stop; a checkpoint was written.
    Interrupted,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingEnd {
    /// Why.
    pub outcome: Outcome,
    /// Steps taken.
    pub steps: u64,
    /// The step that the optimizer now holds: the best one if the settings ask for it.
    pub kept_step: u64,
}

/// Trains until all steps are taken, the score no longer improves, or `watch` says stop. With
/// `resume`, it goes on from the newest checkpoint in the folder. At the end the optimizer holds the
/// step to be kept.
///
/// # Errors
/// If a row of train or tune has no label, before anything is written; if a step fails, in which case
/// nothing is updated and the error names the newest checkpoint; or if a file cannot be written.
pub fn training_loop(
    training: &Training<'_>,
    optimizer: &mut dyn Optimizer,
    resume: bool,
    watch: Watch<'_>,
) -> Result<TrainingEnd, TrainError> {
    training.goal.check()?;
    let checkpoints = training.folder.join(CHECKPOINTS_FOLDER);
    let writes = training.team.is_none_or(Team::writes);
    let metrics = match writes {
        true => {
            files::remove_leftovers(&checkpoints);
            Some(MetricsFile::open(&training.folder.join(METRICS_FILE))?)
        }
        false => None,
    };
    let checkpoints = Checkpoints::new(checkpoints, training.config.keep_checkpoints);
    let mut state = Loop {
        training,
        length: training.config.length(training.goal.examples()),
        position: Position::default(),
        metrics,
        checkpoints,
    };
    if resume {
        let resumed = state.resume(optimizer);
        state.agreed(resumed)?;
    } else if let Some(metrics) = &mut state.metrics {
        metrics.cut(0)?;
    }
    let trained = match training.team {
        None => state.run(optimizer, watch),
        // All ranks stop after the same step.
        Some(team) => state.run(optimizer, &mut |event| {
            if !watch(event) {
                team.ask_to_stop();
            }
            true
        }),
    };
    trained.map_err(|error| error.with_checkpoint(state.checkpoints.newest()))
}

/// A training and its position.
struct Loop<'a> {
    training: &'a Training<'a>,
    length: Length,
    position: Position,
    /// None on a rank that does not write.
    metrics: Option<MetricsFile>,
    checkpoints: Checkpoints,
}

impl Loop<'_> {
    fn resume(&mut self, optimizer: &mut dyn Optimizer) -> Result<(), TrainError> {
        let saved = self.checkpoints.load_newest(
            self.training.network.config(),
            self.training.network.device(),
        )?;
        optimizer.restore(
            with_ids_of(optimizer.adapter(), saved.adapter),
            &saved.state,
        )?;
        self.position = saved.position;
        match &mut self.metrics {
            None => Ok(()),
            Some(metrics) => metrics.cut(self.position.metrics_bytes),
        }
    }

    /// A result of this rank, or the failure of another one.
    fn agreed<T>(&self, own: Result<T, TrainError>) -> Result<T, TrainError> {
        match self.training.team {
            None => own,
            Some(team) => team.agreed(own),
        }
    }

    /// Appends a record to the run's metrics, on the rank that writes.
    fn record(&mut self, record: &impl serde::Serialize) -> Result<(), TrainError> {
        match &mut self.metrics {
            None => Ok(()),
            Some(metrics) => metrics.append(record),
        }
    }

    fn run(
        &mut self,
        optimizer: &mut dyn Optimizer,
        watch: Watch<'_>,
    ) -> Result<TrainingEnd, TrainError> {
        let outcome = loop {
            // Before the step, so that a resumed run catches up on an interrupted evaluation.
            let mut go_on = !self.evaluation_is_due() || self.evaluate(optimizer, watch)?;
            let ends = self.is_last() || !self.is_patient();
            if self.checkpoint_is_due() || self.position.step > 0 && (ends || !go_on) {
                go_on &= self.save(optimizer, watch)?;
            }
            if ends || !go_on {
                break self.outcome(go_on);
            }
            let record = self.step(optimizer)?;
            let go_on = watch(Event::Step(&record, self.length.steps));
            if !go_on || self.training.team.is_some_and(Team::stops) {
                self.save(optimizer, watch)?;
                break Outcome::Interrupted;
            }
        };
        let kept_step = self.take_best(optimizer, outcome)?;
        Ok(TrainingEnd {
            outcome,
            steps: self.position.step,
            kept_step,
        })
    }

    fn is_last(&self) -> bool {
        self.position.step == self.length.steps
    }

    /// Whether the score has improved recently enough to go on.
    fn is_patient(&self) -> bool {
        let without_gain = self.position.without_gain;
        let patience = self.training.config.patience;
        patience.is_none_or(|patience| without_gain < patience)
    }

    /// Why the training ends here; unless `go_on`, the watcher said stop.
    fn outcome(&self, go_on: bool) -> Outcome {
        let complete = self.is_last() && !self.evaluation_is_due();
        if !go_on && !complete {
            Outcome::Interrupted
        } else if self.is_last() || self.is_patient() {
            Outcome::Finished
        } else {
            Outcome::StoppedEarly
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        let step = self.position.step;
        step > 0 && step.is_multiple_of(self.length.checkpoint_interval)
    }

    /// Whether this step ends an interval and was not scored yet.
    fn evaluation_is_due(&self) -> bool {
        let step = self.position.step;
        let ends = step > 0
            && (step.is_multiple_of(self.length.eval_interval) || step == self.length.steps);
        ends && self.position.evaluated < step && self.training.goal.is_scored()
    }

    /// Writes a checkpoint; returns whether to go on.
    fn save(
        &mut self,
        optimizer: &mut dyn Optimizer,
        watch: Watch<'_>,
    ) -> Result<bool, TrainError> {
        let Some(metrics) = &mut self.metrics else {
            return Ok(true);
        };
        metrics.sync()?;
        self.position.metrics_bytes = metrics.bytes()?;
        let path = self.checkpoints.save(&self.position, optimizer)?;
        Ok(watch(Event::Saved(&path)))
    }

    fn step(&mut self, optimizer: &mut dyn Optimizer) -> Result<StepRecord, TrainError> {
        let training = self.training;
        let started = Instant::now();
        let learning_rate = self.learning_rate();
        let mut objective = training.goal.objective(training.seed, self.position.step);
        let tokens = objective.tokens() as u64;
        let update = optimizer.step(learning_rate, objective.as_mut())?;
        self.position.step += 1;
        let measured =
            self.position.step == 1 || self.position.step.is_multiple_of(self.length.eval_interval);
        let [norm_a, norm_b] = norms(optimizer.adapter())?;
        let record = StepRecord {
            step: self.position.step,
            loss: update.loss,
            learning_rate,
            step_seconds: started.elapsed().as_secs_f64(),
            tokens,
            update_rms: update.update_rms,
            clipped_share: update.clipped_share,
            gradient_norm: update.gradient_norm,
            norm_a,
            norm_b,
            // Its quantiles need a sort.
            hessian_ratio: measured.then(|| optimizer.hessian_ratio()).flatten(),
        };
        self.record(&record)?;
        Ok(record)
    }

    /// The learning rate of the next step.
    fn learning_rate(&self) -> f64 {
        let TrainConfig {
            schedule, warmup, ..
        } = *self.training.config;
        let factor = schedule.factor(self.position.step, self.length.steps, warmup);
        self.training.learning_rate * factor
    }

    /// Scores on tune; returns whether to go on. An interrupted evaluation leaves no record and is
    /// repeated on resume.
    fn evaluate(
        &mut self,
        optimizer: &mut dyn Optimizer,
        watch: Watch<'_>,
    ) -> Result<bool, TrainError> {
        let Some(evaluation) = self.score(optimizer, watch)? else {
            return Ok(false);
        };
        let record = EvaluationRecord {
            step: self.position.step,
            evaluation,
        };
        self.record(&record)?;
        self.position.evaluated = self.position.step;
        if let Some(metric) = self.training.config.keep_best {
            let scores = record
                .evaluation
                .sampled
                .map_or(record.evaluation.mean, |sampled| sampled.scores);
            self.keep_if_best(metric.loss(&scores), optimizer)?;
        }
        Ok(watch(Event::Evaluation(&record)))
    }

    /// The scores on tune; none if the watcher says stop.
    fn score(
        &self,
        optimizer: &dyn Optimizer,
        watch: Watch<'_>,
    ) -> Result<Option<Evaluation>, TrainError> {
        let posterior = optimizer.posterior();
        match self.training.goal.score(posterior.as_ref(), watch) {
            Err(TrainError::Predict(PredictError::Stopped { .. })) => Ok(None),
            Err(TrainError::Predict(error @ PredictError::NotFinite { .. })) => {
                Err(TrainError::Step {
                    step: self.position.step,
                    reason: error.to_string(),
                    good: None,
                })
            }
            other => other.map(Some),
        }
    }

    /// Keeps the step if its loss is the lowest so far.
    fn keep_if_best(&mut self, loss: f64, optimizer: &dyn Optimizer) -> Result<(), TrainError> {
        if self.position.best.is_none_or(|(_, best)| loss < best) {
            self.position.best = Some((self.position.step, loss));
            self.position.without_gain = 0;
            return match self.metrics {
                None => Ok(()),
                Some(_) => self.checkpoints.save_best(&self.position, optimizer),
            };
        }
        self.position.without_gain += 1;
        Ok(())
    }

    /// Restores the best step in the optimizer, unless the run is to be resumed; returns the step
    /// that it then holds.
    fn take_best(
        &self,
        optimizer: &mut dyn Optimizer,
        outcome: Outcome,
    ) -> Result<u64, TrainError> {
        let (Some((step, _)), true) = (self.position.best, outcome != Outcome::Interrupted) else {
            return Ok(self.position.step);
        };
        let network = self.training.network;
        // Once the rank that writes has written it.
        self.agreed(Ok(()))?;
        let best = self
            .checkpoints
            .load_best(network.config(), network.device());
        let Some(best) = self.agreed(best)? else {
            return Ok(self.position.step);
        };
        optimizer.restore(with_ids_of(optimizer.adapter(), best.adapter), &best.state)?;
        Ok(step)
    }
}

/// The weights of `saved` in the parameters of `like`, which keep their ids.
fn with_ids_of(like: &Adapter, saved: Adapter) -> Adapter {
    let mut tensors: std::collections::HashMap<String, _> = saved
        .parameters()
        .map(|(path, parameter)| (path, parameter.val().inner()))
        .collect();
    like.clone_with(|path, tensor| match tensors.remove(path) {
        Some(saved) => saved,
        None => tensor.inner(),
    })
}

/// Euclidean norms of all A and of all B; magnitudes and whole tables are in neither.
fn norms(adapter: &Adapter) -> Result<[f64; 2], TrainError> {
    let mut squares = [0.0f64; 2];
    for (path, matrix) in adapter.to_matrices()? {
        if path.ends_with("lora_magnitude_vector") || path.ends_with(".weight") {
            continue;
        }
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let sum: f64 = matrix.values.iter().map(square).sum();
        squares[usize::from(path.ends_with("_B"))] += sum;
    }
    Ok(squares.map(f64::sqrt))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Choices, Encoded, Target};
    use crate::lora::LoraConfig;
    use crate::method::{AdamwConfig, DrawPer, IvonMethodConfig, Method, Setup};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::predict::EvaluationOptions;
    use crate::random::{Purpose, below, stream};
    use crate::testing::golden;
    use crate::train::{ChoiceGoal, GoalExamples, LossWeights, Score};
    use crate::watch::{Record, read_records};

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        Network::new(
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        )
    }

    /// Ten tokens each; the answer is whether the fifth is below the sixth.
    fn examples(count: u64) -> Vec<Encoded> {
        let example = |index: u64| {
            let mut numbers = stream(4, Purpose::Generation, index, 0, "");
            let tokens: Vec<u32> = (0..10)
                .map(|_| 3 + below(&mut numbers, 90) as u32)
                .collect();
            let label = Some(usize::from(tokens[4] < tokens[5]));
            Encoded {
                id: index.to_string(),
                key: index,
                tokens,
                target: Target::Choice {
                    choices: Choices::Tokens(vec![10, 20]),
                    label,
                },
            }
        };
        (0..count).map(example).collect()
    }

    fn ivon() -> Method {
        Method::Ivon(IvonMethodConfig {
            learning_rate: Some(1.0),
            mc_samples: 2,
            draw_per: DrawPer::MicroBatch,
            ..IvonMethodConfig::default()
        })
    }

    fn adamw() -> Method {
        Method::Adamw(AdamwConfig {
            learning_rate: 1e-2,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
            ..AdamwConfig::default()
        })
    }

    struct Run {
        network: Network,
        config: TrainConfig,
        method: Method,
        folder: tempfile::TempDir,
        train: Vec<Encoded>,
        tune: Vec<Encoded>,
    }

    impl Run {
        fn new(method: Method) -> Self {
            let config = TrainConfig {
                steps: Some(9),
                accumulation: 2,
                eval_interval: Some(3),
                warmup: 2,
                ..TrainConfig::default()
            };
            Self {
                network: network(),
                config,
                method,
                folder: tempfile::tempdir().unwrap(),
                train: examples(21),
                tune: examples(7),
            }
        }

        /// Runs until step `stop`, or to the end; gives the outcome and the weights.
        fn go(
            &self,
            resume: bool,
            stop: Option<u64>,
        ) -> Result<(TrainingEnd, Vec<f32>), TrainError> {
            let lora = LoraConfig {
                rank: 2,
                dropout: 0.2,
                ..LoraConfig::default()
            };
            let adapter =
                Adapter::new(&lora, self.network.config(), 1, &Device::flex().autodiff()).unwrap();
            let setup = Setup::new(&self.config, self.train.len(), 0.2, 5);
            let mut optimizer = self.method.settings().start(adapter, &setup).unwrap();
            let goal = ChoiceGoal(GoalExamples {
                network: &self.network,
                lora: &lora,
                config: &self.config,
                evaluation: EvaluationOptions {
                    samples: 2,
                    ..EvaluationOptions::default()
                },
                weights: &LossWeights::default(),
                train: &self.train,
                tune: &self.tune,
                team: None,
            });
            let training = Training {
                network: &self.network,
                goal: &goal,
                config: &self.config,
                learning_rate: self.method.learning_rate(),
                dropout: lora.dropout,
                seed: 5,
                folder: self.folder.path(),
                team: None,
            };
            let trained =
                training_loop(
                    &training,
                    optimizer.as_mut(),
                    resume,
                    &mut |event| match event {
                        Event::Step(record, _) => Some(record.step) != stop,
                        _ => true,
                    },
                )?;
            Ok((trained, optimizer.adapter().flatten().unwrap()))
        }

        /// The records without their times.
        fn records(&self) -> Vec<Record> {
            let mut records = read_records(&self.folder.path().join(METRICS_FILE)).unwrap();
            for record in &mut records {
                if let Record::Step(step) = record {
                    step.step_seconds = 0.0;
                }
            }
            records
        }
    }

    #[test]
    fn a_row_without_a_label_is_refused_by_name_before_anything_is_written() {
        for role in ["tune", "train"] {
            let mut run = Run::new(adamw());
            let rows = if role == "tune" {
                &mut run.tune
            } else {
                &mut run.train
            };
            let Target::Choice { label, .. } = &mut rows[4].target else {
                panic!()
            };
            *label = None;
            let error = run.go(false, None).unwrap_err();
            assert_eq!(error.to_string(), format!("row `4` of {role} has no label"));
            assert!(error.hint().unwrap().contains("label the row"));
            assert_eq!(std::fs::read_dir(run.folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_no_json_is_not_the_devices_fault() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = MetricsFile::open(&folder.path().join(METRICS_FILE)).unwrap();
        let error = metrics
            .append(&std::collections::BTreeMap::from([((1, 2), 3)]))
            .unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("a record for `") && said.contains("cannot be written as JSON: "),
            "{said}"
        );
        assert_eq!(
            std::fs::read(folder.path().join(METRICS_FILE)).unwrap(),
            b""
        );
    }

    #[test]
    fn a_run_that_is_stopped_at_any_step_and_resumed_takes_the_very_same_steps() {
        for method in [ivon(), adamw()] {
            let whole = Run::new(method.clone());
            let (_, expected) = whole.go(false, None).unwrap();
            for stop in 1..9 {
                let parts = Run::new(method.clone());
                let (trained, _) = parts.go(false, Some(stop)).unwrap();
                assert_eq!(
                    (trained.outcome, trained.steps),
                    (Outcome::Interrupted, stop)
                );
                let (trained, found) = parts.go(true, None).unwrap();
                assert_eq!(
                    trained,
                    TrainingEnd {
                        outcome: Outcome::Finished,
                        steps: 9,
                        kept_step: 9
                    }
                );
                assert_eq!(found, expected, "{} stopped at {stop}", method.name());
                assert_eq!(parts.records(), whole.records());
            }
        }
    }

    #[test]
    fn training_lowers_the_loss_with_both_optimizers() {
        for method in [ivon(), adamw()] {
            let mut run = Run::new(method);
            run.config = TrainConfig {
                steps: Some(60),
                eval_interval: Some(60),
                ..TrainConfig::default()
            };
            run.go(false, None).unwrap();
            let losses: Vec<f64> = run
                .records()
                .iter()
                .filter_map(|record| {
                    if let Record::Step(step) = record {
                        Some(step.loss)
                    } else {
                        None
                    }
                })
                .collect();
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
            assert!(
                mean(&losses[40..]) < 0.8 * mean(&losses[..20]),
                "{losses:?}"
            );
        }
    }

    #[test]
    fn the_best_step_on_tune_is_kept_and_patience_ends_the_run() {
        let mut run = Run::new(Method::Adamw(AdamwConfig {
            learning_rate: 0.05,
            ..AdamwConfig::default()
        }));
        run.config = TrainConfig {
            steps: Some(200),
            eval_interval: Some(4),
            keep_best: Some(Score::Nll),
            patience: Some(3),
            ..TrainConfig::default()
        };
        let (trained, _) = run.go(false, None).unwrap();
        assert_eq!(trained.outcome, Outcome::StoppedEarly);
        let records = run.records();
        let evaluations: Vec<(u64, f64)> = records
            .iter()
            .filter_map(|record| {
                if let Record::Evaluation(found) = record {
                    Some((found.step, found.evaluation.mean.nll))
                } else {
                    None
                }
            })
            .collect();
        let best = evaluations
            .iter()
            .copied()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        assert_eq!(trained.kept_step, best.0);
        assert_eq!(trained.steps, best.0 + 3 * 4);
    }

    #[test]
    fn a_run_that_runs_away_stops_and_names_the_last_good_checkpoint() {
        let mut run = Run::new(Method::Adamw(AdamwConfig {
            learning_rate: 1e38,
            ..AdamwConfig::default()
        }));
        run.config = TrainConfig {
            steps: Some(9),
            warmup: 1,
            ..TrainConfig::default()
        };
        let error = run.go(false, None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the last good checkpoint is step"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("`resume`"));
    }

    #[test]
    fn the_newest_checkpoints_are_kept_and_a_remainder_is_passed_over() {
        let run = Run::new(adamw());
        run.go(false, None).unwrap();
        let folder = run.folder.path().join(CHECKPOINTS_FOLDER);
        std::fs::create_dir(folder.join("step-99.123.tmp")).unwrap();
        let checkpoints = Checkpoints::new(folder.clone(), 2);
        assert_eq!(checkpoints.newest(), Some(9));
        assert!(!folder.join("step-3").exists() && folder.join("step-6").exists());
        std::fs::write(folder.join("step-9/optimizer.bin"), b"short").unwrap();
        assert!(
            run.go(true, None)
                .unwrap_err()
                .to_string()
                .contains("5 bytes")
        );
    }

    #[test]
    fn there_is_nothing_to_resume_in_an_empty_folder() {
        let run = Run::new(adamw());
        assert!(matches!(
            run.go(true, None),
            Err(TrainError::NothingToResume { .. })
        ));
    }
}
