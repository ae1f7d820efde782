//! The cache folder shared by all Hugging Face tools, and the files of one model in it.
//!
//! `models--org--name/refs/main` contains a commit; `snapshots/COMMIT/…` has the file names, as
//! links to `blobs/ETAG`; the process that downloads a blob locks
//! `.locks/models--org--name/ETAG.lock`.

use std::collections::BTreeSet;
use std::fs;
#[cfg(feature = "hub")]
use std::fs::File;
#[cfg(feature = "hub")]
use std::io;
use std::path::{Path, PathBuf};
#[cfg(feature = "hub")]
use std::sync::atomic::{AtomicU64, Ordering};

use super::adapter_name::AdapterName;
use super::choice::{Choice, choose, weights};
use super::name::{HubName, is_part};
use super::purpose::Purpose;
use super::settings::HubSettings;
use crate::model::error::ModelError;
use crate::model::safetensors::{INDEX, indexed_files};

/// The maximum folder depth of a repository's files.
const DEEPEST: usize = 4;
/// The maximum number of files of a snapshot.
const MOST_FILES: usize = 100_000;

/// The files of every PEFT adapter.
pub(super) const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The cache folder of a model.
#[derive(Clone, Debug)]
pub(super) struct CacheFolder {
    path: PathBuf,
    #[cfg(feature = "hub")]
    locks: PathBuf,
    #[cfg(feature = "hub")]
    links: bool,
}

impl CacheFolder {
    pub fn of(name: &HubName, settings: &HubSettings) -> Result<Self, ModelError> {
        let cache = settings.cache.as_ref();
        let cache = cache.ok_or_else(|| {
            name.error(
                "there is no folder for the download",
                "set HF_HOME to a folder",
            )
        })?;
        let folder = format!("models--{}", name.repository.replace('/', "--"));
        Ok(Self {
            path: cache.join(&folder),
            #[cfg(feature = "hub")]
            locks: cache.join(".locks").join(&folder),
            #[cfg(feature = "hub")]
            links: settings.links,
        })
    }

    /// The folder of a revision's files, if there is one.
    pub fn snapshot_of(&self, revision: &str) -> Option<PathBuf> {
        let noted = fs::read_to_string(self.path.join("refs").join(revision));
        let commit = noted.unwrap_or_else(|_| revision.into());
        // The commit is read from a file; it must not lead out of the cache.
        let commit = Some(commit.trim()).filter(|commit| is_part(commit))?;
        Some(self.snapshot(commit)).filter(|snapshot| snapshot.is_dir())
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.path.join("snapshots").join(commit)
    }
}

#[cfg(feature = "hub")]
impl CacheFolder {
    /// Records the commit of a branch or tag, unless it is already recorded.
    pub fn note_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        let path = self.path.join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|noted| noted == commit) {
            return Ok(());
        }
        fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
        crate::files::write_bytes(&path, commit.as_bytes()).map_err(|error| match error {
            crate::files::FileError::Io { source, .. } => source,
            other => io::Error::other(other.to_string()),
        })
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.path.join("blobs").join(etag)
    }

    /// The partial file of a blob: its first bytes, while it is downloaded.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.path.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Creates the folder of the blobs.
    pub fn make_blobs(&self) -> io::Result<()> {
        fs::create_dir_all(self.path.join("blobs"))
    }

    /// The lock of a blob; `None` if another process holds it.
    pub fn lock(&self, etag: &str) -> io::Result<Option<File>> {
        fs::create_dir_all(&self.locks)?;
        let file = File::create(self.locks.join(format!("{etag}.lock")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            // A file system without locks: two processes then do the same work, and the later
            // rename wins.
            Err(fs::TryLockError::Error(_)) => Ok(Some(file)),
        }
    }

    /// Links a blob into a snapshot under the file's name. `is_new`: nothing else links to the blob
    /// yet.
    pub fn link(
        &self,
        etag: &str,
        snapshot: &Path,
        file: &str,
        is_new: bool,
    ) -> io::Result<PathBuf> {
        let path = snapshot.join(file);
        fs::create_dir_all(path.parent().unwrap_or(snapshot))?;
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        // Under another name first: the link of another process, which may be reading through it, is
        // replaced without a moment in which there is none.
        let new = unused_name(&path);
        if self.links && symlink(&target, &new).is_ok() {
            fs::rename(&new, &path)?;
            return Ok(path);
        }
        if path.symlink_metadata().is_ok() {
            // A link whose blob was removed.
            fs::remove_file(&path)?;
        }
        let blob = self.blob(etag);
        match is_new {
            true => fs::rename(&blob, &path)?,
            false => drop(fs::copy(&blob, &path)?),
        }
        Ok(path)
    }
}

/// A name beside `path` that no other process or thread uses.
#[cfg(feature = "hub")]
fn unused_name(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{count}.link", std::process::id()));
    path.with_file_name(name)
}

#[cfg(all(feature = "hub", unix))]
fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(all(feature = "hub", not(unix)))]
fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The complete folder or GGUF file of a name in the cache. `why` says why nothing is downloaded.
///
/// # Errors
/// [`ModelError::Hub`] with the first missing file.
pub(super) fn cached(
    name: &HubName,
    settings: &HubSettings,
    purpose: Purpose,
    why: &str,
) -> Result<PathBuf, ModelError> {
    let absent = |what: &str| absent(name, what, why);
    let revision = name.revision();
    let file_of = |file: &str| absent(&format!("`{file}` of revision `{revision}`"));
    let folder = CacheFolder::of(name, settings)?;
    let snapshot = folder
        .snapshot_of(revision)
        .ok_or_else(|| absent(&format!("revision `{revision}`")))?;
    let files = files_of(&snapshot);
    let has = |file: &str| files.iter().any(|known| known == file);
    if let Some(file) = name.file.as_deref().filter(|file| !has(file)) {
        return Err(file_of(file));
    }
    let has_gguf = files.iter().any(|file| super::name::is_gguf(file));
    if name.file.is_some() || has_gguf && (name.quantisation.is_some() || !has("config.json")) {
        let chosen = choose(name, &files).map_err(|error| match (&name.quantisation, error) {
            (Some(tag), _) => absent(&format!("one `.gguf` file of quantisation `{tag}`")),
            // It is unclear which of several is meant, or a part is missing.
            (None, error) => error,
        });
        let Choice::Gguf(parts) = chosen? else {
            return Err(file_of("config.json"));
        };
        return Ok(snapshot.join(&parts[0]));
    }
    if let Some(quantisation) = &name.quantisation {
        return Err(absent(&format!(
            "a `.gguf` file of quantisation `{quantisation}`"
        )));
    }
    let needed = ["config.json"]
        .into_iter()
        .chain((purpose == Purpose::Run).then_some("tokenizer.json"));
    if let Some(file) = needed.into_iter().find(|file| !has(file)) {
        return Err(file_of(file));
    }
    check_weights(name, &snapshot, &files, &absent)?;
    Ok(snapshot)
}

/// The folder of an adapter in the cache.
///
/// # Errors
/// [`ModelError::Hub`] with the first missing file.
pub(super) fn cached_adapter(
    name: &AdapterName,
    settings: &HubSettings,
    why: &str,
) -> Result<PathBuf, ModelError> {
    let revision = name.hub.revision();
    let snapshot = CacheFolder::of(&name.hub, settings)?.snapshot_of(revision);
    let absent = |what: &str| absent(&name.hub, what, why);
    let snapshot = snapshot.ok_or_else(|| absent(&format!("revision `{revision}`")))?;
    let mut files = ADAPTER_FILES.iter().map(|file| name.path(file));
    match files.find(|file| !snapshot.join(file).exists()) {
        None => Ok(name.within(snapshot)),
        Some(file) => Err(absent(&format!("`{file}` of revision `{revision}`"))),
    }
}

fn absent(name: &HubName, what: &str, why: &str) -> ModelError {
    let hint =
        "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or set HF_HOME to where it was downloaded";
    name.error(format!("{what} is not in the cache, and {why}"), hint)
}

/// Checks that a snapshot has all of its weights.
fn check_weights(
    name: &HubName,
    snapshot: &Path,
    files: &[String],
    absent: &dyn Fn(&str) -> ModelError,
) -> Result<(), ModelError> {
    let has = |file: &str| files.iter().any(|known| known == file);
    let revision = name.revision();
    if !has("model.safetensors") && has(INDEX) {
        let named: BTreeSet<String> = indexed_files(&snapshot.join(INDEX))?;
        let missing: Vec<&String> = named.iter().filter(|file| !has(file)).collect();
        return match missing.first() {
            None => Ok(()),
            Some(first) => Err(absent(&format!(
                "`{first}` of revision `{revision}` ({} of {} files of weights)",
                missing.len(),
                named.len()
            ))),
        };
    }
    let is_pickled = files.iter().any(|file| file.ends_with(".bin"));
    match weights(name, files, || Ok(BTreeSet::new())) {
        Err(_) if !is_pickled => Err(absent(&format!(
            "`model.safetensors` of revision `{revision}`"
        ))),
        weights => weights.map(drop),
    }
}

/// The files of a snapshot by their names in the repository, sorted; dangling links are ignored.
fn files_of(snapshot: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![(snapshot.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (
                entry.path(),
                format!("{prefix}{}", entry.file_name().to_string_lossy()),
            );
            if found.len() == MOST_FILES {
                break;
            }
            // Follows links to blobs; fails for dangling ones.
            match fs::metadata(&path) {
                Ok(data) if data.is_dir() && depth < DEEPEST => {
                    folders.push((path, format!("{name}/"), depth + 1))
                }
                Ok(data) if data.is_file() => found.push(name),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with a snapshot of `o/n` at `main` with these files.
    fn snapshot(files: &[(&str, &str)]) -> (tempfile::TempDir, HubSettings, PathBuf) {
        let cache = tempfile::tempdir().unwrap();
        let settings = HubSettings {
            cache: Some(cache.path().into()),
            offline: true,
            ..HubSettings::default()
        };
        let folder = cache.path().join("models--o--n");
        let snapshot = folder.join("snapshots/abc123");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(folder.join("refs")).unwrap();
        fs::write(folder.join("refs/main"), "abc123\n").unwrap();
        fs::write(folder.join("refs/evil"), "../../..").unwrap();
        for (name, content) in files {
            fs::create_dir_all(snapshot.join(name).parent().unwrap()).unwrap();
            fs::write(snapshot.join(name), content).unwrap();
        }
        (cache, settings, snapshot)
    }

    #[cfg(all(feature = "hub", unix))]
    #[test]
    fn a_file_is_there_at_every_moment_while_it_is_linked_again() {
        let (_cache, settings, snapshot) = snapshot(&[]);
        let name = HubName::read("o/n", &settings).unwrap().unwrap();
        let folder = CacheFolder::of(&name, &settings).unwrap();
        folder.make_blobs().unwrap();
        fs::write(folder.blob("etag"), "content").unwrap();
        let link = || {
            folder
                .link("etag", &snapshot, "config.json", false)
                .unwrap()
        };
        let path = link();
        std::thread::scope(|scope| {
            let others = [(); 2].map(|()| scope.spawn(|| (0..500).for_each(|_| drop(link()))));
            while !others.iter().all(|other| other.is_finished()) {
                assert_eq!(fs::read_to_string(&path).unwrap(), "content");
            }
        });
        assert_eq!(fs::read_dir(&snapshot).unwrap().count(), 1);
    }

    fn find(text: &str, settings: &HubSettings, purpose: Purpose) -> Result<PathBuf, String> {
        let name = HubName::read(text, settings).unwrap().unwrap();
        cached(
            &name,
            settings,
            purpose,
            "HF_HUB_OFFLINE forbids the download",
        )
        .map_err(|error| {
            assert!(error.hint().is_some(), "{error:?}");
            error.to_string()
        })
    }

    const WHOLE: [(&str, &str); 3] = [
        ("config.json", "{}"),
        ("tokenizer.json", "{}"),
        ("model.safetensors", "x"),
    ];

    #[test]
    fn what_the_cache_holds_is_found_by_branch_and_by_commit_and_nothing_else() {
        let (_cache, settings, snapshot) = snapshot(&WHOLE);
        for name in ["o/n", "o/n@abc123", "https://huggingface.co/o/n/tree/main"] {
            assert_eq!(find(name, &settings, Purpose::Run).unwrap(), snapshot);
        }
        for (absent, what) in [
            ("o/n@v2", "revision `v2`"),
            ("o/n/x.gguf", "`x.gguf` of revision `main`"),
            ("o/n:Q4_0", "a `.gguf` file of quantisation `Q4_0`"),
            ("o/other", "revision `main`"),
            ("o/n@evil", "revision `evil`"),
        ] {
            let error = find(absent, &settings, Purpose::Run).unwrap_err();
            assert!(
                error.contains(&format!(
                    "{what} is not in the cache, and HF_HUB_OFFLINE forbids the download"
                )),
                "{error}"
            );
        }
    }

    #[test]
    fn gguf_files_are_found_by_name_by_quantisation_and_alone() {
        let (_cache, settings, snapshot) = snapshot(&[("q/a-Q4_0.gguf", ""), ("b-Q8_0.gguf", "")]);
        assert_eq!(
            find("o/n/q/a-Q4_0.gguf", &settings, Purpose::Run).unwrap(),
            snapshot.join("q/a-Q4_0.gguf")
        );
        assert_eq!(
            find("o/n:q8_0", &settings, Purpose::Run).unwrap(),
            snapshot.join("b-Q8_0.gguf")
        );
        assert!(
            find("o/n", &settings, Purpose::Run)
                .unwrap_err()
                .contains("2 `.gguf` files")
        );
        assert!(
            find("o/n:Q2_K", &settings, Purpose::Run)
                .unwrap_err()
                .contains("`Q2_K`")
        );
        fs::remove_file(snapshot.join("q/a-Q4_0.gguf")).unwrap();
        assert_eq!(
            find("o/n", &settings, Purpose::Run).unwrap(),
            snapshot.join("b-Q8_0.gguf")
        );
    }

    #[test]
    fn a_partial_snapshot_says_which_file_is_missing() {
        for (gone, _) in WHOLE {
            let files: Vec<_> = WHOLE
                .into_iter()
                .filter(|(name, _)| *name != gone)
                .collect();
            let (_cache, settings, _) = snapshot(&files);
            let error = find("o/n", &settings, Purpose::Run).unwrap_err();
            let expected =
                format!("`{gone}` of revision `main` is not in the cache, and HF_HUB_OFFLINE");
            assert!(error.contains(&expected), "{error}");
        }
        let (_cache, settings, snapshot) = snapshot(&[WHOLE[0], WHOLE[2]]);
        // A merge needs no tokenizer.
        assert_eq!(find("o/n", &settings, Purpose::Merge).unwrap(), snapshot);
    }

    #[test]
    fn a_shard_that_is_missing_or_a_link_to_nothing_is_named() {
        let index =
            r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "3.safetensors"}}"#;
        let (_cache, settings, snapshot) = snapshot(&[
            WHOLE[0],
            WHOLE[1],
            (INDEX, index),
            ("1.safetensors", ""),
            ("3.safetensors", ""),
        ]);
        let error = find("o/n", &settings, Purpose::Run).unwrap_err();
        assert!(
            error.contains(
                "`2.safetensors` of revision `main` (1 of 3 files of weights) is not in the cache"
            ),
            "{error}"
        );
        fs::write(snapshot.join("2.safetensors"), "").unwrap();
        assert_eq!(find("o/n", &settings, Purpose::Run).unwrap(), snapshot);
        #[cfg(unix)]
        {
            fs::remove_file(snapshot.join("3.safetensors")).unwrap();
            std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("3.safetensors")).unwrap();
            let error = find("o/n", &settings, Purpose::Run).unwrap_err();
            assert!(
                error.contains("`3.safetensors` of revision `main`"),
                "{error}"
            );
        }
    }
}
