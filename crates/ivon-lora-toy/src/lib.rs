#![doc = include_str!("../README.md")]
//!
//! The model and the data set that come with the binary, which `ivon-lora train` uses by default.
//!
//! The model is a Llama with half a million parameters that `bench pretrain-toy` has trained on
//! [`text`]; the data are [`questions`] about encounters with animals, some of which nobody can answer
//! with certainty. Both are about one small [`world`]. `docs/toy.md` has sizes and losses, and says how
//! the settings were chosen.

pub mod world;
pub mod text;
pub mod questions;
#[doc(hidden)]
pub mod testing;

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use ivon_lora::data::{
    self, DataConfig, DataError, Dataset, FileReport, LoadReport, Place, Role, Row, Source, Split,
    Task,
};
use ivon_lora::files::{FileError, create_folder, write_bytes};
use ivon_lora::method::{AdamwConfig, IvonMethodConfig, Method};
use ivon_lora::run::RunConfig;
use ivon_lora::train::TrainConfig;

/// The model's name, and that of its folder, so that adapters name it as their base.
pub const NAME: &str = "ivon-lora-toy";
/// The seed of the data set that comes with the binary.
pub const DATA_SEED: u64 = 1;

/// The model's files: a Hugging Face folder, weights in F16.
const MODEL_FILES: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("model/config.json")),
    (
        "model.safetensors",
        include_bytes!("model/model.safetensors"),
    ),
    ("tokenizer.json", include_bytes!("model/tokenizer.json")),
    (
        "tokenizer_config.json",
        include_bytes!("model/tokenizer_config.json"),
    ),
];

/// Writes the model as a Hugging Face folder; files of these names are replaced, others left alone.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_model(folder: &Path) -> Result<(), FileError> {
    create_folder(folder)?;
    MODEL_FILES
        .iter()
        .try_for_each(|(name, bytes)| write_bytes(&folder.join(name), bytes))
}

/// The task: whether the animal of a report attacked.
pub fn task() -> Task {
    let form = data::Form::Template {
        prompt: questions::PROMPT.into(),
        answers: answers(),
        label_field: "label".into(),
    };
    Task {
        name: data::CUSTOM.into(),
        form,
        scoring: data::Scoring::Token,
        label_reading: None,
        loss_on: data::LossOn::default(),
    }
}

fn answers() -> Vec<String> {
    questions::ANSWERS.map(String::from).to_vec()
}

/// The settings for [`data::load`] to read what [`write_data`] has written to `folder`.
pub fn data_config(folder: &Path) -> DataConfig {
    DataConfig {
        path: folder.into(),
        prompt: Some(questions::PROMPT.into()),
        answers: Some(answers()),
        label_field: Some("label".into()),
        max_length: 64,
        ..DataConfig::default()
    }
}

/// The rows of a role as a JSONL file.
fn jsonl(role: Role, seed: u64) -> String {
    questions::questions(role, seed)
        .iter()
        .map(|question| question.to_json() + "\n")
        .collect()
}

/// The data set in its four roles, the same as written with [`write_data`] and loaded.
///
/// # Errors
/// None with these data; the functions that it calls return them.
pub fn dataset(seed: u64) -> Result<Dataset, DataError> {
    let task = task();
    let reader = task.reader()?;
    let mut report = LoadReport::default();
    let mut sources = BTreeMap::new();
    for role in Role::ALL {
        let (name, text) = (format!("{role}.jsonl"), jsonl(role, seed));
        let mut source = Source::default();
        for (line, row) in text.lines().enumerate() {
            source.add(
                &reader,
                Row::from_json(row, Place::new(name.as_str(), line + 1))?,
                None,
            )?;
        }
        let sha256 = Sha256::digest(text.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        report.files.push(FileReport {
            path: name,
            split: role.into(),
            rows: source.examples.len(),
            sha256,
        });
        sources.insert(Split::from(role), source);
    }
    data::assemble(&data_config(Path::new("toy")), &task, sources, report)
}

/// Writes the data set as train.jsonl, tune.jsonl, calibrate.jsonl and test.jsonl, with a README.md
/// that says how to train on them.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_data(folder: &Path, seed: u64) -> Result<(), FileError> {
    create_folder(folder)?;
    for role in Role::ALL {
        write_bytes(
            &folder.join(format!("{role}.jsonl")),
            jsonl(role, seed).as_bytes(),
        )?;
    }
    let readme = format!(
        "Questions about a small world, made by `ivon-lora` (seed {seed}). `nature`, `light` and `probability_yes` are\n\
         what the generator knows: the probability of the label `Yes` given the report. Training does not read them.\n\n    \
         ivon-lora train --model MODEL --data . --prompt '{}' --answers {} --label-field label\n",
        questions::PROMPT,
        questions::ANSWERS.join(",")
    );
    write_bytes(&folder.join("README.md"), readme.as_bytes())
}

/// The methods of the toy runs, IVON first, with the settings that were best on tune in six trials each
/// of `bench tune-toy`, see `docs/toy.md`.
pub fn methods() -> [Method; 2] {
    let ivon = IvonMethodConfig {
        learning_rate: Some(1.0),
        ess: Some(1e7),
        ..IvonMethodConfig::paper()
    };
    let adamw = AdamwConfig {
        learning_rate: 3e-3,
        ..AdamwConfig::default()
    };
    [Method::Ivon(ivon), Method::Adamw(adamw)]
}

/// The settings of a toy run with one of the [`methods`]; `model` and `data` are the folders of
/// [`write_model`] and [`write_data`].
pub fn run_config(method: Method, model: &Path, data: &Path, out: &Path) -> RunConfig {
    let mut config = RunConfig {
        seed: 1,
        out: Some(out.into()),
        data: data_config(data),
        optimizer: method,
        train: train_config(),
        ..RunConfig::default()
    };
    config.model.path = Some(model.display().to_string());
    config
}

/// Length, batches and schedule of a toy run, the same for both methods.
pub fn train_config() -> TrainConfig {
    TrainConfig {
        steps: Some(600),
        batch_size: 4,
        eval_interval: Some(100),
        ..TrainConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use burn::tensor::Device;

    use super::*;
    use ivon_lora::data::{Batch, Choices, Tokenizer, encode_all};
    use ivon_lora::forward::Network;
    use ivon_lora::lora::Draw;
    use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
    use ivon_lora::predict::log_probabilities;
    use ivon_lora::watch::Progress;
    use text::{Part, document};

    fn opened() -> (tempfile::TempDir, Checkpoint, Tokenizer) {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path()).unwrap();
        let checkpoint = Checkpoint::open(&folder.path().display().to_string()).unwrap();
        let tokenizer = checkpoint.tokenizer().unwrap();
        (folder, checkpoint, tokenizer)
    }

    fn network(checkpoint: &Checkpoint) -> Network {
        Network::new(
            Decoder::load(checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        )
    }

    #[test]
    fn the_embedded_files_have_less_than_4_mb() {
        let bytes: usize = MODEL_FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((1_000_000..4_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn every_word_of_the_world_is_one_token_and_text_comes_back() {
        let (_folder, checkpoint, tokenizer) = opened();
        assert_eq!(tokenizer.vocabulary_size(), checkpoint.config().vocab_size);
        for index in 0..50 {
            let text = document(Part::HeldOut, 9, index);
            let tokens = tokenizer.encode(&text, true).unwrap();
            assert_eq!(tokenizer.decode(&tokens).unwrap(), format!("<s>{text}"));
            // The begin token, words, and stops, commas and colons.
            let words = text.split(' ').count()
                + text
                    .chars()
                    .filter(|letter| ".,?:".contains(*letter))
                    .count();
            assert_eq!(tokens.len(), 1 + words, "{text}");
        }
    }

    #[test]
    fn questions_are_answered_by_one_token_each_and_none_is_shortened() {
        let (_folder, _, tokenizer) = opened();
        let dataset = dataset(DATA_SEED).unwrap();
        let options = data_config(Path::new("")).encode_options(&task());
        for role in Role::ALL {
            let set = encode_all(dataset.role(role), &tokenizer, options).unwrap();
            assert_eq!(
                (set.examples.len() as u64, set.truncated),
                (questions::count(role), 0)
            );
            let expected = ["ĠNo", "ĠYes"]
                .map(|word| tokenizer.token_to_id(word).unwrap())
                .to_vec();
            assert!(
                set.examples
                    .iter()
                    .all(|example| *example.choices().unwrap()
                        == Choices::Tokens(expected.clone())
                        && example.tokens.len() < 40)
            );
        }
    }

    #[test]
    fn what_is_written_loads_as_the_embedded_data_set() {
        let folder = tempfile::tempdir().unwrap();
        write_data(folder.path(), 5).unwrap();
        let config = run_config(
            Method::default(),
            Path::new("m"),
            folder.path(),
            Path::new("o"),
        );
        config.validate().unwrap();
        let read_task = Task::from_config(&config.data).unwrap();
        assert_eq!(read_task, task());
        let (read, made) = (
            data::load(&config.data, &read_task).unwrap(),
            dataset(5).unwrap(),
        );
        for role in Role::ALL {
            assert_eq!(read.role(role), made.role(role));
        }
        let hashes = |set: &Dataset| {
            set.report
                .files
                .iter()
                .map(|file| (file.rows, file.sha256.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(hashes(&read), hashes(&made));
        assert!(read.report.notes.is_empty() && read.report.dropped.total() == 0);
    }

    /// −ln p of each of these tokens, nats.
    fn surprise(network: &Network, tokens: &[u32]) -> Vec<f64> {
        let mut batch = Batch::default();
        batch.push(&tokens[..tokens.len() - 1], None, 0);
        batch.asked = (0..batch.len()).collect();
        let hidden = network.hidden(&batch, &Draw::base());
        let every: Vec<u32> = (0..network.config().vocab_size as u32).collect();
        let logits: Vec<f32> = network
            .logits_of(&hidden, &every)
            .into_data()
            .try_to_vec()
            .unwrap();
        let rows = logits.chunks_exact(every.len()).zip(&tokens[1..]);
        rows.map(|(row, &token)| {
            ivon_lora::metrics::log_sum_exp(row.iter().map(|&x| f64::from(x)))
                - f64::from(row[token as usize])
        })
        .collect()
    }

    #[test]
    fn the_model_predicts_held_out_text_far_better_than_word_counts_do() {
        let (_folder, checkpoint, tokenizer) = opened();
        let network = network(&checkpoint);
        let texts =
            |part, range: std::ops::Range<u64>| range.map(move |index| document(part, 77, index));
        let mut counts: HashMap<u32, f64> = HashMap::new();
        for text in texts(Part::Training, 0..2000) {
            for token in tokenizer.encode(&text, false).unwrap() {
                *counts.entry(token).or_default() += 1.0;
            }
        }
        let total: f64 = counts.values().sum();
        let (mut of_model, mut of_counts, mut seen) = (0.0, 0.0, 0.0);
        for text in texts(Part::HeldOut, 0..60) {
            let tokens = tokenizer.encode(&text, true).unwrap();
            of_model += surprise(&network, &tokens).iter().sum::<f64>();
            of_counts -= tokens[1..]
                .iter()
                .map(|token| (counts[token] / total).ln())
                .sum::<f64>();
            seen += tokens.len() as f64 - 1.0;
        }
        let [model, words] = [of_model / seen, of_counts / seen];
        assert!(
            model < 0.75 && words > 3.0,
            "{model} nats a token, by word counts {words}"
        );
    }

    #[test]
    fn untuned_the_model_does_not_know_what_is_asked_of_it() {
        let (_folder, checkpoint, tokenizer) = opened();
        let dataset = dataset(DATA_SEED).unwrap();
        let options = data_config(Path::new("")).encode_options(&task());
        let set = encode_all(&dataset.test[..300], &tokenizer, options).unwrap();
        let draw = Draw::base();
        let rows = log_probabilities(
            &network(&checkpoint),
            &draw,
            &set.examples,
            2048,
            &mut Progress::silent(),
        )
        .unwrap();
        let labels = set
            .examples
            .iter()
            .filter_map(|example| example.label())
            .collect();
        let scores = ivon_lora::metrics::Predictions::new(rows, labels).unwrap();
        // Who knows everything is right on 0.836 of them, with a loss of 0.376.
        assert!(scores.nll() > 0.5, "{} {}", scores.nll(), scores.accuracy());
    }
}
