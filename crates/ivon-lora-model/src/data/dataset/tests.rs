//! Files and settings → examples in their roles, and what is said of them.

use std::collections::HashSet;

use super::*;
use crate::data::read::testing::{ARC, Column, write};
use crate::data::{Choices, encode_all, load_file};
use std::fs;
use std::path::PathBuf;

/// A folder with files, and a config for a task of two fields: `text` and `label`.
fn folder_of(files: &[(&str, String)]) -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let config = DataConfig {
        path: folder.path().into(),
        prompt: Some("{text}:".into()),
        answers: Some(vec!["no".into(), "yes".into()]),
        ..DataConfig::default()
    };
    (folder, config)
}

fn loaded(config: &DataConfig) -> Result<Dataset, DataError> {
    load(config, &Task::from_config(config)?)
}

/// JSONL rows with ids `name-0`, `name-1`, … and texts of their own.
fn rows(name: &str, count: usize) -> String {
    (0..count)
        .map(|row| {
            format!(
                "{{\"id\": \"{name}-{row}\", \"text\": \"{name} text {row}\", \"label\": {}}}\n",
                row % 2
            )
        })
        .collect()
}

fn counts(dataset: &Dataset) -> [usize; 4] {
    Role::ALL.map(|role| dataset.role(role).len())
}

#[test]
fn a_single_file_is_carved_into_four_roles_and_the_ids_name_them() {
    let (folder, mut config) = folder_of(&[("mine.jsonl", rows("a", 100))]);
    config.path = folder.path().join("mine.jsonl");
    let dataset = loaded(&config).unwrap();
    assert_eq!(counts(&dataset), [60, 10, 10, 20]);
    assert_eq!(
        dataset.report.carved,
        [Role::Tune, Role::Calibrate, Role::Test]
    );
    let ids = dataset.ids();
    let mut all: Vec<&String> = [&ids.train, &ids.tune, &ids.calibrate, &ids.test]
        .into_iter()
        .flatten()
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
    assert_eq!(loaded(&config).unwrap().ids(), ids);
    config.seed = 1;
    assert_ne!(loaded(&config).unwrap().ids(), ids);
    let again: RoleIds = serde_json::from_str(&serde_json::to_string(&ids).unwrap()).unwrap();
    assert_eq!(again, ids);
}

#[test]
fn validation_is_the_test_set_where_there_is_no_other_and_tune_where_there_is() {
    let (_folder, config) =
        folder_of(&[("train.jsonl", rows("a", 20)), ("dev.jsonl", rows("b", 5))]);
    let dataset = loaded(&config).unwrap();
    assert_eq!(counts(&dataset), [16, 2, 2, 5]);
    assert!(dataset.report.validation_is_test && dataset.test[0].id == "b-0");
    assert!(dataset.report.notes[0].contains("validation is the test set"));
    let (_folder, mut config) = folder_of(&[
        ("train.jsonl", rows("a", 20)),
        ("validation.jsonl", rows("b", 5)),
        ("test.jsonl", rows("c", 6)),
    ]);
    let dataset = loaded(&config).unwrap();
    assert_eq!(counts(&dataset), [18, 5, 2, 6]);
    assert_eq!(
        (
            dataset.report.sources[&Role::Tune],
            dataset.report.validation_is_test
        ),
        (Split::Validation, false)
    );
    config.test_from = Some(Split::Validation);
    let dataset = loaded(&config).unwrap();
    assert_eq!(
        (counts(&dataset), dataset.test[0].id.as_str()),
        ([16, 2, 2, 5], "b-0")
    );
    assert_eq!(dataset.report.files.len(), 2, "test.jsonl is not even read");
}

#[test]
fn a_test_file_without_public_labels_is_set_aside() {
    let blind = "{\"text\": \"x\", \"label\": -1}\n{\"text\": \"y\"}\n";
    let files = |test: &str| {
        folder_of(&[
            ("train.jsonl", rows("a", 9)),
            ("dev.jsonl", rows("b", 5)),
            ("test.jsonl", test.into()),
        ])
    };
    let (_folder, config) = files(blind);
    let dataset = loaded(&config).unwrap();
    assert!(dataset.report.test_is_unlabelled && dataset.report.validation_is_test);
    assert_eq!(dataset.test.len(), 5);
    let (_folder, config) =
        files("{\"text\": \"x\", \"label\": 1}\n{\"text\": \"y\", \"label\": null}\n");
    let message = loaded(&config).unwrap_err().to_string();
    assert!(
        message.ends_with("test.jsonl` line 2 has no label in field `label`"),
        "{message}"
    );
    let (_folder, config) = files("{\"text\": \"x\"}\n{\"text\": \"y\", \"label\": 0}\n");
    let message = loaded(&config).unwrap_err().to_string();
    assert!(
        message.ends_with("test.jsonl` line 1 has no field `label`, found `text`"),
        "{message}"
    );
}

#[test]
fn a_training_row_that_is_in_the_test_file_is_left_out_and_counted() {
    let twin = "{\"id\": \"twin\", \"text\": \"c text 1\", \"label\": 0}\n";
    let (_folder, config) = folder_of(&[
        ("train.jsonl", twin.to_string() + &rows("a", 9)),
        ("dev.jsonl", rows("b", 5) + twin),
        ("test.jsonl", rows("c", 6)),
    ]);
    let dataset = loaded(&config).unwrap();
    assert_eq!(counts(&dataset), [8, 5, 1, 6]);
    let reasons: Vec<_> = dataset
        .report
        .dropped
        .iter()
        .map(|(reason, rows)| (reason.to_string(), rows.count))
        .collect();
    assert_eq!(
        reasons,
        [("the same prompt is in the test file".to_string(), 2)]
    );
    let report = serde_json::to_value(&dataset.report).unwrap();
    let rows = serde_json::json!({"count": 2, "first": ["twin", "twin"]});
    assert_eq!(
        report["dropped"]["the same prompt is in the test file"],
        rows
    );
    let expected = "train: 1 of 10 rows is left out: the same prompt is in the test file (`twin`)";
    assert!(
        dataset.report.notes.iter().any(|note| note == expected),
        "{:?}",
        dataset.report.notes
    );
    assert_eq!(report["files"][0]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn groups_stay_whole_within_and_across_files() {
    let grouped = |name: &str, count: usize, size: usize| -> String {
        let row = |row: usize| {
            format!(
                "{{\"text\": \"{name}{row}\", \"label\": 0, \"author\": {}}}\n",
                row / size
            )
        };
        (0..count).map(row).collect()
    };
    let (_folder, mut config) = folder_of(&[("train.jsonl", grouped("a", 60, 3))]);
    config.group_field = Some("author".into());
    let dataset = loaded(&config).unwrap();
    let authors = |role| {
        dataset
            .role(role)
            .iter()
            .map(|example| example.group.clone().unwrap())
            .collect::<HashSet<_>>()
    };
    let distinct: usize = Role::ALL.iter().map(|role| authors(*role).len()).sum();
    assert_eq!((distinct, counts(&dataset).iter().sum::<usize>()), (20, 60));
    let (_folder, mut config) = folder_of(&[
        ("train.jsonl", grouped("a", 60, 3)),
        ("test.jsonl", grouped("b", 4, 2)),
    ]);
    config.group_field = Some("author".into());
    let dataset = loaded(&config).unwrap();
    assert_eq!(
        dataset
            .report
            .dropped
            .iter()
            .map(|(reason, rows)| (reason.clone(), rows.count))
            .collect::<Vec<_>>(),
        [(DropReason::GroupAlsoIn(Role::Test), 6)]
    );
    config.group_field = Some("writer".into());
    assert!(
        loaded(&config)
            .unwrap_err()
            .to_string()
            .contains("has no field `writer`, found `text`, `label`, `author`")
    );
}

#[test]
fn limits_take_the_first_rows_of_the_file_and_carving_spares_them() {
    let (_folder, mut config) = folder_of(&[
        ("train.jsonl", rows("a", 100)),
        ("dev.jsonl", rows("b", 50)),
    ]);
    (config.train_limit, config.eval_limit) = (Some(40), Some(7));
    let dataset = loaded(&config).unwrap();
    assert_eq!(counts(&dataset), [40, 7, 7, 7]);
    let expected: Vec<String> = (0..40).map(|row| format!("a-{row}")).collect();
    assert_eq!(dataset.ids().train, expected);
    assert_eq!(dataset.report.beyond_limit[&Role::Test], 43);
}

#[test]
fn a_folder_without_a_training_file_serves_for_evaluation_only() {
    let (_folder, config) = folder_of(&[("test.jsonl", rows("c", 6))]);
    let dataset = loaded(&config).unwrap();
    assert_eq!(counts(&dataset), [0, 0, 0, 6]);
    let error = dataset.required(Role::Train).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the train role has no rows: no file is named train"
    );
    assert_eq!(dataset.required(Role::Test).unwrap().len(), 6);
}

#[test]
fn an_empty_file_and_a_set_of_which_nothing_is_left_are_errors() {
    let (_folder, config) = folder_of(&[("train.jsonl", String::new())]);
    let message = loaded(&config).unwrap_err().to_string();
    assert!(message.ends_with("train.jsonl` has no rows"), "{message}");
    let (_folder, mut config) = folder_of(&[(
        "test.jsonl",
        "{\"question\": \"\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n".into(),
    )]);
    (config.task, config.prompt, config.answers) = (Some("arc_easy".into()), None, None);
    let message = loaded(&config).unwrap_err().to_string();
    assert!(
        message.contains("1 rows left out: 2 choices where the task keeps 4"),
        "{message}"
    );
    let (_folder, config) = folder_of(&[("train.jsonl", rows("a", 2))]);
    assert!(matches!(
        loaded(&config),
        Err(DataError::TooFewRows {
            found: 2,
            needed: 4,
            ..
        })
    ));
}

#[test]
fn the_same_questions_as_hub_parquet_and_as_authors_jsonl_give_the_same_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test-00000-of-00001.parquet");
    let texts = vec![
        vec!["sun.", "moon", "earth", "mars"],
        vec!["x", "y", "z", "w"],
    ];
    let labels = vec![vec!["A", "B", "C", "D"], vec!["1", "2", "3", "4"]];
    let (ids, questions, keys) = (
        vec!["p", "q"],
        vec!["Which star?", "Which letter?"],
        vec!["A", "3"],
    );
    write(
        &path,
        ARC,
        vec![
            Column::Texts(ids),
            Column::Texts(questions),
            Column::Lists(texts),
            Column::Lists(labels),
            Column::Texts(keys),
        ],
    );
    let jsonl = folder.path().join("test.jsonl");
    fs::write(
        &jsonl,
        r#"{"id":"p","question":{"stem":"Which star?","choices":[{"text":"sun.","label":"A"},{"text":"moon","label":"B"},{"text":"earth","label":"C"},{"text":"mars","label":"D"}]},"answerKey":"A"}
{"id":"q","question":{"stem":"Which letter?","choices":[{"text":"x","label":"1"},{"text":"y","label":"2"},{"text":"z","label":"3"},{"text":"w","label":"4"}]},"answerKey":"3"}"#,
    )
    .unwrap();
    let task = Task::named("arc_challenge").unwrap();
    let (hub, authors) = (
        load_file(&path, &task).unwrap(),
        load_file(&jsonl, &task).unwrap(),
    );
    assert_eq!(hub.examples, authors.examples);
    assert_eq!(hub.examples[1].label, Some(2));
    assert!(
        hub.examples[0]
            .prompt
            .text()
            .ends_with("Choices: A. Sun. B. Moon. C. Earth. D. Mars. Answer:")
    );
}

#[test]
fn glue_s_tsv_and_the_hub_s_parquet_of_sst2_and_rte_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let tsv = folder.path().join("train.tsv");
    fs::write(
        &tsv,
        "sentence\tlabel\nhide new secretions \t0\n\"bold\" \t1\n",
    )
    .unwrap();
    let task = Task::named("sst2").unwrap();
    let glue = load_file(&tsv, &task).unwrap().examples;
    let parquet = folder.path().join("train.parquet");
    let schema = "message m { REQUIRED BYTE_ARRAY sentence (UTF8); REQUIRED INT64 label; REQUIRED INT64 idx; }";
    let columns = vec![
        Column::Texts(vec!["hide new secretions ", "\"bold\" "]),
        Column::Numbers(vec![0, 1]),
        Column::Numbers(vec![0, 1]),
    ];
    write(&parquet, schema, columns);
    let hub = load_file(&parquet, &task).unwrap().examples;
    for (one, other) in glue.iter().zip(&hub) {
        assert_eq!((&one.prompt, one.label), (&other.prompt, other.label));
    }
    assert_eq!(
        (glue[0].id.as_str(), hub[1].id.as_str(), hub[1].label),
        ("train-2", "train-1", Some(1))
    );
    fs::write(&tsv, "index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is wet.\tentailment\n1\tA.\tB.\tnot_entailment\n").unwrap();
    let rte = load_file(&tsv, &Task::named("rte").unwrap())
        .unwrap()
        .examples;
    assert_eq!(
        rte.iter().map(|example| example.label).collect::<Vec<_>>(),
        [Some(0), Some(1)]
    );
    assert!(
        rte[0]
            .prompt
            .text()
            .ends_with("First: It rains. Second: It is wet. Answer:")
    );
}

#[test]
fn boolq_of_authors_and_superglue_and_winogrande_s_options_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.jsonl");
    fs::write(
        &path,
        "{\"question\": \"is it\", \"title\": \"It\", \"answer\": true, \"passage\": \"p\"}\n{\"question\": \"is it\", \"passage\": \"p\", \"idx\": 1, \"label\": 1}\n\
         {\"question\": \"is it\", \"passage\": \"p\", \"idx\": 2, \"label\": false}\n",
    )
    .unwrap();
    let boolq = load_file(&path, &Task::named("boolq").unwrap())
        .unwrap()
        .examples;
    assert_eq!(
        boolq
            .iter()
            .map(|example| example.label)
            .collect::<Vec<_>>(),
        [Some(1), Some(1), Some(0)]
    );
    fs::write(&path, "{\"qID\": \"3-1\", \"sentence\": \"The _ won.\", \"option1\": \"cat\", \"option2\": \"dog\", \"answer\": \"2\"}\n")
        .unwrap();
    let winogrande = load_file(&path, &Task::named("winogrande_m").unwrap())
        .unwrap()
        .examples;
    assert_eq!(
        (winogrande[0].id.as_str(), winogrande[0].label),
        ("3-1", Some(1))
    );
    assert!(
        winogrande[0]
            .prompt
            .text()
            .ends_with("The _ won. Choices: A. cat. B dog. Answer:")
    );
}

/// Where the public data sets lie, see the README there; none if they are not on this machine.
fn public_data() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let folder = std::env::var_os("IVON_LORA_DATA").map_or_else(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!(
            "skipped: no public data at `{}`, set IVON_LORA_DATA",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

/// Rows kept, and the first 16 hexadecimal digits of the SHA-256 over `prompt TAB label LF` of each
/// of them, made with the functions `prompt` and `sentence` of the reference `finetune.py` over the
/// files of the public data.
const REFERENCE: [(&str, &str, usize, &str); 20] = [
    ("winogrande_s", "train", 640, "abd53015008f0c5d"),
    ("winogrande_s", "validation", 1267, "00ccc1b848f388c3"),
    ("winogrande_m", "train", 2558, "d09d412d5a75d074"),
    ("winogrande_m", "validation", 1267, "00ccc1b848f388c3"),
    ("arc_easy", "train", 2241, "e8a7f6fc8abde667"),
    ("arc_easy", "validation", 567, "0ffc8af357a9f0f0"),
    ("arc_easy", "test", 2365, "6878a48e5e756354"),
    ("arc_challenge", "train", 1117, "09a05a2a491e5311"),
    ("arc_challenge", "validation", 295, "a45ccb1c8f9974d1"),
    ("arc_challenge", "test", 1165, "7884c9e80433aa3d"),
    ("openbookqa", "train", 4957, "87827d1e726637a3"),
    ("openbookqa", "validation", 500, "4eed89f6d1b90dcd"),
    ("openbookqa", "test", 500, "abbaf27745417fc1"),
    ("boolq", "train", 2000, "d64b8817dfb4459d"),
    ("boolq", "validation", 3270, "b1bade0a5dd24068"),
    ("rte", "train", 2490, "48daea7404310976"),
    ("rte", "validation", 277, "974c5173f2b6caa4"),
    ("sst2", "train", 8000, "4c6187bb6aa071fd"),
    ("sst2", "validation", 872, "e03320ae73432abb"),
    ("mmlu_physics", "test", 253, "f83229247afd5c16"),
];

#[test]
fn every_prompt_of_the_public_data_is_the_reference_s() {
    let Some(folder) = public_data() else { return };
    for (name, split, count, digits) in REFERENCE {
        let task = Task::named(if name.starts_with("mmlu") {
            "multiple_choice"
        } else {
            name
        })
        .unwrap();
        let source = load_file(&folder.join(name).join(format!("{split}.jsonl")), &task).unwrap();
        let mut hash = Sha256::new();
        for example in &source.examples {
            hash.update(format!(
                "{}\t{}\n",
                example.prompt.text(),
                example.label.unwrap()
            ));
        }
        let found: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            (source.examples.len(), found.as_str()),
            (count, digits),
            "{name}/{split}"
        );
    }
}

#[test]
fn the_public_data_divide_into_roles_without_leaks() {
    let Some(folder) = public_data() else { return };
    for (name, expected) in [
        ("arc_easy", [2015, 567, 224, 2365]),
        ("sst2", [6400, 800, 800, 872]),
        ("boolq", [1600, 200, 200, 3270]),
    ] {
        let config = DataConfig {
            path: folder.join(name),
            task: Some(name.into()),
            ..DataConfig::default()
        };
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), expected, "{name}");
        let mut seen: BTreeMap<String, Role> = BTreeMap::new();
        for role in Role::ALL {
            for example in dataset.role(role) {
                let before = seen.insert(example.prompt.text(), role);
                assert!(
                    before.is_none_or(|before| before == role),
                    "{name}: {}",
                    example.id
                );
            }
        }
    }
    let config = DataConfig {
        path: folder.join("mmlu_physics"),
        task: Some("multiple_choice".into()),
        ..DataConfig::default()
    };
    assert_eq!(counts(&loaded(&config).unwrap()), [0, 10, 0, 253]);
}

#[test]
fn a_loaded_set_encodes_from_end_to_end() {
    let (_folder, config) =
        folder_of(&[("train.jsonl", rows("a", 20)), ("test.jsonl", rows("b", 5))]);
    let task = Task::from_config(&config).unwrap();
    let dataset = load(&config, &task).unwrap();
    let tokenizer = crate::data::tokens::testing::byte_level(&["Ġ y", "Ġ n"], false);
    let set = encode_all(
        dataset.required(Role::Train).unwrap(),
        &tokenizer,
        config.encode_options(&task),
    )
    .unwrap();
    assert_eq!(set.examples.len(), dataset.train.len());
    assert!(set.examples.iter().all(
        |example| matches!(example.choices().unwrap(), Choices::Tokens(tokens) if tokens.len() == 2)
    ));
}

/// A column of conversations, as the hub's files have it.
const CONVERSATIONS: &str = "message schema {
    REQUIRED GROUP messages (LIST) { REPEATED GROUP list { REQUIRED GROUP element {
        REQUIRED BYTE_ARRAY role (UTF8);
        REQUIRED BYTE_ARRAY content (UTF8);
    } } }
}";

#[test]
fn conversations_of_parquet_csv_and_jsonl_keep_the_roles_of_their_files() {
    let turn = |question: &str| serde_json::json!([{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]);
    let quoted = turn("Is it?").to_string().replace('"', "\"\"");
    let (folder, config) = folder_of(&[
        ("test.csv", format!("messages\n\"{quoted}\"\n")),
        (
            "tune.jsonl",
            format!("{}\n", serde_json::json!({"messages": turn("Was it?")})),
        ),
    ]);
    let speakers = vec!["user", "assistant"];
    let said = vec![
        vec!["Will it?", "No."],
        vec!["Is it?", "No."],
        vec!["May it?", "No."],
    ];
    write(
        &folder.path().join("train.parquet"),
        CONVERSATIONS,
        vec![Column::Lists(vec![speakers; 3]), Column::Lists(said)],
    );
    let config = DataConfig {
        prompt: None,
        answers: None,
        task: Some("chat".into()),
        calibrate_share: 0.5,
        ..config
    };
    let dataset = loaded(&config).unwrap();
    let prompts = |role| {
        let examples = dataset.role(role).iter();
        examples
            .map(|example| example.prompt.text())
            .collect::<Vec<_>>()
    };
    assert_eq!(prompts(Role::Tune), ["user: Was it?"]);
    assert_eq!(prompts(Role::Test), ["user: Is it?"]);
    // A row of train with the prompt of a row of test is left out; the others are divided.
    assert_eq!(
        (prompts(Role::Train).len(), prompts(Role::Calibrate).len()),
        (1, 1)
    );
    let notes = dataset.report.notes.join("\n");
    assert!(
        notes.contains("train: 1 of 3 rows is left out: the same prompt is in the test file"),
        "{notes}"
    );
    assert!(dataset.train[0].document.is_some());
}

#[test]
fn completions_without_a_prompt_are_told_apart_by_their_text() {
    let row = |text: &str| format!("{{\"prompt\": \"\", \"completion\": \"{text}\"}}\n");
    let (_folder, config) = folder_of(&[
        ("train.jsonl", ["one", "two", "three"].map(row).concat()),
        ("test.jsonl", row("two")),
    ]);
    let config = DataConfig {
        prompt: None,
        answers: None,
        task: Some("completion".into()),
        tune_share: 0.0,
        calibrate_share: 0.0,
        ..config
    };
    let dataset = loaded(&config).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len()), (2, 1));
}

#[test]
fn a_test_file_of_prompts_without_completions_is_left_aside() {
    let row = |name: &str, row: usize| {
        format!("{{\"prompt\": \"{name} {row}\", \"completion\": \"x\"}}\n")
    };
    let (_folder, config) = folder_of(&[
        (
            "train.jsonl",
            (0..9).map(|index| row("train", index)).collect(),
        ),
        ("validation.jsonl", row("validation", 0)),
        ("test.jsonl", "{\"prompt\": \"open\"}\n".into()),
    ]);
    let config = DataConfig {
        prompt: None,
        answers: None,
        task: Some("completion".into()),
        ..config
    };
    let dataset = loaded(&config).unwrap();
    assert!(dataset.report.test_is_unlabelled);
    assert_eq!(dataset.test[0].prompt.text(), "validation 0");
}
