//! The results of a comparison as one compressed file, from which its table is made again.
//!
//! The file is gzip over lines of JSON: the comparison (its settings, trials, failures), then each
//! task followed by its cells and by what was made elsewhere. Probabilities have seven significant
//! digits, unless the table would be another; scores and seconds are whole.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::CompareError;
use super::cell_results::{CellResults, RowResults, ScoresAtTemperature};
use super::chosen::Trial;
use super::comparison::{ComparisonResults, FailedCell};
use super::detection::SetUncertainty;
use super::digits::with_digits;
use super::form::Form;
use super::results::{ElsewhereResults, TaskResults};
use super::scores::RowScores;
use ivon_lora::files;
use ivon_lora::metrics::{Predictions, TokenSums};

/// The version of the file.
pub const RESULTS_FORMAT: u32 = 1;
/// The largest file that is read, bytes.
const LARGEST_FILE: u64 = 32 << 20;
/// The most that it may unpack to, bytes.
const LARGEST_UNPACKED: u64 = 128 << 20;
/// The longest line, bytes.
const LONGEST_LINE: u64 = 16 << 20;
/// The most probabilities of the yardstick that has the same for every example.
const MOST_PROBABILITIES: usize = 1 << 24;
/// The most cells of all tasks together.
const MOST_CELLS: usize = 10_000;
/// Significant digits of a probability.
const DIGITS: usize = 7;
/// How far the scores of rounded predictions may be from those that were written.
const TOLERANCE: f64 = 1e-4;

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Comparison(Head),
    Task(TaskHead),
    Cell(CellResults),
    Elsewhere(ElsewhereResults),
}

/// What is said of the whole comparison.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format_version: u32,
    /// The program that wrote it.
    program: String,
    /// The file of the comparison, as TOML.
    file: String,
    temperature: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    against: Option<String>,
    trials: Vec<Trial>,
    failed: Vec<FailedCell>,
    is_interrupted: bool,
}

/// What is said of a task beside its cells.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskHead {
    name: String,
    ids: Vec<String>,
    labels: Vec<usize>,
    majority: Option<Vec<f64>>,
    base: Option<RowScores>,
}

impl ComparisonResults {
    /// Writes the results as one compressed file.
    ///
    /// # Errors
    /// If predictions are no distributions, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CompareError> {
        let rounded = self.rounded(DIGITS);
        let results = match rounded.is_as_good_as(self)? {
            true => &rounded,
            false => self,
        };
        Ok(files::write_with(path, |file| results.pack(file))?)
    }

    /// Whether rounded predictions still have their scores, and make the same table.
    fn is_as_good_as(&self, whole: &Self) -> Result<bool, CompareError> {
        let is_good = |task: &TaskResults| {
            let of_cell = |cell: &CellResults| check_cell(cell, task).is_ok();
            let elsewhere = |one: &ElsewhereResults| check_elsewhere(one, &task.labels).is_ok();
            task.cells.iter().all(of_cell) && task.elsewhere.iter().all(elsewhere)
        };
        let has_scores = self.tasks.iter().all(is_good);
        Ok(has_scores && self.comparison()?.table == whole.comparison()?.table)
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// If the file cannot be read, is too large, or holds no results.
    pub fn read(path: &Path) -> Result<Self, CompareError> {
        let bytes = files::read_bytes(path, LARGEST_FILE)?;
        let unpacked = GzDecoder::new(&bytes[..]).take(LARGEST_UNPACKED + 1);
        unpack(BufReader::new(unpacked)).map_err(|reason| CompareError::Results {
            path: path.into(),
            reason,
        })
    }

    /// The same with probabilities of so many significant digits.
    fn rounded(&self, digits: usize) -> Self {
        let mut rounded = self.clone();
        for task in &mut rounded.tasks {
            let of_cells = task.cells.iter_mut().flat_map(|cell| &mut cell.rows);
            let of_cells = of_cells.map(|row| &mut row.probabilities);
            let elsewhere = task.elsewhere.iter_mut().map(|one| &mut one.probabilities);
            of_cells
                .chain(elsewhere)
                .flatten()
                .flatten()
                .for_each(|value| *value = with_digits(*value, digits));
        }
        rounded
    }

    fn pack(&self, file: impl Write) -> io::Result<()> {
        let mut packed = GzEncoder::new(file, Compression::best());
        for line in self.lines() {
            serde_json::to_writer(&mut packed, &line)?;
            packed.write_all(b"\n")?;
        }
        packed.finish()?.flush()
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![Line::Comparison(Head {
            format_version: RESULTS_FORMAT,
            program: concat!("ivon-lora ", env!("CARGO_PKG_VERSION")).into(),
            file: self.file.clone(),
            temperature: self.temperature,
            against: self.against.clone(),
            trials: self.trials.clone(),
            failed: self.failed.clone(),
            is_interrupted: self.is_interrupted,
        })];
        for task in &self.tasks {
            lines.push(Line::Task(TaskHead {
                name: task.name.clone(),
                ids: task.ids.clone(),
                labels: task.labels.clone(),
                majority: task.majority.clone(),
                base: task.base,
            }));
            lines.extend(task.cells.iter().cloned().map(Line::Cell));
            lines.extend(task.elsewhere.iter().cloned().map(Line::Elsewhere));
        }
        lines
    }
}

/// The results of unpacked lines; a reason where there are none.
pub fn unpack(mut lines: impl BufRead) -> Result<ComparisonResults, String> {
    let mut results: Option<ComparisonResults> = None;
    let (mut number, mut cells, mut bytes) = (0, 0, 0);
    loop {
        let mut line = Vec::new();
        let read = (&mut lines)
            .take(LONGEST_LINE + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| format!("it could not be unpacked: {error}"))?;
        (number, bytes) = (number + 1, bytes + read as u64);
        if read == 0 {
            break;
        }
        let too_long = |what: &str, limit: u64| {
            Err(format!(
                "{what} more than {} MB, expected at most that",
                limit >> 20
            ))
        };
        if read as u64 > LONGEST_LINE {
            return too_long(&format!("line {number} has"), LONGEST_LINE);
        }
        if bytes > LARGEST_UNPACKED {
            return too_long("it unpacks to", LARGEST_UNPACKED);
        }
        let line =
            serde_json::from_slice(&line).map_err(|error| format!("line {number}: {error}"))?;
        cells += usize::from(matches!(line, Line::Cell(_) | Line::Elsewhere(_)));
        if cells > MOST_CELLS {
            return Err(format!(
                "it has more than {MOST_CELLS} cells, expected at most that"
            ));
        }
        add(&mut results, line).map_err(|reason| format!("line {number}: {reason}"))?;
    }
    results.ok_or_else(|| "it is empty".into())
}

/// Adds a line to what the lines before it came to.
fn add(results: &mut Option<ComparisonResults>, line: Line) -> Result<(), String> {
    match (results.as_mut(), line) {
        (None, Line::Comparison(head)) => {
            *results = Some(begun(head)?);
            Ok(())
        }
        (Some(results), Line::Task(head)) => {
            results.tasks.push(task(head)?);
            Ok(())
        }
        (Some(results), Line::Cell(cell)) => {
            let task = results.tasks.last_mut().ok_or("a cell before its task")?;
            check_cell(&cell, task)?;
            task.cells.push(cell);
            Ok(())
        }
        (Some(results), Line::Elsewhere(one)) => {
            let task = results.tasks.last_mut().ok_or("a cell before its task")?;
            check_elsewhere(&one, &task.labels)?;
            task.elsewhere.push(one);
            Ok(())
        }
        (None, _) => Err("expected the comparison before its tasks".into()),
        (Some(_), Line::Comparison(_)) => Err("a second comparison, expected one".into()),
    }
}

fn begun(head: Head) -> Result<ComparisonResults, String> {
    let version = head.format_version;
    if version > RESULTS_FORMAT {
        return Err(format!(
            "format version {version} of `{}`, expected at most {RESULTS_FORMAT}",
            head.program
        ));
    }
    Ok(ComparisonResults {
        file: head.file,
        temperature: head.temperature,
        against: head.against,
        tasks: Vec::new(),
        trials: head.trials,
        failed: head.failed,
        is_interrupted: head.is_interrupted,
    })
}

fn task(head: TaskHead) -> Result<TaskResults, String> {
    let (ids, labels) = (head.ids.len(), head.labels.len());
    // Texts have none.
    if ids != labels && labels > 0 {
        return Err(format!("{ids} ids with {labels} labels, expected as many"));
    }
    if let Some(majority) = &head.majority {
        let count = majority.len().saturating_mul(labels);
        if count > MOST_PROBABILITIES {
            return Err(format!(
                "{labels} examples of {} choices, expected at most {MOST_PROBABILITIES} probabilities",
                majority.len()
            ));
        }
        let rows = vec![majority.clone(); labels];
        Predictions::from_probabilities(rows, head.labels.clone())
            .map_err(|error| format!("the frequencies of the answers: {error}"))?;
    }
    Ok(TaskResults {
        ids: head.ids,
        labels: head.labels,
        majority: head.majority,
        base: head.base,
        ..TaskResults::new(&head.name)
    })
}

/// Checks that the rows of a cell are predictions of the examples, with the scores that they have.
fn check_cell(cell: &CellResults, task: &TaskResults) -> Result<(), String> {
    for row in &cell.rows {
        let what = format!("`{}`, seed {}", row.name, cell.seed);
        if !matches!(row.form, Form::Mean | Form::Samples) {
            return Err(format!("{what} is neither at the mean nor of samples"));
        }
        let rows = row.probabilities.len() + row.tokens.len();
        check_count(&what, rows, task.ids.len())?;
        if !row.tokens.iter().all(TokenSums::is_valid) {
            return Err(format!("{what} has sums that are no text's"));
        }
        let predicted = row.predicted(&task.labels);
        let predicted = predicted.map_err(|error| format!("{what}: {error}"))?;
        check_scores(&what, &row.scores, &predicted.scores())?;
        check_temperature(&what, row)?;
    }
    cell.other_sets
        .iter()
        .try_for_each(|one| check_set(one, task.ids.len()))
}

/// Checks that an uncertainty is one of the examples.
fn check_set(one: &SetUncertainty, examples: usize) -> Result<(), String> {
    let (own, is_trained) = (one.own.len(), Form::TRAINED.contains(&one.form));
    match own == examples && is_trained && !one.other.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "`{}` beside {own} test rows, expected {examples}, and rows of its own",
            one.set
        )),
    }
}

fn check_elsewhere(one: &ElsewhereResults, labels: &[usize]) -> Result<(), String> {
    let what = format!("`{}`, seed {}", one.method, one.seed);
    check_count(&what, one.probabilities.len(), labels.len())?;
    let rows = one.probabilities.clone();
    let predictions = Predictions::from_probabilities(rows, labels.to_vec())
        .map_err(|error| format!("{what}: {error}"))?;
    check_scores(&what, &one.scores, &RowScores::from(&predictions))
}

fn check_temperature(what: &str, row: &RowResults) -> Result<(), String> {
    match row.at_temperature {
        Some(ScoresAtTemperature { temperature, .. })
            if !(temperature.is_finite() && temperature > 0.0) =>
        {
            Err(format!(
                "{what} has the temperature {temperature}, expected one above 0"
            ))
        }
        _ => Ok(()),
    }
}

fn check_count(what: &str, rows: usize, examples: usize) -> Result<(), String> {
    match rows == examples {
        true => Ok(()),
        false => Err(format!(
            "{what} has {rows} predictions, expected {examples}"
        )),
    }
}

fn check_scores(what: &str, scores: &RowScores, found: &RowScores) -> Result<(), String> {
    let pairs = [
        ("accuracy", scores.accuracy, found.accuracy),
        ("NLL", scores.nll, found.nll),
        ("Brier score", scores.brier, found.brier),
        ("ECE", scores.ece, found.ece),
        ("AURC", scores.aurc, found.aurc),
        ("error at 80 %", scores.error_at_80, found.error_at_80),
    ];
    for (name, written, found) in pairs {
        let is_near = (written - found).abs() <= TOLERANCE * (1.0 + found.abs());
        // An infinite loss has no number in JSON.
        if !is_near && found.is_finite() {
            return Err(format!(
                "{what} has the {name} {written}, its predictions {found}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Measure;

    /// Two methods on three examples with two seeds, and one that was made elsewhere.
    fn results() -> ComparisonResults {
        let labels = vec![0, 1, 1];
        let row = |shift: f64, form, name: &str| {
            let probabilities: Vec<Vec<f64>> = [0.1, 0.2, 0.3]
                .map(|p| vec![p + shift, 1.0 - (p + shift)])
                .into();
            let predictions =
                Predictions::from_probabilities(probabilities.clone(), labels.clone()).unwrap();
            RowResults {
                form,
                name: name.into(),
                scores: RowScores::from(&predictions),
                at_temperature: Some(ScoresAtTemperature {
                    temperature: 1.0,
                    scores: RowScores::from(&predictions),
                }),
                probabilities,
                tokens: Vec::new(),
                seconds: Some(0.5),
                extra: Some(3),
            }
        };
        let cell = |seed: u64| CellResults {
            method: "IVON".into(),
            seed,
            optimizer: "ivon".into(),
            settings: "seed = 1\n".into(),
            seconds: 2.0 / 3.0,
            calibrate_labels: 0,
            other_sets: vec![SetUncertainty {
                set: "premises".into(),
                form: Form::Samples,
                measure: Measure::Entropy,
                own: vec![0.1, 0.2, 0.3],
                other: vec![0.25, 0.5],
            }],
            rows: vec![
                row(seed as f64 / 7.0, Form::Mean, "IVON, mean"),
                row(seed as f64 / 9.0, Form::Samples, "IVON, 2 samples"),
            ],
        };
        let mut task = TaskResults {
            ids: vec!["a".into(), "b".into(), "c".into()],
            labels: labels.clone(),
            majority: Some(vec![0.4, 0.6]),
            cells: vec![cell(1), cell(2)],
            ..TaskResults::new("films")
        };
        let theirs = Predictions::from_probabilities(vec![vec![1.0 / 3.0, 2.0 / 3.0]; 3], labels);
        task.add_elsewhere("Theirs", 1, &theirs.unwrap());
        ComparisonResults {
            file: "out = 'x'\n".into(),
            temperature: true,
            against: Some("IVON, mean".into()),
            tasks: vec![task],
            trials: vec![],
            failed: vec![FailedCell {
                name: "films, SWAG, seed 1".into(),
                reason: "no".into(),
            }],
            is_interrupted: false,
        }
    }

    fn packed(results: &ComparisonResults) -> Vec<String> {
        let line = |line: &Line| serde_json::to_string(line).unwrap();
        results.lines().iter().map(line).collect()
    }

    fn refused(lines: &[String]) -> String {
        unpack(lines.join("\n").as_bytes()).unwrap_err()
    }

    #[test]
    fn a_packed_comparison_makes_the_same_table_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl.gz");
        let whole = results();
        whole.write(&path).unwrap();
        let again = ComparisonResults::read(&path).unwrap();
        let [one, other] = [&whole, &again].map(|results| results.comparison().unwrap());
        assert_eq!(one.table, other.table);
        assert_eq!(one.table.to_csv(), other.table.to_csv());
        assert_eq!(one.failed, other.failed);
        assert_eq!(again.tasks[0].ids, ["a", "b", "c"]);
        // Seven digits are enough here.
        assert_eq!(
            again.tasks[0].elsewhere[0].probabilities[0],
            [0.3333333, 0.6666667]
        );
    }

    #[test]
    fn predictions_that_rounding_would_change_keep_all_their_digits() {
        let mut whole = results();
        let task = &mut whole.tasks[0];
        // Rounded to 0.5 the answer of the first example would be the other one.
        let rows = vec![vec![0.499_999_999_9, 0.500_000_000_1]; 3];
        let predictions = Predictions::from_probabilities(rows.clone(), vec![0, 1, 1]).unwrap();
        task.elsewhere.clear();
        task.add_elsewhere("Undecided", 1, &predictions);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl.gz");
        whole.write(&path).unwrap();
        let again = ComparisonResults::read(&path).unwrap();
        assert_eq!(again.tasks[0].elsewhere[0].probabilities, rows);
    }

    #[test]
    fn lines_that_do_not_belong_together_are_refused() {
        let lines = packed(&results());
        let [head, task, cell] = [0, 1, 2].map(|index: usize| lines[index].clone());
        assert_eq!(refused(&[]), "it is empty");
        assert_eq!(
            refused(std::slice::from_ref(&task)),
            "line 1: expected the comparison before its tasks"
        );
        assert_eq!(
            refused(&[head.clone(), head.clone()]),
            "line 2: a second comparison, expected one"
        );
        assert_eq!(
            refused(&[head.clone(), cell.clone()]),
            "line 2: a cell before its task"
        );
        let newer = head.replace("\"format_version\":1", "\"format_version\":2");
        assert!(refused(&[newer]).starts_with("line 1: format version 2 of `ivon-lora "),);
        let other = task.replace("[0,1,1]", "[0,1]");
        assert_eq!(
            refused(&[head.clone(), other]),
            "line 2: 3 ids with 2 labels, expected as many"
        );
        assert!(refused(&[head.clone(), "{\"cell\":3}".into()]).starts_with("line 2: "));
    }

    #[test]
    fn a_cell_whose_predictions_are_not_those_of_its_scores_is_refused() {
        let of = |change: fn(&mut RowResults)| {
            let mut results = results();
            change(&mut results.tasks[0].cells[0].rows[0]);
            refused(&packed(&results))
        };
        assert_eq!(
            of(|row| row.scores.nll = 7.0).split(", its").next(),
            Some("line 3: `IVON, mean`, seed 1 has the NLL 7")
        );
        assert_eq!(
            of(|row| _ = row.probabilities.pop()),
            "line 3: `IVON, mean`, seed 1 has 2 predictions, expected 3"
        );
        assert!(of(|row| row.probabilities[1] = vec![1.0, 1.0]).contains("sum to 2"));
        assert!(of(|row| row.form = Form::Yardstick).ends_with("nor of samples"));
        let cold = |row: &mut RowResults| {
            row.at_temperature.as_mut().unwrap().temperature = 0.0;
        };
        assert!(of(cold).ends_with("has the temperature 0, expected one above 0"));
    }

    #[test]
    fn what_is_no_packed_comparison_or_unpacks_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl.gz");
        let reason = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            ComparisonResults::read(&path).unwrap_err().to_string()
        };
        assert!(reason(b"out = 'x'\n").contains("it could not be unpacked: "));
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![b' '; LONGEST_LINE as usize + 2])
            .unwrap();
        let message = reason(&bomb.finish().unwrap());
        assert!(
            message.ends_with("line 1 has more than 16 MB, expected at most that"),
            "{message}"
        );
    }
}
