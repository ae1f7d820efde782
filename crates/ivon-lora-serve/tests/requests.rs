//! A server over the toy model, asked as a client asks it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ivon_lora::answer::{
    AnswerOptions, Answerer, Base, BaseOptions, Generator, GeneratorOptions, RowOptions,
    WritingPrompt,
};
use ivon_lora::generate::WriteOptions;
use ivon_lora::model::Checkpoint;
use ivon_lora_serve::{Limits, Models, ServedAdapter, Server};
use ivon_lora_toy as toy;
use serde_json::{Value, json};

const PROMPT: &str =
    "At dusk, Anna the farmer met an owl in the forest. Question: Did it attack? Answer:";

/// The toy with an untrained adapter whose weights vary.
struct Toy {
    folder: tempfile::TempDir,
    base: String,
}

impl Toy {
    fn write() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join(toy::NAME);
        toy::write_model(&base).unwrap();
        let base = base.display().to_string();
        let adapter = folder.path().join("adapter");
        toy::testing::write_untrained_adapter(&base, &adapter).unwrap();
        Self { folder, base }
    }

    fn adapter(&self) -> std::path::PathBuf {
        self.folder.path().join("adapter")
    }

    fn models(&self, limits: Limits) -> Models {
        let checkpoint = Checkpoint::open(&self.base).unwrap();
        let base = Base::load(&checkpoint, &BaseOptions::default()).unwrap();
        let mut models = Models::new(limits).unwrap();
        let adapter = ServedAdapter {
            name: "forest".into(),
            folder: self.adapter(),
            samples: None,
            scale: None,
        };
        models.add_adapter(&adapter, &base, &mut |_| true).unwrap();
        models.add_base("base", &base, &mut |_| true).unwrap();
        models
    }

    /// A server, while `ask` asks it.
    fn serve<T>(&self, limits: Limits, token: Option<&str>, ask: impl FnOnce(Client) -> T) -> T {
        let log = Arc::new(|_: &_| ());
        let server = Server::listen(self.models(limits), "127.0.0.1:0", token, log).unwrap();
        let client = Client {
            address: server.address().unwrap(),
            token: token.map(String::from),
        };
        let goes_on = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&goes_on);
        let running = thread::spawn(move || server.run(move || told.load(Ordering::Relaxed)));
        let answered = ask(client);
        goes_on.store(false, Ordering::Relaxed);
        running.join().unwrap().unwrap();
        answered
    }
}

/// Whoever asks.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    token: Option<String>,
}

impl Client {
    /// Status and body of a request.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let token = self.token.iter();
        let token: String = token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: toy\r\nConnection: close\r\n{token}{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked {
            unchunked(body)
        } else {
            body.into()
        };
        (status, body)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let json = "Content-Type: application/json\r\n";
        let (status, body) = self.send("POST", path, json, &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(body.into()))
    }

    fn refused(&self, path: &str, body: &Value) -> (u16, String) {
        let (status, body) = self.post(path, body);
        let message = body["error"]["message"].as_str().unwrap();
        (status, message.to_string())
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

/// The library's own predictions.
fn predictions(toy: &Toy, prompts: [&str; 2]) -> Value {
    let options = AnswerOptions::default();
    let adapter: &Path = &toy.adapter();
    let answerer = Answerer::open(&toy.base, adapter, &options, &mut |_| true).unwrap();
    let row_options = RowOptions {
        include_draws: true,
        ..RowOptions::default()
    };
    let rows = answerer.answer(prompts, &row_options, &mut |_| true);
    json!(rows.unwrap())
}

/// Compares values whose numbers may differ by the rounding of other sums: products of low rank add
/// in another order where a pass has other rows.
fn assert_close(found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            let pairs = found.iter().zip(expected);
            pairs.for_each(|(found, expected)| assert_close(found, expected));
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert!(found.keys().eq(expected.keys()));
            let pairs = found.values().zip(expected.values());
            pairs.for_each(|(found, expected)| assert_close(found, expected));
        }
        (Value::Number(found), Value::Number(expected)) => {
            let [found, expected] = [found, expected].map(|number| number.as_f64().unwrap());
            assert!(
                (found - expected).abs() < 1e-5,
                "{found}, expected {expected}"
            );
        }
        _ => assert_eq!(found, expected),
    }
}

#[test]
fn predictions_are_those_of_the_library_however_many_ask_at_once() {
    let toy = Toy::write();
    let expected = predictions(&toy, [PROMPT, "Answer:"]);
    let request = json!({"prompts": [PROMPT, "Answer:"], "draws": true});
    toy.serve(Limits::default(), None, |client| {
        let asked = [(); 16].map(|()| {
            let (client, request) = (client.clone(), request.clone());
            thread::spawn(move || client.post("/v1/predict", &request))
        });
        for answer in asked {
            let (status, answer) = answer.join().unwrap();
            assert_eq!((status, &answer["model"]), (200, &json!("forest")));
            assert_close(&answer["predictions"], &expected);
        }
        let rows = json!({"model": "forest", "rows": [{"report": "It rains."}, {"other": 1}]});
        let (status, answer) = client.post("/v1/predict", &rows);
        assert_eq!(status, 200);
        assert!(answer["predictions"][0]["answer"].is_string());
        assert!(answer["predictions"][1]["error"].is_string());
        assert_eq!(answer["warnings"].as_array().unwrap().len(), 2, "{answer}");
        let (_, metrics) = client.get("/metrics");
        assert!(metrics.contains("ivon_lora_rows_total 34"), "{metrics}");
    });
}

/// The pieces of a stream, joined, and the reason of its end.
fn streamed(body: &Value) -> (String, Value) {
    let lines = body.as_str().unwrap().lines();
    let data: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let mut text = String::new();
    let mut reason = Value::Null;
    for piece in &data[..data.len() - 1] {
        let piece: Value = serde_json::from_str(piece).unwrap();
        let choice = &piece["choices"][0];
        text.push_str(choice["text"].as_str().unwrap());
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (text, reason)
}

#[test]
fn texts_are_those_of_the_library_whole_or_in_pieces_alone_or_with_others() {
    let toy = Toy::write();
    let generator = Generator::open(&toy.base, &GeneratorOptions::default(), &mut |_| true);
    let generator = generator.unwrap();
    let prompts = ["At dusk, Anna", "The owl", "Question: Did it"];
    let options = WriteOptions {
        max_tokens: 12,
        ..WriteOptions::default()
    };
    let expected = prompts.map(|prompt| {
        let tokens = generator
            .encode(&WritingPrompt::Text(prompt.into()))
            .unwrap();
        let written = generator.write(&[tokens], &options, &mut |_, _| true);
        written.unwrap().remove(0)
    });
    toy.serve(Limits::default(), None, |client| {
        let asked: Vec<_> = (0..12)
            .map(|number| {
                let client = client.clone();
                let request = json!({
                    "prompt": prompts[number % 3],
                    "max_tokens": 12,
                    "temperature": 0,
                    "stream": number >= 6,
                });
                thread::spawn(move || (number, client.post("/v1/completions", &request)))
            })
            .collect();
        for asked in asked {
            let (number, (status, body)) = asked.join().unwrap();
            assert_eq!(status, 200, "{body}");
            let (text, reason) = match number >= 6 {
                true => streamed(&body),
                false => {
                    let choice = &body["choices"][0];
                    let text = choice["text"].as_str().unwrap().to_string();
                    (text, choice["finish_reason"].clone())
                }
            };
            let expected = &expected[number % 3];
            assert_eq!((text, reason), (expected.text.clone(), json!(expected.finish_reason)));
        }
        let request = json!({
            "prompt": prompts, "n": 2, "max_tokens": 3, "logprobs": 2, "uncertainty": true, "seed": 7,
        });
        let (status, body) = client.post("/v1/completions", &request);
        assert_eq!(status, 200, "{body}");
        let choices = body["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 6);
        for choice in choices {
            let tokens = choice["logprobs"]["tokens"].as_array().unwrap().len();
            assert_eq!(choice["logprobs"]["top_logprobs"][0].as_object().unwrap().len(), 2);
            assert_eq!(choice["uncertainty"]["token_scores"].as_array().unwrap().len(), tokens);
        }
        let written = body["usage"]["completion_tokens"].as_u64().unwrap();
        assert!((6..=18).contains(&written));
    });
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_status_and_a_sentence() {
    let toy = Toy::write();
    let limits = Limits {
        body: 2000,
        rows: 2,
        tokens: 20,
        texts: 4,
        ..Limits::default()
    };
    toy.serve(limits, None, |client| {
        for (path, body, status, message) in [
            ("/v1/predict", json!({"model": "wood", "prompts": ["a"]}), 404,
             "`model` is `wood`, expected one that predicts: `forest`"),
            ("/v1/predict", json!({"model": "base", "prompts": ["a"]}), 404,
             "`model` is `base`, expected one that predicts: `forest`"),
            ("/v1/predict", json!({"prompts": ["a", "b", "c"]}), 400,
             "the request has 3 rows, expected at most 2"),
            ("/v1/predict", json!({"prompts": ["a"], "carry": ["x"]}), 400,
             "`carry` is `x` and there are only finished prompts, expected rows with these columns"),
            ("/v1/predict", json!([1]), 400,
             "the body cannot be read: invalid type: integer `1`, expected a string at line 1 column 2"),
            ("/v1/completions", json!({"prompt": "a", "max_tokens": 21}), 400,
             "`max_tokens` is 21, expected 1 to 20"),
            ("/v1/completions", json!({"prompt": "a", "temperature": -1}), 400,
             "`temperature` is `-1`, expected 0 to 1000"),
            ("/v1/completions", json!({"prompt": ["a", "b", "c"], "n": 2}), 400,
             "6 texts are wanted, expected at most 4"),
            ("/v1/completions", json!({"prompt": "a", "suffix": "b"}), 400,
             "the field `suffix` is not known to this server"),
            ("/v1/completions", json!({"prompt": "a b ".repeat(400)}), 400,
             "the prompt has"),
            ("/v1/chat/completions", json!({"messages": []}), 400,
             "`messages` is empty, expected at least one"),
            ("/v1/chat/completions", json!({"messages": [{"role": "judge", "content": "a"}]}), 400,
             "message 1 has the role `judge`, expected one of"),
            ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "a"}]}), 400,
             "the model's tokenizer has no chat template"),
            ("/v1/predict", json!({"prompts": ["long ".repeat(500)]}), 413,
             "the body is longer than 2000 bytes"),
            ("/nowhere", json!({}), 404, "there is nothing at `/nowhere`"),
            ("/healthz", json!({}), 405, "`/healthz` does not answer to POST"),
        ] {
            let (found, sentence) = client.refused(path, &body);
            assert_eq!(found, status, "{path} {body}: {sentence}");
            assert!(sentence.starts_with(message), "{path} {body}: {sentence}");
        }
        let (status, body) = client.send("POST", "/v1/predict", "", "{}");
        assert_eq!(status, 415, "{body}");
    });
}

#[test]
fn a_server_with_a_token_answers_nobody_without_it() {
    let toy = Toy::write();
    toy.serve(Limits::default(), Some("secret"), |client| {
        let other = |token: Option<&str>| Client {
            token: token.map(String::from),
            ..client.clone()
        };
        assert_eq!(client.get("/v1/models").0, 200);
        for client in [other(None), other(Some("secre")), other(Some("secret2"))] {
            for path in ["/v1/models", "/metrics"] {
                let (status, body) = client.get(path);
                assert_eq!(status, 401);
                assert!(body.contains("Authorization: Bearer"), "{body}");
            }
            let (status, _) = client.refused("/v1/predict", &json!({"prompts": ["a"]}));
            assert_eq!(status, 401);
            assert_eq!(client.get("/healthz").0, 200);
            assert_eq!(client.get("/").0, 200);
        }
    });
}

#[test]
fn the_description_names_the_addresses_and_its_examples_are_answered() {
    let toy = Toy::write();
    toy.serve(Limits::default(), None, |client| {
        let (status, text) = client.get("/openapi.json");
        assert_eq!(status, 200);
        let description: Value = serde_json::from_str(&text).unwrap();
        for (path, methods) in description["paths"].as_object().unwrap() {
            let (wrong, right) = match methods.get("post") {
                Some(_) => (client.get(path).0, client.post(path, &json!(1)).0),
                None => (client.post(path, &json!({})).0, client.get(path).0),
            };
            assert_eq!(wrong, 405, "{path}");
            assert!([200, 400].contains(&right), "{path}: {right}");
        }
        let example =
            |schema: &str| description["components"]["schemas"][schema]["examples"][0].clone();
        let (status, answer) = client.post("/v1/predict", &example("PredictRequest"));
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = client.post("/v1/completions", &example("CompletionRequest"));
        assert_eq!(status, 200, "{answer}");
    });
}

#[test]
fn more_requests_than_may_wait_are_told_to_come_again() {
    let toy = Toy::write();
    let limits = Limits {
        waiting: 1,
        together: 1,
        ..Limits::default()
    };
    toy.serve(limits, None, |client| {
        let asked: Vec<_> = (0..24)
            .map(|_| {
                let client = client.clone();
                let request = json!({"prompt": "At dusk", "max_tokens": 60});
                thread::spawn(move || client.post("/v1/completions", &request))
            })
            .collect();
        let answers = asked.into_iter().map(|asked| asked.join().unwrap());
        let answers: Vec<(u16, Value)> = answers.collect();
        let count = |wanted| {
            answers
                .iter()
                .filter(|(status, _)| *status == wanted)
                .count()
        };
        assert!(count(200) >= 1 && count(429) >= 1, "{answers:?}");
        assert_eq!(count(200) + count(429), 24);
    });
}
