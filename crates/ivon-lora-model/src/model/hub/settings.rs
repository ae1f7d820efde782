//! The settings of downloads, from the same environment variables as in
//! `huggingface_hub/constants.py`.

use std::path::PathBuf;
use std::time::Duration;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";
/// The default timeout of `huggingface_hub`.
const PATIENCE: Duration = Duration::from_secs(10);

/// The settings of a download.
#[derive(Clone, PartialEq)]
pub struct HubSettings {
    /// The server, without a trailing slash.
    pub endpoint: String,
    /// The cache folder, which contains `models--org--name`; `None` if the user has no home folder.
    pub cache: Option<PathBuf>,
    /// The user's token, sent to that server only.
    pub token: Option<String>,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// The timeout for connecting and for a response.
    pub answer_timeout: Duration,
    /// The timeout for a transfer without progress.
    pub read_timeout: Duration,
    /// Whether a snapshot links to its blobs; otherwise it has the files themselves.
    pub links: bool,
}

impl Default for HubSettings {
    /// The public hub, no cache, no token.
    fn default() -> Self {
        Self {
            endpoint: PUBLIC.into(),
            cache: None,
            token: None,
            offline: false,
            answer_timeout: PATIENCE,
            read_timeout: PATIENCE,
            links: true,
        }
    }
}

impl std::fmt::Debug for HubSettings {
    /// Hides the user's secrets, because debug output ends up in logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HubSettings")
            .field("endpoint", &self.server())
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl HubSettings {
    /// The settings from the environment.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    /// The endpoint for messages, without user and password.
    pub fn server(&self) -> String {
        match (
            self.endpoint.split_once("://"),
            self.endpoint.rsplit_once('@'),
        ) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            _ => self.endpoint.clone(),
        }
    }

    /// Whether this is the public hub, which has two host names.
    #[cfg(feature = "hub")]
    pub(super) fn is_public(&self) -> bool {
        self.endpoint == PUBLIC || self.endpoint == "https://hf.co"
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let variables = Variables {
            get: variable,
            home,
        };
        let endpoint = variables.text("HF_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|| PUBLIC.into());
        let cache = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"];
        let cache = cache.iter().find_map(|name| variables.path(name));
        // The first variable that is set decides, even if it is false.
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        let offline = offline.iter().find_map(|name| variables.text(name));
        let timeout = |name: &str| variables.seconds(name).unwrap_or(PATIENCE);
        Self {
            endpoint: endpoint.trim().trim_end_matches('/').into(),
            token: variables.token(),
            offline: offline.is_some_and(|value| truthy(&value)),
            cache: cache.or_else(|| Some(variables.hugging_face_home()?.join("hub"))),
            answer_timeout: timeout("HF_HUB_ETAG_TIMEOUT"),
            read_timeout: timeout("HF_HUB_DOWNLOAD_TIMEOUT"),
            links: !variables.is_true("HF_HUB_DISABLE_SYMLINKS"),
        }
    }
}

/// Environment variables. An empty one counts as unset: nobody wants a cache in the working
/// directory.
struct Variables<G> {
    get: G,
    home: Option<PathBuf>,
}

impl<G: Fn(&str) -> Option<String>> Variables<G> {
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.trim().is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.text(name)?;
        Some(expanded(&value, &self.get, self.home.as_ref()))
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| truthy(&value))
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds: u64 = self.text(name)?.trim().parse().ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// The folder of all Hugging Face tools.
    fn hugging_face_home(&self) -> Option<PathBuf> {
        let caches = || Some(self.home.as_ref()?.join(".cache"));
        let caches = || self.path("XDG_CACHE_HOME").or_else(caches);
        self.path("HF_HOME")
            .or_else(|| Some(caches()?.join("huggingface")))
    }

    /// The token in a variable, or in the file where `hf auth login` saves it.
    fn token(&self) -> Option<String> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return None;
        }
        let given = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
        let given = given.iter().find_map(|name| self.text(name));
        if let Some(token) = given.and_then(|token| cleaned(&token)) {
            return Some(token);
        }
        let saved = self.path("HF_TOKEN_PATH");
        let saved = saved.or_else(|| Some(self.hugging_face_home()?.join("token")))?;
        cleaned(&crate::files::read_text(&saved, 1 << 16).ok()?)
    }
}

fn truthy(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

/// A token without the line end that an editor adds.
fn cleaned(token: &str) -> Option<String> {
    let token = token.replace(['\r', '\n'], "");
    Some(token.trim().to_string()).filter(|token| !token.is_empty())
}

/// Expands a leading `~`, then `$NAME` and `${NAME}`, as Python's `expanduser` and `expandvars`;
/// unknown names are left as they are.
fn expanded(
    value: &str,
    variable: &impl Fn(&str) -> Option<String>,
    home: Option<&PathBuf>,
) -> PathBuf {
    let rest = value
        .strip_prefix('~')
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let value = match (rest, home) {
        (Some(rest), Some(home)) => format!("{}{rest}", home.display()),
        _ => value.to_string(),
    };
    let (mut out, mut rest) = (String::new(), value.as_str());
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, behind) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some(braced) => braced,
            None => {
                let letters = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                after.split_at(after.find(letters).unwrap_or(after.len()))
            }
        };
        match variable(name).filter(|_| !name.is_empty()) {
            Some(found) => out.push_str(&found),
            None => out.push_str(&value[value.len() - after.len() - 1..value.len() - behind.len()]),
        }
        rest = behind;
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| {
            Some(
                variables
                    .iter()
                    .find(|(known, _)| *known == name)?
                    .1
                    .to_string(),
            )
        };
        HubSettings::from_variables(find, Some("/home/me".into()))
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        settings(variables).cache.unwrap().display().to_string()
    }

    #[test]
    fn without_variables_it_is_the_public_hub_and_the_users_cache() {
        let plain = settings(&[]);
        assert_eq!(
            (plain.endpoint.as_str(), plain.token.clone(), plain.offline),
            (PUBLIC, None, false)
        );
        assert_eq!(plain.cache, Some("/home/me/.cache/huggingface/hub".into()));
        assert_eq!(
            (plain.answer_timeout, plain.read_timeout),
            (PATIENCE, PATIENCE)
        );
        assert_eq!(HubSettings::from_variables(|_| None, None).cache, None);
    }

    /// The value of `huggingface_hub.constants.HF_HUB_CACHE` with the same variables and
    /// HOME=/home/me (version 2.4.0).
    #[test]
    fn the_cache_lies_where_huggingface_hub_has_it() {
        for (variables, expected) in [
            (&[("XDG_CACHE_HOME", "/x")][..], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (
                &[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/old",
            ),
            (
                &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/new",
            ),
            (&[("HF_HOME", "~/models")], "/home/me/models/hub"),
            (&[("HF_HOME", "~")], "/home/me/hub"),
            (&[("HF_HOME", "~other/models")], "~other/models/hub"),
            (&[("HF_HOME", "$BIG/hf"), ("BIG", "/disk")], "/disk/hf/hub"),
            (
                &[("HF_HOME", "${BIG}hf/$NONE/$"), ("BIG", "/disk/")],
                "/disk/hf/$NONE/$/hub",
            ),
            (
                &[("HF_HUB_CACHE", "~/$A_1/${B}"), ("A_1", "a"), ("B", "b")],
                "/home/me/a/b",
            ),
            (&[("XDG_CACHE_HOME", "~/x")], "/home/me/x/huggingface/hub"),
        ] {
            assert_eq!(cache(variables), expected, "{variables:?}");
        }
        // transformers 5 does not read this one any more, and would not find the files.
        assert_eq!(
            cache(&[("TRANSFORMERS_CACHE", "/t"), ("HF_HOME", "/h")]),
            "/h/hub"
        );
        // An empty variable counts as unset.
        assert_eq!(
            cache(&[("HF_HOME", ""), ("HF_HUB_CACHE", " ")]),
            "/home/me/.cache/huggingface/hub"
        );
    }

    #[test]
    fn either_variable_makes_it_offline_and_the_first_that_is_set_decides() {
        for (variables, offline) in [
            (&[("HF_HUB_OFFLINE", "1")][..], true),
            (&[("HF_HUB_OFFLINE", "on")], true),
            (&[("TRANSFORMERS_OFFLINE", "Yes")], true),
            (
                &[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "TRUE")],
                true,
            ),
            (
                &[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")],
                false,
            ),
            (&[("HF_HUB_OFFLINE", "offline")], false),
        ] {
            assert_eq!(settings(variables).offline, offline, "{variables:?}");
        }
    }

    #[test]
    fn a_token_comes_from_a_variable_or_a_file_unless_that_is_forbidden() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        std::fs::write(folder.path().join("token"), "hf_saved\r\n").unwrap();
        std::fs::write(folder.path().join("other"), "hf_other").unwrap();
        let other = format!("{home}/other");
        for (variables, token) in [
            (&[("HF_HOME", home.as_str())][..], Some("hf_saved")),
            (
                &[("HF_HOME", &home), ("HF_TOKEN_PATH", "$HF_HOME/other")],
                Some("hf_other"),
            ),
            (
                &[
                    ("HF_TOKEN_PATH", &other),
                    ("HUGGING_FACE_HUB_TOKEN", "hf_old"),
                ],
                Some("hf_old"),
            ),
            (
                &[
                    ("HF_TOKEN", " hf_x\n"),
                    ("HUGGING_FACE_HUB_TOKEN", "hf_old"),
                ],
                Some("hf_x"),
            ),
            (
                &[("HF_TOKEN", "hf_x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")],
                None,
            ),
        ] {
            assert_eq!(settings(variables).token.as_deref(), token, "{variables:?}");
        }
    }

    #[test]
    fn timeouts_and_links_follow_their_variables() {
        let set = settings(&[
            ("HF_HUB_ETAG_TIMEOUT", "3"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "60"),
            ("HF_HUB_DISABLE_SYMLINKS", "true"),
        ]);
        assert_eq!(
            (
                set.answer_timeout.as_secs(),
                set.read_timeout.as_secs(),
                set.links
            ),
            (3, 60, false)
        );
        assert_eq!(
            settings(&[("HF_HUB_ETAG_TIMEOUT", "0")]).answer_timeout,
            PATIENCE
        );
    }

    #[test]
    fn what_identifies_the_user_is_never_printed() {
        let set = settings(&[
            ("HF_ENDPOINT", "https://me:secret@mirror.org/hub/"),
            ("HF_TOKEN", "hf_x"),
        ]);
        assert_eq!(set.endpoint, "https://me:secret@mirror.org/hub");
        assert_eq!(set.server(), "https://mirror.org/hub");
        let printed = format!("{set:?}");
        assert!(
            !printed.contains("hf_x") && !printed.contains("secret"),
            "{printed}"
        );
    }
}
