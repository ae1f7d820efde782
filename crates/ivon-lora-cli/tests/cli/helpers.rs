//! A folder with a tiny model and a tiny data set, in which the program is run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A test's own folder: `model` (with a tokenizer of whole words), `data` with train and test.
pub struct Place {
    folder: tempfile::TempDir,
}

/// The output and exit status of the program.
#[derive(Debug)]
pub struct ProgramOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

const WORDS: [&str; 15] = [
    "<unk>",
    "Negative",
    "Positive",
    "good",
    "bad",
    "film",
    "story",
    "the",
    "a",
    "was",
    "is",
    "Sentiment:",
    "Review:",
    "fine",
    "dull",
];

fn golden() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/golden");
    std::env::var_os("IVON_LORA_GOLDEN").map_or_else(|| own.into(), PathBuf::from)
}

impl Place {
    pub fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        place.add_model("model", "llama");
        place.write("data/train.jsonl", &rows("train", 40));
        place.write("data/test.jsonl", &rows("test", 12));
        place
    }

    /// With enough calibrate rows to base a choice on.
    pub fn with_calibrate() -> Self {
        let place = Self::new();
        place.write("data/calibrate.jsonl", &rows("calibrate", 60));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// A tiny model of the golden files, with a tokenizer.
    pub fn add_model(&self, name: &str, golden_name: &str) {
        for file in ["config.json", "model.safetensors"] {
            fs::create_dir_all(self.path(name)).unwrap();
            fs::copy(
                golden().join("tiny").join(golden_name).join(file),
                self.path(name).join(file),
            )
            .unwrap();
        }
        self.add_tokenizer(name, &WORDS);
    }

    /// A tokenizer of whole words for a model; the first stands for all others.
    pub fn add_tokenizer(&self, model: &str, words: &[&str]) {
        let vocabulary: serde_json::Map<String, Value> = words
            .iter()
            .enumerate()
            .map(|(id, word)| (word.to_string(), json!(id)))
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": words[0] },
        });
        self.write(&format!("{model}/tokenizer.json"), &tokenizer.to_string());
    }

    /// The program with arguments, in this folder, isolated from the user's own settings.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ivon-lora"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path());
        command
            .env_remove("RUST_BACKTRACE")
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", self.path("hub"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &str) -> ProgramOutput {
        ProgramOutput::of(self.command(arguments).output().unwrap())
    }

    /// Trains for a few steps into `run`; returns the output.
    pub fn train(&self, more: &str) -> ProgramOutput {
        self.run(&format!("train --model model --data data --task sst2 --out run --steps 6 --samples 2 --threads 1 {more}"))
    }
}

impl ProgramOutput {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Checks that it succeeded, and returns its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Checks that it failed with this exit code and exactly this message, and printed no result.
    #[track_caller]
    pub fn fails(self, code: i32, stderr: &str) {
        assert_eq!((self.stderr.trim_end(), self.code), (stderr, code));
        assert_eq!(self.stdout, "");
    }

    /// Checks that it printed its result, and then failed with this exit code and message.
    #[track_caller]
    pub fn fails_with_result(self, code: i32, parts: &[&str]) {
        assert!(!self.stdout.is_empty(), "{}", self.stderr);
        self.fails_with(code, parts);
    }

    /// Checks that it failed with this exit code and an error with these parts, without a panic.
    #[track_caller]
    pub fn fails_with(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(
            self.stderr.contains("error: ")
                && !self.stderr.contains("internal error")
                && !self.stderr.contains("panicked"),
            "{}",
            self.stderr
        );
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "`{part}` is not in: {}",
                self.stderr
            );
        }
    }
}

/// Reviews that are alternately good and bad, by a single word.
pub fn rows(split: &str, count: usize) -> String {
    let row = |index: usize| {
        let word = ["bad", "good", "dull", "fine"][index % 4];
        json!({ "id": format!("{split}-{index}"), "text": format!("the film was {word} {split} {index}"), "label": index % 2 }).to_string()
            + "\n"
    };
    (0..count).map(row).collect()
}

/// Whether a file or folder exists.
pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
