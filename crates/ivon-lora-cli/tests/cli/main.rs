//! Tests of the built binary, as a user meets it.

mod changed;
mod clustered;
mod compared;
mod decided;
mod disagreeing;
mod errors;
mod helpers;
mod rows;
mod shifted;
mod shown;
mod signals;
mod exported;
mod guide;
mod ranked;
mod texts;
mod usage;
mod work;
mod written;
