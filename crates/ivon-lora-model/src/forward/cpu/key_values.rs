//! The keys and values of attention layers that later layers use too (Gemma 4).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::{self, Buffer};

/// The keys, normalised and rotated, and the values of a layer, `[N, keys · width]` each.
#[derive(Debug)]
pub struct KeysAndValues {
    pub k: Buffer,
    pub v: Buffer,
}

/// Those that several layers use, by the layer that computed them, and the gradients that the other
/// layers have added to them so far.
#[derive(Debug, Default)]
pub struct SharedKeyValues {
    values: Mutex<BTreeMap<usize, Arc<KeysAndValues>>>,
    gradients: Mutex<BTreeMap<usize, KeysAndValues>>,
}

impl SharedKeyValues {
    /// Those of a pass that was made before.
    pub fn again(values: BTreeMap<usize, Arc<KeysAndValues>>) -> Self {
        Self {
            values: Mutex::new(values),
            gradients: Mutex::default(),
        }
    }

    /// All that were computed.
    pub fn into_values(self) -> BTreeMap<usize, Arc<KeysAndValues>> {
        let values = self.values.into_inner();
        values.unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, layer: usize, values: &Arc<KeysAndValues>) {
        locked(&self.values).insert(layer, values.clone());
    }

    pub fn get(&self, layer: usize) -> Option<Arc<KeysAndValues>> {
        locked(&self.values).get(&layer).cloned()
    }

    /// Adds a gradient to those of a layer.
    pub fn add_gradient(&self, layer: usize, gradient: KeysAndValues) {
        let mut gradients = locked(&self.gradients);
        match gradients.get_mut(&layer) {
            Some(sum) => {
                kernel::add(&mut sum.k, &gradient.k);
                kernel::add(&mut sum.v, &gradient.v);
            }
            None => {
                gradients.insert(layer, gradient);
            }
        }
    }

    /// The gradients that later layers have added to a layer's keys and values, if any.
    pub fn take_gradient(&self, layer: usize) -> Option<KeysAndValues> {
        locked(&self.gradients).remove(&layer)
    }
}

fn locked<T>(values: &Mutex<T>) -> MutexGuard<'_, T> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}
