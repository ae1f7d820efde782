//! Several runs → one page: their scores in one table, scores on tune against hours, and step times (the
//! paper's Figure 2).

use super::figures::{evaluation, reliability, step};
use super::one::row;
use super::score_chart::{ACCURACY, ECE, NLL, ScoreChart};
use super::{Distribution, RunPage};
use crate::report::coverage::{Coverage, SplitTrials};
use crate::report::html::{
    Cell, Figure, Section, document, figures as grid, note, paragraph, table,
};
use crate::report::plot::{Axis, LineChart, Mark, RangeRow, Series, range_chart};
use ivon_lora::decide::{Case, DecisionScore, LabelledCase};
use ivon_lora::metrics::{BINS, MainScores, Scores, quantile};
use ivon_lora::watch::Record;

/// The page.
pub fn html(runs: &[RunPage]) -> String {
    let all = figures(runs);
    let of = |prefix: &str| {
        all.iter()
            .filter(|figure| figure.file.starts_with(prefix))
            .collect::<Vec<_>>()
    };
    let mut sections = vec![Section::new("scores", "Scores", scores(runs))];
    let mut add = |id: &str, title: &str, words: &str, figures: Vec<&Figure>| {
        if !figures.is_empty() {
            sections.push(Section::new(id, title, paragraph(words) + &grid(figures)));
        }
    };
    add(
        "hours",
        "Scores against time",
        "Scores on tune against the time that training steps took until then; evaluations and checkpoints are not counted.",
        of("hours-"),
    );
    add(
        "steps",
        "Time of a step",
        "The median step of each run, and the middle 80 % of its steps.",
        of("step-"),
    );
    add(
        "calibration",
        "Calibration",
        "Each run as it answers.",
        of("reliability-"),
    );
    add(
        "deferring",
        "Answering and deferring",
        "How many rows a rule of the confidence answers whose error is at most the promised one with probability 0.9: \
         half of the evaluated rows make the rule, and the other half is tried, 100 times.",
        of("deferring"),
    );
    document("runs of ivon-lora", &title(runs), "", &[], &sections)
}

fn title(runs: &[RunPage]) -> String {
    match runs {
        [one, two] => format!("{} and {}", one.name, two.name),
        _ => format!("{} runs", runs.len()),
    }
}

fn scores(runs: &[RunPage]) -> String {
    let mut distributions = runs.iter().flat_map(|run| &run.distributions);
    let bins = distributions.next().map(|one| one.scores.num_bins);
    let ece = format!("ECE ({} bins)", bins.unwrap_or(BINS));
    let head = [
        "",
        "accuracy",
        "NLL, nats",
        &ece,
        "ECE floor",
        "ECE, equal mass",
        "Brier",
        "area, selective",
    ];
    let splits: Vec<String> = runs.iter().filter_map(split_of).collect();
    table(&head, 1, &score_rows(runs))
        + &note(
            "Bold: what the run answers with. Below each score its 95 % bootstrap interval over examples.",
        )
        + &note(&format!("{}.", splits.join("; ")))
}

/// A row for each distribution. The untuned base is shown once, if runs have it in common.
fn score_rows(runs: &[RunPage]) -> Vec<(Vec<Cell>, Option<String>)> {
    let mut rows = Vec::new();
    let mut bases: Vec<&Scores> = Vec::new();
    for run in runs {
        for one in &run.distributions {
            let is_base = one.file == "base";
            if is_base && bases.contains(&&one.scores) {
                continue;
            }
            if is_base {
                bases.push(&one.scores);
            }
            let mut cells = row(one);
            cells[0] = match is_base {
                true => Cell::of(&one.name),
                false => Cell::with(&run.name, &one.name),
            };
            cells[0].is_bold = one.is_recommended;
            rows.push((cells, None));
        }
    }
    rows
}

/// The rows that a run was scored on.
fn split_of(run: &RunPage) -> Option<String> {
    let source = run
        .source
        .as_ref()
        .map_or_else(String::new, |source| format!(", {source}"));
    let n = run.distributions.first()?.scores.n;
    let (name, split) = (&run.name, &run.split);
    Some(format!("{name}: {n} examples of {split}{source}"))
}

/// The pictures.
pub fn figures(runs: &[RunPage]) -> Vec<Figure> {
    let mut found = hours(runs);
    found.extend(step_times(runs));
    found.extend(deferring(runs));
    found.extend(runs.iter().enumerate().filter_map(|(index, run)| {
        let one = run.recommended()?;
        let named = Distribution {
            name: format!("{}: {}", run.name, one.name),
            tone: index,
            ..one.clone()
        };
        Some(Figure {
            file: format!("reliability-{}", index + 1),
            ..reliability(&named)
        })
    }));
    found
}

/// The largest errors that are promised, and the splits on which rules are tried.
const LIMITS: [f64; 6] = [0.02, 0.05, 0.1, 0.15, 0.2, 0.3];
const SPLITS: u64 = 100;

/// The fewest rows of which rules are made.
const FEWEST_ROWS: usize = 200;

/// The share of rows that are answered at each promised error; none if no run has enough rows.
fn deferring(runs: &[RunPage]) -> Option<Figure> {
    let line = |(tone, run): (usize, &RunPage)| {
        let answers = &run.recommended()?.answers;
        let is_enough = answers.len() >= FEWEST_ROWS;
        let found = LIMITS.map(|limit| is_enough.then(|| coverage(answers, limit)).flatten());
        let found: Vec<(f64, Coverage)> = LIMITS
            .into_iter()
            .zip(found)
            .filter_map(|(limit, found)| Some((limit, found?)))
            .collect();
        let point = |(limit, found): &(f64, Coverage)| [*limit, found.mean_answered()];
        (!found.is_empty()).then(|| Series {
            name: run.name.clone(),
            tone,
            points: found.iter().map(point).collect(),
            band: found.iter().map(|(_, found)| found.range()).collect(),
            mark: Mark::Dots,
        })
    };
    let series: Vec<Series> = runs.iter().enumerate().filter_map(line).collect();
    if series.is_empty() {
        return None;
    }
    let chart = LineChart {
        title: "Rows that are answered, by the error that is promised".into(),
        x: Axis::percent("promised error among answered rows", 0.0, LIMITS[5]),
        y: Axis::percent("answered", 0.0, 1.0),
        series,
        guides: vec![],
        height: 300.0,
    };
    Some(Figure {
        file: "deferring".into(),
        picture: chart.draw(),
        caption: "Bands: the middle 90 % of the splits.".into(),
    })
}

/// Rules of the confidence, tried on splits of the answers.
fn coverage(answers: &[(f64, bool)], limit: f64) -> Option<Coverage> {
    let trials = SplitTrials {
        limit,
        confidence: 0.9,
        splits: SPLITS,
        share: 0.5,
    };
    let case = |(): &(), &(certainty, is_right): &(f64, bool)| LabelledCase {
        case: Case {
            answer: 0,
            certainty,
        },
        label: usize::from(!is_right),
    };
    Coverage::of(answers, DecisionScore::Confidence, &trials, |_| (), case).ok()
}

/// Seconds of training steps until each evaluation, with its scores.
fn curve(records: &[Record], value: impl Fn(&MainScores) -> f64) -> Vec<[f64; 2]> {
    let mut seconds = 0.0;
    let mut points = Vec::new();
    for record in records {
        if let Some(step) = step(record) {
            seconds += step.step_seconds;
        }
        if let Some(found) = evaluation(record) {
            points.push([seconds, value(&found.evaluation.mean)]);
        }
    }
    points
}

/// Accuracy, NLL and ECE on tune against the time that training took.
fn hours(runs: &[RunPage]) -> Vec<Figure> {
    let mut evaluations = runs
        .iter()
        .flat_map(|run| &run.records)
        .filter_map(evaluation);
    let Some(first) = evaluations.next() else {
        return Vec::new();
    };
    let split = &first.evaluation.split;
    [ACCURACY, NLL, ECE]
        .map(|score| hours_chart(&score, runs, split))
        .into()
}

fn hours_chart(score: &ScoreChart, runs: &[RunPage], split: &str) -> Figure {
    let (per_unit, unit_name) = unit_of_time(runs);
    let line = |(tone, run): (usize, &RunPage)| {
        let points = curve(&run.records, score.value).into_iter();
        Series {
            name: run.name.clone(),
            tone,
            points: points
                .map(|[seconds, score]| [seconds / per_unit, score])
                .collect(),
            mark: Mark::Dots,
            ..Series::default()
        }
    };
    let series = runs.iter().enumerate().map(line);
    let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let chart = LineChart {
        title: format!("{} on {split}", score.name),
        x: Axis::from_zero(unit_name, points().map(|point| point[0])),
        y: score.axis(points().map(|point| point[1])),
        series: series.clone(),
        guides: vec![],
        height: 300.0,
    };
    Figure {
        file: format!("hours-{}", score.key),
        picture: chart.draw(),
        caption: "At the mean of each run.".into(),
    }
}

/// The seconds and the name of the unit in which the longest of these runs is shown.
fn unit_of_time(runs: &[RunPage]) -> (f64, &'static str) {
    let times = runs.iter().flat_map(|run| curve(&run.records, |_| 0.0));
    let longest = times.map(|point| point[0]).fold(0.0, f64::max);
    if longest > 600.0 {
        (3600.0, "hours of training steps")
    } else {
        (60.0, "minutes of training steps")
    }
}

/// The median time of a run's steps, and the middle 80 % of them; none without steps.
fn step_time_row(tone: usize, run: &RunPage) -> Option<RangeRow> {
    let seconds = run.records.iter().filter_map(step);
    let seconds = seconds.map(|step| step.step_seconds);
    let mut seconds: Vec<f64> = seconds.filter(|value| value.is_finite()).collect();
    seconds.sort_by(f64::total_cmp);
    let range = [0.1, 0.5, 0.9].map(|share| quantile(&seconds, share));
    (!seconds.is_empty()).then(|| RangeRow {
        name: run.name.clone(),
        ranges: vec![(tone, range)],
    })
}

fn step_times(runs: &[RunPage]) -> Option<Figure> {
    let rows = runs.iter().enumerate();
    let rows = rows.filter_map(|(tone, run)| step_time_row(tone, run));
    let rows: Vec<RangeRow> = rows.collect();
    let first = rows.first()?.ranges.first()?.1[1];
    let ranges = rows.iter().flat_map(|row| &row.ranges);
    let axis = Axis::from_zero("seconds per step", ranges.map(|(_, range)| range[2]));
    let ratio = |row: &RangeRow| {
        let [_, median, _] = row.ranges.first()?.1;
        Some(format!(
            "{} {median:.3} s ({:.2})",
            row.name,
            median / first
        ))
    };
    let medians: Vec<String> = rows.iter().filter_map(ratio).collect();
    Some(Figure {
        file: "step-seconds".into(),
        picture: range_chart("Seconds per step", &axis, &rows, &[]),
        caption: format!(
            "Medians, and in parentheses relative to the first run: {}.",
            medians.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ivon_lora::watch::{Evaluation, EvaluationRecord, StepRecord};

    fn run(name: &str, step_seconds: f64) -> RunPage {
        let mean = MainScores {
            accuracy: 0.75,
            nll: 0.5,
            ece: 0.1,
            brier: 0.3,
        };
        let step = |step| {
            Record::Step(StepRecord {
                step,
                step_seconds,
                ..StepRecord::default()
            })
        };
        let evaluation = |step| {
            Record::Evaluation(EvaluationRecord {
                step,
                evaluation: Evaluation {
                    split: "tune".into(),
                    n: 8,
                    mean,
                    sampled: None,
                },
            })
        };
        RunPage {
            name: name.into(),
            records: vec![step(1), evaluation(1), step(2), evaluation(2)],
            ..RunPage::default()
        }
    }

    #[test]
    fn the_time_of_an_evaluation_is_that_of_the_steps_before() {
        assert_eq!(
            curve(&run("a", 1800.0).records, |scores| scores.nll),
            [[1800.0, 0.5], [3600.0, 0.5]]
        );
    }

    #[test]
    fn two_runs_are_shown_side_by_side() {
        let runs = [run("adamw", 1.0), run("ivon", 1.5)];
        let files: Vec<String> = figures(&runs)
            .into_iter()
            .map(|figure| figure.file)
            .collect();
        assert_eq!(
            files,
            ["hours-accuracy", "hours-nll", "hours-ece", "step-seconds"]
        );
        let page = html(&runs);
        assert!(
            page.contains("<h1>adamw and ivon</h1>") && page.contains("ivon 1.500 s (1.50)"),
            "{page}"
        );
        assert!(figures(&[]).is_empty() && html(&[]).contains("<h1>0 runs</h1>"));
    }
}
