//! GGUF files (llama.cpp's format): metadata, tensors, quantised blocks, the tokenizer inside, and a writer.

pub mod blocks;
