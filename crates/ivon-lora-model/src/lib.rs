#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! The modules stand in the order of the data's path; each uses only rooms above it.

pub mod sentence;
pub mod files;
pub(crate) mod guard;
pub mod random;
pub mod words;
pub mod settings;
pub mod watch;

pub mod data;
pub mod model;
pub mod kernel;
pub mod lora;
pub mod forward;
#[doc(hidden)]
pub mod testing;
