//! The pages of the docs that the program knows best, written from its own tables and compared with
//! what is in docs/.
//!
//! `IVON_LORA_WRITE_DOCS=1 cargo test -p ivon-lora-cli docs` writes docs/configuration.md anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use ivon_lora::method::Method;
use ivon_lora::run::RunConfig;
use ivon_lora::settings::Kind;
use toml::{Table, Value};

use crate::args::Args;
use crate::init::shown;
use crate::settings::{self, Setting, TABLES, settings};

const BEGINNING: &str = "\
# Configuration

A TOML file holds a run: `ivon-lora train --config run.toml`. `ivon-lora init` writes one with every key, `ivon-lora train … --dry-run`
prints the one that a set of flags and a file come to, and a run saves its own as `run.toml`, which is such a file again.

Flags override the file, the file overrides the defaults. An unknown key is an error that names the nearest known one. Paths are
relative to where the command runs. The `[optimizer]` table belongs to one optimizer: where `--optimizer` names another than the file
does, the file's `[optimizer]` table is set aside, and the program says so.

This page is written by a test (`crates/ivon-lora-cli/src/tests/docs.rs`) from the rows beside the structs of settings.
";

fn page() -> String {
    let defaults = Method::all().map(|method| {
        let name = method.name();
        (
            name,
            Table::try_from(RunConfig {
                optimizer: method,
                ..RunConfig::default()
            })
            .unwrap(),
        )
    });
    let mut page = BEGINNING.to_string();
    for table in &TABLES {
        let (table, help) = (table.name, table.help);
        let title = if table.is_empty() {
            "At the top of the file".into()
        } else {
            format!("`[{table}]`")
        };
        let _ = write!(
            page,
            "\n## {title}\n\n{help}\n\n| key | flag | value | default | |\n|---|---|---|---|---|\n"
        );
        for setting in settings().iter().filter(|setting| setting.table == table) {
            let flag = setting
                .flag()
                .map_or_else(String::new, |flag| format!("`--{flag}`"));
            let only = if setting.only.is_empty() {
                String::new()
            } else {
                format!(" ({} only)", setting.only.join(", "))
            };
            let default = default(setting, &defaults);
            let _ = writeln!(
                page,
                "| `{}` | {flag} | {}{only} | {default} | {} |",
                setting.key.name,
                setting.key.kind.name(),
                setting.key.help.replace('|', "\\|")
            );
        }
    }
    page
}

/// The default of a setting, of each optimizer where they differ.
fn default(setting: &Setting, defaults: &[(&str, Table)]) -> String {
    let of = |table: &Table| {
        let inner = table
            .get(setting.table)
            .and_then(Value::as_table)
            .unwrap_or(table);
        inner
            .get(setting.key.name)
            .filter(|value| value.as_str() != Some(""))
            .map(|value| {
                format!(
                    "`{}`",
                    shown(value)
                        .unwrap()
                        .replace(['\n', ' '], "")
                        .replace(",]", "]")
                        .replace(',', ", ")
                )
            })
    };
    let values: Vec<(&str, Option<String>)> = defaults
        .iter()
        .filter(|(name, _)| setting.belongs_to(name))
        .map(|(name, table)| (*name, of(table)))
        .collect();
    match &values[..] {
        // The other methods share AdamW's settings.
        [(_, Some(one)), (_, Some(two)), rest @ ..] if one != two && setting.key.name != "name" => {
            assert!(
                rest.iter().all(|(_, value)| value.as_ref() == Some(two)),
                "{}",
                setting.name()
            );
            format!("ivon {one}, the others {two}")
        }
        [(_, Some(value)), ..] => value.clone(),
        _ => String::new(),
    }
}

fn docs(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).join(name)
}

#[test]
fn the_page_of_the_configuration_is_that_of_the_program() {
    let path = docs("configuration.md");
    if std::env::var_os("IVON_LORA_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == page(),
        "docs/configuration.md is out of date: run with IVON_LORA_WRITE_DOCS=1"
    );
}

#[test]
fn the_page_of_the_commands_has_every_command_every_flag_and_every_exit_code() {
    let page = std::fs::read_to_string(docs("commands.md")).unwrap();
    let mut missing = BTreeSet::new();
    let mut look = |text: String| {
        if !page.contains(&text) {
            missing.insert(text);
        }
    };
    let mut commands = vec![(String::from("ivon-lora"), Args::command())];
    while let Some((name, command)) = commands.pop() {
        for inner in command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
        {
            commands.push((format!("{name} {}", inner.get_name()), inner.clone()));
        }
        if !command.has_subcommands() {
            look(format!("`{name}`"));
            look(format!("\n{name}"));
        }
        for long in command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .filter(|long| !["help", "version"].contains(long))
        {
            look(format!("`--{long}"));
        }
    }
    for code in [0, 1, 2, 3, 4, 5, 6, 130, 143] {
        look(format!("\n| {code} |"));
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn the_help_of_train_has_every_key_without_a_flag_and_every_word_that_a_flag_takes() {
    let mut command = Args::command();
    let train = command.find_subcommand_mut("train").unwrap();
    let help = train.render_help().to_string();
    for name in settings()
        .iter()
        .filter(|setting| setting.key.flag.is_none())
        .map(Setting::name)
    {
        assert!(
            help.contains(&format!("{name},")) || help.contains(&format!("{name}.\n")),
            "{name} is missing from\n{help}"
        );
    }
    for setting in settings() {
        let (Some(flag), Kind::OneOf(words)) = (setting.flag(), setting.key.kind) else {
            continue;
        };
        let argument = train
            .get_arguments()
            .find(|argument| argument.get_long() == Some(flag))
            .unwrap();
        let help = argument.get_help().unwrap().to_string();
        let said: Vec<&str> = help.split([' ', ',', ':', ';']).collect();
        for word in words {
            assert!(
                said.contains(word),
                "--{flag} does not say `{word}`: {help}"
            );
        }
    }
}

#[test]
fn a_flag_that_is_a_setting_is_called_alike_and_takes_the_same_in_every_command() {
    let command = Args::command();
    let mut commands: Vec<_> = command.get_subcommands().collect();
    let mut count = 0;
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        for argument in command.get_arguments() {
            let Some(setting) = argument.get_long().and_then(settings::of_flag) else {
                continue;
            };
            // Where a command writes one file, or reads rows from somewhere else.
            if ["out", "data"].contains(&argument.get_id().as_str()) {
                continue;
            }
            let found = argument.get_value_names().map(|names| names[0].as_str());
            let expected = setting.key.flag.map(|flag| flag.value);
            let name = command.get_name();
            assert_eq!(found, expected, "{} of {name}", setting.name());
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}
