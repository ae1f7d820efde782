//! What a model is fetched for.

/// What a model is fetched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To train or predict, which needs a tokenizer.
    Run,
    /// To merge an adapter into its weights.
    Merge,
}
