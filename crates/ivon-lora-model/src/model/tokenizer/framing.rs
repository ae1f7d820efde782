//! BOS before and EOS after a text, as a post-processor of the `tokenizers` crate.

use tokenizers::processors::template::{SpecialToken, Template, TemplateProcessing};

/// Makes `inner` add these tokens (id and text) to every text, in place of its post-processor;
/// without any, it has no post-processor.
///
/// # Errors
/// The message of the `tokenizers` crate.
pub(super) fn frame(
    inner: &mut tokenizers::Tokenizer,
    bos: Option<(u32, &str)>,
    eos: Option<(u32, &str)>,
) -> Result<(), String> {
    if bos.is_none() && eos.is_none() {
        inner.with_post_processor(None::<TemplateProcessing>);
        return Ok(());
    }
    // The template refers to them as `bos` and `eos`, because the text of a token may contain its
    // separators.
    let mut tokens = Vec::new();
    for (name, token) in [("bos", bos), ("eos", eos)] {
        if let Some((id, text)) = token {
            let token = SpecialToken::new(name.into(), vec![id], vec![text.into()]);
            tokens.push(token.map_err(|error| error.to_string())?);
        }
    }
    let around = |sequence: &str| {
        let parts = [bos.map(|_| "bos"), Some(sequence), eos.map(|_| "eos")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let single = around("$A");
    let pair = format!("{single} {}", around("$B"));
    let processor = TemplateProcessing::builder()
        .single(Template::try_from(single.as_str())?)
        .pair(Template::try_from(pair.as_str())?)
        .special_tokens(tokens)
        .build()
        .map_err(|error| error.to_string())?;
    inner.with_post_processor(Some(processor));
    Ok(())
}
