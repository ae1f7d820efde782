//! The catalogue of every setting of a run, in the order of the file. Files are checked against it, and
//! flags, the comments of `init` and the docs are made from it.

use std::sync::LazyLock;

use super::config::{EvaluationConfig, ModelConfig, RunConfig};
use crate::data::DataConfig;
use crate::lora::LoraConfig;
use crate::method::Method;
use crate::settings::{Key, Kind};
use crate::train::TrainConfig;

/// A table of the settings file.
#[derive(Clone, Copy, Debug)]
pub struct SettingTable {
    /// Its name; empty for the top of the file.
    pub name: &'static str,
    /// What it is about, in one sentence.
    pub help: &'static str,
    keys: &'static [Key],
}

/// The tables of the file, in its order.
pub static TABLES: [SettingTable; 7] = [
    table("", "The run.", &RunConfig::KEYS),
    table("model", "The base model.", &ModelConfig::KEYS),
    table("data", "Where the examples come from.", &DataConfig::KEYS),
    table(
        "lora",
        "The adapter, in the words of PEFT.",
        &LoraConfig::KEYS,
    ),
    table(
        OPTIMIZER,
        "The optimizer; which keys there are depends on its name.",
        &[METHOD],
    ),
    table(
        "train",
        "Length, batches, schedule, intervals.",
        &TrainConfig::KEYS,
    ),
    table(
        "evaluation",
        "The evaluation at the end.",
        &EvaluationConfig::KEYS,
    ),
];

/// The table with the keys of the methods.
const OPTIMIZER: &str = "optimizer";
const METHOD: Key = Key::new(
    "name",
    Kind::OneOf(&Method::NAMES),
    "The method: ivon learns a variance for each weight, adamw a point; docs/methods.md has all of them.",
)
.with_flag("optimizer", "NAME");

const fn table(name: &'static str, help: &'static str, keys: &'static [Key]) -> SettingTable {
    SettingTable { name, help, keys }
}

/// A key of the file, with its table and the methods that have it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The name of its table; empty for the top of the file.
    pub table: &'static str,
    /// Its row.
    pub key: Key,
    /// The methods that have it; empty if all have.
    pub only: Vec<&'static str>,
}

impl Setting {
    /// `table.key`, or `key` at the top.
    pub fn name(&self) -> String {
        match self.table {
            "" => self.key.name.into(),
            table => format!("{table}.{}", self.key.name),
        }
    }

    /// The name of its flag, without dashes.
    pub fn flag(&self) -> Option<&'static str> {
        self.key.flag.map(|flag| flag.name)
    }

    /// Whether this method has it.
    pub fn belongs_to(&self, method: &str) -> bool {
        self.only.is_empty() || self.only.contains(&method)
    }
}

/// Every setting, in the order of the file.
pub fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> =
        LazyLock::new(|| TABLES.iter().flat_map(of_table).collect());
    &SETTINGS
}

/// The settings of a table.
fn of_table(table: &SettingTable) -> Vec<Setting> {
    let own = table.keys.iter().map(|key| Setting {
        table: table.name,
        key: *key,
        only: Vec::new(),
    });
    match table.name {
        OPTIMIZER => own.chain(of_methods()).collect(),
        _ => own.collect(),
    }
}

/// The keys of all methods, each once, with the methods that have it.
fn of_methods() -> Vec<Setting> {
    let mut found: Vec<Setting> = Vec::new();
    for method in Method::all() {
        for key in method.settings().keys() {
            match found
                .iter_mut()
                .find(|setting| setting.key.name == key.name)
            {
                Some(setting) => setting.only.push(method.name()),
                None => found.push(Setting {
                    table: OPTIMIZER,
                    key,
                    only: vec![method.name()],
                }),
            }
        }
    }
    let shared = found
        .iter_mut()
        .filter(|setting| setting.only.len() == Method::NAMES.len());
    shared.for_each(|setting| setting.only.clear());
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `table.key` of a configuration, those of absent values not.
    fn keys(config: &RunConfig) -> BTreeSet<String> {
        let table: toml::Table = toml::from_str(&toml::to_string(config).unwrap()).unwrap();
        let mut keys = BTreeSet::new();
        for (name, value) in &table {
            match value.as_table() {
                Some(inner) => keys.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => {
                    keys.insert(name.clone());
                }
            }
        }
        keys
    }

    #[test]
    fn the_rows_name_every_key_that_has_a_default_and_no_other() {
        for name in Method::NAMES {
            let config = RunConfig {
                optimizer: Method::named(name).unwrap(),
                ..RunConfig::default()
            };
            // A setting without an example has a default, and the reverse; the path of the data is
            // empty by default.
            // Of the methods that have a key, some may have a default and others none.
            let own = config.optimizer.settings().keys();
            let has_default = |setting: &&Setting| {
                let own = own
                    .iter()
                    .find(|key| setting.table == OPTIMIZER && key.name == setting.key.name);
                own.unwrap_or(&setting.key).example.is_empty() || setting.name() == "data.path"
            };
            let named: BTreeSet<_> = settings()
                .iter()
                .filter(|setting| setting.belongs_to(name))
                .filter(has_default)
                .map(Setting::name)
                .collect();
            assert_eq!(named, keys(&config), "{name}");
        }
    }

    #[test]
    fn every_key_is_one_that_the_structs_read() {
        for setting in settings() {
            let optimizer = setting.only.first().unwrap_or(&"ivon");
            let mut file = format!("[optimizer]\nname = '{optimizer}'\n");
            let (key, value) = (setting.key.name, setting.key.example);
            if value.is_empty() {
                continue;
            }
            match setting.table {
                "" => file = format!("{key} = {value}\n{file}"),
                OPTIMIZER => file += &format!("{key} = {value}\n"),
                table => file += &format!("[{table}]\n{key} = {value}\n"),
            }
            let config: RunConfig =
                toml::from_str(&file).unwrap_or_else(|error| panic!("{}: {error}", setting.name()));
            assert!(
                keys(&config).contains(&setting.name()),
                "{}",
                setting.name()
            );
        }
    }

    #[test]
    fn names_and_flags_are_unique_and_what_a_key_takes_the_place_of_is_there() {
        let names: BTreeSet<_> = settings().iter().map(Setting::name).collect();
        assert_eq!(names.len(), settings().len());
        let flags: Vec<_> = settings().iter().filter_map(Setting::flag).collect();
        assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
        for setting in settings() {
            if let Some(other) = setting.key.instead_of {
                assert!(
                    names.contains(&format!("{}.{other}", setting.table)),
                    "{other}"
                );
            }
        }
    }

    #[test]
    fn a_key_belongs_to_the_methods_that_have_a_row_for_it() {
        let only = |name: &str| {
            let found = settings().iter().find(|setting| setting.name() == name);
            found.unwrap().only.clone()
        };
        assert_eq!(only("optimizer.ess"), ["ivon", "evon"]);
        assert_eq!(only("optimizer.kl_rate"), ["blob", "scalabl"]);
        assert_eq!(only("optimizer.epsilon"), Method::NAMES[2..]);
        assert_eq!(only("optimizer.beta1"), [""; 0]);
        assert_eq!(only("train.steps"), [""; 0]);
    }
}
