//! Flags, files, help.

use std::io::Write;
use std::process::Stdio;

use crate::helpers::{Place, ProgramOutput};

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::new();
    let help = place.run("--help").ok();
    for command in [
        "train",
        "evaluate",
        "predict",
        "generate",
        "chat",
        "merge",
        "inspect",
        "compare",
        "scale",
        "decide",
        "prune",
        "shift",
        "report",
        "data",
        "init",
        "completions",
        "Exit codes",
    ] {
        assert!(help.contains(command), "{command}");
    }
    assert_eq!(
        place.run("--version").ok(),
        format!("ivon-lora {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        place
            .run("train --help")
            .ok()
            .contains("--posterior-sd <X>")
    );
    assert!(
        place
            .run("data preview --help")
            .ok()
            .contains("-k, --count <N>")
    );
}

#[test]
fn what_is_mistyped_is_named_with_what_may_be_meant() {
    let place = Place::new();
    place.run("trian").fails(
        2,
        "error: unknown command `trian`\n\nhint: did you mean `train`?",
    );
    place.run("train --learning-rat 1").fails(
        2,
        "error: unknown argument `--learning-rat`\n\nhint: did you mean `--learning-rate`?",
    );
    place.run("train --optimizer ivan").fails(
        2,
        "error: `--optimizer` is `ivan`, expected one of `ivon`, `evon`, `adamw`, `mc-dropout`, `swag`, `laplace`, `tfb`, `blob`, `scalabl`, `clora`, `dalorra`, `last-layer`, \
         `ensemble`, `adamw-noise`\n\nhint: did you mean `ivon`?",
    );
    place.run("train --model model --data data --task ss2").fails(
        2,
        "error: unknown task `ss2`, expected one of `winogrande_s`, `winogrande_m`, `arc_easy`, `arc_challenge`, `openbookqa`, `boolq`, \
         `sst2`, `rte`, `multiple_choice`, `chat`, `completion`, `text`\n\nhint: did you mean `sst2`?",
    );
    place.run("evaluate --model model --adapter a --data data --device cpuu").fails(
        2,
        "error: `--device` is `cpuu`, expected one of `cpu`, `cuda`, `rocm`, `metal`, `vulkan`, `wgpu`\n\nhint: did you mean `cpu`?",
    );
    place.run("evaluate --model model --adapter a --data data --split tests").fails(
        2,
        "error: `--split` is `tests`, expected one of `train`, `tune`, `calibrate`, `validation`, `test`\n\nhint: did you mean `test`?",
    );
}

#[test]
fn an_unknown_key_of_the_file_is_named_with_its_line() {
    let place = Place::new();
    place.write("run.toml", "seed = 1\n[train]\nstep = 3\n");
    place
        .run("train --config run.toml")
        .fails(2, "error: `run.toml` line 3: unknown key `step` in the table `[train]`\n\nhint: did you mean `steps`?");
    place
        .run("train --config nowhere.toml")
        .fails(2, "error: could not read `nowhere.toml`: No such file or directory (os error 2)\n\nhint: check the spelling of the path");
}

#[test]
fn a_flag_of_another_optimizer_is_refused() {
    Place::new()
        .run("train --model model --data data --optimizer adamw --clip-radius 1")
        .fails(2, "error: the optimizer `adamw` has no `--clip-radius`\n\nhint: leave it away, or choose `--optimizer ivon` or `--optimizer evon`");
}

#[test]
fn init_writes_a_file_that_a_dry_run_resolves_and_flags_override() {
    let place = Place::new();
    assert_eq!(
        place
            .run("init --model model --data data --task sst2 --out run.toml")
            .ok(),
        ""
    );
    place.run("init --out run.toml").fails(
        6,
        "error: `run.toml` already exists\n\nhint: remove it, or name another with `--out`",
    );
    let resolved = place
        .run("train --config run.toml --steps 7 --posterior-sd 0.01 --dry-run")
        .ok();
    for line in [
        "steps = 7",
        "posterior_sd = 0.01",
        "path = \"model\"",
        "path = \"data\"",
        "task = \"sst2\"",
        "out = \"runs/sst2-ivon-0\"",
    ] {
        assert!(resolved.lines().any(|found| found == line), "{line}");
    }
    // A resolved run resolves to itself.
    place.write("resolved.toml", &resolved);
    assert_eq!(
        place.run("train --config resolved.toml --dry-run").ok(),
        resolved
    );
}

#[test]
fn completions_are_written_for_each_shell() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(
            place
                .run(&format!("completions {shell}"))
                .ok()
                .contains("ivon-lora"),
            "{shell}"
        );
    }
}

#[test]
fn a_reader_who_leaves_early_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command("completions zsh")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = ProgramOutput::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_full_device_under_standard_output_is_an_error() {
    let place = Place::new();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = place.command("init").stdout(full).output().unwrap();
    let ran = ProgramOutput::of(output);
    assert_eq!(ran.code, 6);
    assert!(
        ran.stderr
            .starts_with("error: could not write to standard output: No space left on device"),
        "{}",
        ran.stderr
    );
}

#[test]
fn standard_input_without_lines_is_an_error() {
    let place = Place::new();
    place.train("").ok();
    let mut child = place
        .command("predict --model model --adapter run/adapter")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    ProgramOutput::of(child.wait_with_output().unwrap())
        .fails(3, "error: `standard-input` has no lines\n\nhint: give one prompt or one JSON object on each line");
}
