//! `generate`: prompts in, texts out.

use std::io;

use ivon_lora::answer::{WritingPrompt, read_prompts};
use ivon_lora::generate::{FinishReason, Written};
use ivon_lora::metrics::text::{Agreement, Consensus};
use ivon_lora::predict::WrittenAnswer;
use serde::Serialize;

use super::stopped;
use super::writing::{Request, agreement, open, show, write_options};
use crate::args::GenerateArgs;
use crate::exit::{CliError, Failure};
use crate::render::{Screen, print, write_line};
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// Writes a text, or several, for each prompt.
///
/// # Errors
/// If model, adapter, rows or a flag are wrong, and on a stop by a signal.
pub fn run(args: GenerateArgs, signals: &Signals) -> Result<(), Failure> {
    let options = write_options(&args.writing, args.batch_size)?;
    let choice = choice(&args)?;
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
    let is_single = prompts.len() * generator.samples() == 1 && choice.is_none();
    let output = Output {
        is_json: args.screen.json,
        is_shown_at_once: is_single && !args.screen.json,
        samples: args.samples.map(|_| generator.samples()),
        choice,
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
        let texts = output.chosen(&written, generator.samples());
        let score = |text: &Text<'_>| {
            let prompt = &tokens[text.place / generator.samples()];
            generator.score(prompt, text.written)
        };
        let scores = args.uncertainty.then(|| texts.iter().map(score).collect());
        output.put(prompts, &texts, scores)?;
    }
    Ok(())
}

/// How one of several texts for a prompt is chosen.
#[derive(Clone, Copy)]
struct Choice {
    /// By expected utility; else by vote.
    is_by_utility: bool,
    agreement: Agreement,
}

/// How one of several texts is chosen, if one is.
///
/// # Errors
/// If a flag is out of range.
fn choice(args: &GenerateArgs) -> Result<Option<Choice>, CliError> {
    let needed = args.choose.is_none().then_some("choose");
    let agreement = agreement(&args.agreement, needed)?;
    let Some(how) = args.choose.as_deref() else {
        return Ok(None);
    };
    let names = ["vote", "mbr"];
    if !names.contains(&how) {
        let message = format!("`--choose` is `{how}`, expected one of `vote`, `mbr`");
        return Err(CliError::usage(message, did_you_mean(how, names)));
    }
    Ok(Some(Choice {
        is_by_utility: how == "mbr",
        agreement,
    }))
}

/// A text that is put out.
struct Text<'a> {
    /// Its place among all texts that were written together.
    place: usize,
    written: &'a Written,
    /// What it was chosen by.
    consensus: Option<Consensus>,
}

/// How texts are put out.
struct Output {
    is_json: bool,
    /// Whether the pieces of the only text have been shown as they were written.
    is_shown_at_once: bool,
    /// The number of texts for each prompt, if they were asked for by number.
    samples: Option<usize>,
    /// How one of them is chosen, if one is.
    choice: Option<Choice>,
}

impl Output {
    /// The texts to put out of those written, `samples` for each prompt: all, or the chosen ones.
    fn chosen<'a>(&self, written: &'a [Written], samples: usize) -> Vec<Text<'a>> {
        let text = |place: usize, consensus| Text {
            place,
            written: &written[place],
            consensus,
        };
        let Some(choice) = self.choice else {
            return (0..written.len()).map(|place| text(place, None)).collect();
        };
        let of_prompt = |(prompt, written): (usize, &[Written])| {
            let texts: Vec<&str> = written.iter().map(|w| w.text.as_str()).collect();
            let consensus = choice.agreement.consensus(&texts)?;
            let sample = match choice.is_by_utility {
                true => consensus.best,
                false => consensus.vote,
            };
            Some(text(prompt * samples + sample, Some(consensus)))
        };
        let prompts = written.chunks(samples).enumerate();
        prompts.filter_map(of_prompt).collect()
    }

    /// Puts out texts for these prompts, with their scores.
    fn put(
        &self,
        prompts: &[(String, WritingPrompt)],
        texts: &[Text<'_>],
        scores: Option<Vec<WrittenAnswer>>,
    ) -> Result<(), Failure> {
        if self.is_shown_at_once {
            return Ok(show("\n")?);
        }
        let samples = self.samples.unwrap_or(1);
        for (index, text) in texts.iter().enumerate() {
            let Text { place, written, .. } = *text;
            if !self.is_json {
                print(&written.text)?;
                continue;
            }
            let consensus = text.consensus.as_ref();
            let line = Line {
                id: &prompts[place / samples].0,
                sample: self.samples.map(|samples| place % samples),
                text: &written.text,
                tokens: &written.tokens,
                finish_reason: written.finish_reason,
                vote_share: consensus.map(|consensus| consensus.vote_share),
                semantic_entropy: consensus.map(|consensus| consensus.semantic_entropy),
                expected_utility: consensus.map(|consensus| consensus.expected_utility),
                scores: scores.as_ref().map(|scores| &scores[index]),
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
    /// Of a chosen text: the share of the texts that mean the same as the most frequent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    vote_share: Option<f64>,
    /// Of a chosen text: the entropy of the meanings of all, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    semantic_entropy: Option<f64>,
    /// Of a chosen text: the largest expected utility.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_utility: Option<f64>,
    #[serde(flatten)]
    scores: Option<&'a WrittenAnswer>,
}
