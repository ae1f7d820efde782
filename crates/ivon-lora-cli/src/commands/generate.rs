//! `generate`: prompts in, texts out.

use std::io;

use ivon_lora::answer::{Generator, WritingPrompt, read_prompts};
use ivon_lora::generate::{FinishReason, Written};
use ivon_lora::predict::WrittenAnswer;
use serde::Serialize;

use super::stopped;
use super::writing::{Request, open, show, write_options};
use crate::args::GenerateArgs;
use crate::exit::{CliError, Failure};
use crate::render::{Screen, print, write_line};
use crate::signals::Signals;

/// Writes a text, or several, for each prompt.
///
/// # Errors
/// If model, adapter, rows or a flag are wrong, and on a stop by a signal.
pub fn run(args: GenerateArgs, signals: &Signals) -> Result<(), Failure> {
    let options = write_options(&args.writing, args.batch_size)?;
    let mut screen = Screen::beside_lines(args.screen);
    let prompts = prompts_of(&args)?;
    let generator = open(
        &args.writing,
        Request {
            is_chat: args.chat,
            samples: args.samples,
            uncertainty: args.uncertainty,
        },
        &mut screen,
        signals,
    )?;
    let tokens = prompts.iter().map(|(_, prompt)| generator.encode(prompt));
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    screen.close();
    let is_single = prompts.len() * generator.samples() == 1;
    let output = Output {
        is_json: args.screen.json,
        is_shown_at_once: is_single && !args.screen.json,
        samples: args.samples.map(|_| generator.samples()),
    };
    let together = (options.together / generator.samples()).max(1);
    for (prompts, tokens) in prompts.chunks(together).zip(tokens.chunks(together)) {
        let mut failed = None;
        let mut listener = |_: usize, piece: &str| {
            if output.is_shown_at_once {
                failed = show(piece).err();
            }
            failed.is_none() && signals.go_on()
        };
        let written = generator.write(tokens, &options, &mut listener);
        if let Some(error) = failed {
            return Err(error.into());
        }
        let written = written.map_err(|error| stopped(error, signals))?;
        let scores = args
            .uncertainty
            .then(|| scores(&generator, tokens, &written));
        output.put(prompts, &written, scores.as_deref())?;
    }
    Ok(())
}

/// What the posterior says about the texts for these prompts.
fn scores(generator: &Generator, prompts: &[Vec<u32>], written: &[Written]) -> Vec<WrittenAnswer> {
    let prompts = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, generator.samples()));
    let pairs = prompts.zip(written);
    pairs
        .map(|(prompt, written)| generator.score(prompt, written))
        .collect()
}

/// How texts are put out.
struct Output {
    is_json: bool,
    /// Whether the pieces of the only text have been shown as they were written.
    is_shown_at_once: bool,
    /// The number of texts for each prompt, if they were asked for by number.
    samples: Option<usize>,
}

impl Output {
    /// Puts out the texts of these prompts, those of a prompt one after the other, with their scores.
    fn put(
        &self,
        prompts: &[(String, WritingPrompt)],
        written: &[Written],
        scores: Option<&[WrittenAnswer]>,
    ) -> Result<(), Failure> {
        if self.is_shown_at_once {
            return Ok(show("\n")?);
        }
        let samples = self.samples.unwrap_or(1);
        for (index, written) in written.iter().enumerate() {
            if !self.is_json {
                print(&written.text)?;
                continue;
            }
            let line = Line {
                id: &prompts[index / samples].0,
                sample: self.samples.map(|samples| index % samples),
                text: &written.text,
                tokens: &written.tokens,
                finish_reason: written.finish_reason,
                scores: scores.map(|scores| &scores[index]),
            };
            write_line(&serde_json::to_value(line).map_err(io::Error::from)?)?;
        }
        Ok(())
    }
}

/// The prompts of a file, or those that were typed, numbered, each with its id.
fn prompts_of(args: &GenerateArgs) -> Result<Vec<(String, WritingPrompt)>, CliError> {
    let typed = |(index, text): (usize, &String)| {
        let prompt = WritingPrompt::Text(text.clone());
        ((index + 1).to_string(), prompt)
    };
    match &args.data {
        Some(path) => Ok(read_prompts(path, args.chat)?),
        None => Ok(args.text.iter().enumerate().map(typed).collect()),
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    /// The number of the text among those of its prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<usize>,
    text: &'a str,
    tokens: &'a [u32],
    finish_reason: FinishReason,
    #[serde(flatten)]
    scores: Option<&'a WrittenAnswer>,
}
