//! GGUF files that are valid, truncated, or malicious.

use proptest::prelude::*;

use super::super::writer::{GgufWriter, Metadata};
use super::*;
use crate::model::Encoding;

/// A file with one of each kind.
fn whole() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let mut writer = GgufWriter::new("llama");
    writer.set("n", Metadata::U32(7));
    writer.set("flag", Metadata::Bool(true));
    writer.set("words", Metadata::Texts(vec!["a".into(), "bc".into()]));
    writer.set("scores", Metadata::F32s(vec![0.5, -1.0]));
    writer.tensor("one", &[3], Encoding::F32).unwrap();
    writer.tensor("two", &[2, 32], Encoding::Q4_0).unwrap();
    writer
        .write_f32(&path, |name| vec![1.0; if name == "one" { 3 } else { 64 }])
        .unwrap();
    std::fs::read(path).unwrap()
}

fn open(content: &[u8]) -> Result<GgufFile, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, content).unwrap();
    GgufFile::open(&path)
}

fn message(content: &[u8]) -> String {
    open(content).expect_err("malformed").to_string()
}

/// The file with the bytes that follow `mark` replaced.
fn after(mark: &[u8], skip: usize, new: &[u8]) -> Vec<u8> {
    let mut content = whole();
    let at = content
        .windows(mark.len())
        .position(|part| part == mark)
        .unwrap()
        + mark.len()
        + skip;
    content[at..at + new.len()].copy_from_slice(new);
    content
}

#[test]
fn a_file_cut_before_its_last_tensors_end_is_cut_short() {
    let whole = whole();
    let end = open(&whole).unwrap().tensors()["two"].bytes.end;
    for length in 0..end {
        let error = open(&whole[..length]).expect_err("cut short");
        assert!(
            matches!(error, ModelError::Truncated { .. }),
            "{length}: {error}"
        );
    }
    assert_eq!(
        message(&whole[..end - 1]),
        format!(
            "`a.gguf` is cut short: tensor `two` ends at byte {end}, the file at byte {}",
            end - 1
        )
    );
    assert!(message(&whole[..120]).contains("is cut short: metadata"));
}

#[test]
fn other_files_and_versions_are_refused_by_name() {
    let version = |number: u32| [b"GGUF", &number.to_le_bytes()[..], &[0; 16]].concat();
    assert!(
        message(b"PK\x03\x04 and so on").contains("it begins with `PK\\x03\\x04`, expected `GGUF`")
    );
    assert!(message(&version(1)).contains("it is GGUF version 1, expected 2 or 3"));
    assert!(message(&version(9)).contains("it is GGUF version 9, expected 2 or 3"));
    assert!(message(&version(3u32.swap_bytes())).contains("its numbers are big-endian"));
    assert!(open(&version(2)).unwrap().tensors().is_empty());
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    let many = u64::MAX.to_le_bytes();
    let mut tensors = whole();
    tensors[8..16].copy_from_slice(&many);
    let mut entries = whole();
    entries[16..24].copy_from_slice(&many);
    for content in [
        tensors,
        entries,
        after(b"words", 8, &many),
        after(b"words", 16, &many),
        after(b"one", 4, &many),
    ] {
        let error = open(&content).expect_err("too many");
        assert!(
            matches!(
                error,
                ModelError::Truncated { .. } | ModelError::Malformed { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn lies_about_tensors_are_refused_by_tensor() {
    for (content, expected) in [
        (
            after(b"one", 0, &[9]),
            "tensor `one` has 9 dimensions, expected 1 to 4",
        ),
        (
            after(b"one", 0, &[0]),
            "tensor `one` has 0 dimensions, expected 1 to 4",
        ),
        (
            after(b"two", 4, &[33]),
            "tensor `two` of shape [2, 33] is Q4_0, expected rows of a multiple of 32",
        ),
        (
            after(b"two", 12, &u64::MAX.to_le_bytes()),
            "tensor `two` has the impossible shape",
        ),
        (
            after(b"two", 24, &[1]),
            "tensor `two` lies at byte 1 of the data, expected a multiple of 32",
        ),
        (after(b"two", 24, &[0]), "tensors `one` and `two` overlap"),
        (after(b"\x03\0\0\0\0\0\0\0tw", 0, b"\xff"), "is not UTF-8"),
        (
            after(b"words", 4, &[9]),
            "metadata `words` is an array of arrays",
        ),
        (
            after(b"words", 0, &[99]),
            "metadata `words` has the unknown type 99",
        ),
    ] {
        let message = message(&content);
        assert!(
            message.starts_with("`a.gguf` is malformed: ") && message.contains(expected),
            "{expected}: {message}"
        );
    }
}

#[test]
fn values_of_another_kind_are_errors_that_name_the_key() {
    let file = open(&whole()).unwrap();
    for error in [
        file.text("n").map(|_| ()).unwrap_err(),
        file.unsigned("flag").map(|_| ()).unwrap_err(),
        file.float("flag").map(|_| ()).unwrap_err(),
        file.flag("n").map(|_| ()).unwrap_err(),
        file.texts("scores").map(|_| ()).unwrap_err(),
        file.numbers("words").map(|_| ()).unwrap_err(),
        file.numbers("n").map(|_| ()).unwrap_err(),
    ] {
        assert!(matches!(error, ModelError::Setting { .. }), "{error}");
    }
    assert_eq!(
        (
            file.text("gone").unwrap(),
            file.array_length("words"),
            file.array_length("gone")
        ),
        (None, 2, 0)
    );
}

#[test]
fn a_tensor_of_an_unknown_encoding_is_listed_all_the_same() {
    let file = open(&after(b"one", 12, &[99])).unwrap();
    assert_eq!(
        (
            file.tensors()["one"].ggml_type,
            file.tensors()["one"].bytes.len()
        ),
        (99, 0)
    );
    // A type known to ggml but not supported here still has its bytes.
    let file = open(&after(b"two", 20, &[24])).unwrap();
    assert_eq!(
        (
            file.tensors()["two"].ggml_type,
            file.tensors()["two"].bytes.len()
        ),
        (24, 64)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// For any bytes: either an error, or a file whose contents can all be read; never a panic.
    #[test]
    fn no_change_of_bytes_makes_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut content = whole();
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        if cut {
            content.truncate(length.index(content.len()));
        }
        if let Ok(file) = open(&content) {
            for key in file.metadata().keys() {
                let _ = (file.texts(key), file.numbers(key), file.unsigned(key), file.float(key));
            }
            for entry in file.tensors().values() {
                prop_assert!(file.file_of(entry).bytes().get(entry.bytes.clone()).is_some());
            }
            let _ = super::super::config::read(&file);
            let _ = crate::model::tokenizer::gguf::read(&file);
        }
    }
}
