//! Parses names of models on the hub as users give them: `org/name`, a file or a quantisation in
//! it, a revision, a pasted URL.

use super::settings::HubSettings;
use crate::model::error::ModelError;
use crate::sentence::Sentence;

/// A model on the hub, or GGUF files in a repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::model) struct HubName {
    /// `org/name`.
    pub repository: String,
    /// The path of a GGUF file in the repository.
    pub file: Option<String>,
    /// The quantisation in the name of a GGUF file of the repository, such as `Q4_K_M`.
    pub quantisation: Option<String>,
    /// A branch, tag or commit.
    pub revision: Option<String>,
}

impl HubName {
    /// Parses `org/name[:QUANT][@revision]`, `org/name/FILE.gguf[@revision]` or the URL of a page
    /// or file on the hub; `None` if it is none of these.
    ///
    /// # Errors
    /// [`ModelError::Hub`] for a URL elsewhere.
    pub fn read(text: &str, settings: &HubSettings) -> Result<Option<Self>, ModelError> {
        match address_path(text, settings)? {
            Some(path) => Self::of_address(text, &path).map(Some),
            None => Ok(Self::parse(text)),
        }
    }

    /// Parses a hub name unless a local file or folder has that name; `None` if one has.
    ///
    /// # Errors
    /// As [`HubName::read`]; [`ModelError::NotFound`] if it is not a hub name either.
    pub fn where_nothing_is(
        text: &str,
        settings: &HubSettings,
    ) -> Result<Option<Self>, ModelError> {
        if std::path::Path::new(text).exists() {
            return Ok(None);
        }
        Self::read(text, settings)?
            .map(Some)
            .ok_or_else(|| ModelError::NotFound { name: text.into() })
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (path, revision) = name
            .split_once('@')
            .map_or((name, None), |(path, revision)| (path, Some(revision)));
        let mut parts = path.splitn(3, '/');
        let (organisation, model, file) = (parts.next()?, parts.next()?, parts.next());
        let (model, quantisation) = match model.split_once(':').filter(|_| file.is_none()) {
            Some((model, quantisation)) => (model, Some(quantisation)),
            None => (model, None),
        };
        let holds = is_part(organisation)
            && is_part(model)
            && quantisation.is_none_or(is_part)
            && file.is_none_or(is_gguf)
            && revision.is_none_or(is_path);
        let text = |part: Option<&str>| part.map(str::to_string);
        // Ollama's name for "any".
        let quantisation = quantisation.filter(|tag| !tag.eq_ignore_ascii_case("latest"));
        holds.then(|| Self {
            repository: format!("{organisation}/{model}"),
            file: text(file),
            quantisation: text(quantisation),
            revision: text(revision),
        })
    }

    /// Parses `org/name[:QUANT][@revision]` or `org/name/{tree,blob,resolve}/REVISION[/FILE]`, the
    /// path of a URL.
    fn of_address(text: &str, path: &str) -> Result<Self, ModelError> {
        let wrong = |reason: &str| ModelError::Hub {
            name: text.into(),
            reason: reason.into(),
            hint: "name the model as `org/name`, with `@revision` where it is not `main`".into(),
        };
        let parts: Vec<&str> = path.trim_matches('/').splitn(5, '/').collect();
        match parts[..] {
            [
                "datasets" | "spaces" | "collections" | "papers" | "docs",
                ..,
            ] => Err(wrong("the address is not that of a model")),
            [_, _] => Self::parse(parts[..].join("/").as_str())
                .ok_or_else(|| wrong("the address names no model")),
            [
                organisation,
                model,
                "tree" | "blob" | "resolve" | "raw" | "commit",
                revision,
                ref rest @ ..,
            ] => {
                let revision =
                    decoded(revision).ok_or_else(|| wrong("the address names no revision"))?;
                let name = Self::parse(&format!("{organisation}/{model}@{revision}"));
                let name = name.ok_or_else(|| wrong("the address names no model"))?;
                let file = rest.first().map(|file| decoded(file).unwrap_or_default());
                match file {
                    None => Ok(name),
                    Some(file) if is_gguf(&file) => Ok(Self {
                        file: Some(file),
                        ..name
                    }),
                    // Any other top-level file belongs to the model.
                    Some(file) if is_part(&file) && file.contains('.') => Ok(name),
                    Some(file) => Err(wrong(&format!(
                        "`{file}` lies in a folder of the repository, expected a model at its top"
                    ))),
                }
            }
            // Other pages of a model: its discussions, its list of files.
            [organisation, model, _, ..] => Self::parse(&format!("{organisation}/{model}"))
                .ok_or_else(|| wrong("the address names no model")),
            _ => Err(wrong("the address names no model")),
        }
    }

    /// The name without the revision.
    pub fn display(&self) -> String {
        match (&self.file, &self.quantisation) {
            (Some(file), _) => format!("{}/{file}", self.repository),
            (None, Some(quantisation)) => format!("{}:{quantisation}", self.repository),
            (None, None) => self.repository.clone(),
        }
    }

    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The error for this name.
    pub(super) fn error(&self, reason: impl Into<String>, hint: impl Into<Sentence>) -> ModelError {
        ModelError::Hub {
            name: self.display(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

/// The path of a URL on the hub, without query and fragment; `None` if the text is not a URL.
pub(super) fn address_path(
    text: &str,
    settings: &HubSettings,
) -> Result<Option<String>, ModelError> {
    let text = text.trim();
    let bare = text.split(['?', '#']).next().unwrap_or_default();
    if let Some(path) = bare.strip_prefix("hf://") {
        return Ok(Some(path.strip_prefix("models/").unwrap_or(path).into()));
    }
    let Some((scheme, rest)) = bare.split_once("://") else {
        // As in Ollama, and as displayed by browsers.
        return Ok(["hf.co/", "huggingface.co/"]
            .iter()
            .find_map(|host| bare.strip_prefix(host))
            .map(str::to_string));
    };
    match path_on_hub(rest, settings) {
        Some(path) if ["http", "https"].contains(&scheme.to_lowercase().as_str()) => {
            Ok(Some(path.into()))
        }
        _ => Err(ModelError::Hub {
            name: text.into(),
            reason: format!("the address is not on the hub, {}", settings.server()),
            hint: "download the file and name it, or set HF_ENDPOINT if that server is a hub"
                .into(),
        }),
    }
}

/// The path of a URL without its scheme, if its host is a hub's.
fn path_on_hub<'a>(rest: &'a str, settings: &HubSettings) -> Option<&'a str> {
    let own = settings
        .endpoint
        .split_once("://")
        .map_or("", |(_, rest)| rest);
    let own = own.rsplit_once('@').map_or(own, |(_, host)| host);
    let hosts = [own, "huggingface.co", "www.huggingface.co", "hf.co"];
    let mut hosts = hosts.iter().filter(|host| !host.is_empty());
    hosts.find_map(|host| {
        let (found, path) = rest.split_at_checked(host.len())?;
        path.strip_prefix('/')
            .filter(|_| found.eq_ignore_ascii_case(host))
    })
}

/// Decodes `%2F` and similar.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = |code: &[u8]| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok();
        let (byte, behind) = match first {
            b'%' => (code(behind.get(..2)?)?, &behind[2..]),
            other => (other, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// Letters, digits, `-`, `_`, `.`, but not the name of a parent folder.
pub(super) fn is_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !part.is_empty() && part.len() <= 255 && part.bytes().all(allowed) && !part.starts_with('.')
}

/// Parts with `/` between them.
pub(super) fn is_path(path: &str) -> bool {
    path.split('/').all(is_part)
}

/// A path to a GGUF file.
pub(super) fn is_gguf(file: &str) -> bool {
    file.to_lowercase().ends_with(".gguf") && is_path(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (String, Option<String>, Option<String>, Option<String>);

    fn read_at(endpoint: &str, text: &str) -> Result<Option<Parts>, ModelError> {
        let settings = HubSettings {
            endpoint: endpoint.into(),
            ..HubSettings::default()
        };
        let parts = |name: HubName| (name.repository, name.file, name.quantisation, name.revision);
        HubName::read(text, &settings).map(|name| name.map(parts))
    }

    fn read(text: &str) -> Option<Parts> {
        read_at("https://huggingface.co", text).unwrap()
    }

    fn parts(repository: &str, file: &str, quantisation: &str, revision: &str) -> Option<Parts> {
        let some = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        Some((
            repository.into(),
            some(file),
            some(quantisation),
            some(revision),
        ))
    }

    #[test]
    fn hub_names_have_an_organisation_a_name_and_perhaps_a_file_and_a_revision() {
        assert_eq!(read("org/name"), parts("org/name", "", "", ""));
        assert_eq!(
            read("org/name-1.5_b@refs/pr/3"),
            parts("org/name-1.5_b", "", "", "refs/pr/3")
        );
        assert_eq!(read("o/n/q/m.GGUF@v1"), parts("o/n", "q/m.GGUF", "", "v1"));
        for other in [
            "",
            "name",
            "./a/b",
            "/a/b",
            "../a",
            "a/..",
            "a/b/c",
            "a/b/../c.gguf",
            "a b/c",
            "a/b@",
            "~/a",
            "a/b@../x",
            "a//b.gguf",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_quantisation_is_named_as_llama_cpp_and_ollama_have_it() {
        assert_eq!(read("o/n:Q4_K_M"), parts("o/n", "", "Q4_K_M", ""));
        assert_eq!(
            read("o/n:UD-Q4_K_XL@v1"),
            parts("o/n", "", "UD-Q4_K_XL", "v1")
        );
        assert_eq!(read("hf.co/o/n:q8_0"), parts("o/n", "", "q8_0", ""));
        assert_eq!(read("o/n:latest"), parts("o/n", "", "", ""));
        for other in [
            "o/n:",
            "o/n:a/b",
            "o/n:../x",
            "o:Q4/n",
            "o/n:Q4/x.gguf",
            "C:/models",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_address_of_a_page_or_file_names_the_model() {
        for (address, expected) in [
            ("https://huggingface.co/o/n", parts("o/n", "", "", "")),
            ("http://hf.co/o/n/", parts("o/n", "", "", "")),
            ("huggingface.co/o/n", parts("o/n", "", "", "")),
            (
                "https://HuggingFace.co/o/n?library=transformers#use",
                parts("o/n", "", "", ""),
            ),
            (
                "https://huggingface.co/o/n/tree/main",
                parts("o/n", "", "", "main"),
            ),
            (
                "https://huggingface.co/o/n/tree/refs%2Fpr%2F3",
                parts("o/n", "", "", "refs/pr/3"),
            ),
            (
                "https://huggingface.co/o/n/blob/main/q/m.gguf",
                parts("o/n", "q/m.gguf", "", "main"),
            ),
            (
                "https://huggingface.co/o/n/resolve/v1/m.gguf?download=true",
                parts("o/n", "m.gguf", "", "v1"),
            ),
            (
                "https://huggingface.co/o/n/blob/v1/model.safetensors",
                parts("o/n", "", "", "v1"),
            ),
            (
                "https://huggingface.co/o/n/discussions/4",
                parts("o/n", "", "", ""),
            ),
            ("hf://o/n@v1", parts("o/n", "", "", "v1")),
            ("hf://models/o/n", parts("o/n", "", "", "")),
        ] {
            assert_eq!(read(address), expected, "{address}");
        }
        let own = read_at(
            "http://127.0.0.1:81/hub",
            "http://127.0.0.1:81/hub/o/n/tree/main",
        )
        .unwrap();
        assert_eq!(own, parts("o/n", "", "", "main"));
    }

    #[test]
    fn an_address_that_leads_elsewhere_is_refused_with_the_reason() {
        for (address, reason) in [
            (
                "https://huggingface.co/datasets/o/n",
                "is not that of a model",
            ),
            ("https://huggingface.co/o", "names no model"),
            (
                "https://huggingface.co/o/n/tree/main/sub",
                "`sub` lies in a folder of the repository",
            ),
            (
                "https://huggingface.co/o/n/resolve/main/sub/model.safetensors",
                "lies in a folder",
            ),
            ("https://huggingface.co/o/n/tree/..%2Fx", "names no model"),
            ("https://huggingface.co.evil.org/o/n", "is not on the hub"),
            ("https://example.org/m.gguf", "is not on the hub"),
            ("ftp://huggingface.co/o/n", "is not on the hub"),
        ] {
            let error = read_at("https://huggingface.co", address).unwrap_err();
            assert!(
                error.to_string().contains(reason) && error.hint().is_some(),
                "{address}: {error}"
            );
        }
    }
}
