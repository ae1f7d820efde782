//! A comparison → its page: the table and the pictures of each task, every trial, and what failed.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::chosen::Trial;
use super::comparison::{Comparison, FailedCell};
use super::detection_table::{DetectionColumn, DetectionRow};
use super::form::Form;
use super::layout::folder_name;
use super::scores::ScoreEntry;
use super::table::{DETECTION, RowEntry, TaskTable};
use crate::report::html::{
    Cell, Figure, Section, document, figures as figure_grid, note, paragraph, plain_table,
    table as html_table,
};
use crate::report::plot::{Axis, RangeRow, range_chart};

impl Comparison {
    /// The page.
    pub fn html(&self) -> String {
        let tasks = self.table.tasks.iter();
        let section = |(index, task): (usize, &TaskTable)| {
            Section::new(format!("task-{}", index + 1), &task.task, self.task(task))
        };
        let mut sections: Vec<Section> = tasks.clone().enumerate().map(section).collect();
        if !self.trials.is_empty() {
            sections.push(Section::new("trials", "Trials", trials(&self.trials)));
        }
        if !self.failed.is_empty() {
            let row =
                |failed: &FailedCell| (vec![Cell::of(&failed.name)], Some(failed.reason.clone()));
            let rows: Vec<_> = self.failed.iter().map(row).collect();
            let table = html_table(&["run"], 1, &rows);
            sections.push(Section::new("failed", "What failed", table));
        }
        let names: Vec<&str> = tasks.map(|task| task.task.as_str()).collect();
        let lead = if self.is_interrupted {
            "It was stopped before its end: what is here is what was finished."
        } else {
            ""
        };
        document(
            "a comparison of ivon-lora",
            &format!("Methods on {}", names.join(", ")),
            lead,
            &self.facts(),
            &sections,
        )
    }

    /// What was compared, and how much of it.
    fn facts(&self) -> Vec<(String, String)> {
        let rows = || {
            self.table
                .tasks
                .iter()
                .flat_map(|task| &task.rows)
                .filter(|row| row.form != Form::Yardstick)
        };
        let methods: BTreeSet<&str> = rows().map(|row| row.method.as_str()).collect();
        let seeds: BTreeSet<u64> = rows().flat_map(|row| row.seeds.iter().copied()).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        let facts = [
            ("methods", methods.len().to_string()),
            ("seeds", seeds.join(", ")),
            ("trials", self.trials.len().to_string()),
        ];
        facts
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }

    /// All pictures, one for each task and score.
    pub fn figures(&self) -> Vec<Figure> {
        self.table
            .tasks
            .iter()
            .flat_map(|task| figures(task, self.table.bins))
            .collect()
    }

    fn task(&self, task: &TaskTable) -> String {
        let ece = format!("ECE ({} bins)", self.table.bins);
        let head = [
            "",
            "accuracy",
            "NLL, nats",
            "Brier",
            &ece,
            "AURC",
            "error at 80 %",
            "training",
            "prediction",
            "extra stored",
            "seeds",
        ];
        let rows: Vec<_> = task.rows.iter().map(|row| (cells(row), None)).collect();
        let doubt = match task.is_conclusive {
            true => String::new(),
            false => paragraph(
                "AdamW does not beat the majority class here: this task supports no conclusion.",
            ),
        };
        paragraph(&format!(
            "{} test {}. {}",
            task.n,
            task.rows_in_words(),
            best(task)
        )) + &doubt
            + &html_table(&head, 1, &rows)
            + &note(
                "Mean over seeds, with its standard error below. Bold: the 95 % interval of the paired difference to the best, over seeds and \
                 examples, contains 0. Training and prediction: time relative to AdamW. Extra stored: numbers beside the adapter.",
            )
            + &differences(task)
            + &detection(task)
            + &figure_grid(&figures(task, self.table.bins))
    }
}

/// The differences from the row that the comparison names.
fn differences(task: &TaskTable) -> String {
    let Some(differences) = &task.differences else {
        return String::new();
    };
    paragraph(&format!("{}: {}.", task.task, differences.heading()))
        + &plain_table(&differences.table())
}

/// How well uncertainties tell other sets from the task's test rows, where there are some.
fn detection(task: &TaskTable) -> String {
    let Some(detection) = &task.detection else {
        return String::new();
    };
    let columns: Vec<String> = detection
        .columns
        .iter()
        .map(DetectionColumn::name)
        .collect();
    let head: Vec<&str> = std::iter::once("")
        .chain(columns.iter().map(String::as_str))
        .collect();
    let row = |row: &DetectionRow| {
        let cells = row.auroc.iter().map(|entry| score_cell(entry.as_ref()));
        (
            std::iter::once(Cell::of(&row.name)).chain(cells).collect(),
            None,
        )
    };
    let rows: Vec<_> = detection.rows.iter().map(row).collect();
    paragraph(&format!("{}: {DETECTION}.", task.task)) + &html_table(&head, 1, &rows)
}

/// The rows with the lowest NLL and the highest accuracy, and how many others cannot be told from each.
fn best(task: &TaskTable) -> String {
    let methods = task.rows.iter();
    let methods = methods.filter(|row| row.form != Form::Yardstick);
    let methods: Vec<&RowEntry> = methods.collect();
    let nll = best_row(&methods, |row| &row.nll, f64::total_cmp);
    let accuracy = best_row(
        &methods,
        |row| &row.accuracy,
        |one, other| other.total_cmp(one),
    );
    let nll = nll.map(|words| format!("Lowest NLL: {words}"));
    let accuracy = accuracy.map(|words| format!("Highest accuracy: {words}"));
    let sentences: Vec<String> = nll.into_iter().chain(accuracy).collect();
    sentences.join(" ")
}

/// The best score with its row, and how many others cannot be told from it.
fn best_row(methods: &[&RowEntry], of: Score, order: fn(&f64, &f64) -> Ordering) -> Option<String> {
    let best = methods.iter();
    let best = best.min_by(|one, other| order(&of(one).mean, &of(other).mean))?;
    let alike = methods.iter();
    let alike = alike.filter(|row| of(row).is_bold && row.name != best.name);
    Some(format!(
        "{:.3} ({}; {} of the {} other rows are not told apart from it).",
        of(best).mean,
        best.name,
        alike.count(),
        methods.len() - 1
    ))
}

fn cells(row: &RowEntry) -> Vec<Cell> {
    let ratio = |value: Option<f64>| {
        Cell::of(value.map_or_else(|| "–".into(), |value| format!("{value:.2}")))
    };
    let extra = Cell::of(row.extra_parameters.map_or_else(|| "–".into(), short));
    let scores = row.scores().map(score_cell);
    let rest = [
        ratio(row.training_time),
        ratio(row.prediction_time),
        extra,
        Cell::of(row.seeds_in_words()),
    ];
    let name = std::iter::once(Cell::of(&row.name));
    name.chain(scores).chain(rest).collect()
}

fn score_cell(entry: Option<&ScoreEntry>) -> Cell {
    let Some(entry) = entry else {
        return Cell::of("–");
    };
    let error = entry.standard_error;
    Cell {
        words: format!("{:.3}", entry.mean),
        small: error.map_or_else(String::new, |error| format!("± {error:.3}")),
        is_bold: entry.is_bold,
    }
}

/// A large number for a narrow column: 465 k, 9.8 M.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.0} k", number as f64 / 1e3),
        _ => format!("{:.1} M", number as f64 / 1e6),
    }
}

/// A score of a row.
type Score = fn(&RowEntry) -> &ScoreEntry;

/// The colour and the name of a form.
fn shown(form: Form) -> (usize, &'static str) {
    match form {
        Form::Yardstick | Form::Elsewhere => (2, ""),
        Form::Mean => (0, "mean"),
        Form::ScaledMean => (3, "mean, T"),
        Form::Samples => (1, "samples"),
        Form::ScaledSamples => (4, "samples, T"),
    }
}

/// A picture for each score, with a row for each method and a bar for each way to predict: the mean and
/// one standard error to either side. Yardsticks are far from all methods and are named below.
fn figures(task: &TaskTable, bins: usize) -> Vec<Figure> {
    let ece = format!("ECE ({bins} bins)");
    let scores: [(&str, &str, Score); 3] = [
        ("accuracy", "accuracy", |row| &row.accuracy),
        ("nll", "NLL, nats", |row| &row.nll),
        ("ece", &ece, |row| &row.ece),
    ];
    scores.map(|score| figure(task, score)).into()
}

fn figure(task: &TaskTable, (file, name, of): (&str, &str, Score)) -> Figure {
    let (yardsticks, methods): (Vec<&RowEntry>, Vec<&RowEntry>) = task
        .rows
        .iter()
        .partition(|row| row.form == Form::Yardstick);
    let rows = range_rows(&methods, of);
    let ranges = rows.iter().flat_map(|row| &row.ranges);
    let values = ranges.flat_map(|(_, range)| *range);
    let axis = match file {
        "nll" => Axis::around(name, values),
        _ => Axis::percent_around(name, values),
    };
    let named: Vec<String> = yardsticks
        .iter()
        .map(|row| format!("{} {:.3}", row.name, of(row).mean))
        .collect();
    let not_drawn = match named.is_empty() {
        true => String::new(),
        false => format!(" Not drawn: {}.", named.join("; ")),
    };
    let title = format!("{name} on {}", task.task);
    Figure {
        file: format!("{}-{file}", folder_name(&task.task)),
        picture: range_chart(&title, &axis, &rows, &legend(task)),
        caption: format!(
            "Mean over seeds and one standard error to either side; T: at the temperature chosen on calibrate.{not_drawn}"
        ),
    }
}

/// A row of the picture for each method, with a bar for each of its ways to predict.
fn range_rows(methods: &[&RowEntry], of: Score) -> Vec<RangeRow> {
    let method = |row: &RowEntry| match row.method.is_empty() {
        true => row.name.clone(),
        false => row.method.clone(),
    };
    let range = |row: &&RowEntry| {
        let entry = of(row);
        let error = entry.standard_error.unwrap_or(0.0);
        let [low, high] = [entry.mean - error, entry.mean + error];
        (shown(row.form).0, [low, entry.mean, high])
    };
    methods
        .chunk_by(|one, other| method(one) == method(other))
        .map(|rows| RangeRow {
            name: method(rows[0]),
            ranges: rows.iter().map(range).collect(),
        })
        .collect()
}

/// The colours of the ways to predict that the task has.
fn legend(task: &TaskTable) -> Vec<(usize, &'static str)> {
    let is_there = |form: &Form| task.rows.iter().any(|row| row.form == *form);
    let forms = Form::TRAINED.into_iter().filter(is_there);
    forms.map(shown).collect()
}

fn trials(trials: &[Trial]) -> String {
    let head = [
        "task",
        "method",
        "settings",
        "NLL at the mean",
        "NLL with draws",
    ];
    let rows: Vec<_> = trials.iter().map(trial_row).collect();
    paragraph("Every trial with its NLL on tune, in nats; of each method the lowest was chosen.")
        + &html_table(&head, 3, &rows)
}

fn trial_row(trial: &Trial) -> (Vec<Cell>, Option<String>) {
    let number =
        |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.4}"));
    let settings = trial.settings.iter();
    let settings: Vec<String> = settings
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let chosen = if trial.is_chosen { "chosen" } else { "" };
    let cells = vec![
        Cell::of(&trial.task),
        Cell::of(&trial.method),
        Cell {
            words: settings.join(", "),
            small: chosen.into(),
            is_bold: trial.is_chosen,
        },
        Cell::of(number(trial.nll_mean)),
        Cell::of(number(trial.nll_samples)),
    ];
    (cells, trial.error.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_written_short() {
        assert_eq!(
            [54, 464_746, 9_767_838].map(short),
            ["54", "465 k", "9.8 M"]
        );
    }
}
