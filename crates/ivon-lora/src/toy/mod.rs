//! The model and the data set that come with the binary: what `ivon-lora train` uses when it is given nothing.

pub mod questions;
pub mod text;
pub mod world;
