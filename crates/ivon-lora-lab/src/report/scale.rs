//! Scores against τ, which multiplies the posterior's variance, and against the number of draws (the
//! paper's Figure 1).

use serde::{Deserialize, Serialize};

use super::html::Figure;
use super::plot::{Axis, LineChart, Series};
use ivon_lora::metrics::{Ground, MainScores, Table, not_told_from, preferred};
use ivon_lora::sentence::{Sentence, sentence, setting};

/// Its file in a run's folder.
pub const SCALE_FILE: &str = "scale.json";

/// The scores at each τ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleReport {
    /// The split that was scored.
    pub split: String,
    /// Its number of examples.
    pub n: usize,
    /// Number of bins of the ECE.
    pub bins: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Sorted by τ, then by the number of draws.
    pub points: Vec<ScalePoint>,
    /// The choice of τ; none if there are no rows to choose on.
    pub choice: Option<ScaleChoice>,
}

/// The scores at one τ with one number of draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalePoint {
    /// τ; at 0 every draw is the mean.
    pub scale: f64,
    /// The number of draws in the average.
    pub samples: usize,
    /// The scores.
    #[serde(flatten)]
    pub scores: MainScores,
}

/// The choice of τ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleChoice {
    /// The rows that it was chosen on, which are never the scored ones.
    pub split: String,
    /// Their number.
    pub n: usize,
    /// Their scores at each τ, with all draws.
    pub points: Vec<ScalePoint>,
    /// The τ that these rows prefer; 0 if the mean is best, and the adapter's own if they cannot tell.
    pub scale: f64,
    /// The smallest and the largest τ that are within one standard error of the one with the lowest
    /// NLL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_told_apart: Option<[f64; 2]>,
    /// Why nothing is chosen, if there are too few rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The rows to choose τ on, scored at each τ.
#[derive(Clone, Debug)]
pub struct ScaleTrials {
    /// Their split.
    pub split: String,
    /// Their scores at each τ, with all draws.
    pub points: Vec<ScalePoint>,
    /// The loss of each row at each τ, nats.
    pub losses: Vec<Vec<f64>>,
    /// Whether they are enough to choose by.
    pub ground: Ground,
    /// The adapter's own τ.
    pub default: f64,
}

impl ScaleChoice {
    /// Chooses the τ with the lowest NLL (of those that tie, the smallest), if it is better than the τ
    /// nearest to the adapter's own by more than a standard error; none without points.
    pub(crate) fn new(trials: ScaleTrials) -> Option<Self> {
        let ScaleTrials {
            split,
            points,
            losses,
            ground,
            default,
        } = trials;
        let away = |point: &ScalePoint| (point.scale - default).abs();
        let own = (0..points.len())
            .min_by(|&one, &other| away(&points[one]).total_cmp(&away(&points[other])))?;
        let nll = |index: usize| points[index].scores.nll;
        let better = |best, next| if nll(next) < nll(best) { next } else { best };
        let lowest = (0..points.len()).fold(0, better);
        let alike = not_told_from(&losses, lowest).into_iter();
        let alike: Vec<f64> = alike.map(|index| points[index].scale).collect();
        let refused = ground.check().err();
        let refused = refused.map(|too_little| too_little.to_string());
        let chosen = match refused {
            Some(_) => own,
            None => preferred(&losses, own),
        };
        Some(Self {
            split,
            n: ground.rows,
            scale: points[chosen].scale,
            not_told_apart: Some([*alike.first()?, *alike.last()?]),
            refused,
            points,
        })
    }
}

impl ScaleReport {
    /// The numbers of draws, in ascending order.
    pub fn samples(&self) -> Vec<usize> {
        let mut found: Vec<usize> = self.points.iter().map(|point| point.samples).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The values of τ, in ascending order.
    fn scales(&self) -> Vec<f64> {
        let mut found: Vec<f64> = self.points.iter().map(|point| point.scale).collect();
        found.sort_by(f64::total_cmp);
        found.dedup();
        found
    }

    /// A table for each score: a row for each τ, a column for each number of draws.
    pub fn tables(&self) -> Vec<(String, Table)> {
        let table = |score: &Score| (score.name.to_string(), self.table(score));
        SCORES.iter().map(table).collect()
    }

    fn table(&self, score: &Score) -> Table {
        let samples = self.samples();
        let head = std::iter::once("τ".to_string());
        let head = head.chain(samples.iter().map(|samples| draws(*samples)));
        let row = |scale: f64| {
            let cell = |samples: &usize| {
                let mut points = self.points.iter();
                let point = points.find(|point| point.scale == scale && point.samples == *samples);
                point.map_or_else(String::new, |point| {
                    format!("{:.4}", (score.value)(&point.scores))
                })
            };
            let first = std::iter::once(format!("{scale:.2}"));
            first.chain(samples.iter().map(cell)).collect()
        };
        Table {
            head: head.collect(),
            rows: self.scales().into_iter().map(row).collect(),
        }
    }

    /// A picture for each score: a line for each number of draws against τ.
    pub fn figures(&self) -> Vec<Figure> {
        SCORES.iter().map(|score| self.figure(score)).collect()
    }

    fn figure(&self, score: &Score) -> Figure {
        let values = self.points.iter().map(|point| (score.value)(&point.scores));
        let y = match score.is_share {
            true => Axis::percent_around(score.name, values),
            false => Axis::around(score.name, values),
        };
        let end = self.scales().last().copied().unwrap_or(1.0);
        let chosen = self.choice.iter().filter(|choice| choice.refused.is_none());
        let guide = |choice: &ScaleChoice| {
            let words = format!("chosen: {}", number(choice.scale));
            (choice.scale, words)
        };
        let chart = LineChart {
            title: headline(score.name, &self.split),
            x: Axis::between("τ, the factor of the variance", 0.0, end),
            y,
            series: self.series(score),
            guides: chosen.map(guide).collect(),
            height: 300.0,
        };
        Figure {
            file: format!("scale-{}", score.file),
            picture: chart.draw(),
            caption: format!("{} examples; at τ = 0 every draw is the mean.", self.n),
        }
    }

    /// A line for each number of draws.
    fn series(&self, score: &Score) -> Vec<Series> {
        let line = |(index, samples): (usize, usize)| {
            let points = self.points.iter().filter(|point| point.samples == samples);
            let points = points.map(|point| [point.scale, (score.value)(&point.scores)]);
            Series {
                name: draws(samples),
                tone: TONES[index % TONES.len()],
                points: points.collect(),
                ..Series::default()
            }
        };
        self.samples().into_iter().enumerate().map(line).collect()
    }

    /// The choice of τ in a sentence.
    pub fn sentence(&self) -> Sentence {
        let Some(choice) = &self.choice else {
            return "no τ is chosen: there are no rows to choose on but those of the curves".into();
        };
        if let Some(reason) = &choice.refused {
            return format!("no τ is chosen on {}: {reason}", choice.split).into();
        }
        let chosen = Sentence::from(choice.words());
        let last = choice.points.last().map_or(f64::NAN, |point| point.scale);
        if choice.scale == last {
            chosen.then(sentence!(
                "; it is the largest that was tried, `{}` tries larger ones",
                setting("end")
            ))
        } else {
            chosen
        }
    }
}

impl ScaleChoice {
    /// The chosen τ with its NLL, and which others the rows cannot tell from it.
    fn words(&self) -> String {
        let nll = |scale: f64| {
            let point = self.points.iter().find(|point| point.scale == scale);
            point.map_or(f64::NAN, |point| point.scores.nll)
        };
        let first = self.points.first().map_or(0.0, |point| point.scale);
        let alike = match self.not_told_apart {
            None => String::new(),
            Some([low, high]) if low == high => {
                "; every other τ is worse by more than a standard error".into()
            }
            Some([low, high]) => format!(
                "; from τ = {} to {} the rows cannot tell which is best",
                number(low),
                number(high)
            ),
        };
        format!(
            "chosen on {} ({} examples): τ = {}, NLL {:.4} ({:.4} at the mean){alike}",
            self.split,
            self.n,
            number(self.scale),
            nll(self.scale),
            nll(first)
        )
    }
}

/// A score that has a table and a picture.
struct Score {
    /// The end of the file's name.
    file: &'static str,
    name: &'static str,
    /// Whether it is a share, written in percent.
    is_share: bool,
    value: fn(&MainScores) -> f64,
}

const SCORES: [Score; 3] = [
    Score {
        file: "error",
        name: "error",
        is_share: true,
        value: |scores| 1.0 - scores.accuracy,
    },
    Score {
        file: "nll",
        name: "NLL, nats",
        is_share: false,
        value: |scores| scores.nll,
    },
    Score {
        file: "ece",
        name: "ECE (10 bins)",
        is_share: true,
        value: |scores| scores.ece,
    },
];
/// Colours from few to many draws.
const TONES: [usize; 6] = [2, 3, 4, 1, 0, 5];

/// `Error on test`.
pub(super) fn headline(name: &str, split: &str) -> String {
    let mut letters = name.chars();
    let first = letters
        .next()
        .map_or_else(String::new, |letter| letter.to_uppercase().to_string());
    format!("{first}{} on {split}", letters.as_str())
}

fn draws(samples: usize) -> String {
    if samples == 1 {
        "1 draw".into()
    } else {
        format!("{samples} draws")
    }
}

/// `0.3`, `0.25`.
fn number(value: f64) -> String {
    format!("{}", (value * 1e4).round() / 1e4)
}

/// The numbers of draws that are reported: 1, 2, 5, 10, 20, 50, … below S, and S.
pub fn prefixes(samples: usize) -> Vec<usize> {
    let steps = (0..20u32).flat_map(|power| {
        [1usize, 2, 5]
            .into_iter()
            .filter_map(move |step| step.checked_mul(10usize.checked_pow(power)?))
    });
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
        ScalePoint {
            scale,
            samples,
            scores: MainScores {
                accuracy: 0.75,
                nll,
                ece: 0.1,
                brier: 0.3,
            },
        }
    }

    /// Forty rows at three τ with these NLL; at the second they are lower on every row but a few.
    fn trials(nll: [f64; 3], wrong: usize, default: f64) -> ScaleTrials {
        let points = [0.0, 0.5, 1.0]
            .iter()
            .zip(nll)
            .map(|(&scale, nll)| point(scale, 2, nll))
            .collect();
        let losses = nll
            .iter()
            .map(|nll| (0..40).map(|row| nll + 0.01 * f64::from(row % 2)).collect())
            .collect();
        ScaleTrials {
            split: "calibrate".into(),
            points,
            losses,
            ground: Ground {
                rows: 40,
                right: 40 - wrong,
                wrong,
            },
            default,
        }
    }

    fn report() -> ScaleReport {
        let points = [0.0, 0.5, 1.0]
            .iter()
            .flat_map(|&scale| [point(scale, 1, 0.7), point(scale, 2, 0.6 - 0.1 * scale)])
            .collect();
        let choice = ScaleChoice::new(trials([0.6, 0.4, 0.5], 10, 1.0));
        ScaleReport {
            split: "test".into(),
            n: 16,
            bins: 10,
            seed: 1,
            points,
            choice,
        }
    }

    #[test]
    fn the_lowest_nll_on_calibrate_is_chosen_where_the_rows_can_tell() {
        assert_eq!(report().choice.unwrap().scale, 0.5);
        assert_eq!(
            report().sentence().to_string(),
            "chosen on calibrate (40 examples): τ = 0.5, NLL 0.4000 (0.6000 at the mean); every other τ is worse by more than a standard \
             error"
        );
        // One row speaks for τ = 0.5, another against it: that of the adapter stays.
        let mut vague = trials([0.6, 0.55, 0.6], 10, 1.0);
        vague.losses = vec![vec![0.6; 40]; 3];
        (vague.losses[1][7], vague.losses[1][8]) = (-1.4, 2.0);
        let choice = ScaleChoice::new(vague).unwrap();
        assert_eq!(
            (choice.scale, choice.not_told_apart),
            (1.0, Some([0.0, 1.0]))
        );
        let sentence = ScaleReport {
            choice: Some(choice),
            ..report()
        }
        .sentence()
        .to_string();
        assert!(
            sentence.ends_with(
                "from τ = 0 to 1 the rows cannot tell which is best; it is the largest that was tried, `end` tries larger ones"
            ),
            "{sentence}"
        );
        assert_eq!(
            ScaleChoice::new(ScaleTrials {
                points: vec![],
                losses: vec![],
                ..trials([0.0; 3], 10, 1.0)
            }),
            None
        );
        assert!(
            ScaleReport {
                choice: None,
                ..report()
            }
            .sentence()
            .to_string()
            .starts_with("no τ is chosen")
        );
    }

    #[test]
    fn rows_without_mistakes_choose_no_scale() {
        let choice = ScaleChoice::new(trials([0.1, 0.2, 0.3], 0, 1.0)).unwrap();
        assert_eq!(choice.scale, 1.0);
        let report = ScaleReport {
            choice: Some(choice),
            ..report()
        };
        assert!(
            report
                .sentence()
                .to_string()
                .starts_with("no τ is chosen on calibrate: 40 rows with 0 wrong answers"),
            "{}",
            report.sentence().to_string()
        );
        assert!(!report.figures()[1].picture.inline().contains("chosen:"));
    }

    #[test]
    fn tables_and_pictures_have_a_column_and_a_line_for_each_number_of_draws() {
        let report = report();
        let (name, nll) = &report.tables()[1];
        assert_eq!(name, "NLL, nats");
        assert_eq!(
            nll.to_text(),
            "τ     1 draw  2 draws\n0.00  0.7000   0.6000\n0.50  0.7000   0.5500\n1.00  0.7000   0.5000\n"
        );
        let figures = report.figures();
        assert_eq!(
            figures
                .iter()
                .map(|figure| figure.file.as_str())
                .collect::<Vec<_>>(),
            ["scale-error", "scale-nll", "scale-ece"]
        );
        let drawn = figures[1].picture.inline();
        assert!(drawn.contains("chosen: 0.5") && drawn.contains(">2 draws</text>"));
        let again: ScaleReport =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report);
    }

    #[test]
    fn prefixes_end_with_all_draws() {
        assert_eq!(prefixes(10), [1, 2, 5, 10]);
        assert_eq!(prefixes(7), [1, 2, 5, 7]);
        assert_eq!((prefixes(1), prefixes(0)), (vec![1], vec![]));
    }
}
