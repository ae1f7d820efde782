//! A read-only memory-mapped file whose pages can be released after reading.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::error::ModelError;
use crate::files::{FileError, refuse_pointer};

/// The bytes of a file.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// If it cannot be opened or mapped, is a folder, or is a Git LFS pointer.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let failed = FileError::io("read", path);
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()).into());
        }
        // SAFETY: the map is read-only and its bytes are only read as plain numbers, never as
        // references to types with invalid values. If another process truncates the file meanwhile,
        // this one ends with SIGBUS, as every program that maps its weights; reading 14 GB through
        // a buffer would instead double the memory.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        refuse_pointer(path, &map)?;
        Ok(Self {
            path: path.into(),
            map,
        })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The file's name in errors.
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// Releases the pages of `bytes`: they leave resident memory, and are read from the file again
    /// if accessed.
    pub fn release(&self, bytes: Range<usize>) {
        let bytes = bytes.start.min(self.map.len())..bytes.end.min(self.map.len());
        if bytes.is_empty() {
            return;
        }
        #[cfg(unix)]
        // SAFETY: MADV_DONTNEED discards changes to private pages; a read-only map has none. If the
        // system ignores the advice, the memory stays in use.
        let _ = unsafe {
            self.map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                bytes.start,
                bytes.len(),
            )
        };
    }

    /// The position of `part` in this file, if it is part of it.
    pub(super) fn range_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        (start + part.len() <= self.map.len()).then(|| start..start + part.len())
    }
}

/// A part of a mapped file, which stays mapped as long as it: only the pages that are read are in
/// memory.
#[derive(Clone, Debug)]
pub struct MappedBytes {
    file: Arc<MappedFile>,
    range: Range<usize>,
}

impl MappedBytes {
    /// A part of this file, if `part` is one.
    pub(super) fn of(file: &Arc<MappedFile>, part: &[u8]) -> Option<Self> {
        Some(Self {
            file: file.clone(),
            range: file.range_of(part)?,
        })
    }
}

impl std::ops::Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }
}

/// The last component of a path, for messages; the whole path if it has none.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_read_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let content: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(file.bytes(), content);
        file.release(5_000..90_000);
        file.release(90_000..usize::MAX);
        assert_eq!(file.bytes(), content);
        assert_eq!(file.range_of(&file.bytes()[7..9]), Some(7..9));
        assert_eq!(file.range_of(&content[7..9]), None);
        let file = std::sync::Arc::new(file);
        let part = MappedBytes::of(&file, &file.bytes()[7..9]).unwrap();
        drop(file);
        assert_eq!(*part, content[7..9]);
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors_that_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("gone"), folder.path().to_path_buf()] {
            let message = MappedFile::open(&path).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("could not read `{}`", path.display())),
                "{message}"
            );
        }
    }
}
