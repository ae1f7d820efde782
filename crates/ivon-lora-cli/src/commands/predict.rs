//! `predict`: prompts or rows → a line for each, as JSON or as a table.

use std::io::{self, Write};
use std::path::Path;

use ivon_lora::data::StreamFormat;
use ivon_lora::run::{
    self, EvaluateRequest, Input, LineFormat, PredictRequest, PredictedRow, write_lines,
};

use super::{base_for, evaluate::request, fetch, fetch_adapter, is_typed, prepare, stopped};
use crate::args::PredictArgs;
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// What stands for standard input in messages and ids.
const STANDARD_INPUT: &str = "standard-input";

/// Predicts.
///
/// # Errors
/// Whatever is wrong with base, adapter, rows or a file, and a stop by a signal; with `--strict` a
/// row without an answer.
pub fn run(args: PredictArgs, signals: &Signals) -> Result<(), Failure> {
    let mut common = EvaluateRequest {
        out: args.out.clone(),
        ..request(&args.adapter, &args.task, &args.how)?
    };
    let format = line_format(args.format.as_deref(), args.out.as_deref())?;
    let input_format = args.input_format.as_deref().map(input_format).transpose()?;
    prepare(&args.how.device, common.base.threads)?;
    let mut screen = Screen::beside_lines(args.screen);
    let input = match (args.data, args.text.is_empty()) {
        (Some(path), _) => Input::Data(path, common.split.clone()),
        (None, false) => Input::Prompts(args.text),
        (None, true) => {
            if is_typed() {
                screen.note("type prompts or rows, one a line; Ctrl-D ends");
            }
            Input::Stream {
                name: STANDARD_INPUT.into(),
                reader: Box::new(io::stdin()),
                format: input_format,
            }
        }
    };
    common.adapter = fetch_adapter(&common.adapter, &mut screen)?;
    common.model = base_for(args.adapter.model, &common.adapter)?;
    fetch(&common.model, &mut screen)?;
    let to_file = common.out.is_some();
    let request = PredictRequest {
        common,
        input,
        carry: args.carry,
        format,
    };
    let predicted = run::predict(request, &mut |event| screen.show(&event) && signals.go_on());
    screen.close();
    let rows = predicted.map_err(|error| stopped(error, signals))?;
    if !to_file {
        let mut out = io::BufWriter::new(io::stdout().lock());
        write_lines(&mut out, &rows, format)?;
        out.flush()?;
    }
    if args.strict {
        all_answered(&rows)
    } else {
        Ok(())
    }
}

/// How lines are written: as asked, else as the name of the file says.
fn line_format(asked: Option<&str>, out: Option<&Path>) -> Result<LineFormat, CliError> {
    let by_name = || {
        out.and_then(Path::extension)
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
    };
    match asked {
        Some("csv") => Ok(LineFormat::Csv),
        Some("jsonl") => Ok(LineFormat::Jsonl),
        None if by_name() => Ok(LineFormat::Csv),
        None => Ok(LineFormat::Jsonl),
        Some(other) => {
            let message = format!("`--format` is `{other}`, expected one of `jsonl`, `csv`");
            Err(CliError::usage(
                message,
                did_you_mean(other, ["jsonl", "csv"]),
            ))
        }
    }
}

fn input_format(name: &str) -> Result<StreamFormat, CliError> {
    StreamFormat::named(name).ok_or_else(|| {
        let message = format!(
            "`--input-format` is `{name}`, expected one of `{}`",
            StreamFormat::NAMES.join("`, `")
        );
        CliError::usage(message, did_you_mean(name, StreamFormat::NAMES))
    })
}

/// Fails where a row has no answer.
fn all_answered(rows: &[PredictedRow]) -> Result<(), Failure> {
    let mut without = rows
        .iter()
        .filter_map(|row| Some((&row.id, row.answered.as_ref().err()?)));
    let Some((id, reason)) = without.next() else {
        return Ok(());
    };
    let (count, all) = (without.count() + 1, rows.len());
    let message = format!("{count} of {all} rows have no answer, the first is `{id}`: {reason}");
    let hint = Some(
        "each has its reason in its line, under `error`; without `--strict` that is no failure"
            .into(),
    );
    Err(CliError {
        message,
        hint,
        exit: Exit::Data,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_as_asked_else_as_the_file_is_named() {
        let format = |asked, out: &str| line_format(asked, Some(Path::new(out))).unwrap();
        assert_eq!(
            (
                format(None, "a.csv"),
                format(None, "a.jsonl"),
                format(None, "a")
            ),
            (LineFormat::Csv, LineFormat::Jsonl, LineFormat::Jsonl)
        );
        assert_eq!(
            (
                format(Some("csv"), "a.jsonl"),
                format(Some("jsonl"), "a.csv")
            ),
            (LineFormat::Csv, LineFormat::Jsonl)
        );
        let error = line_format(Some("json"), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error: `--format` is `json`, expected one of `jsonl`, `csv`\n\nhint: did you mean `jsonl`?"
        );
        assert_eq!(
            input_format("table").unwrap_err().message,
            "`--input-format` is `table`, expected one of `csv`, `tsv`, `jsonl`, `text`"
        );
    }
}
