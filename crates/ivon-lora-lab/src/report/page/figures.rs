//! A run → its pictures, by part of the page.

use super::score_chart::{ACCURACY, ECE, NLL, ScoreChart};
use super::{Distribution, RunPage};
use crate::report::html::Figure;
use crate::report::plot::{
    Axis, LineChart, Mark, RangeRow, Series, confidence_histogram, range_chart,
    reliability_diagram, summarised,
};
use crate::report::{PruneReport, ScaleReport, ShiftReport};
use ivon_lora::answer::TextReport;
use ivon_lora::bundle::LayerSummary;
use ivon_lora::metrics::{TokenScores, accuracy_by_coverage};
use ivon_lora::watch::{EvaluationRecord, Record, StepRecord};

/// A part of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Calibration,
    Confidence,
    Selective,
    Training,
    Posterior,
    Scale,
    Prune,
    Shift,
}

/// Height of charts with lines.
const HEIGHT: f64 = 270.0;
/// Points of a long series.
const POINTS: usize = 60;

/// The pictures of a run, without parts that have none.
pub fn all(run: &RunPage) -> Vec<(Part, Vec<Figure>)> {
    let distributions = run.distributions.iter();
    let answered = distributions.clone().filter(|one| !one.answers.is_empty());
    let layers = run.adapter.as_ref().map(|adapter| &adapter.layers);
    let scale = run.scale.as_ref().map(ScaleReport::figures);
    let prune = run.prune.as_ref().map(PruneReport::figures);
    let shift = run.shift.as_ref().map(ShiftReport::figures);
    let parts: [(Part, Vec<Figure>); 8] = [
        (
            Part::Calibration,
            distributions
                .map(reliability)
                .chain(run.texts.iter().flat_map(reliability_of_tokens))
                .collect(),
        ),
        (Part::Confidence, answered.map(histogram).collect()),
        (Part::Selective, selective(run).into_iter().collect()),
        (Part::Training, training(run)),
        (
            Part::Posterior,
            layers.map_or_else(Vec::new, |layers| posterior(layers)),
        ),
        (Part::Scale, scale.unwrap_or_default()),
        (Part::Prune, prune.unwrap_or_default()),
        (Part::Shift, shift.unwrap_or_default()),
    ];
    let parts = parts.into_iter();
    parts.filter(|(_, figures)| !figures.is_empty()).collect()
}

/// The reliability diagram of one distribution, with its ECE in words.
pub fn reliability(distribution: &Distribution) -> Figure {
    let Distribution {
        name,
        file,
        tone,
        scores,
        ..
    } = distribution;
    let [low, high] = scores.intervals.ece;
    Figure {
        file: format!("reliability-{file}"),
        picture: reliability_diagram(name, *tone, &scores.bins),
        caption: format!(
            "ECE {:.3} with {} bins of equal width, 95 % bootstrap interval {low:.3} to {high:.3}. A perfectly calibrated model with these \
             confidences on {} examples shows {:.3}.",
            scores.ece, scores.num_bins, scores.n, scores.ece_floor
        ),
    }
}

/// The reliability diagrams of the most probable next token.
fn reliability_of_tokens(report: &TextReport) -> Vec<Figure> {
    let figure = |(name, scores): (String, &TokenScores)| {
        let (file, tone) = match name.as_str() {
            "mean" => ("mean", 0),
            name if name.starts_with("base") => ("base", 2),
            _ => ("samples", 1),
        };
        let [low, high] = scores.ece.interval;
        Figure {
            file: format!("reliability-{file}"),
            picture: reliability_diagram(&name, tone, &scores.bins),
            caption: format!(
                "ECE {:.3} of the most probable next token, 95 % interval over texts {low:.3} to \
                 {high:.3}. Whiskers take tokens for independent.",
                scores.ece.value
            ),
        }
    };
    report.rows().into_iter().map(figure).collect()
}

fn histogram(distribution: &Distribution) -> Figure {
    let Distribution {
        name,
        file,
        tone,
        answers,
        ..
    } = distribution;
    let wrong: Vec<f64> = answers
        .iter()
        .filter(|answer| !answer.1)
        .map(|answer| answer.0)
        .collect();
    let sure = wrong.iter().filter(|confidence| **confidence > 0.9).count();
    Figure {
        file: format!("confidence-{file}"),
        picture: confidence_histogram(name, *tone, answers),
        caption: format!(
            "{} of {} answers are wrong, {sure} of them with a confidence above 90 %.",
            wrong.len(),
            answers.len()
        ),
    }
}

/// The share of wrong answers against the share of answered rows.
fn selective(run: &RunPage) -> Option<Figure> {
    let answered = || {
        let distributions = run.distributions.iter();
        distributions.filter(|one| !one.answers.is_empty())
    };
    let series: Vec<Series> = answered().map(risk_curve).collect();
    if series.is_empty() {
        return None;
    }
    let most = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point[1])
        .fold(0.01, f64::max);
    let chart = LineChart {
        title: "Wrong answers among those given".into(),
        x: Axis::percent("share that is answered, the surest first", 0.0, 1.0),
        y: Axis::percent_around("wrong answers", [0.0, most]),
        series,
        guides: vec![],
        height: HEIGHT + 30.0,
    };
    let areas: Vec<String> = answered()
        .map(|one| format!("{} {:.3}", one.name, one.scores.selective_area))
        .collect();
    Some(Figure {
        file: "risk-coverage".into(),
        picture: chart.draw(),
        caption: format!(
            "Mean accuracy over all coverages (area; higher is better): {}.",
            areas.join(", ")
        ),
    })
}

/// The share of wrong answers among the most confident ones, against their share of all.
fn risk_curve(distribution: &Distribution) -> Series {
    let (confidences, correct): (Vec<f64>, Vec<bool>) =
        distribution.answers.iter().copied().unzip();
    let accuracies = accuracy_by_coverage(&correct, &confidences);
    let count = accuracies.len().max(1);
    // Less than a twentieth of the answers says nothing.
    let from = count.div_ceil(20);
    let point = |taken: usize| {
        let risk = 1.0 - accuracies.get(taken - 1)?;
        Some([taken as f64 / count as f64, risk])
    };
    let points: Vec<[f64; 2]> = (from..=count).filter_map(point).collect();
    let end = points.last().map_or(f64::NAN, |point| point[1]);
    Series {
        name: format!("{} {:.1} %", distribution.name, 100.0 * end),
        tone: distribution.tone,
        points,
        ..Series::default()
    }
}

fn training(run: &RunPage) -> Vec<Figure> {
    let steps: Vec<&StepRecord> = run.records.iter().filter_map(step).collect();
    let evaluations: Vec<&EvaluationRecord> = run.records.iter().filter_map(evaluation).collect();
    let mut found = Vec::new();
    if !steps.is_empty() {
        found.push(loss(&steps));
    }
    if !evaluations.is_empty() {
        found.extend(tune(&evaluations));
    }
    if !steps.is_empty() {
        found.push(learning_rate(&steps));
        found.push(gradient(&steps));
    }
    found
}

/// The record of a step.
pub fn step(record: &Record) -> Option<&StepRecord> {
    match record {
        Record::Step(step) => Some(step),
        Record::Evaluation(_) => None,
    }
}

/// The record of an evaluation.
pub fn evaluation(record: &Record) -> Option<&EvaluationRecord> {
    match record {
        Record::Evaluation(evaluation) => Some(evaluation),
        Record::Step(_) => None,
    }
}

fn of_steps(steps: &[&StepRecord], value: impl Fn(&StepRecord) -> f64) -> Vec<[f64; 2]> {
    steps
        .iter()
        .map(|step| [step.step as f64, value(step)])
        .collect()
}

fn steps_axis(last: f64) -> Axis {
    Axis::from_zero("step", [last])
}

fn last_step(steps: &[&StepRecord]) -> f64 {
    steps.last().map_or(1.0, |step| step.step as f64)
}

fn loss(steps: &[&StepRecord]) -> Figure {
    let (points, band) = summarised(&of_steps(steps, |step| step.loss), POINTS);
    let y = Axis::from_zero("loss, nats", band.iter().flatten().copied());
    let per = steps.len().div_ceil(POINTS);
    let chart = LineChart {
        title: "Training loss".into(),
        x: steps_axis(last_step(steps)),
        y,
        series: vec![Series {
            points,
            band: if per > 3 { band } else { vec![] },
            ..Series::default()
        }],
        guides: vec![],
        height: HEIGHT,
    };
    let caption = match per {
        1 => "Mean over the examples of each step.".into(),
        2 | 3 => format!("Mean of {per} steps each."),
        per => format!("Mean of {per} steps each; the band holds the middle 80 % of them."),
    };
    Figure {
        file: "loss".into(),
        picture: chart.draw(),
        caption,
    }
}

/// Charts of NLL, accuracy and ECE on tune, at the mean and with draws.
fn tune(evaluations: &[&EvaluationRecord]) -> Vec<Figure> {
    [NLL, ACCURACY, ECE]
        .map(|score| tune_chart(&score, evaluations))
        .into()
}

fn tune_chart(score: &ScoreChart, evaluations: &[&EvaluationRecord]) -> Figure {
    let last = evaluations.last().map_or(1.0, |record| record.step as f64);
    let first = &evaluations[0].evaluation;
    let series = tune_series(score, evaluations);
    let points = series.iter().flat_map(|series| &series.points);
    let chart = LineChart {
        title: format!("{} on {}", score.name, first.split),
        x: steps_axis(last),
        y: score.axis(points.map(|point| point[1])),
        series,
        guides: vec![],
        height: HEIGHT,
    };
    let caption = match evaluations {
        [only] => format!(
            "{} examples of {}, after step {}.",
            first.n, first.split, only.step
        ),
        _ => format!("{} examples of {}.", first.n, first.split),
    };
    Figure {
        file: format!("tune-{}", score.key),
        picture: chart.draw(),
        caption,
    }
}

/// A score against steps, at the mean, and with draws if there were any.
fn tune_series(score: &ScoreChart, evaluations: &[&EvaluationRecord]) -> Vec<Series> {
    let at_mean = |record: &&EvaluationRecord| {
        let scores = &record.evaluation.mean;
        [record.step as f64, (score.value)(scores)]
    };
    let sampled = |record: &&EvaluationRecord| {
        let scores = record.evaluation.sampled?.scores;
        Some([record.step as f64, (score.value)(&scores)])
    };
    let dots = |name: String, tone: usize, points: Vec<[f64; 2]>| Series {
        name,
        tone,
        points,
        mark: Mark::Dots,
        ..Series::default()
    };
    let mean = evaluations.iter().map(at_mean).collect();
    let mut series = vec![dots("mean".into(), 0, mean)];
    if let Some(first) = evaluations[0].evaluation.sampled {
        let points = evaluations.iter().filter_map(sampled).collect();
        series.push(dots(format!("{} samples", first.samples), 1, points));
    }
    series
}

fn learning_rate(steps: &[&StepRecord]) -> Figure {
    let points = of_steps(steps, |step| step.learning_rate);
    let chart = LineChart {
        title: "Learning rate".into(),
        x: steps_axis(last_step(steps)),
        y: Axis::from_zero("learning rate", points.iter().map(|point| point[1])),
        series: vec![Series {
            points: summarised(&points, POINTS).0,
            tone: 3,
            ..Series::default()
        }],
        guides: vec![],
        height: HEIGHT,
    };
    Figure {
        file: "learning-rate".into(),
        picture: chart.draw(),
        caption: "As the schedule gave it.".into(),
    }
}

fn gradient(steps: &[&StepRecord]) -> Figure {
    let (points, band) = summarised(&of_steps(steps, |step| step.gradient_norm), POINTS);
    let chart = LineChart {
        title: "Norm of the gradient".into(),
        x: steps_axis(last_step(steps)),
        y: Axis::from_zero(
            "Euclidean norm over all weights",
            band.iter().flatten().copied(),
        ),
        series: vec![Series {
            points,
            band: if steps.len() > 3 * POINTS {
                band
            } else {
                vec![]
            },
            tone: 4,
            ..Series::default()
        }],
        guides: vec![],
        height: HEIGHT,
    };
    Figure {
        file: "gradient-norm".into(),
        picture: chart.draw(),
        caption: "Before clipping.".into(),
    }
}

/// The colours of A and B.
const TONES: [(usize, &str); 2] = [(0, "A"), (1, "B")];

/// σ of A and B in each layer, and the size of their means.
fn posterior(layers: &[LayerSummary]) -> Vec<Figure> {
    let sigmas: Vec<RangeRow> = layers.iter().filter_map(sigma_row).collect();
    let sizes: Vec<RangeRow> = layers.iter().map(size_row).collect();
    let sigma = (!sigmas.is_empty()).then(|| {
        let axis = Axis::logarithmic("standard deviation σ of a weight", values(&sigmas));
        Figure {
            file: "posterior-sigma".into(),
            picture: range_chart("Posterior by decoder layer", &axis, &sigmas, &TONES),
            caption: "The median of σ in each layer, and the middle 90 % of weights.".into(),
        }
    });
    let size = (!sizes.is_empty()).then(|| {
        let axis = Axis::logarithmic("root mean square of the weights", values(&sizes));
        Figure {
            file: "weights".into(),
            picture: range_chart("Weights by decoder layer", &axis, &sizes, &TONES),
            caption: "B starts at 0: what it has become is what was learned.".into(),
        }
    });
    sigma.into_iter().chain(size).collect()
}

/// The quantiles of σ in a layer; none if they are unknown.
fn sigma_row(layer: &LayerSummary) -> Option<RangeRow> {
    let [(a, _), (b, _)] = TONES;
    let sigmas = [(a, layer.a.sigma), (b, layer.b.sigma)].into_iter();
    let known = sigmas.filter_map(|(tone, sigma)| Some((tone, sigma?)));
    let ranges: Vec<(usize, [f64; 3])> = known.collect();
    (!ranges.is_empty()).then(|| RangeRow {
        name: layer.layer.to_string(),
        ranges,
    })
}

/// The root mean square of the weights of a layer.
fn size_row(layer: &LayerSummary) -> RangeRow {
    let [(a, _), (b, _)] = TONES;
    RangeRow {
        name: layer.layer.to_string(),
        ranges: vec![(a, [layer.a.rms; 3]), (b, [layer.b.rms; 3])],
    }
}

fn values(rows: &[RangeRow]) -> Vec<f64> {
    rows.iter()
        .flat_map(|row| &row.ranges)
        .flat_map(|(_, range)| *range)
        .collect()
}
