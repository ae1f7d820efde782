//! The files of a Hugging Face folder that belong to the model but contain no weights.

/// File names, without `config.json`, because a merged model has its own.
const NAMES: [&str; 16] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "vocab.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
];
/// The folder of named chat templates.
pub const TEMPLATES_FOLDER: &str = "additional_chat_templates";
/// The names of files with the terms of use, with or without an extension.
const TERMS: [&str; 5] = ["license", "licence", "notice", "copying", "use_policy"];

/// Whether a file accompanies the weights of the model: tokenizer, chat templates, generation
/// settings, terms of use.
pub fn is_companion(name: &str) -> bool {
    if let Some((folder, name)) = name.split_once('/') {
        return folder == TEMPLATES_FOLDER && name.ends_with(".jinja") && !name.contains('/');
    }
    let lower = name.to_lowercase();
    let (stem, ending) = lower.split_once('.').unwrap_or((&lower, ""));
    NAMES.contains(&name) || TERMS.contains(&stem) && ["", "txt", "md"].contains(&ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizer_generation_and_terms_go_with_the_model_and_weights_do_not() {
        let terms = ["LICENSE", "LICENSE.txt", "Notice.md", "USE_POLICY.md"];
        let others = [
            "tokenizer.model",
            "generation_config.json",
            "additional_chat_templates/default.jinja",
        ];
        for name in terms.into_iter().chain(others) {
            assert!(is_companion(name), "{name}");
        }
        for name in [
            "config.json",
            "model.safetensors",
            "README.md",
            "license.py",
            "a/LICENSE",
            "training_args.bin",
            "a/b.jinja",
        ] {
            assert!(!is_companion(name), "{name}");
        }
    }
}
