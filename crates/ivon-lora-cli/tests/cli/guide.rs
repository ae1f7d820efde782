//! The commands of the guide's pages, run in order on a tiny model and on small files with the columns
//! that the pages name. `scripts/guide` runs them on the real ones, and compares their outputs.

use std::path::Path;
use std::process::Command;

use crate::helpers::{Place, ProgramOutput, exists};

const MODEL: &str = "models/smollm2-135m-instruct";
/// Words of the texts, of the answers, and the end of each prompt.
const WORDS: [&str; 11] = [
    "<unk>",
    "negative",
    "positive",
    "no",
    "yes",
    "Sentiment:",
    "Answer:",
    "good",
    "bad",
    "stolen",
    "hello",
];

/// A page's blocks of these languages, in order: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let path = format!("{}/../../docs/guide/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(language) => {
                is_open = true;
                blocks.push((language.into(), String::new()));
            }
            None if is_open => {
                let (_, block) = blocks.last_mut().unwrap();
                *block += &format!("{line}\n");
            }
            None => {}
        }
    }
    blocks
}

/// A table of a column of texts with a word each, and the label that the word decides.
fn table(role: &str, label: &str, words: &[(&str, &str)], rows: usize) -> String {
    let row = |index: usize| {
        let (word, label) = words[index % words.len()];
        format!("{role}-{index},{role} {index} is {word},{label}\n")
    };
    format!("id,text,{label}\n") + &(0..rows).map(row).collect::<String>()
}

/// A folder with what a page takes for granted.
fn place() -> Place {
    let place = Place::new();
    place.add_model(MODEL, "llama");
    place.add_tokenizer(MODEL, &WORDS);
    let reviews = [("good", "positive"), ("bad", "negative")];
    place.write("reviews.csv", &table("review", "sentiment", &reviews, 600));
    place.write("new-reviews.csv", "text\na good film\na bad film\n");
    let mut messages = vec![("hello", "no"); 10];
    messages[3] = ("stolen", "yes");
    for role in ["train", "calibrate", "test"] {
        place.write(
            &format!("fraud/{role}.csv"),
            &table(role, "fraud", &messages, 400),
        );
    }
    place
}

/// A port that nobody listens on.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Runs the commands of a page, and writes the files that it shows.
fn run(page: &str) -> Place {
    let place = place();
    let program = Path::new(env!("CARGO_BIN_EXE_ivon-lora")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let (mut commands, port) = (0, free_port());
    for (language, text) in blocks(page) {
        let text = text.replace("8080", &port);
        let file = text.lines().next().and_then(|line| line.strip_prefix("# "));
        match (language.as_str(), file) {
            ("toml", Some(name)) => place.write(name, &text),
            ("sh", _) => {
                let mut shell = Command::new("bash");
                shell.args(["-euo", "pipefail", "-c", &text]);
                shell.current_dir(place.path("")).env("PATH", &path);
                let output = ProgramOutput::of(shell.output().unwrap());
                assert_eq!(output.code, 0, "{page}: {text}\n{}", output.stderr);
                commands += 1;
            }
            _ => {}
        }
    }
    assert!(commands > 0, "{page} has no commands");
    place
}

#[test]
fn the_page_on_an_own_table_ends_with_decisions() {
    let place = run("own-csv.md");
    assert_eq!(place.read("answers.jsonl").lines().count(), 2);
    assert!(exists(place.path("runs/reviews/adapter/decision.json")));
}

#[test]
fn the_page_on_a_rare_class_trains_with_and_without_weights() {
    let place = run("rare-class.md");
    let weighted = place.read("runs/weighted/run.toml");
    assert!(
        weighted.contains("class_weights = \"balanced\""),
        "{weighted}"
    );
    assert!(!place.read("runs/plain/run.toml").contains("class_weights"));
}

#[test]
fn the_page_on_serving_gets_its_answers_and_ends_the_server() {
    let place = run("serve.md");
    assert!(place.read("answers.json").contains("\"answer\":"));
    let log = place.read("serve.log");
    assert!(!log.contains("error"), "{log}");
}

#[test]
fn the_page_on_methods_ends_with_a_table() {
    let place = run("compare.md");
    assert!(exists(place.path("runs/comparison")));
}
