//! Patterns of parameter paths.

use serde::{Deserialize, Serialize};

/// A pattern that matches parameter paths. A path joins the names of fields and the indices of
/// `Vec`s with dots, as in `layers.0.attention.query.weight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Paths that start with this.
    Prefix(String),
    /// Paths that end with this.
    Suffix(String),
    /// Paths that contain this.
    Contains(String),
}

impl PathPattern {
    /// Whether the pattern matches `path`.
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
    fn a_pattern_matches_a_whole_path_its_start_its_end_or_any_part() {
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
