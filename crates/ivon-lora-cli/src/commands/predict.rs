//! `predict`: prompts or rows → one line each, as JSON or as a table.

use std::io::{self, Write};
use std::path::Path;

use ivon_lora::answer::{
    AnswerError, AnswerOptions, Answerer, LineFormat, PredictedRow, RowOptions, RowSource,
    write_lines,
};
use ivon_lora::data::StreamFormat;
use ivon_lora::files;
use ivon_lora::watch::{Event, Watch};

use super::evaluate::{answer_options, limit, split};
use super::{Place, is_typed, prepare_for, stopped};
use crate::args::PredictArgs;
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// The name of standard input in messages and ids.
const STANDARD_INPUT: &str = "standard-input";

/// Answers prompts or rows.
///
/// # Errors
/// If base model, adapter, rows or a file are wrong, and on a stop by a signal; with `--strict`, if
/// a row has no answer.
pub fn run(args: PredictArgs, signals: &Signals) -> Result<(), Failure> {
    let options = AnswerOptions {
        decide: true,
        ..answer_options(&args.task, &args.prediction)?
    };
    let row_options = RowOptions {
        limit: limit(&args.prediction)?,
        carry: args.carry,
        include_text: args.prediction.include_text.unwrap_or(false),
        ..RowOptions::default()
    };
    let split = split(&args.prediction)?;
    let format = line_format(args.format.as_deref(), args.out.as_deref())?;
    let input_format = args.input_format.as_deref().map(input_format).transpose()?;
    prepare_for(&args.prediction)?;
    let mut screen = Screen::beside_lines(args.screen);
    let source = match (args.data, args.text.is_empty()) {
        (Some(path), _) => RowSource::Files { path, split },
        (None, false) => RowSource::Prompts(args.text),
        (None, true) => standard_input(input_format, &mut screen),
    };
    let place = Place::of(args.adapter, &mut screen)?;
    let lines = Lines {
        out: args.out.as_deref(),
        format,
        options: row_options,
    };
    let predicted = answer(&place, &options, source, &lines, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let rows = predicted.map_err(|error| stopped(error, signals))?;
    if args.out.is_none() {
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

/// What the output lines contain, and how they are written.
struct Lines<'a> {
    /// The file; standard output if absent.
    out: Option<&'a Path>,
    format: LineFormat,
    options: RowOptions,
}

/// Answers the rows, and writes their lines if a file was named.
fn answer(
    place: &Place,
    options: &AnswerOptions,
    source: RowSource,
    lines: &Lines<'_>,
    watch: Watch<'_>,
) -> Result<Vec<PredictedRow>, AnswerError> {
    if let Some(out) = lines.out {
        files::check_can_write(out)?;
    }
    let answerer = Answerer::open(&place.base, &place.adapter, options, watch)?;
    let rows = answerer.answer(source, &lines.options, watch)?;
    if let Some(out) = lines.out {
        files::write_with(out, |file| write_lines(file, &rows, lines.format))?;
        watch(Event::Saved(out));
    }
    Ok(rows)
}

/// Rows or prompts from standard input; on a terminal, a note says how to end the input.
fn standard_input(format: Option<StreamFormat>, screen: &mut Screen) -> RowSource {
    if is_typed() {
        screen.note("type prompts or rows, one a line; Ctrl-D ends");
    }
    RowSource::Stream {
        name: STANDARD_INPUT.into(),
        reader: Box::new(io::stdin()),
        format,
    }
}

/// The format of the lines: as requested, else according to the file's name.
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

/// Fails if any row has no answer.
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
