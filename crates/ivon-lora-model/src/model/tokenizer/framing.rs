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
    let special = |name: &str, token: Option<(u32, &str)>| {
        token.map(|(id, text)| {
            SpecialToken::new(name.into(), vec![id], vec![text.into()])
                .map_err(|error| error.to_string())
        })
    };
    let tokens = [special("bos", bos), special("eos", eos)]
        .into_iter()
        .flatten()
        .collect::<Result<Vec<_>, _>>()?;
    let template = |sequences: &[&str]| {
        let around = |sequence: &str| {
            let parts = [bos.map(|_| "bos"), Some(sequence), eos.map(|_| "eos")];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        let text = sequences
            .iter()
            .map(|sequence| around(sequence))
            .collect::<Vec<_>>()
            .join(" ");
        Template::try_from(text.as_str())
    };
    let (single, pair) = (template(&["$A"])?, template(&["$A", "$B"])?);
    let processor = TemplateProcessing::builder()
        .single(single)
        .pair(pair)
        .special_tokens(tokens)
        .build()
        .map_err(|error| error.to_string())?;
    inner.with_post_processor(Some(processor));
    Ok(())
}
