//! A configuration file with every key, its default and a description, for editing.

use ivon_lora::method::Method;
use ivon_lora::run::RunConfig;
use toml::Value;

use crate::settings::{Setting, TABLES, settings};

/// Values that the file is to contain already.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The base model.
    pub model: Option<String>,
    /// The data.
    pub data: Option<String>,
    /// The task.
    pub task: Option<String>,
}

/// The text of the file. A key without a default appears in a comment, with an example.
///
/// # Errors
/// If the defaults cannot be written as TOML.
pub fn commented(optimizer: &Method, named: &Inputs) -> Result<String, toml::ser::Error> {
    let mut config = RunConfig {
        optimizer: optimizer.clone(),
        ..RunConfig::default()
    };
    config.model.path.clone_from(&named.model);
    config.data.task.clone_from(&named.task);
    config.data.path = named.data.clone().unwrap_or_default().into();
    let values = toml::Table::try_from(&config)?;
    let mut text = format!(
        "# A run of ivon-lora {}: ivon-lora train --config THIS_FILE\n",
        env!("CARGO_PKG_VERSION")
    );
    text += "# Flags override what stands here. Lines that begin with `# key =` have no default: the value is an example.\n";
    for table in &TABLES {
        let (table, help) = (table.name, table.help);
        text += "\n";
        if table.is_empty() {
            text += &format!("# {help}\n");
        } else {
            text += &format!("# {help}\n[{table}]\n");
        }
        let inner = values
            .get(table)
            .and_then(Value::as_table)
            .unwrap_or(&values);
        for setting in settings()
            .iter()
            .filter(|setting| setting.table == table && setting.belongs_to(optimizer.name()))
        {
            text += &entry(setting, inner.get(setting.key.name))?;
        }
    }
    Ok(text)
}

fn entry(setting: &Setting, value: Option<&Value>) -> Result<String, toml::ser::Error> {
    let flag = setting
        .flag()
        .map_or_else(String::new, |flag| format!(" (--{flag})"));
    let line = match value.filter(|value| value.as_str() != Some("")) {
        Some(value) => format!("{} = {}", setting.key.name, shown(value)?),
        None => format!("# {} = {}", setting.key.name, setting.key.example),
    };
    Ok(format!("# {}{flag}\n{line}\n", setting.key.help))
}

/// A value as TOML writes it after the equals sign.
pub fn shown(value: &Value) -> Result<String, toml::ser::Error> {
    // As a line of a table, since a bare number is not a TOML document.
    let line = toml::to_string(&toml::Table::from_iter([("k".to_string(), value.clone())]))?;
    Ok(line.trim_start_matches("k = ").trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn the_file_parses_to_the_defaults() {
        for name in Method::NAMES {
            let optimizer = Method::named(name).unwrap();
            let text = commented(&optimizer, &Inputs::default()).unwrap();
            let table = file::parse(&text, "run.toml").unwrap();
            assert_eq!(
                table.try_into::<RunConfig>().unwrap(),
                RunConfig {
                    optimizer,
                    ..RunConfig::default()
                }
            );
        }
    }

    #[test]
    fn what_was_named_stands_in_the_file() {
        let named = Inputs {
            model: Some("org/name".into()),
            data: Some("d \"q\"".into()),
            task: Some("sst2".into()),
        };
        let text = commented(&Method::default(), &named).unwrap();
        let config: RunConfig = toml::from_str(&text).unwrap();
        assert_eq!(
            (config.model.path, config.data.task),
            (named.model, named.task)
        );
        assert_eq!(config.data.path.to_str(), Some("d \"q\""));
    }

    #[test]
    fn every_key_is_there_with_its_sentence_and_its_examples_parse() {
        let text = commented(&Method::default(), &Inputs::default()).unwrap();
        for setting in settings()
            .iter()
            .filter(|setting| setting.belongs_to("ivon"))
        {
            assert!(text.contains(setting.key.help), "{}", setting.name());
        }
        let without = text
            .lines()
            .filter(|line| !line.starts_with("# posterior_sd"));
        let bare: Vec<&str> = without
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split(' ').nth(1) == Some("=") => rest,
                _ => line,
            })
            .collect();
        let table =
            file::parse(&bare.join("\n"), "run.toml").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            table.try_into::<RunConfig>().unwrap().train.steps,
            Some(400)
        );
    }
}
