//! Confidences of right and wrong answers → a stacked histogram.

use super::WIDTH;
use super::axis::Axis;
use super::frame::Frame;
use super::letters::fitted;
use super::svg::{Anchor, Drawing, Picture};

/// The number of bars, each a twentieth wide.
const BARS: usize = 20;
const HEIGHT: f64 = 270.0;

/// The histogram of one set of predictions, whose `rows` are the confidence of each answer and whether it
/// is right. Wrong answers are at the bottom, in their own colour; dashed lines mark mean confidence and
/// accuracy.
pub fn confidence_histogram(title: &str, tone: usize, rows: &[(f64, bool)]) -> Picture {
    let mut drawing = Drawing::new(title, WIDTH, HEIGHT);
    let title = fitted("title", title, WIDTH - 120.0);
    drawing.text("title", [0.0, 14.0], Anchor::Start, &title);
    let counts = bars(rows);
    let mut lower_half = counts[..BARS / 2].iter();
    let lowest = match lower_half.all(|[wrong, right]| wrong + right == 0) {
        true => 0.5,
        false => 0.0,
    };
    let x = Axis::percent("confidence of the answer", lowest, 1.0);
    let heights = counts.iter().map(|[wrong, right]| (wrong + right) as f64);
    let y = Axis::from_zero("examples", heights);
    let frame = Frame {
        x: &x,
        y: &y,
        area: [54.0, 52.0, WIDTH - 22.0, HEIGHT - 40.0],
    };
    frame.draw(&mut drawing);
    for (bar, counts) in counts.into_iter().enumerate() {
        draw_bar(&frame, &mut drawing, tone, bar, counts);
    }
    legend(&mut drawing, tone);
    let count = rows.len().max(1) as f64;
    let confidence = rows.iter().map(|row| row.0).sum::<f64>() / count;
    let accuracy = rows.iter().filter(|row| row.1).count() as f64 / count;
    marks(&frame, &mut drawing, confidence, accuracy);
    drawing.finish()
}

/// A bar with its wrong and its right answers.
fn draw_bar(
    frame: &Frame<'_>,
    drawing: &mut Drawing,
    tone: usize,
    bar: usize,
    [wrong, right]: [usize; 2],
) {
    if wrong + right == 0 {
        return;
    }
    let (low, high) = (bar as f64 / BARS as f64, (bar + 1) as f64 / BARS as f64);
    let (left, edge) = (frame.across(low) + 1.0, frame.across(high) - 1.0);
    let (middle, top) = (frame.up(wrong as f64), frame.up((wrong + right) as f64));
    drawing.tone(tone);
    drawing.rectangle("fill", [left, middle], [edge, top]);
    drawing.end();
    drawing.tone(WRONG);
    drawing.rectangle("fill", [left, frame.area[3]], [edge, middle]);
    drawing.end();
}

/// The colour of wrong answers.
const WRONG: usize = 5;

fn legend(drawing: &mut Drawing, tone: usize) {
    for (x, tone, words) in [
        (WIDTH - 108.0, tone, "right"),
        (WIDTH - 54.0, WRONG, "wrong"),
    ] {
        drawing.tone(tone);
        drawing.rectangle("fill", [x, 5.0], [x + 10.0, 15.0]);
        drawing.end();
        drawing.text("small", [x + 14.0, 14.0], Anchor::Start, words);
    }
}

/// Mean confidence and accuracy, with their labels at the side that has room.
fn marks(frame: &Frame<'_>, drawing: &mut Drawing, confidence: f64, accuracy: f64) {
    let [left, top, right, bottom] = frame.area;
    let words = [
        (confidence, format!("sure {:.1} %", 100.0 * confidence)),
        (accuracy, format!("right {:.1} %", 100.0 * accuracy)),
    ];
    let places = words.map(|(value, words)| (frame.across(value), words));
    let inside = || places.iter().filter(|(x, _)| (left..=right).contains(x));
    inside().for_each(|(x, _)| drawing.line("guide", [*x, top - 6.0], [*x, bottom]));
    for (row, (x, words)) in inside().enumerate() {
        let (anchor, aside) = if *x > (left + right) / 2.0 {
            (Anchor::End, -5.0)
        } else {
            (Anchor::Start, 5.0)
        };
        drawing.text(
            "small muted halo",
            [x + aside, top + 6.0 + 15.0 * row as f64],
            anchor,
            words,
        );
    }
}

/// The numbers of wrong and right answers in each bar, `(low, high]`.
fn bars(rows: &[(f64, bool)]) -> [[usize; 2]; BARS] {
    let mut counts = [[0; 2]; BARS];
    for &(confidence, is_right) in rows {
        let bar = ((confidence * BARS as f64).ceil() as usize).clamp(1, BARS) - 1;
        counts[bar][usize::from(is_right)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_lies_in_one_bar() {
        let rows = [
            (0.5, true),
            (0.51, false),
            (0.55, true),
            (1.0, true),
            (0.999, false),
            (0.0, true),
        ];
        let counts = bars(&rows);
        assert_eq!(
            (counts[9], counts[10], counts[19], counts[0]),
            ([0, 1], [1, 1], [1, 1], [0, 1])
        );
        assert_eq!(counts.iter().flatten().sum::<usize>(), rows.len());
    }

    #[test]
    fn the_picture_says_how_sure_and_how_right() {
        let drawn = confidence_histogram("mean", 0, &[(0.9, true), (0.7, false)]).inline();
        assert!(
            drawn.contains("sure 80.0 %") && drawn.contains("right 50.0 %"),
            "{drawn}"
        );
        assert!(
            confidence_histogram("none", 0, &[])
                .inline()
                .contains("confidence of the answer")
        );
    }
}
