//! Parquet files for tests.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// One column of a test file: strings, integers, booleans, or a list of strings for each row.
pub(crate) enum Column {
    Texts(Vec<&'static str>),
    Numbers(Vec<i64>),
    Truths(Vec<bool>),
    Lists(Vec<Vec<&'static str>>),
}

/// Writes a parquet file with the parquet crate's writer, with snappy and dictionaries as on the
/// hub.
pub(crate) fn write(path: &Path, schema: &str, columns: Vec<Column>) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties))
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut column_writer = group.next_column().unwrap().unwrap();
        match column {
            Column::Texts(texts) => {
                let values: Vec<ByteArray> = texts.into_iter().map(ByteArray::from).collect();
                column_writer
                    .typed::<ByteArrayType>()
                    .write_batch(&values, None, None)
                    .unwrap();
            }
            Column::Numbers(values) => {
                column_writer
                    .typed::<Int64Type>()
                    .write_batch(&values, None, None)
                    .unwrap();
            }
            Column::Truths(values) => {
                column_writer
                    .typed::<BoolType>()
                    .write_batch(&values, None, None)
                    .unwrap();
            }
            Column::Lists(lists) => {
                let repetition: Vec<i16> = lists
                    .iter()
                    .flat_map(|list| (0..list.len()).map(|index| i16::from(index > 0)))
                    .collect();
                let values: Vec<ByteArray> =
                    lists.into_iter().flatten().map(ByteArray::from).collect();
                let definition = vec![1i16; values.len()];
                column_writer
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&definition), Some(&repetition))
                    .unwrap();
            }
        }
        column_writer.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// ARC's schema on the hub.
pub(crate) const ARC: &str = "message schema {
    REQUIRED BYTE_ARRAY id (UTF8);
    REQUIRED BYTE_ARRAY question (UTF8);
    REQUIRED GROUP choices {
        REQUIRED GROUP text (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
        REQUIRED GROUP label (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
    }
    REQUIRED BYTE_ARRAY answerKey (UTF8);
}";
