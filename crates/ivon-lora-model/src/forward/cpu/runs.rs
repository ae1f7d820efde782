//! The segments of a batch as runs of tokens along which a state is carried: it starts anew at each
//! sequence, or where the sequence was left in an earlier pass, and a segment that continues another
//! one takes over the other's.

use crate::data::Batch;
use crate::kernel::{Buffer, Convolution, ConvolutionInputs, Pool};

/// The segments of a batch by depth: those of a level only continue those of the level above.
#[derive(Debug)]
pub struct Runs {
    /// Indices of segments, level by level.
    pub levels: Vec<Vec<usize>>,
    /// Whether a segment is continued: by another one, or in a later pass.
    pub is_continued: Vec<bool>,
}

/// What is carried from one segment to the next: after each segment that is continued.
pub type Carried = Vec<Option<Vec<f32>>>;

impl Runs {
    /// The runs of a batch whose segments are all continued if `goes_on`.
    pub fn of(batch: &Batch, goes_on: bool) -> Self {
        let mut depths: Vec<usize> = Vec::with_capacity(batch.segments.len());
        let mut levels: Vec<Vec<usize>> = Vec::new();
        let mut is_continued = vec![goes_on; batch.segments.len()];
        for (index, segment) in batch.segments.iter().enumerate() {
            let depth = segment.parent.map_or(0, |parent| {
                is_continued[parent] = true;
                depths[parent] + 1
            });
            depths.push(depth);
            if depth == levels.len() {
                levels.push(Vec::new());
            }
            levels[depth].push(index);
        }
        Self {
            levels,
            is_continued,
        }
    }
}

/// A convolution along the runs of a batch.
pub struct RunConvolution<'a> {
    pub convolution: &'a Convolution,
    pub batch: &'a Batch,
    pub runs: &'a Runs,
    pub pool: &'a Pool,
    /// The last inputs of each sequence in earlier passes; empty if there was none.
    pub past: Carried,
}

impl RunConvolution<'_> {
    /// y of x, `[N, C]`, and the last inputs of each segment that is continued.
    pub fn apply(&self, x: &[f32]) -> (Buffer, Carried) {
        let mut y = self.pool.take(x.len());
        let tails = self.tails(x);
        for index in 0..self.batch.segments.len() {
            let place = self.place(index);
            let inputs = ConvolutionInputs {
                x: &x[place.clone()],
                before: self.before(index, &tails),
            };
            self.convolution.apply(inputs, &mut y[place]);
        }
        (y, tails)
    }

    /// The inputs before a segment.
    fn before<'b>(&'b self, index: usize, tails: &'b Carried) -> Option<&'b [f32]> {
        match self.batch.segments[index].parent {
            Some(parent) => tails[parent].as_deref(),
            None => self.past.get(index)?.as_deref(),
        }
    }

    /// dx of dy, which is overwritten.
    pub fn apply_backward(&self, x: &[f32], dy: &mut [f32]) -> Buffer {
        let mut dx = self.pool.take(x.len());
        let tails = self.tails(x);
        let len = self.convolution.reach() * self.convolution.channels();
        let mut d_tails: Vec<Option<Vec<f32>>> = vec![None; self.batch.segments.len()];
        for (index, segment) in self.batch.segments.iter().enumerate().rev() {
            let place = self.place(index);
            let inputs = ConvolutionInputs {
                x: &x[place.clone()],
                before: self.before(index, &tails),
            };
            let mut d_before = segment.parent.map(|_| vec![0.0; len]);
            let (dy, dx) = (&mut dy[place.clone()], &mut dx[place]);
            self.convolution
                .apply_backward(inputs, dy, dx, d_before.as_deref_mut());
            if let Some(d_tail) = d_tails[index].take() {
                self.convolution
                    .tail_backward(&d_tail, dx, d_before.as_deref_mut());
            }
            if let (Some(parent), Some(d_before)) = (segment.parent, d_before) {
                match &mut d_tails[parent] {
                    Some(sum) => crate::kernel::add(sum, &d_before),
                    none => *none = Some(d_before),
                }
            }
        }
        dx
    }

    /// The last inputs of each segment that is continued.
    fn tails(&self, x: &[f32]) -> Carried {
        let len = self.convolution.reach() * self.convolution.channels();
        let mut tails: Carried = Vec::with_capacity(self.batch.segments.len());
        for index in 0..self.batch.segments.len() {
            let tail = self.runs.is_continued[index].then(|| {
                let mut tail = vec![0.0; len];
                let inputs = ConvolutionInputs {
                    x: &x[self.place(index)],
                    before: self.before(index, &tails),
                };
                self.convolution.tail(inputs, &mut tail);
                tail
            });
            tails.push(tail);
        }
        tails
    }

    /// The numbers of a segment in a matrix `[N, C]`.
    fn place(&self, index: usize) -> std::ops::Range<usize> {
        let (segment, channels) = (&self.batch.segments[index], self.convolution.channels());
        segment.start * channels..(segment.start + segment.len) * channels
    }
}
