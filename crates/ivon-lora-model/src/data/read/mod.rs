//! Rows of JSONL, CSV, TSV and parquet files or of a stream, one at a time, each with its place.
//!
//! Text may be compressed with gzip (detected by its first bytes), in UTF-8 or, with a byte-order
//! mark, in UTF-16.

mod json;
mod row;
mod text;
mod lines;
mod dialect;
mod splitter;
mod detect;
mod csv;
#[cfg(feature = "parquet")]
mod thrift;
#[cfg(feature = "parquet")]
mod footer;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(not(feature = "parquet"))]
mod without_parquet;
mod format;
mod rows;
mod stream;
#[cfg(test)]
pub(super) mod testing;

pub(super) use format::EXTENSIONS;
pub use format::Format;
pub(super) use json::{kind as json_kind, value as json_value};
pub(super) use lines::LONGEST_LINE;
pub use row::Row;
pub use rows::{Continue, Rows, for_each_row, read_first_rows, read_rows};
pub use stream::{Stream, StreamFormat, StreamLines, stream};
