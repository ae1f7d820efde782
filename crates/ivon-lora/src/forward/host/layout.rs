//! Where each A and B lies in the flat vector that the CPU operation takes.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::lora::Adapter;
use crate::model::Projection;

/// A pair's place in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A, `[r, in]`.
    pub a: Range<usize>,
    /// B, `[out, r]`.
    pub b: Range<usize>,
    /// r.
    pub rank: usize,
}

/// The places of all pairs: layer by layer, in the order of [`Projection::ALL`], A before B.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    places: Vec<[Option<Place>; 7]>,
    len: usize,
}

impl Layout {
    /// The layout of an adapter.
    pub fn of(adapter: &Adapter) -> Self {
        let mut len = 0;
        let mut next = |count: usize| {
            len += count;
            len - count..len
        };
        let places = adapter
            .layers
            .iter()
            .map(|layer| {
                Projection::ALL.map(|projection| {
                    layer.pair(projection).map(|pair| {
                        let ([rank, inputs], [outputs, _]) = (pair.lora_A.lazy_shape().dims(), pair.lora_B.lazy_shape().dims());
                        Place { a: next(rank * inputs), b: next(outputs * rank), rank }
                    })
                })
            })
            .collect();
        Self { places, len }
    }

    /// The place of a pair, if the projection is adapted.
    pub fn place(&self, layer: usize, projection: Projection) -> Option<&Place> {
        self.places.get(layer)?[projection as usize].as_ref()
    }

    /// The first layer with a pair; below it nothing needs a gradient.
    pub fn first_layer(&self) -> Option<usize> {
        self.places.iter().position(|layer| layer.iter().any(Option::is_some))
    }

    /// Length of the flat vector.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The adapter as a flat vector, `[len]`, through which gradients flow.
    pub fn flatten(adapter: &Adapter) -> Option<Tensor<1>> {
        let mut parts = Vec::new();
        for layer in &adapter.layers {
            for pair in Projection::ALL.into_iter().filter_map(|projection| layer.pair(projection)) {
                parts.push(pair.lora_A.val().flatten::<1>(0, 1));
                parts.push(pair.lora_B.val().flatten::<1>(0, 1));
            }
        }
        (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
    }
}
