//! Rows of text as public data sets write them, and what is refused.

use serde_json::{Value, json};

use crate::data::read::Row;
use crate::data::{
    Content, DataConfig, DataError, Example, LossOn, Place, RowOutcome, Speaker, Task,
};

fn read_by(task: &Task, row: Value) -> Result<Example, DataError> {
    let row = Row::from_json(&row.to_string(), Place::new("train.jsonl", 3)).unwrap();
    match task.reader().unwrap().example(row, None)? {
        RowOutcome::Example(example) => Ok(example),
        RowOutcome::Dropped { reason, .. } => panic!("dropped: {reason}"),
    }
}

fn read(task: &str, row: Value) -> Result<Example, DataError> {
    read_by(&Task::named(task).unwrap(), row)
}

fn refused(task: &str, row: Value) -> String {
    let error = read(task, row).unwrap_err();
    assert!(error.hint().is_some() && error.is_of_a_row(), "{error}");
    error.to_string()
}

/// Speaker, content and weight of each message.
fn said(example: &Example) -> Vec<(Speaker, &str, Option<f32>)> {
    let Content::Chat(messages) = &example.document.as_ref().unwrap().content else {
        panic!("{example:?}")
    };
    let messages = messages.iter();
    messages
        .map(|message| (message.speaker, message.content.as_str(), message.weight))
        .collect()
}

fn completions(example: &Example) -> (String, Vec<String>) {
    let document = example.document.as_ref().unwrap();
    let Content::Completion(completion) = &document.content else {
        panic!("{example:?}")
    };
    assert_eq!(completion.as_ref(), document.references.first());
    (example.prompt.text(), document.references.clone())
}

const USER: Speaker = Speaker::User;
const ASSISTANT: Speaker = Speaker::Assistant;

#[test]
fn conversations_are_read_in_the_forms_of_openai_trl_sharegpt_and_alpaca() {
    let expected = [(USER, "Hi", None), (ASSISTANT, "Ho", None)];
    let turn = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]);
    for row in [
        json!({"messages": turn}),
        json!({"messages": turn.to_string()}),
        json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}),
        json!({"prompt": "Hi", "completion": "Ho"}),
        json!({"prompt": [turn[0]], "completion": [turn[1]], "messages": null}),
        json!({"instruction": "Hi", "input": "", "output": "Ho"}),
    ] {
        let found = read("chat", row.clone()).unwrap();
        assert_eq!(said(&found), expected, "{row}");
        assert_eq!(found.prompt.text(), "user: Hi");
    }
    let found = read(
        "chat",
        json!({"instruction": "Add.", "input": "1, 2", "output": "3"}),
    );
    assert_eq!(said(&found.unwrap())[0], (USER, "Add.\n\n1, 2", None));
    let found = read("chat", json!({"messages": turn, "system": "Be brief."})).unwrap();
    assert_eq!(said(&found)[0], (Speaker::System, "Be brief.", None));
    assert_eq!(found.prompt.text(), "system: Be brief.\nuser: Hi");
}

#[test]
fn references_are_right_answers_of_conversations_too() {
    let message = json!([{"role": "user", "content": "Q"}]);
    for row in [
        json!({"prompt": "Q", "references": ["A", "B"]}),
        json!({"prompt": message, "references": ["A", "B"]}),
        json!({"prompt": "Q", "completion": "A", "references": ["B", "A"]}),
        json!({"prompt": "Q", "references": "[\"A\", \"B\"]"}),
    ] {
        let found = read("chat", row.clone()).unwrap();
        assert_eq!(said(&found)[1].1, "A", "{row}");
        let document = found.document.unwrap();
        assert_eq!(document.references, ["A", "B"], "{row}");
        assert_eq!(document.content.asked().len(), 1);
    }
    let open = read("chat", json!({"messages": message})).unwrap();
    assert!(open.document.unwrap().references.is_empty());
}

#[test]
fn answers_in_the_prompt_of_a_conversation_are_only_read() {
    let row = json!({
        "prompt": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}],
        "completion": [{"role": "assistant", "content": "4"}],
    });
    let all = Task::named("chat").unwrap().with_loss_on(LossOn::All);
    let found = read_by(&all, row.clone()).unwrap();
    assert_eq!(said(&found)[1].2, Some(1.0));
    let found = read("chat", row).unwrap();
    let weights: Vec<_> = said(&found).iter().map(|(_, _, weight)| *weight).collect();
    assert_eq!(weights, [None, Some(0.0), None, None]);
    assert_eq!(found.prompt.text(), "user: 1\nassistant: 2\nuser: 3");
}

#[test]
fn completions_are_read_as_they_stand_and_references_after_them() {
    let row = json!({"prompt": "Q:", "completion": " A", "references": ["B", "C"]});
    let (prompt, found) = completions(&read("completion", row).unwrap());
    assert_eq!(
        (prompt.as_str(), &found[..]),
        ("Q:", &[" A".to_string(), "B".into(), "C".into()][..])
    );
    let row = json!({"prompt": "Q:", "references": ["B", "C"]});
    assert_eq!(completions(&read("completion", row).unwrap()).1, ["B", "C"]);
    let row = json!({"instruction": "Add.", "input": "1, 2", "output": "3"});
    let (prompt, found) = completions(&read("completion", row).unwrap());
    assert!(prompt.starts_with("Below is an instruction that describes a task, paired"));
    assert!(prompt.ends_with("### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"));
    assert_eq!(found, ["3"]);
    let (prompt, _) =
        completions(&read("completion", json!({"instruction": "Add.", "output": "3"})).unwrap());
    assert!(prompt.ends_with("request.\n\n### Instruction:\nAdd.\n\n### Response:\n"));
}

#[test]
fn a_template_makes_texts_of_other_columns() {
    let task =
        |text: &str| Task::from_config(&toml::from_str::<DataConfig>(text).unwrap()).unwrap();
    let row = json!({"text": "Where is my card?", "label": "card arrival"});
    let completion =
        task("task = 'completion'\nprompt = 'Message: {text} Intent:'\nlabel_field = 'label'");
    let found = read_by(&completion, row.clone()).unwrap();
    assert_eq!(
        completions(&found),
        (
            "Message: Where is my card? Intent:".into(),
            vec![" card arrival".into()]
        )
    );
    let chat = task("task = 'chat'\nprompt = '{text}'\nlabel_field = 'label'\nloss_on = 'all'");
    let found = read_by(&chat, row.clone()).unwrap();
    assert_eq!(
        said(&found),
        [
            (USER, "Where is my card?", None),
            (ASSISTANT, "card arrival", None)
        ]
    );
    assert_eq!(found.document.unwrap().loss_on, LossOn::All);
    let text = task("task = 'text'\nprompt = '{label}: {text}'");
    let found = read_by(&text, row).unwrap();
    assert_eq!(found.prompt.text(), "card arrival: Where is my card?");
    assert_eq!(found.document.unwrap().content, Content::Text);
    // As it is saved with an adapter.
    let saved = serde_json::to_string(&chat).unwrap();
    assert_eq!(serde_json::from_str::<Task>(&saved).unwrap(), chat);
    let choices = serde_json::to_value(Task::named("sst2").unwrap()).unwrap();
    assert!(choices.get("loss_on").is_none());
}

#[test]
fn a_row_to_be_answered_needs_no_completion() {
    for (task, row) in [
        (
            "chat",
            json!({"messages": [{"role": "user", "content": "Hi"}]}),
        ),
        ("chat", json!({"prompt": "Hi"})),
        ("completion", json!({"prompt": "Hi"})),
    ] {
        let reader = Task::named(task).unwrap().reader().unwrap();
        let row = Row::from_json(&row.to_string(), Place::new("f", 1)).unwrap();
        let found = reader.question(row).unwrap();
        let RowOutcome::Example(found) = found else {
            panic!("{found:?}")
        };
        assert!(found.prompt.text().ends_with("Hi"));
    }
}

#[test]
fn every_mistake_in_a_row_of_text_has_its_sentence() {
    assert_eq!(
        refused("chat", json!({"text": "Hi"})),
        "`train.jsonl` line 3 has no field `messages`, found `text`"
    );
    assert_eq!(
        refused("chat", json!({"messages": "Hi"})),
        "`train.jsonl` line 3: field `messages` is text, expected a list of messages, in a CSV file as JSON"
    );
    assert_eq!(
        refused("chat", json!({"messages": []})),
        "`train.jsonl` line 3: field `messages` has 0 messages, expected 1 to 1000"
    );
    let many = vec![json!({"role": "user", "content": ""}); 1001];
    assert!(refused("chat", json!({"messages": many})).contains("has 1001 messages"));
    assert_eq!(
        refused(
            "chat",
            json!({"messages": [{"role": "user", "content": ""}, {"role": "bot", "content": ""}]})
        ),
        "`train.jsonl` line 3: message 2 of `messages` has the role `bot`, expected one of `system`, `user`, `assistant`, `tool`"
    );
    assert_eq!(
        refused(
            "chat",
            json!({"messages": [{"role": "user", "content": ""}], "tools": [{}]})
        ),
        "`train.jsonl` line 3 has a field `tools`, which is not read"
    );
    assert_eq!(
        refused("chat", json!({"prompt": "Hi"})),
        "`train.jsonl` line 3 has no field `completion`, found `prompt`"
    );
    let long = "x".repeat((8 << 20) + 1);
    let row = |text: &str| {
        let fields = json!({"text": text, "prompt": text, "completion": ""});
        Row {
            fields: fields.as_object().unwrap().clone(),
            place: Place::new("a.parquet", 2),
        }
    };
    for task in ["text", "completion", "chat"] {
        let reader = Task::named(task).unwrap().reader().unwrap();
        let message = reader.example(row(&long), None).unwrap_err().to_string();
        assert_eq!(message, "`a.parquet` line 2 is longer than 8388608 bytes");
    }
    assert_eq!(
        refused("completion", json!({"prompt": [], "completion": "a"})),
        "`train.jsonl` line 3: field `prompt` is a list, expected text (messages are rows of the task `chat`)"
    );
    assert_eq!(
        refused("completion", json!({"prompt": "a", "completion": null})),
        "`train.jsonl` line 3: field `completion` is null, expected a value"
    );
    assert_eq!(
        refused("completion", json!({"prompt": "a", "references": [1]})),
        "`train.jsonl` line 3: field `references` is a list, expected a list of texts"
    );
    assert_eq!(
        refused("completion", json!({"instruction": "a"})),
        "`train.jsonl` line 3 has no field `output`, found `instruction`"
    );
    assert_eq!(
        refused("text", json!({"content": "a"})),
        "`train.jsonl` line 3 has no field `text`, found `content`"
    );
}

#[test]
fn settings_without_a_meaning_for_texts_are_refused() {
    let message = |text: &str| {
        let error = Task::from_config(&toml::from_str::<DataConfig>(text).unwrap()).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    for (settings, name) in [
        ("task = 'chat'\nanswers = ['a', 'b']", "answers"),
        ("task = 'chat'\nscoring = 'answer'", "scoring"),
        ("task = 'chat'\nlabel_field = 'a'", "label_field"),
        (
            "task = 'completion'\nlabel_reading = 'word'",
            "label_reading",
        ),
        ("task = 'completion'\nchat_template = true", "chat_template"),
        ("task = 'text'\nloss_on = 'all'", "loss_on"),
        ("task = 'sst2'\nloss_on = 'assistant'", "loss_on"),
    ] {
        let found = message(settings);
        assert!(
            found.ends_with(&format!("has no use for `{name}`")),
            "{found}"
        );
    }
}

#[test]
fn texts_are_told_by_their_fields_where_nothing_is_a_question() {
    let told = |folder: &str, row: Value| {
        let row = Row::from_json(&row.to_string(), Place::new("f", 1)).unwrap();
        Task::detect(std::path::Path::new(folder), Some(&row))
    };
    let message = json!([{"role": "user", "content": "a"}]);
    for (row, task) in [
        (json!({"messages": message}), Some("chat")),
        (json!({"conversations": []}), Some("chat")),
        (
            json!({"prompt": message, "completion": message}),
            Some("chat"),
        ),
        (
            json!({"prompt": message.to_string(), "completion": ""}),
            Some("chat"),
        ),
        (
            json!({"prompt": "a", "completion": "b"}),
            Some("completion"),
        ),
        (
            json!({"prompt": "a", "references": ["b"]}),
            Some("completion"),
        ),
        (
            json!({"instruction": "a", "input": "", "output": "b"}),
            Some("completion"),
        ),
        (
            json!({"id": 1, "url": "", "title": "", "text": "a"}),
            Some("text"),
        ),
        (json!({"text": "a", "label": 1}), None),
        (
            json!({"question": "a", "choices": [], "messages": []}),
            Some("multiple_choice"),
        ),
    ] {
        assert_eq!(told("somewhere", row.clone()), task, "{row}");
    }
    assert_eq!(told("data/text", json!({"text": "a", "label": 1})), None);
}
