//! "Did you mean" for a mistyped name.

use ivon_lora::words::nearest;

/// `did you mean …?`, if anything is near.
pub fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, candidates).map(|nearest| format!("did you mean `{nearest}`?"))
}
