//! The programs behind the toy that comes with the binary: pre-training its model, choosing its
//! settings, running it.

pub mod pretrain;
pub mod run;
pub mod tune;
