//! Training and scores on text, on a tiny model.

use serde_json::{Value, json};

use crate::helpers::Place;

/// Rows whose completion follows from a word of their prompt, each with another prompt.
fn rows(name: &str, indices: std::ops::Range<usize>) -> String {
    let row = |index: usize| {
        let (word, label) = [("good", "Positive"), ("bad", "Negative")][index % 2];
        let filler = ["the", "a", "is", "was", "film", "story"];
        let [a, b, c] = [index, index / 6, index / 36].map(|digit| filler[digit % 6]);
        let prompt = format!("Review: {a} {b} {c} {word} Sentiment:");
        let completion = format!(" {label} fine");
        json!({ "id": format!("{name}-{index}"), "prompt": prompt, "completion": completion })
    };
    indices.map(|index| row(index).to_string() + "\n").collect()
}

fn place() -> Place {
    let place = Place::new();
    place.write("texts/train.jsonl", &rows("train", 0..60));
    place.write("texts/test.jsonl", &rows("test", 60..72));
    place
}

const TRAIN: &str = "train --model model --data texts --optimizer adamw --learning-rate 0.02 \
                     --steps 40 --batch-size 4 --threads 1 --out run";

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap()
}

#[test]
fn completions_are_learned_and_their_tokens_scored() {
    let place = place();
    let out = place.run(TRAIN).ok();
    assert!(
        out.starts_with("test (12 texts, 24 tokens, of test.jsonl)\n"),
        "{out}"
    );
    let scores = place.json("run/evaluation.json");
    let (base, mean) = (
        number(&scores, "/base_tokens/nll/value"),
        number(&scores, "/mean_tokens/nll/value"),
    );
    // The second word is certain, and the first follows from the prompt.
    assert!(base > 3.0 && mean < 1.0, "{base} {mean}");
    assert_eq!(number(&scores, "/mean_tokens/tokens"), 24.0);
    let bits = mean / std::f64::consts::LN_2 * 24.0 / number(&scores, "/mean_tokens/bytes");
    assert!((number(&scores, "/mean_tokens/bits_per_byte/value") - bits).abs() < 1e-9);
    let lines = place.read("run/predictions.jsonl");
    let nll = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        number(&line, "/nll")
    });
    assert!((nll.sum::<f64>() / 12.0 - mean).abs() < 1e-6);
    for said in [
        place.run("inspect run run").ok(),
        place
            .run("evaluate --model model --adapter run/adapter --data texts/test.jsonl")
            .ok(),
    ] {
        assert!(said.contains(&format!(" {mean:.3} [")), "{said}");
    }
    assert!(place.read("run/report.html").contains("nats per token"));
}

#[test]
fn the_same_seed_gives_the_same_scores_of_draws() {
    let place = place();
    let train = TRAIN.replace("adamw", "ivon") + " --samples 2";
    place.run(&train).ok();
    let whole = place.read("run/evaluation.json");
    std::fs::rename(place.path("run"), place.path("whole")).unwrap();
    place.run(&train).ok();
    assert_eq!(place.read("run/evaluation.json"), whole);
}

#[test]
fn a_method_that_needs_choices_is_refused_for_texts() {
    let place = place();
    for method in ["laplace", "tfb"] {
        let ran = place.run(&TRAIN.replace("adamw", method));
        let expected = format!(
            "error: `optimizer` is `{method}` for texts, of which it has no posterior, expected a \
             method that trains one"
        );
        assert!(
            ran.code != 0 && ran.stderr.contains(&expected),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_comparison_of_texts_is_refused_before_anything_is_trained() {
    let place = place();
    let file = "out = \"compared\"\nseeds = [1]\n[run.model]\npath = \"model\"\n[[task]]\nname = \"intents\"\n\
                [task.data]\npath = \"texts\"\ntask = \"completion\"\n[[method]]\nname = \"adamw\"\n\
                optimizer = { name = \"adamw\" }\n";
    place.write("compare.toml", file);
    let ran = place.run("compare compare.toml");
    let expected = "the rows of task `intents` are texts, expected questions with choices";
    assert!(
        ran.code != 0 && ran.stderr.contains(expected),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_written_answer_comes_with_what_the_posterior_says_about_it() {
    let place = place();
    place
        .run(&(TRAIN.replace("adamw", "ivon") + " --samples 4"))
        .ok();
    let write = "generate --model model --adapter run/adapter --data texts/test.jsonl --max-tokens 2 \
                 --json --uncertainty";
    let lines = place.run(write).ok();
    assert_eq!(lines.lines().count(), 12);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let tokens = line["token_scores"].as_array().unwrap();
        assert_eq!(tokens.len(), line["tokens"].as_array().unwrap().len());
        for name in [
            "log_probability",
            "log_probability_mean",
            "entropy",
            "aleatoric",
        ] {
            let sum: f64 = tokens
                .iter()
                .map(|token| token[name].as_f64().unwrap())
                .sum();
            assert!(
                (number(&line, &format!("/{name}")) - sum).abs() < 1e-9,
                "{name}: {line}"
            );
            let mean = number(&line, &format!("/per_token/{name}"));
            assert!(
                (mean * tokens.len() as f64 - sum).abs() < 1e-9,
                "{name}: {line}"
            );
        }
        let [total, aleatoric, mutual] = ["entropy", "aleatoric", "mutual_information"]
            .map(|name| number(&line, &format!("/{name}")));
        assert!(
            (total - aleatoric - mutual).abs() < 1e-5 && mutual > 0.0,
            "{line}"
        );
    }
    let ran = place.run(&write.replace(" --json", ""));
    assert!(
        ran.code == 2 && ran.stderr.contains("--json"),
        "{}",
        ran.stderr
    );
}

#[test]
fn written_answers_are_scored_against_references_and_kept() {
    let place = place();
    place
        .run(&(TRAIN.replace("adamw", "ivon") + " --samples 3"))
        .ok();
    let evaluate = "evaluate --model model --adapter run/adapter --data texts/test.jsonl --out scores \
                    --write --max-tokens 4 --quality f1 --right-from 0.4";
    let said = place.run(evaluate).ok();
    assert!(
        said.contains("answers to 12 prompts, 3 samples each"),
        "{said}"
    );
    let scores = place.json("scores/evaluation.json");
    assert_eq!(number(&scores, "/answers/prompts"), 12.0);
    let lines = place.read("scores/answers.jsonl");
    let mut right = 0;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["samples"].as_array().unwrap().len(), 3);
        let shares = [number(&line, "/support"), number(&line, "/p_true")];
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        // With an F1 of 0.4 at least one of the two words is in the answer.
        let reference = line["references"][0].as_str().unwrap();
        let answer = line["answer"].as_str().unwrap().to_lowercase();
        let mut words = reference.split_whitespace();
        right += usize::from(words.any(|word| answer.contains(&word.to_lowercase())));
    }
    assert_eq!(lines.lines().count(), 12);
    assert!(number(&scores, "/answers/right") <= right as f64);
}

#[test]
fn one_of_several_texts_is_chosen_by_vote_or_by_utility() {
    let place = place();
    place
        .run(&(TRAIN.replace("adamw", "ivon") + " --samples 3"))
        .ok();
    let write = "generate --model model --adapter run/adapter --data texts/test.jsonl --max-tokens 2 \
                 --json --samples 5";
    let all = place.run(write).ok();
    assert_eq!(all.lines().count(), 60);
    for how in ["vote", "mbr"] {
        let chosen = place.run(&format!("{write} --choose {how}")).ok();
        assert_eq!(chosen.lines().count(), 12);
        for line in chosen.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let is_it = |other: &&str| {
                let other: Value = serde_json::from_str(other).unwrap();
                let same = |key: &&str| other[*key] == line[*key];
                ["id", "sample", "text"].iter().all(same)
            };
            assert_eq!(all.lines().filter(is_it).count(), 1);
            let share = number(&line, "/vote_share");
            assert!((0.2..=1.0).contains(&share), "{line}");
        }
    }
    let ran = place.run(&format!("{write} --choose best"));
    assert!(ran.code == 2 && ran.stderr.contains("--choose"));
}
