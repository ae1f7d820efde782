//! Encoded examples → one packed batch → log-probabilities of their choices `[B, C]`.
//!
//! A choice of one token is scored by its logit at the prompt's last position. A whole answer a₁ … aₖ is scored
//! by Σ ln p(aⱼ | prompt, a₁ … aⱼ₋₁): the prompt stands once in the batch, its answers below it, and the whole
//! vocabulary is normalised over, in parts. Both are normalised over the choices in the end; for answers of
//! one token the two agree, since the vocabulary's normaliser cancels.

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use crate::data::{Batch, Choices, Encoded};
use crate::forward::{LowRank, Network};
use crate::random::fnv1a;

/// A common beginning is worth a segment of its own from this many tokens.
const SHORTEST_PREFIX: usize = 4;
/// Rows of the output table that are multiplied at a time when all of them are asked for.
const VOCABULARY_PART: usize = 8192;
/// Stands for a choice that a question does not have; far below any logit, and finite.
const ABSENT: f32 = -1e30;

/// Questions packed for one forward pass.
#[derive(Clone, Debug)]
pub struct Questions {
    /// Their tokens.
    pub batch: Batch,
    /// For each question and choice the tokens that score it: (row among the asked positions, token).
    scored: Vec<Vec<Vec<(usize, u32)>>>,
    /// Whether some choice has several tokens.
    whole_answers: bool,
}

impl Questions {
    /// Packs examples: a beginning that all share stands once, each prompt once, whole answers below their prompt.
    pub fn pack(examples: &[&Encoded]) -> Self {
        let mut batch = Batch::default();
        let shared = common_prefix(examples);
        let root = (shared >= SHORTEST_PREFIX && examples.len() > 1).then(|| {
            let tokens = &examples[0].tokens[..shared];
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            batch.push(tokens, None, fnv1a(&bytes))
        });
        let own = if root.is_some() { shared } else { 0 };
        let whole_answers = examples.iter().any(|example| matches!(example.choices, Choices::Answers(_)));
        let mut scored = Vec::with_capacity(examples.len());
        for example in examples {
            let prompt = batch.push(&example.tokens[own..], root, example.key);
            let first = batch.ask_last(prompt);
            scored.push(match &example.choices {
                Choices::Tokens(tokens) => tokens.iter().map(|&token| vec![(first, token)]).collect(),
                Choices::Answers(answers) => {
                    answers.iter().map(|answer| answer_rows(&mut batch, prompt, first, answer, example.key)).collect()
                }
            });
        }
        Self { batch, scored, whole_answers }
    }

    /// The number of questions.
    pub fn len(&self) -> usize {
        self.scored.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scored.is_empty()
    }

    /// The number of choices of a question.
    pub fn choices(&self, question: usize) -> usize {
        self.scored[question].len()
    }

    fn most_choices(&self) -> usize {
        self.scored.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Tokens at the beginning that all examples share; each keeps at least one of its own.
fn common_prefix(examples: &[&Encoded]) -> usize {
    let Some((first, rest)) = examples.split_first() else { return 0 };
    rest.iter().fold(first.tokens.len() - 1, |shared, other| {
        let equal = first.tokens.iter().zip(&other.tokens).take_while(|(a, b)| a == b).count();
        shared.min(equal).min(other.tokens.len() - 1)
    })
}

/// Puts all but the last token of an answer below its prompt and asks for what predicts each token.
fn answer_rows(batch: &mut Batch, prompt: usize, first: usize, answer: &[u32], key: u64) -> Vec<(usize, u32)> {
    let (before, last) = answer.split_at(answer.len() - 1);
    let mut rows = vec![first];
    if !before.is_empty() {
        let segment = batch.push(before, Some(prompt), key);
        let start = batch.segments[segment].start;
        for token in start..start + before.len() {
            batch.asked.push(token);
            rows.push(batch.asked.len() - 1);
        }
    }
    rows.into_iter().zip(before.iter().chain(last).copied()).collect()
}

/// Log-probabilities over the choices, `[B, C]` with C the most choices of a question, nats; choices that a
/// question does not have are about −10³⁰. Tracked if the adapter is.
pub fn choice_log_probabilities(network: &Network, low_rank: LowRank<'_>, questions: &Questions) -> Tensor<2> {
    let hidden = network.hidden(&questions.batch, low_rank);
    let scores = if questions.whole_answers { answer_scores(network, hidden, questions) } else { token_scores(network, hidden, questions) };
    log_softmax(scores, 1)
}

/// Logits of one token per choice, `[B, C]`.
fn token_scores(network: &Network, hidden: Tensor<2>, questions: &Questions) -> Tensor<2> {
    let mut tokens: Vec<u32> = questions.scored.iter().flatten().flatten().map(|&(_, token)| token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let (count, width) = (questions.len(), questions.most_choices());
    let device = hidden.device().without_autodiff();
    let logits = network.logits_of(hidden, &tokens);
    let mut columns = vec![0i64; count * width];
    let mut absent = vec![ABSENT; count * width];
    for (question, choices) in questions.scored.iter().enumerate() {
        for (choice, rows) in choices.iter().enumerate() {
            columns[question * width + choice] = tokens.partition_point(|&token| token < rows[0].1) as i64;
            absent[question * width + choice] = 0.0;
        }
    }
    // Without answers below them, prompts are asked in their order: row q of the logits is question q.
    let columns = Tensor::<2, Int>::from_data(TensorData::new(columns, [count, width]), &device);
    logits.gather(1, columns) + Tensor::<2>::from_data(TensorData::new(absent, [count, width]), &device)
}

/// Σ ln p(token) of all tokens of each answer, `[B, C]`.
fn answer_scores(network: &Network, hidden: Tensor<2>, questions: &Questions) -> Tensor<2> {
    let (count, width) = (questions.len(), questions.most_choices());
    let device = hidden.device().without_autodiff();
    let (mut rows, mut tokens, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut absent = vec![ABSENT; count * width];
    for (question, choices) in questions.scored.iter().enumerate() {
        for (choice, scored) in choices.iter().enumerate() {
            absent[question * width + choice] = 0.0;
            for &(row, token) in scored {
                rows.push(row as i64);
                tokens.push(token);
                places.push((question * width + choice) as i64);
            }
        }
    }
    let indices = |values: Vec<i64>| {
        let len = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [len]), &device)
    };
    let rows = indices(rows);
    let normaliser = log_normaliser(network, hidden.clone()).select(0, rows.clone());
    let logits = network.logits_at(hidden.select(0, rows), &tokens);
    let absent = Tensor::<1>::from_data(TensorData::new(absent, [count * width]), &device);
    absent.select_assign(0, indices(places), logits - normaliser, IndexingUpdateOp::Add).reshape([count, width])
}

/// ln Σ exp(logits) over the whole vocabulary, `[S]`, a part of the output table at a time.
fn log_normaliser(network: &Network, hidden: Tensor<2>) -> Tensor<1> {
    let size = network.config().vocab_size as u32;
    let parts: Vec<Tensor<2>> = (0..size)
        .step_by(VOCABULARY_PART)
        .map(|start| {
            let part: Vec<u32> = (start..size.min(start + VOCABULARY_PART as u32)).collect();
            log_sum_exp(network.logits_of(hidden.clone(), &part))
        })
        .collect();
    log_sum_exp(Tensor::cat(parts, 1)).squeeze_dim::<1>(1)
}

/// ln Σ exp along the last dimension, `[S, n]` → `[S, 1]`.
fn log_sum_exp(logits: Tensor<2>) -> Tensor<2> {
    let largest = logits.clone().detach().max_dim(1);
    (logits - largest.clone()).exp().sum_dim(1).log() + largest
}
