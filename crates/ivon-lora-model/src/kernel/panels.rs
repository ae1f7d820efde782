//! Packs pieces of a frozen matrix into panels: what a product reads, `PANEL` columns side by side.

use std::ops::Range;

use super::simd::wide;
use super::transpose::{transpose, turn};
use crate::model::{FrozenMatrix, PANEL};

/// Panels `[⌈outputs / PANEL⌉, depth, PANEL]` of Wᵀ from those of W, `[⌈in / PANEL⌉, rows, PANEL]`.
pub fn turn_panels(
    values: &[f32],
    rows: usize,
    outputs: Range<usize>,
    depth: Range<usize>,
    scratch: &mut [f32],
) {
    let stride = depth.len().next_multiple_of(PANEL) * PANEL;
    // Outputs in the inner loop: they are contiguous.
    for (first, place) in depth.step_by(PANEL).zip((0..).step_by(PANEL * PANEL)) {
        let panel =
            &values[first / PANEL * rows * PANEL..][outputs.start * PANEL..outputs.end * PANEL];
        turn(panel, &mut scratch[place..], stride);
    }
}

/// Panels of Wᵀ: rows `outputs` of an encoded W at its columns `depth`, transposed and padded with
/// zeros.
pub fn widen_turned(
    matrix: &FrozenMatrix,
    outputs: Range<usize>,
    depth: Range<usize>,
    panels: &mut [f32],
    rows: &mut Vec<f32>,
) {
    let len = depth.len();
    let stride = len.next_multiple_of(PANEL) * PANEL;
    rows.resize(PANEL * len, 0.0);
    for (panel, first) in panels
        .chunks_exact_mut(stride)
        .zip(outputs.clone().step_by(PANEL))
    {
        let count = PANEL.min(outputs.end - first);
        if count < PANEL {
            panel.fill(0.0);
        }
        for (index, row) in rows.chunks_exact_mut(len).take(count).enumerate() {
            matrix.part(first + index, depth.clone(), row);
        }
        transpose(rows, len, [count, len], panel, PANEL);
    }
}

/// Panels of W: rows `depth` of an encoded W at its columns `inputs`, padded with zeros.
pub fn widen(
    matrix: &FrozenMatrix,
    depth: Range<usize>,
    inputs: Range<usize>,
    panels: &mut [f32],
    row: &mut Vec<f32>,
) {
    let stride = depth.len().next_multiple_of(PANEL) * PANEL;
    row.resize(inputs.len().next_multiple_of(PANEL), 0.0);
    row[inputs.len()..].fill(0.0);
    for (index, at) in depth.enumerate() {
        matrix.part(at, inputs.clone(), &mut row[..inputs.len()]);
        wide(
            #[inline(always)]
            || {
                for (from, place) in row
                    .as_chunks::<PANEL>()
                    .0
                    .iter()
                    .zip((index * PANEL..).step_by(stride))
                {
                    panels[place..place + PANEL].copy_from_slice(from);
                }
            },
        );
    }
}
