//! The layout of the parameters of an adapter's pairs in the flat vector that the CPU operation
//! takes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::lora::{Adapter, CpuSide, LoraPair};
use crate::model::{LinearPath, Projection};

/// The position of a pair in the flat vector: its parameters, concatenated in the order of
/// [`LoraPair::parameters`].
#[derive(Clone, Debug)]
pub struct PairPlace {
    /// A, `[r, in]`.
    pub a: Range<usize>,
    /// B, `[out, r]`.
    pub b: Range<usize>,
    /// m, `[out]`, if rows have magnitudes.
    pub magnitudes: Option<Range<usize>>,
    /// r.
    pub rank: usize,
    /// The factor s of B A.
    pub scaling: f32,
    /// Its linear layer, which addresses masks and noise.
    pub path: LinearPath,
    /// The side network or noise of the pair, with its parameters after B.
    pub(super) side: Option<SidePlace>,
}

/// The side of a pair, and the position of all of its parameters.
#[derive(Clone, Debug)]
pub(super) struct SidePlace {
    pub side: Arc<dyn CpuSide>,
    pub range: Range<usize>,
}

impl PairPlace {
    /// The position of a pair with factor `scaling` whose first parameter is number `start`.
    fn of(path: LinearPath, pair: &LoraPair, scaling: f64, start: usize) -> Self {
        let mut end = start;
        let mut ranges = pair.parameters().into_iter().map(|(_, parameter)| {
            let from = end;
            end += parameter.lazy_shape().num_elements();
            from..end
        });
        let mut next = || ranges.next().unwrap_or(start..start);
        let (a, b) = (next(), next());
        let magnitudes = pair.lora_magnitude_vector.as_ref().map(|_| next());
        let end = magnitudes.as_ref().map_or(b.end, |range| range.end);
        let last = ranges.last().unwrap_or(end..end);
        let side = pair.side.as_ref().map(|side| SidePlace {
            side: side.form().on_cpu(),
            range: end..last.end,
        });
        Self {
            a,
            b,
            magnitudes,
            rank: pair.rank(),
            scaling: scaling as f32,
            path,
            side,
        }
    }

    /// All of the pair.
    fn range(&self) -> Range<usize> {
        let magnitudes = self.magnitudes.as_ref();
        let end = magnitudes.map_or(self.b.end, |range| range.end);
        let side = self.side.as_ref();
        self.a.start..side.map_or(end, |side| side.range.end)
    }
}

/// The parameters of one pair in a flat vector, addressed by their positions in the whole vector.
#[derive(Debug)]
pub struct PairNumbers<'a> {
    values: &'a mut [f32],
    start: usize,
}

impl PairNumbers<'_> {
    /// The parameters at a position of this pair.
    pub fn at(&mut self, place: &Range<usize>) -> &mut [f32] {
        &mut self.values[place.start - self.start..place.end - self.start]
    }
}

/// The positions of all pairs, in the order of [`Adapter::pairs`].
#[derive(Clone, Debug, Default)]
pub struct AdapterLayout {
    places: BTreeMap<(Option<usize>, Projection), PairPlace>,
    len: usize,
    first: Option<usize>,
}

impl AdapterLayout {
    /// The layout of an adapter.
    pub fn of(adapter: &Adapter) -> Self {
        let (mut places, mut len) = (BTreeMap::new(), 0);
        for (path, pair) in adapter.pairs() {
            let place = PairPlace::of(path, pair, adapter.scaling.of(path), len);
            len = place.range().end;
            places.insert((path.layer, path.projection), place);
        }
        let tracked = adapter.pairs().filter(|(_, pair)| is_tracked(pair));
        Self {
            places,
            len,
            first: tracked.map(|(path, _)| path.first_layer()).min(),
        }
    }

    /// The pairs of an adapter as a flat vector, `[len]`, through which gradients flow, followed by
    /// the embeddings if it changes them; none if there is neither.
    pub fn flatten(adapter: &Adapter, embeddings: Option<Tensor<2>>) -> Option<Tensor<1>> {
        let pairs = adapter.pairs();
        let parameters = pairs.flat_map(|(_, pair)| pair.parameters());
        let matrices = parameters.map(|(_, parameter)| parameter.val());
        let matrices = matrices.chain(embeddings);
        let parts: Vec<Tensor<1>> = matrices.map(|matrix| matrix.flatten::<1>(0, 1)).collect();
        (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
    }

    /// The position of a pair, if the projection is adapted.
    pub fn place(&self, layer: Option<usize>, projection: Projection) -> Option<&PairPlace> {
        self.places.get(&(layer, projection))
    }

    /// The parameters of some of a layer's pairs in a flat vector; `projections` are in the order
    /// of [`Projection::ALL`].
    pub fn numbers<'a>(
        &self,
        layer: Option<usize>,
        projections: impl IntoIterator<Item = Projection>,
        flat: &'a mut [f32],
    ) -> Vec<Option<PairNumbers<'a>>> {
        let (mut rest, mut from) = (flat, 0);
        let mut numbers = |projection| {
            let Range { start, end } = self.place(layer, projection)?.range();
            let (_, after) = std::mem::take(&mut rest).split_at_mut(start - from);
            let (values, after) = after.split_at_mut(end - start);
            (rest, from) = (after, end);
            Some(PairNumbers { values, start })
        };
        projections.into_iter().map(&mut numbers).collect()
    }

    /// The first layer with a tracked pair, 0 if one is outside the layers; no layer below it needs
    /// a gradient.
    pub fn first_layer(&self) -> Option<usize> {
        self.first
    }

    /// Whether a side needs the prefix key of each token.
    pub fn reads_keys(&self) -> bool {
        self.sides().any(CpuSide::reads_keys)
    }

    /// Whether a side has a penalty.
    pub fn has_penalty(&self) -> bool {
        self.sides().any(CpuSide::has_penalty)
    }

    fn sides(&self) -> impl Iterator<Item = &dyn CpuSide> {
        self.places
            .values()
            .filter_map(|place| Some(place.side.as_ref()?.side.as_ref()))
    }

    /// The length of the flat vector without embeddings.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Whether any parameter of a pair is tracked.
fn is_tracked(pair: &LoraPair) -> bool {
    let mut parameters = pair.parameters().into_iter();
    parameters.any(|(_, parameter)| parameter.val().is_tracked())
}
