//! The commands on a tiny model.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::helpers::{Place, ProgramOutput, exists};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

#[test]
fn a_run_leaves_its_files_and_prints_its_scores() {
    let place = Place::new();
    let ran = place.train("");
    assert!(
        ran.stderr.contains("step 6 of 6: loss ") && ran.stderr.contains("wrote run/adapter\n"),
        "{}",
        ran.stderr
    );
    let out = ran.ok();
    assert!(
        out.starts_with("test (12 examples, of test.jsonl)\n")
            && out.contains("\n2 samples ")
            && out.ends_with("the adapter is in run/adapter\n"),
        "{out}"
    );
    for file in [
        "run.toml",
        "metrics.jsonl",
        "evaluation.json",
        "predictions.jsonl",
        "adapter/posterior.safetensors",
        "adapter/ivon_lora.json",
    ] {
        assert!(exists(place.path("run").join(file)), "{file}");
    }
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let place = Place::new();
    let ran = place.train("--json");
    assert_eq!(ran.stderr, "");
    let events = lines(&ran.ok());
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((of("step"), of("trained")), (6, 1));
    assert!(of("note") > 0 && of("evaluation") > 0 && of("saved") > 0);
    let last = events.last().unwrap();
    assert_eq!(
        (last["event"].as_str(), last["evaluation"]["n"].as_u64()),
        (Some("trained"), Some(12))
    );
}

#[test]
fn quiet_says_nothing_but_the_result() {
    let place = Place::new();
    let ran = place.train("--quiet");
    assert_eq!(ran.stderr, "");
    assert!(ran.ok().starts_with("test (12 examples, of test.jsonl)"));
}

#[test]
fn the_task_is_told_by_the_data_where_none_is_named() {
    let place = Place::new();
    std::fs::rename(place.path("data"), place.path("sst2")).unwrap();
    let ran =
        place.run("train --model model --data sst2 --out run --steps 2 --samples 1 --threads 1");
    assert!(
        ran.stderr
            .starts_with("task: sst2, told by the data; name another with --task\n"),
        "{}",
        ran.stderr
    );
    ran.ok();
}

#[test]
fn an_adapter_and_its_base_are_enough_to_evaluate() {
    let place = Place::new();
    place.train("").ok();
    let out = place
        .run("evaluate --model model --adapter run/adapter --data data --out again --quiet")
        .ok();
    assert!(out.starts_with("test (12 examples)\n"), "{out}");
    let (before, after) = (
        place.json("run/evaluation.json"),
        place.json("again/evaluation.json"),
    );
    assert_eq!(
        (&before["mean"], &before["samples"]),
        (&after["mean"], &after["samples"])
    );
    assert_eq!(
        place.read("run/predictions.jsonl"),
        place.read("again/predictions.jsonl")
    );
    let out = place.run("evaluate --model model --adapter run/adapter --data data --split train --samples 1 --eval-limit 5 --json").ok();
    let last = lines(&out).pop().unwrap();
    assert_eq!(
        (&last["event"], &last["split"], &last["n"]),
        (&"evaluated".into(), &"train".into(), &5.into())
    );
}

#[test]
fn every_method_trains_and_its_folder_predicts_what_the_run_predicted() {
    let place = Place::with_calibrate();
    for name in [
        "ivon",
        "evon",
        "adamw",
        "mc-dropout",
        "swag",
        "laplace",
        "tfb",
        "blob",
        "scalabl",
        "clora",
        "dalorra",
        "last-layer",
        "ensemble",
        "adamw-noise",
    ] {
        let run = format!("run-{name}");
        let train = format!(
            "train --model model --data data --task sst2 --out {run} --steps 6 --samples 2 --threads 1 --quiet"
        );
        place
            .run(&format!(
                "{train} --optimizer {name} --learning-rate 0.01 --choose-scale"
            ))
            .ok();
        assert_eq!(
            exists(place.path(&run).join("members/2/metrics.jsonl")),
            name == "ensemble"
        );
        assert_eq!(
            exists(place.path(&run).join("adapter/posterior.safetensors")),
            name != "adamw"
        );
        let again = place
            .run(&format!(
                "predict --model model --adapter {run}/adapter --data data --quiet"
            ))
            .ok();
        assert_eq!(
            again,
            place.read(&format!("{run}/predictions.jsonl")),
            "{name}"
        );
        let evaluation = place.json(&format!("{run}/evaluation.json"));
        assert_eq!(
            evaluation["samples"].as_array().unwrap().len(),
            if name == "adamw" { 0 } else { 2 },
            "{name}"
        );
        assert!(
            evaluation["at_temperature"]["temperatures"]["mean"]
                .as_f64()
                .unwrap()
                > 0.0,
            "{name}"
        );
        let cost = place.json(&format!("{run}/cost.json"));
        assert!(
            cost["training_seconds"].as_f64().unwrap() > 0.0
                && cost["prediction_seconds"].as_f64().unwrap() > 0.0,
            "{name}"
        );
        let seen = place.run(&format!("inspect adapter {run}/adapter")).ok();
        assert!(
            seen.contains(if name == "adamw" {
                "none: a point estimate"
            } else {
                name
            }),
            "{seen}"
        );
        let page = place.read(&format!("{run}/report.html"));
        assert_eq!(
            page.contains("It is a point estimate: there is no posterior."),
            name == "adamw",
            "{name}"
        );
        assert_eq!(
            page.contains("The posterior is "),
            name != "adamw",
            "{name}"
        );
    }
    let refused = "error: the adapter predicts a matrix between A and B from each input (C-LoRA): there is no W + s B A to merge";
    place
        .run("merge --model model --adapter run-clora/adapter --out merged")
        .fails_with(4, &[refused, "ivon-lora predict"]);
    assert!(
        place
            .read("run-clora/adapter/README.md")
            .contains("It cannot be merged.")
    );
}

#[test]
fn a_variational_last_layer_refuses_whole_answers_before_it_trains() {
    let place = Place::new();
    let refused = "is `last-layer` where answers are scored whole, expected another method, or";
    place
        .run("train --model model --data data --task sst2 --out run --optimizer last-layer --scoring answer --quiet")
        .fails_with(2, &[refused]);
    assert!(!exists(place.path("run/metrics.jsonl")));
}

#[test]
fn a_method_is_fitted_to_an_adapter_that_is_there_as_if_it_had_trained_it() {
    let place = Place::new();
    let command =
        "train --model model --data data --task sst2 --samples 2 --threads 1 --quiet --rank 2";
    place
        .run(&format!("{command} --optimizer adamw --steps 6 --out base"))
        .ok();
    place
        .run(&format!(
            "{command} --optimizer laplace --steps 6 --out whole"
        ))
        .ok();
    // Rank and target modules are those of the folder, whatever the flags say.
    let fit = format!(
        "{} --adapter base/adapter --steps 0",
        command.replace(" --rank 2", "")
    );
    let out = place
        .run(&format!("{fit} --optimizer laplace --out fitted"))
        .ok();
    assert!(
        out.ends_with("\n0 steps; the adapter is in fitted/adapter\n"),
        "{out}"
    );
    assert_eq!(
        place.read("fitted/predictions.jsonl"),
        place.read("whole/predictions.jsonl")
    );
    assert_eq!(place.json("fitted/cost.json")["training_seconds"], 0.0);
    place
        .run("evaluate --model model --adapter fitted/adapter --data data --out again --quiet")
        .ok();
    assert_eq!(
        place.read("again/predictions.jsonl"),
        place.read("whole/predictions.jsonl")
    );
    place
        .run(&format!("{fit} --optimizer laplace --out fitted --resume"))
        .ok();
    place
        .run(&format!("{fit} --optimizer swag --out other"))
        .fails_with(2, &["`steps` is 0 and the posterior of `swag` comes from its steps, expected at least 1", "hint: without a step"]);
    place
        .run(&format!("{command} --optimizer tfb --steps 0 --out other"))
        .fails_with(2, &["no adapter is named"]);
    place
        .run(&format!(
            "{fit} --optimizer mc-dropout --dropout 0 --out other"
        ))
        .fails_with(
            2,
            &["`dropout` is `0`, expected above 0 and below 1 for the method `mc-dropout`"],
        );
}

#[test]
fn prompts_and_rows_are_answered_a_line_each() {
    let place = Place::new();
    place.train("").ok();
    let with_input = |input: &str| {
        let mut command = place.command("predict --model model --adapter run/adapter");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        lines(&ProgramOutput::of(child.wait_with_output().unwrap()).ok())
    };
    let prompts = with_input("the film was bad Sentiment:\nthe story is good Sentiment:\n");
    assert_eq!(prompts.len(), 2);
    for line in &prompts {
        assert!(["Negative", "Positive"].contains(&line["answer"].as_str().unwrap()));
        assert!(["mean", "samples"].contains(&line["answered_with"].as_str().unwrap()));
        for key in [
            "probabilities_at_mean",
            "probabilities",
            "confidence",
            "entropy",
            "mutual_information",
        ] {
            assert!(!line[key].is_null(), "{key}");
        }
    }
    let rows = with_input("{\"id\": \"mine\", \"text\": \"the film was bad\"}\n");
    assert_eq!((rows.len(), rows[0]["id"].as_str()), (1, Some("mine")));
    // The same rows give the predictions that the run itself wrote.
    let from_file = place
        .run("predict --model model --adapter run/adapter --data data --quiet")
        .ok();
    assert_eq!(from_file, place.read("run/predictions.jsonl"));
    assert_eq!(
        place
            .run(
                "predict --model model --adapter run/adapter --data data --out lines.jsonl --quiet"
            )
            .ok(),
        ""
    );
    assert_eq!(place.read("lines.jsonl"), from_file);
}

#[test]
fn a_merged_model_needs_no_adapter() {
    let place = Place::new();
    place.train("").ok();
    let said = place
        .run("merge --model model --adapter run/adapter --out merged --precision f32")
        .ok();
    assert!(
        said.starts_with(
            "wrote merged: 30 tensors (117.6 kB), 6 of them changed by the adapter, by at most "
        ),
        "{said}"
    );
    assert!(exists(place.path("merged/tokenizer.json")));
    let seen: Value = serde_json::from_str(&place.run("inspect model merged --json").ok()).unwrap();
    assert_eq!(
        (
            seen["config"]["model_type"].as_str(),
            seen["parameters"].as_u64()
        ),
        (Some("llama"), Some(29408))
    );
    place
        .run("merge --model model --adapter run/adapter --out merged")
        .fails(
            6,
            "error: `merged` already exists\n\nhint: remove it, or name another with `--out`",
        );
    place
        .run("merge --model model --adapter run/adapter --out other --precision int8")
        .fails(
            2,
            "error: `--precision` is `int8`, expected one of `f32`, `f16`, `bf16`",
        );
}

#[test]
fn inspect_tells_what_is_in_a_model() {
    let seen = Place::new().run("inspect model model").ok();
    let expected = "\
model          model
architecture   llama
parameters     29,408
in the file    117.6 kB (F32: 30 tensors, 117.6 kB)
layers         3 of width 32
mixer          attention, 4 heads of 8, 2 for keys and values
MLP            silu gate, width 48
norms          before both parts
positions      128, rotary base 10000
vocabulary     96
tokenizer      15 tokens, begins with none, ends with none
chat template  no
fingerprint    ";
    assert!(seen.starts_with(expected), "{seen}");
}

#[test]
fn inspect_tells_what_is_in_data() {
    let expected = "\
data: no built-in task is told by the data

data/train.jsonl (train): 40 rows
  fields  id, label, text
  label  0: 20, 1: 20

data/test.jsonl (test): 12 rows
  fields  id, label, text
  label  0: 6, 1: 6
";
    assert_eq!(Place::new().run("inspect data data").ok(), expected);
}

#[test]
fn inspect_tells_what_is_in_an_adapter_and_a_run() {
    let place = Place::new();
    place.train("--recipe paper").ok();
    let adapter = place.run("inspect adapter run/adapter").ok();
    for part in [
        "base           model\n",
        "made for       task sst2, prompts of at most 320 tokens\n",
        "posterior      variance of ivon: effective sample size 1000000, scale 1, weight decay 0\n",
    ] {
        assert!(adapter.contains(part), "{part}: {adapter}");
    }
    // σ₀ = 1/√(10⁶ · 10⁻³) = 0.0316, from which six steps hardly move the median.
    assert_eq!(
        adapter
            .lines()
            .filter(|line| line.contains("  3.16e-2  ") || line.contains("  3.17e-2  "))
            .count(),
        3,
        "{adapter}"
    );
    let run = place.run("inspect run run").ok();
    for part in [
        "model      model\n",
        "optimizer  ivon, learning rate 0.03\n",
        "\n2 samples ",
        "\nclass     rows  answered  precision  recall ",
        "\nlabel     answered Negative  answered Positive\n",
        "has 50.0 % of the rows, the accuracy of a guess without a model",
        "remedy: ",
    ] {
        assert!(run.contains(part), "{part}: {run}");
    }
    let json: Value = serde_json::from_str(&place.run("inspect run run --json").ok()).unwrap();
    assert_eq!(
        (
            json["last_step"]["step"].as_u64(),
            json["evaluation"]["n"].as_u64()
        ),
        (Some(6), Some(12))
    );
}

#[test]
fn a_preview_shows_what_the_model_reads() {
    let place = Place::new();
    let seen = place
        .run("data preview --model model --data data --task sst2 --role test -k 1")
        .ok();
    let expected = "\
test-0
  prompt  Is the sentiment of this review Negative or Positive? Review: the film was bad test 0 Sentiment:
  tokens  0:\"<unk>\" 7:\"the\" ";
    assert!(
        seen.starts_with(expected)
            && seen
                .ends_with("labels     0 Negative: 6, 1 Positive: 6\nshortened  0\nleft out   0\n"),
        "{seen}"
    );
    let json: Value = serde_json::from_str(
        &place
            .run("data preview --model model --data data --task sst2 --json")
            .ok(),
    )
    .unwrap();
    assert_eq!(json["examples"].as_array().unwrap().len(), 3);
    place.run("data preview --data data").fails(
        2,
        "error: no model is named\n\nhint: its tokenizer reads the prompts: name it with `--model`",
    );
}

#[test]
fn a_preview_of_conversations_brackets_what_is_trained_on() {
    let place = Place::new();
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}";
    place.write("chat.jinja", template);
    let row = |question: &str, answer: &str| {
        json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
            .to_string()
    };
    let rows = [
        row("the film", "was good"),
        row("the story", "was bad"),
        row("", ""),
    ];
    place.write("chats/test.jsonl", &rows.join("\n"));
    let train: Vec<String> = (0..6)
        .map(|index| row(&format!("a film {index}"), "was dull"))
        .collect();
    place.write("chats/train.jsonl", &train.join("\n"));
    let seen = place
        .run("data preview --model model --data chats --chat-template=chat.jinja -k 1 --role test");
    let said = &seen.stderr;
    assert!(said.contains("task: chat, told by the data"), "{said}");
    let expected = "\
test-1
  tokens  7:\"the\" 5:\"film\" [9:\"was\" 3:\"good\"]

examples   2
tokens     min 4, median 4, 90 % 4, max 4
trained on 4 tokens (17 bytes), read only 4
cut        0
no text in a field: 1 (`test-3`)
left out   1
  1 row: no token to train on (`test-3`)
";
    assert_eq!(seen.ok(), expected);
}

#[test]
fn a_chat_template_of_a_file_is_kept_with_the_adapter() {
    let place = Place::new();
    let template = "{% for m in messages %}Review: {{ m.content }} good{% endfor %}";
    place.write("chat.jinja", template);
    let preview = place
        .run("data preview --model model --data data --task sst2 --chat-template=chat.jinja -k 1")
        .ok();
    assert!(
        preview.contains("  prompt  Review: Is the sentiment")
            && preview.contains("Sentiment: good\n"),
        "{preview}"
    );
    place.train("--chat-template=chat.jinja").ok();
    assert!(
        place
            .read("run/run.toml")
            .contains("chat_template = \"chat.jinja\"")
    );
    let kept = place.json("run/adapter/ivon_lora.json");
    assert_eq!(
        (&kept["chat_template"], kept["chat_template_text"].as_str()),
        (&true.into(), Some(template))
    );

    // The stored text is used, not the file.
    std::fs::rename(place.path("chat.jinja"), place.path("moved.jinja")).unwrap();
    place
        .run("evaluate --model model --adapter run/adapter --data data --out again --quiet")
        .ok();
    assert_eq!(
        place.read("run/predictions.jsonl"),
        place.read("again/predictions.jsonl")
    );

    // An adapter without a stored template uses that of the flag.
    std::fs::remove_file(place.path("run/adapter/ivon_lora.json")).unwrap();
    let asked = "evaluate --model model --adapter run/adapter --data data --task sst2 --samples 0 --quiet --out";
    place
        .run(&format!("{asked} with --chat-template=moved.jinja"))
        .ok();
    place.run(&format!("{asked} without")).ok();
    let mean =
        |folder: &str| place.json(&format!("{folder}/evaluation.json"))["mean"]["nll"].as_f64();
    assert_eq!(mean("with"), mean("again"));
    assert_ne!(mean("without"), mean("again"));
}

#[test]
fn a_chat_template_is_looked_at_before_work_begins() {
    let place = Place::new();
    let hint = "\n\nhint: leave `--chat-template` off, ";
    place.train("--chat-template").fails_with(
        3,
        &["error: the model's tokenizer has no chat template", hint],
    );
    place.write("broken.jinja", "{% if %}");
    place
        .train("--chat-template=broken.jinja")
        .fails_with(3, &["error: the chat template failed: syntax error", hint]);
    place.write("endless.jinja", "{{ 'a' * 10**9 }}");
    let parts = [
        "error: the chat template failed: it takes more steps, or makes more text, than a prompt needs",
        hint,
    ];
    place
        .run(
            "train --model model --data data --task sst2 --out other --chat-template=endless.jinja",
        )
        .fails_with(3, &parts);
    assert!(
        place
            .train("--chat-template=none.jinja")
            .stderr
            .contains("`none.jinja`")
    );
}

#[test]
fn without_model_and_data_the_toy_is_trained_by_both_optimizers() {
    let place = Place::new();
    let ran = place.run("train --steps 2 --samples 1 --train-limit 20 --eval-limit 20 --threads 1");
    assert!(
        ran.stderr
            .starts_with("no model and no data are named: training the built-in toy\n"),
        "{}",
        ran.stderr
    );
    let out = ran.ok();
    for part in [
        "built-in toy, 20 made-up questions",
        "\nIVON, mean ",
        "\nIVON, 1 samples ",
        "\nAdamW ",
        "--model HuggingFaceTB/",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(
        exists(place.path("runs/toy/ivon/adapter")) && exists(place.path("runs/toy/adamw/adapter"))
    );
    // A second attempt is not an error, and a single optimizer can be requested.
    place.run("train --optimizer adamw --steps 2 --train-limit 20 --eval-limit 20 --threads 1 --quiet").ok();
    assert!(exists(place.path("runs/toy-2/adamw")) && !exists(place.path("runs/toy-2/ivon")));
    // One that the toy has no settings for is trained with its own.
    place.run("train --optimizer dalorra --steps 2 --train-limit 20 --eval-limit 20 --samples 1 --threads 1 --quiet").ok();
    assert!(exists(place.path("runs/toy-3/dalorra/adapter")));
}
