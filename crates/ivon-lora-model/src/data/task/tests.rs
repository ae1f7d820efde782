//! Rows → examples, for built-in and custom tasks.

use std::path::Path;

use super::*;
use crate::data::{DataError, Place, Row};
use serde_json::{Value, json};

fn made(task: &Task, row: Value) -> Result<RowOutcome, DataError> {
    task.reader()?.example(
        Row::from_json(&row.to_string(), Place::new("train.jsonl", 7)).unwrap(),
        None,
    )
}

fn example(name: &str, row: Value) -> Example {
    match made(&Task::named(name).unwrap(), row).unwrap() {
        RowOutcome::Example(example) => example,
        RowOutcome::Dropped { reason, .. } => panic!("dropped: {reason}"),
    }
}

#[test]
fn every_prompt_is_worded_as_in_the_paper() {
    let row = json!({"id": "w-1", "question": "The _ is smaller.", "choices": ["home", "house"], "answer": 1});
    let winogrande = example("winogrande_s", row);
    assert_eq!(
        winogrande.prompt.text(),
        "Select one of the choices that answers the following question: The _ is smaller. Choices: A. home. B house. Answer:"
    );
    assert_eq!(
        (
            winogrande.id.as_str(),
            winogrande.label,
            &winogrande.answers[..]
        ),
        ("w-1", Some(1), &["A".to_string(), "B".into()][..])
    );
    let row = json!({"question": "Predators eat", "choices": ["lions", "humans.", "éclairs", ""], "answer": 2});
    let arc = example("arc_easy", row);
    assert_eq!(
        arc.prompt.text(),
        "Select one of the choices that answers the following question: Predators eat Choices: A. Lions. B. Humans. C. Éclairs. D. . Answer:"
    );
    assert_eq!(arc.id, "train-7");
    let boolq = example(
        "boolq",
        json!({"question": "is it", "passage": "It -- it is.", "answer": true}),
    );
    assert_eq!(
        boolq.prompt.text(),
        "Answer the question with only True or False: is it Context: It -- it is."
    );
    assert_eq!((boolq.label, boolq.answers[1].as_str()), (Some(1), "True"));
    let sst2 = example("sst2", json!({"text": "fine . ", "label": 1}));
    assert_eq!(
        sst2.prompt.text(),
        "Is the sentiment of this review Negative or Positive? Review: fine . Sentiment:"
    );
    let rte = example(
        "rte",
        json!({"premise": "A.", "hypothesis": "B.", "label": 0}),
    );
    assert_eq!(
        rte.prompt.text(),
        "Does the first sentence entail the second, Yes or No? First: A. Second: B. Answer:"
    );
    assert_eq!(rte.answers[0], "Yes");
}

#[test]
fn arc_and_openbookqa_keep_only_four_choices_and_anyone_s_questions_two_to_twenty_six() {
    let row = |count: usize| json!({"question": "q", "choices": vec!["x"; count], "answer": 0});
    for name in ["arc_easy", "arc_challenge", "openbookqa"] {
        let dropped = made(&Task::named(name).unwrap(), row(5)).unwrap();
        assert_eq!(
            dropped,
            RowOutcome::Dropped {
                id: "train-7".into(),
                reason: DropReason::ChoiceCount { found: 5, kept: 4 }
            }
        );
    }
    for count in [2, 3, 26] {
        assert_eq!(example("multiple_choice", row(count)).answers.len(), count);
    }
    for count in [0, 1, 27] {
        let message = made(&Task::named("multiple_choice").unwrap(), row(count))
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            format!("`train.jsonl` line 7 has {count} choices, expected 2 to 26")
        );
    }
    let message = made(&Task::named("winogrande_m").unwrap(), row(3))
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("has 3 choices, expected 2 to 2"),
        "{message}"
    );
}

#[test]
fn a_label_out_of_range_names_file_line_value_and_what_is_allowed() {
    let task = Task::custom(
        "Text: {text} Topic:",
        vec!["sport".into(), "art".into()],
        "topic",
    )
    .unwrap();
    let message = made(&task, json!({"text": "t", "topic": 2}))
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "`train.jsonl` line 7: label `2` in field `topic` is out of range, expected an index from 0 to 1 or one of `sport`, `art`"
    );
    assert!(matches!(
        made(&task, json!({"text": "t", "topic": "art"})).unwrap(),
        RowOutcome::Example(Example { label: Some(1), .. })
    ));
    assert!(matches!(
        made(&task, json!({"text": "t"})).unwrap(),
        RowOutcome::Example(Example { label: None, .. })
    ));
    let message = made(
        &Task::named("arc_easy").unwrap(),
        json!({"question": "", "choices": ["a", "b", "c", "d"], "answer": 4}),
    )
    .unwrap_err();
    assert!(
        message
            .to_string()
            .contains("label `4` in field `answer` is out of range"),
        "{message}"
    );
}

#[test]
fn a_finished_prompt_gets_the_task_s_words_or_letters() {
    let answers = |name: &str, count| {
        Task::named(name)
            .unwrap()
            .reader()
            .unwrap()
            .answers(count)
            .join(" ")
    };
    assert_eq!(
        (
            answers("boolq", 9),
            answers("arc_easy", 4),
            answers("multiple_choice", 99).len()
        ),
        ("False True".into(), "A B C D".into(), 51)
    );
}

#[test]
fn a_missing_field_says_which_fields_there_are() {
    let message = made(
        &Task::named("boolq").unwrap(),
        json!({"question": "q", "answer": true}),
    )
    .unwrap_err()
    .to_string();
    assert_eq!(
        message,
        "`train.jsonl` line 7 has no field `passage`, found `question`, `answer`"
    );
}

#[test]
fn an_unknown_task_suggests_the_nearest_name() {
    let error = Task::named("arc-easy").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("unknown task `arc-easy`, expected one of `winogrande_s`"),
        "{error}"
    );
    assert_eq!(
        error.hint().unwrap().to_string(),
        "did you mean `arc_easy`?"
    );
    assert!(
        Task::named("translation")
            .unwrap_err()
            .hint()
            .unwrap()
            .contains("`prompt`")
    );
}

#[test]
fn answers_that_cannot_be_used_are_refused() {
    let answers = |words: &[&str]| {
        Task::custom("{a}", words.iter().map(ToString::to_string).collect(), "l")
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        answers(&["one"]),
        "the answers cannot be used: there are 1, expected 2 to 10000"
    );
    assert!(answers(&["a", "b", "a"]).ends_with("`a` is given twice"));
    assert!(answers(&["a", " "]).ends_with("one of them is empty"));
    assert!(answers(&["a", "b "]).ends_with("begins or ends with a blank"));
}

#[test]
fn a_task_comes_back_from_its_sidecar_as_it_was() {
    let own = Task::custom("{text}:", vec!["a".into(), "b".into()], "label")
        .unwrap()
        .with_scoring(Scoring::Answer);
    for task in names()
        .into_iter()
        .map(|name| Task::named(name).unwrap())
        .chain([own])
    {
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task, "{text}");
        let text = toml::to_string(&task).unwrap();
        assert_eq!(toml::from_str::<Task>(&text).unwrap(), task, "{text}");
    }
    let hostile = r#"{"name": "x", "form": {"multiple_choice": {"only": 99}}}"#;
    assert!(
        serde_json::from_str::<Task>(hostile)
            .unwrap()
            .reader()
            .is_err()
    );
}

#[test]
fn a_task_is_told_by_its_folder_or_its_fields() {
    let row = Row::from_json(r#"{"question": "q", "passage": "p"}"#, Place::new("f", 1)).unwrap();
    assert_eq!(
        Task::detect(Path::new("/data/ARC-Easy"), None),
        Some("arc_easy")
    );
    assert_eq!(
        Task::detect(Path::new("/data/sst2/train.jsonl"), Some(&row)),
        Some("sst2")
    );
    assert_eq!(
        Task::detect(Path::new("/data/mine"), Some(&row)),
        Some("boolq")
    );
    assert_eq!(Task::detect(Path::new("/data/mine"), None), None);
}
