//! File formats, by the name of the file.

use std::path::Path;

/// The readable extensions; all but parquet also with `.gz` appended.
pub const EXTENSIONS: [&str; 4] = ["jsonl", "parquet", "csv", "tsv"];

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object on each line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// Comma-separated columns, or separated by the delimiter of the header.
    Csv,
    /// Tab-separated columns.
    Tsv,
}

impl Format {
    /// The format of a file by its name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let (name, packed) = name
            .strip_suffix(".gz")
            .map_or((name.as_str(), false), |name| (name, true));
        let (_, extension) = name.rsplit_once('.')?;
        Self::named(extension).filter(|format| !packed || *format != Self::Parquet)
    }

    /// A format by its extension.
    pub fn named(extension: &str) -> Option<Self> {
        match extension {
            "jsonl" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            _ => None,
        }
    }
}
