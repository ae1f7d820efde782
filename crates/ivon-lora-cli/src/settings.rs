//! Looks up a run's setting by its place in the file or by its flag.

pub use ivon_lora::run::{Setting, TABLES, settings};

/// The setting of a table and a key.
pub fn find(table: &str, key: &str) -> Option<&'static Setting> {
    settings()
        .iter()
        .find(|setting| setting.table == table && setting.key.name == key)
}

/// The setting that a flag overrides.
pub fn of_flag(flag: &str) -> Option<&'static Setting> {
    settings()
        .iter()
        .find(|setting| setting.flag() == Some(flag))
}
