//! The low-rank side of a projection on slices, forward and backward: s · B A drop(x), with noise
//! on A whose signs are each token's own ([`crate::lora::Flip`]) and a matrix between A and B that
//! each token has for itself ([`super::context`]), where an adapter has them.

use std::ops::Range;
use std::sync::PoisonError;

use rayon::prelude::*;

use super::context::Predictor;
use super::layer::{Layer, Pass};
use super::layout::{Part, Place};
use crate::forward::Seen;
use crate::kernel::{self, Buffer, Factor, Target, Threads, View, product};
use crate::lora::{Mask, Signs};
use crate::model::Projection;

/// The signs on the inputs and the outputs of noise on A.
const IN: u64 = 0;
const OUT: u64 = 1;

/// The low-rank side of a projection: A drop(x) `[n, r]`, the mask, and the divergence of a matrix
/// between A and B.
pub struct Low {
    values: Buffer,
    mask: Option<Mask>,
    divergence: f64,
}

/// What a pair gives back: u = s · dy B `[n, r]`, and where it is not u A alone, what it adds to dx
/// before the mask, `[n, in]`.
struct Back {
    u: Buffer,
    unmasked: Option<Buffer>,
}

/// What goes through a projection on the way back.
pub struct Through<'a> {
    pub projection: Projection,
    /// Gradient of the output, `[n, out]`.
    pub dy: &'a [f32],
    pub low: Option<&'a Low>,
}

impl Pass<'_> {
    fn factors<'b>(&'b self, place: &Place) -> (View<'b>, View<'b>) {
        let (a, b) = (
            &self.adapter[place.a.clone()],
            &self.adapter[place.b.clone()],
        );
        (
            View::new(a, place.rank, a.len() / place.rank),
            View::new(b, b.len() / place.rank, place.rank),
        )
    }

    /// The threads of a product where several pairs are worked on side by side.
    fn threads(&self, layer: Layer<'_>, projections: impl Iterator<Item = Projection>) -> Threads {
        let adapted = projections
            .filter(|&projection| self.layout.place(layer.index, projection).is_some())
            .count();
        if adapted >= rayon::current_num_threads() {
            Threads::One
        } else {
            Threads::All
        }
    }

    /// y += b + s · B A drop(x) for each of these projections of one x, side by side: their
    /// products are too small to be shared out well.
    pub fn add_low<const N: usize>(
        &self,
        layer: Layer<'_>,
        projections: [Projection; N],
        x: &[f32],
        outputs: &mut [Buffer; N],
    ) -> [Option<Low>; N] {
        let threads = self.threads(layer, projections.into_iter());
        let mut lows = [const { None }; N];
        let each = projections
            .par_iter()
            .zip(outputs.par_iter_mut())
            .zip(lows.par_iter_mut())
            .with_max_len(1);
        each.for_each(|((&projection, y), low)| {
            *low = self.add_one(layer, projection, x, y, threads)
        });
        *self
            .divergence
            .lock()
            .unwrap_or_else(PoisonError::into_inner) +=
            lows.iter().flatten().map(|low| low.divergence).sum::<f64>();
        lows
    }

    /// [`add_low`](Self::add_low) of one projection.
    fn add_one(
        &self,
        layer: Layer<'_>,
        projection: Projection,
        x: &[f32],
        y: &mut [f32],
        threads: Threads,
    ) -> Option<Low> {
        let linear = layer.weights.linear(projection);
        let (inputs, outputs) = (linear.weight.columns(), linear.weight.rows());
        if let Some(bias) = &linear.bias {
            kernel::add_bias(y, bias);
        }
        let place = self.layout.place(layer.index, projection)?;
        let n = x.len() / inputs;
        let (a, b) = self.factors(place);
        let mask = self
            .dropout
            .map(|dropout| dropout.mask(&layer.path(projection), self.batch, inputs));
        let mut values = self.pool.take(n * place.rank);
        let dropped = mask
            .as_ref()
            .map(|mask| self.drop(mask, x, self.tokens(layer, projection)));
        let x = View::new(dropped.as_deref().unwrap_or(x), n, inputs);
        product(
            Target::over(&mut values, place.rank),
            1.0,
            Factor::Plain(x),
            Factor::Transposed(a),
            threads,
        );
        if let Some((noise, signs)) = &place.flip {
            let flipped = self.flip(layer, projection, signs, x.values);
            let noise = View::new(&self.adapter[noise.clone()], place.rank, inputs);
            let mut off = self.pool.take(values.len());
            let turned = Factor::Plain(View::new(&flipped, n, inputs));
            product(
                Target::over(&mut off, place.rank),
                1.0,
                turned,
                Factor::Transposed(noise),
                threads,
            );
            signs.apply(
                &layer.path(projection),
                OUT,
                &self.row_keys(layer, projection),
                &mut off,
            );
            kernel::add(&mut values, &off);
        }
        let mut divergence = 0.0;
        let between = self.predictor(layer, projection, place).map(|predictor| {
            let predicted = predictor.predict(&values, self.row_keys(layer, projection));
            divergence = predictor.divergence(&predicted);
            predictor.apply(&predicted, &values)
        });
        let low = Factor::Plain(View::new(
            between.as_ref().unwrap_or(&values),
            n,
            place.rank,
        ));
        product(
            Target::onto(y, outputs),
            self.scaling,
            low,
            Factor::Transposed(b),
            threads,
        );
        Some(Low {
            values,
            mask,
            divergence,
        })
    }

    /// r ⊙ x of noise on A, see [`crate::lora::Flip`].
    fn flip(&self, layer: Layer<'_>, projection: Projection, signs: &Signs, x: &[f32]) -> Buffer {
        let mut flipped = self.pool.take(x.len());
        flipped.copy_from_slice(x);
        signs.apply(
            &layer.path(projection),
            IN,
            &self.row_keys(layer, projection),
            &mut flipped,
        );
        flipped
    }

    /// The gradient of N is written to `gradient`, and r ⊙ (Nᵀ (s ⊙ u)) is given: what the noise on
    /// A adds to that of x.
    fn flip_backward(
        &self,
        layer: Layer<'_>,
        projection: Projection,
        (noise, signs): &(Range<usize>, Signs),
        u: &[f32],
        input: &[f32],
        gradient: &mut [f32],
    ) -> Buffer {
        let keys = self.row_keys(layer, projection);
        let rank = u.len() / keys.len().max(1);
        let inputs = input.len() / keys.len().max(1);
        let mut turned = self.pool.take(u.len());
        turned.copy_from_slice(u);
        signs.apply(&layer.path(projection), OUT, &keys, &mut turned);
        let flipped = self.flip(layer, projection, signs, input);
        let turned = View::new(&turned, keys.len(), rank);
        let x = Factor::Plain(View::new(&flipped, keys.len(), inputs));
        product(
            Target::over(gradient, inputs),
            1.0,
            Factor::Transposed(turned),
            x,
            Threads::All,
        );
        let mut dx = self.pool.take(input.len());
        let noise = Factor::Plain(View::new(&self.adapter[noise.clone()], rank, inputs));
        product(
            Target::over(&mut dx, inputs),
            1.0,
            Factor::Plain(turned),
            noise,
            Threads::All,
        );
        signs.apply(&layer.path(projection), IN, &keys, &mut dx);
        dx
    }

    /// What predicts the matrix between A and B, in a contextual adapter.
    fn predictor<'b>(
        &'b self,
        layer: Layer<'_>,
        projection: Projection,
        place: &'b Place,
    ) -> Option<Predictor<'b>> {
        let context = place.context.as_ref()?;
        Some(Predictor {
            pool: self.pool,
            place: context,
            path: layer.path(projection),
            adapter: self.adapter,
            rank: place.rank,
        })
    }

    /// What the tokens of a projection's rows have read.
    fn row_keys(&self, layer: Layer<'_>, projection: Projection) -> Vec<u64> {
        match self.tokens(layer, projection) {
            Some(tokens) if !self.keys.is_empty() => {
                tokens.iter().map(|&token| self.keys[token]).collect()
            }
            _ => self.keys.to_vec(),
        }
    }

    fn drop(&self, mask: &Mask, x: &[f32], tokens: Option<&[usize]>) -> Buffer {
        let mut dropped = self.pool.take(x.len());
        mask.apply(x, tokens, &mut dropped, false);
        dropped
    }

    /// The gradients of the low-rank sides of projections of one x, side by side; their dx is
    /// added, in their order.
    pub fn low_backward(
        &self,
        layer: Layer<'_>,
        through: &[Through<'_>],
        x: &[f32],
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
    ) {
        let projections = || through.iter().map(|through| through.projection);
        let threads = self.threads(layer, projections());
        let parts = self.layout.parts(layer.index, projections(), gradient);
        let mut backs: Vec<Option<Back>> = through.iter().map(|_| None).collect();
        let each = through.iter().zip(parts).zip(&mut backs);
        let back =
            |((through, part), back): ((&Through<'_>, Option<Part<'_>>), &mut Option<Back>)| {
                *back = part
                    .and_then(|part| self.back_one(layer, through, x, dx.is_some(), part, threads));
            };
        match self.observer {
            // It may hold a lock while it works on all threads.
            Some(_) => each.for_each(back),
            None => each
                .collect::<Vec<_>>()
                .into_par_iter()
                .with_max_len(1)
                .for_each(back),
        }
        let Some(dx) = dx else { return };
        for (through, back) in through.iter().zip(backs) {
            if let Some((low, back)) = through.low.zip(back) {
                self.add_back(layer, through.projection, low, &back, dx);
            }
        }
    }

    /// The gradients of A and B of one projection, written to `gradient`.
    fn back_one(
        &self,
        layer: Layer<'_>,
        through: &Through<'_>,
        x: &[f32],
        wants_dx: bool,
        mut gradient: Part<'_>,
        threads: Threads,
    ) -> Option<Back> {
        let &Through {
            projection,
            dy,
            low,
        } = through;
        let linear = layer.weights.linear(projection);
        let (inputs, outputs) = (linear.weight.columns(), linear.weight.rows());
        let n = dy.len() / outputs;
        let (low, place) = (low?, self.layout.place(layer.index, projection)?);
        let (a, b) = self.factors(place);
        let dy = View::new(dy, n, outputs);
        // u = s · dy B; dB = s · dyᵀ (A drop(x)); dA = uᵀ drop(x); dx += drop'(u A). In a
        // contextual adapter dB has E h in the place of h = A drop(x), and u becomes the gradient
        // of h by way of E h.
        let mut u = self.pool.take(n * place.rank);
        product(
            Target::over(&mut u, place.rank),
            self.scaling,
            Factor::Plain(dy),
            Factor::Plain(b),
            threads,
        );
        let between = self.predictor(layer, projection, place).map(|predictor| {
            let predicted = predictor.predict(&low.values, self.row_keys(layer, projection));
            u = predictor.backward(
                &predicted,
                &low.values,
                &u,
                self.d_divergence,
                &mut gradient,
            );
            predictor.apply(&predicted, &low.values)
        });
        let values = Factor::Plain(View::new(
            between.as_ref().unwrap_or(&low.values),
            n,
            place.rank,
        ));
        product(
            Target::over(gradient.at(&place.b), place.rank),
            self.scaling,
            Factor::Transposed(dy),
            values,
            threads,
        );
        let dropped = low
            .mask
            .as_ref()
            .map(|mask| self.drop(mask, x, self.tokens(layer, projection)));
        let input = dropped.as_deref().unwrap_or(x);
        if let Some(observer) = self.observer {
            observer.see(Seen {
                layer: layer.index,
                projection,
                rows: n,
                input,
                low: &low.values,
                d_low: &u,
                dy: through.dy,
            });
        }
        let mut unmasked = place.flip.as_ref().map(|flip| {
            self.flip_backward(layer, projection, flip, &u, input, gradient.at(&flip.0))
        });
        let (from, x) = (View::new(&u, n, place.rank), View::new(input, n, inputs));
        product(
            Target::over(gradient.at(&place.a), inputs),
            1.0,
            Factor::Transposed(from),
            Factor::Plain(x),
            threads,
        );
        if wants_dx && (low.mask.is_some() || unmasked.is_some()) {
            let add = unmasked.is_some();
            let unmasked = unmasked.get_or_insert_with(|| self.pool.take(n * inputs));
            product(
                Target::at(unmasked, inputs, add),
                1.0,
                Factor::Plain(from),
                Factor::Plain(a),
                threads,
            );
        }
        Some(Back { u, unmasked })
    }

    /// dx += drop'(what the low-rank side of a projection gives back).
    fn add_back(
        &self,
        layer: Layer<'_>,
        projection: Projection,
        low: &Low,
        back: &Back,
        dx: &mut [f32],
    ) {
        let Some(place) = self.layout.place(layer.index, projection) else {
            return;
        };
        let (a, _) = self.factors(place);
        match (&low.mask, &back.unmasked) {
            (Some(mask), Some(unmasked)) => {
                mask.apply(unmasked, self.tokens(layer, projection), dx, true)
            }
            (None, Some(unmasked)) => kernel::add(dx, unmasked),
            (_, None) => {
                let u = Factor::Plain(View::new(&back.u, back.u.len() / place.rank, place.rank));
                product(
                    Target::onto(dx, a.columns),
                    1.0,
                    u,
                    Factor::Plain(a),
                    Threads::All,
                );
            }
        }
    }
}
