//! The inputs that the layers have of their own (Gemma 4): those of all layers side by side, with
//! their gradient.

use std::sync::{Mutex, PoisonError};

use crate::kernel::{self, Buffer, Pool};

/// p of all layers, `[N, layers · width]`, and its gradient.
#[derive(Debug)]
pub struct LayerInputs {
    values: Buffer,
    gradient: Mutex<Option<Buffer>>,
}

impl LayerInputs {
    pub fn new(values: Buffer) -> Self {
        Self {
            values,
            gradient: Mutex::new(None),
        }
    }

    /// p of all layers.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Adds to the gradient of p of one layer, `[N, width]`; a row of all layers has length
    /// `stride`.
    pub fn add_gradient(&self, index: usize, d: &[f32], [width, stride]: [usize; 2], pool: &Pool) {
        let mut held = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = held.get_or_insert_with(|| pool.zeros(self.values.len()));
        let place = index * width..(index + 1) * width;
        let rows = sum.chunks_exact_mut(stride).zip(d.chunks_exact(width));
        rows.for_each(|(sum, d)| kernel::add(&mut sum[place.clone()], d));
    }

    /// The gradient of p, if any layer has added to it.
    pub fn take_gradient(&self) -> Option<Buffer> {
        let mut held = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }
}
