//! A base, with or without an adapter, opened once: prompts in, texts out, any number of times.

use std::path::{Path, PathBuf};

use super::answerer::foreign_base;
use super::base::open_checkpoint;
use super::{AnswerError, Base, BaseOptions, WritingPrompt};
use crate::bundle::{Bundle, locate_adapter};
use crate::data::{ChatSetting, ChatTemplate, Message};
use crate::forward::{Decoding, Sequence};
use crate::generate::{Listener, WriteOptions, WritePrompt, WritingBatch, Written};
use crate::lora::Draw;
use crate::posterior::Spread;
use crate::predict::{WrittenAnswer, draws_logits, written_answer};
use crate::watch::{Event, Watch};

/// How texts are written by a base and an adapter.
#[derive(Clone, Debug, Default)]
pub struct GeneratorOptions {
    /// Device and precision of the base.
    pub base: BaseOptions,
    /// The adapter's folder, its run's, or a hub name; without one the base writes.
    pub adapter: Option<PathBuf>,
    /// The chat template around prompts.
    pub chat_template: ChatSetting,
    /// The number of texts for each prompt, each under a draw of its own; none: one text, at the
    /// mean.
    pub samples: Option<usize>,
    /// τ, which multiplies the posterior's variance; by default that of the run.
    pub scale: Option<f64>,
    /// The seed of the draws.
    pub seed: u64,
    /// Whether answers are to be [scored](Generator::score) under draws of the posterior.
    pub uncertainty: bool,
    /// The number of draws for these scores; by default as many as `samples`, or else as the run
    /// answered with, or 10.
    pub scoring_draws: Option<usize>,
}

impl GeneratorOptions {
    /// The folder of the adapter, if there is one.
    fn locate(&self, watch: Watch<'_>) -> Result<Option<PathBuf>, AnswerError> {
        let named = self.adapter.as_deref();
        let folder = named.map(|named| locate_adapter(named, watch));
        Ok(folder.transpose()?)
    }
}

/// The number of draws for scores where neither the options nor the run say another.
const DRAWS: usize = 10;

/// A base and an adapter that write texts.
#[derive(Debug)]
pub struct Generator {
    base: Base,
    decoding: Decoding,
    chat: Option<ChatTemplate>,
    samples: usize,
    scorer: Scorer,
}

/// What written answers are scored by.
#[derive(Debug)]
struct Scorer {
    mean: Draw,
    /// None if answers are not to be scored, or the posterior is a point estimate.
    draws: Vec<Draw>,
}

impl Generator {
    /// Opens a base (a folder, a GGUF file or a hub name) and the adapter of the options. `watch`
    /// hears notes and warnings.
    ///
    /// # Errors
    /// Whatever is wrong with base, adapter or chat template.
    pub fn open(
        base: &str,
        options: &GeneratorOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let folder = options.locate(watch)?;
        let checkpoint = open_checkpoint(base, watch)?;
        let base = Base::load(&checkpoint, &options.base)?;
        Self::of(base, folder, options, watch)
    }

    /// Opens the adapter of the options on a base in memory, which several generators can share. The
    /// base of the options is not read.
    ///
    /// # Errors
    /// Whatever is wrong with adapter or chat template.
    pub fn on(
        base: Base,
        options: &GeneratorOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let folder = options.locate(watch)?;
        Self::of(base, folder, options, watch)
    }

    fn of(
        mut base: Base,
        folder: Option<PathBuf>,
        options: &GeneratorOptions,
        watch: Watch<'_>,
    ) -> Result<Self, AnswerError> {
        let bundle = folder
            .map(|folder| read_bundle(&folder, &base, watch))
            .transpose()?;
        let draws = draws(bundle.as_ref(), options)?;
        let scorer = Scorer::new(bundle.as_ref(), options)?;
        let sidecar = bundle.as_ref().and_then(|bundle| bundle.sidecar.as_ref());
        if let Some(text) = sidecar.and_then(|sidecar| sidecar.chat_template_text.clone()) {
            base.tokenizer.chat_template = Some(text);
        }
        base.tokenizer = options.chat_template.put_into(base.tokenizer)?;
        let is_chat = options.chat_template.is_on();
        let chat = is_chat
            .then(|| ChatTemplate::of(&base.tokenizer))
            .transpose()?;
        Ok(Self {
            decoding: Decoding::new(base.network.clone(), draws),
            chat,
            samples: options.samples.unwrap_or(1).max(1),
            scorer,
            base,
        })
    }

    /// The base.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The number of texts for each prompt.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The number of draws by which texts are scored; 0 for a point estimate.
    pub fn scoring_draws(&self) -> usize {
        self.scorer.draws.len()
    }

    /// Texts that are to be written at the same time, of which there are none yet.
    pub fn batch(&self) -> WritingBatch<'_> {
        WritingBatch::new(self.base.writer(&self.decoding))
    }

    /// Checks that a prompt can be continued with these options.
    ///
    /// # Errors
    /// If a setting is out of range, or the prompt is empty or too long.
    pub fn check(&self, prompt: &WritePrompt, options: &WriteOptions) -> Result<(), AnswerError> {
        Ok(self.base.writer(&self.decoding).check(prompt, options)?)
    }

    /// The tokens of a prompt: in the chat template, or as it is with the tokens that the tokenizer
    /// begins a text with.
    ///
    /// # Errors
    /// If there is no template for a conversation, or it or the tokenizer fails.
    pub fn encode(&self, prompt: &WritingPrompt) -> Result<Vec<u32>, AnswerError> {
        prompt.encode(&self.base.tokenizer, self.chat.as_ref())
    }

    /// Writes the texts for each of the prompts, those of a prompt one after the other. `listener`
    /// hears their pieces.
    ///
    /// # Errors
    /// If a prompt cannot be continued, an option is out of range, or the listener says stop.
    pub fn write(
        &self,
        prompts: &[Vec<u32>],
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<Vec<Written>, AnswerError> {
        let draws = (0..self.samples).map(|sample| sample % self.decoding.draws());
        let draws: Vec<usize> = draws.collect();
        let writer = self.base.writer(&self.decoding);
        Ok(writer.write_under(prompts.iter(), &draws, options, listener)?)
    }

    /// Answers a conversation, at the first of the draws. `so_far` is what was read of it before, if
    /// anything: only what follows is read now.
    ///
    /// # Errors
    /// As [`write`](Self::write), and if the template or the tokenizer fails.
    pub fn reply(
        &self,
        so_far: &mut Option<Sequence>,
        messages: Vec<Message>,
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<Written, AnswerError> {
        let prompt = WritePrompt {
            tokens: self.encode(&WritingPrompt::Chat(messages))?,
            draw: 0,
            sample: 0,
        };
        Ok(self
            .base
            .writer(&self.decoding)
            .write_on(so_far, &prompt, options, listener)?)
    }

    /// What the posterior says about a text that was written after a prompt: its tokens at the mean
    /// and under the draws of the options.
    pub fn score(&self, prompt: &[u32], written: &Written) -> WrittenAnswer {
        let Scorer { mean, draws } = &self.scorer;
        written_answer(&self.base.network, mean, draws, prompt, &written.tokens)
    }
}

fn read_bundle(folder: &Path, base: &Base, watch: Watch<'_>) -> Result<Bundle, AnswerError> {
    let bundle = Bundle::read(folder, base.config(), base.device())?;
    if let Some(warning) = foreign_base(&bundle, base) {
        watch(Event::Warning(warning.into()));
    }
    Ok(bundle)
}

/// The draws under which texts are written: the mean, or as many as there are samples and differ.
fn draws(bundle: Option<&Bundle>, options: &GeneratorOptions) -> Result<Vec<Draw>, AnswerError> {
    let Some(bundle) = bundle else {
        return Ok(vec![Draw::base()]);
    };
    let draws = posterior_draws(bundle, options, options.samples.unwrap_or(0))?;
    Ok(match draws.is_empty() {
        true => vec![Draw::of(bundle.posterior.mean().clone())],
        false => draws,
    })
}

/// The first draws of a posterior at the scale of the options or of its run, at most so many as
/// differ; none if it is a point estimate or draws logits.
fn posterior_draws(
    bundle: &Bundle,
    options: &GeneratorOptions,
    count: usize,
) -> Result<Vec<Draw>, AnswerError> {
    let posterior = bundle.posterior.as_ref();
    let sidecar = bundle.sidecar.as_ref();
    let scale = options
        .scale
        .or_else(|| Some(sidecar?.scale))
        .unwrap_or(1.0);
    let spread = match draws_logits(posterior) {
        true => Spread::None,
        false => posterior.spread(),
    };
    let count = if count > 0 { spread.draws(count) } else { 0 };
    (0..count as u64)
        .map(|sample| Ok(posterior.draw(sample, options.seed, scale)?))
        .collect()
}

impl Scorer {
    fn new(bundle: Option<&Bundle>, options: &GeneratorOptions) -> Result<Self, AnswerError> {
        let Some(bundle) = bundle else {
            return Ok(Self {
                mean: Draw::base(),
                draws: Vec::new(),
            });
        };
        let of_run = bundle.sidecar.as_ref().map(|sidecar| sidecar.samples);
        let of_run = of_run.filter(|samples| *samples > 0);
        let count = options.scoring_draws.or(options.samples).or(of_run);
        let draws = match options.uncertainty {
            true => posterior_draws(bundle, options, count.unwrap_or(DRAWS))?,
            false => Vec::new(),
        };
        Ok(Self {
            mean: Draw::of(bundle.posterior.mean().clone()).valid(),
            draws: draws.iter().map(Draw::valid).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::data::Speaker;
    use crate::generate::FinishReason;
    use crate::testing::{golden_json, real_model};

    fn ids(value: &Value) -> Vec<u32> {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    }

    fn generator(test: &str) -> Option<Generator> {
        let path = real_model(test)?;
        let options = GeneratorOptions {
            base: BaseOptions {
                precision: crate::model::BasePrecision::AsIs,
                ..BaseOptions::default()
            },
            chat_template: ChatSetting::Own(true),
            ..GeneratorOptions::default()
        };
        let base = path.to_str().unwrap();
        Some(Generator::open(base, &options, &mut |_| true).unwrap())
    }

    #[test]
    fn greedy_answers_are_those_of_transformers() {
        let Some(generator) = generator("greedy_answers_are_those_of_transformers") else {
            return;
        };
        let golden = golden_json("smollm2_text.json");
        let cases = golden["cases"].as_array().unwrap();
        let prompts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["prompt_ids"])).collect();
        let options = WriteOptions {
            max_tokens: 24,
            ..WriteOptions::default()
        };
        let mut heard = vec![String::new(); cases.len()];
        let mut listener = |index: usize, piece: &str| {
            heard[index].push_str(piece);
            true
        };
        let written = generator.write(&prompts, &options, &mut listener).unwrap();
        for ((written, case), heard) in written.iter().zip(cases).zip(&heard) {
            assert_eq!(written.tokens, ids(&case["greedy_ids"]));
            let text = case["greedy_text"]
                .as_str()
                .unwrap()
                .replace("<|im_end|>", "");
            assert_eq!((&written.text, heard), (&text, &text));
            let is_ended = written.tokens.len() < 24;
            assert_eq!(written.finish_reason == FinishReason::Stop, is_ended);
            assert!(written.log_probabilities.iter().all(|log_p| *log_p <= 0.0));
        }
    }

    #[test]
    fn a_conversation_reads_only_what_is_new_in_it() {
        let Some(generator) = generator("a_conversation_reads_only_what_is_new_in_it") else {
            return;
        };
        let options = WriteOptions {
            max_tokens: 12,
            ..WriteOptions::default()
        };
        let mut messages = vec![Message::of(Speaker::User, "Name a colour.")];
        let mut so_far = None;
        for question in ["Another one.", "And a third."] {
            let reply = |so_far: &mut Option<Sequence>| {
                let messages = messages.clone();
                let replied = generator.reply(so_far, messages, &options, &mut |_, _| true);
                replied.unwrap()
            };
            let written = reply(&mut so_far);
            assert_eq!(written.tokens, reply(&mut None).tokens);
            messages.push(Message::of(Speaker::Assistant, written.text));
            messages.push(Message::of(Speaker::User, question));
        }
    }
}
