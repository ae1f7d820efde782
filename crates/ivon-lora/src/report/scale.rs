//! Scores against τ, by which the posterior's variance is multiplied, and against the number of draws (the paper's Figure 1).

use serde::{Deserialize, Serialize};

use super::page::Figure;
use super::plot::{Axis, LineChart, Series};
use super::{MainScores, Table};

/// The file that a run's folder keeps it in.
pub const SCALE_FILE: &str = "scale.json";

/// What was found at each τ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleReport {
    /// The split that the curves are of.
    pub split: String,
    /// Its number of examples.
    pub n: usize,
    /// Number of bins of the ECE.
    pub bins: usize,
    /// Names the draws.
    pub seed: u64,
    /// By τ from 0 upwards, and within it by the number of draws.
    pub points: Vec<ScalePoint>,
    /// What was found on the rows that τ is chosen on; none where there are no such rows.
    pub choice: Option<ScaleChoice>,
}

/// The scores at one τ with one number of draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalePoint {
    /// τ; at 0 every draw is the mean.
    pub scale: f64,
    /// The draws 1 … this are averaged.
    pub samples: usize,
    /// The scores.
    #[serde(flatten)]
    pub scores: MainScores,
}

/// The τ that was chosen, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleChoice {
    /// The rows that it was chosen on; never those of the curves.
    pub split: String,
    /// Their number.
    pub n: usize,
    /// As for the curves, with all draws.
    pub points: Vec<ScalePoint>,
    /// The τ of the lowest NLL; 0 where the mean is best.
    pub scale: f64,
}

impl ScaleChoice {
    /// Chooses the τ of the lowest NLL, the smallest of those that tie; none without points.
    pub fn new(split: String, n: usize, points: Vec<ScalePoint>) -> Option<Self> {
        let better = |best: ScalePoint, point: &ScalePoint| if point.scores.nll < best.scores.nll { *point } else { best };
        let scale = points.iter().skip(1).fold(*points.first()?, better).scale;
        Some(Self { split, n, points, scale })
    }
}

impl ScaleReport {
    /// The numbers of draws, from the fewest.
    pub fn samples(&self) -> Vec<usize> {
        let mut found: Vec<usize> = self.points.iter().map(|point| point.samples).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The values of τ, from the smallest.
    fn scales(&self) -> Vec<f64> {
        let mut found: Vec<f64> = self.points.iter().map(|point| point.scale).collect();
        found.sort_by(f64::total_cmp);
        found.dedup();
        found
    }

    /// A table for each score: a row for each τ, a column for each number of draws.
    pub fn tables(&self) -> Vec<(String, Table)> {
        let samples = self.samples();
        SCORES
            .iter()
            .map(|(_, name, _, value)| {
                let head = std::iter::once("τ".to_string()).chain(samples.iter().map(|samples| draws(*samples))).collect();
                let row = |scale: f64| {
                    let cell = |samples: &usize| {
                        let point = self.points.iter().find(|point| point.scale == scale && point.samples == *samples);
                        point.map_or_else(String::new, |point| format!("{:.4}", value(&point.scores)))
                    };
                    std::iter::once(format!("{scale:.2}")).chain(samples.iter().map(cell)).collect()
                };
                (name.to_string(), Table { head, rows: self.scales().into_iter().map(row).collect() })
            })
            .collect()
    }

    /// A picture for each score: a line for each number of draws against τ.
    pub fn figures(&self) -> Vec<Figure> {
        let samples = self.samples();
        let scales = self.scales();
        let end = scales.last().copied().unwrap_or(1.0);
        let guides: Vec<(f64, String)> =
            self.choice.iter().map(|choice| (choice.scale, format!("chosen: {}", number(choice.scale)))).collect();
        SCORES
            .iter()
            .map(|(file, name, is_share, value)| {
                let line = |(index, samples): (usize, &usize)| Series {
                    name: draws(*samples),
                    tone: TONES[index % TONES.len()],
                    points: self
                        .points
                        .iter()
                        .filter(|point| point.samples == *samples)
                        .map(|point| [point.scale, value(&point.scores)])
                        .collect(),
                    ..Series::default()
                };
                let values = self.points.iter().map(|point| value(&point.scores));
                let y = if *is_share { Axis::percent_around(name, values) } else { Axis::around(name, values) };
                let chart = LineChart {
                    title: headline(name, &self.split),
                    x: Axis::between("τ, the factor of the variance", 0.0, end),
                    y,
                    series: samples.iter().enumerate().map(line).collect(),
                    guides: guides.clone(),
                    height: 300.0,
                };
                let caption = format!("{} examples; at τ = 0 every draw is the mean.", self.n);
                Figure { file: format!("scale-{file}"), picture: chart.draw(), caption }
            })
            .collect()
    }

    /// What was chosen, in a sentence.
    pub fn sentence(&self) -> String {
        let Some(choice) = &self.choice else {
            return "no τ is chosen: there are no rows to choose on but those of the curves".into();
        };
        let nll = |scale: f64| choice.points.iter().find(|point| point.scale == scale).map_or(f64::NAN, |point| point.scores.nll);
        let first = choice.points.first().map_or(0.0, |point| point.scale);
        format!(
            "chosen on {} ({} examples): τ = {}, NLL {:.4} ({:.4} at the mean)",
            choice.split,
            choice.n,
            number(choice.scale),
            nll(choice.scale),
            nll(first)
        )
    }
}

/// File, name, whether it is a share, and value of each score.
type Score = (&'static str, &'static str, bool, fn(&MainScores) -> f64);
const SCORES: [Score; 3] = [
    ("error", "error", true, |scores| 1.0 - scores.accuracy),
    ("nll", "NLL, nats", false, |scores| scores.nll),
    ("ece", "ECE (10 bins)", true, |scores| scores.ece),
];
/// Colours from few to many draws.
const TONES: [usize; 6] = [2, 3, 4, 1, 0, 5];

/// `Error on test`.
pub(super) fn headline(name: &str, split: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map_or_else(String::new, |letter| letter.to_uppercase().to_string());
    format!("{first}{} on {split}", letters.as_str())
}

fn draws(samples: usize) -> String {
    if samples == 1 { "1 draw".into() } else { format!("{samples} draws") }
}

/// `0.3`, `0.25`.
fn number(value: f64) -> String {
    format!("{}", (value * 1e4).round() / 1e4)
}

/// The numbers of draws of S that are reported: 1, 2, 5, 10, 20, 50, … below S, and S.
pub fn prefixes(samples: usize) -> Vec<usize> {
    let steps =
        (0..20u32).flat_map(|power| [1usize, 2, 5].into_iter().filter_map(move |step| step.checked_mul(10usize.checked_pow(power)?)));
    let mut found: Vec<usize> = steps.take_while(|prefix| *prefix < samples).collect();
    if samples > 0 {
        found.push(samples);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: f64, samples: usize, nll: f64) -> ScalePoint {
        ScalePoint { scale, samples, scores: MainScores { accuracy: 0.75, nll, ece: 0.1, brier: 0.3 } }
    }

    fn report() -> ScaleReport {
        let points = [0.0, 0.5, 1.0].iter().flat_map(|&scale| [point(scale, 1, 0.7), point(scale, 2, 0.6 - 0.1 * scale)]).collect();
        let choice = ScaleChoice::new("calibrate".into(), 8, vec![point(0.0, 2, 0.6), point(0.5, 2, 0.4), point(1.0, 2, 0.5)]);
        ScaleReport { split: "test".into(), n: 16, bins: 10, seed: 1, points, choice }
    }

    #[test]
    fn the_lowest_nll_on_calibrate_is_chosen_and_a_tie_goes_to_the_smaller_scale() {
        assert_eq!(report().choice.unwrap().scale, 0.5);
        assert_eq!(ScaleChoice::new("c".into(), 1, vec![point(0.0, 1, 0.5), point(1.0, 1, 0.5)]).unwrap().scale, 0.0);
        assert_eq!(ScaleChoice::new("c".into(), 1, vec![]), None);
        assert_eq!(report().sentence(), "chosen on calibrate (8 examples): τ = 0.5, NLL 0.4000 (0.6000 at the mean)");
        assert!(ScaleReport { choice: None, ..report() }.sentence().starts_with("no τ is chosen"));
    }

    #[test]
    fn tables_and_pictures_have_a_column_and_a_line_for_each_number_of_draws() {
        let report = report();
        let (name, nll) = &report.tables()[1];
        assert_eq!(name, "NLL, nats");
        assert_eq!(nll.to_text(), "τ     1 draw  2 draws\n0.00  0.7000   0.6000\n0.50  0.7000   0.5500\n1.00  0.7000   0.5000\n");
        let figures = report.figures();
        assert_eq!(figures.iter().map(|figure| figure.file.as_str()).collect::<Vec<_>>(), ["scale-error", "scale-nll", "scale-ece"]);
        let drawn = figures[1].picture.inline();
        assert!(drawn.contains("chosen: 0.5") && drawn.contains(">2 draws</text>"));
        let again: ScaleReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
    }

    #[test]
    fn prefixes_end_with_all_draws() {
        assert_eq!(prefixes(10), [1, 2, 5, 10]);
        assert_eq!(prefixes(7), [1, 2, 5, 7]);
        assert_eq!((prefixes(1), prefixes(0)), (vec![1], vec![]));
    }
}
