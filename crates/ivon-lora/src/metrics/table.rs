//! Rows of scores → a table as text or as Markdown, and one sentence for a reader who does not know
//! the scores.

use super::calibration::BINS;
use super::scores::Scores;
use super::selective::SelectivePoint;

/// A table: a head, and rows of the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Column names.
    pub head: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As text with columns aligned by spaces: the first to the left, the others to the right.
    pub fn to_text(&self) -> String {
        let widths = self.widths();
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| pad(cell, *width, column == 0));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
        };
        std::iter::once(&self.head)
            .chain(&self.rows)
            .map(line)
            .collect()
    }

    /// As Markdown, with columns aligned likewise.
    pub fn to_markdown(&self) -> String {
        let line = |row: &Vec<String>| {
            format!(
                "| {} |\n",
                row.iter()
                    .map(|cell| cell.replace('|', "\\|"))
                    .collect::<Vec<_>>()
                    .join(" | ")
            )
        };
        let rule: Vec<&str> = (0..self.head.len())
            .map(|column| if column == 0 { "---" } else { "---:" })
            .collect();
        let body: String = self.rows.iter().map(line).collect();
        format!("{}|{}|\n{body}", line(&self.head), rule.join("|"))
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = std::iter::once(&self.head)
                .chain(&self.rows)
                .filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.head.len()).map(width).collect()
    }
}

fn pad(cell: &str, width: usize, left: bool) -> String {
    // `format!` counts characters, as `widths` does.
    if left {
        format!("{cell:<width$}")
    } else {
        format!("{cell:>width$}")
    }
}

/// Mean, and standard error sd/√n (sd with n − 1) if there are several values.
pub fn mean_and_standard_error(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (
        mean,
        (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()),
    )
}

/// `0.853 ± 0.004`, or `0.853` for a single value.
fn with_error(values: &[f64]) -> String {
    match mean_and_standard_error(values) {
        (mean, Some(error)) => format!("{mean:.3} ± {error:.3}"),
        (mean, None) => format!("{mean:.3}"),
    }
}

/// A row for each name with its scores averaged over seeds, with standard errors: accuracy, NLL, ECE,
/// Brier.
pub fn score_table(rows: &[(String, Vec<&Scores>)]) -> Table {
    let first = rows.iter().flat_map(|(_, scores)| scores).next();
    let bins = first.map_or(BINS, |scores| scores.num_bins);
    let ece = format!("ECE ({bins} bins)");
    let head = ["", "accuracy", "NLL (nats)", &ece, "Brier", "n", "seeds"];
    Table {
        head: head.map(String::from).to_vec(),
        rows: rows
            .iter()
            .map(|(name, scores)| score_row(name, scores))
            .collect(),
    }
}

fn score_row(name: &str, scores: &[&Scores]) -> Vec<String> {
    let of = |field: fn(&Scores) -> f64| {
        let values = scores.iter().map(|scores| field(scores));
        with_error(&values.collect::<Vec<_>>())
    };
    let n = scores.first().map_or(0, |scores| scores.n);
    vec![
        name.into(),
        of(|scores| scores.accuracy),
        of(|scores| scores.nll),
        of(|scores| scores.ece),
        of(|scores| scores.brier),
        n.to_string(),
        scores.len().to_string(),
    ]
}

/// "leave the least certain 20 % to a human and the rest is right 91 % of the time (84 % when all
/// are answered)". `point` is a point of the selective curve, `accuracy` that of all answers. If
/// leaving out does not help, the sentence says so.
pub fn sentence_for_a_stranger(point: SelectivePoint, accuracy: f64) -> String {
    let (left, right, all) = (
        100.0 * (1.0 - point.coverage),
        100.0 * point.accuracy,
        100.0 * accuracy,
    );
    if point.accuracy > accuracy {
        return format!(
            "leave the least certain {left:.0} % to a human and the rest is right {right:.0} % of the time ({all:.0} % when all are answered)"
        );
    }
    format!(
        "it is right {all:.0} % of the time, and leaving the least certain {left:.0} % to a human does not help ({right:.0} % of the rest is right)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Bootstrap, Predictions};

    fn scores(p: f64) -> Scores {
        let predictions =
            Predictions::from_probabilities(vec![vec![p, 1.0 - p]; 4], vec![0, 0, 0, 1]).unwrap();
        Scores::of(
            &predictions,
            true,
            &Bootstrap {
                resamples: 10,
                ..Bootstrap::default()
            },
        )
    }

    #[test]
    fn a_table_aligns_in_text_and_in_markdown() {
        let (one, two) = (scores(0.75), scores(0.5));
        let table = score_table(&[
            ("IVON, 10 samples".into(), vec![&one, &two]),
            ("AdamW".into(), vec![&one]),
        ]);
        let text = table.to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "                       accuracy     NLL (nats)  ECE (10 bins)          Brier  n  seeds"
        );
        assert_eq!(
            lines[1],
            "IVON, 10 samples  0.750 ± 0.000  0.628 ± 0.065  0.125 ± 0.125  0.438 ± 0.062  4      2"
        );
        assert_eq!(
            lines[2],
            "AdamW                     0.750          0.562          0.000          0.375  4      1"
        );
        assert!(
            table.to_markdown().starts_with(
                "|  | accuracy | NLL (nats) | ECE (10 bins) | Brier | n | seeds |\n|---|---:|---:|---:|---:|---:|---:|\n| IVON"
            )
        );
    }

    #[test]
    fn the_standard_error_is_sd_over_root_n() {
        assert_eq!(mean_and_standard_error(&[1.0, 3.0]), (2.0, Some(1.0)));
        assert_eq!(mean_and_standard_error(&[1.0]), (1.0, None));
    }

    #[test]
    fn the_sentence_is_honest() {
        let sentence = sentence_for_a_stranger(
            SelectivePoint {
                coverage: 0.8,
                accuracy: 0.91,
            },
            0.84,
        );
        assert_eq!(
            sentence,
            "leave the least certain 20 % to a human and the rest is right 91 % of the time (84 % when all are answered)"
        );
        let vain = sentence_for_a_stranger(
            SelectivePoint {
                coverage: 0.8,
                accuracy: 0.5,
            },
            0.5,
        );
        assert_eq!(
            vain,
            "it is right 50 % of the time, and leaving the least certain 20 % to a human does not help (50 % of the rest is right)"
        );
    }
}
