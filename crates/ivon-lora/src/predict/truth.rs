//! P(True): the probability that the model itself gives its answer to be true, when it is asked
//! (Kadavath et al., arXiv 2207.05221, section 3.2), as the mean over draws.
//!
//! The question and the proposed answer stand in one text that ends where the model says `A`, true, or
//! `B`, false; of the two only their ratio counts.

use crate::data::Batch;
use crate::forward::Network;
use crate::lora::Draw;

/// The question whether an answer is true; the model answers after [`REPLY`].
pub fn truth_question(question: &str, answer: &str) -> String {
    let (question, answer) = (question.trim(), answer.trim());
    format!(
        "Question: {question}\nProposed answer: {answer}\nIs the proposed answer:\n (A) True\n (B) False\n"
    )
}

/// What comes before the letter.
pub const REPLY: &str = "The proposed answer is: (";
/// The letters for true and false.
pub const LETTERS: [&str; 2] = ["A", "B"];

/// p(A) / (p(A) + p(B)) as the token after `prompt`, the mean over `draws`, of which there is at least
/// one.
pub fn truth_probability(
    network: &Network,
    draws: &[Draw],
    prompt: &[u32],
    letters: [u32; 2],
) -> f64 {
    let mut batch = Batch::default();
    let segment = batch.push(prompt, None, 0);
    batch.ask_last(segment);
    let of = |draw: &Draw| {
        let hidden = network.hidden(&batch, draw);
        let logits = network.logits_of(&hidden, &letters).without_autodiff();
        let logits: Vec<f32> = logits.into_data().try_to_vec().unwrap_or_default();
        match logits[..] {
            [is_true, is_false] => 1.0 / (1.0 + f64::from(is_false - is_true).exp()),
            _ => f64::NAN,
        }
    };
    draws.iter().map(of).sum::<f64>() / draws.len() as f64
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::lora::read_peft;
    use crate::metrics::log_softmax;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::golden;

    #[test]
    fn it_is_the_share_of_one_letter_of_both_averaged_over_draws() {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        let network = Network::new(decoder, &Device::flex(), false);
        let folder = golden().join("tiny/llama/adapter");
        let peft = read_peft(&folder, network.config(), network.device()).unwrap();
        let draws = [Draw::base(), Draw::of(peft.adapter)];
        let share = |draw: &Draw| {
            let mut batch = Batch::default();
            let segment = batch.push(&[5, 6, 7], None, 0);
            batch.ask_last(segment);
            let all: Vec<u32> = (0..network.config().vocab_size as u32).collect();
            let logits = network.logits_of(&network.hidden(&batch, draw), &all);
            let logits: Vec<f32> = logits.into_data().try_to_vec().unwrap();
            let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
            let p = log_softmax(&logits, 1.0);
            p[11].exp() / (p[11].exp() + p[12].exp())
        };
        let expected = (share(&draws[0]) + share(&draws[1])) / 2.0;
        let found = truth_probability(&network, &draws, &[5, 6, 7], [11, 12]);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        assert!((found - 0.5).abs() > 1e-3);
    }
}
