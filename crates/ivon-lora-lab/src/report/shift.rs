//! Predictions on a run's own held-out rows and on sets that it was not trained for → scores, and how
//! well each measure of uncertainty tells the sets apart.
//!
//! The other set is the positive class: AUROC is the probability that one of its rows is less certain
//! than a held-out one. Selective accuracy is that of the answered rows if the least certain are left
//! out; its area is the mean over all shares of answered rows.

use serde::{Deserialize, Serialize};

use super::html::Figure;
use super::plot::{Axis, RangeRow, range_chart};
use ivon_lora::metrics::{
    BINS, LogProbabilities, MainScores, MetricsError, Predictions, Table,
    area_under_selective_accuracy, aupr, auroc, auroc_interval, entropy, mean_of_draws,
    selective_accuracy, uncertainties,
};
use ivon_lora::predict::SetProbabilities;

/// Its file in a run's folder.
pub const SHIFT_FILE: &str = "shift.json";
/// The share of answered rows at which selective accuracy is reported.
const ANSWERED: f64 = 0.8;

/// The answers of a run on sets that it was not trained for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftReport {
    /// Number of bins of the ECE.
    pub bins: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// τ.
    pub scale: f64,
    /// The run's own held-out rows, then the others.
    pub sets: Vec<ShiftSet>,
}

/// The results on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftSet {
    /// Its name.
    pub name: String,
    /// The split of its folder.
    pub split: String,
    /// Number of rows.
    pub n: usize,
    /// At the mean, and averaged over draws if there are any.
    pub ways: Vec<ShiftWay>,
}

/// A set answered in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftWay {
    /// `mean`, `10 samples`.
    pub way: String,
    /// Mean probability of the answers.
    pub confidence: f64,
    /// Mean entropy, nats.
    pub entropy: f64,
    /// Scores, if every row has a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ShiftScores>,
    /// How well each measure of uncertainty tells the set from the held-out rows; empty for these.
    pub detection: Vec<Detection>,
}

/// Scores of a labelled set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftScores {
    /// The scores of all rows.
    #[serde(flatten)]
    pub main: MainScores,
    /// Share of right answers among the most confident 80 %.
    pub selective_accuracy: f64,
    /// Area under selective accuracy against the share of answered rows.
    pub selective_area: f64,
}

/// How well a measure of uncertainty tells a set from the held-out rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The measure.
    pub uncertainty: Measure,
    /// Area under the ROC curve; ½ by chance.
    pub auroc: f64,
    /// Its 95 % interval.
    pub auroc_interval: [f64; 2],
    /// Area under precision against recall, with the set as the positive class.
    pub aupr: f64,
    /// The AUPR by chance: the set's share of all rows.
    pub chance: f64,
}

/// A measure of the uncertainty of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// 1 − the probability of the answer.
    TopProbability,
    /// Entropy of the probabilities, nats.
    Entropy,
    /// Mutual information of answer and weights, nats.
    MutualInformation,
}

impl Measure {
    const ALL: [Self; 3] = [Self::TopProbability, Self::Entropy, Self::MutualInformation];

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopProbability => "1 − top probability",
            Self::Entropy => "entropy",
            Self::MutualInformation => "mutual information",
        }
    }
}

/// The answers to a set in one way.
#[derive(Clone, Debug)]
pub struct ShiftAnswers {
    way: String,
    log_probabilities: LogProbabilities,
    uncertainties: Vec<Uncertainties>,
}

/// The uncertainties by one measure, one for each row.
pub type Uncertainties = (Measure, Vec<f64>);

/// The uncertainties that follow from the log-probabilities of the answers alone.
pub fn uncertainties_of_answers(log_probabilities: &[Vec<f64>]) -> Vec<Uncertainties> {
    let top = |row: &Vec<f64>| 1.0 - row.iter().copied().fold(f64::NEG_INFINITY, f64::max).exp();
    let of_top = log_probabilities.iter().map(top).collect();
    let entropies = log_probabilities.iter().map(|row| entropy(row)).collect();
    vec![
        (Measure::TopProbability, of_top),
        (Measure::Entropy, entropies),
    ]
}

impl ShiftAnswers {
    /// The answers at the mean, and averaged over draws if there are any.
    ///
    /// # Errors
    /// If the draws differ in their shape.
    pub fn of(evaluated: SetProbabilities) -> Result<Vec<Self>, MetricsError> {
        let mut ways = vec![Self::new("mean".into(), evaluated.mean)];
        if !evaluated.draws.is_empty() {
            let mut sampled = Self::new(
                format!("{} samples", evaluated.draws.len()),
                mean_of_draws(&evaluated.draws)?,
            );
            let information = uncertainties(&evaluated.draws)?
                .iter()
                .map(|one| one.mutual_information)
                .collect();
            sampled
                .uncertainties
                .push((Measure::MutualInformation, information));
            ways.push(sampled);
        }
        Ok(ways)
    }

    fn new(way: String, log_probabilities: LogProbabilities) -> Self {
        Self {
            way,
            uncertainties: uncertainties_of_answers(&log_probabilities),
            log_probabilities,
        }
    }

    /// Log-probabilities of the answers `[N][C]`, nats.
    pub fn log_probabilities(&self) -> &[Vec<f64>] {
        &self.log_probabilities
    }

    /// Each uncertainty of the rows.
    pub fn uncertainties(&self) -> &[Uncertainties] {
        &self.uncertainties
    }

    fn mean(&self, measure: Measure) -> f64 {
        let values = self
            .uncertainties
            .iter()
            .find(|(one, _)| *one == measure)
            .map_or(&[][..], |(_, values)| values);
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn scores(&self, labels: &[usize]) -> Result<ShiftScores, MetricsError> {
        let predictions = Predictions::new(self.log_probabilities.clone(), labels.to_vec())?;
        Ok(ShiftScores {
            main: predictions.main_scores(),
            selective_accuracy: selective_accuracy(&predictions, ANSWERED).accuracy,
            selective_area: area_under_selective_accuracy(
                &predictions.correct(),
                &predictions.confidences(),
            ),
        })
    }

    /// How well each measure of uncertainty tells these rows from `own`.
    fn told_from(&self, own: &Self) -> Vec<Detection> {
        let pairs = self.uncertainties.iter().zip(&own.uncertainties);
        pairs
            .filter_map(|((measure, there), (_, here))| Detection::new(*measure, there, here))
            .collect()
    }
}

impl Detection {
    /// How well a measure tells the rows of another set (`there`) from held-out ones (`here`); none if
    /// one of them is empty.
    fn new(uncertainty: Measure, there: &[f64], here: &[f64]) -> Option<Self> {
        let scores = [there, here].concat();
        let is_other: Vec<bool> = (0..scores.len()).map(|row| row < there.len()).collect();
        let auroc = auroc(&scores, &is_other)?;
        Some(Self {
            uncertainty,
            auroc,
            auroc_interval: auroc_interval(auroc, there.len(), here.len()),
            aupr: aupr(&scores, &is_other)?,
            chance: there.len() as f64 / scores.len() as f64,
        })
    }
}

impl ShiftSet {
    /// The results on a set, with labels if all its rows have one. `own` are the held-out rows; none for
    /// these themselves.
    ///
    /// # Errors
    /// If a label is out of range or a row is not a distribution.
    pub(crate) fn new(
        name: &str,
        split: &str,
        answered: &[ShiftAnswers],
        labels: Option<&[usize]>,
        own: Option<&[ShiftAnswers]>,
    ) -> Result<Self, MetricsError> {
        let way = |(index, one): (usize, &ShiftAnswers)| {
            Ok::<_, MetricsError>(ShiftWay {
                way: one.way.clone(),
                confidence: 1.0 - one.mean(Measure::TopProbability),
                entropy: one.mean(Measure::Entropy),
                scores: labels.map(|labels| one.scores(labels)).transpose()?,
                detection: own
                    .and_then(|own| own.get(index))
                    .map_or_else(Vec::new, |own| one.told_from(own)),
            })
        };
        let ways = answered
            .iter()
            .enumerate()
            .map(way)
            .collect::<Result<Vec<_>, _>>()?;
        let n = answered
            .first()
            .map_or(0, |one| one.log_probabilities.len());
        Ok(Self {
            name: name.into(),
            split: split.into(),
            n,
            ways,
        })
    }
}

impl ShiftReport {
    /// The report of these sets, the held-out rows first.
    pub fn new(seed: u64, scale: f64, sets: Vec<ShiftSet>) -> Self {
        Self {
            bins: BINS,
            seed,
            scale,
            sets,
        }
    }

    /// A row for each set and way: its scores, and how certain the answers are.
    pub fn scores(&self) -> Table {
        let ece = format!("ECE ({} bins)", self.bins);
        let head = [
            "",
            "n",
            "accuracy",
            "NLL, nats",
            &ece,
            "Brier",
            "of the surest 80 %",
            "area",
            "confidence",
            "entropy",
        ]
        .map(String::from)
        .to_vec();
        let rows = self.ways().map(|(set, way)| score_row(set, way)).collect();
        Table { head, rows }
    }

    /// Every way of every set.
    fn ways(&self) -> impl Iterator<Item = (&ShiftSet, &ShiftWay)> {
        self.sets
            .iter()
            .flat_map(|set| set.ways.iter().map(move |way| (set, way)))
    }

    /// A row for each other set, way and measure of uncertainty.
    pub fn detection(&self) -> Table {
        let head = ["", "AUROC", "95 %", "AUPR", "AUPR by chance"]
            .map(String::from)
            .to_vec();
        let mut rows = Vec::new();
        for (set, way) in self.ways() {
            rows.extend(way.detection.iter().map(|one| {
                let name = format!("{}, {}, {}", set.name, way.way, one.uncertainty.name());
                let [low, high] = one.auroc_interval;
                let [auroc, aupr, chance] =
                    [one.auroc, one.aupr, one.chance].map(|value| format!("{value:.3}"));
                vec![name, auroc, format!("{low:.2} – {high:.2}"), aupr, chance]
            }));
        }
        Table { head, rows }
    }

    /// AUROC of each measure of uncertainty with its interval, a row for each set and way.
    pub fn figures(&self) -> Vec<Figure> {
        let ways = self.ways().filter(|(_, way)| !way.detection.is_empty());
        let rows: Vec<RangeRow> = ways.map(|(set, way)| range_row(set, way)).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let is_drawn = |tone: usize| {
            let mut ranges = rows.iter().flat_map(|row| &row.ranges);
            ranges.any(|range| range.0 == tone)
        };
        let drawn = Measure::ALL.iter().enumerate();
        let drawn = drawn.filter(|(tone, _)| is_drawn(*tone));
        let legend: Vec<(usize, &str)> = drawn
            .map(|(tone, measure)| (tone, measure.name()))
            .collect();
        let own = self.sets.first().map_or("", |own| &own.name);
        vec![Figure {
            file: "shift-auroc".into(),
            picture: range_chart(
                "Other sets told from held-out rows",
                &Axis::between("AUROC", 0.0, 1.0),
                &rows,
                &legend,
            ),
            caption: format!(
                "Told from held-out rows of {own}; bars are 95 % intervals by the formula of Hanley and McNeil."
            ),
        }]
    }
}

fn score_row(set: &ShiftSet, way: &ShiftWay) -> Vec<String> {
    let number = |value: f64| format!("{value:.3}");
    let scores = way.scores.map(|scores| {
        let main = scores.main;
        let selective = [scores.selective_accuracy, scores.selective_area];
        let main = [main.accuracy, main.nll, main.ece, main.brier];
        main.into_iter().chain(selective).map(number).collect()
    });
    let scores: Vec<String> = scores.unwrap_or_else(|| vec!["–".into(); 6]);
    let name = format!("{}, {}, {}", set.name, set.split, way.way);
    let certainty = [number(way.confidence), number(way.entropy)];
    let first = [name, set.n.to_string()].into_iter();
    first.chain(scores).chain(certainty).collect()
}

/// The intervals of a set in one way, in the colours of the measures.
fn range_row(set: &ShiftSet, way: &ShiftWay) -> RangeRow {
    let tone = |measure| {
        let place = Measure::ALL.iter().position(|one| *one == measure);
        place.unwrap_or(0)
    };
    let range = |one: &Detection| {
        let [low, high] = one.auroc_interval;
        (tone(one.uncertainty), [low, one.auroc, high])
    };
    RangeRow {
        name: format!("{}, {}", set.name, way.way),
        ranges: way.detection.iter().map(range).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(rows: &[f64]) -> LogProbabilities {
        rows.iter().map(|p| vec![p.ln(), (1.0 - p).ln()]).collect()
    }

    fn report() -> ShiftReport {
        let own = ShiftAnswers::of(SetProbabilities {
            mean: logs(&[0.9, 0.8, 0.6]),
            draws: vec![],
            ..SetProbabilities::default()
        })
        .unwrap();
        // The same twice: nothing that the weights disagree on.
        let other = SetProbabilities {
            mean: logs(&[0.7, 0.5]),
            draws: vec![logs(&[0.7, 0.5]); 2],
            ..SetProbabilities::default()
        };
        let other = ShiftAnswers::of(other).unwrap();
        let sets = vec![
            ShiftSet::new("own", "test", &own, Some(&[0, 1, 0]), None).unwrap(),
            ShiftSet::new("other", "validation", &other, None, Some(&own)).unwrap(),
        ];
        ShiftReport::new(3, 1.0, sets)
    }

    #[test]
    fn a_set_is_told_apart_by_how_uncertain_its_answers_are() {
        let report = report();
        let way = &report.sets[1].ways[0];
        // Of the six pairs only (0.7, 0.6) is the wrong way round: a row of the other set that is
        // surer than one of the run's own.
        assert_eq!(
            way.detection
                .iter()
                .map(|one| one.uncertainty)
                .collect::<Vec<_>>(),
            [Measure::TopProbability, Measure::Entropy]
        );
        assert!(
            way.detection.iter().all(
                |one| (one.auroc - 5.0 / 6.0).abs() < 1e-12 && (one.chance - 0.4).abs() < 1e-12
            )
        );
        // Precision 1 at the first of them, 2/3 at the second.
        assert!((way.detection[0].aupr - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((way.confidence - 0.6).abs() < 1e-12 && way.scores.is_none());
        // The run's own rows were answered at the mean alone: there is nothing to compare draws
        // with.
        assert!(report.sets[1].ways[1].detection.is_empty());
    }

    #[test]
    fn a_labelled_set_has_scores_and_what_leaving_out_the_least_certain_gives() {
        let report = report();
        let scores = report.sets[0].ways[0].scores.unwrap();
        assert!((scores.main.accuracy - 2.0 / 3.0).abs() < 1e-12);
        // Two of three are answered, the surer ones: right and wrong. Area: the mean of 1, 1/2,
        // 2/3.
        assert!(
            (scores.selective_accuracy - 0.5).abs() < 1e-12
                && (scores.selective_area - 13.0 / 18.0).abs() < 1e-12
        );
    }

    #[test]
    fn both_tables_have_a_row_for_each_set_and_way() {
        let report = report();
        let scores = report.scores().to_text();
        assert!(
            scores.contains("\nown, test, mean ")
                && scores.contains("\nother, validation, 2 samples  2         –"),
            "{scores}"
        );
        let detection = report.detection().to_text();
        assert!(
            detection.contains(
                "\nother, mean, 1 − top probability  0.833  0.41 – 1.00  0.833           0.400\n"
            ),
            "{detection}"
        );
        // One way of answering has something to be told from; its two uncertainties are a bar each.
        let picture = report.figures()[0].picture.inline();
        assert!(picture.contains("other, mean") && picture.matches("class=\"faint\"").count() == 2);
        assert_eq!(
            serde_json::from_str::<ShiftReport>(&serde_json::to_string(&report).unwrap())
                .unwrap()
                .detection(),
            report.detection()
        );
    }
}
