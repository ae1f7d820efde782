//! Downloads a model's files through hf-hub into the shared cache, all of one commit.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{DownloadProgress, HubName, HubSettings, is_part};
use crate::files;
use crate::model::ModelError;
use crate::model::safetensors::{INDEX, indexed_files};

/// Files beside the weights, taken where they exist.
const COMPANIONS: [&str; 6] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"];
/// A transfer that breaks off is taken up again this many times.
const RETRIES: usize = 2;

/// A commit of a repository: what is in it, where its files go.
struct Snapshot<'a> {
    name: &'a HubName,
    settings: &'a HubSettings,
    api: ApiRepo,
    files: Vec<String>,
    folder: PathBuf,
}

/// Downloads what is missing of a model and gives its folder, or its GGUF file.
pub(super) fn download(
    name: &HubName,
    settings: &HubSettings,
    progress: &mut dyn FnMut(DownloadProgress<'_>),
) -> Result<PathBuf, ModelError> {
    let snapshot = Snapshot::find(name, settings)?;
    if let Some(gguf) = snapshot.gguf()? {
        return snapshot.fetch(&gguf, progress);
    }
    for file in COMPANIONS.iter().filter(|file| snapshot.has(file)) {
        snapshot.fetch(file, progress)?;
    }
    for file in snapshot.weights(progress)? {
        snapshot.fetch(&file, progress)?;
    }
    Ok(snapshot.folder)
}

impl<'a> Snapshot<'a> {
    /// Asks the server for the commit of the revision and its files, and notes the commit in the cache.
    fn find(name: &'a HubName, settings: &'a HubSettings) -> Result<Self, ModelError> {
        let folder = name.folder(settings)?;
        let cache = Cache::new(folder.parent().unwrap_or(Path::new("")).into());
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(settings.endpoint.clone());
        let builder = builder.with_token(settings.token.clone()).with_progress(false).with_retries(RETRIES);
        let api = builder.build().map_err(|error| explain(name, settings, &error))?;
        let repository = |revision: &str| Repo::with_revision(name.repository.clone(), RepoType::Model, revision.into());
        let info = api.repo(repository(name.revision())).info().map_err(|error| explain(name, settings, &error))?;
        // The commit and the names become paths in the cache.
        let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        if !is_part(&info.sha) {
            return Err(name.error(format!("the server gave the commit `{}`, expected a hash", info.sha), "check HF_ENDPOINT"));
        }
        let unwritable =
            |error: std::io::Error| name.error(format!("the cache cannot be written, {error}"), "set HF_HOME to another folder");
        cache.repo(repository(name.revision())).create_ref(&info.sha).map_err(unwritable)?;
        let folder = folder.join("snapshots").join(&info.sha);
        Ok(Self { name, settings, api: api.repo(repository(&info.sha)), files, folder })
    }

    fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known == file)
    }

    /// The GGUF file that was asked for, or the only one of a repository without a config.json.
    fn gguf(&self) -> Result<Option<String>, ModelError> {
        let is_gguf = |file: &&String| file.to_lowercase().ends_with(".gguf") && file.split('/').all(is_part);
        let found: Vec<&String> = self.files.iter().filter(is_gguf).collect();
        let choose =
            || format!("name one, for example `{}/{}`", self.name.repository, found.first().map_or("FILE.gguf", |file| file.as_str()));
        match (&self.name.file, &found[..]) {
            (Some(file), _) if self.has(file) => Ok(Some(file.clone())),
            (Some(file), _) => Err(self.name.error(format!("there is no file `{file}`, but {} `.gguf` files", found.len()), choose())),
            (None, _) if self.has("config.json") => Ok(None),
            (None, [one]) => Ok(Some(one.to_string())),
            (None, []) => {
                let hint = "choose a repository with safetensors weights, or a `.gguf` file";
                Err(self.name.error("the repository has neither a `config.json` nor a `.gguf` file", hint))
            }
            (None, many) => Err(self.name.error(format!("the repository has {} `.gguf` files, expected one", many.len()), choose())),
        }
    }

    /// The files that hold the weights; the index, where there is one, is downloaded to know them.
    fn weights(&self, progress: &mut dyn FnMut(DownloadProgress<'_>)) -> Result<Vec<String>, ModelError> {
        if self.has(INDEX) {
            return Ok(indexed_files(&self.fetch(INDEX, progress)?)?.into_iter().collect());
        }
        if self.has("model.safetensors") {
            return Ok(vec!["model.safetensors".into()]);
        }
        let mut found = self.files.iter().filter(|file| file.ends_with(".safetensors") && is_part(file));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(vec![one.clone()]),
            _ => Err(self.name.error(
                "the repository has no `model.safetensors` and no index of several",
                "choose a repository with safetensors weights, or a `.gguf` file",
            )),
        }
    }

    /// The path of a file in the cache, downloaded if it is not there.
    fn fetch(&self, file: &str, progress: &mut dyn FnMut(DownloadProgress<'_>)) -> Result<PathBuf, ModelError> {
        let path = self.folder.join(file);
        if path.exists() {
            return Ok(path);
        }
        let total = Cell::new(0);
        let report = Report { file, received: 0, total: &total, progress };
        let path = self.api.download_with_progress(file, report).map_err(|error| explain(self.name, self.settings, &error))?;
        let found = std::fs::metadata(&path).map_err(|source| files::FileError::Io { action: "read", path: path.clone(), source })?.len();
        if found == total.get() {
            return Ok(path);
        }
        // A short file must not stay in the cache as if it were whole: neither the blob nor the link to it.
        let _ = path.canonicalize().and_then(std::fs::remove_file);
        let _ = std::fs::remove_file(&path);
        Err(self.name.error(format!("`{file}` came with {found} bytes, expected {}", total.get()), "try again"))
    }
}

/// Passes hf-hub's steps on as sums.
struct Report<'a> {
    file: &'a str,
    received: u64,
    total: &'a Cell<u64>,
    progress: &'a mut dyn FnMut(DownloadProgress<'_>),
}

impl Report<'_> {
    fn tell(&mut self) {
        (self.progress)(DownloadProgress { file: self.file, received: self.received, total: self.total.get() });
    }
}

impl Progress for Report<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.total.set(size as u64);
        self.received = 0;
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.received += size as u64;
        self.tell();
    }

    fn finish(&mut self) {}
}

/// A sentence and a hint for what went wrong between us and the server.
fn explain(name: &HubName, settings: &HubSettings, error: &ApiError) -> ModelError {
    let text = error.to_string();
    // hf-hub hands on ureq's error, whose type this crate does not know; its text is `http status: 404`.
    let status = text.split_once("http status: ").map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let server = &settings.endpoint;
    let spelling = "check the spelling (there is no folder or file of that name here either)";
    match status.as_deref() {
        Some("401") if settings.token.is_none() => name.error(
            format!("{server} does not let everyone read it, or does not know it (status 401)"),
            format!("{spelling}; a private or gated model needs HF_TOKEN"),
        ),
        Some(code @ ("401" | "403")) => name.error(
            format!("{server} refused the token (status {code})"),
            "is HF_TOKEN still valid, and have the model's terms been accepted on its page?",
        ),
        Some("404") => name.error(format!("{server} knows no such model or revision `{}`", name.revision()), spelling),
        Some(code) => name.error(format!("{server} answered with status {code}"), "try again later"),
        None => name.error(
            format!("the download from {server} failed, {text}"),
            "there is no folder or file of that name here, so it was looked for on the hub: check the path (one that \
             a run keeps counts from where the run was made), or the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what was downloaded before",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::model::Checkpoint;
    use crate::testing;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A server that speaks the hub's paths for one repository, `org/tiny`, on this machine.
    struct Hub {
        endpoint: String,
        /// Paths that were asked for, in order.
        asked: Arc<Mutex<Vec<String>>>,
    }

    #[derive(Clone, Default)]
    struct Content {
        files: HashMap<String, Vec<u8>>,
        /// The token without which everything is 401.
        token: Option<&'static str>,
        /// Bytes that are left off the end of this file.
        short: Option<&'static str>,
    }

    impl Hub {
        fn serve(content: Content) -> Self {
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

        fn settings(&self, cache: &Path) -> HubSettings {
            HubSettings { endpoint: self.endpoint.clone(), cache: Some(cache.into()), token: None, offline: false }
        }

        fn requests(&self) -> Vec<String> {
            std::mem::take(&mut self.asked.lock().unwrap())
        }
    }

    fn answer(stream: TcpStream, content: &Content, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut headers = HashMap::new();
        for line in lines.by_ref() {
            let line = line?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_string());
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_string();
        log.lock().unwrap().push(path.clone());
        respond(stream, &path, &headers, content)
    }

    fn respond(mut out: TcpStream, path: &str, headers: &HashMap<String, String>, content: &Content) -> std::io::Result<()> {
        let mut plain = |status: &str, body: &str| {
            write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        };
        if content.token.is_some_and(|token| headers.get("authorization") != Some(&format!("Bearer {token}"))) {
            return plain("401 Unauthorized", "");
        }
        if path == "/api/models/org/tiny/revision/main" || path == format!("/api/models/org/tiny/revision/{COMMIT}") {
            let names: Vec<_> = content.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            return plain("200 OK", &serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string());
        }
        let name = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
        let Some((name, bytes)) = name.and_then(|name| content.files.get_key_value(name)) else { return plain("404 Not Found", "") };
        let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (first, last) = range.unwrap_or(("0", ""));
        let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(bytes.len() - 1));
        let mut part = &bytes[first..=last];
        if part.len() > 1 && content.short == Some(name) {
            part = &part[..part.len() - 1];
        }
        write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n",
            part.len(),
            bytes.len()
        )?;
        write!(out, "Accept-Ranges: bytes\r\nETag: \"etag-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n")?;
        out.write_all(part)
    }

    /// The golden llama as a repository: one safetensors file.
    fn golden() -> Content {
        let folder = testing::golden().join("tiny/llama");
        let read = |name: &str| (name.to_string(), std::fs::read(folder.join(name)).unwrap());
        Content {
            files: [read("config.json"), read("model.safetensors"), ("README.md".into(), b"no".to_vec())].into(),
            ..Default::default()
        }
    }

    fn open(name: &str, settings: &HubSettings) -> Result<Checkpoint, ModelError> {
        Checkpoint::open_with(name, settings, &mut |_| {})
    }

    #[test]
    fn a_model_is_downloaded_once_and_then_found_in_the_cache_also_offline() {
        let (hub, cache) = (Hub::serve(golden()), tempfile::tempdir().unwrap());
        let settings = hub.settings(cache.path());
        let mut seen = Vec::new();
        let mut listen = |step: DownloadProgress| seen.push((step.file.to_string(), step.received, step.total));
        let checkpoint = Checkpoint::open_with("org/tiny", &settings, &mut listen).unwrap();
        assert_eq!((checkpoint.display_name(), checkpoint.revision()), ("org/tiny", None));
        let local = Checkpoint::open(&testing::golden().join("tiny/llama").display().to_string()).unwrap();
        assert_eq!(checkpoint.fingerprint().unwrap(), local.fingerprint().unwrap());
        let size = golden().files["model.safetensors"].len() as u64;
        assert_eq!(seen.last(), Some(&("model.safetensors".into(), size, size)));
        assert!(hub.requests().iter().all(|path| !path.contains("README")));

        assert_eq!(open("org/tiny", &settings).unwrap().names(), checkpoint.names());
        assert_eq!(hub.requests(), ["/api/models/org/tiny/revision/main"]);

        let offline = HubSettings { offline: true, ..settings };
        let pinned = open(&format!("org/tiny@{COMMIT}"), &offline).unwrap();
        assert_eq!((pinned.display_name(), pinned.revision()), ("org/tiny", Some(COMMIT)));
        assert_eq!(open("org/tiny", &offline).unwrap().names(), checkpoint.names());
        assert!(hub.requests().is_empty());
    }

    #[test]
    fn an_index_brings_all_of_its_files() {
        let mut content = golden();
        let weights = content.files.remove("model.safetensors").unwrap();
        let names = Checkpoint::open(&testing::golden().join("tiny/llama").display().to_string()).unwrap().names();
        let map: HashMap<_, _> = names.iter().map(|name| (name, "model-1.safetensors")).collect();
        content.files.insert("model-1.safetensors".into(), weights);
        content.files.insert(INDEX.into(), serde_json::json!({ "weight_map": map }).to_string().into());
        let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
        assert_eq!(open("org/tiny", &hub.settings(cache.path())).unwrap().names(), names);
    }

    #[test]
    fn a_gguf_file_is_found_by_name_or_alone_and_many_ask_for_a_name() {
        let gguf = |names: &[&str]| Content {
            files: names.iter().map(|name| (name.to_string(), b"GGUF....".to_vec())).collect(),
            ..Default::default()
        };
        let message = |content: Content, name: &str| {
            let (hub, cache) = (Hub::serve(content), tempfile::tempdir().unwrap());
            let error = open(name, &hub.settings(cache.path())).unwrap_err();
            (error.to_string(), error.hint().unwrap_or_default())
        };
        // The file is no real GGUF, so that its error shows that it was opened.
        assert!(message(gguf(&["q/a.gguf"]), "org/tiny").0.starts_with("`a.gguf` is malformed"));
        assert!(message(gguf(&["a.gguf", "b.gguf"]), "org/tiny/b.gguf").0.starts_with("`b.gguf` is malformed"));
        let (many, hint) = message(gguf(&["a.gguf", "b.gguf"]), "org/tiny");
        assert_eq!(many, "model `org/tiny`: the repository has 2 `.gguf` files, expected one");
        assert!(hint.contains("name one, for example `org/tiny/"), "{hint}");
        assert!(message(gguf(&["a.gguf"]), "org/tiny/c.gguf").0.contains("there is no file `c.gguf`, but 1 `.gguf` files"));
        assert!(message(gguf(&["a.bin"]), "org/tiny").0.contains("has neither a `config.json` nor a `.gguf` file"));
        let mut pickled = golden();
        pickled.files.remove("model.safetensors");
        assert!(message(pickled, "org/tiny").0.contains("has no `model.safetensors` and no index"));
    }

    #[test]
    fn a_private_model_needs_the_token_and_says_so() {
        let (hub, cache) = (Hub::serve(Content { token: Some("hf_right"), ..golden() }), tempfile::tempdir().unwrap());
        let with = |token: Option<&str>| open("org/tiny", &HubSettings { token: token.map(str::to_string), ..hub.settings(cache.path()) });
        let without = with(None).unwrap_err();
        assert!(without.to_string().ends_with("does not let everyone read it, or does not know it (status 401)"), "{without}");
        assert!(without.hint().unwrap().contains("HF_TOKEN"));
        let wrong = with(Some("hf_wrong")).unwrap_err();
        assert!(wrong.to_string().ends_with("refused the token (status 401)"), "{wrong}");
        assert!(with(Some("hf_right")).is_ok());
    }

    #[test]
    fn a_wrong_name_revision_or_server_is_a_sentence_with_a_hint() {
        let (hub, cache) = (Hub::serve(golden()), tempfile::tempdir().unwrap());
        let settings = hub.settings(cache.path());
        for name in ["org/other", "org/tiny@v9"] {
            let error = open(name, &settings).unwrap_err();
            assert!(error.to_string().contains("knows no such model or revision"), "{error}");
            assert!(error.hint().unwrap().contains("check the spelling"));
        }
        // A port that nobody listens on: bound, read, and closed again.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = open("org/tiny", &HubSettings { endpoint: format!("http://{closed}"), ..settings }).unwrap_err();
        assert!(error.to_string().contains(&format!("the download from http://{closed} failed")), "{error}");
        assert!(error.hint().unwrap().contains("HF_HUB_OFFLINE=1"));
    }

    #[test]
    fn a_file_that_comes_short_is_an_error_and_does_not_stay_in_the_cache() {
        let (hub, cache) = (Hub::serve(Content { short: Some("model.safetensors"), ..golden() }), tempfile::tempdir().unwrap());
        let error = open("org/tiny", &hub.settings(cache.path())).unwrap_err();
        assert!(error.to_string().contains("`model.safetensors` came with"), "{error}");
        let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
        assert!(snapshot.join("config.json").exists() && !snapshot.join("model.safetensors").exists());
        let whole = Hub::serve(golden());
        assert!(open("org/tiny", &whole.settings(cache.path())).is_ok());
    }
}
