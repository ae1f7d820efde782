//! The inputs of a run: base, task and rows, as text and as tokens.

use super::untuned::UntunedAnswers;
use super::{RunConfig, RunError};
use crate::answer::answers_of;
use crate::data::{self, Choices, Dataset, Encoded, EncodedSet, Example, Role, Task};
use crate::model::Checkpoint;
use crate::settings::SettingError;
use crate::train::LossWeights;
use crate::watch::{Event, Watch};

/// The inputs of a run whose rows are in memory.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    /// The base: a folder, a GGUF file or a hub name.
    pub model: &'a str,
    /// The task.
    pub task: &'a Task,
    /// The examples of each role.
    pub dataset: &'a Dataset,
    /// The untuned base's answers to test rows in earlier runs, which are not computed again.
    pub untuned: &'a UntunedAnswers,
}

/// The encoded examples of each role, and what each class counts in the loss.
pub(super) struct EncodedRoles {
    pub train: EncodedSet,
    pub tune: EncodedSet,
    pub calibrate: EncodedSet,
    pub test: EncodedSet,
    pub weights: LossWeights,
}

impl EncodedRoles {
    /// Encodes the rows of each role, and reports how many there are and which are left out.
    pub fn encode(
        config: &RunConfig,
        data: &TrainingData<'_>,
        checkpoint: &Checkpoint,
        watch: Watch<'_>,
    ) -> Result<Self, RunError> {
        let tokenizer = config
            .data
            .chat_template
            .put_into(checkpoint.tokenizer()?)?;
        let options = config.data.encode_options(data.task);
        let mut encode = |role: Role, examples: &[Example]| -> Result<EncodedSet, RunError> {
            if examples.is_empty() {
                return Ok(EncodedSet::default());
            }
            let set = data::encode_all(examples, &tokenizer, options)?;
            watch(Event::Note(average_length(role, &set)));
            for note in set.account(role.name(), examples, options.max_length) {
                watch(Event::Note(note));
            }
            Ok(set)
        };
        let dataset = data.dataset;
        let train = encode(Role::Train, dataset.required(Role::Train)?)?;
        Ok(Self {
            weights: loss_weights(config, data.task, &train)?,
            train,
            tune: encode(Role::Tune, &dataset.tune)?,
            calibrate: encode(Role::Calibrate, &dataset.calibrate)?,
            test: encode(Role::Test, &dataset.test)?,
        })
    }

    /// Whether the answers of some example are scored by more than one token.
    pub fn has_whole_answers(&self) -> bool {
        let roles = [&self.train, &self.tune, &self.calibrate, &self.test];
        let mut examples = roles.into_iter().flat_map(|set| &set.examples);
        examples.any(|example| matches!(example.choices(), Some(Choices::Answers(_))))
    }
}

/// What each class counts in the loss of these training examples.
///
/// # Errors
/// If there are weights, but no classes, or not as many.
fn loss_weights(
    config: &RunConfig,
    task: &Task,
    train: &EncodedSet,
) -> Result<LossWeights, RunError> {
    let Some(weights) = &config.train.class_weights else {
        return Ok(LossWeights::default());
    };
    let mut rows = vec![0; answers_of(task).len()];
    if rows.is_empty() {
        let expected = "no weights, or a task whose rows all have the same answers";
        let found = "given where an answer is no class";
        return Err(SettingError::new("class_weights", found, expected).into());
    }
    for label in train.examples.iter().filter_map(Encoded::label) {
        if let Some(count) = rows.get_mut(label) {
            *count += 1;
        }
    }
    Ok(weights.of(&rows)?)
}

/// `train: 200 examples, 31 tokens each on average`; of texts also how many are trained on.
fn average_length(role: Role, set: &EncodedSet) -> String {
    let lengths = set.examples.iter().map(|example| example.tokens.len());
    let tokens: usize = lengths.sum();
    let count = set.examples.len();
    let average = |tokens: usize| tokens as f64 / count as f64;
    let trained: Option<usize> = set
        .examples
        .iter()
        .map(|example| Some(example.text()?.trained()))
        .sum();
    let of_them = trained.map_or_else(String::new, |trained| {
        format!(", {:.0} of them trained on", average(trained))
    });
    format!(
        "{role}: {count} examples, {:.0} tokens each on average{of_them}",
        average(tokens)
    )
}
