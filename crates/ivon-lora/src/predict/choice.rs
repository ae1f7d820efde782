//! Encoded examples → one packed batch → log-probabilities of their choices `[B, C]`.
//!
//! A choice of one token is scored by its logit at the prompt's last position. A whole answer a₁ …
//! aₖ is scored by Σ ln p(aⱼ | prompt, a₁ … aⱼ₋₁), normalised over the whole vocabulary, which is
//! done in parts; the prompt is in the batch once, its answers below it. Either score is then
//! normalised over the choices. For answers of one token the two agree, since the normaliser over the
//! vocabulary cancels.

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::error::PredictError;
use crate::data::{Batch, Choices, Encoded};
use crate::forward::{Hidden, Network};
use crate::lora::Draw;
use crate::random::fnv1a;

/// A shared beginning of at least this many tokens gets a segment of its own.
const SHORTEST_PREFIX: usize = 4;
/// The score of a choice that a question does not have: far below any logit, and finite.
const ABSENT: f32 = -1e30;

/// Questions packed for one forward pass.
#[derive(Clone, Debug)]
pub struct Questions {
    /// Their tokens.
    pub batch: Batch,
    /// The tokens that score each choice of each question: (row among the asked positions, token).
    scored: Vec<Vec<Vec<(usize, u32)>>>,
    /// Whether some choice has several tokens.
    whole_answers: bool,
}

impl Questions {
    /// Packs examples: first the beginning that all share, then each prompt, with whole answers below
    /// it.
    ///
    /// # Errors
    /// [`PredictError::NoChoices`] for a text.
    pub fn pack<'e>(examples: &[&'e Encoded]) -> Result<Self, PredictError> {
        let with_choices = |&example: &&'e Encoded| {
            let choices = example.choices();
            let choices = choices.ok_or_else(|| PredictError::NoChoices {
                id: example.id.clone(),
            })?;
            Ok((example, choices))
        };
        let pairs: Result<Vec<_>, PredictError> = examples.iter().map(with_choices).collect();
        Ok(Self::with_choices(&pairs?))
    }

    /// Packs examples with their choices: first the beginning that all share, then each prompt, with
    /// whole answers below it.
    pub(crate) fn with_choices(examples: &[(&Encoded, &Choices)]) -> Self {
        let mut batch = Batch::default();
        let prompts: Vec<&Encoded> = examples.iter().map(|(example, _)| *example).collect();
        let (root, shared) = push_common_prefix(&mut batch, &prompts);
        let whole_answers = examples
            .iter()
            .any(|(_, choices)| matches!(choices, Choices::Answers(_)));
        let mut scored = Vec::with_capacity(examples.len());
        for (example, choices) in examples {
            let prompt = batch.push(&example.tokens[shared..], root, example.key);
            let first = batch.ask_last(prompt);
            scored.push(match choices {
                Choices::Tokens(tokens) => {
                    tokens.iter().map(|&token| vec![(first, token)]).collect()
                }
                Choices::Answers(answers) => answers
                    .iter()
                    .map(|answer| answer_rows(&mut batch, prompt, first, answer, example.key))
                    .collect(),
            });
        }
        Self {
            batch,
            scored,
            whole_answers,
        }
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

    /// The tokens that score choices, ascending.
    pub fn tokens(&self) -> Vec<u32> {
        let scored = self.scored.iter().flatten().flatten();
        let mut tokens: Vec<u32> = scored.map(|&(_, token)| token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn most_choices(&self) -> usize {
        self.scored.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// 0 for each choice that a question has, and [`ABSENT`] for each that it lacks, `[B · C]`.
    fn absent(&self) -> Vec<f32> {
        let width = self.most_choices();
        let row = |choices: &Vec<Vec<_>>| {
            let count = choices.len();
            (0..width).map(move |choice| if choice < count { 0.0 } else { ABSENT })
        };
        self.scored.iter().flat_map(row).collect()
    }
}

/// Packs the beginning that all examples share, if it is long enough; returns its segment and its
/// length.
fn push_common_prefix(batch: &mut Batch, examples: &[&Encoded]) -> (Option<usize>, usize) {
    let shared = common_prefix(examples);
    if shared < SHORTEST_PREFIX || examples.len() < 2 {
        return (None, 0);
    }
    let tokens = &examples[0].tokens[..shared];
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    let key = fnv1a(&bytes.collect::<Vec<u8>>());
    (Some(batch.push(tokens, None, key)), shared)
}

/// The number of tokens at the beginning that all examples share; each keeps at least one of its own.
pub(crate) fn common_prefix(examples: &[&Encoded]) -> usize {
    let Some((first, rest)) = examples.split_first() else {
        return 0;
    };
    rest.iter().fold(first.tokens.len() - 1, |shared, other| {
        let equal = first
            .tokens
            .iter()
            .zip(&other.tokens)
            .take_while(|(a, b)| a == b)
            .count();
        shared.min(equal).min(other.tokens.len() - 1)
    })
}

/// Packs all but the last token of an answer below its prompt, and asks for the rows that predict its
/// tokens.
fn answer_rows(
    batch: &mut Batch,
    prompt: usize,
    first: usize,
    answer: &[u32],
    key: u64,
) -> Vec<(usize, u32)> {
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
    rows.into_iter()
        .zip(before.iter().chain(last).copied())
        .collect()
}

/// Log-probabilities over the choices, `[B, C]`, nats, where C is the largest number of choices; a
/// choice that a question does not have has about −10³⁰. Gradients are tracked if the adapter's are.
pub fn choice_log_probabilities(
    network: &Network,
    draw: &Draw,
    questions: &Questions,
) -> Tensor<2> {
    let hidden = network.hidden(&questions.batch, draw);
    log_probabilities_at(network, &hidden, questions)
}

/// As [`choice_log_probabilities`], from the hidden states at the tokens that the questions ask for.
pub fn log_probabilities_at(
    network: &Network,
    hidden: &Hidden,
    questions: &Questions,
) -> Tensor<2> {
    let scores = if questions.whole_answers {
        answer_scores(network, hidden, questions)
    } else {
        token_scores(network, hidden, questions)
    };
    log_softmax(scores, 1)
}

/// Logits of one token per choice, `[B, C]`.
fn token_scores(network: &Network, hidden: &Hidden, questions: &Questions) -> Tensor<2> {
    let tokens = questions.tokens();
    let (count, width) = (questions.len(), questions.most_choices());
    let device = hidden.states.device().without_autodiff();
    let absent = TensorData::new(questions.absent(), [count, width]);
    by_choice(network.logits_of(hidden, &tokens), &tokens, questions)
        + Tensor::<2>::from_data(absent, &device)
}

/// The entries of `values` `[B, tokens]` at the token of each choice, `[B, C]`; arbitrary for a choice
/// that a question does not have.
fn by_choice(values: Tensor<2>, tokens: &[u32], questions: &Questions) -> Tensor<2> {
    let (count, width) = (questions.len(), questions.most_choices());
    let mut columns = vec![0i64; count * width];
    for (question, choices) in questions.scored.iter().enumerate() {
        for (choice, rows) in choices.iter().enumerate() {
            columns[question * width + choice] =
                tokens.partition_point(|&token| token < rows[0].1) as i64;
        }
    }
    // There are no answers below the prompts, so row q of the values is that of question q.
    let device = values.device().without_autodiff();
    let columns = Tensor::<2, Int>::from_data(TensorData::new(columns, [count, width]), &device);
    values.gather(1, columns)
}

/// Independent, normally distributed logits of choices.
pub struct NoisyLogits {
    /// Their means, `[B, C]`; about −10³⁰ for choices that a question does not have.
    pub means: Tensor<2>,
    /// Their variances, `[B, C]`.
    pub variances: Tensor<2>,
}

impl NoisyLogits {
    /// The logits at the hidden states that the questions ask for, `[B, H]`, under noise on the output
    /// rows of [`Questions::tokens`], with `variances` `[tokens, H]` in units of each row's mean
    /// square. Gradients are tracked if those of either are.
    ///
    /// # Errors
    /// [`PredictError::WholeAnswers`] if some answer is scored by more than one token,
    /// [`PredictError::LimitedLogits`] if the model limits its logits.
    pub fn at(
        network: &Network,
        hidden: &Hidden,
        questions: &Questions,
        variances: Tensor<2>,
    ) -> Result<Self, PredictError> {
        if questions.whole_answers {
            return Err(PredictError::WholeAnswers);
        }
        if let Some(limit) = network.config().ends.final_logit_softcapping {
            return Err(PredictError::LimitedLogits { limit });
        }
        let tokens = questions.tokens();
        let sizes = TensorData::new(network.output_mean_squares(&tokens), [tokens.len(), 1]);
        let sizes = Tensor::<2>::from_data(sizes, &hidden.states.device().without_autodiff());
        let states = hidden.states.clone();
        let of_tokens = states.square().matmul((variances * sizes).transpose());
        Ok(Self {
            means: token_scores(network, hidden, questions),
            variances: by_choice(of_tokens, &tokens, questions),
        })
    }
}

/// Σ ln p(token) of all tokens of each answer, `[B, C]`.
fn answer_scores(network: &Network, hidden: &Hidden, questions: &Questions) -> Tensor<2> {
    let (count, width) = (questions.len(), questions.most_choices());
    let device = hidden.states.device().without_autodiff();
    let (mut rows, mut tokens, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (question, choices) in questions.scored.iter().enumerate() {
        for (choice, scored) in choices.iter().enumerate() {
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
    let normaliser = network.log_normaliser(hidden).select(0, rows.clone());
    let logits = network.logits_at(&hidden.select(rows), &tokens);
    let absent = TensorData::new(questions.absent(), [count * width]);
    let absent = Tensor::<1>::from_data(absent, &device);
    let (places, scores) = (indices(places), logits - normaliser);
    let scores = absent.select_assign(0, places, scores, IndexingUpdateOp::Add);
    scores.reshape([count, width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Target, TextTarget};
    use crate::lora::Adapter;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::golden;

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/qwen2").to_str().unwrap()).unwrap();
        Network::new(
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        )
    }

    fn example(tokens: &[u32], choices: Choices) -> Encoded {
        Encoded {
            id: "e".into(),
            key: 1,
            tokens: tokens.to_vec(),
            target: Target::Choice {
                choices,
                label: None,
            },
        }
    }

    fn scores(network: &Network, examples: &[&Encoded]) -> Vec<Vec<f32>> {
        let draw = Draw::base();
        let questions = Questions::pack(examples).unwrap();
        let values: Vec<f32> = choice_log_probabilities(network, &draw, &questions)
            .into_data()
            .try_to_vec()
            .unwrap();
        let width = values.len() / examples.len();
        (0..examples.len())
            .map(|question| values[question * width..][..questions.choices(question)].to_vec())
            .collect()
    }

    /// ln p of every token of the vocabulary after `tokens`, the sequence run alone.
    fn next(network: &Network, tokens: &[u32]) -> Vec<f64> {
        let mut batch = Batch::default();
        let segment = batch.push(tokens, None, 0);
        batch.ask_last(segment);
        let hidden = network.hidden(&batch, &Draw::base());
        let all: Vec<u32> = (0..network.config().vocab_size as u32).collect();
        let logits: Vec<f32> = network
            .logits_of(&hidden, &all)
            .into_data()
            .try_to_vec()
            .unwrap();
        crate::metrics::log_softmax(
            &logits
                .iter()
                .map(|&logit| f64::from(logit))
                .collect::<Vec<_>>(),
            1.0,
        )
    }

    /// Σ ln p(token | prompt and the answer's tokens before it), one forward pass per token.
    fn by_hand(network: &Network, prompt: &[u32], answers: &[Vec<u32>]) -> Vec<f64> {
        let score = |answer: &Vec<u32>| -> f64 {
            (0..answer.len())
                .map(|at| next(network, &[prompt, &answer[..at]].concat())[answer[at] as usize])
                .sum()
        };
        crate::metrics::log_softmax(&answers.iter().map(score).collect::<Vec<_>>(), 1.0)
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert!(
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4),
            "{found:?} {expected:?}"
        );
    }

    #[test]
    fn seventy_seven_answers_are_scored_as_token_by_token_runs_would_score_them() {
        let network = network();
        let prompt = [5, 6, 7, 8, 9];
        // One to four tokens; many begin alike, and some begin others.
        let answers: Vec<Vec<u32>> = (0..77u32)
            .map(|index| {
                (0..=index % 4)
                    .map(|at| 3 + (index / 4 * (at + 1) + at) % 90)
                    .collect()
            })
            .collect();
        let question = example(&prompt, Choices::Answers(answers.clone()));
        let other = example(
            &[5, 6, 7, 8, 20, 21],
            Choices::Answers(vec![vec![30], vec![31, 32]]),
        );
        let found = scores(&network, &[&question, &other]);
        close(&found[0], &by_hand(&network, &prompt, &answers));
        close(
            &found[1],
            &by_hand(&network, &[5, 6, 7, 8, 20, 21], &[vec![30], vec![31, 32]]),
        );
    }

    #[test]
    fn choices_of_one_token_score_alike_as_tokens_and_as_whole_answers() {
        let network = network();
        let tokens = example(&[5, 6, 7], Choices::Tokens(vec![40, 41, 42]));
        let answers = example(
            &[5, 6, 7],
            Choices::Answers(vec![vec![40], vec![41], vec![42]]),
        );
        let expected: Vec<f64> = scores(&network, &[&answers])[0]
            .iter()
            .map(|&value| f64::from(value))
            .collect();
        close(&scores(&network, &[&tokens])[0], &expected);
    }

    #[test]
    fn questions_may_differ_in_their_number_of_choices_and_share_a_beginning() {
        let network = network();
        let few = example(&[5, 6, 7, 8, 9, 10], Choices::Tokens(vec![41, 40]));
        let many = example(&[5, 6, 7, 8, 11], Choices::Tokens(vec![40, 41, 42, 43, 44]));
        let together = Questions::pack(&[&few, &many]).unwrap();
        assert_eq!(together.batch.len(), 4 + 2 + 1);
        let found = scores(&network, &[&few, &many]);
        for (question, found) in [&few, &many].into_iter().zip(found) {
            let alone: Vec<f64> = scores(&network, &[question])[0]
                .iter()
                .map(|&value| f64::from(value))
                .collect();
            close(&found, &alone);
            assert!((found.iter().map(|value| value.exp()).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    /// An adapter of both tables and a linear layer, without zeros.
    fn adapted_tables(network: &Network) -> Adapter {
        let names = ["v_proj", "embed_tokens", "lm_head"].map(String::from);
        let config = crate::lora::LoraConfig {
            rank: 2,
            target_modules: crate::lora::TargetModules::List(names.into()),
            ..Default::default()
        };
        let device = Device::flex();
        let adapter = Adapter::new(&config, network.config(), 3, &device).unwrap();
        adapter.clone_with(|path, tensor| {
            let [rows, columns] = tensor.dims();
            let numbers = 0..rows * columns;
            let wave = numbers.map(|i| ((i + path.len()) as f32 * 0.37).sin() * 0.2);
            let wave = TensorData::new(wave.collect::<Vec<_>>(), [rows, columns]);
            Tensor::from_data(wave, &tensor.device())
        })
    }

    /// Log-probabilities of the choices, and their first's gradients.
    fn scored(
        network: &Network,
        adapter: &Adapter,
        choices: Choices,
    ) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
        use burn::module::Module;
        use burn::optim::GradientsParams;
        let adapter = adapter.clone().train();
        let question = example(&[5, 6, 7], choices);
        let draw = Draw::of(adapter.clone());
        let found =
            choice_log_probabilities(network, &draw, &Questions::pack(&[&question]).unwrap());
        let loss = found.clone().narrow(1, 0, 1).sum();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &adapter);
        let gradient = |(path, parameter): (String, &burn::module::Param<Tensor<2>>)| {
            let gradient = gradients.remove::<2>(parameter.id).unwrap();
            (path, gradient.into_data().try_to_vec().unwrap())
        };
        let gradients = adapter.parameters().map(gradient).collect();
        (found.into_data().try_to_vec().unwrap(), gradients)
    }

    #[test]
    fn adapted_tables_score_and_differentiate_alike_as_tokens_and_as_whole_answers() {
        let network = network();
        let adapter = adapted_tables(&network);
        let tokens = Choices::Tokens(vec![40, 41, 42]);
        let answers = Choices::Answers(vec![vec![40], vec![41], vec![42]]);
        let (by_token, of_tokens) = scored(&network, &adapter, tokens);
        let (by_answer, of_answers) = scored(&network, &adapter, answers);
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        close(&by_answer, &wide(&by_token));
        assert_eq!(of_tokens.len(), 2 * (3 + 2));
        for ((path, found), (_, expected)) in of_answers.iter().zip(&of_tokens) {
            let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max);
            assert!(
                worst < 1e-3 * largest,
                "{path}: off by {worst} of {largest}"
            );
        }
        let base = scores(
            &network,
            &[&example(&[5, 6, 7], Choices::Tokens(vec![40, 41, 42]))],
        );
        assert!((base[0][0] - by_token[0]).abs() > 1e-2);
    }

    #[test]
    fn gradients_flow_through_whole_answers() {
        use burn::module::Module;
        use burn::optim::GradientsParams;
        let network = network();
        let config = crate::lora::LoraConfig {
            rank: 2,
            ..Default::default()
        };
        let adapter = Adapter::new(&config, network.config(), 3, &Device::flex().autodiff())
            .unwrap()
            .with_scaling(2.0)
            .train();
        let question = example(&[5, 6, 7], Choices::Answers(vec![vec![40, 41], vec![42]]));
        let draw = Draw::of(adapter.clone());
        let loss =
            choice_log_probabilities(&network, &draw, &Questions::pack(&[&question]).unwrap())
                .narrow(1, 0, 1)
                .sum()
                .neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &adapter);
        let gradient = |name: &str| {
            let (_, parameter) = adapter
                .parameters()
                .find(|(path, _)| path.ends_with(name))
                .unwrap();
            gradients
                .get::<2>(parameter.id)
                .unwrap()
                .abs()
                .max()
                .into_scalar::<f32>()
        };
        // B starts at zero, so at first only B has a gradient.
        assert!(gradient("lora_B") > 0.0);
        assert_eq!(gradient("lora_A"), 0.0);
    }

    #[test]
    fn a_text_among_questions_is_refused_by_its_id() {
        let question = example(&[5, 6, 7], Choices::Tokens(vec![40, 41]));
        let mut text = question.clone();
        text.id = "letter".into();
        text.target = Target::Text(TextTarget {
            weights: vec![0.0, 1.0, 1.0],
            bytes: 4,
            document: 1,
        });
        let error = Questions::pack(&[&question, &text]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "example `letter` is a text, which has no choices to answer with"
        );
        assert!(error.hint().is_some());
        assert_eq!((text.label(), text.choices()), (None, None));
    }
}
