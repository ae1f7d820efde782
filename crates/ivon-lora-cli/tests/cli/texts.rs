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
    let page = place.read("run/report.html");
    for part in [
        "NLL per token (nats)",
        "most probable next token",
        &format!("{mean:.3} ["),
    ] {
        assert!(page.contains(part), "{part}");
    }
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

const COMPARISON: &str = r#"
out = "compared"
seeds = [1, 2]
[tuning]
trials = 2
[run.model]
path = "model"
threads = 1
[run.train]
steps = 20
batch_size = 4
[[task]]
name = "intents"
[task.data]
path = "texts"
task = "completion"
tune_share = 0.2
[[method]]
name = "AdamW"
optimizer = { name = "adamw" }
tune = { learning_rate = { from = 0.001, to = 0.02 } }
[[method]]
name = "IVON"
untuned = true
optimizer = { name = "ivon" }
[method.evaluation]
samples = 2
"#;

#[test]
fn methods_are_compared_on_texts_by_the_scores_of_their_tokens() {
    let place = place();
    place.write("compare.toml", COMPARISON);
    let shown = place
        .run("compare compare.toml --pack packed.jsonl.gz")
        .ok();
    assert!(
        shown.contains("intents, 12 texts, scores of the next token"),
        "{shown}"
    );
    let comparison = place.json("compared/comparison.json");
    let rows = comparison["table"]["tasks"][0]["rows"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["base, untuned", "AdamW", "IVON, mean", "IVON, 2 samples"]
    );
    for (row, folder, path) in [
        (1, "adamw", "/mean_tokens/nll/value"),
        (2, "ivon", "/mean_tokens/nll/value"),
        (3, "ivon", "/sampled_tokens/nll/value"),
    ] {
        let of = |seed: u32| {
            let file = format!("compared/cells/intents/{folder}/{seed}/evaluation.json");
            number(&place.json(&file), path)
        };
        let mean = (of(1) + of(2)) / 2.0;
        assert!((number(&rows[row], "/nll/mean") - mean).abs() < 1e-9);
        assert!(rows[row]["aurc"].is_null());
    }
    // The best is never told from itself, and the untuned base is none of them.
    assert!(
        rows[1..]
            .iter()
            .any(|row| row["nll"]["is_bold"] == json!(true))
    );
    assert_eq!(comparison["trials"].as_array().unwrap().len(), 2);
    assert_eq!(
        place.run("compare --from packed.jsonl.gz --out again").ok(),
        shown.replace("compared", "again")
    );
    let asked = COMPARISON.replace(
        "[task.data]",
        "other_set = [{ name = \"films\", path = \"texts\" }]\n[task.data]",
    );
    place.write("compare.toml", &asked);
    let ran = place.run("compare compare.toml");
    let expected = "`other_set` of task `intents` is given for texts, expected none";
    assert!(
        ran.code != 0 && ran.stderr.contains(expected),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_scale_is_chosen_on_calibrate_and_pruned_weights_scored_by_tokens() {
    let place = place();
    place.write("texts/calibrate.jsonl", &rows("calibrate", 72..102));
    let train = TRAIN.replace("adamw", "ivon") + " --samples 2";
    place.run(&train).ok();
    let evaluation = place.json("run/evaluation.json");
    place.run("scale run --samples 2 --points 3 --end 2").ok();
    let scale = place.json("run/scale.json");
    let point = |tau: f64, samples: u64| {
        let points = scale["points"].as_array().unwrap().iter();
        let mut points = points.filter(|point| number(point, "/scale") == tau);
        number(
            points
                .find(|point| point["samples"] == json!(samples))
                .unwrap(),
            "/nll",
        )
    };
    let near = |one: f64, other: f64| assert!((one - other).abs() < 1e-6, "{one} {other}");
    near(point(0.0, 2), number(&evaluation, "/mean_tokens/nll/value"));
    near(
        point(1.0, 2),
        number(&evaluation, "/sampled_tokens/nll/value"),
    );
    assert_eq!(number(&scale, "/choice/n"), 30.0);
    place.run("prune run --points 3").ok();
    let prune = place.json("run/prune.json");
    near(
        number(&prune, "/points/0/nll"),
        number(&evaluation, "/mean_tokens/nll/value"),
    );
    near(
        number(&prune, "/points/2/nll"),
        number(&evaluation, "/base_tokens/nll/value"),
    );
    let ran = place.run("shift run --to others=texts");
    assert!(
        ran.code != 0 && ran.stderr.contains("the adapter writes texts"),
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
    // Beside the run its page shows them.
    place
        .run(&evaluate.replace("--out scores", "--out run"))
        .ok();
    place.run("report run").ok();
    let page = place.read("run/report.html");
    for part in [
        "Written answers",
        "of the answers at the mean are right",
        "minimum Bayes risk",
    ] {
        assert!(page.contains(part), "{part}");
    }
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
    place
        .run(&format!("{write} --utility f1"))
        .fails_with(2, &["`--utility` has no effect without `--choose`"]);
    place
        .run("evaluate --model model --adapter run --data texts/test.jsonl --same-from 0.5")
        .fails_with(2, &["`--same-from` has no effect without `--write`"]);
}
