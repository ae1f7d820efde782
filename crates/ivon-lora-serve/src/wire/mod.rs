//! What travels over HTTP: requests as they are read, responses as they are written.

mod body;
mod predict;
mod written;
mod completion;
mod chat;
mod model;

pub use body::{read, whole};
pub use chat::{ChatRequest, chat_chunk, chat_response};
pub use completion::{CompletionRequest, completion_chunk, completion_response};
pub use model::ModelCard;
pub use predict::{PredictRequest, PredictResponse};
pub use written::{Choice, Common, TextAnswer, TextToken, Usage};
