//! Adapters for other programs, and draws as adapters.

use serde_json::Value;

use crate::helpers::Place;

/// The averaged probabilities of the test rows, `[N][C]`.
fn probabilities(lines: &str, key: &str) -> Vec<Vec<f64>> {
    let row = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let row = line[key].as_array().unwrap().iter();
        row.map(|p| p.as_f64().unwrap()).collect()
    };
    lines.lines().map(row).collect()
}

#[test]
fn averaged_draws_of_a_folder_each_are_the_adapter_s_own_average() {
    let place = Place::new();
    place.run("train --model model --data data --task sst2 --out run --steps 6 --samples 3 --threads 1").ok();
    let whole = place.read("run/predictions.jsonl");
    place
        .run("sample --model model --adapter run --draws 3 --out draws")
        .ok();
    let of_draw = |number: usize| {
        let command = format!(
            "evaluate --model model --adapter draws/draw-{number} --data data/test.jsonl --out scores-{number}"
        );
        place.run(&command).ok();
        let lines = place.read(&format!("scores-{number}/predictions.jsonl"));
        probabilities(&lines, "probabilities_at_mean")
    };
    let draws = [0, 1, 2].map(of_draw);
    assert_ne!(draws[0], draws[1]);
    for (row, averaged) in probabilities(&whole, "probabilities").iter().enumerate() {
        for (choice, p) in averaged.iter().enumerate() {
            let mean = draws.iter().map(|draw| draw[row][choice]).sum::<f64>() / 3.0;
            assert!((mean - p).abs() < 1e-6, "{mean} {p}");
        }
    }
    place
        .run("sample --model model --adapter run --draws 0 --out none")
        .fails(
            2,
            "error: `--draws` is `0`, expected a whole number from 1 to 1000",
        );
    place
        .run("export --model model --adapter run --format onnx --out none")
        .fails_with(
            2,
            &["error: `--format` is `onnx`, expected one of `peft`, `gguf`, `mlx`"],
        );
    place
        .run("sample --model model --adapter draws/draw-0 --draws 3 --out more")
        .fails_with(
            4,
            &["draws of this posterior are no adapters: it is a point estimate"],
        );
}

#[test]
fn an_adapter_is_written_for_llama_cpp_and_mlx_and_nothing_is_overwritten() {
    let place = Place::new();
    place.train("--optimizer adamw").ok();
    for (format, out, file) in [
        ("gguf", "a.gguf", "a.gguf"),
        ("mlx", "mlx", "mlx/adapters.safetensors"),
        ("peft", "peft", "peft/adapter_config.json"),
    ] {
        let command = format!("export --model model --adapter run --format {format} --out {out}");
        let said: Value =
            serde_json::from_str(&place.run(&format!("{command} --json")).ok()).unwrap();
        assert_eq!(
            (&said["format"], &said["out"]),
            (&Value::from(format), &Value::from(out))
        );
        assert!(place.path(file).exists());
        let again = place.run(&command);
        assert!(
            again.code != 0 && again.stderr.contains(out),
            "{}",
            again.stderr
        );
    }
    let file = std::fs::read(place.path("a.gguf")).unwrap();
    let has = |words: &str| {
        file.windows(words.len())
            .any(|part| part == words.as_bytes())
    };
    assert!(has("adapter.lora.alpha") && has("blk.0.attn_q.weight.lora_b"));
}

#[test]
fn adapters_of_llama_cpp_and_mlx_lm_answer_as_the_adapter_that_they_were_made_from() {
    let place = Place::new();
    place.train("--optimizer adamw").ok();
    let answers = |adapter: &str| {
        let command = format!(
            "evaluate --model model --adapter {adapter} --data data/test.jsonl --task sst2 --out scores-{adapter}"
        );
        place.run(&command).ok();
        let lines = place.read(&format!("scores-{adapter}/predictions.jsonl"));
        probabilities(&lines, "probabilities_at_mean")
    };
    let export = |from: &str, format: &str, out: &str| {
        let command =
            format!("export --model model --adapter {from} --format {format} --out {out}");
        place.run(&command).ok();
        answers(out)
    };
    let own = export("run", "peft", "peft");
    for (format, out) in [("gguf", "a.gguf"), ("mlx", "mlx")] {
        let imported = export("run", format, out);
        let again = export(out, "peft", &format!("peft-of-{format}"));
        assert_eq!(imported, again);
        for (own, found) in own.iter().flatten().zip(imported.iter().flatten()) {
            assert!((own - found).abs() < 1e-6, "{format}: {own} {found}");
        }
    }
    place
        .run("predict --adapter a.gguf --task sst2 --text x")
        .fails_with(2, &["`--model` is absent, and `a.gguf` names no base"]);
    let model = "evaluate --model model --adapter model/model.safetensors --data data/test.jsonl";
    assert!(place.run(model).code != 0);
}
