//! The purpose of fetching a model.

/// The purpose of fetching a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Training or prediction, which needs a tokenizer.
    Run,
    /// Merging an adapter into its weights.
    Merge,
}
