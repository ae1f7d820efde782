//! Text, token by token: from the logits of a [`Decoding`](crate::forward::Decoding) to characters.

mod error;
mod candidates;
mod sampling;
mod text_stream;
mod writer;

pub use error::GenerateError;
pub use sampling::Sampling;
pub use text_stream::TextStream;
pub use writer::{FinishReason, Listener, WriteOptions, WritePrompt, Writer, Written};
