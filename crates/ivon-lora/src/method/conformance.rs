//! What every method promises, checked on a tiny training: for the built-in methods and for those
//! outside the library.
//!
//! - A training that is stopped and resumed takes the very same steps, and a step that fails changes
//!   nothing.
//! - At τ = 0 a draw is the mean; number, seed and τ determine a draw; a posterior of scaled noise has
//!   its variance multiplied by τ.
//! - A posterior that is written to an adapter folder and read back gives the same draws and the same
//!   probabilities.

use std::path::Path;

use super::{Fit, Members, Settings, Setup, train_members};
use crate::bundle::{BundleError, read_stored, write_posterior};
use crate::data::{Choices, Encoded, Target};
use crate::files::FileError;
use crate::forward::Network;
use crate::lora::{Adapter, LoraConfig, LoraError, read_peft, write_peft};
use crate::posterior::{PointEstimate, Posterior, PosteriorError, Spread};
use crate::predict::{EvaluationOptions, PredictError, Predictor, SetProbabilities};
use crate::random::{Purpose, below, stream};
use crate::train::{
    BatchObjective, ChoiceGoal, Evidence, GoalExamples, LossWeights, Objective, Optimizer, Outcome,
    TrainConfig, TrainError, Training, TrainingEnd,
};
use crate::watch::{Event, Progress};

const SEED: u64 = 5;
const STEPS: u64 = 8;
const RANK: usize = 2;

/// A broken promise, or an error on the way.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// A promise is broken.
    #[error("the method `{method}` breaks a promise: {promise}; {found}")]
    Broken {
        /// The method's name.
        method: &'static str,
        /// What must hold.
        promise: &'static str,
        /// What was found.
        found: String,
    },
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The posterior could not be drawn from.
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    /// Its folder could not be written or read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A prediction failed.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// The adapter could not be written or read.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Checks all promises on any small network with a vocabulary of at least 40 tokens. `folder` is an
/// empty folder for the files of the check.
///
/// # Errors
/// The first broken promise, or whatever fails on the way.
pub fn check(
    settings: &dyn Settings,
    network: &Network,
    folder: &Path,
) -> Result<(), ConformanceError> {
    let vocabulary = network.config().vocab_size;
    let run = Run {
        settings,
        network,
        examples: (0..18).map(|index| example(vocabulary, index)).collect(),
    };
    settings.validate()?;
    run.failed_steps_change_nothing()?;
    let posterior = run.posterior(&folder.join("whole"), None)?;
    let resumed = run.posterior(&folder.join("parts"), Some(STEPS / 2))?;
    run.alike(
        "a run that is stopped and resumed is the run that was not stopped",
        posterior.as_ref(),
        resumed.as_ref(),
    )?;
    run.draws(posterior.as_ref())?;
    run.reads_back(posterior.as_ref(), &folder.join("adapter"))
}

/// A method on a network with examples.
struct Run<'a> {
    settings: &'a dyn Settings,
    network: &'a Network,
    examples: Vec<Encoded>,
}

/// Ten tokens by number; the label says whether the fifth is below the sixth.
fn example(vocabulary: usize, index: u64) -> Encoded {
    let mut numbers = stream(4, Purpose::Generation, index, 0, "");
    let tokens: Vec<u32> = (0..10)
        .map(|_| 3 + below(&mut numbers, vocabulary.saturating_sub(6).max(1) as u64) as u32)
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
}

fn lora() -> LoraConfig {
    LoraConfig {
        rank: RANK,
        dropout: 0.2,
        ..LoraConfig::default()
    }
}

fn options() -> EvaluationOptions {
    EvaluationOptions {
        samples: 3,
        seed: SEED,
        ..EvaluationOptions::default()
    }
}

impl Run<'_> {
    fn broken<T>(
        &self,
        promise: &'static str,
        found: impl Into<String>,
    ) -> Result<T, ConformanceError> {
        Err(ConformanceError::Broken {
            method: self.settings.name(),
            promise,
            found: found.into(),
        })
    }

    fn start(&self, seed: u64) -> Result<Adapter, TrainError> {
        Ok(Adapter::new(
            &lora(),
            self.network.config(),
            seed,
            &self.network.device().clone().autodiff(),
        )?)
    }

    /// What a whole training ends with; if `stop` is given, one that was stopped after that many
    /// steps and resumed.
    fn posterior(
        &self,
        folder: &Path,
        stop: Option<u64>,
    ) -> Result<Box<dyn Posterior>, ConformanceError> {
        crate::files::create_folder(folder)?;
        if stop.is_some() {
            self.train(folder, false, stop)?;
        }
        let (trained, end) = self.train(folder, stop.is_some(), None)?;
        if end.outcome != Outcome::Finished || end.steps != STEPS {
            return self.broken(
                "a run takes all of its steps",
                format!("it ended as {end:?}"),
            );
        }
        let mut fit = Fit {
            network: self.network,
            dropout: lora().dropout,
            seed: SEED,
            batch_tokens: 64,
            train: &self.examples,
            weights: &LossWeights::default(),
            calibrate: &self.examples,
            watch: &mut |_| true,
        };
        Ok(self.settings.finish(trained, &mut fit)?)
    }

    /// Trains all members. `stop` is a step of the last one, so that finished members are resumed,
    /// too.
    fn train(
        &self,
        folder: &Path,
        resume: bool,
        stop: Option<u64>,
    ) -> Result<(Members, TrainingEnd), TrainError> {
        let config = TrainConfig {
            steps: Some(STEPS),
            eval_interval: Some(STEPS),
            ..TrainConfig::default()
        };
        let goal = ChoiceGoal(GoalExamples {
            team: None,
            network: self.network,
            lora: &lora(),
            config: &config,
            evaluation: options(),
            weights: &LossWeights::default(),
            train: &self.examples,
            tune: &[],
        });
        let training = Training {
            team: None,
            network: self.network,
            goal: &goal,
            config: &config,
            learning_rate: self.settings.learning_rate(),
            dropout: lora().dropout,
            seed: SEED,
            folder,
        };
        let members = self.settings.members();
        let mut member = 1;
        let mut watch = |event: Event<'_>| match event {
            Event::Member(number, _) => {
                member = number;
                true
            }
            Event::Step(record, _) => member < members || Some(record.step) != stop,
            _ => true,
        };
        let start = |seed| self.start(seed);
        train_members(self.settings, &training, &start, resume, &mut watch)
    }

    /// Two steps with a failed one between them are two steps.
    fn failed_steps_change_nothing(&self) -> Result<(), ConformanceError> {
        let setup = Setup {
            seed: SEED,
            steps: 2,
            steps_per_epoch: 2,
            batch_size: 4,
            accumulation: 1,
            examples: 8,
            dropout: lora().dropout,
            weight_of_squares: 1.0,
        };
        let mut undisturbed = self.settings.start(self.start(SEED)?, &setup)?;
        let mut disturbed = self.settings.start(self.start(SEED)?, &setup)?;
        self.step(undisturbed.as_mut(), 0)?;
        self.step(disturbed.as_mut(), 0)?;
        let failed = disturbed
            .step(self.settings.learning_rate(), &mut Failing)
            .is_err();
        self.step(undisturbed.as_mut(), 1)?;
        self.step(disturbed.as_mut(), 1)?;
        let same = bits(&undisturbed.adapter().flatten()?) == bits(&disturbed.adapter().flatten()?);
        if failed && same {
            return Ok(());
        }
        let found = if failed {
            "the step after it is another"
        } else {
            "it gave no error"
        };
        self.broken(
            "a step whose objective fails gives that error and changes nothing",
            found,
        )
    }

    /// Step `number` of an optimizer, on four examples.
    fn step(&self, optimizer: &mut dyn Optimizer, number: u64) -> Result<(), TrainError> {
        let examples = self.examples.iter().skip(4 * number as usize).take(4);
        let examples = [examples.collect()];
        let mut objective =
            BatchObjective::new(self.network, lora().dropout, SEED, number, &examples);
        optimizer.step(self.settings.learning_rate(), &mut objective)?;
        Ok(())
    }

    fn predict(
        &self,
        posterior: &dyn Posterior,
        scale: f64,
    ) -> Result<SetProbabilities, ConformanceError> {
        let options = EvaluationOptions { scale, ..options() };
        Ok(Predictor::new(self.network, posterior, &options)
            .evaluate(&self.examples, &mut Progress::silent())?)
    }

    /// Checks that both have the same mean, draws and probabilities.
    fn alike(
        &self,
        promise: &'static str,
        one: &dyn Posterior,
        other: &dyn Posterior,
    ) -> Result<(), ConformanceError> {
        if bits(&one.mean().flatten()?) != bits(&other.mean().flatten()?) {
            return self.broken(promise, "the means differ");
        }
        for sample in 0..3 {
            let [a, b] = [one, other].map(|posterior| posterior.draw(sample, SEED, 1.0));
            let (a, b) = (a?, b?);
            if bits(&a.adapter.flatten()?) != bits(&b.adapter.flatten()?) || a.dropout != b.dropout
            {
                return self.broken(promise, format!("draw {sample} differs"));
            }
        }
        let [one, other] = [self.predict(one, 1.0)?, self.predict(other, 1.0)?];
        if (one.mean, one.draws) != (other.mean, other.draws) {
            return self.broken(promise, "the probabilities differ");
        }
        Ok(())
    }

    fn draws(&self, posterior: &dyn Posterior) -> Result<(), ConformanceError> {
        self.a_draw_at_zero_is_the_mean(posterior)?;
        self.alike(
            "a draw is named by its number, seed and scale",
            posterior,
            posterior,
        )?;
        if posterior.draw(0, SEED, -1.0).is_ok() || posterior.draw(0, SEED, f64::NAN).is_ok() {
            return self.broken(
                "a scale that is negative or no number is refused",
                "it was not",
            );
        }
        let draws = self.predict(posterior, 1.0)?.draws;
        let all_alike = draws.len() > 1 && draws.windows(2).all(|two| two[0] == two[1]);
        match posterior.spread() {
            Spread::None if !draws.is_empty() => {
                self.broken("a point estimate has no draws", "there were some")
            }
            Spread::None | Spread::Members(1) => Ok(()),
            _ if all_alike => self.broken(
                "draws of different numbers differ",
                "all probabilities are the same",
            ),
            Spread::Scaled => self.variance_is_scaled(posterior),
            _ => Ok(()),
        }
    }

    fn a_draw_at_zero_is_the_mean(
        &self,
        posterior: &dyn Posterior,
    ) -> Result<(), ConformanceError> {
        let mean = posterior.mean().flatten()?;
        let at_zero = posterior.draw(2, SEED, 0.0)?;
        if bits(&at_zero.adapter.flatten()?) != bits(&mean) || at_zero.dropout.is_some() {
            return self.broken(
                "at τ = 0 a draw is the mean",
                "draw 2 is another adapter, or has dropout",
            );
        }
        let predicted = self.predict(posterior, 0.0)?;
        if predicted.draws.iter().any(|draw| *draw != predicted.mean) {
            return self.broken(
                "at τ = 0 a draw predicts as the mean does",
                "the probabilities differ",
            );
        }
        Ok(())
    }

    /// Checks that a draw at four times the scale is twice as far from the mean.
    fn variance_is_scaled(&self, posterior: &dyn Posterior) -> Result<(), ConformanceError> {
        let mean = posterior.mean().flatten()?;
        let near = posterior.draw(1, SEED, 1.0)?.adapter.flatten()?;
        let far = posterior.draw(1, SEED, 4.0)?.adapter.flatten()?;
        let off = |((near, far), mean): ((&f32, &f32), &f32)| {
            let (near, far) = (near - mean, far - mean);
            (far - 2.0 * near).abs() > 1e-4 * (mean.abs() + near.abs()) + 1e-7
        };
        match near.iter().zip(&far).zip(&mean).any(off) {
            true => self.broken(
                "τ multiplies the variance",
                "a draw at τ = 4 is not twice as far from the mean as at τ = 1",
            ),
            false => Ok(()),
        }
    }

    /// Checks that the posterior reads back from an adapter folder.
    fn reads_back(&self, posterior: &dyn Posterior, folder: &Path) -> Result<(), ConformanceError> {
        crate::files::create_folder(folder)?;
        write_peft(folder, posterior.mean(), &lora(), None)?;
        let written = write_posterior(folder, posterior, self.settings.name(), 1.0)?;
        let device = self.network.device().clone().without_autodiff();
        let mean = read_peft(folder, self.network.config(), &device)?.adapter;
        let promise = "a posterior is in the adapter folder and reads back";
        let again = match (read_stored(folder)?, posterior.spread()) {
            (Some(stored), _) => {
                self.settings
                    .restore(&stored, mean, self.network.config(), &device)?
            }
            (None, Spread::None) => Box::new(PointEstimate { adapter: mean }),
            (None, _) => {
                return self.broken(
                    promise,
                    format!("no file was written for it, only {written:?}"),
                );
            }
        };
        let (now, before) = (again.spread(), posterior.spread());
        if now != before {
            return self.broken(promise, format!("its spread is {now:?}, it was {before:?}"));
        }
        self.alike(promise, posterior, again.as_ref())
    }
}

/// An objective that always fails.
struct Failing;

impl Objective for Failing {
    fn micro_batches(&self) -> usize {
        1
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    fn tokens(&self) -> usize {
        0
    }

    fn evaluate(&mut self, _: &Adapter, _: usize, _: u64) -> Result<Evidence, TrainError> {
        Err(TrainError::NonFiniteLoss {
            step: 1,
            loss: f64::NAN,
            good: None,
        })
    }
}

/// The bits of numbers, to compare them exactly.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::method::testing::with_learning_rate;
    use crate::method::{LaplaceConfig, LaplaceStructure, Method, PrecisionChoice};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::golden;

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        Network::new(
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        )
    }

    #[test]
    fn every_method_keeps_its_promises() {
        let network = network();
        let kronecker = LaplaceConfig {
            laplace_structure: LaplaceStructure::Kronecker,
            prior_precision_by: PrecisionChoice::Calibration,
            ..LaplaceConfig::default()
        };
        for method in Method::all()
            .into_iter()
            .chain([Method::Laplace(kronecker)])
        {
            // So that eight steps move the weights.
            let method = with_learning_rate(
                &method,
                if ["ivon", "evon"].contains(&method.name()) {
                    1.0
                } else {
                    1e-2
                },
            );
            let folder = tempfile::tempdir().unwrap();
            check(method.settings(), &network, folder.path())
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// AdamW that forgets its step count, and so does not resume as it went.
    #[derive(Debug)]
    struct Forgetful(crate::method::AdamwConfig);

    impl Settings for Forgetful {
        fn name(&self) -> &'static str {
            "forgetful"
        }
        fn learning_rate(&self) -> f64 {
            1e-2
        }
        fn validate(&self) -> Result<(), TrainError> {
            Ok(())
        }
        fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
            Ok(Box::new(Amnesia(self.0.optimizer(adapter)?)))
        }
    }

    #[derive(Debug)]
    struct Amnesia(crate::method::Adamw);

    impl Optimizer for Amnesia {
        fn step(
            &mut self,
            learning_rate: f64,
            objective: &mut dyn Objective,
        ) -> Result<crate::train::Update, TrainError> {
            self.0.step(learning_rate, objective)
        }
        fn adapter(&self) -> &Adapter {
            self.0.adapter()
        }
        fn posterior(&self) -> Box<dyn Posterior> {
            self.0.posterior()
        }
        fn state(&self) -> Result<Vec<u8>, TrainError> {
            let mut state = self.0.state()?;
            state[..8].fill(0);
            Ok(state)
        }
        fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
            self.0.restore(adapter, state)
        }
    }

    #[test]
    fn a_method_that_breaks_a_promise_is_told_which() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&Forgetful(Default::default()), &network(), folder.path())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "the method `forgetful` breaks a promise: a run that is stopped and resumed is the run that was not stopped; the means differ"
        );
    }
}
