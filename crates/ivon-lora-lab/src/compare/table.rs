//! The rows of all tasks → a table like the paper's Table 1, as text, Markdown, LaTeX, CSV and
//! JSON.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::detection_table::DetectionTable;
use super::differences::{DifferenceTable, predicted, same_seeds};
use super::form::Form;
use super::predicted::{Predicted, paired_interval};
use super::rows::{Member, Row, TaskRows};
use super::scores::{RowScores, ScoreEntry, written};
use ivon_lora::method::{AdamwConfig, Method};
use ivon_lora::metrics::{BINS, ComparedScore, Table, mean_and_standard_error, quantile};

/// The table of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonTable {
    /// Number of bins of the ECE.
    pub bins: usize,
    /// One part for each task.
    pub tasks: Vec<TaskTable>,
}

/// The table of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskTable {
    /// Its name.
    pub task: String,
    /// Number of test examples.
    pub n: usize,
    /// The rows.
    pub rows: Vec<RowEntry>,
    /// Whether AdamW is right more often than the majority class; otherwise the task supports no
    /// conclusion.
    pub is_conclusive: bool,
    /// Whether the examples are texts, whose scores are those of their next tokens.
    #[serde(default)]
    pub are_texts: bool,
    /// Differences from the row that the comparison names, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<DifferenceTable>,
    /// How well uncertainties tell other sets from the test rows, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<DetectionTable>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowEntry {
    /// Method, and how it predicts.
    pub name: String,
    /// The method alone; empty in older files.
    #[serde(default)]
    pub method: String,
    /// How it predicts.
    #[serde(default)]
    pub form: Form,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// Share of right answers.
    pub accuracy: ScoreEntry,
    /// In nats.
    pub nll: ScoreEntry,
    /// Summed over choices.
    pub brier: ScoreEntry,
    /// With `bins` bins.
    pub ece: ScoreEntry,
    /// Area under error against coverage; none in a file from before it was written.
    #[serde(default)]
    pub aurc: Option<ScoreEntry>,
    /// Share of wrong answers among the most confident 80 %.
    #[serde(default)]
    pub error_at_80: Option<ScoreEntry>,
    /// Training time relative to AdamW.
    pub training_time: Option<f64>,
    /// Time of predicting test relative to AdamW.
    pub prediction_time: Option<f64>,
    /// Numbers stored beside the adapter.
    pub extra_parameters: Option<u64>,
    /// Of how many seeds calibrate could not carry a temperature, so that they stand at T = 1.
    #[serde(default)]
    pub at_one: usize,
}

impl ComparisonTable {
    /// The table of these rows, with differences from the row `against`, if one is named.
    pub(super) fn new(tasks: &[TaskRows], against: Option<&str>) -> Self {
        let table = |task: &TaskRows| TaskTable {
            differences: against.and_then(|name| DifferenceTable::new(task, name)),
            ..task_table(task)
        };
        Self {
            bins: BINS,
            tasks: tasks.iter().map(table).collect(),
        }
    }

    /// A text table for each task, with `*` in place of bold.
    pub fn to_text(&self) -> String {
        self.each(
            |table| table.to_text(),
            |entry| written(entry) + if entry.is_bold { "*" } else { " " },
        ) + "* not told apart from the best: the 95 % interval of the paired difference over seeds and examples contains 0\n"
    }

    /// A Markdown table for each task.
    pub fn to_markdown(&self) -> String {
        self.each(
            |table| table.to_markdown(),
            |entry| {
                if entry.is_bold {
                    format!("**{}**", written(entry))
                } else {
                    written(entry)
                }
            },
        ) + "Bold: the 95 % interval of the paired difference to the best, over seeds and examples, contains 0.\n"
    }

    /// A LaTeX table for each task, for the package booktabs.
    pub fn to_latex(&self) -> String {
        let cell = |entry: &ScoreEntry| {
            let words = written(entry).replace('±', "$\\pm$");
            if entry.is_bold {
                format!("\\textbf{{{words}}}")
            } else {
                words
            }
        };
        let mut text = String::new();
        for task in &self.tasks {
            let table = task.table(self.bins, &cell);
            let line = |row: &Vec<String>| {
                row.iter()
                    .map(|cell| latex(cell))
                    .collect::<Vec<_>>()
                    .join(" & ")
                    + " \\\\\n"
            };
            let columns = "r".repeat(table.head.len().saturating_sub(1));
            let rows: String = table.rows.iter().map(line).collect();
            let _ = write!(
                text,
                "% {}, {} {}\n\\begin{{tabular}}{{l{columns}}}\n\\toprule\n{}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n\n",
                task.task.replace('\n', " "),
                task.n,
                task.rows_in_words(),
                line(&table.head)
            );
        }
        text
    }

    /// A CSV table with a line for each task and row.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("task,n,row,seeds");
        for score in ["accuracy", "nll", "brier", "ece", "aurc", "error_at_80"] {
            let _ = write!(text, ",{score},{score}_standard_error,{score}_bold");
        }
        text += ",seeds_at_temperature_one,training_time,prediction_time,extra_parameters\n";
        for task in &self.tasks {
            for row in &task.rows {
                text += &csv_line(task, row);
            }
        }
        text
    }

    fn each(
        &self,
        table: impl Fn(&Table) -> String,
        cell: impl Fn(&ScoreEntry) -> String,
    ) -> String {
        let mut text = String::new();
        for task in &self.tasks {
            let _ = writeln!(
                text,
                "{}, {} {}\n\n{}",
                task.task,
                task.n,
                task.rows_in_words(),
                table(&task.table(self.bins, &cell))
            );
            if !task.is_conclusive {
                text += "AdamW does not beat the majority class here: this task supports no conclusion.\n\n";
            }
            if let Some(differences) = &task.differences {
                let (heading, shown) = (differences.heading(), table(&differences.table()));
                let _ = writeln!(text, "{}, {heading}\n\n{shown}", task.task);
            }
            if let Some(detection) = &task.detection {
                let told = table(&detection.table(&cell));
                let _ = writeln!(text, "{}, {DETECTION}\n\n{told}", task.task);
            }
        }
        text
    }
}

/// What the numbers of a [`DetectionTable`] are.
pub(super) const DETECTION: &str = "other sets told from its test rows, AUROC";

impl TaskTable {
    /// `examples`, or what the scores of texts are.
    pub(super) fn rows_in_words(&self) -> &'static str {
        match self.are_texts {
            true => "texts, scores of the next token",
            false => "examples",
        }
    }

    fn table(&self, bins: usize, cell: &impl Fn(&ScoreEntry) -> String) -> Table {
        let ece = format!("ECE ({bins} bins)");
        let head = [
            "",
            "accuracy",
            "NLL",
            "Brier",
            &ece,
            "AURC",
            "error at 80 %",
            "training",
            "prediction",
            "extra stored",
            "seeds",
        ]
        .map(String::from)
        .to_vec();
        Table {
            head,
            rows: self.rows.iter().map(|row| cells(row, cell)).collect(),
        }
    }
}

/// The cells of a row; `cell` writes a score.
fn cells(row: &RowEntry, cell: &impl Fn(&ScoreEntry) -> String) -> Vec<String> {
    let ratio =
        |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.2}"));
    let extra = row.extra_parameters.map(|extra| extra.to_string());
    let scores = row
        .scores()
        .map(|entry| entry.map_or_else(|| "–".into(), cell));
    let rest = [
        ratio(row.training_time),
        ratio(row.prediction_time),
        extra.unwrap_or_else(|| "–".into()),
        row.seeds_in_words(),
    ];
    let name = std::iter::once(row.name.clone());
    name.chain(scores).chain(rest).collect()
}

/// A row as a line of CSV.
fn csv_line(task: &TaskTable, row: &RowEntry) -> String {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let seeds: Vec<String> = row.seeds.iter().map(u64::to_string).collect();
    let (name, n, row_name) = (csv(&task.task), task.n, csv(&row.name));
    let mut line = format!("{name},{n},{row_name},{}", seeds.join(" "));
    for entry in row.scores() {
        line += &entry.map_or_else(
            || ",,,".into(),
            |entry| {
                let error = number(entry.standard_error);
                format!(",{},{error},{}", entry.mean, entry.is_bold)
            },
        );
    }
    let times = [row.training_time, row.prediction_time].map(number);
    let extra = row.extra_parameters.map(|extra| extra.to_string());
    let extra = extra.unwrap_or_default();
    line + &format!(",{},{},{},{extra}\n", row.at_one, times[0], times[1])
}

impl RowEntry {
    /// `3`; `3, 2 at T = 1`.
    pub(super) fn seeds_in_words(&self) -> String {
        match self.at_one {
            0 => self.seeds.len().to_string(),
            at_one => format!("{}, {at_one} at T = 1", self.seeds.len()),
        }
    }

    /// The scores in the order of the columns.
    pub(super) fn scores(&self) -> [Option<&ScoreEntry>; 6] {
        [
            Some(&self.accuracy),
            Some(&self.nll),
            Some(&self.brier),
            Some(&self.ece),
            self.aurc.as_ref(),
            self.error_at_80.as_ref(),
        ]
    }
}

/// A cell quoted for a CSV file, if that is necessary.
fn csv(words: &str) -> String {
    if words.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", words.replace('"', "\"\""))
    } else {
        words.into()
    }
}

/// A cell escaped for LaTeX, except for our own `\textbf` and `$\pm$`.
fn latex(words: &str) -> String {
    let mut escaped = String::new();
    for letter in words.chars() {
        match letter {
            '%' | '&' | '#' | '_' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '–' => escaped.push_str("--"),
            '~' | '^' => escaped.push(' '),
            _ => escaped.push(letter),
        }
    }
    escaped
}

fn task_table(task: &TaskRows) -> TaskTable {
    let plain = Method::Adamw(AdamwConfig::default());
    let reference = task
        .rows
        .iter()
        .find(|row| row.optimizer.as_deref() == Some(plain.name()))
        .or_else(|| task.rows.iter().find(|row| row.optimizer.is_some()));
    let seconds = reference.map_or([None; 2], |row| {
        [0, 1].map(|which| median_seconds(row, which))
    });
    let bold = ComparedScore::ALL.map(|score| not_told_from_the_best(&task.rows, score));
    let entry = |(index, row): (usize, &Row)| {
        let is_bold = [0, 1, 2, 3, 4, 5].map(|place: usize| bold[place][index]);
        row_entry(row, is_bold, seconds)
    };
    let rows: Vec<RowEntry> = task.rows.iter().enumerate().map(entry).collect();
    let accuracy = |name: Option<&str>| {
        let row = rows.iter().find(|row| Some(row.name.as_str()) == name)?;
        Some(row.accuracy.mean)
    };
    let majority = accuracy(Some("majority class"));
    let is_conclusive = match (majority, accuracy(reference.map(|row| row.name.as_str()))) {
        (Some(majority), Some(adamw)) => adamw > majority,
        _ => true,
    };
    TaskTable {
        task: task.name.clone(),
        n: task.n,
        rows,
        is_conclusive,
        are_texts: are_texts(task),
        differences: None,
        detection: DetectionTable::new(task),
    }
}

/// Whether the rows of a task are texts.
fn are_texts(task: &TaskRows) -> bool {
    let members = task.rows.iter().flat_map(|row| &row.members);
    let mut predictions = members.filter_map(|member| member.predictions.as_ref());
    predictions.any(Predicted::is_of_texts)
}

/// A row of the table. Its times are relative to `seconds` of training and prediction.
fn row_entry(row: &Row, is_bold: [bool; 6], seconds: [Option<f64>; 2]) -> RowEntry {
    let entry = |place: usize, value: fn(&RowScores) -> f64| {
        let values: Vec<f64> = row
            .members
            .iter()
            .map(|member| value(&member.scores))
            .collect();
        let (mean, standard_error) = mean_and_standard_error(&values);
        ScoreEntry {
            mean,
            standard_error,
            is_bold: is_bold[place],
        }
    };
    let ratio = |which: usize| {
        let of = seconds[which].filter(|seconds| *seconds > 0.0)?;
        Some(median_seconds(row, which)? / of)
    };
    RowEntry {
        name: row.name.clone(),
        method: row.method.clone(),
        form: row.form,
        seeds: match row.form {
            Form::Yardstick => Vec::new(),
            _ => row.members.iter().map(|member| member.seed).collect(),
        },
        accuracy: entry(0, |scores| scores.accuracy),
        nll: entry(1, |scores| scores.nll),
        brier: entry(2, |scores| scores.brier),
        ece: entry(3, |scores| scores.ece),
        aurc: some(entry(4, |scores| scores.aurc)),
        error_at_80: some(entry(5, |scores| scores.error_at_80)),
        training_time: ratio(0),
        prediction_time: ratio(1),
        extra_parameters: row.members.iter().filter_map(|member| member.extra).max(),
        at_one: row
            .members
            .iter()
            .filter(|member| member.is_refused)
            .count(),
    }
}

/// An entry; none of a score that texts do not have.
fn some(entry: ScoreEntry) -> Option<ScoreEntry> {
    (!entry.mean.is_nan()).then_some(entry)
}

/// The median over seeds of the seconds of training (0) or prediction (1), which a single run on shared
/// cores does not distort.
fn median_seconds(row: &Row, which: usize) -> Option<f64> {
    let mut seconds: Vec<f64> = row
        .members
        .iter()
        .filter_map(|member| member.seconds[which])
        .collect();
    seconds.sort_by(f64::total_cmp);
    (!seconds.is_empty()).then(|| quantile(&seconds, 0.5))
}

/// Whether each row is a method that the paired bootstrap over seeds and examples cannot tell from the
/// best one.
fn not_told_from_the_best(rows: &[Row], score: ComparedScore) -> Vec<bool> {
    let loss = |member: &Member| member.scores.loss(score);
    let mean =
        |row: &Row| row.members.iter().map(loss).sum::<f64>() / row.members.len().max(1) as f64;
    let methods = || rows.iter().filter(|row| row.form != Form::Yardstick);
    let Some(best) = methods().min_by(|a, b| mean(a).total_cmp(&mean(b))) else {
        return vec![false; rows.len()];
    };
    let is_bold = |row: &Row| {
        if row.form == Form::Yardstick {
            return false;
        }
        let (one, other) = same_seeds(row, best);
        let interval = paired_interval(score, &predicted(&one), &predicted(&other));
        std::ptr::eq(row, best) || interval.is_some_and(|[low, high]| low <= 0.0 && high >= 0.0)
    };
    rows.iter().map(is_bold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Comparison;
    use crate::compare::results::TaskResults;
    use ivon_lora::metrics::Predictions;

    /// Of a hundred answers so many are right, with this confidence.
    fn predictions(right: usize, confidence: f64) -> Predictions {
        let row = |row: usize| match row < right {
            true => vec![confidence, 1.0 - confidence],
            false => vec![1.0 - confidence, confidence],
        };
        Predictions::from_probabilities((0..100).map(row).collect(), vec![0; 100]).unwrap()
    }

    /// The rows of what was made elsewhere by these methods with these seeds.
    fn rows(name: &str, made: &[(&str, u64, Predictions)]) -> TaskRows {
        let mut results = TaskResults::new(name);
        results.labels = vec![0; 100];
        results.ids = (0..100).map(|row| row.to_string()).collect();
        for (method, seed, predictions) in made {
            results.add_elsewhere(method, *seed, predictions);
        }
        TaskRows::new(&results, true).unwrap()
    }

    fn table() -> ComparisonTable {
        let made = [(1, 79), (2, 81)].map(|(seed, right)| {
            [
                ("good", seed, predictions(right, 0.8)),
                ("as good", seed, predictions(right - 1, 0.8)),
                ("bad & sure", seed, predictions(right - 30, 0.99)),
            ]
        });
        let mut task = rows("sst2, \"en\"", &made.concat());
        for (index, row) in task.rows.iter_mut().enumerate() {
            row.optimizer = Some(if index == 0 { "adamw" } else { "ivon" }.into());
            row.members
                .iter_mut()
                .for_each(|member| member.seconds = [10.0 * (index + 1) as f64, 2.0].map(Some));
        }
        ComparisonTable::new(&[task], None)
    }

    #[test]
    fn what_cannot_be_told_apart_is_bold_and_times_are_relative() {
        let table = table();
        let rows = &table.tasks[0].rows;
        assert_eq!(
            rows.iter()
                .map(|row| row.accuracy.is_bold)
                .collect::<Vec<_>>(),
            [true, true, false]
        );
        assert_eq!(
            rows.iter().map(|row| row.nll.is_bold).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(
            (rows[0].accuracy.mean - 0.8).abs() < 1e-12
                && (rows[0].accuracy.standard_error.unwrap() - 0.01).abs() < 1e-12
        );
        assert_eq!(
            (
                rows[2].training_time,
                rows[2].prediction_time,
                rows[2].extra_parameters
            ),
            (Some(3.0), Some(1.0), None)
        );
    }

    #[test]
    fn one_run_of_three_that_took_longer_does_not_count() {
        let mut task = rows(
            "sst2",
            &[1, 2, 3].map(|seed| ("adamw", seed, predictions(80, 0.8))),
        );
        let seconds = [500.0, 12.0, 10.0];
        for (member, training) in task.rows[0].members.iter_mut().zip(seconds) {
            member.seconds = [Some(training), None];
        }
        assert_eq!(
            [0, 1].map(|which| median_seconds(&task.rows[0], which)),
            [Some(12.0), None]
        );
    }

    #[test]
    fn every_form_says_the_same() {
        let table = table();
        let text = table.to_text();
        assert!(
            text.contains("good        0.800 ± 0.010*")
                && text.contains("bad & sure  0.500 ± 0.010 "),
            "{text}"
        );
        assert!(table.to_markdown().contains("| good | **0.800 ± 0.010** |"));
        let latex = table.to_latex();
        assert!(
            latex.contains("good & \\textbf{0.800 $\\pm$ 0.010} &")
                && latex.contains("bad \\& sure & 0.500 $\\pm$ 0.010"),
            "{latex}"
        );
        let csv = table.to_csv();
        assert!(
            csv.lines()
                .nth(1)
                .unwrap()
                .starts_with("\"sst2, \"\"en\"\"\",100,good,1 2,0.8"),
            "{csv}"
        );
        assert!(csv.lines().all(|line| line.ends_with("extra_parameters")
            || line.contains(",true,")
            || line.contains(",false,")));
        let json = serde_json::to_string(&table).unwrap();
        // Not equal to the last bit: serde_json reads decimal numbers to within one unit in the
        // last place.
        assert_eq!(
            serde_json::from_str::<ComparisonTable>(&json)
                .unwrap()
                .to_text(),
            text
        );
        // A yardstick would make the axis so long that methods lie on one spot: it is named below
        // the picture.
        let mut with_yardstick = table.clone();
        let yardstick = RowEntry {
            name: "base, untuned".into(),
            form: Form::Yardstick,
            ..table.tasks[0].rows[2].clone()
        };
        with_yardstick.tasks[0].rows.insert(
            0,
            RowEntry {
                method: "base, untuned".into(),
                ..yardstick
            },
        );
        let shown = Comparison {
            table: with_yardstick,
            trials: vec![],
            failed: vec![],
            is_interrupted: false,
        };
        let figure = &shown.figures()[0];
        assert!(
            !figure.picture.inline().contains("base, untuned")
                && figure.picture.inline().contains("bad &amp; sure")
        );
        assert!(
            figure.caption.ends_with("Not drawn: base, untuned 0.500."),
            "{}",
            figure.caption
        );
        let all = Comparison {
            table,
            trials: vec![],
            failed: vec![],
            is_interrupted: false,
        };
        assert_eq!(
            all.figures()
                .iter()
                .map(|figure| figure.file.as_str())
                .collect::<Vec<_>>(),
            ["sst2-en-accuracy", "sst2-en-nll", "sst2-en-ece"]
        );
        let best = "100 test examples. Lowest NLL: 0.500 (good; 1 of the 2 other rows are not told apart from it). Highest accuracy: 0.800 (good;";
        assert!(
            all.html().contains(best) && all.html().contains("<dt>seeds</dt><dd>1, 2</dd>"),
            "{}",
            all.html()
        );
        assert!(all.html().contains(
            "<td class=\"words\">bad &amp; sure</td><td>0.500<small>± 0.010</small></td>"
        ));
    }
}
