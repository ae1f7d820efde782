//! Comparisons: trials, cells, one table; resuming, and failures.

use std::fs;

use serde_json::Value;

use crate::helpers::{Place, exists};

const FILE: &str = r#"
out = "compared"
seeds = [1, 2]
[run.model]
path = "model"
[run.train]
steps = 4
[run.evaluation]
samples = 2
[[task]]
name = "films"
[task.data]
path = "data"
task = "sst2"
[[method]]
name = "AdamW"
[method.optimizer]
name = "adamw"
[method.tune]
learning_rate = { from = 1e-4, to = 1e-2 }
[[method]]
name = "IVON"
[method.optimizer]
name = "ivon"
[method.tune]
learning_rate = { from = 0.01, to = 1.0 }
[tuning]
trials = 2
"#;

fn place(more: &str) -> Place {
    let place = Place::with_calibrate();
    place.write("comparison.toml", &format!("{FILE}{more}"));
    place
}

const COMMAND: &str = "compare comparison.toml --threads 1";

#[test]
fn a_comparison_is_a_table_and_is_made_once() {
    let place = place("");
    let plan = place.run(&format!("{COMMAND} --dry-run")).ok();
    assert!(
        plan.starts_with("4 trials and 4 cells, 0 of them finished; about "),
        "{plan}"
    );
    assert!(!exists(place.path("compared")));
    let out = place.run(COMMAND).ok();
    for part in [
        "films, 12 examples\n",
        "\nmajority class ",
        "\nbase, untuned ",
        "\nAdamW ",
        "\nIVON, mean ",
        "\nIVON, 2 samples ",
        " ± ",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for file in [
        "table.txt",
        "table.md",
        "table.tex",
        "table.csv",
        "comparison.json",
        "trials.json",
    ] {
        assert!(exists(place.path(&format!("compared/{file}"))), "{file}");
    }
    let json = place.json("compared/comparison.json");
    let trials = json["trials"].as_array().unwrap();
    assert_eq!(
        trials
            .iter()
            .filter(|trial| trial["is_chosen"] == true)
            .count(),
        2
    );
    let lowest = |method: &str| {
        let nll = |trial: &Value| {
            let of = |key: &str| trial[key].as_f64().unwrap_or(f64::INFINITY);
            of("nll_mean").min(of("nll_samples"))
        };
        trials
            .iter()
            .filter(|trial| trial["method"] == method)
            .min_by(|a, b| nll(a).total_cmp(&nll(b)))
            .unwrap()
    };
    assert_eq!(
        (&lowest("AdamW")["is_chosen"], &lowest("IVON")["is_chosen"]),
        (&true.into(), &true.into())
    );
    // The cells have the chosen settings; the score of a seed is that of its run.
    let rate = lowest("AdamW")["settings"]["learning_rate"]
        .as_f64()
        .unwrap();
    let cell: toml::Table = place
        .read("compared/cells/films/adamw/2/run.toml")
        .parse()
        .unwrap();
    assert_eq!(
        (
            cell["optimizer"]["learning_rate"].as_float(),
            cell["seed"].as_integer()
        ),
        (Some(rate), Some(2))
    );
    let nll = |seed: u64| {
        place.json(&format!(
            "compared/cells/films/adamw/{seed}/evaluation.json"
        ))["mean"]["nll"]
            .as_f64()
            .unwrap()
    };
    let row = &json["table"]["tasks"][0]["rows"][2];
    assert_eq!(
        (row["name"].as_str(), row["training_time"].as_f64()),
        (Some("AdamW"), Some(1.0))
    );
    assert!((row["nll"]["mean"].as_f64().unwrap() - (nll(1) + nll(2)) / 2.0).abs() < 1e-12);
    // Each row is repeated with its temperature.
    let rows = json["table"]["tasks"][0]["rows"].as_array().unwrap();
    let row = |name: &str| {
        rows.iter()
            .find(|row| row["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
            .clone()
    };
    let scaled = |seed: u64, which: &str| {
        place.json(&format!("compared/cells/films/ivon/{seed}/evaluation.json"))["at_temperature"]
            [which]["nll"]
            .as_f64()
            .unwrap()
    };
    for (name, which) in [
        ("IVON, mean, T on calibrate", "mean"),
        ("IVON, 2 samples, T on calibrate", "samples"),
    ] {
        let expected = (scaled(1, which) + scaled(2, which)) / 2.0;
        assert!(
            (row(name)["nll"]["mean"].as_f64().unwrap() - expected).abs() < 1e-12,
            "{name}"
        );
    }
    assert_eq!(rows[3]["name"], "AdamW, T on calibrate");
    assert!(
        place
            .read("compared/report.html")
            .contains("<td class=\"words\">IVON, mean, T on calibrate</td>")
    );
    // The untuned base, evaluated once, scores as in a run of its own.
    place.run("train --model model --data data --task sst2 --out alone --steps 1 --samples 1 --threads 1").ok();
    assert_eq!(
        place.json("compared/cells/films/ivon/2/evaluation.json")["base"],
        place.json("alone/evaluation.json")["base"]
    );
    // No trial has seen a test row.
    assert!(
        place
            .read("compared/trials/films/adamw/000/predictions.jsonl")
            .contains("\"train-")
    );
    assert!(
        !place
            .read("compared/trials/films/adamw/000/predictions.jsonl")
            .contains("\"test-")
    );

    // A cell is removed: only that cell is made again, with the same result.
    fs::remove_dir_all(place.path("compared/cells/films/ivon/2")).unwrap();
    let stamp = || {
        fs::metadata(place.path("compared/cells/films/ivon/1/evaluation.json"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = stamp();
    let again = place.run(COMMAND);
    assert!(
        again
            .stderr
            .contains("4 trials and 4 cells, 7 of them finished")
            && again.stderr.contains("\nfilms, IVON, seed 2\n"),
        "{}",
        again.stderr
    );
    assert!(!again.stderr.contains("seed 1"));
    again.ok();
    assert_eq!(stamp(), before);
    let scores = |json: &Value| {
        json["table"]["tasks"][0]["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["nll"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        scores(&place.json("compared/comparison.json")),
        scores(&json)
    );
    place.write("comparison.toml", &format!("temperature = false\n{FILE}"));
    assert!(!place.run(COMMAND).ok().contains("T on calibrate"));
    place
        .run("report compared/cells/films/ivon/1 compared/cells/films/adamw/1 --out both.html")
        .ok();
}

#[test]
fn packed_results_make_the_same_table_again_byte_for_byte() {
    let place = place(
        "[[method]]\nname = 'SWAG'\ntuned_as = 'AdamW'\n[method.optimizer]\nname = 'swag'\n[[predictions]]\nmethod = 'Theirs'\ntask = 'films'\nseed = 1\npath = 'theirs.jsonl'\n",
    );
    // Without them the comparison is packed all the same, and the failure with it.
    let first = place.run(&format!("{COMMAND} --pack results.jsonl.gz"));
    assert_eq!(first.code, 1, "{}", first.stderr);
    let failed = "\nfailed: films, Theirs, seed 1: could not read `theirs.jsonl`";
    assert!(
        place
            .run("compare --from results.jsonl.gz")
            .ok()
            .contains(failed)
    );
    fs::copy(
        place.path("compared/cells/films/adamw/1/predictions.jsonl"),
        place.path("theirs.jsonl"),
    )
    .unwrap();
    let shown = place
        .run(&format!("{COMMAND} --pack results.jsonl.gz"))
        .ok();
    // Nothing but the file is needed.
    let forms = ["txt", "md", "tex", "csv"].map(|form| format!("table.{form}"));
    let files: Vec<&str> = forms
        .iter()
        .map(String::as_str)
        .chain(["comparison.json", "report.html"])
        .collect();
    let made: Vec<String> = files
        .iter()
        .map(|file| place.read(&format!("compared/{file}")))
        .collect();
    fs::remove_dir_all(place.path("compared")).unwrap();
    fs::remove_dir_all(place.path("model")).unwrap();
    fs::remove_dir_all(place.path("data")).unwrap();
    let again = place
        .run("compare --from results.jsonl.gz --out again")
        .ok();
    assert_eq!(again, shown.replace("compared\n", "again\n"));
    for (file, made) in files.iter().zip(&made) {
        assert!(place.read(&format!("again/{file}")) == *made, "{file}");
    }
    assert!(fs::metadata(place.path("results.jsonl.gz")).unwrap().len() < 20_000);
    place.run("compare --from again/table.csv").fails_with(
        3,
        &["error: `again/table.csv` holds no results of a comparison: it could not be unpacked: "],
    );
}

const LABELS: &str = r#"
out = "compared"
seeds = [1, 2]
[run.model]
path = "model"
[run.train]
steps = 4
[run.evaluation]
samples = 2
[[task]]
name = "films"
labels = 32
[task.data]
path = "data"
task = "sst2"
[[task.other_set]]
name = "songs"
path = "songs.jsonl"
fields = { text = "verse" }
limit = 5
[[method]]
name = "AdamW"
[method.optimizer]
name = "adamw"
[[method]]
name = "AdamW, 3/4"
calibrate_share = 0.25
[method.optimizer]
name = "adamw"
[[method]]
name = "IVON"
[method.optimizer]
name = "ivon"
"#;

#[test]
fn what_a_method_calibrates_on_is_taken_from_its_labels_and_other_sets_are_told_apart() {
    let place = Place::with_calibrate();
    place.write("comparison.toml", LABELS);
    let songs = "{\"verse\": \"the the a a\"}\n{\"verse\": \"a story\"}\n".repeat(4);
    place.write("songs.jsonl", &songs);
    assert!(
        place
            .run(&format!("{COMMAND} --dry-run"))
            .ok()
            .starts_with("0 trials and 6 cells")
    );
    let out = place
        .run(&format!("{COMMAND} --pack results.jsonl.gz"))
        .ok();
    let ids = |method: &str, role: &str| -> Vec<String> {
        let splits = place.json(&format!("compared/cells/films/{method}/1/splits.json"));
        serde_json::from_value(splits[role].clone()).unwrap()
    };
    // The task's own calibrate rows count for nobody.
    let all = ids("adamw", "train");
    assert_eq!((all.len(), ids("adamw", "calibrate").len()), (32, 0));
    let parts = ["train", "calibrate"].map(|role| ids("adamw-3-4", role));
    assert_eq!(parts.each_ref().map(Vec::len), [24, 8]);
    assert!(parts.iter().flatten().all(|id| all.contains(id)));
    assert_eq!(ids("adamw", "test"), ids("adamw-3-4", "test"));
    // Eight rows carry no temperature.
    let row = |name: &str| {
        out.lines()
            .find(|line| line.starts_with(&format!("{name} ")))
    };
    assert!(
        row("AdamW, 3/4, T on calibrate")
            .unwrap()
            .ends_with("2, 2 at T = 1"),
        "{out}"
    );
    assert!(row("AdamW, T on calibrate").is_none(), "{out}");
    let told = out
        .split("films, other sets told from its test rows, AUROC\n")
        .nth(1)
        .unwrap();
    assert!(told.contains("songs by 1 − top probability") && told.contains("\nIVON, 2 samples "));
    let sets = place.json("compared/cells/films/ivon/1/other_sets.json");
    let uncertainty = &sets["uncertainties"][0];
    let count = |key: &str| uncertainty[key].as_array().unwrap().len();
    assert_eq!([count("own"), count("other")], [12, 5]);
    // A finished cell that was not asked yet is asked, and nothing else is made.
    fs::remove_file(place.path("compared/cells/films/ivon/1/other_sets.json")).unwrap();
    assert_eq!(place.run(COMMAND).ok(), out);
    assert_eq!(
        place.json("compared/cells/films/ivon/1/other_sets.json"),
        sets
    );
    let again = place.run("compare --from results.jsonl.gz").ok();
    assert!(out.starts_with(again.trim_end()), "{again}");
    place.write(
        "comparison.toml",
        &LABELS.replace("labels = 32", "labels = 41"),
    );
    place.run(COMMAND).fails_with(
        2,
        &["`labels` of task `films` is 41, expected at most the 36 rows that its train has"],
    );
}

#[test]
fn a_run_that_another_process_is_making_is_left_alone() {
    let place = place("");
    let trial = "compared/trials/films/ivon/000";
    place.write(&format!("{trial}/run.toml"), "being written");
    place.write(&format!("{trial}/.lock"), "");
    let lock = fs::File::options()
        .write(true)
        .open(place.path(&format!("{trial}/.lock")))
        .unwrap();
    lock.lock().unwrap();
    let ran = place.run(COMMAND);
    for failed in [
        "films, IVON, trial 0: ",
        "films, IVON, seed 1: the choice of settings of `IVON` is not made",
    ] {
        assert!(
            ran.stdout.contains(&format!("\nfailed: {failed}")),
            "{failed}: {}",
            ran.stdout
        );
    }
    assert!(
        ran.stdout.contains("\nAdamW ")
            && ran.stderr.contains("films, IVON, trial 0 is left out: "),
        "{}",
        ran.stderr
    );
    assert_eq!(
        (ran.code, place.read(&format!("{trial}/run.toml")).as_str()),
        (1, "being written")
    );
    // After the other process has gone, a run that it left without a checkpoint starts over.
    drop(lock);
    let again = place.run(COMMAND);
    assert!(
        again.stderr.contains("\nfilms, IVON, trial 0\n"),
        "{}",
        again.stderr
    );
    again.ok();
}

#[test]
fn a_cell_that_fails_is_told_of_and_the_rest_goes_on() {
    let place = place("");
    place.write(
        "compared/cells/films/ivon/1",
        "a file where a folder is expected",
    );
    let ran = place.run(COMMAND);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("\nfailed: films, IVON, seed 1: ")
            && ran.stdout.contains("\nIVON, mean "),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr
            .contains("error: 1 of the comparison's runs and files failed\n\nhint: "),
        "{}",
        ran.stderr
    );
    fs::remove_file(place.path("compared/cells/films/ivon/1")).unwrap();
    place.run(COMMAND).ok();
    // Changed settings are an error in their cells.
    place.write(
        "comparison.toml",
        &FILE.replace("samples = 2", "samples = 3"),
    );
    place.run(COMMAND).fails_with_result(
        1,
        &[
            "warning: films, AdamW, trial 0 failed: ",
            "was started with other settings: `evaluation` has changed",
        ],
    );
}

#[test]
fn predictions_made_elsewhere_and_settings_of_another_method_have_their_rows() {
    let place = place(
        "[[method]]\nname = 'Warm'\ntuned_as = 'AdamW'\n[method.optimizer]\nname = 'adamw'\n[method.train]\nwarmup = 2\n",
    );
    place.run(COMMAND).ok();
    let rate = |method: &str| -> f64 {
        let run: toml::Table = place
            .read(&format!("compared/cells/films/{method}/1/run.toml"))
            .parse()
            .unwrap();
        run["optimizer"]["learning_rate"].as_float().unwrap()
    };
    assert_eq!(rate("warm"), rate("adamw"));
    fs::copy(
        place.path("compared/cells/films/adamw/1/predictions.jsonl"),
        place.path("theirs.jsonl"),
    )
    .unwrap();
    let theirs = |seed: u64, path: &str| {
        format!(
            "[[predictions]]\nmethod = 'Theirs'\ntask = 'films'\nseed = {seed}\npath = '{path}'\n"
        )
    };
    let file = place.read("comparison.toml");
    place.write(
        "comparison.toml",
        &format!(
            "{file}{}{}",
            theirs(1, "theirs.jsonl"),
            theirs(2, "none.jsonl")
        ),
    );
    let ran = place.run(COMMAND);
    assert!(
        ran.stdout.contains("\nTheirs ")
            && ran
                .stdout
                .contains("\nfailed: films, Theirs, seed 2: could not read `none.jsonl`"),
        "{}",
        ran.stdout
    );
    ran.fails_with_result(1, &["error: 1 of the comparison's runs and files failed"]);
    let rows = place.json("compared/comparison.json")["table"]["tasks"][0]["rows"].clone();
    let of = |name: &str| {
        rows.as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .unwrap()
            .clone()
    };
    let own = place.json("compared/cells/films/adamw/1/evaluation.json");
    assert!(
        (of("Theirs")["nll"]["mean"].as_f64().unwrap() - own["mean"]["nll"].as_f64().unwrap())
            .abs()
            < 1e-12
    );
    assert!(of("Warm")["training_time"].is_f64() && of("Theirs")["training_time"].is_null());
}

/// Methods that train on their own with AdamW's settings, and the same methods taking AdamW's
/// adapter.
fn after_adamw() -> String {
    let method = |name: &str, optimizer: &str, trained: &str| {
        format!(
            "[[method]]\nname = '{name}'\n{trained} = 'AdamW'\n[method.optimizer]\nname = '{optimizer}'\n"
        )
    };
    let all = ["laplace", "tfb", "mc-dropout", "adamw-noise"];
    all.map(|name| {
        method(&format!("own {name}"), name, "tuned_as")
            + &method(&format!("taken {name}"), name, "trained_by")
    })
    .concat()
}

#[test]
fn a_method_that_takes_the_adapter_of_another_predicts_as_if_it_had_trained_it() {
    let place = Place::new();
    place.write(
        "comparison.toml",
        &format!("{}{}", FILE.replace("[1, 2]", "[1]"), after_adamw()),
    );
    let cell =
        |method: &str, file: &str| place.path(&format!("compared/cells/films/{method}/1/{file}"));
    let seconds = |method: &str| {
        let read = |file: &str| -> Value {
            serde_json::from_str(&fs::read_to_string(cell(method, file)).unwrap()).unwrap()
        };
        let (cost, finished) = (read("cost.json"), read("finished.json"));
        let parts = [
            &cost["training_seconds"],
            &cost["fitting_seconds"],
            &finished["seconds_before"],
        ];
        parts
            .map(|seconds| seconds.as_f64().unwrap())
            .iter()
            .sum::<f64>()
    };
    place.run(COMMAND).ok();
    for method in ["laplace", "tfb", "mc-dropout", "adamw-noise"] {
        let [own, taken] = ["own", "taken"]
            .map(|how| fs::read(cell(&format!("{how}-{method}"), "predictions.jsonl")).unwrap());
        assert!(own == taken, "{method}");
        // Its training time is that of the other plus the fitting.
        assert!(seconds(&format!("taken-{method}")) >= seconds("adamw"));
    }
    // The linearised model predicts mean and draws in a single pass, whose time counts for the
    // draws.
    let rows = place.json("compared/comparison.json")["table"]["tasks"][0]["rows"].clone();
    let time = |name: &str| {
        rows.as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .unwrap()["prediction_time"]
            .as_f64()
    };
    assert!(time("own laplace, mean").is_none() && time("taken laplace, 2 samples").unwrap() > 0.0);
    // At the mean, methods on AdamW's adapter have AdamW's row.
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|row| !row["name"].as_str().unwrap().starts_with("taken tfb, mean"))
    );
    let run: toml::Table = fs::read_to_string(cell("taken-tfb", "run.toml"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(run["train"]["steps"].as_integer(), Some(0));
    let again = place.run(COMMAND);
    assert!(
        again
            .stderr
            .contains("4 trials and 10 cells, 14 of them finished"),
        "{}",
        again.stderr
    );

    fs::remove_dir_all(place.path("compared/cells")).unwrap();
    place.write(
        "compared/cells/films/adamw/1",
        "a file where a folder is expected",
    );
    let failed = place.run(COMMAND);
    let reason = "\nfailed: films, taken tfb, seed 1: films, AdamW, seed 1, whose adapter it takes, failed: ";
    assert!(
        failed.stdout.contains(reason) && failed.stdout.contains("\nown tfb, mean "),
        "{}",
        failed.stdout
    );
    failed.fails_with_result(1, &["error: 5 of the comparison's runs and files failed"]);
}

#[test]
fn several_runs_at_once_come_to_the_same_as_one_after_the_other() {
    let more = "[[method]]\nname = 'Laplace'\ntrained_by = 'AdamW'\n[method.optimizer]\nname = 'laplace'\n";
    let place = place(more);
    place.run(COMMAND).ok();
    let ran = place.run(&format!("{COMMAND} --jobs 3 --out beside"));
    assert!(
        ran.stderr
            .contains(" of memory for each of 3 runs at once; ")
            && ran.stderr.contains("\nfilms, Laplace, seed 2\n"),
        "{}",
        ran.stderr
    );
    ran.ok();
    for file in [
        "films/adamw/1",
        "films/adamw/2",
        "films/ivon/2",
        "films/laplace/1",
        "films/laplace/2",
    ] {
        let predictions = |out: &str| place.read(&format!("{out}/cells/{file}/predictions.jsonl"));
        assert!(predictions("compared") == predictions("beside"), "{file}");
    }
    assert_eq!(
        place.read("compared/trials.json"),
        place.read("beside/trials.json")
    );
    place
        .run(&format!("{COMMAND} --jobs 0"))
        .fails_with(2, &["`jobs` is 0, expected from 1 to 256"]);
}

#[test]
fn a_file_that_is_no_comparison() {
    let place = place("");
    place
        .run("compare nowhere.toml")
        .fails(6, "error: could not read `nowhere.toml`: No such file or directory (os error 2)\n\nhint: check the spelling of the path");
    let refused = |from: &str, to: &str, parts: &[&str]| {
        place.write("other.toml", &FILE.replacen(from, to, 1));
        place.run("compare other.toml").fails_with(2, parts);
    };
    refused(
        "seeds",
        "seds",
        &[
            "`other.toml` is no comparison: ",
            "unknown field `seds`",
            "hint: docs/comparison.md",
        ],
    );
    refused(
        "trials = 2",
        "trials = 0",
        &["`tuning.trials` is 0, expected from 1 to 10,000"],
    );
    refused(
        "name = \"ivon\"",
        "name = \"ivn\"",
        &["the settings of films, IVON, seed 1 are not those of a run"],
    );
    refused(
        "steps = 4",
        "epochs = -1.0",
        &["the cell films, AdamW: `epochs` is `-1`"],
    );
    refused("path = \"model\"", "", &["`model.path` is absent"]);
    place.write(
        "other.toml",
        &FILE.replacen("task = \"sst2\"", "task = \"sst2\"\ntune_share = 0.0", 1),
    );
    place.run("compare other.toml").fails_with(
        3,
        &[
            "the task `films` has no tune rows to choose settings on",
            "hint: add a file named tune",
        ],
    );
}
