//! A hub name `org/name[@revision]` → the files of that model, downloaded or from the cache that all Hugging Face
//! tools share.
//!
//! The environment is that of `huggingface_hub`: HF_HOME and HF_HUB_CACHE (where the cache lies), HF_ENDPOINT (another
//! server), HF_TOKEN (for private and gated models), HF_HUB_OFFLINE (cache only).

#[cfg(feature = "hub")]
mod download;

use std::path::{Path, PathBuf};

use super::ModelError;

/// The settings of a download.
#[derive(Clone, PartialEq)]
pub struct HubSettings {
    /// The server, without a slash at the end.
    pub endpoint: String,
    /// The cache folder, which holds `models--org--name`; `None` if the user has no home.
    pub cache: Option<PathBuf>,
    /// What identifies the user to the server.
    pub token: Option<String>,
    /// Whether only the cache may be used.
    pub offline: bool,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DownloadProgress<'a> {
    /// The file's name in the repository.
    pub file: &'a str,
    /// Bytes that are there.
    pub received: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// A model on the hub, or one GGUF file of a repository there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HubName {
    /// `org/name`.
    pub repository: String,
    /// The path of a GGUF file in the repository.
    pub file: Option<String>,
    /// A branch, tag or commit.
    pub revision: Option<String>,
}

impl std::fmt::Debug for HubSettings {
    /// Hides the token: what is printed ends in logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "hidden");
        let Self { endpoint, cache, offline, .. } = self;
        write!(formatter, "HubSettings {{ endpoint: {endpoint:?}, cache: {cache:?}, token: {token:?}, offline: {offline} }}")
    }
}

impl HubSettings {
    /// The settings that the environment gives.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let variable = |name: &str| variable(name).map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
        let caches = variable("XDG_CACHE_HOME").map(PathBuf::from).or(home.map(|home| home.join(".cache")));
        let hugging_face = variable("HF_HOME").map(PathBuf::from).or(caches.map(|caches| caches.join("huggingface")));
        let saved_token = || {
            let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or(hugging_face.as_ref().map(|folder| folder.join("token")))?;
            let text = crate::files::read_text(&path, 1 << 16).ok()?;
            Some(text.trim().to_string()).filter(|token| !token.is_empty())
        };
        let truthy = |value: String| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str());
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').into(),
            token: variable("HF_TOKEN").or_else(saved_token),
            offline: variable("HF_HUB_OFFLINE").is_some_and(truthy),
            cache: variable("HF_HUB_CACHE").map(PathBuf::from).or(hugging_face.map(|folder| folder.join("hub"))),
        }
    }
}

impl HubName {
    /// Reads `org/name[@revision]` or `org/name/FILE.gguf[@revision]`; `None` for what cannot be one.
    pub fn parse(name: &str) -> Option<Self> {
        let (path, revision) = name.split_once('@').map_or((name, None), |(path, revision)| (path, Some(revision)));
        let mut parts = path.splitn(3, '/');
        let (organisation, model, file) = (parts.next()?, parts.next()?, parts.next());
        let is_gguf = |file: &str| file.to_lowercase().ends_with(".gguf") && file.split('/').all(is_part);
        let holds = is_part(organisation)
            && is_part(model)
            && file.is_none_or(is_gguf)
            && revision.is_none_or(|revision| revision.split('/').all(is_part));
        holds.then(|| Self {
            repository: format!("{organisation}/{model}"),
            file: file.map(str::to_string),
            revision: revision.map(str::to_string),
        })
    }

    /// The name without the revision.
    pub fn display(&self) -> String {
        match &self.file {
            Some(file) => format!("{}/{file}", self.repository),
            None => self.repository.clone(),
        }
    }

    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The error for this name.
    fn error(&self, reason: impl Into<String>, hint: impl Into<String>) -> ModelError {
        ModelError::Hub { name: self.display(), reason: reason.into(), hint: hint.into() }
    }

    /// The model's folder in the cache.
    fn folder(&self, settings: &HubSettings) -> Result<PathBuf, ModelError> {
        let cache = settings.cache.as_ref();
        let cache = cache.ok_or_else(|| self.error("there is no folder for the download", "set HF_HOME to a folder"))?;
        Ok(cache.join(format!("models--{}", self.repository.replace('/', "--"))))
    }
}

/// Letters, digits, `-`, `_`, `.`, and not a step to another folder.
fn is_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('.')
}

/// The folder (or GGUF file) of a model on this machine; downloads what is missing unless offline.
///
/// # Errors
/// [`ModelError::Hub`] with a hint.
pub(super) fn locate(
    name: &HubName,
    settings: &HubSettings,
    progress: &mut dyn FnMut(DownloadProgress<'_>),
) -> Result<PathBuf, ModelError> {
    if settings.offline {
        return cached(name, settings);
    }
    #[cfg(feature = "hub")]
    return download::download(name, settings, progress);
    #[cfg(not(feature = "hub"))]
    {
        let _ = progress;
        Err(name.error("this build cannot download models", "build it with the feature `hub`, or name a folder or a `.gguf` file"))
    }
}

/// What an earlier download of the same revision left.
fn cached(name: &HubName, settings: &HubSettings) -> Result<PathBuf, ModelError> {
    let absent = || {
        let reason = format!("revision `{}` is not in the cache, and HF_HUB_OFFLINE forbids the download", name.revision());
        name.error(reason, "unset HF_HUB_OFFLINE, or set HF_HOME to where the model was downloaded")
    };
    let folder = name.folder(settings)?;
    let commit = std::fs::read_to_string(folder.join("refs").join(name.revision())).unwrap_or_else(|_| name.revision().into());
    // The commit comes from a file; it must not lead out of the cache.
    let snapshot = Some(commit.trim()).filter(|commit| is_part(commit)).map(|commit| folder.join("snapshots").join(commit));
    let snapshot = snapshot.filter(|snapshot| snapshot.is_dir()).ok_or_else(absent)?;
    match &name.file {
        None => Ok(snapshot),
        Some(file) => Some(snapshot.join(file)).filter(|path: &PathBuf| Path::exists(path)).ok_or_else(absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names_have_an_organisation_a_name_and_perhaps_a_file_and_a_revision() {
        let read = |name: &str| HubName::parse(name).map(|name| (name.repository, name.file, name.revision));
        let some = |text: &str| Some(text.to_string());
        assert_eq!(read("org/name"), Some(("org/name".into(), None, None)));
        assert_eq!(read("org/name-1.5_b@refs/pr/3"), Some(("org/name-1.5_b".into(), None, some("refs/pr/3"))));
        assert_eq!(read("o/n/q/m.GGUF@v1"), Some(("o/n".into(), some("q/m.GGUF"), some("v1"))));
        for other in
            ["", "name", "./a/b", "/a/b", "../a", "a/..", "a/b/c", "a/b/../c.gguf", "a b/c", "a/b@", "~/a", "a/b@../x", "a//b.gguf"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_environment_is_that_of_hugging_faces_own_tools() {
        let settings = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
            HubSettings::from_variables(find, Some("/home/me".into()))
        };
        let plain = settings(&[]);
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache, Some("/home/me/.cache/huggingface/hub".into()));
        assert_eq!((plain.token, plain.offline), (None, false));
        let all = settings(&[("HF_HOME", "/big"), ("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", " hf_x\n"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!((all.endpoint.as_str(), all.cache.clone(), all.offline), ("http://mirror", Some("/big/hub".into()), true));
        assert_eq!(all.token.as_deref(), Some("hf_x"));
        assert!(!format!("{all:?}").contains("hf_x"));
        assert_eq!(settings(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/big")]).cache, Some("/c".into()));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn a_saved_token_is_used_where_no_variable_gives_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_saved\n").unwrap();
        let home = folder.path().display().to_string();
        let settings = HubSettings::from_variables(|name| (name == "HF_HOME").then(|| home.clone()), None);
        assert_eq!(settings.token.as_deref(), Some("hf_saved"));
    }

    #[test]
    fn offline_finds_what_the_cache_holds_by_branch_and_by_commit_and_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let settings = HubSettings { endpoint: String::new(), cache: Some(cache.path().into()), token: None, offline: true };
        let folder = cache.path().join("models--o--n");
        let snapshot = folder.join("snapshots/abc123");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "abc123\n").unwrap();
        std::fs::write(folder.join("refs/evil"), "../../..").unwrap();
        std::fs::write(snapshot.join("m.gguf"), "").unwrap();
        let find = |name: &str| locate(&HubName::parse(name).unwrap(), &settings, &mut |_| {});
        assert_eq!(find("o/n").unwrap(), snapshot);
        assert_eq!(find("o/n@abc123").unwrap(), snapshot);
        assert_eq!(find("o/n/m.gguf").unwrap(), snapshot.join("m.gguf"));
        for absent in ["o/n@v2", "o/n/x.gguf", "o/other", "o/n@evil"] {
            let error = find(absent).unwrap_err();
            assert!(error.to_string().contains("is not in the cache, and HF_HUB_OFFLINE forbids the download"), "{error}");
            assert!(error.hint().unwrap().contains("HF_HUB_OFFLINE"));
        }
    }
}
