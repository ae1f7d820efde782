//! Every message of the workspace, read from the source code: the commands and flags it mentions
//! must exist, and it must be made of words.
//!
//! Messages are string literals outside tests. New ones are checked without being listed anywhere.
//! The library names settings and commands by calls to `setting` and `command`, whose arguments are
//! checked as the command line writes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use ivon_lora::sentence::Names;

use crate::args::Args;
use crate::names::Flags;

/// The crates that the program consists of.
const LIBRARIES: [&str; 5] = [
    "ivon",
    "ivon-lora-model",
    "ivon-lora",
    "ivon-lora-lab",
    "ivon-lora-toy",
];
/// The required arguments of each command, to which a flag is added.
const BEGINNINGS: [&str; 28] = [
    "train",
    "evaluate --model m --adapter a --data d",
    "predict --model m --adapter a",
    "generate --model m --text t",
    "generate --model m --text t --samples 2",
    "generate --model m --data d",
    "chat --model m",
    "serve --model m",
    "merge --model m --adapter a --out o",
    "export --adapter a --format gguf --out o",
    "sample --adapter a --draws 2 --out o",
    "inspect model m",
    "inspect adapter a",
    "inspect data d",
    "inspect run r",
    "compare c.toml",
    "compare c.toml --submit ray",
    "compare",
    "scale r",
    "decide r",
    "decide r --max-error 0.05",
    "decide r --max-cost-per-case 0.1",
    "prune r",
    "prune r --share 0.5 --out o",
    "shift r --to n=d",
    "rank --adapter a --data d",
    "report r",
    "data preview",
];
/// Values tried for a flag that a message names without a value.
const VALUES: [&str; 4] = ["", "1", "x", "true"];

/// A string literal and its file.
struct Message {
    file: PathBuf,
    text: String,
}

/// The source files without their tests, which are at the end of a file.
fn sources(crates: &[&str]) -> Vec<Message> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut files = Vec::new();
    for name in crates {
        collect(&folder.join(name).join("src"), &mut files);
    }
    let source = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        Message {
            text: text[..end].into(),
            file,
        }
    };
    files.into_iter().map(source).collect()
}

/// The string literals of these crates.
fn messages_of(crates: &[&str]) -> Vec<Message> {
    let literals_of = |source: Message| {
        literals(&source.text).into_iter().map(move |text| Message {
            file: source.file.clone(),
            text,
        })
    };
    sources(crates).into_iter().flat_map(literals_of).collect()
}

fn messages() -> Vec<Message> {
    let mut crates = LIBRARIES.to_vec();
    crates.push("ivon-lora-cli");
    messages_of(&crates)
}

/// The settings or the commands that the library names, as written on the command line.
fn named(call: &str, written: fn(&[String]) -> String) -> Vec<Message> {
    let mut found = Vec::new();
    for Message { file, text } in sources(&LIBRARIES) {
        for (place, _) in text.match_indices(&format!("{call}(\"")) {
            // Skips the end of a longer name.
            if text[..place].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
                continue;
            }
            let arguments = text[place..].split(')').next().unwrap_or_default();
            found.push(Message {
                file: file.clone(),
                text: written(&literals(arguments)),
            });
        }
    }
    found
}

/// The source files below a folder, except tests.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        if ["tests", "testing", "conformance", "hints", "docs"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// The string literals of a source file, unescaped as far as words require.
fn literals(source: &str) -> Vec<String> {
    let letters: Vec<char> = source.chars().collect();
    let at = |place: usize| letters.get(place).copied().unwrap_or('\0');
    let (mut found, mut place) = (Vec::new(), 0);
    while place < letters.len() {
        match (at(place), at(place + 1)) {
            ('/', '/') => {
                while place < letters.len() && at(place) != '\n' {
                    place += 1
                }
            }
            // A character literal, not a lifetime.
            ('\'', '\\') => place += 3,
            ('\'', _) if at(place + 2) == '\'' => place += 3,
            ('"', _) => {
                let mut text = String::new();
                place += 1;
                while place < letters.len() && at(place) != '"' {
                    if at(place) != '\\' {
                        text.push(at(place));
                    } else if at(place + 1) == '\n' {
                        while at(place + 1).is_whitespace() {
                            place += 1
                        }
                    } else {
                        place += 1;
                        text.push(if at(place) == 'n' { '\n' } else { at(place) });
                    }
                    place += 1;
                }
                place += 1;
                found.push(text);
            }
            _ => place += 1,
        }
    }
    found
}

/// The parts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words of a message, with each placeholder filled in.
fn filled(words: &str) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for letter in words.chars() {
        match letter {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                text.push('x');
            }
            '…' => text.push('x'),
            letter if depth == 0 => text.push(letter),
            _ => {}
        }
    }
    text
}

fn parses(line: &str) -> bool {
    // A request for help is correct, too.
    let parsed = Args::try_parse_from(std::iter::once("ivon-lora").chain(line.split_whitespace()));
    parsed.err().is_none_or(|error| !error.use_stderr())
}

/// Whether some command accepts the flag, with its value if it has one.
fn is_flag(words: &str) -> bool {
    let name = words.split(['=', ' ']).next().unwrap_or(words);
    let with = |beginning: &str, value: &str| {
        // A flag that is already among the required arguments is replaced.
        let kept = beginning
            .split(&format!(" {name} "))
            .next()
            .unwrap_or(beginning);
        let rest = beginning
            .split_once(&format!(" {name} "))
            .map_or("", |(_, rest)| {
                rest.split_once(' ').map_or("", |(_, rest)| rest)
            });
        parses(&format!("{kept} {rest} {words} {value}"))
    };
    BEGINNINGS
        .iter()
        .any(|beginning| VALUES.iter().any(|value| with(beginning, value)))
}

/// The long flags in a text, unless it is a call to another program.
fn flags(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("--").skip(1) {
        let name: String = part
            .chars()
            .take_while(|letter| letter.is_ascii_lowercase() || *letter == '-')
            .collect();
        if name.len() > 1 {
            found.push(name.trim_end_matches('-').to_string());
        }
    }
    found
}

#[test]
fn every_command_that_a_message_names_is_understood() {
    let mut count = 0;
    for Message { file, text } in messages() {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("ivon-lora "));
        let inside = quoted(&text).filter(|words| words.starts_with("ivon-lora "));
        for words in inside.chain(lines) {
            let words = filled(words.split(['<', '>', '|']).next().unwrap_or(words));
            let arguments = words
                .trim_start_matches("ivon-lora ")
                .trim_end_matches(['`', '.', ':']);
            let is_named =
                parses(arguments) || is_command(arguments) || arguments.contains("COMMAND");
            assert!(
                is_named || arguments.starts_with("--"),
                "`{arguments}` in {}",
                file.display()
            );
            count += 1;
        }
    }
    for Message { file, text } in named("command", |words| Flags.command(&words[0])) {
        let words = text.trim_start_matches("ivon-lora ");
        assert!(is_command(words), "`{text}` in {}", file.display());
        count += 1;
    }
    assert!(count > 10, "{count}");
}

/// Whether the words are a command without its required arguments.
fn is_command(words: &str) -> bool {
    let command = Args::command();
    let mut words = words.split_whitespace();
    let Some(found) = words.next().and_then(|name| command.find_subcommand(name)) else {
        return false;
    };
    words
        .next()
        .is_none_or(|inner| found.find_subcommand(inner).is_some())
}

/// Whether flags in a text are those of another program.
fn is_call_of_another_program(text: &str) -> bool {
    [
        "sbatch",
        "submit --",
        "cargo ",
        "convert_lora_to_gguf",
        "gguf-split",
    ]
    .iter()
    .any(|name| text.contains(name))
}

#[test]
fn every_flag_that_a_message_names_is_one_of_some_command() {
    let mut seen = BTreeSet::new();
    for Message { file, text } in messages() {
        for words in
            quoted(&text).filter(|words| words.starts_with("--") && !words.starts_with("--{"))
        {
            let words = filled(words);
            // Several flags in a row are tried one by one below.
            if words.matches("--").count() == 1
                && words
                    .trim_start_matches('-')
                    .starts_with(|letter: char| letter.is_ascii_lowercase())
            {
                assert!(is_flag(&words), "`{words}` in {}", file.display());
            }
        }
        if is_call_of_another_program(&text) {
            continue;
        }
        for flag in flags(&filled(&text)) {
            assert!(
                is_flag(&format!("--{flag}")),
                "`--{flag}` in {}: {text}",
                file.display()
            );
            seen.insert(flag);
        }
    }
    let alone = |words: &[String]| Flags.setting(&words[0], None);
    // A value that is filled in when the message is formatted may be anything.
    let with_value = |words: &[String]| {
        let value = words.get(1).map_or("x", String::as_str);
        Flags.setting(&words[0], Some(value))
    };
    let settings = named("setting", alone);
    for Message { file, text } in settings.into_iter().chain(named("setting_to", with_value)) {
        assert!(is_flag(&text), "`{text}` in {}", file.display());
        seen.insert(text);
    }
    assert!(seen.len() > 40, "{seen:?}");
}

#[test]
fn the_library_names_settings_and_commands_and_leaves_it_to_others_how_they_are_written() {
    // The READMEs of an adapter and of the toy's data show complete commands.
    let documents = ["bundle/card.rs", "ivon-lora-toy/src/lib.rs"];
    for Message { file, text } in messages_of(&LIBRARIES) {
        let is_document = documents.iter().any(|name| file.ends_with(name));
        if is_document || is_call_of_another_program(&text) {
            continue;
        }
        let flags = flags(&filled(&text));
        assert!(flags.is_empty(), "{flags:?} in {}: {text}", file.display());
        let mut lines = text.lines().map(str::trim).chain(quoted(&text));
        assert!(
            !lines.any(|words| words.starts_with("ivon-lora ")),
            "{}: {text}",
            file.display()
        );
    }
}

#[test]
fn no_message_shows_a_value_as_only_a_programmer_reads_it() {
    // Shapes are written as lists of numbers; tokens are shown with their blanks; a secret is
    // redacted by hand; a fingerprint, a number in a template and the output of a test are not
    // messages.
    let meant = [
        "preview.rs",
        "hub.rs",
        "settings.rs",
        "weights.rs",
        "contents.rs",
        "checkpoint.rs",
        "lexer.rs",
        "pruned.rs",
    ];
    for Message { file, text } in messages() {
        let is_meant = meant.iter().any(|name| file.ends_with(name)) || text.contains("shape");
        assert!(
            is_meant || !text.contains(":?}"),
            "`{text}` in {}",
            file.display()
        );
    }
}

#[test]
fn what_is_no_flag_and_no_command_is_told_from_what_is() {
    assert!(
        is_flag("--device cpu") && is_flag("--out") && is_flag("--model") && is_flag("--resume")
    );
    assert!(!is_flag("--devise cpu") && !is_flag("--no-such-flag"));
    assert!(
        is_command("predict")
            && is_command("inspect run")
            && !is_command("inspect runs")
            && !is_command("guess")
    );
    assert_eq!(
        literals("let a = \"x \\\n    `--y`\"; // \"no\"\nlet b = '\"'; let c = \"d\";"),
        ["x `--y`", "d"]
    );
    assert_eq!(filled("`--out {}` and {name:?}…"), "`--out x` and xx");
}
