//! The built binary, as a user meets it.

mod errors;
mod helpers;
mod signals;
mod usage;
mod work;
