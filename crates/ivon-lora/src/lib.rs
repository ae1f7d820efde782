#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! The modules stand in the order of the data's path; each uses only rooms above it.

pub mod sentence;
pub mod files;
mod guard;
pub mod random;
pub mod words;
pub mod settings;
pub mod metrics;
pub mod watch;
#[doc(hidden)]
pub mod testing;

pub mod data;
pub mod model;
pub mod kernel;
pub mod lora;
pub mod forward;
pub mod posterior;
pub mod bundle;
pub mod predict;
pub mod train;
pub mod answer;
pub mod method;
pub mod run;
pub mod report;
pub mod study;
pub mod compare;
pub mod toy;
