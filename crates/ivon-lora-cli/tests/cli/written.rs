//! Texts that a model writes.

use serde_json::Value;

use crate::helpers::Place;

const GENERATE: &str = "generate --model model --threads 1 --max-tokens 5 --json";

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// Prompts of two words, as `--text` cannot be split by spaces here.
fn place() -> Place {
    let place = Place::new();
    let rows = "{\"id\": \"a\", \"prompt\": \"the film was\"}\n{\"text\": \"a dull story\"}\n";
    place.write("prompts.jsonl", rows);
    place
}

#[test]
fn a_line_has_the_text_its_tokens_and_why_it_ended() {
    let place = place();
    let found = lines(&place.run(&format!("{GENERATE} --data prompts.jsonl")).ok());
    let ids: Vec<&Value> = found.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, ["a", "prompts-2"]);
    for line in &found {
        assert_eq!(line["tokens"].as_array().unwrap().len(), 5);
        assert_eq!(line["finish_reason"], "length");
        assert!(line["text"].is_string() && line.get("sample").is_none());
    }
    // Alone, and one after the other, they are the same.
    let alone = place.run(&format!("{GENERATE} --data prompts.jsonl --batch-size 1"));
    assert_eq!(lines(&alone.ok()), found);
    let shown = place.run("generate --model model --max-tokens 5 --text good");
    assert!(shown.ok().ends_with('\n'));
}

#[test]
fn samples_differ_from_each_other_and_not_from_run_to_run() {
    let place = place();
    let run = |more: &str| {
        let arguments = format!("{GENERATE} --text good --temperature 2 --samples 3 {more}");
        lines(&place.run(&arguments).ok())
    };
    let found = run("--seed 4");
    let samples: Vec<&Value> = found.iter().map(|line| &line["sample"]).collect();
    assert_eq!(samples, [0, 1, 2]);
    assert!(found[0]["tokens"] != found[1]["tokens"]);
    assert_eq!(run("--seed 4 --batch-size 2"), found);
    assert!(run("--seed 5") != found);
    // A single token to draw from is the most probable one.
    let greedy = &lines(&place.run(&format!("{GENERATE} --text good")).ok())[0]["tokens"];
    assert!(
        run("--top-k 1")
            .iter()
            .all(|line| line["tokens"] == *greedy)
    );
}

#[test]
fn an_adapter_writes_at_its_mean_or_under_its_draws() {
    let place = place();
    place.train("").ok();
    let arguments =
        "generate --adapter run --model model --data prompts.jsonl --max-tokens 4 --json";
    assert_eq!(lines(&place.run(arguments).ok()).len(), 2);
    let found = lines(
        &place
            .run(&format!("{arguments} --samples 2 --scale 100"))
            .ok(),
    );
    assert_eq!(found.len(), 4);
    assert_eq!(found[3]["sample"], 1);
}

#[test]
fn what_cannot_be_written_is_refused_with_its_reason() {
    let place = place();
    for (more, message) in [
        (
            "--text good --temperature -1",
            "error: `--temperature` is `-1`, expected 0 to 1000",
        ),
        (
            "--text good --top-p 0",
            "error: `--top-p` is `0`, expected above 0, at most 1",
        ),
        (
            "--text good --samples 0",
            "error: `--samples` is `0`, expected at least 1",
        ),
    ] {
        place
            .run(&format!("generate --model model {more}"))
            .fails(2, message);
    }
    let long = "good ".repeat(200);
    place.write("long.jsonl", &format!("{{\"prompt\": \"{long}\"}}\n"));
    let message = "the prompt has 200 tokens, but the model is made for 128 with what it writes";
    place
        .run(&format!("{GENERATE} --data long.jsonl"))
        .fails_with(3, &[message]);
    place
        .run(&format!("{GENERATE} --text good --chat"))
        .fails_with(3, &["chat template"]);
}
