//! Paths of parameters by how they begin, end or read.

use serde::{Deserialize, Serialize};

/// Which parameter paths are meant. A path joins the names of fields and the indices of `Vec`s with
/// points, as in `layers.0.attention.query.weight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Paths that begin so.
    Prefix(String),
    /// Paths that end so.
    Suffix(String),
    /// Paths in which this occurs.
    Contains(String),
}

impl PathPattern {
    /// Whether `path` is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::Suffix(text) => path.ends_with(text.as_str()),
            Self::Contains(text) => path.contains(text.as_str()),
        }
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => write!(formatter, "{text}"),
            Self::Prefix(text) => write!(formatter, "{text}…"),
            Self::Suffix(text) => write!(formatter, "…{text}"),
            Self::Contains(text) => write!(formatter, "…{text}…"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_meets_a_path_exactly_at_its_ends_or_within() {
        let path = "layers.0.query.lora_a";
        let text = String::from;
        assert!(
            PathPattern::Exact(text("layers.0.query.lora_a")).matches(path)
                && !PathPattern::Exact(text("layers.0")).matches(path)
        );
        assert!(
            PathPattern::Prefix(text("layers.0.")).matches(path)
                && !PathPattern::Prefix(text("layers.1")).matches(path)
        );
        assert!(
            PathPattern::Suffix(text("lora_a")).matches(path)
                && !PathPattern::Suffix(text("lora_b")).matches(path)
        );
        assert!(
            PathPattern::Contains(text("query")).matches(path)
                && !PathPattern::Contains(text("value")).matches(path)
        );
    }
}
