//! `predict`: prompts or rows → a line of JSON for each.

use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use ivon_lora::files;
use ivon_lora::run::{self, EvaluateRequest, Input, PredictRequest, Prediction};

use super::{base_for, evaluate::request, fetch, fetch_adapter, is_typed, prepare, stopped};
use crate::args::PredictArgs;
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;

/// The most that is read from standard input.
const LARGEST_INPUT: u64 = 1 << 30;

/// Predicts.
///
/// # Errors
/// Whatever is wrong with base, adapter, rows or a file, and a stop by a signal.
pub fn run(args: PredictArgs, signals: &Signals) -> Result<(), Failure> {
    let mut common = EvaluateRequest { out: args.out.clone(), ..request(&args.adapter, &args.task, &args.how)? };
    prepare(&args.how.device, common.base.threads)?;
    let mut screen = Screen::beside_lines(args.screen);
    let typed;
    let input = match (args.data, args.text.is_empty()) {
        (Some(path), _) => Input::Data(path, common.split.clone()),
        (None, false) => Input::Prompts(args.text),
        (None, true) => {
            if is_typed() {
                screen.note("type prompts or rows, one a line; Ctrl-D ends");
            }
            typed = read(io::stdin().lock())?;
            typed.input()
        }
    };
    common.adapter = fetch_adapter(&common.adapter, &mut screen)?;
    common.model = base_for(args.adapter.model, &common.adapter)?;
    fetch(&common.model, &mut screen)?;
    let out = common.out.clone();
    let predicted = run::predict(&PredictRequest { common, input }, &mut |event| screen.show(&event) && signals.go_on());
    screen.close();
    let lines = predicted.map_err(|error| stopped(error, signals))?;
    if out.is_none() { write(&lines) } else { Ok(()) }
}

/// Writes the lines to standard output.
fn write(lines: &[Prediction]) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in lines {
        serde_json::to_writer(&mut out, line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// What came over standard input.
#[derive(Debug)]
enum Typed {
    Prompts(Vec<String>),
    /// Rows, laid into a file that the library reads; removed at the end.
    Rows(TemporaryFile),
}

impl Typed {
    fn input(&self) -> Input {
        match self {
            Self::Prompts(prompts) => Input::Prompts(prompts.clone()),
            Self::Rows(file) => Input::Data(file.path(), None),
        }
    }
}

/// Reads lines: rows where the first is a JSON object, else prompts.
fn read(mut input: impl BufRead) -> Result<Typed, Failure> {
    let wrong = |message: String, exit| CliError { message, hint: Some("give one prompt or one JSON object on each line".into()), exit };
    let mut text = String::new();
    let read = input.by_ref().take(LARGEST_INPUT + 1).read_to_string(&mut text);
    let read = read.map_err(|error| wrong(format!("could not read standard input: {error}"), Exit::Data))?;
    if read as u64 > LARGEST_INPUT {
        return Err(wrong(format!("standard input has more than {LARGEST_INPUT} bytes"), Exit::Data).into());
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).peekable();
    match lines.peek() {
        None => Err(wrong("standard input has no lines".into(), Exit::Data).into()),
        Some(first) if first.trim_start().starts_with('{') => Ok(Typed::Rows(TemporaryFile::new(&text)?)),
        Some(_) => Ok(Typed::Prompts(lines.map(String::from).collect())),
    }
}

/// A file that is gone when this is dropped.
#[derive(Debug)]
struct TemporaryFile {
    folder: PathBuf,
}

impl TemporaryFile {
    fn new(text: &str) -> Result<Self, CliError> {
        let folder = std::env::temp_dir().join(format!("ivon-lora-{}", std::process::id()));
        let file = Self { folder };
        files::create_folder(&file.folder)?;
        files::write_bytes(&file.path(), text.as_bytes())?;
        Ok(file)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(Path::new("standard-input.jsonl"))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prompts_and_objects_are_rows() {
        let Typed::Prompts(prompts) = read(&b"one\n\n two \n"[..]).unwrap() else { panic!("no prompts") };
        assert_eq!(prompts, ["one", " two "]);
        let rows = read(&b"\n{\"text\": \"a\"}\n"[..]).unwrap();
        let Input::Data(path, None) = rows.input() else { panic!("no rows") };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\n{\"text\": \"a\"}\n");
        drop(rows);
        assert!(!path.exists());
    }

    #[test]
    fn nothing_is_an_error_of_the_data() {
        let Failure::Error(error) = read(&b" \n"[..]).unwrap_err() else { panic!("no error") };
        assert_eq!((error.message.as_str(), error.exit), ("standard input has no lines", Exit::Data));
    }
}
