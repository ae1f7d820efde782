//! Examples → token ids → packed batches.

#[cfg(test)]
pub(super) mod testing;
mod tokenizer;
mod jinja;
mod chat;
mod encoded;
mod text_encoder;
mod encoder;
mod encoded_set;
mod batch;
mod order;

pub use batch::{Batch, Segment};
pub use chat::{ChatSetting, ChatTemplate};
pub use encoded::{Choices, Encoded, Target, TextTarget};
pub use encoded_set::{DroppedExample, EncodedSet, encode_all, encode_any};
pub use encoder::EncodeOptions;
pub(super) use encoder::{EncodeOutcome, Encoder};
pub use order::batch_indices;
pub(super) use text_encoder::EncodedText;
pub use tokenizer::Tokenizer;
