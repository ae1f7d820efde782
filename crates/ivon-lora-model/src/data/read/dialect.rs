//! How the columns of a CSV or TSV file are delimited, and whether fields are quoted.

/// The maximum number of columns of a record.
pub(crate) const MOST_COLUMNS: usize = 10_000;

/// The dialect of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// The byte between two columns.
    pub delimiter: u8,
    /// Whether a field may be quoted.
    pub quoted: bool,
}

impl Dialect {
    /// A description of the dialect, if it is not the one that the file's extension suggests.
    pub(crate) fn surprise(self, tabs: bool) -> Option<String> {
        let named = match self.delimiter {
            b'\t' => "tabs".to_string(),
            other => format!("`{}`", char::from(other)),
        };
        match (tabs, self.delimiter == if tabs { b'\t' } else { b',' }) {
            (_, false) => Some(format!("columns are divided by {named}")),
            (true, true) if self.quoted => Some("quotes around a field are read as such".into()),
            _ => None,
        }
    }
}
