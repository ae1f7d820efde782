//! Examples → token ids → packed batches.

#[cfg(test)]
pub(super) mod testing;
mod tokenizer;
mod jinja;
mod chat;
mod encoded;
mod encode;
mod batch;
mod order;

pub use batch::{Batch, Segment};
pub use chat::{ChatSetting, ChatTemplate};
pub use encode::{
    DroppedExample, EncodeOptions, EncodedSet, Encoder, Outcome, encode_all, encode_any,
};
pub use encoded::{Choices, Encoded, Target};
pub use order::{EpochOrder, batch_indices};
pub use tokenizer::Tokenizer;
