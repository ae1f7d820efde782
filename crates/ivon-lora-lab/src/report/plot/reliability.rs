//! Reliability bins → accuracy against confidence, with the interval and the number of examples of each
//! bin.

use super::WIDTH;
use super::axis::Axis;
use super::frame::Frame;
use super::letters::width_of;
use super::svg::{Anchor, Drawing, Picture};
use ivon_lora::metrics::Bin;

/// z of a 95 % interval.
const Z: f64 = 1.96;
const HEIGHT: f64 = 408.0;

/// The diagram of one set of predictions. Above: a point for each bin at its mean confidence and its
/// accuracy, with the 95 % interval of that accuracy (Wilson), and a bar to the diagonal. Below: the
/// number of examples in each bin.
pub fn reliability_diagram(title: &str, tone: usize, bins: &[Bin]) -> Picture {
    let mut drawing = Drawing::new(title, WIDTH, HEIGHT);
    drawing.text("title", [0.0, 14.0], Anchor::Start, title);
    let lowest = bins
        .first()
        .map_or(0.0, |bin| if bin.low >= 0.5 - 1e-9 { 0.5 } else { 0.0 });
    let (x, y) = (
        Axis::percent("confidence of the answer", lowest, 1.0),
        Axis::percent("answers that are right", 0.0, 1.0),
    );
    let frame = Frame {
        x: &x,
        y: &y,
        area: [54.0, 52.0, WIDTH - 22.0, 290.0],
    };
    frame.draw_y(&mut drawing);
    drawing.line("guide", frame.at(lowest, lowest), frame.at(1.0, 1.0));
    drawing.tone(tone);
    for bin in bins {
        draw_bin(&frame, &mut drawing, bin);
    }
    drawing.end();
    let on_diagonal = lowest + 0.8 * (1.0 - lowest);
    drawing.text(
        "small muted halo",
        [frame.across(on_diagonal), frame.up(on_diagonal) - 12.0],
        Anchor::End,
        "as sure as right",
    );
    counts(&mut drawing, &x, tone, bins);
    drawing.finish()
}

/// The point of a bin, with its interval and a bar to the diagonal.
fn draw_bin(frame: &Frame<'_>, drawing: &mut Drawing, bin: &Bin) {
    let [across, up] = frame.at(bin.confidence, bin.accuracy);
    let half = 0.36 * (frame.across(bin.high) - frame.across(bin.low));
    let [left, right] =
        [across - half, across + half].map(|x| x.clamp(frame.area[0], frame.area[2]));
    drawing.rectangle("faint", [left, frame.up(bin.confidence)], [right, up]);
    let [low, high] = wilson_interval(bin.accuracy, bin.count);
    drawing.line("thin", [across, frame.up(low)], [across, frame.up(high)]);
    drawing.circle("dot", [across, up], 4.5);
}

/// The bars below, with the number of examples in each bin.
fn counts(drawing: &mut Drawing, x: &Axis, tone: usize, bins: &[Bin]) {
    let largest = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1) as f64;
    let y = Axis::from_zero("examples", [largest]);
    let frame = Frame {
        x,
        y: &y,
        area: [54.0, 318.0, WIDTH - 22.0, HEIGHT - 40.0],
    };
    drawing.text(
        "small muted",
        [0.0, frame.area[1] - 4.0],
        Anchor::Start,
        "examples",
    );
    let height = frame.area[3] - frame.area[1];
    for bin in bins {
        let (left, right) = (frame.across(bin.low) + 1.0, frame.across(bin.high) - 1.0);
        let top = frame.area[3] - height * bin.count as f64 / largest;
        drawing.tone(tone);
        drawing.rectangle("faint", [left, frame.area[3]], [right, top]);
        drawing.end();
        let narrow = right - left < width_of("small muted", &bin.count.to_string());
        if !narrow {
            drawing.text(
                "small muted",
                [(left + right) / 2.0, top - 3.0],
                Anchor::Middle,
                &bin.count.to_string(),
            );
        }
    }
    frame.draw_x(drawing);
}

/// The 95 % interval of a share of `count` (Wilson 1927):
/// `(p + z²/2n ± z√(p(1−p)/n + z²/4n²)) / (1 + z²/n)`.
pub fn wilson_interval(share: f64, count: usize) -> [f64; 2] {
    let n = count.max(1) as f64;
    let squared = Z * Z / n;
    let half = Z
        * (share * (1.0 - share) / n + squared / (4.0 * n))
            .max(0.0)
            .sqrt();
    [-1.0, 1.0]
        .map(|side| ((share + squared / 2.0 + side * half) / (1.0 + squared)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // 8 of 10: 0.4902 to 0.9433 (Newcombe 1998, method 3, worked by hand from the formula).
        let [low, high] = wilson_interval(0.8, 10);
        assert!(
            (low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4,
            "{low} {high}"
        );
        assert_eq!(wilson_interval(0.0, 5)[0], 0.0);
        assert_eq!(wilson_interval(1.0, 5)[1], 1.0);
    }

    #[test]
    fn each_bin_has_its_point_and_its_count() {
        let bins = [
            Bin {
                low: 0.5,
                high: 0.6,
                count: 36,
                accuracy: 0.5,
                confidence: 0.55,
            },
            Bin {
                low: 0.9,
                high: 1.0,
                count: 211,
                accuracy: 0.9,
                confidence: 0.95,
            },
        ];
        let drawn = reliability_diagram("at the mean", 0, &bins).inline();
        assert_eq!(drawn.matches("class=\"dot\"").count(), 2);
        assert!(
            drawn.contains(">36</text>") && drawn.contains(">211</text>") && drawn.contains("50 %")
        );
        // No bin below one half: the axis begins there, and 0.55 lies a tenth of the way from 54 to
        // 418.
        assert!(drawn.contains("cx=\"90.4\""), "{drawn}");
        assert!(
            reliability_diagram("empty", 0, &[])
                .inline()
                .contains("as sure as right")
        );
    }
}
