//! Two axes → the frame in which lines, bars and points are drawn.

use super::axis::Axis;
use super::letters::width_of;
use super::svg::{Anchor, Drawing};

/// An area of a drawing with an axis below it and one at its left.
#[derive(Debug)]
pub struct Frame<'a> {
    pub x: &'a Axis,
    pub y: &'a Axis,
    /// Left, top, right and bottom in the drawing's units.
    pub area: [f64; 4],
}

impl Frame<'_> {
    /// The place of a pair of values in the drawing; NaN if one is not finite.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        [self.across(x), self.up(y)]
    }

    /// The place of a value on the x axis.
    pub fn across(&self, x: f64) -> f64 {
        let [left, _, right, _] = self.area;
        left + self.x.place(x) * (right - left)
    }

    /// The place of a value on the y axis; values beyond an end are drawn at the end.
    pub fn up(&self, y: f64) -> f64 {
        let [_, top, _, bottom] = self.area;
        let place = self.y.place(y);
        // `clamp` keeps NaN, which leaves a gap in a line.
        bottom - place.clamp(0.0, 1.0) * (bottom - top)
    }

    /// Draws both axes with grid, ticks and names.
    pub fn draw(&self, drawing: &mut Drawing) {
        self.draw_y(drawing);
        self.draw_x(drawing);
    }

    /// Draws the y axis with its grid, its ticks, and its name above its end.
    pub fn draw_y(&self, drawing: &mut Drawing) {
        let [left, top, right, _] = self.area;
        for (value, words) in self.y.ticks() {
            let y = self.up(*value);
            drawing.line("grid", [left, y], [right, y]);
            drawing.text("small muted", [left - 7.0, y + 4.0], Anchor::End, words);
        }
        drawing.text(
            "small muted",
            [0.0, top - 12.0],
            Anchor::Start,
            self.y.label(),
        );
    }

    /// Draws the x axis with its ticks and name.
    pub fn draw_x(&self, drawing: &mut Drawing) {
        let [left, _, right, bottom] = self.area;
        drawing.line("axis", [left, bottom], [right, bottom]);
        let mut free_from = f64::NEG_INFINITY;
        for (value, words) in self.x.ticks() {
            let x = self.across(*value);
            drawing.line("axis", [x, bottom], [x, bottom + 4.0]);
            let half = width_of("small muted", words) / 2.0;
            // Labels that would touch their neighbour are left out.
            if x - half > free_from {
                drawing.text("small muted", [x, bottom + 17.0], Anchor::Middle, words);
                free_from = x + half + 4.0;
            }
        }
        drawing.text(
            "small muted",
            [right, bottom + 33.0],
            Anchor::End,
            self.x.label(),
        );
    }
}
