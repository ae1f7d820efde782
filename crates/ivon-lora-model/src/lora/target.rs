//! Options and a decoder's shape → the linear layers and tables with A and B, and the tables that are
//! trained as a whole, matched as in PEFT.

use std::collections::BTreeSet;
use std::fmt;

use regex::Regex;

use super::{LoraConfig, LoraError, TargetModules};
use crate::model::{DecoderConfig, LinearPath, MODEL, Table};

/// PEFT's name for every linear layer except the output layer.
const ALL_LINEAR: &str = "all-linear";
/// The table of the layers' own inputs (Gemma 4), which PEFT could adapt but this program does not.
const PER_LAYER_TABLE: &str = "embed_tokens_per_layer";

/// What may be adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Linear(LinearPath),
    Table(Table),
}

impl From<LinearPath> for Target {
    fn from(path: LinearPath) -> Self {
        Self::Linear(path)
    }
}

impl From<Table> for Target {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl fmt::Display for Target {
    /// Its path in the decoder, as parameters have it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear(path) => path.fmt(formatter),
            Self::Table(table) => formatter.write_str(table.name()),
        }
    }
}

impl Target {
    /// Its path in a model whose decoder is at `module`.
    pub fn path_in(self, module: &str) -> String {
        match self {
            Self::Linear(path) => format!("{module}.{path}"),
            Self::Table(table) => table.path_in(module),
        }
    }
}

/// The linear layers that `config` selects, in the order of the forward pass.
///
/// A list entry matches a module whose path (`model.layers.3.self_attn.q_proj`) equals it or ends
/// with `.` and the entry; a string is a regular expression that must match the whole path.
/// `layers_to_transform` restricts both, except that, as in PEFT, a full path always matches.
///
/// # Errors
/// If the options are invalid, neither a linear layer nor a table matches, or a layer does not
/// exist.
pub fn resolve_targets(
    config: &LoraConfig,
    decoder: &DecoderConfig,
) -> Result<Vec<LinearPath>, LoraError> {
    config.validate()?;
    let layers = decoder.num_hidden_layers;
    let wanted = config.layers_to_transform.as_deref();
    if let Some(&layer) = wanted
        .unwrap_or_default()
        .iter()
        .find(|&&layer| layer >= layers)
    {
        return Err(LoraError::NoSuchLayer { layer, layers });
    }
    let matcher = Matcher::new(&config.target_modules)?;
    let is_wanted = |layer: Option<usize>| match (wanted, layer) {
        (None, _) => true,
        (Some(wanted), layer) => layer.is_some_and(|layer| wanted.contains(&layer)),
    };
    let paths = decoder.linears().into_iter().map(|(path, _)| path);
    let targets: Vec<_> = paths
        .filter(|path| match matcher.matches(&module_path(*path)) {
            Match::No => false,
            Match::Exact => true,
            Match::Part => is_wanted(path.layer),
        })
        .collect();
    if targets.is_empty() && resolve_tables(config, decoder)?.is_empty() {
        return Err(LoraError::NothingMatches {
            targets: config.target_modules.to_string(),
            there_is: available(decoder),
        });
    }
    Ok(targets)
}

/// The tables over the vocabulary that `config` selects for A and B, in the order of the forward
/// pass. Their paths are `lm_head` and that of `embed_tokens` in the decoder; `all-linear` means
/// neither.
///
/// # Errors
/// If the options are invalid, the table of the layers' own inputs is selected, or rows are to have
/// magnitudes.
pub(super) fn resolve_tables(
    config: &LoraConfig,
    decoder: &DecoderConfig,
) -> Result<Vec<Table>, LoraError> {
    let matcher = Matcher::new(&config.target_modules)?;
    let per_layer = format!("{}.{PER_LAYER_TABLE}", decoder.module);
    if decoder.per_layer_input().is_some() && matcher.names_table(&per_layer) != Match::No {
        return Err(LoraError::Option {
            option: "target_modules",
            expected: "linear layers, `embed_tokens` and `lm_head`",
            found: per_layer,
        });
    }
    let is_target = |table: &Table| match matcher.names_table(&table.path_in(decoder.module)) {
        Match::No => false,
        Match::Exact => true,
        Match::Part => config.layers_to_transform.is_none(),
    };
    let tables: Vec<Table> = Table::ALL.into_iter().filter(is_target).collect();
    match tables.first().filter(|_| config.use_dora) {
        None => Ok(tables),
        Some(table) => Err(LoraError::Option {
            option: "use_dora",
            expected: "false if a table over the vocabulary is adapted",
            found: format!("true with {}", table.name()),
        }),
    }
}

/// The tables that `config` trains as a whole, in the order of the forward pass. As in PEFT, an entry
/// matches a module whose path ends with it.
///
/// # Errors
/// [`LoraError::Option`] for an entry that matches no table, or one that has A and B.
pub(super) fn saved_tables(
    config: &LoraConfig,
    decoder: &DecoderConfig,
) -> Result<Vec<Table>, LoraError> {
    let refused = |expected, found: &str| LoraError::Option {
        option: "modules_to_save",
        expected,
        found: found.into(),
    };
    let names = |name: &str, table: Table| table.path_in(decoder.module).ends_with(name);
    let mut entries = config.modules_to_save.iter();
    let is_other = |entry: &&String| !Table::ALL.iter().any(|table| names(entry, *table));
    if let Some(other) = entries.find(is_other) {
        return Err(refused("made of `embed_tokens` and `lm_head`", other));
    }
    let is_saved = |table: &Table| {
        let mut entries = config.modules_to_save.iter();
        entries.any(|entry| names(entry, *table))
    };
    let tables: Vec<Table> = Table::ALL.into_iter().filter(is_saved).collect();
    let adapted = resolve_tables(config, decoder)?;
    match tables.iter().find(|table| adapted.contains(table)) {
        Some(both) => Err(refused(
            "made of tables that `target_modules` does not name",
            both.name(),
        )),
        None => Ok(tables),
    }
}

/// The path of a linear layer in the Hugging Face model, such as `model.layers.3.self_attn.q_proj`.
pub fn module_path(path: LinearPath) -> String {
    format!("{}.{path}", path.module)
}

/// The last part of a linear layer's path, such as `q_proj`.
fn last_name(path: LinearPath) -> &'static str {
    path.name.rsplit('.').next().unwrap_or(path.name)
}

/// The shortest `target_modules` list and `layers_to_transform` that select exactly these linear
/// layers and tables in every version of PEFT: names if all layers that have them (or all of some
/// layers) are alike, else full paths; sorted. In a multimodal model, whose other parts have layers
/// of the same names, always full paths. The decoder's linear layers are `all`.
pub(super) fn portable_targets(
    targets: &[LinearPath],
    tables: &[Table],
    all: &[LinearPath],
) -> (Vec<String>, Option<Vec<usize>>) {
    let names: BTreeSet<&str> = targets.iter().map(|path| last_name(*path)).collect();
    let module = all.first().map_or(MODEL, |path| path.module);
    let with_tables = |mut names: Vec<String>, table: &dyn Fn(Table) -> String| {
        names.extend(tables.iter().map(|of| table(*of)));
        names.sort();
        names
    };
    let short = || names.iter().map(|name| name.to_string()).collect();
    let whole = |table: Table| table.path_in(module);
    let is_alone = all.iter().all(|path| path.module == MODEL);
    if is_alone && selects(&names, None, all, targets) {
        return (with_tables(short(), &|table| table.name().into()), None);
    }
    let layers: BTreeSet<usize> = targets.iter().filter_map(|path| path.layer).collect();
    if is_alone && selects(&names, Some(&layers), all, targets) {
        // Beside `layers_to_transform` only the whole path selects a table.
        let names = with_tables(short(), &whole);
        return (names, Some(layers.into_iter().collect()));
    }
    let paths = targets.iter().map(|path| module_path(*path)).collect();
    (with_tables(paths, &whole), None)
}

/// Whether these last names, in these layers, are those of exactly `targets` among all linear
/// layers.
fn selects(
    names: &BTreeSet<&str>,
    layers: Option<&BTreeSet<usize>>,
    all: &[LinearPath],
    targets: &[LinearPath],
) -> bool {
    let is_in = |layer: Option<usize>| {
        layers.is_none_or(|layers| layer.is_some_and(|layer| layers.contains(&layer)))
    };
    let selected = all
        .iter()
        .filter(|path| names.contains(last_name(**path)) && is_in(path.layer));
    selected.eq(targets)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    No,
    /// Matches by the end of the path or by a regular expression.
    Part,
    /// Matches by the whole path.
    Exact,
}

enum Matcher<'a> {
    AllLinear,
    List(&'a [String]),
    Pattern(Regex),
}

impl<'a> Matcher<'a> {
    fn new(targets: &'a TargetModules) -> Result<Self, LoraError> {
        Ok(match targets {
            TargetModules::List(names) => Self::List(names),
            TargetModules::Pattern(pattern) if pattern.eq_ignore_ascii_case(ALL_LINEAR) => {
                Self::AllLinear
            }
            TargetModules::Pattern(pattern) => Self::Pattern(compile(pattern)?),
        })
    }

    /// How it selects a table over the vocabulary.
    fn names_table(&self, path: &str) -> Match {
        match self {
            Self::AllLinear => Match::No,
            _ => self.matches(path),
        }
    }

    /// How it selects a linear layer.
    fn matches(&self, path: &str) -> Match {
        let part = match self {
            Self::List(names) if names.iter().any(|name| name == path) => return Match::Exact,
            Self::List(names) => names.iter().any(|name| {
                path.strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
            }),
            Self::AllLinear => true,
            Self::Pattern(regex) => regex.is_match(path),
        };
        if part { Match::Part } else { Match::No }
    }
}

/// The expression, anchored at both ends as in Python's `re.fullmatch`.
fn compile(pattern: &str) -> Result<Regex, LoraError> {
    Regex::new(&format!(r"\A(?:{pattern})\z"))
        .map_err(|error| LoraError::pattern("target_modules", &error))
}

/// The linear layers of a decoder by name, each with the number of places that it has.
fn counted(decoder: &DecoderConfig) -> Vec<(LinearPath, usize)> {
    let mut counts: Vec<(LinearPath, usize)> = Vec::new();
    for (path, _) in decoder.linears() {
        match counts.iter_mut().find(|(known, _)| known.name == path.name) {
            Some((_, count)) => *count += 1,
            None => counts.push((path, 1)),
        }
    }
    counts
}

/// The names of a decoder's linear layers, each once: "self_attn.q_proj, …".
pub(super) fn linear_names(decoder: &DecoderConfig) -> String {
    let names = counted(decoder).into_iter().map(|(path, _)| path.name);
    names.collect::<Vec<_>>().join(", ")
}

/// "`self_attn.q_proj`, … of `model.layers.0` to `model.layers.29`"; a name that only some layers
/// have is followed by their number.
fn available(decoder: &DecoderConfig) -> String {
    let layers = decoder.num_hidden_layers;
    let (inside, outside): (Vec<_>, Vec<_>) = counted(decoder)
        .into_iter()
        .partition(|(path, _)| path.layer.is_some());
    let names = inside.iter().map(|(path, count)| match *count {
        all if all == layers => format!("`{}`", path.name),
        some => format!("`{}` ({some} of {layers} layers)", path.name),
    });
    let outside: String = outside
        .iter()
        .map(|(path, _)| format!(", and `{}`", module_path(*path)))
        .collect();
    format!(
        "{} of `{module}.layers.0` to `{module}.layers.{}`{outside}",
        names.collect::<Vec<_>>().join(", "),
        layers.saturating_sub(1),
        module = decoder.module
    )
}

/// A note on each target that only some of the layers have, such as "`self_attn.v_proj`: 15 of 35
/// layers have it".
pub(super) fn partial_targets(targets: &[LinearPath], decoder: &DecoderConfig) -> Vec<String> {
    let layers = decoder.num_hidden_layers;
    let is_target = |name: &str| {
        let mut targets = targets.iter().filter(|path| path.layer.is_some());
        targets.any(|path| path.name == name)
    };
    counted(decoder)
        .into_iter()
        .filter(|(path, count)| *count < layers && is_target(path.name))
        .map(|(path, count)| format!("`{}`: {count} of {layers} layers have it", path.name))
        .collect()
}

impl LoraConfig {
    /// Checks every option separately.
    ///
    /// # Errors
    /// [`LoraError::Option`] with the first invalid one, or [`LoraError::Pattern`].
    pub fn validate(&self) -> Result<(), LoraError> {
        let wrong = |option, expected, found: String| {
            Err(LoraError::Option {
                option,
                expected,
                found,
            })
        };
        let ranks = self
            .rank_pattern
            .values()
            .map(|rank| ("rank_pattern", *rank));
        let mut ranks = [("rank", self.rank)].into_iter().chain(ranks);
        if let Some((option, rank)) = ranks.find(|(_, rank)| *rank == 0 || *rank > 1 << 16) {
            return wrong(option, "between 1 and 65536", rank.to_string());
        }
        let alphas = self.alpha_pattern.values();
        let alphas = alphas.map(|alpha| ("alpha_pattern", *alpha));
        let mut alphas = [("alpha", self.alpha)].into_iter().chain(alphas);
        let is_wrong = |alpha: f64| !(alpha.is_finite() && alpha > 0.0);
        if let Some((option, alpha)) = alphas.find(|(_, alpha)| is_wrong(*alpha)) {
            return wrong(option, "finite and above 0", alpha.to_string());
        }
        self.layer_options()?;
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong(
                "dropout",
                "at least 0 and below 1",
                self.dropout.to_string(),
            );
        }
        if self.layers_to_transform.as_ref().is_some_and(Vec::is_empty) {
            return wrong(
                "layers_to_transform",
                "absent or a list of layers",
                "[]".into(),
            );
        }
        if self.modules_to_save.iter().any(String::is_empty) {
            let found = format!("[{}]", self.modules_to_save.join(", "));
            return wrong("modules_to_save", "a list of names", found);
        }
        match &self.target_modules {
            TargetModules::List(names)
                if names.is_empty() || names.iter().any(String::is_empty) =>
            {
                wrong(
                    "target_modules",
                    "a list of names",
                    format!("[{}]", names.join(", ")),
                )
            }
            targets => Matcher::new(targets).map(|_| ()),
        }
    }

    /// The factor s of y = W x + s · B A x where no pattern says otherwise: alpha / r, or alpha / √r
    /// with `use_rslora`.
    pub fn scaling(&self) -> f64 {
        scaling(self.rank, self.alpha, self.use_rslora)
    }
}

/// alpha / r, or alpha / √r.
pub(super) fn scaling(rank: usize, alpha: f64, use_rslora: bool) -> f64 {
    let rank = rank as f64;
    alpha / if use_rslora { rank.sqrt() } else { rank }
}

impl std::fmt::Display for TargetModules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List(names) => write!(formatter, "`{}`", names.join(",")),
            Self::Pattern(pattern) => write!(formatter, "`{pattern}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Projection;
    use crate::testing::tiny::decoder;

    fn list(names: &[&str]) -> LoraConfig {
        let names = names.iter().map(|name| name.to_string()).collect();
        LoraConfig {
            target_modules: TargetModules::List(names),
            ..LoraConfig::default()
        }
    }

    fn pattern(pattern: &str) -> LoraConfig {
        LoraConfig {
            target_modules: TargetModules::Pattern(pattern.into()),
            ..LoraConfig::default()
        }
    }

    fn paths(config: &LoraConfig) -> Vec<String> {
        let targets = resolve_targets(config, &decoder(3)).unwrap();
        let path = |path: LinearPath| path.to_string().replace("layers.", "");
        targets.into_iter().map(path).collect()
    }

    #[test]
    fn a_list_matches_whole_names_at_the_end_of_a_path() {
        assert_eq!(
            paths(&list(&["q_proj"])),
            [
                "0.self_attn.q_proj",
                "1.self_attn.q_proj",
                "2.self_attn.q_proj"
            ]
        );
        assert_eq!(
            paths(&list(&["1.mlp.up_proj", "nothing"])),
            ["1.mlp.up_proj"]
        );
        assert!(resolve_targets(&list(&["proj", "self_attn"]), &decoder(3)).is_err());
    }

    #[test]
    fn a_string_must_match_the_whole_path() {
        assert_eq!(paths(&pattern(r".*\.[02]\..*(gate|up)_proj")).len(), 4);
        assert_eq!(
            paths(&pattern("model.layers.0.self_attn.q_proj|x")),
            ["0.self_attn.q_proj"]
        );
        assert!(resolve_targets(&pattern("q_proj"), &decoder(3)).is_err());
    }

    #[test]
    fn all_linear_is_seven_layers_times_the_depth() {
        assert_eq!(paths(&pattern("all-linear")).len(), 21);
        assert_eq!(paths(&pattern("ALL-linear")).len(), 21);
    }

    #[test]
    fn layers_to_transform_restricts_names_but_not_full_paths() {
        let mut config = list(&["q_proj", "model.layers.0.mlp.up_proj"]);
        config.layers_to_transform = Some(vec![2]);
        assert_eq!(paths(&config), ["0.mlp.up_proj", "2.self_attn.q_proj"]);
        config.layers_to_transform = Some(vec![3]);
        let error = resolve_targets(&config, &decoder(3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`layers_to_transform` names layer 3, but the model has 3 layers, counted from 0"
        );
    }

    #[test]
    fn where_nothing_matches_the_error_says_what_there_is() {
        let message = resolve_targets(&list(&["query", "value"]), &decoder(3))
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with(
                "`target_modules` `query,value` matches no linear layer among `self_attn.q_proj`, "
            ),
            "{message}"
        );
        assert!(
            message.ends_with("`mlp.down_proj` of `model.layers.0` to `model.layers.2`"),
            "{message}"
        );
    }

    #[test]
    fn tables_are_targets_by_their_names_as_in_peft() {
        let of = |config: &LoraConfig| {
            let tables = resolve_tables(config, &decoder(3)).unwrap();
            let names: Vec<&str> = tables.into_iter().map(Table::name).collect();
            names.join(",")
        };
        assert_eq!(of(&list(&["q_proj", "v_proj"])), "");
        assert_eq!(
            of(&list(&["lm_head", "embed_tokens"])),
            "embed_tokens,lm_head"
        );
        assert_eq!(of(&list(&["q_proj", "model.embed_tokens"])), "embed_tokens");
        assert_eq!(of(&pattern(".*(q_proj|lm_head)")), "lm_head");
        assert_eq!(of(&pattern(".*")), "embed_tokens,lm_head");
        assert_eq!(of(&pattern("all-linear")), "");
        // Beside `layers_to_transform`, which a table is not in, only a whole path counts.
        let in_layer = |names| LoraConfig {
            layers_to_transform: Some(vec![1]),
            ..list(names)
        };
        assert_eq!(
            of(&in_layer(&["q_proj", "embed_tokens", "lm_head"])),
            "lm_head"
        );
        let only_tables = list(&["lm_head"]);
        assert!(
            resolve_targets(&only_tables, &decoder(3))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_tables_cannot_be_is_refused_by_name() {
        let dora = LoraConfig {
            use_dora: true,
            ..list(&["q_proj", "lm_head"])
        };
        let message = resolve_tables(&dora, &decoder(3)).unwrap_err().to_string();
        assert_eq!(
            message,
            "`use_dora` must be false if a table over the vocabulary is adapted, found `true with lm_head`"
        );
        let per_layer = pattern(".*(q_proj|embed_tokens.*)");
        let message = resolve_tables(&per_layer, &golden("gemma4")).unwrap_err();
        assert_eq!(
            message.to_string(),
            "`target_modules` must be linear layers, `embed_tokens` and `lm_head`, found `model.embed_tokens_per_layer`"
        );
        let saved = |targets: &[&str], names: &[&str]| {
            let config = LoraConfig {
                modules_to_save: names.iter().map(|name| name.to_string()).collect(),
                ..list(targets)
            };
            saved_tables(&config, &decoder(3)).map_err(|error| error.to_string())
        };
        assert_eq!(saved(&["q_proj"], &[]), Ok(vec![]));
        let both = Ok(Table::ALL.to_vec());
        assert_eq!(saved(&["q_proj"], &["lm_head", "model.embed_tokens"]), both);
        assert_eq!(
            saved(&["q_proj"], &["lm_head", "score"]).unwrap_err(),
            "`modules_to_save` must be made of `embed_tokens` and `lm_head`, found `score`"
        );
        assert_eq!(
            saved(&["q_proj", "lm_head"], &["lm_head"]).unwrap_err(),
            "`modules_to_save` must be made of tables that `target_modules` does not name, found `lm_head`"
        );
    }

    #[test]
    fn portable_targets_name_the_same_tables_again() {
        let decoder = decoder(2);
        let all: Vec<_> = decoder
            .linears()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        let at = |layer, projection| decoder.linear_path(Some(layer), projection);
        let q = Projection::Q;
        for targets in [vec![at(0, q), at(1, q)], vec![at(1, q)], vec![]] {
            let tables = Table::ALL.to_vec();
            let (names, layers_to_transform) = portable_targets(&targets, &tables, &all);
            let config = LoraConfig {
                target_modules: TargetModules::List(names),
                layers_to_transform,
                ..LoraConfig::default()
            };
            assert_eq!(resolve_targets(&config, &decoder).unwrap(), targets);
            assert_eq!(resolve_tables(&config, &decoder).unwrap(), tables);
        }
    }

    #[test]
    fn every_option_out_of_range_is_refused() {
        let base = LoraConfig::default;
        let cases = [
            (
                LoraConfig { rank: 0, ..base() },
                "`rank` must be between 1 and 65536, found `0`",
            ),
            (
                LoraConfig {
                    alpha: f64::NAN,
                    ..base()
                },
                "`alpha` must be finite and above 0, found `NaN`",
            ),
            (
                LoraConfig {
                    alpha: 0.0,
                    ..base()
                },
                "`alpha` must be finite and above 0, found `0`",
            ),
            (
                LoraConfig {
                    dropout: 1.0,
                    ..base()
                },
                "`dropout` must be at least 0 and below 1, found `1`",
            ),
            (
                LoraConfig {
                    layers_to_transform: Some(vec![]),
                    ..base()
                },
                "`layers_to_transform` must be absent or a list of layers, found `[]`",
            ),
            (
                list(&[]),
                "`target_modules` must be a list of names, found `[]`",
            ),
            (
                pattern("(a"),
                "`target_modules` is not a regular expression: unclosed group",
            ),
            (
                LoraConfig {
                    rank_pattern: [("q_proj".into(), 0)].into(),
                    ..base()
                },
                "`rank_pattern` must be between 1 and 65536, found `0`",
            ),
            (
                LoraConfig {
                    alpha_pattern: [("q_proj".into(), -1.0)].into(),
                    ..base()
                },
                "`alpha_pattern` must be finite and above 0, found `-1`",
            ),
            (
                LoraConfig {
                    alpha_pattern: [("(a".into(), 1.0)].into(),
                    ..base()
                },
                "`alpha_pattern` is not a regular expression: unclosed group",
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
        assert!(
            pattern("(?=a)")
                .validate()
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("look-around")
        );
    }

    #[test]
    fn scaling_is_alpha_over_r_or_over_its_root() {
        assert_eq!(LoraConfig::default().scaling(), 2.0);
        assert_eq!(
            LoraConfig {
                rank: 16,
                use_rslora: true,
                ..LoraConfig::default()
            }
            .scaling(),
            4.0
        );
    }

    #[test]
    fn portable_targets_name_the_same_layers_again() {
        let decoder = decoder(2);
        let all: Vec<_> = decoder
            .linears()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        let at = |layer, projection| decoder.linear_path(Some(layer), projection);
        let q = Projection::Q;
        assert_eq!(
            portable_targets(&[at(0, q), at(1, q)], &[], &all),
            (vec!["q_proj".into()], None)
        );
        assert_eq!(
            portable_targets(&[at(1, q), at(1, Projection::Down)], &[], &all),
            (vec!["down_proj".into(), "q_proj".into()], Some(vec![1]))
        );
        let mixed = [at(0, q), at(1, Projection::V)];
        let (names, layers) = portable_targets(&mixed, &[], &all);
        assert_eq!((names.len(), &layers), (2, &None));
        let config = LoraConfig {
            target_modules: TargetModules::List(names),
            ..LoraConfig::default()
        };
        assert_eq!(resolve_targets(&config, &decoder).unwrap(), mixed);
    }

    fn golden(family: &str) -> DecoderConfig {
        let path = crate::testing::golden().join("tiny").join(family);
        let text = std::fs::read_to_string(path.join("config.json")).unwrap();
        DecoderConfig::from_json(&text, family).unwrap()
    }

    #[test]
    fn a_target_that_only_some_layers_have_is_said_and_one_that_none_has_lists_those_there_are() {
        let gemma4 = golden("gemma4");
        let targets = resolve_targets(&list(&["q_proj", "v_proj"]), &gemma4).unwrap();
        assert_eq!(targets.len(), 4 + 2);
        let notes = partial_targets(&targets, &gemma4);
        assert_eq!(notes, ["`self_attn.v_proj`: 2 of 4 layers have it"]);
        let all: Vec<_> = gemma4.linears().into_iter().map(|(path, _)| path).collect();
        let names = vec!["q_proj".into(), "v_proj".into()];
        assert_eq!(portable_targets(&targets, &[], &all), (names, None));
        let error = resolve_targets(&list(&["qkv_proj"]), &golden("qwen3_5")).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("`linear_attn.in_proj_qkv` (3 of 4 layers), "),
            "{message}"
        );
        assert!(
            message.contains("`self_attn.q_proj` (1 of 4 layers)"),
            "{message}"
        );
    }

    #[test]
    fn modules_with_the_same_last_name_are_told_apart_by_their_layers() {
        let lfm2 = golden("lfm2");
        let all: Vec<_> = lfm2.linears().into_iter().map(|(path, _)| path).collect();
        let of_attention: Vec<_> = all
            .iter()
            .copied()
            .filter(|path| path.projection == Projection::O)
            .collect();
        let (names, layers) = portable_targets(&of_attention, &[], &all);
        assert_eq!((names, layers), (vec!["out_proj".into()], Some(vec![1, 3])));
    }
}
