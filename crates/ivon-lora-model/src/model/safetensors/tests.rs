//! Weights in one file and in several, with an index and without.

use super::*;

/// A safetensors file from its header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn open(content: &[u8]) -> Result<SafetensorsFolder, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), content).unwrap();
    SafetensorsFolder::open(folder.path(), None, &mut Vec::new())
}

fn message(content: &[u8]) -> String {
    open(content).expect_err("malformed").to_string()
}

const TWO: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}}"#;
const DATA: [u8; 12] = [0, 0, 128, 63, 0, 0, 0, 192, 0, 60, 0, 56];

#[test]
fn tensors_are_found_by_name_in_any_dtype_that_is_read() {
    let folder = open(&file(TWO, &DATA)).unwrap();
    assert_eq!(folder.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(folder.tensor("a").unwrap().to_f32(), [1.0, -2.0]);
    let b = folder.tensor("b").unwrap();
    assert_eq!(
        (b.shape.as_slice(), b.to_f32()),
        ([1, 2].as_slice(), vec![1.0, 0.5])
    );
    assert_eq!(
        folder.tensor("c").unwrap_err().to_string(),
        "tensor `c` is missing from `model.safetensors`"
    );
}

#[test]
fn a_file_cut_anywhere_says_which_tensor_and_how_many_bytes() {
    let whole = file(TWO, &DATA);
    for length in 0..whole.len() {
        let error = open(&whole[..length]).expect_err("cut short");
        assert!(
            matches!(error, ModelError::Truncated { .. }),
            "{length}: {error}"
        );
    }
    let at = whole.len();
    assert_eq!(
        message(&whole[..at - 1]),
        format!(
            "`model.safetensors` is cut short: tensor `b` ends at byte {at}, the file at byte {}",
            at - 1
        )
    );
}

#[test]
fn headers_that_lie_are_refused_by_tensor() {
    for (header, expected) in [
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            "tensor `a` of shape [3] and dtype F32 has 8 bytes, expected 12",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            "tensor `a` has the offsets 8 to 0, expected ascending ones",
        ),
        (
            r#"{"a":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}}"#,
            "tensor `a` has the unknown dtype `X9`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            "tensor `a` has the impossible shape [4294967296, 4294967296]",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#,
            "tensors `a` and `b` overlap",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,8]}}"#,
            "the header of tensor `a` is wrong",
        ),
        (r#"{"a":7}"#, "the header of tensor `a` is wrong"),
        ("[]", "its header is not a JSON object of tensors"),
    ] {
        let message = message(&file(header, &DATA));
        assert!(
            message.starts_with("`model.safetensors` is malformed: ") && message.contains(expected),
            "{message}"
        );
    }
    let message = message(&[&u64::MAX.to_le_bytes()[..], &DATA].concat());
    assert!(
        message.contains("its header has 18446744073709551615 bytes, expected at most 100000000"),
        "{message}"
    );
}

#[test]
fn a_dtype_that_is_not_read_is_refused_only_when_asked_for() {
    let folder = open(&file(
        r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#,
        &DATA,
    ))
    .unwrap();
    let message = folder.tensor("a").unwrap_err().to_string();
    assert_eq!(
        message,
        "tensor `a` of `model.safetensors` is stored as F8_E4M3, supported are F32, F16 and BF16"
    );
}

#[test]
fn an_index_leads_to_the_files_and_is_held_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("one.safetensors"), file(TWO, &DATA)).unwrap();
    std::fs::write(
        path.join("two.safetensors"),
        file(
            r#"{"c":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}"#,
            &[128, 63],
        ),
    )
    .unwrap();
    let open = |map: &str| {
        std::fs::write(
            path.join(INDEX),
            format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#),
        )
        .unwrap();
        SafetensorsFolder::open(path, None, &mut Vec::new())
    };
    // `b` is in a file that the index names, which suffices in transformers.
    let both = open(r#"{"a":"one.safetensors","c":"two.safetensors"}"#).unwrap();
    assert_eq!(both.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(
        (
            both.tensor("a").unwrap().to_f32(),
            both.tensor("c").unwrap().to_f32()
        ),
        (vec![1.0, -2.0], vec![1.0])
    );
    let message = |map| open(map).expect_err("wrong index").to_string();
    assert_eq!(
        message(r#"{"d":"one.safetensors"}"#),
        "tensor `d` is missing from `one.safetensors`"
    );
    assert!(
        message(r#"{"d":"../one.safetensors"}"#)
            .contains("`../one.safetensors` is not a plain file name")
    );
    let gone = open(r#"{"d":"gone.safetensors"}"#).expect_err("no such file");
    assert_eq!(
        gone.to_string(),
        "`model.safetensors.index.json` names `gone.safetensors`, which is not beside it"
    );
    assert!(
        gone.hint().unwrap().contains("model.safetensors"),
        "{:?}",
        gone.hint()
    );
    assert!(message("7").contains("is malformed"));
}

#[test]
fn one_file_goes_before_an_index_beside_it_and_a_named_one_before_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let one = |name: &str| {
        file(
            &format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#),
            &[0; 4],
        )
    };
    std::fs::write(path.join(USUAL), one("new")).unwrap();
    std::fs::write(path.join("other.safetensors"), one("old")).unwrap();
    let open = |named, map: &str| {
        let mut notes = Vec::new();
        std::fs::write(path.join(INDEX), format!(r#"{{"weight_map":{map}}}"#)).unwrap();
        let found = SafetensorsFolder::open(path, named, &mut notes)
            .map(|folder| folder.names().next().unwrap().to_string());
        (found.map_err(|error| error.to_string()), notes.len())
    };
    for map in [
        r#"{"old":"other.safetensors"}"#,
        r#"{"old":"gone.safetensors"}"#,
        "7",
    ] {
        assert_eq!(open(None, map), (Ok("new".into()), 1), "{map}");
    }
    assert_eq!(
        open(None, r#"{"new":"model.safetensors"}"#),
        (Ok("new".into()), 0)
    );
    assert_eq!(open(Some("other.safetensors"), "7"), (Ok("old".into()), 0));
    for name in ["../other.safetensors", "other.bin", ""] {
        let (message, _) = open(Some(name), "7");
        let expected = format!(
            "`transformers_weights` in `config.json` is `{name}`, expected a `.safetensors` file of the same folder"
        );
        assert_eq!(message.unwrap_err(), expected);
    }
}

#[test]
fn a_folder_without_weights_says_what_it_found_instead() {
    let folder = tempfile::tempdir().unwrap();
    let error = || SafetensorsFolder::open(folder.path(), None, &mut Vec::new()).unwrap_err();
    assert!(error().to_string().contains("found no weights"));
    std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    assert!(error().to_string().contains("found `pytorch_model.bin`"));
    assert!(error().hint().unwrap().contains("safe_serialization"));
    for name in ["x.safetensors", "y.safetensors"] {
        std::fs::write(folder.path().join(name), file(TWO, &DATA)).unwrap();
    }
    assert!(
        error()
            .to_string()
            .contains("found 2 `.safetensors` files without an index")
    );
}
