//! How rows are written, told by the name of their file.

use std::path::Path;

/// The extensions of files that can be read; all but parquet also with `.gz` behind.
pub const EXTENSIONS: [&str; 4] = ["jsonl", "parquet", "csv", "tsv"];

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object on each line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// Columns divided by commas, or by what the header tells.
    Csv,
    /// Columns divided by tabs.
    Tsv,
}

impl Format {
    /// A format by the name of a file.
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
