//! The built binary, as a user meets it.

mod changed;
mod compared;
mod errors;
mod helpers;
mod shifted;
mod shown;
mod signals;
mod usage;
mod work;
