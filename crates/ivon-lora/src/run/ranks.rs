//! A run of several ranks: what is refused, what must be the same on all of them, and what their
//! reductions cost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{RunConfig, RunError};
use crate::method::DrawPer;
use crate::ranks::{Reductions, Team};
use crate::settings::SettingError;

/// Methods whose steps need more of an objective than the gradients of the adapter.
const REFUSED: [&str; 1] = ["last-layer"];

/// Refuses what several ranks cannot train.
///
/// # Errors
/// [`RunError::Setting`].
pub(super) fn check_method_on_ranks(config: &RunConfig, ranks: usize) -> Result<(), RunError> {
    let method = &config.optimizer;
    let refused = |name: &'static str, found: String, expected: &'static str| {
        Err(RunError::Setting(SettingError::new(name, found, expected)))
    };
    if REFUSED.contains(&method.name()) {
        let found = format!("`{}` on {ranks} ranks", method.name());
        return refused("optimizer", found, "another method, or one rank");
    }
    let accumulation = config.train.accumulation;
    let draws_apart = method
        .as_ivon()
        .is_some_and(|ivon| ivon.draw_per == DrawPer::MicroBatch);
    if draws_apart && accumulation > 1 && !accumulation.is_multiple_of(ranks) {
        let found = format!("{accumulation} on {ranks} ranks with a draw for each micro-batch");
        let expected = "a multiple of the number of ranks, or one draw for the step (`draw_per`)";
        return refused("accumulation", found, expected);
    }
    Ok(())
}

/// Compares what the run depends on with that of the first rank.
///
/// # Errors
/// [`RunError::RanksDiffer`] for the first difference, on all ranks.
pub(super) fn check_same_on_ranks(team: &Team<'_>, config: &RunConfig) -> Result<(), RunError> {
    let all = team.gathered(&facts(config))?;
    let first = all.first().cloned().unwrap_or_default();
    for (rank, facts) in all.iter().enumerate() {
        let names = first.keys().chain(facts.keys());
        let is_other = |name: &&String| first.get(*name) != facts.get(*name);
        if let Some(name) = names.into_iter().find(is_other) {
            let value = |facts: &BTreeMap<String, String>| {
                facts
                    .get(name)
                    .map_or_else(|| "none".into(), |value| format!("`{value}`"))
            };
            return Err(RunError::RanksDiffer {
                rank,
                what: name.clone(),
                found: value(facts),
                expected: value(&first),
            });
        }
    }
    Ok(())
}

/// Settings by name, and the hashes of base and data files; not where they are.
fn facts(config: &RunConfig) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let provenance = config.provenance.clone().unwrap_or_default();
    let files = provenance.files.iter().map(|(path, hash)| {
        let name = path.rsplit('/').next().unwrap_or(path);
        (format!("data file `{name}`"), hash.clone())
    });
    facts.extend(files);
    facts.insert("version of the program".into(), provenance.program);
    facts.insert("base model".into(), provenance.base_hash);
    let mut table = toml::Table::try_from(config).unwrap_or_default();
    for place in ["provenance", "out"] {
        table.remove(place);
    }
    for (section, local) in [
        ("model", &["threads", "path", "adapter"][..]),
        ("data", &["path"]),
    ] {
        if let Some(toml::Value::Table(table)) = table.get_mut(section) {
            local.iter().for_each(|key| drop(table.remove(*key)));
        }
    }
    for (section, value) in table {
        match value {
            toml::Value::Table(settings) => facts.extend(
                settings
                    .into_iter()
                    .map(|(name, value)| (format!("`{section}.{name}`"), value.to_string())),
            ),
            value => drop(facts.insert(format!("`{section}`"), value.to_string())),
        }
    }
    facts
}

/// `2 ranks: 12 reductions of 0.13 MB each in training, 0.4 s of its 5.2 s`.
pub(super) fn reductions_note(team: &Team<'_>, training: Duration) -> String {
    let Reductions {
        count,
        bytes,
        seconds,
    } = team.reductions();
    let megabytes = bytes as f64 / 1e6 / count.max(1) as f64;
    format!(
        "{} ranks: {count} reductions of {megabytes:.3} MB each in training, {seconds:.2} s of its {:.2} s",
        team.size(),
        training.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Method;
    use crate::ranks::{Ranks, ThreadRank};

    #[test]
    fn a_setting_that_differs_is_named_on_all_ranks_and_the_number_of_threads_may_differ() {
        let check = |change: fn(&mut RunConfig)| {
            ThreadRank::run(2, |ranks| {
                let mut config = RunConfig::default();
                if ranks.rank() == 1 {
                    change(&mut config);
                }
                let checked = check_same_on_ranks(&Team::new(ranks), &config);
                checked.err().map(|error| error.to_string())
            })
        };
        let said = "rank 1 has another `train.batch_size` than rank 0: `3`, expected `8`";
        let found = check(|config| config.train.batch_size = 3);
        let expected = RunConfig::default().train.batch_size;
        let said = said.replace("`8`", &format!("`{expected}`"));
        assert_eq!(found, [Some(said.clone()), Some(said)]);
        assert_eq!(check(|config| config.model.threads = Some(7)), [None, None]);
    }

    #[test]
    fn what_ranks_cannot_train_is_refused() {
        let refused = |name: &str, accumulation: usize| {
            let mut config = RunConfig {
                optimizer: Method::named(name).unwrap(),
                ..RunConfig::default()
            };
            if let Method::Ivon(ivon) = &mut config.optimizer {
                ivon.draw_per = DrawPer::MicroBatch;
            }
            config.train.accumulation = accumulation;
            let checked = check_method_on_ranks(&config, 2);
            checked.err().map(|error| error.to_string())
        };
        assert_eq!(
            refused("last-layer", 1).unwrap(),
            "`optimizer` is `last-layer` on 2 ranks, expected another method, or one rank"
        );
        assert!(
            refused("ivon", 3)
                .unwrap()
                .starts_with("`accumulation` is 3 on 2 ranks with")
        );
        assert_eq!(
            [refused("ivon", 1), refused("ivon", 4), refused("adamw", 3)],
            [None, None, None]
        );
    }
}
