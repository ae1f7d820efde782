//! Where each A and B lies in the flat vector that the CPU operation takes.

use std::ops::Range;

use burn::tensor::Tensor;

use crate::lora::{Adapter, Context, ContextDraw, Flip, LayerAdapter, LoraPair, Signs};
use crate::model::Projection;

/// A pair's place in the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// A, `[r, in]`.
    pub a: Range<usize>,
    /// B, `[out, r]`.
    pub b: Range<usize>,
    /// r.
    pub rank: usize,
    /// The network between them, behind B.
    pub context: Option<ContextPlace>,
    /// Noise on A `[r, in]` with the address of its signs, behind that.
    pub flip: Option<(Range<usize>, Signs)>,
}

impl Place {
    /// All of the pair, from A to the last of what lies behind B.
    fn range(&self) -> Range<usize> {
        let ends = [
            self.context.as_ref().map(|context| context.outer.end),
            self.flip.as_ref().map(|(noise, _)| noise.end),
        ];
        self.a.start..ends.into_iter().flatten().fold(self.b.end, usize::max)
    }
}

/// The numbers of one pair in a flat vector, named by the places that they have in it.
#[derive(Debug)]
pub struct Part<'a> {
    values: &'a mut [f32],
    start: usize,
}

impl Part<'_> {
    /// The numbers at a place of this pair.
    pub fn at(&mut self, place: &Range<usize>) -> &mut [f32] {
        &mut self.values[place.start - self.start..place.end - self.start]
    }
}

/// The place of the network between A and B, see [`Context`].
#[derive(Clone, Debug, PartialEq)]
pub struct ContextPlace {
    /// W₁ and b₁, `[hidden, r + 1]`.
    pub inner: Range<usize>,
    /// W₂ and b₂, `[2 r², hidden + 1]`.
    pub outer: Range<usize>,
    /// Numbers between W₁ and W₂.
    pub hidden: usize,
    /// Which function of E's distribution is computed.
    pub draw: ContextDraw,
}

/// The places of all pairs: layer by layer, in the order of [`Projection::ALL`], A before B.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    places: Vec<[Option<Place>; 7]>,
    len: usize,
    first: Option<usize>,
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
                        let ([rank, inputs], [outputs, _]) = (
                            pair.lora_A.lazy_shape().dims(),
                            pair.lora_B.lazy_shape().dims(),
                        );
                        let (a, b) = (next(rank * inputs), next(outputs * rank));
                        let context =
                            pair.context.as_ref().map(|Context { inner, outer, draw }| {
                                let hidden = inner.lazy_shape().dims::<2>()[0];
                                let [inner, outer] = [inner, outer]
                                    .map(|part| next(part.lazy_shape().num_elements()));
                                ContextPlace {
                                    inner,
                                    outer,
                                    hidden,
                                    draw: *draw,
                                }
                            });
                        let flip = pair
                            .flip
                            .as_ref()
                            .map(|flip| (next(rank * inputs), flip.signs));
                        Place {
                            a,
                            b,
                            rank,
                            context,
                            flip,
                        }
                    })
                })
            })
            .collect();
        let is_tracked = |pair: &LoraPair| {
            let context = pair
                .context
                .iter()
                .flat_map(|context| [&context.inner, &context.outer]);
            let flip = pair.flip.iter().map(|flip| &flip.noise);
            [&pair.lora_A, &pair.lora_B]
                .into_iter()
                .chain(context)
                .chain(flip)
                .any(|part| part.val().is_tracked())
        };
        let has_tracked = |layer: &LayerAdapter| {
            Projection::ALL
                .into_iter()
                .filter_map(|at| layer.pair(at))
                .any(is_tracked)
        };
        Self {
            places,
            len,
            first: adapter.layers.iter().position(has_tracked),
        }
    }

    /// The place of a pair, if the projection is adapted.
    pub fn place(&self, layer: usize, projection: Projection) -> Option<&Place> {
        self.places.get(layer)?[projection as usize].as_ref()
    }

    /// The numbers of some of a layer's pairs in a flat vector; the projections stand in the order
    /// of [`Projection::ALL`].
    pub fn parts<'a>(
        &self,
        layer: usize,
        projections: impl IntoIterator<Item = Projection>,
        flat: &'a mut [f32],
    ) -> Vec<Option<Part<'a>>> {
        let (mut rest, mut from) = (flat, 0);
        let mut part = |projection| {
            let Range { start, end } = self.place(layer, projection)?.range();
            let (_, after) = std::mem::take(&mut rest).split_at_mut(start - from);
            let (values, after) = after.split_at_mut(end - start);
            (rest, from) = (after, end);
            Some(Part { values, start })
        };
        projections.into_iter().map(&mut part).collect()
    }

    /// The first layer with a pair whose gradient is wanted; below it nothing needs one.
    pub fn first_layer(&self) -> Option<usize> {
        self.first
    }

    /// Whether tokens have noise of their own, by what they have read.
    pub fn has_noise(&self) -> bool {
        self.any_draw(|draw| draw.noise.is_some())
            || self
                .places
                .iter()
                .flatten()
                .flatten()
                .any(|place| place.flip.is_some())
    }

    fn any_draw(&self, is_wanted: impl Fn(&ContextDraw) -> bool) -> bool {
        let wanted = |place: &Place| {
            place
                .context
                .as_ref()
                .is_some_and(|context| is_wanted(&context.draw))
        };
        self.places.iter().flatten().flatten().any(wanted)
    }

    /// Whether a divergence is wanted anywhere.
    pub fn has_divergence(&self) -> bool {
        self.any_draw(|draw| draw.divergence.is_some())
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
            for pair in Projection::ALL
                .into_iter()
                .filter_map(|projection| layer.pair(projection))
            {
                parts.push(pair.lora_A.val().flatten::<1>(0, 1));
                parts.push(pair.lora_B.val().flatten::<1>(0, 1));
                if let Some(Context { inner, outer, .. }) = &pair.context {
                    parts.extend([inner, outer].map(|part| part.val().flatten::<1>(0, 1)));
                }
                if let Some(Flip { noise, .. }) = &pair.flip {
                    parts.push(noise.val().flatten::<1>(0, 1));
                }
            }
        }
        (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
    }
}
