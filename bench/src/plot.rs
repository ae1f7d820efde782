//! Series of points → panels of an SVG figure, two per row. Every axis starts at zero, so that
//! heights can be compared.

use std::fmt::Write;

/// The x axis of a panel.
#[derive(Clone, Debug)]
pub enum Axis {
    /// Categories: a name for each point; the points are at 0, 1, 2, …
    Names(Vec<String>),
    /// Numbers, with a title.
    Numbers(String),
}

/// One series.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    axis: Axis,
    unit: String,
    points: Vec<(f64, f64)>,
}

impl Panel {
    /// A panel; points that are negative or not finite are left out.
    pub fn new(title: &str, axis: Axis, unit: &str, points: Vec<(f64, f64)>) -> Self {
        let shown = points
            .into_iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite() && *x >= 0.0 && *y >= 0.0)
            .collect();
        Self {
            title: title.into(),
            axis,
            unit: unit.into(),
            points: shown,
        }
    }
}

/// Dimensions of a panel and its frame, in pixels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

/// The figure as SVG.
pub fn figure(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, rows as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = ((index % 2) as f64 * WIDTH, (index / 2) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x},{y})\">");
        draw(panel, &mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where the numbers of a panel's axes are, in pixels.
struct Scales {
    /// The tick distance and the end of the x axis.
    x: (f64, f64),
    /// The tick distance and the end of the y axis.
    y: (f64, f64),
    /// Names are centred in their share of the axis.
    shift: f64,
}

impl Scales {
    fn of(panel: &Panel) -> Self {
        let largest = |of: fn(&(f64, f64)) -> f64| panel.points.iter().map(of).fold(0.0, f64::max);
        let (x, shift) = match &panel.axis {
            Axis::Names(names) => ((1.0, names.len() as f64), 0.5),
            Axis::Numbers(_) => (scale(largest(|point| point.0)), 0.0),
        };
        let y = scale(largest(|point| point.1));
        Self { x, y, shift }
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + (x + self.shift) / self.x.1 * (WIDTH - LEFT - RIGHT)
    }

    fn up(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - y / self.y.1 * (HEIGHT - TOP - BOTTOM)
    }
}

fn draw(panel: &Panel, svg: &mut String) {
    let scales = Scales::of(panel);
    let title = format!("{}, {}", panel.title, panel.unit);
    text(svg, (WIDTH / 2.0, 18.0), "middle", &title);
    draw_grid(&scales, svg);
    draw_x_axis(&panel.axis, &scales, svg);
    draw_points(panel, &scales, svg);
}

fn draw_grid(scales: &Scales, svg: &mut String) {
    for tick in ticks(scales.y.0, scales.y.1) {
        let y = scales.up(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
        text(svg, (LEFT - 6.0, y + 4.0), "end", &plain(tick));
    }
}

fn draw_x_axis(axis: &Axis, scales: &Scales, svg: &mut String) {
    let bottom = HEIGHT - BOTTOM;
    match axis {
        Axis::Names(names) => {
            for (at, name) in names.iter().enumerate() {
                let x = scales.across(at as f64);
                text(svg, (x, bottom + 18.0), "middle", name);
            }
        }
        Axis::Numbers(title) => {
            for tick in ticks(scales.x.0, scales.x.1) {
                let x = scales.across(tick);
                text(svg, (x, bottom + 16.0), "middle", &plain(tick));
            }
            text(svg, (WIDTH / 2.0, HEIGHT - 10.0), "middle", title);
        }
    }
}

fn draw_points(panel: &Panel, scales: &Scales, svg: &mut String) {
    let places = panel.points.iter();
    let places: Vec<(f64, f64)> = places
        .map(|(x, y)| (scales.across(*x), scales.up(*y)))
        .collect();
    if matches!(panel.axis, Axis::Numbers(_)) {
        let line: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#2a6f97\" stroke-width=\"2\"/>",
            line.join(" ")
        );
    }
    for (x, y) in places {
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#2a6f97\"/>"
        );
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{escaped}</text>"
    );
}

/// A tick distance of 1, 2 or 5 times a power of ten that gives three to seven intervals, and the
/// end of the last interval.
fn scale(largest: f64) -> (f64, f64) {
    if largest <= 0.0 {
        return (1.0, 1.0);
    }
    let power = 10f64.powf((largest / 3.0).log10().floor());
    let step = [5.0, 2.0, 1.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| largest / step >= 3.0)
        .unwrap_or(power);
    (step, (largest / step).ceil() * step)
}

fn ticks(step: f64, end: f64) -> impl Iterator<Item = f64> {
    (0..=(end / step).round() as usize).map(move |index| index as f64 * step)
}

/// The number without trailing zeros.
fn plain(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_three_to_eight_round_parts_that_hold_the_largest_value() {
        for largest in [0.0004, 0.03, 1.0, 2.99, 3.0, 7.1, 99.0, 1000.0, 48_613.0] {
            let (step, end) = scale(largest);
            let parts = (end / step).round();
            assert!(
                end >= largest * (1.0 - 1e-12) && (3.0..=8.0).contains(&parts),
                "{largest}: {step} {end}"
            );
            let mantissa = step / 10f64.powf(step.log10().floor());
            assert!(
                [1.0, 2.0, 5.0, 10.0]
                    .iter()
                    .any(|round| (mantissa - round).abs() < 1e-9),
                "{step}"
            );
        }
    }

    #[test]
    fn every_point_is_drawn_and_the_figure_is_well_formed() {
        let names = Axis::Names(vec!["1 × 64".into(), "a < b".into()]);
        let panels = [
            Panel::new(
                "time",
                names,
                "ms",
                vec![(0.0, 1.0), (1.0, 2.0), (1.0, f64::NAN)],
            ),
            Panel::new(
                "memory",
                Axis::Numbers("steps".into()),
                "MB",
                vec![(0.0, 10.0), (100.0, 12.0), (200.0, 11.0)],
            ),
        ];
        let svg = figure(&panels);
        assert_eq!(svg.matches("<circle").count(), 5);
        assert_eq!(
            (
                svg.matches("<polyline").count(),
                svg.matches("<g ").count(),
                svg.matches("</g>").count()
            ),
            (1, 2, 2)
        );
        assert!(svg.contains("a &lt; b") && svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
