//! The arithmetic of the CPU: matrix products on packed panels, row-wise kernels, small dense
//! factorisations. Nothing here depends on layers, adapters or methods.
//!
//! The products follow the memory layout of frozen matrices, which [`crate::model`] defines.

mod simd;
mod pool;
mod rows;
mod transpose;
mod tile;
mod panels;
mod product;
mod delta_rule;
mod frozen;
mod cholesky;

pub use cholesky::cholesky;
pub use delta_rule::{
    DeltaRule, DeltaRuleGradients, DeltaRuleScratch, delta_rule, delta_rule_backward,
};
pub(crate) use frozen::apply_transposed;
pub use frozen::{Output, apply};
pub use ivon::symmetric::eigenvectors;
pub(crate) use pool::{Buffer, Pool};
pub(crate) use product::Shared;
pub use product::{Factor, Target, Threads, View, product};
pub(crate) use rows::{
    add, add_bias, gated, gated_backward, rms_norm, rms_norm_again, rms_norm_backward, rotate,
    softmax_row,
};
pub use simd::wide;
