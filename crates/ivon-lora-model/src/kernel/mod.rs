//! The arithmetic of the CPU: products of matrices on packed panels, row-wise kernels, small dense
//! factorisations. No file here knows a layer, an adapter or a method.
//!
//! How a frozen matrix lies in memory is said by [`crate::model`], which reads it; the products
//! follow it. So this room stands behind that one.

mod simd;
mod pool;
mod rows;
mod transpose;
mod tile;
mod panels;
mod product;
mod frozen;
mod cholesky;

pub use cholesky::cholesky;
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
