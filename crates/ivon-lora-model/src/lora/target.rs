//! Options and a decoder's shape → the linear layers with A and B, matched as in PEFT.

use regex::Regex;

use super::{LoraConfig, LoraError, Projection, TargetModules};
use crate::model::DecoderConfig;

/// PEFT's name for every linear layer except the output layer.
const ALL_LINEAR: &str = "all-linear";
/// The modules of a decoder that PEFT could adapt but this program does not.
const NOT_ADAPTED: [&str; 2] = ["lm_head", "model.embed_tokens"];

/// The linear layers that `config` selects, in the order of the forward pass.
///
/// A list entry matches a module whose path (`model.layers.3.self_attn.q_proj`) equals it or ends
/// with `.` and the entry; a string is a regular expression that must match the whole path.
/// `layers_to_transform` restricts both, except that, as in PEFT, a full path always matches.
///
/// # Errors
/// If the options are invalid, nothing matches, a layer does not exist, or the embedding or output
/// layer is selected.
pub fn resolve_targets(
    config: &LoraConfig,
    decoder: &DecoderConfig,
) -> Result<Vec<(usize, Projection)>, LoraError> {
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
    refuse_tables(&matcher)?;
    let targets: Vec<_> = (0..layers)
        .flat_map(|layer| Projection::ALL.map(|projection| (layer, projection)))
        .filter(
            |&(layer, projection)| match matcher.matches(&module_path(layer, projection)) {
                Match::No => false,
                Match::Exact => true,
                Match::Part => wanted.is_none_or(|wanted| wanted.contains(&layer)),
            },
        )
        .collect();
    if targets.is_empty() {
        return Err(LoraError::NothingMatches {
            targets: config.target_modules.to_string(),
            there_is: available(layers),
        });
    }
    Ok(targets)
}

/// The embedding and output tables cannot be adapted.
fn refuse_tables(matcher: &Matcher<'_>) -> Result<(), LoraError> {
    let mut tables = NOT_ADAPTED.iter();
    match tables.find(|module| matcher.matches(module) != Match::No) {
        Some(module) => Err(LoraError::Option {
            option: "target_modules",
            expected: "linear layers of the decoder layers",
            found: (*module).into(),
        }),
        None => Ok(()),
    }
}

/// The path of a linear layer in the Hugging Face model, such as `model.layers.3.self_attn.q_proj`.
pub fn module_path(layer: usize, projection: Projection) -> String {
    format!("model.layers.{layer}.{}", projection.path())
}

/// The layer and projection of a module path, if it belongs to a decoder with that many layers.
pub(super) fn parse_module_path(path: &str, layers: usize) -> Option<(usize, Projection)> {
    let (layer, rest) = path.strip_prefix("model.layers.")?.split_once('.')?;
    let number: usize = layer.parse().ok()?;
    let projection = Projection::ALL
        .into_iter()
        .find(|projection| projection.path() == rest)?;
    (number < layers && number.to_string() == layer).then_some((number, projection))
}

/// The paths of the projections that are adapted in a layer.
fn paths_in(targets: &[(usize, Projection)], layer: usize) -> Vec<&'static str> {
    let targets = targets.iter().filter(|target| target.0 == layer);
    targets.map(|target| target.1.path()).collect()
}

/// The shortest `target_modules` list and `layers_to_transform` that select exactly these layers in
/// every version of PEFT: names if all layers (or all of some layers) are alike, else full paths;
/// sorted.
pub(super) fn portable_targets(
    targets: &[(usize, Projection)],
    layers: usize,
) -> (Vec<String>, Option<Vec<usize>>) {
    let adapted: Vec<usize> = (0..layers)
        .filter(|&layer| targets.iter().any(|target| target.0 == layer))
        .collect();
    let alike = adapted
        .windows(2)
        .all(|pair| paths_in(targets, pair[0]) == paths_in(targets, pair[1]));
    let mut names: Vec<String> = match adapted.first() {
        Some(&first) if alike => paths_in(targets, first)
            .iter()
            .map(|path| path.rsplit('.').next().unwrap_or(path).to_string())
            .collect(),
        _ => targets
            .iter()
            .map(|&(layer, projection)| module_path(layer, projection))
            .collect(),
    };
    names.sort();
    (names, (alike && adapted.len() < layers).then_some(adapted))
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

    fn matches(&self, path: &str) -> Match {
        let part = match self {
            Self::List(names) if names.iter().any(|name| name == path) => return Match::Exact,
            Self::List(names) => names.iter().any(|name| {
                path.strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
            }),
            Self::AllLinear => !NOT_ADAPTED.contains(&path),
            Self::Pattern(regex) => regex.is_match(path),
        };
        if part { Match::Part } else { Match::No }
    }
}

/// The expression, anchored at both ends as in Python's `re.fullmatch`.
fn compile(pattern: &str) -> Result<Regex, LoraError> {
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(|error| LoraError::Pattern {
        reason: error
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim()
            .trim_start_matches("error: ")
            .to_string(),
    })
}

/// "`self_attn.q_proj`, … of `model.layers.0` to `model.layers.29`".
fn available(layers: usize) -> String {
    let names = Projection::ALL
        .map(|projection| format!("`{}`", projection.path()))
        .join(", ");
    format!(
        "{names} of `model.layers.0` to `model.layers.{}`",
        layers.saturating_sub(1)
    )
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
        if self.rank == 0 || self.rank > 1 << 16 {
            return wrong("rank", "between 1 and 65536", self.rank.to_string());
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong("alpha", "finite and above 0", self.alpha.to_string());
        }
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

    /// The factor s of y = W x + s · B A x: alpha / r, or alpha / √r with `use_rslora`.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }
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
        targets
            .into_iter()
            .map(|(layer, projection)| format!("{layer}.{}", projection.path()))
            .collect()
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
    fn embedding_and_output_layers_are_refused_by_name() {
        for config in [
            list(&["q_proj", "lm_head"]),
            list(&["embed_tokens"]),
            pattern(".*"),
        ] {
            assert!(matches!(
                resolve_targets(&config, &decoder(3)),
                Err(LoraError::Option {
                    option: "target_modules",
                    ..
                })
            ));
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
        let q = Projection::Q;
        assert_eq!(
            portable_targets(&[(0, q), (1, q)], 2),
            (vec!["q_proj".into()], None)
        );
        assert_eq!(
            portable_targets(&[(1, q), (1, Projection::Down)], 2),
            (vec!["down_proj".into(), "q_proj".into()], Some(vec![1]))
        );
        let mixed = [(0, q), (1, Projection::V)];
        let (names, layers) = portable_targets(&mixed, 2);
        assert_eq!((names.len(), &layers), (2, &None));
        let config = LoraConfig {
            target_modules: TargetModules::List(names),
            ..LoraConfig::default()
        };
        assert_eq!(resolve_targets(&config, &decoder(2)).unwrap(), mixed);
    }
}
