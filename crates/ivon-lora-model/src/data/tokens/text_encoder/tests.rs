//! The encoder against transformers' masks, and against texts whose tokens can be counted.

use std::sync::Arc;

use serde_json::Value as Json;

use super::*;
use crate::data::tokens::testing::byte_level;
use crate::testing;

const CHATML: &str = "{% for m in messages %}{{ '<s>' + m.role + '\n' + m.content + '</s>\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}";

fn example(prompt: &str, content: Content, loss_on: LossOn) -> Example {
    let mut example = Example::from_prompt("one", prompt, Arc::default());
    example.document = Some(Document {
        content,
        references: Vec::new(),
        loss_on,
    });
    example
}

fn chat(messages: &[(Speaker, &str)]) -> Vec<Message> {
    let messages = messages.iter();
    messages
        .map(|&(speaker, content)| Message::of(speaker, content))
        .collect()
}

fn encode(
    tokenizer: &Tokenizer,
    max_length: usize,
    example: &Example,
) -> Result<Result<Vec<EncodedText>, DropReason>, DataError> {
    let document = example.document.as_ref().unwrap();
    TextEncoder::new(tokenizer, max_length).encode(example, document)
}

fn encoded(tokenizer: &Tokenizer, max_length: usize, example: &Example) -> Vec<EncodedText> {
    encode(tokenizer, max_length, example).unwrap().unwrap()
}

fn weights(text: &EncodedText) -> &[f32] {
    &text.encoded.text().unwrap().weights
}

/// What the tokens with a weight spell.
fn trained(tokenizer: &Tokenizer, text: &EncodedText) -> String {
    let tokens = text.encoded.tokens.iter().zip(weights(text));
    let tokens: Vec<u32> = tokens
        .filter(|(_, weight)| **weight > 0.0)
        .map(|(token, _)| *token)
        .collect();
    tokenizer.decode(&tokens).unwrap()
}

fn with_template(template: &str) -> Tokenizer {
    let mut tokenizer = byte_level(&["Ġ t", "h e", "Ġt he"], true);
    tokenizer.bos_token = Some("<s>".into());
    tokenizer.eos_token = Some("</s>".into());
    tokenizer.chat_template = Some(template.into());
    tokenizer
}

fn dialogue() -> Vec<Message> {
    chat(&[
        (Speaker::System, "Be brief."),
        (Speaker::User, "Where is the cat?"),
        (Speaker::Assistant, "On the mat."),
        (Speaker::User, "And the dog?"),
        (Speaker::Assistant, "Out."),
    ])
}

#[test]
fn the_assistant_s_tokens_are_those_of_transformers() {
    let path = testing::workspace().join("testdata/golden/chat_masks.json");
    let table: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in table["cases"].as_array().unwrap() {
        let name = format!(
            "{} {} {}",
            case["tokenizer"], case["template"], case["conversation"]
        );
        let of = |kind: &str, key: &str| &table[kind][case[key].as_str().unwrap()];
        let inner = of("tokenizers", "tokenizer").to_string();
        let mut tokenizer = Tokenizer::new(inner.parse().unwrap());
        tokenizer.bos_token = Some("<s>".into());
        tokenizer.chat_template = of("templates", "template").as_str().map(String::from);
        let number = case["conversation"].as_u64().unwrap() as usize;
        let messages = table["conversations"][number].as_array().unwrap();
        let messages = messages
            .iter()
            .map(|message| {
                let speaker = Speaker::named(message["role"].as_str().unwrap()).unwrap();
                Message::of(speaker, message["content"].as_str().unwrap())
            })
            .collect();
        let row = example("", Content::Chat(messages), LossOn::Assistant);
        let found = &encoded(&tokenizer, 999, &row)[0];
        assert_eq!(found.text, case["text"].as_str().unwrap(), "{name}");
        assert_eq!(
            Json::from(found.encoded.tokens.clone()),
            case["ids"],
            "{name}"
        );
        let mask: Vec<u8> = weights(found).iter().map(|weight| *weight as u8).collect();
        assert_eq!(Json::from(mask), case["mask"], "{name}");
    }
}

#[test]
fn without_marks_an_answer_is_what_rendering_adds_after_the_generation_prompt() {
    let tokenizer = with_template(CHATML);
    let row = example("", Content::Chat(dialogue()), LossOn::Assistant);
    let found = &encoded(&tokenizer, 999, &row)[0];
    assert_eq!(
        tokenizer.decode(&found.encoded.tokens).unwrap(),
        "<s>system\nBe brief.</s>\n<s>user\nWhere is the cat?</s>\n<s>assistant\nOn the mat.</s>\n\
         <s>user\nAnd the dog?</s>\n<s>assistant\nOut.</s>\n"
    );
    assert_eq!(trained(&tokenizer, found), "On the mat.</s>\nOut.</s>\n");
    // The end of the turn is no text.
    assert_eq!(
        found.encoded.text().unwrap().bytes,
        "On the mat.\nOut.\n".len()
    );
    let all = example("", Content::Chat(dialogue()), LossOn::All);
    let all = &encoded(&tokenizer, 999, &all)[0];
    assert_eq!(all.encoded.tokens, found.encoded.tokens);
    assert!(weights(all)[0] == 0.0 && weights(all)[1..].iter().all(|weight| *weight == 1.0));
    assert_eq!(
        all.encoded.text().unwrap().document,
        found.encoded.text().unwrap().document
    );
}

#[test]
fn a_message_counts_by_its_weight_with_marks_and_without() {
    let marked = CHATML.replace(
        "{{ '<s>' + m.role + '\n' + m.content + '</s>\n' }}",
        "{{ '<s>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '</s>\n' }}\
         {% endgeneration %}{% else %}{{ m.content + '</s>\n' }}{% endif %}",
    );
    for template in [CHATML, &marked] {
        let tokenizer = with_template(template);
        let mut messages = dialogue();
        messages[2].weight = Some(0.0);
        messages[4].weight = Some(0.5);
        let row = example("", Content::Chat(messages.clone()), LossOn::Assistant);
        let found = &encoded(&tokenizer, 999, &row)[0];
        assert_eq!(trained(&tokenizer, found), "Out.</s>\n");
        assert!(
            weights(found)
                .iter()
                .all(|weight| [0.0, 0.5].contains(weight))
        );
        messages[4].weight = Some(0.0);
        let row = example("", Content::Chat(messages), LossOn::Assistant);
        let nothing = encode(&tokenizer, 999, &row).unwrap();
        assert_eq!(nothing, Err(DropReason::NothingToTrainOn));
    }
    // With the loss on all tokens, an answer of weight 0 is left out.
    let tokenizer = with_template(CHATML);
    let mut messages = dialogue();
    messages[2].weight = Some(0.0);
    let row = example("", Content::Chat(messages), LossOn::All);
    let found = &encoded(&tokenizer, 999, &row)[0];
    assert!(!trained(&tokenizer, found).contains("mat"));
    assert!(trained(&tokenizer, found).contains("cat?</s>\n<s>assistant\n<s>user\nAnd the dog?"));
}

#[test]
fn a_template_that_is_not_stable_drops_the_row() {
    // The last answer is rendered otherwise than one that a message follows.
    let unstable = CHATML.replace(
        "m.content +",
        "(m.content if loop.last or m.role != 'assistant' else '') +",
    );
    let row = example("", Content::Chat(dialogue()), LossOn::Assistant);
    let found = encode(&with_template(&unstable), 999, &row).unwrap();
    assert_eq!(found, Err(DropReason::UnstableTemplate));
    // It is no matter where the loss is on all tokens.
    let all = example("", Content::Chat(dialogue()), LossOn::All);
    assert!(
        encode(&with_template(&unstable), 999, &all)
            .unwrap()
            .is_ok()
    );
    // A template that refuses the beginning of the conversation.
    let refusing = format!(
        "{{% if messages | length == 2 %}}{{{{ raise_exception('no answer') }}}}{{% endif %}}{CHATML}"
    );
    let found = encode(&with_template(&refusing), 999, &row).unwrap();
    assert_eq!(found, Err(DropReason::UnstableTemplate));
    // `he` is one token, and the generation prompt ends inside it.
    let merged = "{% for m in messages %}{{ m.role + ': h' + m.content }}{% endfor %}\
                  {% if add_generation_prompt %}{{ 'assistant: h' }}{% endif %}";
    let turn = chat(&[(Speaker::User, "i"), (Speaker::Assistant, "ello")]);
    let row = example("", Content::Chat(turn), LossOn::Assistant);
    let found = encode(&with_template(merged), 999, &row).unwrap();
    assert_eq!(found, Err(DropReason::MergedAnswer));
}

#[test]
fn a_template_that_closes_the_conversation_with_the_end_token_is_stable() {
    let path = testing::workspace().join("testdata/templates/families/phi3.jinja");
    let tokenizer = with_template(&std::fs::read_to_string(path).unwrap());
    let row = example("", Content::Chat(dialogue()), LossOn::Assistant);
    let found = &encoded(&tokenizer, 999, &row)[0];
    assert_eq!(
        trained(&tokenizer, found),
        "On the mat.<|end|>\nOut.<|end|>\n</s>"
    );
}

#[test]
fn a_template_that_fails_names_the_row() {
    let tokenizer = with_template("{{ raise_exception('roles must alternate') }}");
    let row = example("", Content::Chat(dialogue()), LossOn::Assistant);
    let error = encode(&tokenizer, 999, &row).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("the chat template failed on row `one`: "),
        "{message}"
    );
    assert!(message.contains("roles must alternate") && error.hint().is_some());
    let mut tokenizer = with_template("");
    tokenizer.chat_template = None;
    let error = encode(&tokenizer, 999, &row).unwrap_err();
    assert_eq!(
        error.to_string(),
        "conversations need a chat template, and the model's tokenizer has no chat template"
    );
    assert!(error.hint().unwrap().contains("completion"));
    let hidden = chat(&[(Speaker::User, "\u{fdd0}"), (Speaker::Assistant, "a")]);
    let row = example("", Content::Chat(hidden), LossOn::Assistant);
    let message = encode(&with_template(CHATML), 999, &row)
        .unwrap_err()
        .to_string();
    assert!(message.ends_with("a message has one of the noncharacters U+FDD0 and U+FDD1"));
}

#[test]
fn a_conversation_that_is_too_long_loses_its_end() {
    let tokenizer = with_template(CHATML);
    let row = example("", Content::Chat(dialogue()), LossOn::Assistant);
    let whole = &encoded(&tokenizer, 999, &row)[0];
    let first = weights(whole)
        .iter()
        .position(|weight| *weight > 0.0)
        .unwrap();
    let cut = &encoded(&tokenizer, first + 2, &row)[0];
    assert!(cut.truncated && !whole.truncated);
    assert_eq!(cut.encoded.tokens, whole.encoded.tokens[..first + 2]);
    assert_eq!(
        (
            trained(&tokenizer, cut).as_str(),
            cut.encoded.text().unwrap().bytes
        ),
        ("On", 2)
    );
    let nothing = encode(&tokenizer, first, &row).unwrap();
    assert_eq!(nothing, Err(DropReason::AnswerCut { max_length: first }));
    let message = encode(&tokenizer, 1, &row).unwrap_err().to_string();
    assert_eq!(
        message,
        "`max_length` is 1, expected at least 2 tokens, one to read and one to predict"
    );
}

#[test]
fn a_completion_is_trained_on_with_the_end_token_and_not_its_prompt() {
    let tokenizer = with_template("");
    let completion = |text: &str| Content::Completion(Some(text.into()));
    let row = example(
        "Where is the cat?",
        completion(" On the mat."),
        LossOn::Assistant,
    );
    let found = &encoded(&tokenizer, 999, &row)[0];
    assert_eq!(
        tokenizer.decode(&found.encoded.tokens).unwrap(),
        "<s>Where is the cat? On the mat.</s>"
    );
    assert_eq!(trained(&tokenizer, found), " On the mat.</s>");
    assert_eq!(found.encoded.text().unwrap().bytes, " On the mat.".len());
    assert!(!found.merged);
    let all = example("Where?", completion(" There."), LossOn::All);
    let all = &encoded(&tokenizer, 999, &all)[0];
    assert_eq!(trained(&tokenizer, all), "Where? There.</s>");
    // An end token in the text is not doubled, and a prompt to be answered has none.
    let ended = example("Where?", completion(" There.</s>"), LossOn::Assistant);
    let ended = &encoded(&tokenizer, 999, &ended)[0];
    assert_eq!(trained(&tokenizer, ended), " There.</s>");
    let open = example("Where?", Content::Completion(None), LossOn::All);
    let open = &encoded(&tokenizer, 999, &open)[0];
    assert_eq!(tokenizer.decode(&open.encoded.tokens).unwrap(), "<s>Where?");
    // `h` and `e` across the border are one token: it is trained on, and said.
    let across = example("Is it h", completion("ere?"), LossOn::Assistant);
    let across = &encoded(&tokenizer, 999, &across)[0];
    assert!(across.merged);
    assert_eq!(trained(&tokenizer, across), "here?</s>");
}

#[test]
fn a_long_text_is_divided_and_each_token_but_the_first_predicted_once() {
    let mut tokenizer = byte_level(&["Ġ t", "h e", "Ġt he"], false);
    tokenizer.eos_token = Some("</s>".into());
    let text = "On the mat, the cat — é🙂 — sleeps the day.";
    let row = example(text, Content::Text, LossOn::All);
    let whole = &encoded(&tokenizer, 999, &row)[0];
    assert_eq!(trained(&tokenizer, whole), format!("{}</s>", &text[1..]));
    assert_eq!(whole.encoded.text().unwrap().bytes, text.len() - 1);
    for max_length in 2..whole.encoded.tokens.len() + 2 {
        let stretches = encoded(&tokenizer, max_length, &row);
        let mut tokens = whole.encoded.tokens[..1].to_vec();
        let mut bytes = 0;
        for stretch in &stretches {
            let ids = &stretch.encoded.tokens;
            assert!((2..=max_length).contains(&ids.len()));
            assert_eq!(ids[0], *tokens.last().unwrap());
            tokens.extend_from_slice(&ids[1..]);
            let target = stretch.encoded.text().unwrap();
            assert_eq!(target.trained(), ids.len() - 1);
            assert_eq!(target.document, whole.encoded.text().unwrap().document);
            bytes += target.bytes;
        }
        assert_eq!(tokens, whole.encoded.tokens);
        assert_eq!(bytes, text.len() - 1);
        let mut keys: Vec<u64> = stretches.iter().map(|one| one.encoded.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), stretches.len());
    }
    let ids: Vec<String> = encoded(&tokenizer, 20, &row)
        .iter()
        .map(|stretch| stretch.encoded.id.clone())
        .collect();
    assert_eq!(ids[..2], ["one", "one/2"]);
    tokenizer.eos_token = None;
    let short = example("a", Content::Text, LossOn::All);
    let nothing = encode(&tokenizer, 9, &short).unwrap();
    assert_eq!(nothing, Err(DropReason::NothingToTrainOn));
}

#[test]
fn spaces_that_a_tokenizer_does_not_count_still_have_their_bytes() {
    // RoBERTa's post-processor leaves the space of a token out of its place.
    let mut saved: Json = {
        let (_, bytes) = byte_level(&["Ġ t", "h e", "Ġt he"], false)
            .to_files()
            .unwrap()
            .remove(0);
        serde_json::from_slice(&bytes).unwrap()
    };
    saved["post_processor"] = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = Tokenizer::new(saved.to_string().parse().unwrap());
    let row = example("On the mat", Content::Text, LossOn::All);
    let found = &encoded(&tokenizer, 999, &row)[0];
    assert_eq!(found.encoded.text().unwrap().bytes, "n the mat".len());
    let content = Content::Completion(Some(" the mat".into()));
    let row = example("On", content, LossOn::Assistant);
    assert_eq!(
        trained(&tokenizer, &encoded(&tokenizer, 999, &row)[0]),
        " the mat"
    );
}
