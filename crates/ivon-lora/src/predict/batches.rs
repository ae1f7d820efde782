//! A set of examples, divided into batches.

use crate::data::{Choices, Encoded};

/// Divides a set into batches of at most `batch_tokens` tokens, but at least one example; returns the
/// places of each batch's examples.
pub(super) fn batches(examples: &[Encoded], batch_tokens: usize) -> Vec<Vec<usize>> {
    // Packing wastes nothing on prompts of different lengths, but similar ones keep the tiles of the
    // attention even.
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&place| examples[place].tokens.len());
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut sum = 0;
    for place in order {
        let tokens = tokens(&examples[place]);
        match batches.last_mut() {
            Some(batch) if sum + tokens <= batch_tokens => {
                batch.push(place);
                sum += tokens;
            }
            _ => {
                batches.push(vec![place]);
                sum = tokens;
            }
        }
    }
    batches
}

/// Tokens of an example's prompt and its whole answers.
fn tokens(example: &Encoded) -> usize {
    let answers = match example.choices() {
        Some(Choices::Tokens(_)) | None => 0,
        Some(Choices::Answers(answers)) => answers.iter().map(Vec::len).sum(),
    };
    example.tokens.len() + answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Target;

    fn example(tokens: usize, choices: Choices) -> Encoded {
        Encoded {
            id: String::new(),
            key: 0,
            tokens: vec![1; tokens],
            target: Target::Choice {
                choices,
                label: None,
            },
        }
    }

    #[test]
    fn batches_hold_like_lengths_up_to_their_size_and_a_long_example_alone() {
        let of = |tokens| example(tokens, Choices::Tokens(vec![1, 2]));
        let whole = example(2, Choices::Answers(vec![vec![1, 2], vec![3]]));
        let examples = [of(9), of(3), of(4), whole, of(30)];
        // 2 + 3 tokens of the whole answers, 3, 4, 9, 30.
        assert_eq!(batches(&examples, 12), [vec![3, 1, 2], vec![0], vec![4]]);
        assert_eq!(batches(&examples, 1).len(), 5);
        assert!(batches(&[], 12).is_empty());
    }
}
