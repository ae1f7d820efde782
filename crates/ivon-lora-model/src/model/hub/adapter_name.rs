//! Names of adapters on the hub: a repository, and the folder in it, as PEFT's `subfolder`.

use std::path::{Path, PathBuf};

use super::name::{HubName, address_path, decoded, is_gguf, is_path};
use super::settings::HubSettings;
use crate::model::error::ModelError;

/// An adapter on the hub.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AdapterName {
    /// The repository and the revision.
    pub hub: HubName,
    /// The folder in it; none for its top.
    pub folder: Option<String>,
}

impl AdapterName {
    /// Parses `org/name[/FOLDER][@revision]` or the URL of a page on the hub; `None` if it is none of
    /// these. A path with a folder that begins in a local folder is not a name.
    ///
    /// # Errors
    /// [`ModelError::Hub`] for a URL elsewhere.
    pub fn read(text: &str, settings: &HubSettings) -> Result<Option<Self>, ModelError> {
        let address = address_path(text, settings)?;
        let in_folder = match &address {
            Some(path) => Self::of_tree(path),
            None => Self::in_folder(text).filter(|_| !begins_here(text)),
        };
        if in_folder.is_some() {
            return Ok(in_folder);
        }
        let name = HubName::read(text, settings)?;
        let name = name.filter(|name| name.file.is_none() && name.quantisation.is_none());
        Ok(name.map(|hub| Self { hub, folder: None }))
    }

    /// Parses `org/name/FOLDER[@revision]`.
    fn in_folder(text: &str) -> Option<Self> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, format!("@{revision}")),
            None => (text, String::new()),
        };
        let mut parts = path.splitn(3, '/');
        let (organisation, name, folder) = (parts.next()?, parts.next()?, parts.next()?);
        let hub = HubName::parse(&format!("{organisation}/{name}{revision}"))?;
        Self::with_folder(hub, folder)
    }

    /// Parses `org/name/tree/REVISION/FOLDER`, the path of a URL.
    fn of_tree(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').splitn(5, '/').collect();
        let [organisation, name, "tree", revision, folder] = parts[..] else {
            return None;
        };
        let revision = decoded(revision)?;
        let hub = HubName::parse(&format!("{organisation}/{name}@{revision}"))?;
        Self::with_folder(hub, &decoded(folder)?)
    }

    fn with_folder(hub: HubName, folder: &str) -> Option<Self> {
        let is_folder = is_path(folder) && !is_gguf(folder) && hub.quantisation.is_none();
        is_folder.then(|| Self {
            hub,
            folder: Some(folder.into()),
        })
    }

    /// The path of one of the adapter's files in the repository.
    pub fn path(&self, file: &str) -> String {
        match &self.folder {
            Some(folder) => format!("{folder}/{file}"),
            None => file.into(),
        }
    }

    /// Its folder in that of the repository.
    pub fn within(&self, repository: PathBuf) -> PathBuf {
        match &self.folder {
            Some(folder) => repository.join(folder),
            None => repository,
        }
    }
}

/// Whether the first part of a path is there.
fn begins_here(path: &str) -> bool {
    path.split('/')
        .next()
        .is_some_and(|first| Path::new(first).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<String>, Option<String>)> {
        let settings = HubSettings {
            endpoint: "https://huggingface.co".into(),
            ..HubSettings::default()
        };
        let name = AdapterName::read(text, &settings).unwrap()?;
        Some((name.hub.repository, name.folder, name.hub.revision))
    }

    #[test]
    fn a_folder_of_a_repository_is_named_after_it_or_by_its_address() {
        let some = |text: &str| Some(text.to_string());
        let in_folder = Some((some("o/n").unwrap(), some("a/b-1"), some("v1")));
        for text in [
            "o/n/a/b-1@v1",
            "https://huggingface.co/o/n/tree/v1/a/b-1",
            "hf.co/o/n/tree/v1/a%2Fb-1/",
        ] {
            assert_eq!(read(text), in_folder, "{text}");
        }
        assert_eq!(read("o/n"), Some(("o/n".into(), None, None)));
        assert_eq!(read("o/n@v1"), Some(("o/n".into(), None, some("v1"))));
        for other in [
            "name",
            "/o/n/a",
            "./o/n",
            "../o/n",
            "o/n/../a",
            "o/n/",
            "o/n:Q4_K_M",
            "o/n:Q4_K_M/a",
            "o/n/a.gguf",
            // The tests run beside `src`.
            "src/model/nowhere",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
