//! Data that have changed, rows that were trained on, labels that are all the same, and following
//! the hints.

use serde_json::Value;

use crate::helpers::{Place, exists, rows};

const FILE: &str =
    "train --model model --data rows.jsonl --task sst2 --steps 6 --samples 2 --threads 1";

/// A run over a single file of sixty rows, from which the roles are carved.
fn carved() -> Place {
    let place = Place::new();
    place.write("rows.jsonl", &rows("row", 60));
    place.run(&format!("{FILE} --out run --quiet")).ok();
    place
}

#[test]
fn a_row_more_is_refused_by_whatever_reads_the_rows_of_a_run_again() {
    let place = carved();
    place.write("rows.jsonl", &rows("row", 61));
    let said = [
        "`run` was started with other data: `rows.jsonl` has the SHA-256 ",
        "…, it had ",
        "hint: put the files back",
    ];
    for command in [
        &format!("{FILE} --out run --resume"),
        "scale run --points 2 --threads 1",
        "prune run --points 2 --threads 1",
        "shift run --to other=data --threads 1",
    ] {
        place.run(command).fails_with(3, &said);
    }
    // The scores are those of the original rows, and the page says so.
    place.run("report run").ok();
    assert!(
        place
            .read("run/report.html")
            .contains("`rows.jsonl` changed since the run was started")
    );
    assert!(
        place
            .run("inspect run run")
            .ok()
            .contains("warning: `rows.jsonl` changed since")
    );
    place.write("rows.jsonl", &rows("row", 60));
    place.run("prune run --points 2 --threads 1").ok();
    place.run(&format!("{FILE} --out run --resume")).ok();
}

#[test]
fn a_run_whose_roles_were_carved_otherwise_keeps_them() {
    let place = carved();
    // As another version might have carved: a row of train and one of test trade places.
    let mut roles = place.json("run/splits.json");
    let (train, test) = (roles["train"][0].clone(), roles["test"][0].clone());
    (roles["train"][0], roles["test"][0]) = (test, train);
    place.write("run/splits.json", &roles.to_string());
    let ran = place.run("scale run --points 2 --threads 1");
    assert!(
        ran.stderr.contains("they have those of its splits.json"),
        "{}",
        ran.stderr
    );
    ran.ok();
}

#[test]
fn rows_that_were_trained_on_are_told_and_the_test_role_is_offered() {
    let place = carved();
    std::fs::rename(place.path("run/adapter"), place.path("copied")).unwrap();
    let evaluate = "evaluate --model model --adapter copied --data rows.jsonl --threads 1";
    let ran = place.run(evaluate);
    let said = "36 of the 60 rows of `rows.jsonl` were trained on, and the scores say nothing of new ones: `--role test` scores the 12 that \
                were held out";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    ran.ok();
    let ran = place.run(&format!("{evaluate} --role test --json"));
    let out = ran.ok();
    assert!(!out.contains("were trained on"), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["split"], &last["source"], &last["n"]),
        (&"test".into(), &"of rows.jsonl".into(), &12.into())
    );
    assert_eq!(last["mean"], place.json("run/evaluation.json")["mean"]);
    let other =
        "evaluate --model model --adapter copied --data data/test.jsonl --role tune --threads 1";
    place.run(other).fails_with(
        3,
        &["no row of `data/test.jsonl` is known to be of the role tune: none of them played it"],
    );
    place.run(&format!("{evaluate} --role tests")).fails_with(
        2,
        &[
            "`--role` is `tests`, expected one of",
            "did you mean `test`?",
        ],
    );
}

#[test]
fn a_split_is_named_by_its_role_and_its_file() {
    let place = carved();
    let evaluation = place.json("run/evaluation.json");
    assert_eq!(
        (&evaluation["split"], &evaluation["source"]),
        (&"test".into(), &"carved from rows.jsonl".into())
    );
    place.run("report run").ok();
    assert!(
        place
            .read("run/report.html")
            .contains("12 examples of test, carved from rows.jsonl.")
    );
}

#[test]
fn a_finished_cell_over_other_rows_is_refused_by_name() {
    let place = Place::new();
    let file = "out = \"compared\"\nseeds = [1]\n[run.model]\npath = \"model\"\n[run.train]\nsteps = 2\n[[task]]\nname = \"films\"\n\
                [task.data]\npath = \"data\"\ntask = \"sst2\"\n[[method]]\nname = \"AdamW\"\n[method.optimizer]\nname = \"adamw\"\n";
    place.write("comparison.toml", file);
    place.run("compare comparison.toml --threads 1").ok();
    place.write("data/test.jsonl", &rows("test", 14));
    let ran = place.run("compare comparison.toml --threads 1");
    let said = "films, AdamW, seed 1: `compared/cells/films/adamw/1` was started with other data: `data/test.jsonl` has the SHA-256 ";
    assert!(ran.stdout.contains(said), "{} {}", ran.stdout, ran.stderr);
    // Following the hint works.
    std::fs::remove_dir_all(place.path("compared/cells/films/adamw/1")).unwrap();
    assert!(
        place
            .run("compare comparison.toml --threads 1")
            .ok()
            .contains("films, 14 examples")
    );
}

#[test]
fn labels_that_are_all_alike_are_warned_of_and_no_score_is_minus_zero() {
    let place = Place::new();
    let positive = rows("row", 60).replace("\"label\":0", "\"label\":1");
    place.write("rows.jsonl", &positive);
    let ran = place.run(&format!("{FILE} --out run --learning-rate 0.3"));
    let said = "every row of train, tune, calibrate and test has the label `Positive`: there is nothing to tell apart";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert!(!ran.stderr.contains("-0.000"), "{}", ran.stderr);
    let out = ran.ok();
    assert!(
        out.contains(
            "problem: all 12 rows of test have the label `Positive`: no score says anything"
        ),
        "{out}"
    );
    assert!(
        !out.contains("-0.000") && !place.read("run/report.html").contains("-0.000"),
        "{out}"
    );
    assert!(place.read("run/report.html").contains("id=\"classes\""));
    assert!(
        !place
            .read("run/adapter/ivon_lora.json")
            .contains("calibration")
    );
}

#[test]
fn what_a_hint_says_works() {
    let place = Place::new();
    let train = "train --model model --data data --task sst2 --steps 6 --threads 1 --checkpoint-interval 1 --eval-interval 6 --optimizer adamw";
    let ran = place.run(&format!(
        "{train} --schedule constant --out run --learning-rate 1e38"
    ));
    ran.fails_with(
        5,
        &["hint: start anew with a lower `--learning-rate` in another folder, named by `--out`"],
    );
    place
        .run(&format!(
            "{train} --schedule constant --out other --learning-rate 0.01"
        ))
        .ok();
    assert!(exists(place.path("other/adapter")));
    place
        .run("train --patience 2 --steps 4 --out run")
        .fails_with(
            2,
            &["`patience` is `2` without `keep_best`, expected a score"],
        );
    place
        .run(&format!("{train} --out late --warmup 6"))
        .fails_with(2, &["warms up for 6 steps in a run of 6", "`--warmup`"]);
    let ran = place
        .run("evaluate --model model --adapter other/adapter --data data --scale 2 --threads 1");
    assert!(
        ran.stderr.contains(
            "the adapter is a point estimate: there is no variance that a scale could multiply"
        ),
        "{}",
        ran.stderr
    );
    ran.ok();
}
