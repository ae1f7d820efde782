//! The programs behind the built-in toy: pre-training its model, choosing its settings, running it.

pub mod pretrain;
pub mod run;
pub mod tune;
