//! Low, middle and high values → a chart with a row for each: a bar from low to high, and a dot at the
//! middle.

use super::WIDTH;
use super::axis::Axis;
use super::frame::Frame;
use super::letters::{fitted, width_of};
use super::svg::{Anchor, Drawing, Picture};

/// A row of the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeRow {
    /// Its name, at the left.
    pub name: String,
    /// Its bars from top to bottom: the number of a colour, and low, middle, high.
    pub ranges: Vec<(usize, [f64; 3])>,
}

const BAR: f64 = 9.0;
/// The room for names.
const WIDEST: f64 = 236.0;

/// The chart of these rows; `legend` names the colours.
pub fn range_chart(title: &str, x: &Axis, rows: &[RangeRow], legend: &[(usize, &str)]) -> Picture {
    let heights: Vec<f64> = rows
        .iter()
        .map(|row| BAR * row.ranges.len().max(1) as f64 + 5.0)
        .collect();
    let top = if legend.is_empty() { 30.0 } else { 48.0 };
    let bottom = top + heights.iter().sum::<f64>();
    let mut drawing = Drawing::new(title, WIDTH, bottom + 42.0);
    drawing.text("title", [0.0, 14.0], Anchor::Start, title);
    let widths = rows.iter().map(|row| width_of("small", &row.name));
    let left = widths.fold(20.0, f64::max).min(WIDEST) + 9.0;
    let frame = Frame {
        x,
        y: &Axis::from_zero("", [1.0]),
        area: [left, top, WIDTH - 22.0, bottom],
    };
    for (value, _) in x.ticks() {
        let x = frame.across(*value);
        drawing.line("grid", [x, top], [x, bottom]);
    }
    frame.draw_x(&mut drawing);
    draw_legend(&mut drawing, legend, left);
    let mut y = top;
    for (row, height) in rows.iter().zip(heights) {
        draw_row(&mut drawing, &frame, row, [y, height]);
        y += height;
    }
    drawing.finish()
}

/// The legend, above the rows if it fits there, or else as far to the left as necessary.
fn draw_legend(drawing: &mut Drawing, legend: &[(usize, &str)], left: f64) {
    let width = |words: &str| width_of("small", words) + 28.0;
    let wide: f64 = legend.iter().map(|(_, words)| width(words)).sum();
    let mut at = (WIDTH - wide).clamp(0.0, left);
    for (tone, words) in legend {
        if at + 28.0 > WIDTH {
            break;
        }
        drawing.tone(*tone);
        drawing.circle("dot", [at + 4.0, 32.0], 4.5);
        drawing.end();
        drawing.text("small", [at + 12.0, 36.0], Anchor::Start, words);
        at += width(words);
    }
}

/// A name and its bars.
fn draw_row(drawing: &mut Drawing, frame: &Frame<'_>, row: &RangeRow, [y, height]: [f64; 2]) {
    let [left, _, right, _] = frame.area;
    drawing.text(
        "small",
        [left - 8.0, y + height / 2.0 + 4.0],
        Anchor::End,
        &fitted("small", &row.name, WIDEST),
    );
    for (index, (tone, range)) in row.ranges.iter().enumerate() {
        let y = y + 2.5 + BAR * (index as f64 + 0.5);
        let [from, at, to] = range.map(|value| frame.across(value).clamp(left, right));
        drawing.tone(*tone);
        drawing.rectangle("faint", [from, y - 2.5], [to, y + 2.5]);
        drawing.circle("dot", [at, y], 4.0);
        drawing.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_name_and_a_bar_for_each_range() {
        let row = |name: &str| RangeRow {
            name: name.into(),
            ranges: vec![(0, [0.1, 0.2, 0.3]), (1, [0.2, 0.3, 0.4])],
        };
        let axis = Axis::from_zero("seconds", [0.4]);
        let drawn = range_chart(
            "steps",
            &axis,
            &[row("a & b"), row("c")],
            &[(0, "A"), (1, "B")],
        )
        .inline();
        assert_eq!(drawn.matches("class=\"faint\"").count(), 4);
        assert!(drawn.contains("a &amp; b") && drawn.contains("seconds"));
    }
}
