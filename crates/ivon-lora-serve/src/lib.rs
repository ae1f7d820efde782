#![doc = include_str!("../README.md")]

mod error;
mod limits;
mod wire;
mod metrics;
mod predicting;
mod writing;
mod models;
mod server;

pub use error::ServeError;
pub use limits::Limits;
pub use models::{Models, ServedAdapter};
pub use server::{Log, LogLine, Server};
