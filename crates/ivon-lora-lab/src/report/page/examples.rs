//! Predictions → the few that are worth a look: the most uncertain, and the most confidently wrong.

/// The number of examples of each kind.
const SHOWN: usize = 10;
/// The largest number of characters of a text.
const LONGEST: usize = 600;

/// A prediction on a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExampleRow {
    /// The example's id.
    pub id: String,
    /// The right word, if it is known.
    pub label: Option<String>,
    /// The answer.
    pub answer: String,
    /// Its probability.
    pub confidence: f64,
    /// Entropy of the averaged probabilities, nats.
    pub entropy: f64,
    /// The part of it that comes from uncertain weights, nats.
    pub mutual_information: f64,
    /// Share of draws with another answer.
    pub disagreement: f64,
    /// The prompt, if the run has kept it.
    pub text: Option<String>,
}

/// The examples worth a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// By entropy, the most uncertain first.
    pub uncertain: Vec<ExampleRow>,
    /// Wrong answers by confidence, the most confident first.
    pub wrong: Vec<ExampleRow>,
}

impl Examples {
    /// The examples worth a look among these.
    pub fn of(rows: Vec<ExampleRow>) -> Self {
        let mut wrong: Vec<ExampleRow> = rows
            .iter()
            .filter(|row| row.label.as_ref().is_some_and(|label| *label != row.answer))
            .cloned()
            .collect();
        let mut uncertain = rows;
        uncertain.sort_by(|a, b| {
            b.entropy
                .total_cmp(&a.entropy)
                .then_with(|| a.id.cmp(&b.id))
        });
        wrong.sort_by(|a, b| {
            b.confidence
                .total_cmp(&a.confidence)
                .then_with(|| a.id.cmp(&b.id))
        });
        for rows in [&mut uncertain, &mut wrong] {
            rows.truncate(SHOWN);
            rows.iter_mut()
                .for_each(|row| row.text = row.text.take().map(|text| shortened(&text)));
        }
        Self { uncertain, wrong }
    }
}

/// At most [`LONGEST`] characters of a text: its beginning, and its end with the question.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= LONGEST {
        return text.into();
    }
    let (begin, end) = (LONGEST * 2 / 3, LONGEST / 3);
    let head: String = text.chars().take(begin).collect();
    let tail: String = text.chars().skip(count - end).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, label: &str, confidence: f64, entropy: f64) -> ExampleRow {
        ExampleRow {
            id: id.into(),
            label: Some(label.into()),
            answer: "yes".into(),
            confidence,
            entropy,
            ..ExampleRow::default()
        }
    }

    #[test]
    fn the_most_uncertain_and_the_surest_of_the_wrong_come_first() {
        let rows = vec![
            row("a", "yes", 0.9, 0.3),
            row("b", "no", 0.6, 0.6),
            row("c", "no", 0.99, 0.1),
            ExampleRow {
                label: None,
                ..row("d", "", 0.5, 0.69)
            },
        ];
        let found = Examples::of(rows);
        let ids = |rows: &[ExampleRow]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&found.uncertain), ids(&found.wrong)),
            (
                vec!["d".into(), "b".into(), "a".into(), "c".into()],
                vec!["c".to_string(), "b".into()]
            )
        );
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let text = format!("{}{}", "ä".repeat(5000), "end?");
        let short = shortened(&text);
        assert!(
            short.starts_with("ää")
                && short.ends_with("end?")
                && short.chars().count() == LONGEST + 3
        );
        assert_eq!(shortened("short"), "short");
    }
}
