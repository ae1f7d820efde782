//! Whether the first rows of a set, which a limit keeps, are another task than the whole set: a file
//! that is sorted by class begins with one class alone.

use super::task::Example;

/// The most that the share of a class may differ between the first rows and all, in standard
/// deviations of a random order: beyond it lies 1 order in 16,000.
const DEVIATIONS: f64 = 4.0;
/// A difference of shares that changes no task, unless the class is missing altogether.
const SMALL: f64 = 0.1;

/// A sentence about the class whose share among the first `limit` examples differs most from that
/// among all of them, if no random order explains it; `name` is the set's.
pub fn unlike_the_whole(name: &str, examples: &[Example], limit: usize) -> Option<String> {
    let taken = examples.get(..limit)?;
    let answers = &examples.first()?.answers;
    let same_answers = |example: &Example| example.answers == *answers;
    if limit == 0 || !examples.iter().all(same_answers) {
        return None;
    }
    let share = |rows: &[Example], class| {
        let count = rows.iter().filter(|row| row.label == Some(class)).count();
        count as f64 / rows.len() as f64
    };
    let all = (0..answers.len()).map(|class| (class, share(taken, class), share(examples, class)));
    let unlike = all.filter(|(_, first, whole)| differ(*first, *whole, limit));
    let size = |(_, first, whole): &(usize, f64, f64)| (first - whole).abs();
    let (class, first, whole) = unlike.max_by(|one, other| size(one).total_cmp(&size(other)))?;
    Some(format!(
        "the first {limit} of the {} rows of {name} are unlike the rest: {:.0} % have the label `{}`, of all rows {:.0} %; a file \
         that is sorted by class must be shuffled before its first rows can stand for it",
        examples.len(),
        100.0 * first,
        answers[class],
        100.0 * whole
    ))
}

/// Whether the share of a class among `count` first rows is not that of the whole file.
fn differ(first: f64, whole: f64, count: usize) -> bool {
    let deviation = (whole * (1.0 - whole) / count as f64).sqrt();
    let difference = (first - whole).abs();
    difference > DEVIATIONS * deviation && (difference > SMALL || first == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn rows(labels: impl Iterator<Item = usize>) -> Vec<Example> {
        let answers: Arc<[String]> = ["Negative".to_string(), "Positive".into()].into();
        let row = |(index, label): (usize, usize)| Example {
            label: Some(label),
            ..Example::from_prompt(index.to_string(), "", Arc::clone(&answers))
        };
        labels.enumerate().map(row).collect()
    }

    #[test]
    fn the_first_rows_of_a_sorted_file_are_another_task() {
        let sorted = rows((0..200).map(|row| usize::from(row >= 100)));
        let found = unlike_the_whole("train", &sorted, 40).unwrap();
        assert!(
            found.starts_with("the first 40 of the 200 rows of train are unlike the rest: "),
            "{found}"
        );
        // Of two classes that differ equally it is the last.
        let share = "0 % have the label `Positive`, of all rows 50 %";
        assert!(found.contains(share), "{found}");
        assert_eq!(unlike_the_whole("train", &sorted, 200), None);
        assert_eq!(unlike_the_whole("train", &sorted, 300), None);
    }

    #[test]
    fn a_rare_class_that_the_first_rows_lack_is_named() {
        let rare = rows((0..2000).map(|row| usize::from(row >= 1900)));
        let found = unlike_the_whole("test", &rare, 1000).unwrap();
        assert!(found.contains("of all rows "), "{found}");
        // Of 100 first rows five would be expected, and none is no wonder.
        assert_eq!(unlike_the_whole("test", &rare, 100), None);
    }

    #[test]
    fn rows_in_a_mixed_order_are_alike() {
        let mixed = rows((0..500).map(|row| row * 7 % 5 / 3));
        assert!(
            [1, 5, 20, 100, 400]
                .iter()
                .all(|limit| { unlike_the_whole("train", &mixed, *limit).is_none() })
        );
    }
}
