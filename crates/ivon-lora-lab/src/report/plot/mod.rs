//! Numbers → pictures: a small SVG writer, and one file for each kind of picture.
//!
//! Every function here is pure: the same numbers give the same text. Colours are classes, so that a
//! picture can be shown in a light and in a dark theme. Nothing in a picture moves, loads or runs.

mod letters;
mod svg;
mod axis;
mod frame;
mod histogram;
mod lines;
mod ranges;
mod reliability;

pub use axis::Axis;
pub use histogram::confidence_histogram;
pub use lines::{LineChart, Mark, Series, summarised};
pub use ranges::{RangeRow, range_chart};
pub use reliability::reliability_diagram;
pub(super) use svg::STYLE;
pub use svg::{Picture, escape};

/// The width of every picture, in its own units, so small that text stays readable on a phone, where the
/// page scales it down.
const WIDTH: f64 = 440.0;

#[cfg(test)]
mod tests {
    use super::*;
    use ivon_lora::metrics::Bin;

    /// Every kind of picture with a name in each place that takes one.
    fn pictures(name: &str) -> Vec<Picture> {
        let series = |points: Vec<[f64; 2]>| Series {
            name: name.into(),
            points,
            mark: Mark::Dots,
            ..Series::default()
        };
        let chart = |series: Vec<Series>, x: Axis, y: Axis| LineChart {
            title: name.into(),
            x,
            y,
            series,
            guides: vec![(0.1, name.into()), (0.9, name.into())],
            height: 252.0,
        };
        let bin = |low: f64| Bin {
            low,
            high: low + 0.1,
            count: 12_345_678,
            accuracy: 0.5,
            confidence: low + 0.05,
        };
        let row = |range| RangeRow {
            name: name.into(),
            ranges: vec![(0, range)],
        };
        vec![
            chart(
                vec![
                    series(vec![[0.0, 0.0], [1.0, 1.0]]),
                    series(vec![[0.2, 1e-7]]),
                ],
                Axis::percent(name, 0.0, 1.0),
                Axis::logarithmic(name, [1e-7, 1e5]),
            )
            .draw(),
            chart(
                vec![],
                Axis::from_zero(name, [123_456.0]),
                Axis::around(name, [-1e30, 1e30]),
            )
            .draw(),
            reliability_diagram(name, 0, &[bin(0.0), bin(0.9)]),
            confidence_histogram(name, 0, &[(1.0, true), (0.0, false)]),
            range_chart(
                name,
                &Axis::from_zero(name, [0.4]),
                &[row([0.0, 0.2, 0.4])],
                &[(0, name), (1, name)],
            ),
        ]
    }

    #[test]
    fn no_text_leaves_its_picture() {
        let long =
            "runs/a-comparison-of-everything/sst2-laplace-kronecker-WWW-mmm-21 & more <of it>";
        for name in [
            "",
            "a",
            "AdamW",
            "IVON, 10 samples, T = 1.24",
            "Ünïcödé 日本語の名前 τ = 0.25",
            long,
            &"W".repeat(500),
        ] {
            for picture in pictures(name) {
                let ([width, height], texts) = picture.texts();
                assert!(!texts.is_empty());
                for (words, [left, top, right, bottom]) in texts {
                    let is_inside =
                        left >= -0.1 && right <= width + 0.1 && top >= -0.1 && bottom <= height;
                    assert!(
                        is_inside,
                        "`{words}` is at {left}, {top}, {right}, {bottom} of {width} × {height}"
                    );
                }
            }
        }
    }

    #[test]
    fn short_names_are_shown_whole() {
        for picture in pictures("AdamW")
            .into_iter()
            .chain(pictures("IVON, 10 samples"))
        {
            let (_, texts) = picture.texts();
            assert!(
                texts.iter().all(|(words, _)| !words.contains('…')),
                "{texts:?}"
            );
        }
    }
}
