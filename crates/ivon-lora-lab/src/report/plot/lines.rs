//! Series of points → a line chart with the names of series at the ends of their lines.

use super::WIDTH;
use super::axis::Axis;
use super::frame::Frame;
use super::letters::width_of;
use super::svg::{Anchor, Drawing, Picture};
use ivon_lora::metrics::quantile;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    #[default]
    Line,
    /// A dashed line, for comparison.
    Dashed,
    /// A line with a dot at each point.
    Dots,
}

/// A series of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name at the end of the line; empty for none.
    pub name: String,
    /// The number of its colour.
    pub tone: usize,
    /// `[x, y]`, from left to right.
    pub points: Vec<[f64; 2]>,
    /// Low and high of y at the same x, drawn as a band; empty for none.
    pub band: Vec<[f64; 2]>,
    /// How it is drawn.
    pub mark: Mark,
}

/// The class of the names at the ends of lines, their distance from the lines, and the most room that is
/// kept for them.
const NAME: &str = "small toned halo";
const ASIDE: f64 = 8.0;
const MOST_FOR_NAMES: f64 = 180.0;

/// A chart of lines over one pair of axes.
#[derive(Clone, Debug)]
pub struct LineChart {
    /// Its title.
    pub title: String,
    /// The axis below.
    pub x: Axis,
    /// The axis at the left.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Values of x to be marked, with their labels.
    pub guides: Vec<(f64, String)>,
    /// The height of the picture, in its own units.
    pub height: f64,
}

impl LineChart {
    /// Draws it.
    pub fn draw(&self) -> Picture {
        let mut drawing = Drawing::new(&self.title, WIDTH, self.height);
        drawing.text("title", [0.0, 14.0], Anchor::Start, &self.title);
        let names = self
            .series
            .iter()
            .map(|series| width_of(NAME, &series.name))
            .fold(0.0, f64::max);
        let right = WIDTH
            - if names > 0.0 {
                (names + ASIDE + 1.0).clamp(22.0, MOST_FOR_NAMES)
            } else {
                22.0
            };
        let frame = Frame {
            x: &self.x,
            y: &self.y,
            area: [54.0, 52.0, right, self.height - 40.0],
        };
        frame.draw(&mut drawing);
        self.draw_guides(&frame, &mut drawing);
        for series in &self.series {
            drawing.tone(series.tone);
            series.draw(&frame, &mut drawing);
            drawing.end();
        }
        self.names(&frame, &mut drawing);
        drawing.finish()
    }

    /// The marked values of x, with their labels at the side that has room.
    fn draw_guides(&self, frame: &Frame<'_>, drawing: &mut Drawing) {
        let [left, top, right, bottom] = frame.area;
        for (value, words) in &self.guides {
            let x = frame.across(*value);
            drawing.line("guide", [x, top], [x, bottom]);
            let (anchor, aside) = if x > (left + right) / 2.0 {
                (Anchor::End, -5.0)
            } else {
                (Anchor::Start, 5.0)
            };
            let place = [x + aside, top + 10.0];
            drawing.text("small muted halo", place, anchor, words);
        }
    }

    /// The names at the right, moved apart if lines end close to each other.
    fn names(&self, frame: &Frame<'_>, drawing: &mut Drawing) {
        let end = |series: &Series| {
            series
                .points
                .iter()
                .rev()
                .find(|point| point[1].is_finite())
                .map(|point| frame.at(point[0], point[1]))
        };
        let named = self.series.iter().filter(|series| !series.name.is_empty());
        let mut ends: Vec<(&Series, [f64; 2])> = named
            .filter_map(|series| end(series).map(|end| (series, end)))
            .collect();
        ends.sort_by(|a, b| a.1[1].total_cmp(&b.1[1]));
        let wanted: Vec<f64> = ends.iter().map(|(_, end)| end[1]).collect();
        for ((series, end), y) in ends.iter().zip(apart(
            &wanted,
            14.0,
            frame.area[1] - 4.0,
            frame.area[3] + 2.0,
        )) {
            drawing.tone(series.tone);
            drawing.text(NAME, [end[0] + ASIDE, y + 4.0], Anchor::Start, &series.name);
            drawing.end();
        }
    }
}

impl Series {
    fn draw(&self, frame: &Frame<'_>, drawing: &mut Drawing) {
        let places: Vec<[f64; 2]> = self.points.iter().map(|[x, y]| frame.at(*x, *y)).collect();
        let rows = self
            .points
            .iter()
            .zip(&self.band)
            .filter(|(_, band)| band.iter().all(|value| value.is_finite()));
        let upper = rows
            .clone()
            .map(|(point, band)| frame.at(point[0], band[1]));
        let lower = rows.map(|(point, band)| frame.at(point[0], band[0])).rev();
        let around: Vec<[f64; 2]> = upper.chain(lower).collect();
        if !around.is_empty() {
            drawing.path("faint", &around);
        }
        drawing.path(
            if self.mark == Mark::Dashed {
                "stroke dashed"
            } else {
                "stroke"
            },
            &places,
        );
        let is_alone = places.len() == 1;
        if self.mark == Mark::Dots || is_alone {
            for place in places
                .iter()
                .filter(|place| place.iter().all(|value| value.is_finite()))
            {
                drawing.circle("dot", *place, if is_alone { 4.5 } else { 3.5 });
            }
        }
    }
}

/// Sorted places moved apart to a distance of at least `gap`, and kept between `low` and `high` if there
/// is room.
fn apart(places: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut found: Vec<f64> = Vec::with_capacity(places.len());
    for &place in places {
        let least = found.last().map_or(low, |before| before + gap);
        found.push(place.max(least));
    }
    let mut most = high;
    for place in found.iter_mut().rev() {
        *place = place.min(most);
        most = *place - gap;
    }
    found
}

/// A long series in at most `most` points: the means of groups of neighbours, and their 10 % and 90 %
/// quantiles as a band. Values that are not finite are left out.
pub fn summarised(points: &[[f64; 2]], most: usize) -> (Vec<[f64; 2]>, Vec<[f64; 2]>) {
    let finite: Vec<[f64; 2]> = points
        .iter()
        .copied()
        .filter(|point| point[1].is_finite())
        .collect();
    let size = finite.len().div_ceil(most.max(1)).max(1);
    finite.chunks(size).map(summary).unzip()
}

/// The mean of some points, and the 10 % and 90 % quantiles of y.
fn summary(points: &[[f64; 2]]) -> ([f64; 2], [f64; 2]) {
    let mean =
        |axis: usize| points.iter().map(|point| point[axis]).sum::<f64>() / points.len() as f64;
    let mut values: Vec<f64> = points.iter().map(|point| point[1]).collect();
    values.sort_by(f64::total_cmp);
    let band = [0.1, 0.9].map(|share| quantile(&values, share));
    ([mean(0), mean(1)], band)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_apart_and_stay_inside() {
        assert_eq!(
            apart(&[10.0, 12.0, 40.0], 14.0, 0.0, 100.0),
            [10.0, 24.0, 40.0]
        );
        assert_eq!(apart(&[95.0, 99.0], 14.0, 0.0, 100.0), [86.0, 100.0]);
        assert_eq!(apart(&[-5.0], 14.0, 0.0, 100.0), [0.0]);
    }

    #[test]
    fn a_long_series_becomes_means_with_a_band() {
        let points: Vec<[f64; 2]> = (0..10)
            .map(|step| [f64::from(step), f64::from(step % 2)])
            .collect();
        let (means, band) = summarised(&points, 5);
        assert_eq!(
            means,
            [[0.5, 0.5], [2.5, 0.5], [4.5, 0.5], [6.5, 0.5], [8.5, 0.5]]
        );
        assert!((band[0][0] - 0.1).abs() < 1e-12 && (band[0][1] - 0.9).abs() < 1e-12);
        assert_eq!(summarised(&points[..2], 5).0, points[..2]);
        assert_eq!(summarised(&[[1.0, f64::NAN]], 5), (vec![], vec![]));
    }

    #[test]
    fn a_chart_has_its_lines_where_its_axes_say() {
        let series = Series {
            name: "one".into(),
            tone: 1,
            points: vec![[0.0, 0.0], [1.0, 1.0]],
            ..Series::default()
        };
        let chart = LineChart {
            title: "t".into(),
            x: Axis::percent("share", 0.0, 1.0),
            y: Axis::percent("accuracy", 0.0, 1.0),
            series: vec![series],
            guides: vec![(0.5, "half".into())],
            height: 252.0,
        };
        let drawn = chart.draw().inline();
        // "one" is 612 + 634 + 615 thousandths of 11, bold (a fifth more): 24.6. The area goes from
        // 54 to 440 − 33.6 = 406.4 and from 52 to 212.
        assert!(
            drawn.contains(
                "<g class=\"tone-1\"><path class=\"stroke\" d=\"M54 212L406.4 52\"/></g>"
            ),
            "{drawn}"
        );
        assert!(
            drawn.contains("x1=\"230.2\"")
                && drawn.contains(">one</text>")
                && drawn.contains(">half</text>")
        );
    }
}
