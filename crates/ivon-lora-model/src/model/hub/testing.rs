//! A local server with the hub's URLs for one repository, `org/tiny`, which records the requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::HubSettings;
use crate::testing;

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A server.
pub(super) struct Hub {
    pub endpoint: String,
    asked: Arc<Mutex<Vec<IncomingRequest>>>,
}

/// A received request.
#[derive(Clone, Debug)]
pub(super) struct IncomingRequest {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// The number of earlier requests for the same path.
    pub number: usize,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The declared length, if it is not the body's.
    pub length: Option<usize>,
}

type Twist = Arc<dyn Fn(&IncomingRequest, &Content) -> Option<Reply> + Send + Sync>;

/// The contents of a server.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The token without which every response is 401.
    pub token: Option<&'static str>,
    /// Whether the list of files states sizes and hashes.
    pub says_hashes: bool,
    /// Changes some responses.
    pub twist: Option<Twist>,
}

impl Content {
    pub fn with(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.into(), content.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.files.remove(name);
        self
    }

    pub fn twisted(
        mut self,
        twist: impl Fn(&IncomingRequest, &Content) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        self.twist = Some(Arc::new(twist));
        self
    }

    /// The golden llama as a repository: one safetensors file, a word tokenizer, and a README.
    pub fn golden() -> Self {
        let folder = testing::golden().join("tiny/llama");
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": { "<unk>": 0, "a": 1 }, "unk_token": "<unk>" },
        });
        Self::default()
            .with("config.json", read("config.json"))
            .with("model.safetensors", read("model.safetensors"))
            .with("tokenizer.json", tokenizer.to_string())
            .with("README.md", "no")
    }
}

impl Reply {
    pub fn status(status: &'static str) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn redirect(status: &'static str, to: impl Into<String>) -> Self {
        Self {
            headers: vec![("Location", to.into())],
            ..Self::status(status)
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A file or the requested range of it, with the hub's headers.
    pub fn file(name: &str, bytes: &[u8], asked: &IncomingRequest) -> Self {
        let range = asked
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let number = |text: &str| text.parse::<usize>().ok();
        let (first, last) = range.map_or((0, None), |(first, last)| {
            (number(first).unwrap_or(0), number(last))
        });
        if first >= bytes.len().max(1) {
            return Self::status("416 Range Not Satisfiable");
        }
        let last = last
            .unwrap_or(usize::MAX)
            .min(bytes.len().saturating_sub(1));
        let part = bytes.get(first..=last).unwrap_or_default().to_vec();
        let reply = Self {
            body: part,
            ..Self::status(if range.is_some() {
                "206 Partial Content"
            } else {
                "200 OK"
            })
        };
        let reply = reply
            .header("ETag", format!("\"etag-{}\"", name.replace('/', "-")))
            .header("X-Repo-Commit", COMMIT);
        if range.is_none() {
            reply
        } else {
            reply.header(
                "Content-Range",
                format!("bytes {first}-{last}/{}", bytes.len()),
            )
        }
    }

    /// The body is cut off after this many bytes.
    pub fn cut(mut self, length: usize) -> Self {
        self.length = Some(self.body.len());
        self.body.truncate(length);
        self
    }
}

impl IncomingRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The requested file, by any of its URLs.
    pub fn file(&self) -> Option<&str> {
        self.path
            .split_once(&format!("/{COMMIT}/"))
            .map(|(_, file)| file)
    }
}

impl Hub {
    pub fn serve(content: Content) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &content, &log);
            }
        });
        Self { endpoint, asked }
    }

    pub fn settings(&self, cache: &Path) -> HubSettings {
        HubSettings {
            endpoint: self.endpoint.clone(),
            cache: Some(cache.into()),
            ..HubSettings::default()
        }
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<IncomingRequest> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Their paths, without queries.
    pub fn paths(&self) -> Vec<String> {
        let path =
            |asked: IncomingRequest| asked.path.split('?').next().unwrap_or_default().to_string();
        self.requests().into_iter().map(path).collect()
    }
}

fn answer(
    stream: TcpStream,
    content: &Content,
    log: &Mutex<Vec<IncomingRequest>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines.by_ref() {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let number = log
        .lock()
        .unwrap()
        .iter()
        .filter(|asked| asked.path == path)
        .count();
    let asked = IncomingRequest {
        path,
        headers,
        number,
    };
    log.lock().unwrap().push(asked.clone());
    send(stream, &reply(&asked, content))
}

fn reply(asked: &IncomingRequest, content: &Content) -> Reply {
    if content
        .token
        .is_some_and(|token| asked.header("authorization") != Some(&format!("Bearer {token}")))
    {
        return Reply::status("401 Unauthorized");
    }
    if let Some(reply) = content
        .twist
        .as_ref()
        .and_then(|twist| twist(asked, content))
    {
        return reply;
    }
    let path = asked.path.split('?').next().unwrap_or_default();
    if path == "/api/models/org/tiny/revision/main"
        || path == format!("/api/models/org/tiny/revision/{COMMIT}")
    {
        return Reply {
            body: listing(content),
            ..Reply::status("200 OK")
        };
    }
    let name = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
    match name.and_then(|name| content.files.get_key_value(name)) {
        Some((name, bytes)) => Reply::file(name, bytes, asked),
        None => Reply::status("404 Not Found"),
    }
}

fn listing(content: &Content) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| {
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let files = content.files.iter().map(|(name, bytes)| match content.says_hashes {
        false => json!({ "rfilename": name }),
        true => json!({ "rfilename": name, "size": bytes.len(), "lfs": { "sha256": sha256(bytes), "size": bytes.len() } }),
    });
    json!({ "sha": COMMIT, "siblings": files.collect::<Vec<_>>() })
        .to_string()
        .into()
}

fn send(mut out: TcpStream, reply: &Reply) -> std::io::Result<()> {
    let length = reply.length.unwrap_or(reply.body.len());
    write!(
        out,
        "HTTP/1.1 {}\r\nContent-Length: {length}\r\nConnection: close\r\n",
        reply.status
    )?;
    for (name, value) in &reply.headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    out.write_all(b"\r\n")?;
    out.write_all(&reply.body)
}
