//! The low-rank part of a projection on slices, forward and backward: s · B h with h = A drop(x),
//! or s · B f(x, h) if the pair has a side ([`crate::lora::Side`]).
//!
//! ```text
//! u = s · dy B      dB = s · dyᵀ h      dA = uᵀ drop(x)      dx += drop'(u A)
//! ```
//!
//! If rows have magnitudes, dy is that of z (see `magnitude`).

use std::sync::PoisonError;

use rayon::prelude::*;

use super::layout::{PairNumbers, PairPlace};
use super::magnitude::{Magnitude, row_lengths};
use super::pass::{DrawTokens, LayerPass, Pass};
use crate::forward::Observation;
use crate::kernel::{
    self, Buffer, Factor, Output, Target, Threads, View, apply, apply_transposed, product,
};
use crate::lora::{BackwardRows, CpuRows, CpuSide, Mask};
use crate::model::{FrozenMatrix, Projection};

/// What the forward pass of a pair keeps.
pub struct Low {
    /// h `[n, r]`, as modified by the side.
    h: Buffer,
    mask: Option<Mask>,
    /// The penalty of the side, nats.
    penalty: f64,
    magnitude: Option<Box<Magnitude>>,
}

impl Low {
    /// The gradient of W x, if it is not that of the output, `dy`: rows have magnitudes, and no
    /// dropout separates W x from W drop(x).
    pub fn scaled_gradient(&self, dy: &[f32]) -> Option<Vec<f32>> {
        let magnitude = self.magnitude.as_ref().filter(|_| self.mask.is_none());
        magnitude.map(|magnitude| magnitude.scaled(dy))
    }
}

/// The inputs of a projection's backward pass.
pub struct ProjectionGradient<'a> {
    pub projection: Projection,
    /// Gradient of the output, `[n, out]`.
    pub dy: &'a [f32],
    pub low: Option<&'a Low>,
}

impl<'a> ProjectionGradient<'a> {
    pub fn new(projection: Projection, dy: &'a [f32], low: Option<&'a Low>) -> Self {
        Self {
            projection,
            dy,
            low,
        }
    }
}

/// The result of a pair's backward pass: u, the gradient of h `[n, r]`, and, if it is not just u A,
/// the gradient of drop(x), `[n, in]`.
struct PairGradient {
    u: Buffer,
    unmasked: Option<Buffer>,
}

/// A pair in a pass.
struct Pair<'a> {
    pass: &'a Pass<'a>,
    /// The adapter, flat.
    adapter: &'a [f32],
    place: &'a PairPlace,
    /// W.
    weight: &'a FrozenMatrix,
    /// Addresses masks and noise.
    path: String,
    /// The index in the batch of the token of each row; none: all in order.
    tokens: Option<&'a [usize]>,
    /// The prefix key of each row, if a side needs it.
    keys: Vec<u64>,
    threads: Threads,
}

impl<'a> LayerPass<'a> {
    /// y += b + s · B f(x, A drop(x)) for each of these projections of one x, in parallel: their
    /// products are too small to be parallelised well individually.
    pub fn add_low<const N: usize>(
        &self,
        projections: [Projection; N],
        x: &[f32],
        outputs: &mut [Buffer; N],
    ) -> [Option<Low>; N] {
        let threads = self.threads(projections.into_iter());
        let mut lows = [const { None }; N];
        let each = projections
            .par_iter()
            .zip(outputs.par_iter_mut())
            .zip(lows.par_iter_mut())
            .with_max_len(1);
        each.for_each(|((&projection, y), low)| {
            let has_magnitudes = self.has_magnitudes(projection);
            let bias = self.weights.linear(projection).bias.as_ref();
            if let Some(bias) = bias.filter(|_| !has_magnitudes) {
                kernel::add_bias(y, bias);
            }
            *low = self.add_low_of_draws(projection, x, y, threads);
            if let Some(bias) = bias.filter(|_| has_magnitudes) {
                kernel::add_bias(y, bias);
            }
        });
        let penalty = lows.iter().flatten().map(|low| low.penalty).sum::<f64>();
        *self
            .pass
            .penalty
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += penalty;
        lows
    }

    /// y += s · B f(x, A drop(x)) with the A and B of each draw for its rows, and what the backward
    /// pass needs, which there is for a single draw only.
    fn add_low_of_draws(
        &self,
        projection: Projection,
        x: &[f32],
        y: &mut [f32],
        threads: Threads,
    ) -> Option<Low> {
        let draws = self.pass.draws;
        if let [draw] = draws {
            let pair = self.pair(projection, draw, threads);
            return pair.map(|pair| pair.forward(x, y));
        }
        self.place(projection)?;
        let weight = &self.weights.linear(projection).weight;
        let (outputs, inputs) = (weight.rows(), weight.columns());
        let mut rest = y;
        let mut parts = Vec::with_capacity(draws.len());
        for draw in draws {
            let rows = self.rows(projection, draw);
            let (y, after) = rest.split_at_mut(rows.len() * outputs);
            parts.push((draw, &x[rows.start * inputs..rows.end * inputs], y));
            rest = after;
        }
        let parts = parts.into_par_iter().filter(|(_, x, _)| !x.is_empty());
        parts.for_each(|(draw, x, y)| {
            if let Some(pair) = self.pair(projection, draw, Threads::One) {
                pair.forward(x, y);
            }
        });
        None
    }

    /// The gradients of the low-rank parts of projections of one x, in parallel; their
    /// contributions to dx are added in order.
    pub fn low_backward(
        &self,
        through: &[ProjectionGradient<'_>],
        x: &[f32],
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
    ) {
        let projections = || through.iter().map(|through| through.projection);
        let threads = self.threads(projections());
        let numbers = self
            .pass
            .layout
            .numbers(self.index, projections(), gradient);
        let pairs: Vec<_> = projections()
            .map(|projection| self.pair(projection, self.pass.draws.first()?, threads))
            .collect();
        let mut backs: Vec<Option<PairGradient>> = through.iter().map(|_| None).collect();
        let each = through.iter().zip(&pairs).zip(numbers).zip(&mut backs);
        let each = each.filter_map(|(((through, pair), numbers), back)| {
            Some((through, pair.as_ref()?, numbers?, back))
        });
        let run = |(through, pair, numbers, back): Work<'_, '_>| {
            *back = pair.backward(through, x, dx.is_some(), numbers);
        };
        match self.pass.observer {
            // An observer may hold a lock while it works on all threads.
            Some(_) => each.for_each(run),
            None => each
                .collect::<Vec<_>>()
                .into_par_iter()
                .with_max_len(1)
                .for_each(run),
        }
        let Some(dx) = dx else { return };
        for ((through, pair), back) in through.iter().zip(pairs).zip(backs) {
            if let (Some(low), Some(pair), Some(back)) = (through.low, pair, back) {
                pair.add_back(low, &back, dx);
            }
        }
    }

    /// The threads of each product when several pairs are processed in parallel.
    fn threads(&self, projections: impl Iterator<Item = Projection>) -> Threads {
        let adapted = projections
            .filter(|&projection| self.place(projection).is_some())
            .count();
        if adapted >= rayon::current_num_threads() {
            Threads::One
        } else {
            Threads::All
        }
    }

    fn place(&self, projection: Projection) -> Option<&'a PairPlace> {
        self.pass.layout.place(self.index, projection)
    }

    /// Whether the rows of a projection have magnitudes.
    pub fn has_magnitudes(&self, projection: Projection) -> bool {
        let place = self.place(projection);
        place.is_some_and(|place| place.magnitudes.is_some())
    }

    /// The pair of a projection under a draw, if it is adapted.
    fn pair(
        &self,
        projection: Projection,
        draw: &DrawTokens<'a>,
        threads: Threads,
    ) -> Option<Pair<'a>> {
        let place = self.place(projection)?;
        let tokens = self.tokens(projection);
        Some(Pair {
            pass: self.pass,
            adapter: draw.adapter,
            place,
            weight: &self.weights.linear(projection).weight,
            path: place.path.to_string(),
            tokens,
            keys: match &place.side {
                Some(_) => row_keys(self.pass.keys, tokens),
                None => Vec::new(),
            },
            threads,
        })
    }
}

/// The prefix keys of the rows at `tokens`, given those of all tokens.
fn row_keys(keys: &[u64], tokens: Option<&[usize]>) -> Vec<u64> {
    match tokens {
        Some(tokens) if !keys.is_empty() => tokens.iter().map(|&token| keys[token]).collect(),
        _ => keys.to_vec(),
    }
}

/// The backward pass of one projection.
type Work<'a, 'b> = (
    &'a ProjectionGradient<'b>,
    &'a Pair<'a>,
    PairNumbers<'a>,
    &'a mut Option<PairGradient>,
);

impl Pair<'_> {
    /// A, `[r, in]`.
    fn a(&self) -> View<'_> {
        let (a, rank) = (&self.adapter[self.place.a.clone()], self.place.rank);
        View::new(a, rank, a.len() / rank)
    }

    /// B, `[out, r]`.
    fn b(&self) -> View<'_> {
        let (b, rank) = (&self.adapter[self.place.b.clone()], self.place.rank);
        View::new(b, b.len() / rank, rank)
    }

    /// The side of the pair, for `count` rows.
    fn side(&self, count: usize) -> Option<(&dyn CpuSide, CpuRows<'_>)> {
        let place = self.place.side.as_ref()?;
        let rows = CpuRows {
            pool: self.pass.pool,
            path: &self.path,
            keys: &self.keys,
            count,
            rank: self.place.rank,
            weights: &self.adapter[place.range.clone()],
            threads: self.threads,
        };
        Some((place.side.as_ref(), rows))
    }

    /// drop(x), if there is dropout.
    fn dropped(&self, mask: Option<&Mask>, x: &[f32]) -> Option<Buffer> {
        let mask = mask?;
        let mut dropped = self.pass.pool.take(x.len());
        mask.apply(x, self.tokens, &mut dropped, false);
        Some(dropped)
    }

    /// y += s · B f(x, A drop(x)).
    fn forward(&self, x: &[f32], y: &mut [f32]) -> Low {
        let (a, b, rank) = (self.a(), self.b(), self.place.rank);
        let n = x.len() / a.columns;
        let mask = self
            .pass
            .dropout
            .map(|dropout| dropout.mask(&self.path, self.pass.batch, a.columns));
        let dropped = self.dropped(mask.as_ref(), x);
        let x = dropped.as_deref().unwrap_or(x);
        let mut h = self.pass.pool.take(n * rank);
        product(
            Target::over(&mut h, rank),
            1.0,
            Factor::Plain(View::new(x, n, a.columns)),
            Factor::Transposed(a),
            self.threads,
        );
        let side = self.side(n);
        let given = side.map(|(side, rows)| side.forward(&rows, x, &mut h));
        let low = given.as_ref().and_then(|given| given.low.as_deref());
        let mut magnitude = self.magnitude(dropped.as_deref(), y);
        product(
            Target::onto(magnitude.as_mut().map_or(&mut *y, |of| &mut of.z), b.rows),
            self.place.scaling,
            Factor::Plain(View::new(low.unwrap_or(&h), n, rank)),
            Factor::Transposed(b),
            self.threads,
        );
        if let Some(magnitude) = &magnitude {
            magnitude.add_scaled(y);
        }
        let penalty = given.map_or(0.0, |given| given.penalty);
        Low {
            h,
            mask,
            penalty,
            magnitude: magnitude.map(Box::new),
        }
    }

    /// If rows have magnitudes: z without its low-rank part, W drop(x), which is taken from y = W x.
    fn magnitude(&self, dropped: Option<&[f32]>, y: &mut [f32]) -> Option<Magnitude> {
        let range = self.place.magnitudes.clone()?;
        let mut z = self.pass.pool.take(y.len());
        match dropped {
            Some(x) => {
                let (matrix, y) = (self.weight, &mut *z);
                let onto = None;
                apply(x, vec![Output { matrix, y, onto }]);
            }
            None => z.copy_from_slice(y),
        }
        y.iter_mut().zip(z.iter()).for_each(|(y, z)| *y -= z);
        let lengths = row_lengths(self.weight, self.a(), self.b(), self.place.scaling);
        Some(Magnitude::new(z, lengths, &self.adapter[range]))
    }

    /// Writes the gradients of the pair's parameters to `gradient`; none if the forward pass kept
    /// nothing.
    fn backward(
        &self,
        through: &ProjectionGradient<'_>,
        x: &[f32],
        wants_dx: bool,
        mut gradient: PairNumbers<'_>,
    ) -> Option<PairGradient> {
        let (low, b, rank) = (through.low?, self.b(), self.place.rank);
        let n = through.dy.len() / b.rows;
        if let (Some(magnitude), Some(range)) = (&low.magnitude, &self.place.magnitudes) {
            magnitude.gradient(through.dy, gradient.at(range));
        }
        let scaled = low.magnitude.as_ref();
        let scaled = scaled.map(|magnitude| magnitude.scaled(through.dy));
        let dy = View::new(scaled.as_deref().unwrap_or(through.dy), n, b.rows);
        let mut u = self.pass.pool.take(n * rank);
        product(
            Target::over(&mut u, rank),
            self.place.scaling,
            Factor::Plain(dy),
            Factor::Plain(b),
            self.threads,
        );
        let dropped = self.dropped(low.mask.as_ref(), x);
        let input = dropped.as_deref().unwrap_or(x);
        let (u, given, mut unmasked) = self.side_backward(low, input, u, &mut gradient);
        let values = given.as_ref().unwrap_or(&low.h);
        product(
            Target::over(gradient.at(&self.place.b), rank),
            self.place.scaling,
            Factor::Transposed(dy),
            Factor::Plain(View::new(values, n, rank)),
            self.threads,
        );
        self.show(through.dy, input, low, &u);
        self.a_backward(&u, input, gradient.at(&self.place.a));
        if wants_dx && (low.mask.is_some() || unmasked.is_some()) {
            let add = unmasked.is_some();
            let unmasked = unmasked.get_or_insert_with(|| self.pass.pool.take(input.len()));
            product(
                Target::at(unmasked, self.a().columns, add),
                1.0,
                Factor::Plain(View::new(&u, n, rank)),
                Factor::Plain(self.a()),
                self.threads,
            );
            if let Some(mut change) = scaled.filter(|_| low.mask.is_some()) {
                let each = change.iter_mut().zip(through.dy);
                each.for_each(|(scaled, dy)| *scaled -= dy);
                apply_transposed(&[(self.weight, &change)], unmasked, true);
            }
        }
        Some(PairGradient { u, unmasked })
    }

    /// From u, the gradient of B's input: the gradient of h; B's input if it is not h; and the
    /// side's contribution to the gradient of drop(x).
    fn side_backward(
        &self,
        low: &Low,
        x: &[f32],
        u: Buffer,
        gradient: &mut PairNumbers<'_>,
    ) -> (Buffer, Option<Buffer>, Option<Buffer>) {
        let Some(place) = &self.place.side else {
            return (u, None, None);
        };
        let Some((side, rows)) = self.side(u.len() / self.place.rank) else {
            return (u, None, None);
        };
        let given = BackwardRows {
            x,
            h: &low.h,
            d_low: u,
            d_penalty: self.pass.d_penalty,
        };
        let back = side.backward(&rows, given, gradient.at(&place.range));
        (back.d_h, back.low, back.d_x)
    }

    /// dA = uᵀ drop(x).
    fn a_backward(&self, u: &[f32], x: &[f32], gradient: &mut [f32]) {
        let (rank, inputs) = (self.place.rank, self.a().columns);
        product(
            Target::over(gradient, inputs),
            1.0,
            Factor::Transposed(View::new(u, u.len() / rank, rank)),
            Factor::Plain(View::new(x, x.len() / inputs, inputs)),
            self.threads,
        );
    }

    /// Passes the pair to the observer of the backward pass.
    fn show(&self, dy: &[f32], input: &[f32], low: &Low, u: &[f32]) {
        if let Some(observer) = self.pass.observer {
            observer.see(Observation {
                path: self.place.path,
                rows: u.len() / self.place.rank,
                input,
                low: &low.h,
                d_low: u,
                dy,
            });
        }
    }

    /// dx += drop'(gradient of drop(x)).
    fn add_back(&self, low: &Low, back: &PairGradient, dx: &mut [f32]) {
        match (&low.mask, &back.unmasked) {
            (Some(mask), Some(unmasked)) => mask.apply(unmasked, self.tokens, dx, true),
            (None, Some(unmasked)) => kernel::add(dx, unmasked),
            (_, None) => {
                let (a, rank) = (self.a(), self.place.rank);
                product(
                    Target::onto(dx, a.columns),
                    1.0,
                    Factor::Plain(View::new(&back.u, back.u.len() / rank, rank)),
                    Factor::Plain(a),
                    Threads::All,
                );
            }
        }
    }
}
