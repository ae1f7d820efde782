//! The loop: learning rate → step → record → evaluation and checkpoint on their intervals → stop.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checkpoint::Progress;
use super::{BatchObjective, Checkpoints, Length, Optimizer, TrainConfig, TrainError, Update};
use crate::data::{Encoded, EpochOrder};
use crate::files::FileError;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::metrics::{Predictions, mean_of_draws};
use crate::predict::{EvaluationOptions, PredictError, evaluate};
use crate::report::{Evaluation, EvaluationRecord, MainScores, SampledScores, StepRecord};

/// The name of the file of records in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The name of the folder of checkpoints in a run's folder.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

/// What a run trains on, and how.
pub struct Training<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// Length, batches, schedule, intervals.
    pub config: &'a TrainConfig,
    /// The learning rate before the schedule.
    pub learning_rate: f64,
    /// The factor before B A.
    pub scaling: f64,
    /// Probability that an input of A is dropped.
    pub dropout: f64,
    /// Names data order and masks.
    pub seed: u64,
    /// Draws, scale and seed of the evaluations on tune.
    pub evaluation: EvaluationOptions,
    /// To learn from.
    pub train: &'a [Encoded],
    /// To evaluate on; may be empty.
    pub tune: &'a [Encoded],
    /// Where records and checkpoints go; must exist.
    pub folder: &'a Path,
}

/// What a run tells whoever watches it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step of so many was taken.
    Step(&'a StepRecord, u64),
    /// Scores on tune.
    Evaluation(&'a EvaluationRecord),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// An evaluation has done so many examples of so many.
    Evaluating(usize, usize),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps were taken.
    Finished,
    /// No better score for as many evaluations as the settings allow.
    StoppedEarly,
    /// Whoever watched asked for the end; a checkpoint was written.
    Interrupted,
}

/// A run that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trained {
    /// Why.
    pub outcome: Outcome,
    /// Steps taken.
    pub steps: u64,
    /// The step that the optimizer now holds: the best one where the settings ask for it.
    pub kept_step: u64,
}

/// Trains until all steps are taken, the score no longer improves, or `watch` says stop. With `resume`, goes on
/// from the newest checkpoint in the run's folder. At the end the optimizer holds the step that is to be kept.
///
/// # Errors
/// If a step fails (nothing is updated then, and the error names the newest checkpoint), or a file cannot be written.
pub fn train(training: &Training<'_>, optimizer: &mut dyn Optimizer, resume: bool, watch: &mut dyn FnMut(Event<'_>) -> bool) -> Result<Trained, TrainError> {
    let checkpoints = Checkpoints::new(training.folder.join(CHECKPOINTS_FOLDER), training.config.keep_checkpoints);
    let mut state = Loop {
        training,
        length: training.config.length(training.train.len()),
        order: EpochOrder::new(training.seed, training.train.len(), training.config.batch_size),
        progress: Progress::default(),
        metrics: Metrics::open(&training.folder.join(METRICS_FILE))?,
        checkpoints,
    };
    if resume {
        state.resume(optimizer)?;
    } else {
        state.metrics.cut(0)?;
    }
    let trained = state.run(optimizer, watch);
    trained.map_err(|error| error.with_checkpoint(state.checkpoints.newest()))
}

struct Loop<'a> {
    training: &'a Training<'a>,
    length: Length,
    order: EpochOrder,
    progress: Progress,
    metrics: Metrics,
    checkpoints: Checkpoints,
}

impl Loop<'_> {
    fn resume(&mut self, optimizer: &mut dyn Optimizer) -> Result<(), TrainError> {
        let saved = self.checkpoints.load_newest(self.training.network.config(), self.training.network.device())?;
        optimizer.restore(with_ids_of(optimizer.adapter(), saved.adapter), &saved.state)?;
        self.progress = saved.progress;
        self.metrics.cut(self.progress.metrics_bytes)
    }

    fn run(&mut self, optimizer: &mut dyn Optimizer, watch: &mut dyn FnMut(Event<'_>) -> bool) -> Result<Trained, TrainError> {
        let mut outcome = Outcome::Finished;
        while self.progress.step < self.length.steps {
            let record = self.step(optimizer)?;
            let mut go_on = watch(Event::Step(&record, self.length.steps));
            let step = self.progress.step;
            let last = step == self.length.steps;
            if go_on && (step.is_multiple_of(self.length.eval_interval) || last) && !self.training.tune.is_empty() {
                go_on = self.evaluate(optimizer, watch)?;
            }
            let patient = self.training.config.patience.is_none_or(|patience| self.progress.without_gain < patience);
            if step.is_multiple_of(self.length.checkpoint_interval) || last || !go_on || !patient {
                self.metrics.sync()?;
                self.progress.metrics_bytes = self.metrics.bytes()?;
                let path = self.checkpoints.save(&self.progress, optimizer)?;
                go_on &= watch(Event::Saved(&path)) || last;
            }
            if !go_on && !last {
                outcome = Outcome::Interrupted;
                break;
            }
            if !patient {
                outcome = Outcome::StoppedEarly;
                break;
            }
        }
        let kept_step = self.take_best(optimizer, outcome)?;
        Ok(Trained { outcome, steps: self.progress.step, kept_step })
    }

    fn step(&mut self, optimizer: &mut dyn Optimizer) -> Result<StepRecord, TrainError> {
        let training = self.training;
        let started = Instant::now();
        let step = self.progress.step;
        let learning_rate = training.learning_rate * training.config.schedule.factor(step, self.length.steps, training.config.warmup);
        let accumulation = training.config.accumulation as u64;
        let micro_batches: Vec<Vec<&Encoded>> = (0..accumulation)
            .map(|micro_batch| self.order.batch(step * accumulation + micro_batch).iter().map(|&index| &training.train[index]).collect())
            .collect();
        let mut objective = BatchObjective::new(training.network, training.scaling, training.dropout, training.seed, step, &micro_batches);
        let tokens = objective.tokens() as u64;
        let update = optimizer.step(learning_rate, &mut objective)?;
        self.progress.step += 1;
        let measured = self.progress.step == 1 || self.progress.step.is_multiple_of(self.length.eval_interval);
        let record = record(self.progress.step, learning_rate, tokens, &update, optimizer, measured, started)?;
        self.metrics.append(&record)?;
        Ok(record)
    }

    /// Scores on tune; gives whether to go on. An interrupted evaluation leaves no record and is made again on resume.
    fn evaluate(&mut self, optimizer: &mut dyn Optimizer, watch: &mut dyn FnMut(Event<'_>) -> bool) -> Result<bool, TrainError> {
        let training = self.training;
        let options = EvaluationOptions { samples: training.config.eval_samples, ..training.evaluation };
        let posterior = optimizer.posterior();
        let result = evaluate(training.network, posterior.as_ref(), training.scaling, training.tune, &options, &mut |done, total| {
            watch(Event::Evaluating(done, total))
        });
        let evaluated = match result {
            Err(PredictError::Stopped { .. }) => return Ok(false),
            other => other?,
        };
        let labels: Vec<usize> = training.tune.iter().map(|example| example.label.unwrap_or(0)).collect();
        let scores = |log_probabilities| Ok::<_, PredictError>(MainScores::of(&Predictions::new(log_probabilities, labels.clone())?));
        let mean = scores(evaluated.mean)?;
        let sampled = match evaluated.draws.len() {
            0 => None,
            samples => Some(SampledScores { samples, scores: scores(mean_of_draws(&evaluated.draws).map_err(PredictError::from)?)? }),
        };
        let evaluation = Evaluation { split: "tune".into(), n: training.tune.len(), mean, sampled };
        let record = EvaluationRecord { step: self.progress.step, evaluation };
        self.metrics.append(&record)?;
        if let Some(metric) = training.config.keep_best {
            let best_of = record.evaluation.sampled.map_or(mean, |sampled| sampled.scores);
            self.judge(metric.loss(&best_of), optimizer)?;
        }
        Ok(watch(Event::Evaluation(&record)))
    }

    /// Keeps the step if its loss is the lowest so far.
    fn judge(&mut self, loss: f64, optimizer: &dyn Optimizer) -> Result<(), TrainError> {
        if self.progress.best.is_none_or(|(_, best)| loss < best) {
            self.progress.best = Some((self.progress.step, loss));
            self.progress.without_gain = 0;
            return self.checkpoints.save_best(&self.progress, optimizer);
        }
        self.progress.without_gain += 1;
        Ok(())
    }

    /// Puts the best step back into the optimizer, unless the run is to be resumed.
    fn take_best(&self, optimizer: &mut dyn Optimizer, outcome: Outcome) -> Result<u64, TrainError> {
        let (Some((step, _)), true) = (self.progress.best, outcome != Outcome::Interrupted) else { return Ok(self.progress.step) };
        let network = self.training.network;
        let Some(best) = self.checkpoints.load_best(network.config(), network.device())? else { return Ok(self.progress.step) };
        optimizer.restore(with_ids_of(optimizer.adapter(), best.adapter), &best.state)?;
        Ok(step)
    }
}

/// The numbers of `saved` in the parameters of `like`, which keep their identity.
fn with_ids_of(like: &Adapter, saved: Adapter) -> Adapter {
    let mut tensors: std::collections::HashMap<String, _> = saved.parameters().map(|(path, parameter)| (path, parameter.val().inner())).collect();
    like.clone_with(|path, tensor| match tensors.remove(path) {
        Some(saved) => saved,
        None => tensor.inner(),
    })
}

/// The record of a step; the Hessian's quantiles cost a sort and are taken only where `measured`.
fn record(step: u64, learning_rate: f64, tokens: u64, update: &Update, optimizer: &dyn Optimizer, measured: bool, started: Instant) -> Result<StepRecord, TrainError> {
    let mut squares = [0.0f64; 2];
    for (path, matrix) in optimizer.adapter().to_matrices()? {
        let sum: f64 = matrix.values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        squares[usize::from(path.ends_with("lora_B"))] += sum;
    }
    Ok(StepRecord {
        step,
        loss: update.loss,
        learning_rate,
        step_seconds: started.elapsed().as_secs_f64(),
        tokens,
        update_rms: update.update_rms,
        clipped_share: update.clipped_share,
        gradient_norm: update.gradient_norm,
        norm_a: squares[0].sqrt(),
        norm_b: squares[1].sqrt(),
        hessian_ratio: if measured { optimizer.hessian_ratio() } else { None },
    })
}

/// `metrics.jsonl`, a line at a time.
struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    fn open(path: &Path) -> Result<Self, TrainError> {
        let opened = OpenOptions::new().create(true).read(true).append(true).open(path);
        let file = opened.map_err(|source| FileError::Io { action: "write", path: path.into(), source })?;
        Ok(Self { file, path: path.into() })
    }

    fn checked<T>(&self, result: io::Result<T>) -> Result<T, TrainError> {
        result.map_err(|source| FileError::Io { action: "write", path: self.path.clone(), source }.into())
    }

    fn append(&mut self, record: &impl serde::Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(record).map_err(|error| TrainError::Device { reason: error.to_string() })?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        self.checked(written)
    }

    fn bytes(&mut self) -> Result<u64, TrainError> {
        let end = self.file.seek(io::SeekFrom::End(0));
        self.checked(end)
    }

    fn sync(&self) -> Result<(), TrainError> {
        self.checked(self.file.sync_data())
    }

    /// Takes off what lies behind `bytes`: records of steps that a resumed run takes again.
    fn cut(&mut self, bytes: u64) -> Result<(), TrainError> {
        let len = self.bytes()?;
        self.checked(self.file.set_len(bytes.min(len)))
    }
}
