//! The data settings of a run, from flags and the `[data]` table of the config file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::folder::Split;
use super::task::{Form, LabelReading, LossOn, Scoring, Task};
use super::tokens::ChatSetting;
use super::tokens::EncodeOptions;
use crate::settings::{Key, Kind, SettingError};

/// Where the data come from and how they become examples, roles and tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A folder with files named train, tune, calibrate, validation, test; or one file.
    pub path: PathBuf,
    /// The name of a built-in task; none if `prompt` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// A prompt template with field names in braces; together with `task` it replaces the prompt of
    /// that task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The answer words, in the order of the labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Vec<String>>,
    /// The field with the label, `label` by default; of texts the field with the completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_field: Option<String>,
    /// How answers are scored.
    pub scoring: Scoring,
    /// What of a conversation or a completion the loss is on; by default what the assistant says,
    /// or the completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_on: Option<LossOn>,
    /// The share of the training file that becomes tune if there is no tune file; 0 for none.
    pub tune_share: f64,
    /// The share of the training file that becomes calibrate if there is no calibrate file; 0 for
    /// none.
    pub calibrate_share: f64,
    /// The share of the training file that becomes test if there is neither a test nor a validation
    /// file; 0 for none.
    pub test_share: f64,
    /// Which file is the test set; by default `test`, else `validation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_from: Option<Split>,
    /// The field of the group whose rows stay in one role (author, document, patient).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_field: Option<String>,
    /// The field with a row's id. By default `id`, `ID`, `qID`, `question_id`, `idx` or `index`,
    /// else the id is made of the file's name and the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_field: Option<String>,
    /// How to read labels that could be either indices or answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_reading: Option<LabelReading>,
    /// The maximum number of training examples: the first ones of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// The maximum number of examples of each other role: the first ones of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_limit: Option<usize>,
    /// The maximum number of tokens: of a prompt, of a text, or of each of the stretches that a
    /// plain text is divided into.
    pub max_length: usize,
    /// Decides which rows are carved. It does not depend on the training seed, so that all runs of
    /// a comparison use the same rows.
    pub seed: u64,
    /// The chat template to put around the prompt, if any: the checkpoint's own, or that of a file.
    pub chat_template: ChatSetting,
}

impl DataConfig {
    /// A row for each key of the table.
    pub const KEYS: [Key; 19] = [
        Key::new("path", Kind::Path, "A folder with files named train, tune, calibrate, validation, test; or one file (jsonl, csv, tsv, parquet; all but parquet packed as .gz too).").with_flag("data", "PATH").with_example("\"data/sst2\""),
        Key::new("task", Kind::Text, "A built-in task; leave it out to use your own prompt.").with_flag("task", "NAME").with_example("\"sst2\""),
        Key::new("prompt", Kind::Text, "A prompt template with field names in braces, such as 'Review: {text} Sentiment:'.").with_flag("prompt", "TEXT").with_example("\"Review: {text} Sentiment:\""),
        Key::new("answers", Kind::Texts, "The answer words in the order of the labels.").with_flag("answers", "WORDS").with_example("[\"Negative\", \"Positive\"]"),
        Key::new("label_field", Kind::Text, "The field with the label: an index from 0, true or false, or the answer word; refused where that leaves two readings. Of a text, the field with the completion.").with_flag("label-field", "FIELD").with_example("\"label\""),
        Key::new("label_reading", Kind::OneOf(&["index", "word"]), "What labels are, where they could be read in two ways: indices from 0, or the answers (or choices) themselves.").with_flag("label-reading", "HOW").with_example("\"word\""),
        Key::new("id_field", Kind::Text, "The field with a row's id; id, ID, qID, question_id, idx or index by default, else the file's name and the line.").with_flag("id-field", "FIELD").with_example("\"key\""),
        Key::new("loss_on", Kind::OneOf(&["assistant", "all"]), "What of a conversation or a completion is trained on: what the assistant says (or the completion), or all tokens.").with_flag("loss-on", "WHAT").with_example("\"all\""),
        Key::new("scoring", Kind::OneOf(&["token", "answer"]), "Score answers by their first token where that tells them apart, or by all of their tokens.").with_flag("scoring", "HOW"),
        Key::new("tune_share", Kind::Number, "The share of train that becomes tune where no file is named so; 0 for none."),
        Key::new("calibrate_share", Kind::Number, "The share of train that becomes calibrate where no file is named so; 0 for none."),
        Key::new("test_share", Kind::Number, "The share of train that becomes test where no file is named test or validation; 0 for none."),
        Key::new("test_from", Kind::OneOf(&["test", "validation"]), "Which file is the test set; test by default, else validation.").with_example("\"validation\""),
        Key::new("group_field", Kind::Text, "The field of what must stay together in one role: author, document, patient.").with_example("\"author\""),
        Key::new("train_limit", Kind::Whole, "The most training examples: the first of the file.").with_flag("train-limit", "N").with_example("200"),
        Key::new("eval_limit", Kind::Whole, "The most examples of each other role: the first of its file.").with_flag("eval-limit", "N").with_example("500"),
        Key::new("max_length", Kind::Whole, "The most tokens of a prompt or a text: longer prompts lose text of a field, never the answer cue, conversations and completions lose their end, and plain texts are split.").with_flag("max-length", "N"),
        Key::new("seed", Kind::Whole, "Decides which rows are carved from train; keep it where runs are compared."),
        Key::new("chat_template", Kind::SwitchOrPath, "Put a chat template around the prompt: the model's own, or that of a file.").with_flag("chat-template", "FILE"),
    ];
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            task: None,
            prompt: None,
            answers: None,
            label_field: None,
            scoring: Scoring::default(),
            loss_on: None,
            tune_share: 0.1,
            calibrate_share: 0.1,
            test_share: 0.2,
            test_from: None,
            group_field: None,
            id_field: None,
            label_reading: None,
            train_limit: None,
            eval_limit: None,
            max_length: 320,
            seed: 0,
            chat_template: ChatSetting::default(),
        }
    }
}

impl DataConfig {
    /// How examples of `task` are encoded.
    pub fn encode_options(&self, task: &Task) -> EncodeOptions {
        EncodeOptions {
            max_length: self.max_length,
            scoring: task.scoring,
            chat_template: self.chat_template.is_on() || matches!(task.form, Form::Chat(_)),
        }
    }

    /// Checks everything that can be checked without reading a file.
    ///
    /// # Errors
    /// [`DataError::Setting`] with the setting, its value and what is allowed.
    pub fn validate(&self) -> Result<(), DataError> {
        self.validate_shares()?;
        for (name, limit) in [
            ("train_limit", self.train_limit),
            ("eval_limit", self.eval_limit),
            ("max_length", Some(self.max_length)),
        ] {
            if limit == Some(0) {
                return Err(SettingError::new(name, "0", "at least 1").into());
            }
        }
        match self.test_from {
            Some(split @ (Split::Train | Split::Tune | Split::Calibrate)) => Err(
                SettingError::new("test_from", split.to_string(), "`test` or `validation`").into(),
            ),
            _ => Ok(()),
        }
    }

    fn validate_shares(&self) -> Result<(), SettingError> {
        let shares = [
            ("tune_share", self.tune_share),
            ("calibrate_share", self.calibrate_share),
            ("test_share", self.test_share),
        ];
        for (name, share) in shares {
            if !(0.0..1.0).contains(&share) {
                let expected = "a share from 0 to below 1";
                return Err(SettingError::new(name, share.to_string(), expected));
            }
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        if sum >= 1.0 {
            return Err(SettingError::new(
                "tune_share + calibrate_share + test_share",
                sum.to_string(),
                "a sum below 1, so that train keeps some rows",
            ));
        }
        Ok(())
    }
}

impl Task {
    /// The task that the settings describe: a built-in one, possibly with another prompt, or a
    /// custom one.
    ///
    /// # Errors
    /// If the name is unknown, neither a task nor a prompt is given, or the template or the answers
    /// are invalid.
    pub fn from_config(config: &DataConfig) -> Result<Self, DataError> {
        let task = match (&config.task, &config.prompt) {
            (None, None) => return Err(DataError::NoTask),
            (None, Some(prompt)) => {
                let answers = config.answers.clone().unwrap_or_default();
                let label_field = config.label_field.as_deref().unwrap_or("label");
                Self::custom(prompt, answers, label_field)?
            }
            (Some(name), _) => {
                let task = Self::named(name)?.reworded(config)?;
                task.reader()?;
                task
            }
        };
        task.check_settings(config)?;
        Ok(task
            .with_scoring(config.scoring)
            .with_label_reading(config.label_reading)
            .with_loss_on(config.loss_on.unwrap_or_default()))
    }

    /// The task with the prompt, the answers and the label field of the settings, where given.
    ///
    /// # Errors
    /// [`DataError::TaskHasItsPrompt`] for a task of questions with their own choices.
    fn reworded(mut self, config: &DataConfig) -> Result<Self, DataError> {
        match &mut self.form {
            Form::Template {
                prompt,
                answers,
                label_field,
            } => {
                replace(prompt, &config.prompt);
                replace(answers, &config.answers);
                replace(label_field, &config.label_field);
            }
            Form::Chat(fields) | Form::Completion(fields) | Form::Text(fields) => {
                fields.prompt.clone_from(&config.prompt);
                fields.label_field.clone_from(&config.label_field);
            }
            Form::Winogrande | Form::MultipleChoice { .. } => {
                let given = [
                    ("prompt", config.prompt.is_some()),
                    ("answers", config.answers.is_some()),
                    ("label_field", config.label_field.is_some()),
                ];
                if let Some((setting, _)) = given.into_iter().find(|(_, given)| *given) {
                    return Err(DataError::TaskHasItsPrompt {
                        task: self.name,
                        setting,
                    });
                }
            }
        }
        Ok(self)
    }
}

impl Task {
    /// Refuses settings that have no meaning for the task.
    ///
    /// # Errors
    /// [`DataError::NotForTask`] with the first of them.
    fn check_settings(&self, config: &DataConfig) -> Result<(), DataError> {
        let (is_text, is_plain) = (self.is_text(), matches!(self.form, Form::Text(_)));
        let is_chat = matches!(self.form, Form::Chat(_));
        let has_prompt = config.prompt.is_some();
        let useless = [
            ("answers", is_text && config.answers.is_some()),
            ("scoring", is_text && config.scoring != Scoring::default()),
            ("label_reading", is_text && config.label_reading.is_some()),
            (
                "chat_template",
                is_text && !is_chat && config.chat_template.is_on(),
            ),
            (
                "loss_on",
                (is_plain || !is_text) && config.loss_on.is_some(),
            ),
            (
                "label_field",
                (is_plain || is_text && is_chat && !has_prompt) && config.label_field.is_some(),
            ),
        ];
        match useless.into_iter().find(|(_, is_useless)| *is_useless) {
            Some((setting, _)) => Err(DataError::NotForTask {
                task: self.name.clone(),
                setting,
            }),
            None => Ok(()),
        }
    }
}

/// Replaces a value, if there is a new one.
fn replace<T: Clone>(place: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        place.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task_of(text: &str) -> Result<Task, DataError> {
        Task::from_config(&toml::from_str(text).unwrap())
    }

    #[test]
    fn a_config_names_a_task_rewords_one_or_makes_one() {
        assert_eq!(
            task_of("task = 'arc_easy'").unwrap(),
            Task::named("arc_easy").unwrap()
        );
        let reworded = task_of("task = 'sst2'\nprompt = 'Review: {text} Mood:'").unwrap();
        assert_eq!(reworded.name, "sst2");
        assert!(
            matches!(reworded.form, Form::Template { ref prompt, ref answers, .. } if prompt.ends_with("Mood:") && answers[1] == "Positive")
        );
        let own = task_of("prompt = '{query} Intent:'\nanswers = ['a', 'b']\nlabel_field = 'intent'\nscoring = 'answer'").unwrap();
        assert_eq!(
            (own.label_field(), own.scoring),
            ("intent", Scoring::Answer)
        );
    }

    #[test]
    fn a_config_without_a_task_or_with_a_prompt_too_many_is_refused() {
        assert!(task_of("").unwrap_err().hint().unwrap().contains("`task`"));
        assert!(matches!(
            task_of("prompt = '{a}'"),
            Err(DataError::Answers { .. })
        ));
        let message = task_of("task = 'boolq'\nprompt = 'none'")
            .unwrap_err()
            .to_string();
        assert!(message.ends_with("it names no field"), "{message}");
        let message = task_of("task = 'arc_easy'\nanswers = ['a', 'b']")
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "task `arc_easy` has a prompt of its own, `answers` cannot be set beside it"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_and_a_config_comes_back_as_it_was() {
        assert!(
            toml::from_str::<DataConfig>("tune_shares = 0.1")
                .unwrap_err()
                .to_string()
                .contains("unknown field `tune_shares`")
        );
        let config = DataConfig {
            path: "data".into(),
            task: Some("boolq".into()),
            train_limit: Some(3),
            ..DataConfig::default()
        };
        assert_eq!(
            toml::from_str::<DataConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
    }

    #[test]
    fn settings_out_of_range_are_named_with_their_value() {
        let message = |config: DataConfig| config.validate().unwrap_err().to_string();
        let of = DataConfig::default;
        assert_eq!(
            message(DataConfig {
                tune_share: 1.5,
                ..of()
            }),
            "`tune_share` is 1.5, expected a share from 0 to below 1"
        );
        assert!(
            message(DataConfig {
                tune_share: f64::NAN,
                ..of()
            })
            .contains("NaN")
        );
        assert!(
            message(DataConfig {
                tune_share: 0.5,
                calibrate_share: 0.4,
                ..of()
            })
            .contains("a sum below 1")
        );
        assert_eq!(
            message(DataConfig {
                max_length: 0,
                ..of()
            }),
            "`max_length` is 0, expected at least 1"
        );
        assert_eq!(
            message(DataConfig {
                test_from: Some(Split::Tune),
                ..of()
            }),
            "`test_from` is tune, expected `test` or `validation`"
        );
    }
}
