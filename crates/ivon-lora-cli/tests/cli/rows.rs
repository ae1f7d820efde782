//! What happens to each row: a line for every one, and a note on those that are left out or
//! shortened.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::helpers::{Place, ProgramOutput};

const PREDICT: &str = "predict --model model --adapter run/adapter --threads 1";

/// Runs the program with something on its standard input.
fn fed(place: &Place, arguments: &str, input: &[u8]) -> ProgramOutput {
    let mut command = place.command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its flags does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    ProgramOutput::of(child.wait_with_output().unwrap())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

#[test]
fn predict_has_a_line_for_every_row_and_strict_is_heard_after_them() {
    let place = Place::new();
    place.train("").ok();
    let rows = "{\"id\": \"a\", \"text\": \"the film was bad\", \"label\": \"perhaps\"}\nbroken\n{\"id\": \"c\", \"text\": null}\n\
                {\"id\": \"d\", \"text\": \"the film was good\", \"label\": -1}\n";
    place.write("new.jsonl", rows);
    let ran = place.run(&format!("{PREDICT} --data new.jsonl"));
    assert!(
        ran.stderr.contains("warning: new.jsonl: 2 of 4 rows are left out: not readable as a row of the task (`new-2`, `c`)\n"),
        "{}",
        ran.stderr
    );
    let found = lines(&ran.ok());
    let ids: Vec<&str> = found
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["a", "new-2", "c", "d"]);
    assert!(
        found[0]["answer"].is_string()
            && found[0]["label"].is_null()
            && found[3]["answer"].is_string()
    );
    assert_eq!(
        found[1]["error"],
        "`new.jsonl` line 2 is malformed: expected value at column 1"
    );
    assert_eq!(
        found[2]["error"],
        "`new.jsonl` line 3: field `text` is null, expected a value"
    );
    let strict = place.run(&format!("{PREDICT} --data new.jsonl --strict"));
    assert_eq!(lines(&strict.stdout), found);
    strict.fails_with_result(
        3,
        &["error: 2 of 4 rows have no answer, the first is `new-2`: `new.jsonl` line 2 is malformed", "hint: each has"],
    );
    place
        .run(&format!("{PREDICT} --data data --strict --quiet"))
        .ok();
}

#[test]
fn a_table_on_standard_input_is_rows_and_columns_go_along() {
    let place = Place::new();
    place.train("").ok();
    let table = "key;text;author\r\nN1;\"good film\r\nreally\";Ann\r\nN2;dull film;Bo\r\n";
    let command = format!("{PREDICT} --id-field key --carry author,key --include-text");
    let ran = fed(&place, &command, table.as_bytes());
    assert!(
        ran.stderr
            .contains("`standard-input`: columns are divided by `;`\n"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("1 row has a quoted field that goes over several lines, the longest over 2 lines from line 2"),
        "{}",
        ran.stderr
    );
    let found = lines(&ran.ok());
    assert_eq!(
        (found.len(), &found[0]["id"], &found[1]["carried"]),
        (
            2,
            &"N1".into(),
            &serde_json::json!({"author": "Bo", "key": "N2"})
        )
    );
    assert!(
        found[0]["prompt"]
            .as_str()
            .unwrap()
            .contains("Review: good film\r\nreally Sentiment:")
    );
    let csv = fed(&place, &format!("{command} --format csv"), table.as_bytes()).ok();
    assert!(
        csv.starts_with("id,answer,confidence,calibrated_confidence,error,label,"),
        "{csv}"
    );
    assert!(
        csv.lines()
            .next()
            .unwrap()
            .ends_with(",prompt,carried.author,carried.key")
            && csv.trim_end().ends_with(",Bo,N2"),
        "{csv}"
    );
    assert_eq!(
        fed(
            &place,
            &format!("{command} --out table.csv --quiet"),
            table.as_bytes()
        )
        .ok(),
        ""
    );
    assert_eq!(place.read("table.csv"), csv);
    // A first line without the task's field is a prompt, unless the format is given.
    let prompts = lines(&fed(&place, PREDICT, b"key,words\nN1,good\n").ok());
    assert_eq!((prompts.len(), &prompts[0]["id"]), (2, &"prompt-1".into()));
    let rows = lines(
        &fed(
            &place,
            &format!("{PREDICT} --input-format csv"),
            b"key,words\nN1,good\n",
        )
        .ok(),
    );
    assert_eq!(
        rows[0]["error"],
        "`standard-input` line 2 has no field `text`, found `key`, `words`"
    );
    fed(
        &place,
        &format!("{command} --carry autor"),
        table.as_bytes(),
    )
    .fails_with(
        3,
        &["error: no row of `standard-input` has a field `autor`"],
    );
    fed(&place, &format!("{PREDICT} --input-format xls"), b"")
        .fails_with(2, &["`--input-format` is `xls`, expected one of `csv`"]);
    fed(&place, PREDICT, b" \n").fails_with(3, &["`standard-input` has no lines"]);
}

#[test]
fn rows_that_are_shortened_are_counted_and_marked() {
    let place = Place::new();
    let long = format!(
        "{{\"id\": \"long\", \"text\": \"{}\", \"label\": 0}}\n",
        "bad ".repeat(60)
    );
    let short = "{\"id\": \"short\", \"text\": \"good\", \"label\": 1}\n{\"id\": \"empty\", \"text\": \" \", \"label\": 1}\n";
    place.write("new.jsonl", &(long + short));
    place.train("--max-length 30").ok();
    for command in [
        "evaluate --model model --adapter run/adapter --threads 1 --data new.jsonl",
        &format!("{PREDICT} --data new.jsonl"),
    ] {
        let ran = place.run(command);
        assert!(
            ran.stderr
                .contains("new.jsonl: 1 of 3 rows is shortened to 30 tokens (`long`)\n"),
            "{}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains(
                "new.jsonl: 1 of 3 rows has no text in a field of the prompt (`empty`)\n"
            ),
            "{}",
            ran.stderr
        );
        ran.ok();
    }
    let found = lines(
        &place
            .run(&format!("{PREDICT} --data new.jsonl --quiet"))
            .ok(),
    );
    assert_eq!(
        (&found[0]["truncated"], found[1].get("truncated")),
        (&true.into(), None)
    );
    let ran = place.run("shift run --to new=new.jsonl --threads 1");
    assert!(
        ran.stderr
            .contains("new: 1 of 3 rows is shortened to 30 tokens (`long`)\n"),
        "{}",
        ran.stderr
    );
    ran.ok();
}

#[test]
fn the_task_s_own_choice_of_rows_is_said_by_every_command() {
    let place = Place::new();
    let row = |id: usize, choices: &str| {
        format!(
            "{{\"id\": \"q{id}\", \"question\": \"which film {id}\", \"choices\": [{choices}], \"answer\": 0}}\n"
        )
    };
    let four = "\"good\", \"bad\", \"dull\", \"fine\"";
    let train: String = (0..20).map(|id| row(id, four)).collect();
    place.write(
        "arc_easy/train.jsonl",
        &(train + &row(20, "\"good\", \"bad\"")),
    );
    place.write(
        "new.jsonl",
        &(row(30, four) + &row(31, "\"good\", \"bad\", \"dull\"") + &row(32, four)),
    );
    let ran = place.run("train --model model --data arc_easy --task arc_easy --scoring answer --out run --steps 2 --samples 1 --threads 1");
    let left_out = |set: &str, all: usize, found: usize, id: &str| {
        format!(
            "{set}: 1 of {all} rows is left out: {found} choices where the task keeps 4 (`{id}`)\n"
        )
    };
    // This tokenizer's vocabulary is too small to tell letters apart, which does not matter here.
    assert!(
        ran.stderr
            .contains(&left_out("the train file", 21, 2, "q20")),
        "{}",
        ran.stderr
    );
    let seen = place.run("inspect data arc_easy").ok();
    assert!(
        seen.contains(&left_out(
            "the train file, as rows of arc_easy",
            21,
            2,
            "q20"
        )),
        "{seen}"
    );
}

#[test]
fn labels_with_two_readings_and_two_files_for_one_role_are_refused_by_name() {
    let place = Place::new();
    let preview = "data preview --model model -k 1 --prompt {text} --label-field good";
    let rows: String = (0..8)
        .map(|row| {
            format!(
                "{{\"text\": \"the film {row}\", \"good\": {}}}\n",
                row % 2 == 1
            )
        })
        .collect();
    place.write("mine.jsonl", &rows);
    let seen = place
        .run(&format!(
            "{preview} --data mine.jsonl --answers Positive,Negative"
        ))
        .ok();
    assert!(
        seen.contains("labels     0 Positive: ") && !seen.contains("left out   1"),
        "{seen}"
    );
    place.run(&format!("{preview} --data mine.jsonl --answers fine,dull")).fails_with(
        3,
        &[
            "`mine.jsonl` line 1: label `false` in field `good` can be read as index `0`, which is `fine` or as a truth value",
            "--label-reading",
        ],
    );
    place
        .run(&format!(
            "{preview} --data mine.jsonl --answers fine,dull --label-reading index"
        ))
        .ok();
    place.write("data/train.csv", "text,label\na,0\n");
    place
        .run("data preview --model model --data data --task sst2")
        .fails_with(
            3,
            &["both `data/train.jsonl` and `data/train.csv` could be the train file"],
        );
}
