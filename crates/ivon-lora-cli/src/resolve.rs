//! Raw flags over a file over defaults → one run, validated once.

use std::path::Path;

use ivon_lora::run::RunConfig;
use toml::Value;

use crate::args::{DataArgs, TrainArgs};
use crate::exit::{CliError, Exit};
use crate::file;
use crate::settings::{self, Kind};
use crate::suggest::did_you_mean;

/// A run with a value for every setting, and what the user should know of how it came about.
#[derive(Debug, PartialEq)]
pub struct Resolved {
    /// The run.
    pub config: RunConfig,
    /// A sentence each.
    pub notes: Vec<String>,
}

/// A flag without its dashes, and its value.
type Given = Vec<(&'static str, Option<Value>)>;

/// The run that `train` was asked for.
///
/// # Errors
/// If the file or a flag is wrong, a flag does not belong to the optimizer, or a value is out of
/// range.
pub fn train(args: &TrainArgs) -> Result<Resolved, CliError> {
    let file = read(args.config.as_deref())?;
    resolve(file, given(args)?)
}

/// As [`train`], with the settings of `base` in place of the defaults; the optimizer is that of
/// `base`, and what the file says of another is set aside.
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
    let flags = given(args)?
        .into_iter()
        .filter(|(flag, _)| *flag != "optimizer")
        .collect();
    Ok(resolve(settings, flags)?.config)
}

/// The run whose data `data preview` was asked for: its model and data alone matter.
///
/// # Errors
/// As [`train`].
pub fn preview(
    config: Option<&Path>,
    model: Option<&String>,
    data: Option<&Path>,
    settings: &DataArgs,
) -> Result<RunConfig, CliError> {
    let mut given = data_flags(settings);
    given.push(("model", model.map(|model| model.as_str().into())));
    given.push(("data", path("data", data)?));
    Ok(resolve(read(config)?, given)?.config)
}

fn read(path: Option<&Path>) -> Result<toml::Table, CliError> {
    path.map_or_else(|| Ok(toml::Table::new()), file::read)
}

/// Lays flags over a file's values and gives all others their defaults.
fn resolve(mut file: toml::Table, flags: Given) -> Result<Resolved, CliError> {
    let mut notes = Vec::new();
    let flags: Vec<(&str, Value)> = flags
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value?)))
        .collect();
    if let Some((_, Value::String(name))) = flags.iter().find(|(flag, _)| *flag == "optimizer") {
        notes.extend(change_optimizer(&mut file, name));
    }
    for (flag, value) in &flags {
        place(&mut file, flag, value.clone())?;
    }
    let optimizer = table(&mut file, "optimizer");
    let name = optimizer
        .entry("name")
        .or_insert_with(|| "ivon".into())
        .as_str()
        .unwrap_or("ivon")
        .to_string();
    if let Some(setting) = flags
        .iter()
        .filter_map(|(flag, _)| settings::of_flag(flag))
        .find(|setting| !setting.belongs_to(&name))
    {
        let flag = setting.flag.unwrap_or(setting.key);
        let hint = format!(
            "leave it away, or choose `--optimizer {}`",
            setting.only.join("` or `--optimizer ")
        );
        return Err(CliError::usage(
            format!("the optimizer `{name}` has no `--{flag}`"),
            Some(hint),
        ));
    }
    // Written by the run that a saved file comes from; this will be another.
    file.remove("provenance");
    let config: RunConfig = file.try_into().map_err(|error: toml::de::Error| {
        CliError::usage(
            format!(
                "the settings cannot be used: {}",
                error.message().lines().collect::<Vec<_>>().join(" ")
            ),
            None,
        )
    })?;
    config.validate().map_err(|error| CliError {
        exit: Exit::Usage,
        ..error.into()
    })?;
    Ok(Resolved { config, notes })
}

/// Settings of one optimizer mean nothing to another: a flag that changes the optimizer sets those
/// of the file aside.
fn change_optimizer(file: &mut toml::Table, name: &str) -> Option<String> {
    let table = file.get("optimizer")?.as_table()?;
    let before = table
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("ivon")
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

/// Puts a flag's value where its key stands; what the flag takes the place of goes.
fn place(file: &mut toml::Table, flag: &str, value: Value) -> Result<(), CliError> {
    let Some(setting) = settings::of_flag(flag) else {
        return Err(CliError::usage(format!("`--{flag}` has no key"), None));
    };
    if let (Kind::OneOf(words), Value::String(found)) = (setting.kind, &value)
        && !words.contains(&found.as_str())
    {
        let message = format!("`--{flag}` is `{found}`, expected {}", setting.kind.name());
        return Err(CliError::usage(
            message,
            did_you_mean(found, words.iter().copied()),
        ));
    }
    let table = table(file, setting.table);
    let instead = match setting.key {
        "epochs" => Some("steps"),
        "ess" => Some("posterior_sd"),
        "scale" => Some("choose_scale"),
        _ => None,
    };
    if let Some(instead) = instead {
        table.remove(instead);
    }
    table.insert(setting.key.into(), value);
    Ok(())
}

/// A table of the file, made if need be; the file itself for the top.
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

/// The flags of `train` that stand for a key.
fn given(args: &TrainArgs) -> Result<Given, CliError> {
    let (optimizer, length, lora, evaluation, machine) = (
        &args.optimizer,
        &args.length,
        &args.lora,
        &args.evaluation,
        &args.machine,
    );
    let mut given = vec![
        ("model", text(&args.model)),
        ("data", path("data", args.data.as_deref())?),
        ("out", path("out", args.out.as_deref())?),
        ("adapter", path("adapter", lora.adapter.as_deref())?),
        ("optimizer", text(&optimizer.optimizer)),
        ("learning-rate", number(optimizer.learning_rate)),
        ("ess", number(optimizer.ess)),
        ("posterior-sd", number(optimizer.posterior_sd)),
        ("hess-init", number(optimizer.hess_init)),
        ("beta1", number(optimizer.beta1)),
        ("beta2", number(optimizer.beta2)),
        ("weight-decay", number(optimizer.weight_decay)),
        ("clip-radius", number(optimizer.clip_radius)),
        ("mc-samples", whole(optimizer.mc_samples)),
        ("rescale-lr", optimizer.rescale_lr.map(Value::from)),
        ("max-grad-norm", number(optimizer.max_grad_norm)),
        ("steps", whole(length.steps)),
        ("epochs", number(length.epochs)),
        ("batch-size", whole(length.batch_size)),
        ("accumulation", whole(length.accumulation)),
        ("schedule", text(&length.schedule)),
        ("warmup", whole(length.warmup)),
        ("eval-interval", whole(length.eval_interval)),
        ("checkpoint-interval", whole(length.checkpoint_interval)),
        ("keep-best", text(&length.keep_best)),
        ("patience", whole(length.patience)),
        (
            "seed",
            length
                .seed
                .and_then(|seed| i64::try_from(seed).ok())
                .map(Value::from),
        ),
        ("rank", whole(lora.rank)),
        ("alpha", number(lora.alpha)),
        ("dropout", number(lora.dropout)),
        (
            "target-modules",
            lora.target_modules.as_deref().map(target_modules),
        ),
        ("samples", whole(evaluation.samples)),
        ("scale", number(evaluation.scale)),
        ("choose-scale", evaluation.choose_scale.map(Value::from)),
        ("include-text", evaluation.include_text.map(Value::from)),
        ("device", text(&machine.device)),
        ("threads", whole(machine.threads)),
        ("base-precision", text(&machine.base_precision)),
        ("recompute", machine.recompute.map(Value::from)),
    ];
    given.extend(data_flags(&args.data_settings));
    Ok(given)
}

fn data_flags(data: &DataArgs) -> Given {
    vec![
        ("task", text(&data.task)),
        ("prompt", text(&data.prompt)),
        (
            "answers",
            data.answers
                .as_ref()
                .map(|words| Value::Array(words.iter().map(|word| word.trim().into()).collect())),
        ),
        ("label-field", text(&data.label_field)),
        ("label-reading", text(&data.label_reading)),
        ("id-field", text(&data.id_field)),
        ("scoring", text(&data.scoring)),
        (
            "chat-template",
            data.chat_template.as_deref().map(chat_template),
        ),
        ("max-length", whole(data.max_length)),
        ("train-limit", whole(data.train_limit)),
        ("eval-limit", whole(data.eval_limit)),
    ]
}

fn text(value: &Option<String>) -> Option<Value> {
    value.as_deref().map(Value::from)
}

fn number(value: Option<f64>) -> Option<Value> {
    value.map(Value::from)
}

fn whole(value: Option<u32>) -> Option<Value> {
    value.map(|value| Value::Integer(value.into()))
}

/// `true` and `false` are the model's own template and none; anything else is a file.
fn chat_template(given: &str) -> Value {
    given
        .parse::<bool>()
        .map_or_else(|_| given.into(), Value::from)
}

/// A saved run holds its paths as text.
fn path(flag: &str, value: Option<&Path>) -> Result<Option<Value>, CliError> {
    let Some(path) = value else { return Ok(None) };
    let text = path.to_str().ok_or_else(|| {
        CliError::usage(
            format!("`--{flag}` is not UTF-8: `{}`", path.display()),
            None,
        )
    })?;
    Ok(Some(text.into()))
}

/// Plain names with commas between are a list; anything else is `all-linear` or a regular
/// expression.
fn target_modules(text: &str) -> Value {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.')
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().all(|part| is_name(part)) {
        return Value::Array(parts.into_iter().map(Value::from).collect());
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ivon_lora::data::ChatSetting;
    use ivon_lora::lora::TargetModules;
    use ivon_lora::method::Method;
    use ivon_lora::train::Schedule;

    use super::*;
    use crate::args::{Args, Command};

    /// The run of a file and flags.
    fn run(file: &str, flags: &str) -> Result<Resolved, CliError> {
        let args =
            Args::try_parse_from(format!("ivon-lora train {flags}").split_whitespace()).unwrap();
        let Command::Train(args) = args.command else {
            panic!("not train")
        };
        resolve(file::parse(file, "run.toml")?, given(&args)?)
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
    fn every_flag_that_stands_for_a_key_arrives_there() {
        let flags = "--model m --data d --out o --adapter a --optimizer ivon --learning-rate 0.5 --posterior-sd 0.02 --hess-init 0.1 \
            --beta1 0.8 --beta2 0.999 --weight-decay 0.01 --clip-radius 0.3 --mc-samples 2 --rescale-lr --max-grad-norm 1 --steps 7 \
            --batch-size 3 --accumulation 2 --schedule constant --warmup 4 --eval-interval 5 --checkpoint-interval 6 --keep-best ece \
            --patience 2 --seed 9 --rank 2 --alpha 3 --dropout 0.2 --target-modules all-linear --samples 11 --scale 0.7 --include-text \
            --device cuda --threads 2 --base-precision as-is --recompute --task sst2 --scoring answer --chat-template --max-length 99 \
            --train-limit 20 --eval-limit 30 --label-reading word --id-field key";
        let written = toml::to_string(&config("", flags)).unwrap();
        let table: toml::Table = toml::from_str(&written).unwrap();
        let defaults: toml::Table =
            toml::from_str(&toml::to_string(&RunConfig::default()).unwrap()).unwrap();
        let of = |table: &toml::Table, setting: &settings::Setting| match setting.table {
            "" => table.get(setting.key).cloned(),
            name => table
                .get(name)
                .and_then(|inner| inner.get(setting.key))
                .cloned(),
        };
        // Those that exclude others or are the default's own value are tested elsewhere.
        let elsewhere = [
            "optimizer",
            "ess",
            "epochs",
            "prompt",
            "answers",
            "label-field",
            "choose-scale",
        ];
        for setting in settings::SETTINGS
            .iter()
            .filter(|setting| setting.flag.is_some_and(|flag| !elsewhere.contains(&flag)))
        {
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
            "error: the optimizer `adamw` has no `--ess`\n\nhint: leave it away, or choose `--optimizer ivon`"
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
        assert_eq!((ivon.posterior_sd, ivon.ess), (None, 10.0));
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
            "error: `--optimizer` is `adam`, expected one of `ivon`, `adamw`, `mc-dropout`, `swag`, `laplace`, `tfb`, `blob`, `scalabl`, `clora`, `ensemble`, `adamw-noise`\n\nhint: did you mean `adamw`?"
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
