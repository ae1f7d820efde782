//! Files → examples → prompts and choices → tokens → packed batches.

mod batch;
mod encoded;
mod tokenizer;

pub use batch::{Batch, Segment};
pub use encoded::{Choices, Encoded};
pub use tokenizer::Tokenizer;
