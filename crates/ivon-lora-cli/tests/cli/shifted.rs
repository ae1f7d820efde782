//! A run on data sets it was not trained for.

use serde_json::{Value, json};

use crate::helpers::{Place, exists};

/// A run, a set of the same kind, and texts of another kind.
fn place(optimizer: &str) -> Place {
    let place = Place::new();
    place.train(&format!("--optimizer {optimizer}")).ok();
    let row = |index: usize| {
        let text = [
            "a dull bad story",
            "the story is good",
            "a film",
            "the fine story was bad",
        ][index % 4];
        json!({ "id": format!("other-{index}"), "text": text, "label": index % 2 }).to_string()
            + "\n"
    };
    place.write("other/test.jsonl", &(0..8).map(row).collect::<String>());
    let text = |index: usize| {
        json!({ "passage": "story ".repeat(index + 1), "label": 7 }).to_string() + "\n"
    };
    place.write("texts.jsonl", &(0..5).map(text).collect::<String>());
    place
}

const COMMAND: &str = "shift run --to other=other --to texts=texts.jsonl --fields texts:text=passage --threads 1 --quiet";

/// Every row of one file against every row of another: how often the first is less certain, with
/// ties counted as half.
fn brute_force(place: &Place, others: &str, own: &str, key: &str) -> f64 {
    let values = |file: &str| -> Vec<f64> {
        let value = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()[key]
                .as_f64()
                .unwrap()
        };
        place.read(file).lines().map(value).collect()
    };
    let (others, own) = (values(others), values(own));
    let wins: f64 = others
        .iter()
        .flat_map(|a| {
            own.iter().map(move |b| {
                if a == b {
                    0.5
                } else {
                    f64::from(u8::from(a > b))
                }
            })
        })
        .sum();
    wins / (others.len() * own.len()) as f64
}

#[test]
fn a_run_is_scored_on_other_sets_and_tells_them_from_its_own() {
    let place = place("ivon");
    let text = place.run(&format!("{COMMAND} --out shift.json")).ok();
    for part in [
        "\nsst2, test, mean ",
        "\nother, test, 2 samples ",
        "\ntexts, texts.jsonl, mean ",
        "\ntexts, 2 samples, mutual information   ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let report = place.json("shift.json");
    assert_eq!(place.json("run/shift.json"), report);
    place.run("report run").ok();
    assert!(
        place
            .read("run/report.html")
            .contains("<h2>Other data</h2>")
    );
    let way = |set: usize, way: usize| report["sets"][set]["ways"][way].clone();
    // The scores are those that `train` and `evaluate` report.
    let own = place.json("run/evaluation.json");
    let near = |found: &Value, expected: &Value| {
        (found.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-12
    };
    assert!(
        near(&way(0, 0)["scores"]["nll"], &own["mean"]["nll"])
            && near(&way(0, 1)["scores"]["nll"], &own["samples"][1]["nll"])
    );
    place.run("evaluate --model model --adapter run/adapter --data other --out again --quiet --threads 1").ok();
    let again = place.json("again/evaluation.json");
    assert!(near(
        &way(1, 1)["scores"]["accuracy"],
        &again["samples"][1]["accuracy"]
    ));
    assert!(way(2, 0)["scores"].is_null() && report["sets"][2]["n"] == 5);
    // AUROC by brute force over every pair of rows.
    let detection = way(1, 1)["detection"].clone();
    for (index, key) in [(1, "entropy"), (2, "mutual_information")] {
        let expected = brute_force(
            &place,
            "again/predictions.jsonl",
            "run/predictions.jsonl",
            key,
        );
        assert_eq!(detection[index]["uncertainty"], key);
        assert!(
            (detection[index]["auroc"].as_f64().unwrap() - expected).abs() < 1e-12,
            "{key}: {detection} {expected}"
        );
    }
    // A set cannot be separated from itself.
    let out = place
        .run("shift run --to same=data --threads 1 --json")
        .ok();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (
            &last["event"],
            &last["sets"][1]["ways"][1]["detection"][0]["auroc"]
        ),
        (&"shifted".into(), &json!(0.5))
    );
}

#[test]
fn every_stored_method_can_be_asked() {
    for method in ["adamw", "laplace", "ensemble", "mc-dropout"] {
        let place = place(method);
        let text = place.run(&format!("{COMMAND} --eval-limit 3")).ok();
        assert!(text.contains("\nother, mean, entropy "), "{method}: {text}");
        assert_eq!(
            text.contains("mutual information"),
            method != "adamw",
            "{method}"
        );
    }
}

#[test]
fn sets_that_cannot_be_asked() {
    let place = place("adamw");
    place.run("shift run --to other").fails(
        2,
        "error: `--to` is `other`, expected NAME=PATH, such as `passages=data/boolq`",
    );
    place.run("shift run --to a=other --to a=data").fails(
        2,
        "error: `--to` is `a=data`, expected another name for each set",
    );
    place
        .run("shift run --to a=other --fields text=passage")
        .fails(2, "error: `--fields` is `text=passage`, expected NAME:FIELD=COLUMN, such as `passages:text=passage`");
    place
        .run("shift run --to texts=texts.jsonl --fields text:text=passage")
        .fails(2, "error: `--fields` names the set `text`, expected one that `--to` names: `texts`\n\nhint: did you mean `texts`?");
    place
        .run("shift run --to a=texts.jsonl --fields a:text=words")
        .fails_with(3, &["`words`", "passage"]);
    // These are refused before the first answer.
    let nowhere = place.run("shift run --to other=other --to a=nowhere");
    assert!(!nowhere.stderr.contains("answering"), "{}", nowhere.stderr);
    let unwritable = place.run("shift run --to other=other --out nowhere/shift.json");
    assert!(
        !unwritable.stderr.contains("answering"),
        "{}",
        unwritable.stderr
    );
    unwritable.fails_with(6, &["could not write `nowhere/shift.json`"]);
    nowhere.fails_with(3, &["could not read `nowhere`"]);
    place.write("empty.jsonl", "");
    place
        .run("shift run --to a=empty.jsonl --out shift.json")
        .fails_with(
            3,
            &[
                "the set `a` in `empty.jsonl` has no row that can be asked",
                "hint: ",
            ],
        );
    assert!(!exists(place.path("shift.json")));
}
