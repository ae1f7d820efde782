//! The keys and values of consecutive tokens of a sequence in one layer.

use std::ops::Range;

use crate::kernel::View;

/// Rows that are kept beyond a window, so that not every token moves all of them.
const SLACK: usize = 64;

/// Keys and values of the tokens at consecutive positions, `[rows, keys · width]` each.
#[derive(Clone, Debug, Default)]
pub struct CachedRows {
    /// The position of the first row.
    first: usize,
    /// keys · width.
    width: usize,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl CachedRows {
    /// Adds rows; `first` is the position of the first of them, which follows the last one.
    pub fn extend(&mut self, first: usize, width: usize, [k, v]: [&[f32]; 2]) {
        if self.k.is_empty() {
            (self.first, self.width) = (first, width);
        }
        self.k.extend_from_slice(k);
        self.v.extend_from_slice(v);
    }

    /// The positions of the rows.
    pub fn positions(&self) -> Range<usize> {
        let rows = self.k.len().checked_div(self.width).unwrap_or(0);
        self.first..self.first + rows
    }

    /// Forgets most of the rows that a token after the last one does not see through a window.
    pub fn forget(&mut self, window: usize) {
        let positions = self.positions();
        let seen = (positions.end + 1).saturating_sub(window);
        let hidden = seen.min(positions.end).saturating_sub(positions.start);
        if hidden > SLACK {
            self.k.drain(..hidden * self.width);
            self.v.drain(..hidden * self.width);
            self.first += hidden;
        }
    }

    /// The keys and values of one head, of a width, at some of the positions.
    pub fn head(&self, positions: &Range<usize>, head: Range<usize>) -> [View<'_>; 2] {
        let start = (positions.start - self.first) * self.width + head.start;
        [&self.k, &self.v].map(|values| View {
            values: &values[start..],
            rows: positions.len(),
            columns: head.len(),
            stride: self.width,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_window_is_forgotten_a_few_rows_at_a_time() {
        let mut rows = CachedRows::default();
        for position in 10..100 {
            let row = [position as f32; 2];
            rows.extend(position, 2, [&row, &row]);
            rows.forget(4);
            // The next token sees itself and three others.
            assert!(rows.positions().contains(&(position.max(12) - 2)));
            assert!(rows.positions().len() <= 3 + SLACK);
        }
        assert_eq!(rows.positions(), 75..100);
        let [k, v] = rows.head(&(98..100), 1..2);
        assert_eq!((k.row(0), v.row(1)), (&[98.0][..], &[99.0][..]));
    }
}
