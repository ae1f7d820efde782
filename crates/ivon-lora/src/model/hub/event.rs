//! What is heard of a download, and what it is for.

/// What is heard of a download.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HubEvent<'a> {
    /// Bytes of a file have come.
    Received {
        /// The file's name in the repository.
        file: &'a str,
        /// Bytes that are there.
        received: u64,
        /// Bytes of the whole file; 0 where the server does not say.
        total: u64,
    },
    /// Something to tell the user.
    Note(&'a str),
}

/// What a model is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To train or predict, which needs a tokenizer.
    Run,
    /// To merge an adapter into its weights.
    Merge,
}
