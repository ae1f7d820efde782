//! Tables of a run's file, merged → the settings of a run.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::CompareError;
use ivon_lora::run::RunConfig;

/// Merges tables into others, which they override; a table that names another optimizer replaces the one
/// below it.
pub(super) fn merge(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Table(there)), Value::Table(here)) => {
                let is_other = here
                    .get("name")
                    .zip(there.get("name"))
                    .is_some_and(|(here, there)| here != there);
                if is_other {
                    *there = here.clone();
                } else {
                    merge(there, here);
                }
            }
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Overrides tables by settings with names: `train.steps` is `steps` of `[train]`, a name without a dot
/// belongs to the optimizer.
pub fn lay_over(table: &mut Table, settings: &BTreeMap<String, Value>) {
    for (name, value) in settings {
        let (section, key) = name.split_once('.').unwrap_or(("optimizer", name));
        let inner = Table::from_iter([(key.to_string(), value.clone())]);
        merge(
            table,
            &Table::from_iter([(section.to_string(), Value::Table(inner))]),
        );
    }
}

/// A run's settings from their tables.
pub(super) fn resolved(
    mut table: Table,
    seed: u64,
    name: impl Fn() -> String,
) -> Result<RunConfig, CompareError> {
    let seed = i64::try_from(seed).unwrap_or(i64::MAX);
    table.insert("seed".into(), seed.into());
    table.remove("out");
    table
        .try_into()
        .map_err(|error: toml::de::Error| CompareError::CellSettings {
            name: name(),
            reason: error.message().replace('\n', " "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_laid_over_where_their_names_say() {
        let mut table: Table = toml::from_str(
            "[optimizer]\nname = 'ivon'\ness = 1.0\n[train]\nsteps = 3\nbatch_size = 2",
        )
        .unwrap();
        lay_over(
            &mut table,
            &BTreeMap::from([
                ("ess".into(), Value::Float(5.0)),
                ("train.steps".into(), Value::Integer(9)),
                ("lora.rank".into(), Value::Integer(4)),
            ]),
        );
        let expected: Table =
            toml::from_str("[optimizer]\nname = 'ivon'\ness = 5.0\n[train]\nsteps = 9\nbatch_size = 2\n[lora]\nrank = 4").unwrap();
        assert_eq!(table, expected);
    }
}
