//! Reading and writing files so that no existing file is ever left half-replaced.
//!
//! Every write goes to a temporary file beside its target, is synced, and renamed over it; a folder
//! is written under a temporary name and swapped in as a whole. Every error names the path.

use crate::sentence::{Sentence, sentence, setting};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file or folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system reported an error.
    #[error("could not {action} `{}`: {source}", path.display())]
    Io {
        /// The operation: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any valid file of its kind.
    #[error("`{}` has {found} bytes, expected at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not text.
    #[error("`{}` is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The file is a Git LFS pointer; its content was not fetched.
    #[error("`{}` is a Git LFS pointer, expected the file of {size} bytes that it stands for", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
        /// The size in the pointer, bytes.
        size: String,
    },
}

impl FileError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Some("check the spelling of the path".into()),
                io::ErrorKind::PermissionDenied => {
                    Some("check who owns it and what you may do there".into())
                }
                io::ErrorKind::StorageFull => Some(sentence!(
                    "free some space, or name another folder with `{}`",
                    setting("out")
                )),
                _ => None,
            },
            Self::TooLarge { .. } => Some("is this the file you meant?".into()),
            Self::NotText { .. } => Some("save it as UTF-8".into()),
            Self::Pointer { .. } => Some(
                "fetch it with `git lfs pull` in its folder, or download the file itself".into(),
            ),
        }
    }

    /// Adds what was tried at which path to errors of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |source| Self::Io {
            action,
            path: path.into(),
            source,
        }
    }
}

/// Checks that a path exists.
///
/// # Errors
/// If it does not, or cannot be accessed.
pub fn check_exists(path: &Path) -> Result<(), FileError> {
    path.metadata()
        .map(|_| ())
        .map_err(FileError::io("read", path))
}

/// Checks that a file can be written at a path, before hours of work whose result it is to hold.
/// An existing file is not changed.
///
/// # Errors
/// If it cannot be written.
pub fn check_can_write(path: &Path) -> Result<(), FileError> {
    let temporary = temporary_name(path);
    let written = File::create(&temporary).and_then(|_| fs::remove_file(&temporary));
    written.map_err(FileError::io("write", path))
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// If the file cannot be read or is larger than `limit`.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::io("read", path))?;
    let found = file.metadata().map_err(FileError::io("read", path))?.len();
    if found > limit {
        return Err(FileError::TooLarge {
            path: path.into(),
            found,
            limit,
        });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    // The limit also stops a file that grows while it is read, and a device without a length.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge {
            path: path.into(),
            found: bytes.len() as u64,
            limit,
        });
    }
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

/// Refuses a Git LFS pointer: the three short lines that stand in for a file that was not fetched.
///
/// # Errors
/// [`FileError::Pointer`] if `bytes` are such a pointer.
pub(crate) fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    const LONGEST: usize = 1024;
    let text =
        bytes.starts_with(b"version https://git-lfs.github.com/spec/") && bytes.len() <= LONGEST;
    let Some(text) = text.then(|| String::from_utf8_lossy(bytes)) else {
        return Ok(());
    };
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
    let size = number.map_or_else(|| "unknown".into(), |number| number.to_string());
    Err(FileError::Pointer {
        path: path.into(),
        size,
    })
}

/// Reads a whole UTF-8 file of at most `limit` bytes.
///
/// # Errors
/// As [`read_bytes`], or if the bytes are not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    String::from_utf8(read_bytes(path, limit)?)
        .map_err(|_| FileError::NotText { path: path.into() })
}

/// The sorted names of the entries of a folder.
///
/// # Errors
/// If the folder cannot be read.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::io("read", folder))? {
        names.push(
            entry
                .map_err(FileError::io("read", folder))?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Creates a folder and its parents.
///
/// # Errors
/// If they cannot be created.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::io("create", path))
}

/// Writes `bytes` to `path`: temporary file, sync, rename. An existing file stays intact until the
/// rename.
///
/// # Errors
/// If the file cannot be written; the temporary file is then removed.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_with(path, |file| file.write_all(bytes))
}

/// [`write_bytes`] for streamed content.
///
/// # Errors
/// If `fill` fails or the file cannot be written; the temporary file is then removed.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let temporary = temporary_name(path);
    let written = (|| {
        let mut writer = io::BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        fill(&mut writer)?;
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        FileError::Io {
            action: "write",
            path: path.into(),
            source,
        }
    })
}

/// Writes a value as indented JSON that ends with a newline.
///
/// # Errors
/// As [`write_bytes`], and if the value cannot be written as JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), FileError> {
    write_with(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

/// Writes a folder under a temporary name with `fill`, then swaps it in for `path`.
///
/// # Errors
/// The error of `fill`, or a file error; the folder that was at `path` before is then still there.
pub fn write_folder<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = temporary_name(path);
    let _ = fs::remove_dir_all(&temporary);
    create_folder(&temporary)?;
    let swapped = fill(&temporary).and_then(|()| swap_folder(&temporary, path).map_err(E::from));
    if swapped.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    swapped
}

/// Replaces `path` by `new` and removes the old folder.
///
/// Where the file system can exchange two names atomically, `path` is at every moment the complete
/// old or the complete new folder. Elsewhere the old one is renamed first, and `path` is missing
/// until the second rename.
fn swap_folder(new: &Path, path: &Path) -> Result<(), FileError> {
    let failed = FileError::io("write", path);
    if path.exists() && exchange(new, path) {
        let synced = sync_parent(path).map_err(failed);
        let _ = fs::remove_dir_all(new);
        return synced;
    }
    let aside = beside(path, ".old.tmp");
    let _ = fs::remove_dir_all(&aside);
    let stood = path.exists();
    if stood {
        fs::rename(path, &aside).map_err(FileError::io("replace", path))?;
    }
    if let Err(source) = fs::rename(new, path).and_then(|()| sync_parent(path)) {
        if stood {
            let _ = fs::rename(&aside, path);
        }
        return Err(failed(source));
    }
    let _ = fs::remove_dir_all(&aside);
    Ok(())
}

/// Exchanges two names atomically; false if that is not possible.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (Ok(one), Ok(other)) = (name(one), name(other)) else {
        return false;
    };
    let here = libc::AT_FDCWD;
    // Sound: both strings are NUL-terminated and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            here,
            one.as_ptr(),
            here,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// Removes the temporary files and folders of writes that a crash interrupted: `NAME.PID.tmp`, and
/// `NAME.old.tmp` if `NAME` exists. If it does not, `NAME.old.tmp` is renamed back to `NAME`.
/// Only for a folder that no other process is writing to.
pub fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".tmp"))
        else {
            continue;
        };
        match name.rsplit_once('.') {
            Some((name, "old")) if !folder.join(name).exists() => {
                drop(fs::rename(&path, folder.join(name)))
            }
            Some((_, "old")) => remove(&path),
            Some((_, process))
                if !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                remove(&path)
            }
            _ => {}
        }
    }
}

/// Removes a file or a folder, if possible.
fn remove(path: &Path) {
    let _ = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
}

/// `name.PID.tmp` beside `path`, so that the rename stays on one file system.
fn temporary_name(path: &Path) -> PathBuf {
    beside(path, &format!(".{}.tmp", std::process::id()))
}

/// `path` with `ending` appended to its name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    path.with_file_name(name)
}

/// Makes a rename in the folder of `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_older_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_bytes(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(
            failed
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("free some space")
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn whether_a_file_can_be_written_is_seen_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_bytes(&path, b"old").unwrap();
        check_can_write(&path).unwrap();
        check_can_write(&folder.path().join("b.txt")).unwrap();
        assert_eq!(
            (
                fs::read(&path).unwrap().as_slice(),
                fs::read_dir(folder.path()).unwrap().count()
            ),
            (b"old".as_slice(), 1)
        );
        let error = check_can_write(&folder.path().join("none/a.txt")).unwrap_err();
        assert!(
            error.to_string().starts_with("could not write `"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_is_swapped_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("adapter");
        write_folder::<FileError>(&path, |folder| write_bytes(&folder.join("one"), b"1")).unwrap();
        let failed = write_folder::<FileError>(&path, |folder| {
            write_bytes(&folder.join("two"), b"2")?;
            read_bytes(Path::new("/nowhere"), 1).map(|_| ())
        });
        assert!(failed.is_err());
        assert!(path.join("one").exists() && !path.join("two").exists());
        write_folder::<FileError>(&path, |folder| write_bytes(&folder.join("two"), b"2")).unwrap();
        assert!(!path.join("one").exists() && path.join("two").exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_a_folder_that_was_set_aside_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in [
            "adapter",
            "adapter.old.tmp",
            "best.old.tmp",
            "step-2.77.tmp",
        ] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["run.toml.123.tmp", "notes.tmp", "a.b.tmp", "x.12"] {
            write_bytes(&at(name), b"").unwrap();
        }
        remove_leftovers(root.path());
        let mut left: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a.b.tmp", "adapter", "best", "notes.tmp", "x.12"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn two_folders_are_exchanged_in_one_step() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (root.path().join("one"), root.path().join("other"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        write_bytes(&one.join("1"), b"").unwrap();
        assert!(exchange(&one, &other));
        assert!(other.join("1").exists() && !one.join("1").exists());
        assert!(!exchange(&one, &root.path().join("none")));
    }

    #[test]
    fn a_file_over_its_limit_is_refused_with_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_bytes(&path, &[0; 11]).unwrap();
        let message = read_bytes(&path, 10).unwrap_err().to_string();
        assert!(
            message.ends_with("has 11 bytes, expected at most 10"),
            "{message}"
        );
    }

    #[test]
    fn a_git_lfs_pointer_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let pointer =
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 269060552\n";
        write_bytes(&path, pointer.as_bytes()).unwrap();
        let error = read_text(&path, 1000).unwrap_err();
        let expected =
            "` is a Git LFS pointer, expected the file of 269060552 bytes that it stands for";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.hint().unwrap().contains("git lfs pull"));
        assert!(refuse_pointer(&path, &[pointer.as_bytes(), &[b' '; 2000]].concat()).is_ok());
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_bytes(&path, &[0xff, 0xfe]).unwrap();
        assert!(matches!(
            read_text(&path, 10),
            Err(FileError::NotText { .. })
        ));
    }
}
