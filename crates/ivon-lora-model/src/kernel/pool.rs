//! Buffers that are reused from step to step, so that no product pays for page faults.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Free buffers.
#[derive(Clone, Default)]
pub struct Pool {
    free: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pool")
    }
}

/// A buffer of a pool, to which it returns when dropped.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    pool: Pool,
}

impl Pool {
    /// A buffer of `len` numbers with arbitrary contents, to be written before they are read.
    pub fn take(&self, len: usize) -> Buffer {
        let mut values = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            // The tightest fit keeps large buffers for large requests; batches differ in length, so
            // a little slack is allowed, but a much larger buffer is left alone.
            let fitting = (0..free.len()).filter(|&i| {
                free[i].capacity() >= len && free[i].capacity() <= len.saturating_mul(2) + 1024
            });
            match fitting.min_by_key(|&i| free[i].capacity()) {
                Some(index) => free.swap_remove(index),
                None => {
                    // Otherwise the largest buffer that is too small is replaced: a larger batch
                    // has outgrown it.
                    let outgrown = (0..free.len())
                        .filter(|&i| free[i].capacity() < len && free[i].capacity() >= len / 4);
                    if let Some(index) = outgrown.max_by_key(|&i| free[i].capacity()) {
                        free.swap_remove(index);
                    }
                    Vec::with_capacity(len + len / 8)
                }
            }
        };
        values.resize(len, 0.0);
        Buffer {
            values,
            pool: self.clone(),
        }
    }

    /// A buffer of `len` zeros.
    pub fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_back_is_lent_again() {
        let pool = Pool::default();
        let first = pool.take(1000).as_ptr();
        assert_eq!(pool.take(900).as_ptr(), first);
        assert_ne!(pool.take(100_000).as_ptr(), first);
    }

    #[test]
    fn batches_that_grow_do_not_pile_up_the_buffers_of_smaller_ones() {
        let pool = Pool::default();
        for len in [1000, 1500, 2000, 3000] {
            drop((pool.take(len), pool.take(len)));
        }
        let kept: usize = pool.free.lock().unwrap().iter().map(Vec::capacity).sum();
        assert!(kept <= 2 * (3000 + 3000 / 8), "{kept}");
    }
}
