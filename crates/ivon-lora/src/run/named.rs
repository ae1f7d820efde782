//! What a run says while its adapter and base are looked for.

use super::RunEvent;
use super::base::Base;
use super::train::Watch;
use crate::model::HubEvent;

/// Hands on what a download notes; its progress is shown by who fetches first.
pub(super) fn listen(event: HubEvent<'_>, watch: Watch<'_>) {
    if let HubEvent::Note(note) = event {
        watch(RunEvent::Note(note.into()));
    }
}

/// What to warn of where an adapter of another program names another base of the hub than the one
/// it is given.
pub(super) fn other_base(named: Option<&str>, base: &Base) -> Option<String> {
    let found = base.record.name.as_str();
    let named = named.filter(|named| {
        is_hub_name(named) && is_hub_name(found) && !named.eq_ignore_ascii_case(found)
    })?;
    Some(format!(
        "the adapter names `{named}` as its base, `{found}` has the same shape: scores can differ"
    ))
}

/// `org/name`, and nothing that a file of a repository or of this machine could be.
fn is_hub_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let is_part = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty() && !part.starts_with(['.', '~']) && !part.contains(':')
        })
    };
    is_part(parts.next()) && is_part(parts.next()) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_name_of_the_hub_is_compared() {
        assert!(is_hub_name("org/name-1.5"));
        for other in [
            "name",
            "/org/name",
            "./name",
            "../name",
            "org/name/file.gguf",
            "org/name:Q4_0",
            "org/",
            "",
        ] {
            assert!(!is_hub_name(other), "{other}");
        }
    }
}
