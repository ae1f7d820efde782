//! The rank and the alpha of each adapted layer: those of a pattern that matches its path, as in
//! PEFT, else the adapter's.

use std::collections::BTreeMap;

use regex::Regex;

use super::parameters::MODULES;
use super::scaling::Scaling;
use super::target::{Target, scaling};
use super::{LoraConfig, LoraError};
use crate::model::{DecoderConfig, Table};

/// The patterns of an adapter's options, compiled.
pub(super) struct LayerOptions<'a> {
    config: &'a LoraConfig,
    ranks: Vec<Pattern<'a, usize>>,
    alphas: Vec<Pattern<'a, f64>>,
}

/// A key of `rank_pattern` or `alpha_pattern`, and its value.
struct Pattern<'a, T> {
    key: &'a str,
    regex: Regex,
    value: T,
}

impl<T: Copy> Pattern<'_, T> {
    /// Whether it matches the path of a layer, wherever a model has its decoder: an adapter of a
    /// multimodal model may be read for its decoder alone.
    fn matches(&self, target: Target) -> bool {
        let mut places = MODULES.iter().map(|module| target.path_in(module));
        places.any(|place| self.regex.is_match(&place))
    }
}

impl LoraConfig {
    /// The patterns, compiled.
    ///
    /// # Errors
    /// [`LoraError::Pattern`] if a key is not a regular expression.
    pub(super) fn layer_options(&self) -> Result<LayerOptions<'_>, LoraError> {
        Ok(LayerOptions {
            config: self,
            ranks: compiled("rank_pattern", &self.rank_pattern)?,
            alphas: compiled("alpha_pattern", &self.alpha_pattern)?,
        })
    }

    /// The factor of B A in each linear layer and table of a decoder.
    ///
    /// # Errors
    /// [`LoraError::Pattern`] if a key is not a regular expression.
    pub fn scaling_in(&self, decoder: &DecoderConfig) -> Result<Scaling, LoraError> {
        let options = self.layer_options()?;
        let linears = decoder.linears().into_iter();
        let own = linears.map(|(path, _)| (path, options.scaling(path)));
        let tables = Table::ALL.map(|table| options.scaling(table));
        Ok(Scaling::with(self.scaling(), own, tables))
    }
}

impl LayerOptions<'_> {
    /// The rank r in a layer.
    pub fn rank(&self, target: impl Into<Target>) -> usize {
        value_at(&self.ranks, target.into()).unwrap_or(self.config.rank)
    }

    /// The factor of B A in a layer: alpha / r, or alpha / √r with `use_rslora`.
    pub fn scaling(&self, target: impl Into<Target>) -> f64 {
        let target = target.into();
        let alpha = value_at(&self.alphas, target).unwrap_or(self.config.alpha);
        scaling(self.rank(target), alpha, self.config.use_rslora)
    }

    /// Refuses a pattern that matches none of the adapted layers.
    ///
    /// # Errors
    /// [`LoraError::Option`] with its key.
    pub fn refuse_unmatched(&self, adapted: &[Target]) -> Result<(), LoraError> {
        let rank = unmatched(&self.ranks, adapted).map(|key| ("rank_pattern", key));
        let alpha = unmatched(&self.alphas, adapted).map(|key| ("alpha_pattern", key));
        match rank.or(alpha) {
            Some((option, key)) => Err(LoraError::Option {
                option,
                expected: "made of keys that each match an adapted layer",
                found: key.into(),
            }),
            None => Ok(()),
        }
    }
}

/// The value of the first pattern that matches.
fn value_at<T: Copy>(patterns: &[Pattern<'_, T>], target: Target) -> Option<T> {
    let mut matching = patterns.iter().filter(|pattern| pattern.matches(target));
    matching.next().map(|pattern| pattern.value)
}

/// The key of the first pattern that matches none of the layers.
fn unmatched<'a, T: Copy>(patterns: &[Pattern<'a, T>], adapted: &[Target]) -> Option<&'a str> {
    let is_idle =
        |pattern: &&Pattern<'_, T>| !adapted.iter().any(|target| pattern.matches(*target));
    patterns.iter().find(is_idle).map(|pattern| pattern.key)
}

/// The keys as PEFT matches them: at the end of a path, after a dot or the whole of it.
fn compiled<'a, T: Copy>(
    option: &'static str,
    patterns: &'a BTreeMap<String, T>,
) -> Result<Vec<Pattern<'a, T>>, LoraError> {
    let compile = |(key, value): (&'a String, &T)| {
        let regex = Regex::new(&format!(r"\A(?:.*\.)?(?:{key})\z"))
            .map_err(|error| LoraError::pattern(option, &error))?;
        Ok(Pattern {
            key,
            regex,
            value: *value,
        })
    };
    patterns.iter().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Projection;
    use crate::testing::tiny::decoder;

    fn config() -> LoraConfig {
        let ranks = [("q_proj", 2), ("layers.1.*v_proj", 32)];
        let alphas = [
            ("layers.0.self_attn.q_proj", 4.0),
            ("^model.layers.2.*", 1.0),
        ];
        LoraConfig {
            rank_pattern: ranks.map(|(key, rank)| (key.into(), rank)).into(),
            alpha_pattern: alphas.map(|(key, alpha)| (key.into(), alpha)).into(),
            ..LoraConfig::default()
        }
    }

    #[test]
    fn keys_match_the_end_of_a_path_as_peft_matches_them() {
        let (config, decoder) = (config(), decoder(3));
        let options = config.layer_options().unwrap();
        let of = |layer, projection| {
            let path = decoder.linear_path(Some(layer), projection);
            (options.rank(path), options.scaling(path))
        };
        let found: Vec<_> = (0..3)
            .flat_map(|layer| [of(layer, Projection::Q), of(layer, Projection::V)])
            .collect();
        let expected = [
            (2, 2.0),
            (8, 2.0),
            (2, 8.0),
            (32, 0.5),
            (2, 0.5),
            (8, 0.125),
        ];
        assert_eq!(found, expected);
        let scaling = config.scaling_in(&decoder).unwrap();
        let q = decoder.linear_path(Some(1), Projection::Q);
        assert_eq!(scaling.of(q), 8.0);
    }

    #[test]
    fn equal_factors_are_the_factor_of_all() {
        let plain = LoraConfig {
            rank_pattern: [("q_proj".to_string(), 8)].into(),
            ..LoraConfig::default()
        };
        assert_eq!(plain.scaling_in(&decoder(2)).unwrap(), 2.0.into());
    }

    #[test]
    fn a_pattern_that_matches_no_adapted_layer_is_named() {
        let config = config();
        let options = config.layer_options().unwrap();
        let path = |projection| decoder(3).linear_path(Some(1), projection);
        let error = options
            .refuse_unmatched(&[path(Projection::Q).into()])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`rank_pattern` must be made of keys that each match an adapted layer, found `layers.1.*v_proj`"
        );
    }
}
