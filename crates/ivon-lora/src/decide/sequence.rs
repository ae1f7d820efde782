//! Hypotheses in sequences, each with a p-value → those that can be rejected with a bounded
//! probability that any of them is true.

/// How many of each sequence's hypotheses are rejected, from its first on, such that with
/// probability 1 − `level` at least no true hypothesis is among them.
///
/// A sequence is tested in its order until a p-value is above its share of the level (fixed-sequence
/// testing; Angelopoulos et al. 2021, arXiv 2110.01052, algorithm 1, with one sequence for each of
/// its starts). The shares are equal, by Bonferroni over *all* sequences; a sequence of which
/// everything is rejected passes its share on to the others, as in Holm's procedure, which this is if
/// every sequence has one hypothesis (Bretz et al. 2009, doi 10.1002/sim.3495).
///
/// The hypotheses and their order must be fixed before the labels behind the p-values are seen.
pub fn rejected(sequences: &[&[f64]], level: f64) -> Vec<usize> {
    let mut rejected = vec![0; sequences.len()];
    loop {
        let is_open = |&place: &usize| rejected[place] < sequences[place].len();
        let open: Vec<usize> = (0..sequences.len()).filter(is_open).collect();
        let share = level / open.len() as f64;
        let mut exhausted = 0;
        for &place in &open {
            let left = &sequences[place][rejected[place]..];
            let passed = left.iter().take_while(|&&p| p <= share).count();
            rejected[place] += passed;
            exhausted += usize::from(passed == left.len());
        }
        if exhausted == 0 {
            return rejected;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_ends_before_its_first_failure_and_never_takes_what_comes_after() {
        assert_eq!(rejected(&[&[0.01, 0.02, 0.2, 0.01]], 0.1), [2]);
        // A published search returned the last threshold that it tried, although it violates.
        assert_eq!(rejected(&[&[0.2, 0.01]], 0.1), [0]);
    }

    #[test]
    fn a_sequence_without_a_failure_is_rejected_to_its_end_and_not_at_index_0() {
        // A published search took the first violation's index, which is 0 if there is none.
        assert_eq!(rejected(&[&[0.01, 0.02, 0.03]], 0.1), [3]);
        assert_eq!(rejected(&[&[]], 0.1), [0]);
        assert_eq!(rejected(&[], 0.1), [0; 0]);
    }

    #[test]
    fn the_correction_is_for_all_sequences_and_not_for_one_fewer() {
        // Four at 0.1: a share of 0.025. At 0.1 / 3 the value 0.03 would pass.
        let sequences: [&[f64]; 4] = [&[0.03], &[0.5], &[0.5], &[0.5]];
        assert_eq!(rejected(&sequences, 0.1), [0, 0, 0, 0]);
        let sequences: [&[f64]; 4] = [&[0.025], &[0.5], &[0.5], &[0.5]];
        assert_eq!(rejected(&sequences, 0.1), [1, 0, 0, 0]);
    }

    #[test]
    fn with_one_hypothesis_each_it_is_holms_procedure() {
        // Sorted: 0.01 ≤ 0.1/4, 0.03 ≤ 0.1/3, 0.045 ≤ 0.1/2, 0.2 > 0.1.
        let sequences: [&[f64]; 4] = [&[0.045], &[0.2], &[0.01], &[0.03]];
        assert_eq!(rejected(&sequences, 0.1), [1, 0, 1, 1]);
        // The second of them fails: nothing after it is rejected, though 0.045 ≤ 0.1/2.
        let sequences: [&[f64]; 4] = [&[0.045], &[0.2], &[0.01], &[0.04]];
        assert_eq!(rejected(&sequences, 0.1), [0, 0, 1, 0]);
    }
}
