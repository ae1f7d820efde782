//! Rules that answer, defer or offer a set, and what predict makes of them.

use std::fs;

use serde_json::Value;

use crate::helpers::{Place, exists, rows};

/// A run with calibrate rows that a rule can rest on.
fn trained() -> Place {
    let place = Place::new();
    place.write("data/calibrate.jsonl", &rows("calibrate", 400));
    place.train("").ok();
    place
}

fn last(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn a_rule_is_found_on_one_part_of_calibrate_stored_and_applied() {
    let place = trained();
    let found = place
        .run("decide run --max-error 0.9 --threads 1 --json")
        .ok();
    let found = last(&found);
    assert_eq!(found["event"], "decided");
    let division = &found["division"];
    let count = |name: &str| division[name].as_u64().unwrap();
    assert_eq!(count("choosing") + count("ruling"), 400);
    assert!((60..140).contains(&count("choosing")), "{division}");
    let realised = &found["realised"][0];
    assert_eq!(
        (&realised["of"], &realised["rows"]),
        (&"all".into(), &12.into())
    );
    let stored = place.json("run/adapter/decision.json");
    assert_eq!(stored, found["decision"]);
    assert_eq!(
        stored["promise"],
        "of the cases that are answered, at most 90 % are wrong, with probability 0.9 over calibration sets"
    );
    let predict = "predict --model model --adapter run/adapter --data data --threads 1";
    let ran = place.run(predict);
    assert!(
        ran.stderr.contains("the adapter's decision: of the cases"),
        "{}",
        ran.stderr
    );
    let lines = ran.ok();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["decision"], "answer", "{line}");
    }
    let ran = place.run(&format!("{predict} --samples 1"));
    assert!(
        ran.stderr
            .contains("decision is about another number of draws"),
        "{}",
        ran.stderr
    );
    assert!(!ran.ok().contains("\"decision\""));
}

#[test]
fn a_rule_decides_nothing_once_the_adapter_has_other_weights() {
    let place = trained();
    place
        .run("decide run --max-error 0.9 --threads 1 --quiet")
        .ok();
    let predict = "predict --model model --adapter run/adapter --data data --threads 1";
    assert!(place.run(predict).ok().contains("\"decision\""));
    place
        .run("train --model model --data data --task sst2 --out other --seed 1 --steps 6 --threads 1")
        .ok();
    for file in ["adapter_model.safetensors", "posterior.safetensors"] {
        let [from, to] = ["other", "run"].map(|run| place.path(&format!("{run}/adapter/{file}")));
        fs::copy(from, to).unwrap();
    }
    let ran = place.run(predict);
    assert!(
        ran.stderr
            .contains("decision is about another state of the adapter's weights"),
        "{}",
        ran.stderr
    );
    assert!(!ran.ok().contains("\"decision\""));
}

#[test]
fn sets_and_what_cannot_be_promised_are_said_in_words() {
    let place = trained();
    let text = place
        .run("decide run --sets class-conditional --coverage 0.8 --threads 1 --quiet")
        .ok();
    assert!(
        text.starts_with("rule: the set of the answers whose nonconformity (lac) is, of `Negative` ")
            && text.contains("promise: of the cases of each class, at least 80 % have the right answer in their set, in expectation")
            && text.contains("\ntest (12 examples)\n")
            && text.contains("\nNegative "),
        "{text}"
    );
    let table = place
        .run("predict --model model --adapter run --data data --threads 1 --format csv --quiet")
        .ok();
    assert!(
        table.lines().next().unwrap().ends_with(",decision,set"),
        "{table}"
    );
    fs::remove_file(place.path("run/adapter/decision.json")).unwrap();
    let text = place
        .run("decide run --max-error 0.0001 --threads 1 --quiet")
        .ok();
    assert!(text.starts_with("no rule can promise this with "), "{text}");
    assert!(!exists(place.path("run/adapter/decision.json")));
    place.write("costs.json", "{\"Negative\":{\"Positive\":2}}");
    let text = place
        .run("decide run --max-cost 1.9 --costs costs.json --score expected-cost --dry-run --threads 1 --quiet")
        .ok();
    assert!(
        text.contains("the mean cost is at most 1.9") && text.contains("mean cost\n"),
        "{text}"
    );
    assert!(!exists(place.path("run/adapter/decision.json")));
}

#[test]
fn wishes_that_cannot_be_are_refused() {
    let place = trained();
    place.run("decide run").fails(
        2,
        "error: nothing says what the rule must promise\n\nhint: the largest error among answered cases is `--max-error 0.05`, sets of answers are `--sets lac`",
    );
    place.run("decide run --sets lax").fails(
        2,
        "error: `--sets` is `lax`, expected one of `lac`, `adaptive`, `adaptive-randomised`, `class-conditional`\n\nhint: did you mean `lac`?",
    );
    place
        .run("decide run/adapter --model model --data data/test.jsonl --max-error 0.1")
        .fails_with(
            3,
            &["error: there are no rows that a rule could rest on but those that are scored"],
        );
    place.run("decide run --max-error 2").fails_with(
        2,
        &["the largest error is 2, expected a number between 0 and 1"],
    );
    place
        .run("decide run --min-recall good=0.9 --threads 1")
        .fails_with(2, &["`good`, expected an answer of the task"]);
}
