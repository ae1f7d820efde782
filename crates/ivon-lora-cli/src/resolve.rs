//! Raw flags over a file over defaults → one run, validated once.

use std::path::Path;

use ivon_lora::data::DataConfig;
use ivon_lora::run::RunConfig;
use serde::de::DeserializeOwned;
use toml::Value;

use crate::args::{DataFlags, FlagValue, Group, SettingFlags, TaskFlags, TrainArgs};
use crate::exit::{CliError, Exit};
use crate::file::{self, default_optimizer};
use crate::settings::{self, Setting};
use crate::suggest::did_you_mean;

/// A run with a value for every setting, and notes for the user on how it was resolved.
#[derive(Debug, PartialEq)]
pub struct ResolvedRun {
    /// The run.
    pub config: RunConfig,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// Settings with the values given by flags.
type FlagValues = Vec<(&'static Setting, Value)>;

/// The run requested from `train`.
///
/// # Errors
/// If the file or a flag is wrong, a flag does not belong to the optimizer, or a value is out of
/// range.
pub fn train(args: &TrainArgs) -> Result<ResolvedRun, CliError> {
    let file = read(args.config.as_deref())?;
    resolve(file, values(&args.settings)?)
}

/// Like [`train`], with the settings of `base` instead of the defaults; the optimizer is that of
/// `base`, and the file's settings for a different one are ignored.
///
/// # Errors
/// As [`train`].
pub fn train_over(args: &TrainArgs, base: &RunConfig) -> Result<RunConfig, CliError> {
    let wrong = |error: toml::ser::Error| CliError::usage(error.to_string(), None);
    let mut over = read(args.config.as_deref())?;
    change_optimizer(&mut over, base.optimizer.name());
    let mut settings = toml::Table::try_from(base).map_err(wrong)?;
    for (key, value) in over {
        match value {
            Value::Table(inner) => table(&mut settings, &key).extend(inner),
            value => {
                settings.insert(key, value);
            }
        }
    }
    let flags = values(&args.settings)?
        .into_iter()
        .filter(|(setting, _)| setting.flag() != Some("optimizer"))
        .collect();
    Ok(resolve(settings, flags)?.config)
}

/// The run whose data `data preview` shows: only its model and data matter.
///
/// # Errors
/// As [`train`].
pub fn preview(
    config: Option<&Path>,
    model: Option<&String>,
    data: Option<&Path>,
    settings: &DataFlags,
) -> Result<RunConfig, CliError> {
    let mut flags = values(settings)?;
    let mut add = |key: Option<&'static Setting>, value: Option<Value>| {
        flags.extend(key.zip(value));
    };
    let data = data.map(|data| path("data", data)).transpose()?;
    add(
        settings::of_flag("model"),
        model.map(|model| model.as_str().into()),
    );
    add(settings::of_flag("data"), data);
    Ok(resolve(read(config)?, flags)?.config)
}

/// The data settings that describe a task, with defaults for everything else.
///
/// # Errors
/// If a value is not one of its setting.
pub fn task(flags: &TaskFlags) -> Result<DataConfig, CliError> {
    let mut file = toml::Table::new();
    for (setting, value) in values(flags)? {
        place(&mut file, setting, value)?;
    }
    parsed(std::mem::take(table(&mut file, "data")))
}

fn read(path: Option<&Path>) -> Result<toml::Table, CliError> {
    path.map_or_else(|| Ok(toml::Table::new()), file::read)
}

/// Applies flags over the file's values, and defaults for everything else.
fn resolve(mut file: toml::Table, flags: FlagValues) -> Result<ResolvedRun, CliError> {
    let mut notes = Vec::new();
    let named = flags
        .iter()
        .find(|(setting, _)| setting.flag() == Some("optimizer"));
    if let Some((_, Value::String(name))) = named {
        notes.extend(change_optimizer(&mut file, name));
    }
    for (setting, value) in &flags {
        place(&mut file, setting, value.clone())?;
    }
    check_flags(&flags, optimizer_name(&mut file))?;
    // Written by the run that saved the file; this is a new run.
    file.remove("provenance");
    let config: RunConfig = parsed(file)?;
    config.validate().map_err(|error| CliError {
        exit: Exit::Usage,
        ..error.into()
    })?;
    Ok(ResolvedRun { config, notes })
}

/// A table as the settings that it holds.
fn parsed<T: DeserializeOwned>(table: toml::Table) -> Result<T, CliError> {
    table.try_into().map_err(|error: toml::de::Error| {
        let lines = error.message().lines().collect::<Vec<_>>();
        CliError::usage(
            format!("the settings cannot be used: {}", lines.join(" ")),
            None,
        )
    })
}

/// The name of the optimizer; set to the default if the file has none.
fn optimizer_name(file: &mut toml::Table) -> &str {
    table(file, "optimizer")
        .entry("name")
        .or_insert_with(|| default_optimizer().into())
        .as_str()
        .unwrap_or(default_optimizer())
}

/// Checks that every flag belongs to the optimizer.
fn check_flags(flags: &FlagValues, optimizer: &str) -> Result<(), CliError> {
    let mut settings = flags.iter().map(|(setting, _)| setting);
    let Some(setting) = settings.find(|setting| !setting.belongs_to(optimizer)) else {
        return Ok(());
    };
    let hint = format!(
        "leave it away, or choose `--optimizer {}`",
        setting.only.join("` or `--optimizer ")
    );
    let flag = setting.flag().unwrap_or(setting.key.name);
    Err(CliError::usage(
        format!("the optimizer `{optimizer}` has no `--{flag}`"),
        Some(hint),
    ))
}

/// Settings of one optimizer mean nothing to another: a flag that changes the optimizer discards
/// the file's.
fn change_optimizer(file: &mut toml::Table, name: &str) -> Option<String> {
    let table = file.get("optimizer")?.as_table()?;
    let before = table
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or(default_optimizer())
        .to_string();
    if before == name {
        return None;
    }
    let others = table
        .keys()
        .filter(|key| *key != "name")
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>();
    file.remove("optimizer");
    let list = others.join(", ");
    (!others.is_empty()).then(|| {
        format!("`--optimizer {name}` sets the file's settings of `{before}` aside: {list}")
    })
}

/// Sets the key of a flag; removes the key that the flag replaces.
fn place(file: &mut toml::Table, setting: &Setting, value: Value) -> Result<(), CliError> {
    let key = setting.key;
    if let (Some(words), Value::String(found)) = (key.kind.words(), &value)
        && !words.contains(&found.as_str())
    {
        let flag = setting.flag().unwrap_or(key.name);
        let message = format!("`--{flag}` is `{found}`, expected {}", key.kind.name());
        return Err(CliError::usage(
            message,
            did_you_mean(found, words.iter().copied()),
        ));
    }
    let table = table(file, setting.table);
    if let Some(instead) = key.instead_of {
        table.remove(instead);
    }
    table.insert(key.name.into(), value);
    Ok(())
}

/// A table of the file, created if necessary; the file itself for the top level.
fn table<'a>(file: &'a mut toml::Table, name: &str) -> &'a mut toml::Table {
    if name.is_empty() {
        return file;
    }
    let entry = file
        .entry(name)
        .or_insert_with(|| Value::Table(toml::Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(toml::Table::new());
    }
    match entry {
        Value::Table(table) => table,
        _ => unreachable!("made a table just before"),
    }
}

/// The values of flags as they would stand in a file.
fn values<G: Group>(flags: &SettingFlags<G>) -> Result<FlagValues, CliError> {
    let value = |(setting, value): (&'static Setting, &FlagValue)| match value {
        FlagValue::Toml(value) => Ok((setting, value.clone())),
        FlagValue::Path(given) => {
            let flag = setting.flag().unwrap_or(setting.key.name);
            Ok((setting, path(flag, given)?))
        }
    };
    flags.iter().map(value).collect()
}

/// A path as a TOML string, since a saved run stores its paths as text.
fn path(flag: &str, value: &Path) -> Result<Value, CliError> {
    let text = value.to_str().ok_or_else(|| {
        CliError::usage(
            format!("`--{flag}` is not UTF-8: `{}`", value.display()),
            None,
        )
    })?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ivon_lora::data::ChatSetting;
    use ivon_lora::lora::TargetModules;
    use ivon_lora::method::Method;
    use ivon_lora::train::{ClassWeights, Schedule, WeightRule};

    use super::*;
    use crate::args::{Args, Command};

    /// The run of a file and flags.
    fn run(file: &str, flags: &str) -> Result<ResolvedRun, CliError> {
        let args =
            Args::try_parse_from(format!("ivon-lora train {flags}").split_whitespace()).unwrap();
        let Command::Train(args) = args.command else {
            panic!("not train")
        };
        resolve(file::parse(file, "run.toml")?, values(&args.settings)?)
    }

    fn config(file: &str, flags: &str) -> RunConfig {
        run(file, flags).unwrap().config
    }

    fn error(file: &str, flags: &str) -> String {
        run(file, flags).unwrap_err().to_string()
    }

    #[test]
    fn without_flags_and_file_a_run_is_the_librarys_default() {
        assert_eq!(config("", ""), RunConfig::default());
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "seed = 3\n[train]\nbatch_size = 8\nschedule = 'cosine'\n[lora]\nrank = 4\n";
        let config = config(file, "--batch-size 2 --model m --data d --task boolq");
        assert_eq!(
            (config.seed, config.train.batch_size, config.lora.rank),
            (3, 2, 4)
        );
        assert_eq!(
            (config.train.schedule, config.lora.alpha),
            (Schedule::Cosine, 16.0)
        );
        assert_eq!(
            (config.model.path.as_deref(), config.data.task.as_deref()),
            (Some("m"), Some("boolq"))
        );
    }

    #[test]
    fn class_weights_are_a_word_or_numbers() {
        let weights = |flags: &str| config("", flags).train.class_weights;
        let rule = Some(ClassWeights::Rule(WeightRule::Balanced));
        assert_eq!(weights("--class-weights balanced"), rule);
        let numbers = Some(ClassWeights::ByAnswer(vec![1.0, 19.0]));
        assert_eq!(weights("--class-weights 1,19"), numbers);
        assert_eq!(
            error("", "--class-weights even"),
            "error: `--class-weights` is `even`, expected `balanced` or a list of numbers"
        );
    }

    #[test]
    fn every_flag_that_stands_for_a_key_arrives_there() {
        let flags = "--model m --data d --out o --adapter a --optimizer ivon --recipe paper --update newton --learning-rate 0.5 --posterior-sd 0.02 --hess-init 0.1 \
            --beta1 0.8 --beta2 0.999 --weight-decay 0.01 --clip-radius 0.3 --mc-samples 2 --rescale-lr --max-grad-norm 1 --steps 7 \
            --batch-size 3 --accumulation 2 --schedule constant --warmup 4 --eval-interval 5 --checkpoint-interval 6 --keep-best ece \
            --patience 2 --seed 9 --rank 2 --alpha 3 --dropout 0.2 --target-modules all-linear --samples 11 --scale 0.7 --include-text \
            --device cuda --threads 2 --base-precision as-is --compute int8 --recompute --task sst2 --scoring answer --chat-template --max-length 99 \
            --train-limit 20 --eval-limit 30 --label-reading word --id-field key --loss-on all --class-weights 1,2.5";
        let written = toml::to_string(&config("", flags)).unwrap();
        let table: toml::Table = toml::from_str(&written).unwrap();
        let defaults: toml::Table =
            toml::from_str(&toml::to_string(&RunConfig::default()).unwrap()).unwrap();
        let of = |table: &toml::Table, setting: &Setting| match setting.table {
            "" => table.get(setting.key.name).cloned(),
            name => table
                .get(name)
                .and_then(|inner| inner.get(setting.key.name))
                .cloned(),
        };
        // Flags that exclude others, or equal the default here, are tested elsewhere.
        let elsewhere = [
            "optimizer",
            "ess",
            "epochs",
            "prompt",
            "answers",
            "label-field",
            "choose-scale",
        ];
        for setting in settings::settings().iter().filter(|setting| {
            setting
                .flag()
                .is_some_and(|flag| !elsewhere.contains(&flag))
        }) {
            assert!(
                of(&table, setting).is_some() && of(&table, setting) != of(&defaults, setting),
                "{}",
                setting.name()
            );
        }
    }

    #[test]
    fn a_prompt_of_ones_own_comes_with_answers_and_a_field() {
        let data = config("", "--prompt {a}? --answers No,Yes --label-field b").data;
        assert_eq!(
            (data.prompt.as_deref(), data.label_field.as_deref()),
            (Some("{a}?"), Some("b"))
        );
        assert_eq!(data.answers.unwrap(), ["No", "Yes"]);
    }

    #[test]
    fn layers_are_a_list_of_names_or_a_pattern() {
        let of = |flag: &str| {
            config("", &format!("--target-modules {flag}"))
                .lora
                .target_modules
        };
        assert_eq!(
            of("q_proj,v_proj"),
            TargetModules::List(vec!["q_proj".into(), "v_proj".into()])
        );
        assert_eq!(of("o_proj"), TargetModules::List(vec!["o_proj".into()]));
        assert_eq!(
            of("all-linear"),
            TargetModules::Pattern("all-linear".into())
        );
        assert_eq!(
            of(r".*\.[0-9]{1,2}\.mlp.*"),
            TargetModules::Pattern(r".*\.[0-9]{1,2}\.mlp.*".into())
        );
    }

    #[test]
    fn a_chat_template_is_the_models_own_or_that_of_a_file() {
        let of = |flag: &str| config("", flag).data.chat_template;
        assert_eq!(of(""), ChatSetting::Own(false));
        assert_eq!(of("--chat-template"), ChatSetting::Own(true));
        assert_eq!(of("--chat-template=false"), ChatSetting::Own(false));
        assert_eq!(
            of("--chat-template=my.jinja"),
            ChatSetting::File("my.jinja".into())
        );
        let file = "[data]\nchat_template = 'my.jinja'";
        assert_eq!(
            config(file, "").data.chat_template,
            ChatSetting::File("my.jinja".into())
        );
        assert!(error("[data]\nchat_template = 1", "").contains("expected true, false or a text"));
    }

    #[test]
    fn a_flag_of_another_optimizer_is_refused() {
        assert_eq!(
            error("", "--optimizer adamw --ess 10"),
            "error: the optimizer `adamw` has no `--ess`\n\nhint: leave it away, or choose `--optimizer ivon` or `--optimizer evon`"
        );
        assert!(
            error("[optimizer]\nname = 'adamw'", "--clip-radius 1")
                .contains("has no `--clip-radius`")
        );
    }

    #[test]
    fn another_optimizer_by_flag_sets_the_files_settings_aside_and_says_so() {
        let resolved = run(
            "[optimizer]\nlearning_rate = 0.5\ness = 10",
            "--optimizer adamw",
        )
        .unwrap();
        assert_eq!(resolved.config.optimizer, Method::named("adamw").unwrap());
        assert_eq!(
            resolved.notes,
            [
                "`--optimizer adamw` sets the file's settings of `ivon` aside: `ess`, `learning_rate`"
            ]
        );
        assert_eq!(
            run("[optimizer]\ness = 10", "--optimizer ivon")
                .unwrap()
                .notes,
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_flag_takes_the_place_of_what_excludes_it_in_the_file() {
        let config = config(
            "[train]\nsteps = 5\n[optimizer]\nposterior_sd = 0.1",
            "--epochs 2 --ess 10",
        );
        assert_eq!((config.train.steps, config.train.epochs), (None, 2.0));
        let Method::Ivon(ivon) = config.optimizer else {
            panic!("not ivon")
        };
        assert_eq!((ivon.posterior_sd, ivon.ess), (None, Some(10.0)));
    }

    #[test]
    fn settings_of_a_base_stand_in_place_of_the_defaults() {
        let mut base = RunConfig {
            seed: 5,
            optimizer: Method::named("adamw").unwrap(),
            ..RunConfig::default()
        };
        base.train.steps = Some(600);
        let over = |flags: &str| {
            let args = Args::try_parse_from(format!("ivon-lora train {flags}").split_whitespace())
                .unwrap();
            let Command::Train(args) = args.command else {
                panic!("not train")
            };
            train_over(&args, &base)
        };
        assert_eq!(over("").unwrap(), base);
        let config = over("--optimizer adamw --epochs 1 --learning-rate 0.5").unwrap();
        assert_eq!(
            (
                config.seed,
                config.train.steps,
                config.optimizer.learning_rate()
            ),
            (5, None, 0.5)
        );
        assert_eq!(
            over("--ess 3").unwrap_err().message,
            "the optimizer `adamw` has no `--ess`"
        );
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        assert_eq!(
            error("", "--optimizer adam"),
            "error: `--optimizer` is `adam`, expected one of `ivon`, `evon`, `adamw`, `mc-dropout`, `swag`, `laplace`, `tfb`, `blob`, `scalabl`, `clora`, `dalorra`, `last-layer`, `ensemble`, `adamw-noise`\n\nhint: did you mean `adamw`?"
        );
        assert!(error("", "--device cuba").ends_with("hint: did you mean `cuda`?"));
        assert!(error("", "--schedule cosin").ends_with("hint: did you mean `cosine`?"));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let wrong = [
            ("--batch-size 0", "`batch_size` is `0`, expected at least 1"),
            ("--rank 0", "`rank` must be between 1 and 65536, found `0`"),
            (
                "--dropout 1",
                "`dropout` must be at least 0 and below 1, found `1`",
            ),
            (
                "--scale -1",
                "`scale` is `-1`, expected a finite number, at least 0",
            ),
            ("--threads 0", "`threads` is `0`, expected at least 1"),
            ("--max-length 0", "`max_length` is 0, expected at least 1"),
            (
                "--learning-rate 0",
                "`learning_rate` is `0`, expected a finite number above 0",
            ),
        ];
        for (flags, expected) in wrong {
            let found = run("", flags).unwrap_err();
            assert_eq!(
                (found.message.as_str(), found.exit),
                (expected, crate::exit::Exit::Usage),
                "{flags}"
            );
        }
    }
}
