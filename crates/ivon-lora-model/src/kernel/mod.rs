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
mod columns;
mod output;
mod integer;
mod gates;
mod norms;
mod convolution;
mod delta_rule;
mod frozen;
mod few_rows;
mod vocabulary;
mod cholesky;

pub use cholesky::cholesky;
pub use columns::{ColumnsMut, copy_columns, multiply};
pub use convolution::{Convolution, ConvolutionInputs};
pub use delta_rule::{
    DeltaRule, DeltaRuleGradients, DeltaRuleScratch, delta_rule, delta_rule_backward,
};
pub use few_rows::apply_to_few;
pub use frozen::{apply, apply_transposed};
pub use gates::{
    delta_rates, delta_rates_backward, gelu_gated, gelu_gated_backward, sigmoid_gated,
    sigmoid_gated_backward, softcap, softcap_row, softcap_row_backward,
};
pub use ivon::symmetric::eigenvectors;
pub use norms::{gated_norm, gated_norm_backward, l2_norm, l2_norm_backward};
pub use output::Output;
pub(crate) use pool::{Buffer, Pool};
pub(crate) use product::Shared;
pub use product::{Factor, Target, Threads, View, product};
pub use rows::log_sum_exp;
pub(crate) use rows::{
    add, add_bias, gated, gated_backward, rms_norm, rms_norm_again, rms_norm_backward, rotate,
    scale, scale_and_add, softmax_row,
};
pub use simd::wide;
pub use vocabulary::{NextToken, OutputLayer, log_normalisers, next_tokens};
