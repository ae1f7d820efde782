//! The tokenizer of a checkpoint, from a Hugging Face folder or a GGUF file.

mod framing;
mod charsmap;
mod chat_templates;
mod special_tokens;
pub(super) mod folder;
pub(super) mod gguf;
