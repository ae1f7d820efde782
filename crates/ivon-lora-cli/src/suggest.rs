//! "Did you mean" suggestions for mistyped names.

use ivon_lora::words::nearest;

/// `did you mean …?`, if any candidate is close.
pub fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, candidates).map(|nearest| format!("did you mean `{nearest}`?"))
}
