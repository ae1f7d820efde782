//! What the commands that write text have in common: flags → an opened model, and how it writes.

use std::io::{self, Write};

use ivon_lora::answer::{BaseOptions, Generator, GeneratorOptions};
use ivon_lora::data::ChatSetting;
use ivon_lora::generate::{Sampling, WriteOptions};
use ivon_lora::metrics::text::{Agreement, Similarity};
use ivon_lora::model::{BasePrecision, Compute};
use ivon_lora::settings::SettingError;
use ivon_lora::watch::Event;

use super::{base_for, check_scale, fetch_adapter, prepare, stopped};
use crate::args::{AgreementArgs, BaseArgs, WritingArgs};
use crate::exit::{CliError, Failure};
use crate::render::Screen;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// How texts are written.
///
/// # Errors
/// If a flag is out of range.
pub fn write_options(args: &WritingArgs, together: u32) -> Result<WriteOptions, CliError> {
    let options = WriteOptions {
        max_tokens: args.max_tokens as usize,
        sampling: Sampling {
            temperature: args.temperature,
            top_k: args.top_k as usize,
            top_p: args.top_p,
            min_p: args.min_p,
            repetition_penalty: args.repetition_penalty,
            seed: args.seed,
        },
        stop: args.stop.clone(),
        together: together as usize,
        ..WriteOptions::default()
    };
    options.validate().map_err(|mut error| {
        if error.key == "together" {
            error.key = "batch_size";
        }
        wrong_flag(error)
    })?;
    Ok(options)
}

/// A setting that is out of range, by the name of its flag.
pub fn wrong_flag(error: SettingError) -> CliError {
    let key = error.key.replace('_', "-");
    let message = format!("`--{key}` is {}, expected {}", error.found, error.expected);
    CliError::usage(message, None)
}

/// What a command asks for besides the flags that all of them have.
#[derive(Clone, Copy, Default)]
pub struct Request {
    /// Whether prompts are put into a chat template.
    pub is_chat: bool,
    /// The number of texts for each prompt, if they are written under draws.
    pub samples: Option<u32>,
    /// Whether texts are scored under draws.
    pub uncertainty: bool,
}

/// What the flags say about the model.
///
/// # Errors
/// If a flag is out of range.
fn generator_options(args: &WritingArgs, request: Request) -> Result<GeneratorOptions, CliError> {
    let Request {
        is_chat, samples, ..
    } = request;
    check_scale(args.scale)?;
    if samples == Some(0) {
        return Err(CliError::usage(
            "`--samples` is `0`, expected at least 1",
            None,
        ));
    }
    Ok(GeneratorOptions {
        base: base_options(&args.base)?,
        adapter: None,
        chat_template: match &args.chat_template {
            Some(path) => ChatSetting::File(path.clone()),
            None => ChatSetting::Own(is_chat),
        },
        samples: samples.map(|samples| samples as usize),
        scale: args.scale,
        seed: args.seed,
        uncertainty: request.uncertainty,
        scoring_draws: None,
    })
}

/// How the base is kept and computed.
///
/// # Errors
/// If a flag is none of its values.
pub fn base_options(args: &BaseArgs) -> Result<BaseOptions, CliError> {
    Ok(BaseOptions {
        device: args.device.clone(),
        precision: precision(&args.base_precision)?,
        compute: compute(&args.compute)?,
        ..BaseOptions::default()
    })
}

/// Prepares the machine for the flags of a base.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_base(args: &BaseArgs) -> Result<(), CliError> {
    prepare(&args.device, args.threads.map(|threads| threads as usize))
}

/// In which numbers products are computed, by the flag's value.
///
/// # Errors
/// If it is none of them.
pub fn compute(name: &str) -> Result<Compute, CliError> {
    serde_json::from_value(name.into()).map_err(|_| {
        let names = ["f32", "int8"];
        let message = format!("`--compute` is `{name}`, expected `f32` or `int8`");
        CliError::usage(message, did_you_mean(name, names))
    })
}

fn precision(name: &str) -> Result<BasePrecision, CliError> {
    serde_json::from_value(name.into()).map_err(|_| {
        let names = ["as-is", "f32", "bf16", "q8_0"];
        let message = format!(
            "`--base-precision` is `{name}`, expected one of `{}`",
            names.join("`, `")
        );
        CliError::usage(message, did_you_mean(name, names))
    })
}

/// Opens the model and the adapter of the flags.
///
/// # Errors
/// If a flag is out of range, or whatever is wrong with model, adapter or chat template.
pub fn open(
    args: &WritingArgs,
    request: Request,
    screen: &mut Screen,
    signals: &Signals,
) -> Result<Generator, Failure> {
    let mut options = generator_options(args, request)?;
    prepare_base(&args.base)?;
    let adapter = args.adapter.as_deref();
    let adapter = adapter
        .map(|named| fetch_adapter(named, screen))
        .transpose()?;
    let base = match (&args.model, &adapter) {
        (Some(model), _) => model.clone(),
        (None, Some(adapter)) => base_for(None, adapter)?,
        (None, None) => {
            let hint = Some("name a model with `--model`".into());
            return Err(CliError::usage("there is no model to write with", hint).into());
        }
    };
    options.adapter = adapter;
    let watch = &mut |event: Event<'_>| screen.show(&event) && signals.go_on();
    Generator::open(&base, &options, watch).map_err(|error| stopped(error, signals))
}

/// When texts agree; `needed` is the flag without which nothing asks, if it is missing.
///
/// # Errors
/// If a flag is out of range, or has no effect.
pub fn agreement(args: &AgreementArgs, needed: Option<&str>) -> Result<Agreement, CliError> {
    let given = [
        ("utility", args.utility.is_some()),
        ("same-from", args.same_from.is_some()),
    ];
    let given = given.into_iter().find(|(_, is_given)| *is_given);
    if let (Some(needed), Some((flag, _))) = (needed, given) {
        let message = format!("`--{flag}` has no effect without `--{needed}`");
        return Err(CliError::usage(message, None));
    }
    let mut agreement = Agreement {
        same_from: args.same_from,
        ..Agreement::default()
    };
    if let Some(utility) = &args.utility {
        agreement.utility = similarity("utility", utility)?;
    }
    agreement.validate().map_err(wrong_flag)?;
    Ok(agreement)
}

/// The similarity that a flag names.
///
/// # Errors
/// If there is none of that name.
pub fn similarity(flag: &str, name: &str) -> Result<Similarity, CliError> {
    let found = Similarity::ALL.into_iter().find(|one| one.name() == name);
    found.ok_or_else(|| {
        let names = Similarity::ALL.map(Similarity::name);
        let message = format!(
            "`--{flag}` is `{name}`, expected one of `{}`",
            names.join("`, `")
        );
        CliError::usage(message, did_you_mean(name, names))
    })
}

/// Writes a piece of text to standard output at once.
///
/// # Errors
/// If it cannot be written.
pub fn show(piece: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(piece.as_bytes())?;
    out.flush()
}
