//! Numbers and records as short text.

use std::time::Duration;

use ivon_lora::metrics::MainScores;
use ivon_lora::watch::EvaluationRecord;

/// `45 s`, `3 min`, `2 h 5 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `134,515,008`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `512 B`, `1.5 kB`, `271.0 MB`.
pub fn bytes(number: u64) -> String {
    let mut size = number as f64;
    if number < 1000 {
        return format!("{number} B");
    }
    for unit in ["kB", "MB", "GB"] {
        size /= 1000.0;
        if size < 999.95 {
            return format!("{size:.1} {unit}");
        }
    }
    format!("{:.1} TB", size / 1000.0)
}

/// The scores of an evaluation during training, on one line.
pub fn evaluation(record: &EvaluationRecord) -> String {
    let scores = |scores: &MainScores| {
        format!(
            "accuracy {:.3}, NLL {:.3}, ECE {:.3}, Brier {:.3}",
            scores.accuracy, scores.nll, scores.ece, scores.brier
        )
    };
    let evaluation = &record.evaluation;
    let sampled = evaluation.sampled.map_or_else(String::new, |sampled| {
        format!("; {} samples: {}", sampled.samples, scores(&sampled.scores))
    });
    format!(
        "step {}: {} ({} examples): {}{sampled}",
        record.step,
        evaluation.split,
        evaluation.n,
        scores(&evaluation.mean)
    )
}

#[cfg(test)]
mod tests {
    use ivon_lora::watch::Evaluation;

    use super::*;

    #[test]
    fn numbers_read_easily() {
        assert_eq!(
            [0, 999, 1000, 134_515_008].map(count),
            ["0", "999", "1,000", "134,515,008"]
        );
        assert_eq!(
            [512, 1500, 270_998_528, 4_000_000_000_000].map(bytes),
            ["512 B", "1.5 kB", "271.0 MB", "4.0 TB"]
        );
        assert_eq!(
            [5, 59, 150, 7500].map(|s| duration(Duration::from_secs(s))),
            ["5 s", "59 s", "3 min", "2 h 5 min"]
        );
    }

    #[test]
    fn an_evaluation_is_one_line() {
        let mean = MainScores {
            accuracy: 0.5,
            nll: 0.7,
            ece: 0.1,
            brier: 0.5,
        };
        let record = EvaluationRecord {
            step: 40,
            evaluation: Evaluation {
                split: "tune".into(),
                n: 4,
                mean,
                sampled: None,
            },
        };
        assert_eq!(
            evaluation(&record),
            "step 40: tune (4 examples): accuracy 0.500, NLL 0.700, ECE 0.100, Brier 0.500"
        );
    }
}
