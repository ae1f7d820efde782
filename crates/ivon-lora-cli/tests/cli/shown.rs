//! What the commands make of a finished run: its page, its scale, its pruned adapter.

use std::fs;

use serde_json::Value;

use crate::helpers::{Place, exists};

/// A run with calibrate rows to base choices on.
fn trained(more: &str) -> Place {
    let place = Place::new();
    place.train(more).ok();
    place
}

#[test]
fn a_run_becomes_a_page_that_needs_nothing_else_and_plots() {
    let place = trained("--eval-interval 3");
    assert_eq!(
        place.run("report run --svg plots").ok(),
        "wrote run/report.html and 14 plots in plots\n"
    );
    let page = place.read("run/report.html");
    for part in [
        "id=\"scores\"",
        "id=\"findings\"",
        "id=\"calibration\"",
        "id=\"training\"",
        "id=\"posterior\"",
        "id=\"examples\"",
        "learning_rate",
        "test-",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // No scripts, no external resources except the SVG namespace, and no prompts that were not
    // requested.
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for absent in ["<script", "http:", "https:", "url(", "the film was"] {
        assert!(!outside.contains(absent), "{absent}");
    }
    for plot in [
        "reliability-mean",
        "reliability-samples",
        "confidence-mean",
        "risk-coverage",
        "loss",
        "tune-nll",
        "posterior-sigma",
    ] {
        assert!(
            place
                .read(&format!("plots/{plot}.svg"))
                .starts_with("<?xml"),
            "{plot}"
        );
    }
    let written: Value =
        serde_json::from_str(&place.run("report run --out page.html --json").ok()).unwrap();
    assert_eq!(
        (
            written["page"].as_str(),
            written["plots"].as_array().map(Vec::len)
        ),
        (Some("page.html"), Some(0))
    );
}

#[test]
fn texts_are_shown_only_where_the_run_kept_them() {
    let place = trained("--include-text");
    place.run("report run").ok();
    assert!(
        place
            .read("run/report.html")
            .contains("Review: the film was")
    );
}

#[test]
fn two_runs_stand_side_by_side() {
    let place = trained("");
    place.run("train --model model --data data --task sst2 --out other --steps 6 --optimizer adamw --threads 1").ok();
    assert_eq!(
        place
            .run("report run other --out both.html --svg plots")
            .ok(),
        "wrote both.html and 6 plots in plots\n"
    );
    let page = place.read("both.html");
    assert!(
        page.contains("<h1>run and other</h1>")
            && page.contains("id=\"hours\"")
            && exists(place.path("plots/hours-accuracy.svg"))
    );
}

#[test]
fn a_report_of_what_is_no_run_or_is_damaged() {
    let place = Place::new();
    place.run("report nowhere").fails(
        6,
        "error: could not read `nowhere/run.toml`: No such file or directory (os error 2)\n\nhint: check the spelling of the path",
    );
    place.run("report").fails_with(2, &["missing `<RUN>"]);
    place.train("").ok();
    fs::write(place.path("run/predictions.jsonl"), "{\"id\": 1}\n").unwrap();
    place.run("report run").fails_with(
        6,
        &["`run/predictions.jsonl` cannot be used: line 1: ", "hint: "],
    );
    fs::write(place.path("run/predictions.jsonl"), "").unwrap();
    fs::write(place.path("run/evaluation.json"), "{}").unwrap();
    place.run("report run").fails_with(
        6,
        &["`run/evaluation.json` cannot be used: missing field `split`"],
    );
    fs::remove_file(place.path("run/evaluation.json")).unwrap();
    place.run("report run").ok();
    assert!(
        place
            .read("run/report.html")
            .contains("the run has not ended")
    );
    place
        .run("report run --out nowhere/page.html")
        .fails_with(6, &["could not write `nowhere/page.html`"]);
}

#[test]
fn the_scale_is_chosen_on_calibrate_and_used_from_then_on() {
    let place = Place::with_calibrate();
    place.train("").ok();
    let out = place
        .run("scale run --end 2 --points 3 --write --threads 1 --json")
        .ok();
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["split"], &last["choice"]["split"]),
        (&"scaled".into(), &"test".into(), &"calibrate".into())
    );
    let scales: Vec<f64> = last["choice"]["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["scale"].as_f64().unwrap())
        .collect();
    assert_eq!(scales, [0.0, 1.0, 2.0]);
    let best = last["choice"]["points"]
        .as_array()
        .unwrap()
        .iter()
        .min_by(|a, b| {
            a["nll"]
                .as_f64()
                .unwrap()
                .total_cmp(&b["nll"].as_f64().unwrap())
        });
    let chosen = last["choice"]["scale"].as_f64().unwrap();
    // The best τ, or the adapter's own if the rows cannot decide.
    assert!(
        [best.unwrap()["scale"].as_f64().unwrap(), 1.0].contains(&chosen),
        "{last}"
    );
    assert_eq!(
        place.json("run/adapter/ivon_lora.json")["scale"].as_f64(),
        Some(chosen)
    );
    assert_eq!(
        place.json("run/scale.json")["points"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    // `evaluate` now reports the scores of that point.
    let out = place
        .run("evaluate --model model --adapter run/adapter --data data --threads 1 --json")
        .ok();
    let evaluated: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let point = last["points"]
        .as_array()
        .unwrap()
        .iter()
        .find(|point| point["scale"].as_f64() == Some(chosen) && point["samples"] == 2)
        .unwrap();
    let found = evaluated["samples"][1]["nll"].as_f64().unwrap();
    assert!((found - point["nll"].as_f64().unwrap()).abs() < 1e-12);
    place.run("report run").ok();
    assert!(place.read("run/report.html").contains("id=\"scale\""));
}

#[test]
fn a_scale_that_cannot_be_found() {
    let place = trained("");
    place
        .run("scale run --end 0")
        .fails(2, "error: `--end` is `0`, expected a finite number above 0");
    place
        .run("scale run --samples 0 --points 2")
        .fails_with(2, &["error: `samples` is `0`, expected at least 1"]);
    place.run("scale run --points 1").fails(
        2,
        "error: `--points` is `1`, expected a whole number from 2 to 1000",
    );
    place.run("scale run/adapter --data data").fails(
        2,
        "error: `--model` is absent, and nothing else names it\n\nhint: `run/adapter` is no run, which would say it: name it with `--model`",
    );
    place.run("scale run/adapter --model model --data data --points 2 --write").fails_with(
        3,
        &["error: there are no rows to choose the scale on but those that are scored\n\nhint: name a folder with a file named calibrate"],
    );
    let text = place
        .run("scale run/adapter --model model --data data --points 2 --quiet --svg plots")
        .ok();
    assert!(
        text.starts_with("error on test\nτ     1 draw  2 draws\n0.00  ")
            && text.contains("no τ is chosen"),
        "{text}"
    );
    assert!(exists(place.path("plots/scale-nll.svg")));
    place.run("train --model model --data data --task sst2 --out point --steps 2 --optimizer adamw --threads 1").ok();
    place.run("scale point").fails_with(
        4,
        &[
            "error: `point/adapter` is a point estimate, expected a posterior",
            "hint: train with",
        ],
    );
    place
        .run("prune point")
        .fails_with(4, &["error: `point/adapter` is a point estimate"]);
}

#[test]
fn a_pruned_adapter_is_an_adapter_with_zeros() {
    let place = trained("");
    let text = place
        .run("prune run --points 3 --share 0.5 --out half --threads 1 --svg plots --quiet")
        .ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("test (12 examples), ")
            && lines[1].starts_with("pruned  accuracy")
            && lines.len() == 5,
        "{text}"
    );
    assert_eq!(
        place.json("run/prune.json")["points"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert!(
        exists(place.path("plots/prune-accuracy.svg"))
            && exists(place.path("half/adapter_config.json"))
    );
    // At a share of 0 the curve equals the run at the mean; the written adapter scores as the curve
    // does at one half.
    let [none, half] = [0, 1].map(|index| {
        place.json("run/prune.json")["points"][index]["nll"]
            .as_f64()
            .unwrap()
    });
    assert!(
        (none
            - place.json("run/evaluation.json")["mean"]["nll"]
                .as_f64()
                .unwrap())
        .abs()
            < 1e-12
    );
    let out = place
        .run("evaluate --model model --adapter half --data data --threads 1 --json")
        .ok();
    let evaluated: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert!((evaluated["mean"]["nll"].as_f64().unwrap() - half).abs() < 1e-12);
    place.run("prune run --share 0.5 --out half").fails(
        6,
        "error: `half` already exists\n\nhint: remove it, or name another with `--out`",
    );
    place
        .run("prune run --share 2 --out other")
        .fails(2, "error: `--share` is `2`, expected a number from 0 to 1");
    place
        .run("prune run --share 0.5")
        .fails_with(2, &["missing `--out <FOLDER>`"]);
}

#[test]
fn a_posterior_of_any_kind_is_pruned_with_its_mean() {
    let place = Place::new();
    for (name, more) in [
        ("evon", ""),
        ("swag", ""),
        ("scalabl", ""),
        ("dalorra", ""),
        ("laplace", "laplace_structure = 'kronecker'\n"),
    ] {
        place.write(
            "method.toml",
            &format!("[optimizer]\nname = '{name}'\n{more}"),
        );
        let train = "train --config method.toml --model model --data data --task sst2 --steps 6 --samples 2 --threads 1";
        place.run(&format!("{train} --out {name}")).ok();
        place
            .run(&format!(
                "prune {name} --points 2 --share 0.5 --out half-{name} --threads 1 --quiet"
            ))
            .ok();
        let seen = place.run(&format!("inspect adapter half-{name}")).ok();
        assert!(
            seen.contains(&format!("of {name}: ")) && seen.contains("pruned share 0.5"),
            "{seen}"
        );
        // With all weights pruned, every draw and the mean equal the base model.
        place
            .run(&format!(
                "prune {name} --points 2 --share 1 --out none-{name} --threads 1 --quiet"
            ))
            .ok();
        let command = format!(
            "evaluate --model model --adapter none-{name} --data data --threads 1 --json --samples 2"
        );
        let out = place.run(&command).ok();
        let found: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        let [mean, draws] =
            [&found["mean"], &found["samples"][1]].map(|scores| scores["nll"].as_f64().unwrap());
        assert!((mean - draws).abs() < 1e-9, "{name}: {mean} {draws}");
    }
}
