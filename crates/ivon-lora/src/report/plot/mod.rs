//! Numbers → pictures: a small SVG writer, and one file for each kind of picture.
//!
//! Every function here is pure: the same numbers give the same text. Colours are classes, so that a page or a file can show one picture
//! in a light and in a dark theme; nothing in a picture moves, loads or runs.

mod axis;
mod frame;
mod histogram;
mod lines;
mod ranges;
mod reliability;
mod svg;

pub use axis::Axis;
pub use histogram::confidence_histogram;
pub use lines::{LineChart, Mark, Series, summarised};
pub use ranges::{RangeRow, range_chart};
pub use reliability::reliability_diagram;
pub(super) use svg::STYLE;
pub use svg::{Picture, escape};

/// Width of every picture, in its own units; a page scales it down where a screen is narrow, so text stays readable on a phone.
const WIDTH: f64 = 440.0;
