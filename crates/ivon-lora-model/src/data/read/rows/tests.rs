//! Rows as people write them, in every format that is read.

use super::*;
use crate::data::place::Place;
use crate::data::read::lines::LONGEST_LINE;
use std::fs;
use std::io::Write;

fn read(name: &str, content: impl AsRef<[u8]>) -> Result<(Vec<Row>, Vec<String>), DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let mut rows = Rows::open(&path)?;
    let found = rows.by_ref().collect::<Result<Vec<Row>, _>>()?;
    Ok((found, rows.notes()))
}

fn rows_of(name: &str, content: impl AsRef<[u8]>) -> Result<Vec<Row>, DataError> {
    read(name, content).map(|(rows, _)| rows)
}

fn fields(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|row| serde_json::to_string(&row.fields).unwrap())
        .collect()
}

#[test]
fn jsonl_rows_know_their_lines_and_empty_lines_are_passed_over() {
    let rows = rows_of("a.jsonl", "\u{feff}{\"a\": 1}\r\n\n{\"a\": [\"b\"]}").unwrap();
    assert_eq!(
        rows.iter().map(|row| row.place.line).collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(rows[1].fields["a"], serde_json::json!(["b"]));
}

#[test]
fn csv_has_quotes_and_line_ends_inside_them_and_tsv_has_neither_where_none_are_needed() {
    let rows = rows_of(
        "a.csv",
        "text,label\n\"one, \"\"two\"\"\nthree\",1\nfour,0\n",
    )
    .unwrap();
    assert_eq!(rows[0].fields["text"], "one, \"two\"\nthree");
    assert_eq!((rows[0].place.line, rows[1].place.line), (2, 4));
    let rows = rows_of(
        "a.tsv",
        "sentence\tlabel\n\"open quote\t1\nit 's \"fine\"\t0\n",
    )
    .unwrap();
    assert_eq!(rows[0].fields["sentence"], "\"open quote");
    assert_eq!(rows[1].fields["sentence"], "it 's \"fine\"");
    let (rows, notes) = read("a.tsv", "text\tlabel\n\"he said \"\"no\"\"\"\t1\n").unwrap();
    assert_eq!(rows[0].fields["text"], "he said \"no\"");
    assert!(
        notes[0].ends_with("a.tsv`: quotes around a field are read as such"),
        "{notes:?}"
    );
}

#[test]
fn a_table_is_the_same_rows_however_it_was_saved() {
    let table = "text,label\nnaïve,1\n\"東, 京\",0\n";
    let expected = fields(&rows_of("a.csv", table).unwrap());
    let semicolons = "text;label\nnaïve;1\n\"東, 京\";0\n";
    let utf_16 = |text: &str| {
        [
            vec![0xff, 0xfe],
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ]
        .concat()
    };
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(table.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    for (name, content) in [
        ("bom.csv", format!("\u{feff}{table}").into_bytes()),
        ("crlf.csv", table.replace('\n', "\r\n").into_bytes()),
        ("return.csv", table.replace('\n', "\r").into_bytes()),
        ("semicolons.csv", semicolons.as_bytes().to_vec()),
        (
            "excel.csv",
            format!("sep=;\r\n{}", semicolons.replace('\n', "\r\n")).into_bytes(),
        ),
        ("utf16.csv", utf_16(table)),
        (
            "tabs.csv",
            utf_16("text\tlabel\r\nnaïve\t1\r\n東, 京\t0\r\n"),
        ),
        (
            "tabs.tsv",
            "text\tlabel\nnaïve\t1\n東, 京\t0\n".as_bytes().to_vec(),
        ),
        ("a.csv.gz", packed.clone()),
        ("packed.csv", packed),
    ] {
        assert_eq!(fields(&rows_of(name, content).unwrap()), expected, "{name}");
    }
    let line = |name, content: &str| rows_of(name, content).unwrap()[1].place.line;
    assert_eq!(
        (
            line("a.csv", table),
            line("b.csv", &table.replace('\n', "\r\n"))
        ),
        (3, 3)
    );
    assert_eq!(line("a.csv", &format!("sep=,\n{table}")), 4);
    let (_, notes) = read("a.csv", semicolons).unwrap();
    assert!(
        notes[0].ends_with("a.csv`: columns are divided by `;`"),
        "{notes:?}"
    );
}

#[test]
fn an_empty_field_is_null_and_an_empty_text_in_quotes_is_a_text() {
    let rows = rows_of("a.csv", "text,label\n,0\n\"\",1\n").unwrap();
    let jsonl = rows_of(
        "a.jsonl",
        "{\"text\": null, \"label\": \"0\"}\n{\"text\": \"\", \"label\": \"1\"}\n",
    )
    .unwrap();
    assert_eq!(fields(&rows), fields(&jsonl));
    assert!(
        rows[0]
            .text("text")
            .unwrap_err()
            .to_string()
            .ends_with("a.csv` line 2: field `text` is null, expected a value")
    );
    assert_eq!(
        rows_of("a.tsv", "text\tlabel\n\t0\n").unwrap()[0].fields["text"],
        serde_json::Value::Null
    );
}

#[test]
fn a_malformed_line_is_named_with_its_file_line_and_column() {
    let message = rows_of("a.jsonl", "{\"a\": 1}\n{\"a\": }\n")
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("a.jsonl` line 2 is malformed: expected value at column 7"),
        "{message}"
    );
    let message = rows_of("a.jsonl", "[1]\n").unwrap_err().to_string();
    assert!(
        message.ends_with("line 1 is malformed: it is a list, expected an object"),
        "{message}"
    );
    let error = rows_of("a.csv", "a,b\n1,2\n1\n").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("line 3 is malformed: it has 1 columns, expected 2 as in the header"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("header"));
    let message = rows_of("a.csv", b"a,b\n1,\xff\n").unwrap_err().to_string();
    assert!(
        message.ends_with("line 2 is malformed: column 2 is not UTF-8 text"),
        "{message}"
    );
    let message = rows_of("a.jsonl", b"{\"a\": \"\xff\"}")
        .unwrap_err()
        .to_string();
    assert!(
        message.ends_with("line 1 is malformed: it is not UTF-8 text"),
        "{message}"
    );
}

#[test]
fn an_open_quote_ends_the_file_by_name_and_a_field_over_many_lines_is_noted() {
    let error = rows_of("a.csv", "label,text\n0,x\n1,\"y\n0,z\n").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("a.csv` line 3: a quote is opened here and never closed"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("doubled"));
    let (rows, notes) = read("a.csv", "label,text\n0,x\n1,\"y\n0,z\n0,w\"\n").unwrap();
    assert_eq!(rows.len(), 2);
    let expected = "a.csv`: 1 row has a quoted field that goes over several lines, the longest over 3 lines from line 3";
    assert!(notes[0].ends_with(expected), "{notes:?}");
}

#[test]
fn a_row_that_cannot_be_read_does_not_end_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let long = "x".repeat(LONGEST_LINE + 2);
    fs::write(
        &path,
        format!("{{\"a\": 1}}\nbroken\n{long}\n{{\"a\": 2}}\n"),
    )
    .unwrap();
    let found: Vec<_> = Rows::open(&path)
        .unwrap()
        .map(|row| row.map(|row| row.place.line))
        .collect();
    assert!(matches!(
        found[..],
        [
            Ok(1),
            Err(DataError::MalformedLine { .. }),
            Err(DataError::LineTooLong { .. }),
            Ok(4)
        ]
    ));
    let path = folder.path().join("a.csv");
    fs::write(&path, "a,b\n1,2\n1\n1,\"2\n3,4\n").unwrap();
    let found: Vec<_> = Rows::open(&path)
        .unwrap()
        .map(|row| row.map(|row| row.place.line))
        .collect();
    assert!(matches!(
        found[..],
        [
            Ok(2),
            Err(DataError::MalformedLine { .. }),
            Err(DataError::UnclosedQuote { .. })
        ]
    ));
}

#[test]
fn a_line_over_the_limit_is_refused() {
    let mut content = b"{}\n".to_vec();
    content.resize(LONGEST_LINE + 10, b' ');
    assert!(matches!(
        rows_of("a.jsonl", &content),
        Err(DataError::LineTooLong {
            at: Place { line: 2, .. },
            ..
        })
    ));
    content[..4].copy_from_slice(b"a\nb ");
    assert!(matches!(
        rows_of("a.csv", &content),
        Err(DataError::LineTooLong {
            at: Place { line: 2, .. },
            ..
        })
    ));
}

#[test]
fn a_file_that_holds_something_else_is_named_for_what_it_is() {
    let message = rows_of("a.csv", b"PK\x03\x04...").unwrap_err().to_string();
    assert!(
        message.ends_with("a.csv` is a zip archive (a workbook of Excel is one), expected text with a row on each line"),
        "{message}"
    );
    let error = rows_of(
        "a.jsonl",
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("a pointer of Git LFS")
            && error.hint().unwrap().contains("git lfs pull"),
        "{error}"
    );
}

#[test]
fn an_unknown_extension_and_a_missing_file_are_errors() {
    let message = rows_of("a.xlsx", "").unwrap_err().to_string();
    assert!(
        message.ends_with("has the extension `xlsx`, expected `jsonl`, `csv`, `tsv` or `parquet`"),
        "{message}"
    );
    assert!(matches!(
        rows_of("a.parquet.gz", ""),
        Err(DataError::UnknownExtension { .. })
    ));
    let error = read_rows(Path::new("/nowhere/a.jsonl")).unwrap_err();
    assert_eq!(
        error.hint().unwrap().to_string(),
        "check the spelling of the path"
    );
}

#[test]
fn the_first_rows_are_read_without_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, "{\"a\": 1}\nbroken").unwrap();
    assert_eq!(read_first_rows(&path, 1).unwrap().len(), 1);
}
