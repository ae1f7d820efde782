//! Text, token by token: from the logits of a [`Decoding`](crate::forward::Decoding) to characters.

mod error;
mod candidates;
mod sampling;
mod text_stream;
mod write_options;
mod draft;
mod writer;
mod writing_batch;
mod texts;

pub use draft::{FinishReason, Written, WrittenToken};
pub use error::GenerateError;
pub use sampling::Sampling;
pub use text_stream::TextStream;
pub use texts::Listener;
pub use write_options::WriteOptions;
pub use writer::{WritePrompt, Writer};
pub use writing_batch::{Beginning, Ended, TokenListener, WritingBatch};
