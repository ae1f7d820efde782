//! Scores against the share of weights that are set to zero, where those come first whose difference
//! from zero is least certain under the posterior.

use serde::{Deserialize, Serialize};

use super::html::Figure;
use super::plot::{Axis, LineChart, Mark, Series};
use super::scale::headline;
use ivon_lora::metrics::{MainScores, Table};

/// Its file in a run's folder.
pub const PRUNE_FILE: &str = "prune.json";

/// The scores at each share of pruned weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PruneReport {
    /// The split that was scored.
    pub split: String,
    /// Its number of examples.
    pub n: usize,
    /// Number of bins of the ECE.
    pub bins: usize,
    /// Number of weights of the adapter.
    pub weights: usize,
    /// By share, from none to all.
    pub points: Vec<PrunePoint>,
}

/// The scores at one share, at the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrunePoint {
    /// Share of weights that are zero.
    pub share: f64,
    /// The scores.
    #[serde(flatten)]
    pub scores: MainScores,
}

impl PruneReport {
    /// A row for each share.
    pub fn table(&self) -> Table {
        let head = [
            "pruned",
            "accuracy",
            "NLL, nats",
            &format!("ECE ({} bins)", self.bins),
            "Brier",
        ]
        .map(String::from)
        .to_vec();
        let row = |point: &PrunePoint| {
            let scores = [
                point.scores.accuracy,
                point.scores.nll,
                point.scores.ece,
                point.scores.brier,
            ];
            std::iter::once(format!("{:.0} %", 100.0 * point.share))
                .chain(scores.iter().map(|score| format!("{score:.4}")))
                .collect()
        };
        Table {
            head,
            rows: self.points.iter().map(row).collect(),
        }
    }

    /// Accuracy and ECE against the share.
    pub fn figures(&self) -> Vec<Figure> {
        let ece = format!("ECE ({} bins)", self.bins);
        vec![
            self.figure("accuracy", "accuracy", 0, |scores| scores.accuracy),
            self.figure("ece", &ece, 1, |scores| scores.ece),
        ]
    }

    fn figure(&self, file: &str, name: &str, tone: usize, value: fn(&MainScores) -> f64) -> Figure {
        let points = self.points.iter();
        let points: Vec<[f64; 2]> = points
            .map(|point| [point.share, value(&point.scores)])
            .collect();
        let chart = LineChart {
            title: headline(name, &self.split),
            x: Axis::percent("weights set to zero, the least |m|/σ first", 0.0, 1.0),
            y: Axis::percent_around(name, points.iter().map(|point| point[1])),
            series: vec![Series {
                tone,
                points,
                mark: Mark::Dots,
                ..Series::default()
            }],
            guides: vec![],
            height: 270.0,
        };
        Figure {
            file: format!("prune-{file}"),
            picture: chart.draw(),
            caption: format!(
                "{} examples, at the mean; with all {} weights at zero it is the base.",
                self.n, self.weights
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_and_a_dot_for_each_share() {
        let point = |share: f64| PrunePoint {
            share,
            scores: MainScores {
                accuracy: 0.8 - 0.1 * share,
                nll: 0.5,
                ece: 0.1,
                brier: 0.3,
            },
        };
        let report = PruneReport {
            split: "test".into(),
            n: 10,
            bins: 10,
            weights: 100,
            points: vec![point(0.0), point(0.5), point(1.0)],
        };
        let text = report.table().to_text();
        assert!(
            text.starts_with(
                "pruned  accuracy  NLL, nats  ECE (10 bins)   Brier\n0 %       0.8000     0.5000"
            ),
            "{text}"
        );
        let figures = report.figures();
        assert_eq!(
            figures[0].picture.inline().matches("class=\"dot\"").count(),
            3
        );
        assert_eq!(
            serde_json::from_str::<PruneReport>(&serde_json::to_string(&report).unwrap()).unwrap(),
            report
        );
    }
}
