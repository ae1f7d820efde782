//! The answers that an adapter writes to prompts with references, and their scores.

use std::path::{Path, PathBuf};

use super::answer_report::{AnswerReport, Judgement};
use super::answered_prompt::{ANSWERS_FILE, AnsweredPrompt};
use super::answerer::Answerer;
use super::error::AnswerError;
use super::example_set::ExampleSet;
use super::prediction::write_predictions;
use super::writing_prompts::WritingPrompt;
use crate::data::{ChatTemplate, Content, Document, Example, Message, Speaker};
use crate::forward::Decoding;
use crate::generate::{Sampling, WriteOptions, Written};
use crate::lora::Draw;
use crate::metrics::Bootstrap;
use crate::metrics::text::Agreement;
use crate::predict::{
    LETTERS, PredictError, REPLY, truth_probability, truth_question, written_answer,
};
use crate::settings::SettingError;
use crate::watch::{Progress, Stage, Watch};

/// How answers are written and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenOptions {
    /// The largest number of tokens of an answer.
    pub max_tokens: usize,
    /// Answers to each prompt under draws of the posterior; by default as many as the answerer draws.
    pub samples: Option<usize>,
    /// The temperature of these; the answer at the mean takes the most probable tokens. At 0 the answers
    /// of a point estimate are all the same.
    pub temperature: f64,
    /// When samples agree.
    pub agreement: Agreement,
    /// When an answer is right.
    pub judgement: Judgement,
    /// Prompts that are answered at the same time.
    pub together: usize,
}

impl Default for WrittenOptions {
    fn default() -> Self {
        Self {
            max_tokens: 64,
            samples: None,
            temperature: 0.0,
            agreement: Agreement::default(),
            judgement: Judgement::default(),
            together: 16,
        }
    }
}

impl WrittenOptions {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// For the first that is out of range.
    pub fn validate(&self) -> Result<(), SettingError> {
        self.agreement.validate()?;
        SettingError::share("right_from", self.judgement.right_from)?;
        self.write_options(0, self.temperature).validate()
    }

    fn write_options(&self, seed: u64, temperature: f64) -> WriteOptions {
        WriteOptions {
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature,
                seed,
                ..Sampling::default()
            },
            together: self.together,
            ..WriteOptions::default()
        }
    }
}

/// Written answers and their scores.
#[derive(Clone, Debug)]
pub struct WrittenEvaluation {
    /// The scores.
    pub report: AnswerReport,
    /// The answers, in the order of the rows.
    pub answered: Vec<AnsweredPrompt>,
}

impl WrittenEvaluation {
    /// Writes `answers.jsonl` into a folder; returns its path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, AnswerError> {
        let path = folder.join(ANSWERS_FILE);
        write_predictions(&path, &self.answered)?;
        Ok(path)
    }
}

/// A prompt with references, in tokens.
struct AskedPrompt<'a> {
    example: &'a Example,
    document: &'a Document,
    tokens: Vec<u32>,
}

/// What writes and scores: a decoder whose first draw is the mean, and the draws that score.
struct Session<'a> {
    answerer: &'a Answerer,
    options: &'a WrittenOptions,
    chat: Option<ChatTemplate>,
    decoding: Decoding,
    mean: Draw,
    draws: Vec<Draw>,
    /// The draw of the decoding under which each sample is written.
    sampled: Vec<usize>,
}

impl Answerer {
    /// Writes an answer to each prompt of a set that has references, at the mean and under draws, and
    /// scores them.
    ///
    /// # Errors
    /// If an option is out of range, no row has a prompt and a reference, a prompt cannot be answered,
    /// or `watch` says stop.
    pub fn evaluate_written(
        &self,
        set: &ExampleSet,
        options: &WrittenOptions,
        watch: Watch<'_>,
    ) -> Result<WrittenEvaluation, AnswerError> {
        options.validate()?;
        let session = Session::new(self, set, options)?;
        let asked = session.asked(set)?;
        let mut progress = Progress::new(Stage::Writing, asked.len(), watch);
        let mut answered = Vec::with_capacity(asked.len());
        for asked in asked.chunks(options.together) {
            answered.extend(session.answer(asked, &mut progress)?);
            progress.advance(asked.len()).map_err(PredictError::from)?;
        }
        let report = AnswerReport::new(&answered, &options.judgement, &Bootstrap::default());
        Ok(WrittenEvaluation { report, answered })
    }
}

impl<'a> Session<'a> {
    fn new(
        answerer: &'a Answerer,
        set: &ExampleSet,
        options: &'a WrittenOptions,
    ) -> Result<Self, AnswerError> {
        let base = answerer.base();
        let chat = set.examples.iter().any(is_conversation);
        let chat = chat
            .then(|| ChatTemplate::of(&base.tokenizer))
            .transpose()?;
        let draws = answerer.predictor(answerer.options()).prepare_draws()?;
        let mean = Draw::of(answerer.bundle().posterior.mean().clone());
        let all = std::iter::once(mean.clone()).chain(draws.iter().cloned());
        let given = options.samples;
        let default = match draws.len() {
            0 if options.temperature > 0.0 => 10,
            count => count,
        };
        Ok(Self {
            answerer,
            options,
            chat,
            decoding: Decoding::new(base.network.clone(), all.collect()),
            mean: mean.valid(),
            draws: draws.iter().map(Draw::valid).collect(),
            sampled: (0..given.unwrap_or(default))
                .map(|sample| match draws.len() {
                    0 => 0,
                    count => 1 + sample % count,
                })
                .collect(),
        })
    }

    /// The rows with a prompt and references.
    fn asked<'s>(&self, set: &'s ExampleSet) -> Result<Vec<AskedPrompt<'s>>, AnswerError> {
        let mut asked = Vec::new();
        for &place in &set.encoded.kept {
            let example = &set.examples[place];
            let Some(document) = example.document.as_ref() else {
                continue;
            };
            if !document.references.is_empty() && document.content != Content::Text {
                let prompt = match &document.content {
                    Content::Chat(_) => WritingPrompt::Chat(document.content.asked().to_vec()),
                    _ => WritingPrompt::Text(example.prompt.text()),
                };
                let tokenizer = &self.answerer.base().tokenizer;
                asked.push(AskedPrompt {
                    example,
                    document,
                    tokens: prompt.encode(tokenizer, self.chat.as_ref())?,
                });
            }
        }
        match asked.is_empty() {
            true => Err(AnswerError::NoReferences {
                set: set.name.clone(),
            }),
            false => Ok(asked),
        }
    }

    /// The answers to some prompts.
    fn answer(
        &self,
        asked: &[AskedPrompt<'_>],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<AnsweredPrompt>, AnswerError> {
        let temperature = self.options.temperature;
        let at_mean = self.write(asked, &[0], 0.0, progress)?;
        let samples = self.write(asked, &self.sampled, temperature, progress)?;
        let mut samples = samples.into_iter().map(|written| written.text);
        let prompts = asked.iter().zip(at_mean);
        let answered = prompts.map(|(asked, written)| {
            let texts = samples.by_ref().take(self.sampled.len()).collect();
            self.scored(asked, written, texts)
        });
        answered.collect()
    }

    /// An answer to each prompt under each of `draws`, those of one prompt after the other.
    fn write(
        &self,
        asked: &[AskedPrompt<'_>],
        draws: &[usize],
        temperature: f64,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Written>, AnswerError> {
        let prompts = asked.iter().map(|asked| &asked.tokens);
        let seed = self.answerer.options().seed;
        let options = self.options.write_options(seed, temperature);
        let writer = self.answerer.base().writer(&self.decoding);
        let mut listener = |_: usize, _: &str| progress.advance(0).is_ok();
        Ok(writer.write_under(prompts, draws, &options, &mut listener)?)
    }

    fn scored(
        &self,
        asked: &AskedPrompt<'_>,
        written: Written,
        samples: Vec<String>,
    ) -> Result<AnsweredPrompt, AnswerError> {
        let network = &self.answerer.base().network;
        let scores = written_answer(
            network,
            &self.mean,
            &self.draws,
            &asked.tokens,
            &written.tokens,
        );
        let answered = AnsweredPrompt {
            id: asked.example.id.clone(),
            references: asked.document.references.clone(),
            p_true: self.truth(asked, &written.text)?,
            answer: written.text,
            finish_reason: written.finish_reason,
            sum: scores.sum,
            per_token: scores.per_token,
            samples,
            consensus: None,
            support: None,
            expected_utility: None,
        };
        Ok(answered.compared(&self.options.agreement))
    }

    /// The probability that the model gives an answer to be true, under the draws or at the mean.
    fn truth(&self, asked: &AskedPrompt<'_>, answer: &str) -> Result<f64, AnswerError> {
        let tokenizer = &self.answerer.base().tokenizer;
        let question = truth_question(&asked.example.prompt.text(), answer);
        let before = match &self.chat {
            Some(chat) => {
                chat.render_messages(&[Message::of(Speaker::User, question)], true)? + REPLY
            }
            None => question + REPLY,
        };
        let with = |letter: &str| {
            let text = format!("{before}{letter}");
            tokenizer.encode(&text, self.chat.is_none())
        };
        let (yes, no) = (with(LETTERS[0])?, with(LETTERS[1])?);
        let pairs = yes.iter().zip(&no);
        let shared = pairs.take_while(|(yes, no)| yes == no).count();
        let (Some(&letter), Some(&other)) = (yes.get(shared), no.get(shared)) else {
            return Ok(0.5);
        };
        let draws = match self.draws.is_empty() {
            true => std::slice::from_ref(&self.mean),
            false => &self.draws[..],
        };
        let network = &self.answerer.base().network;
        Ok(truth_probability(
            network,
            draws,
            &yes[..shared],
            [letter, other],
        ))
    }
}

fn is_conversation(example: &Example) -> bool {
    let document = example.document.as_ref();
    document.is_some_and(|document| matches!(document.content, Content::Chat(_)))
}
