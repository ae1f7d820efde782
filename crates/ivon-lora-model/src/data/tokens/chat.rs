//! A chat template, rendered as in `transformers`: around a prompt, which is the only message, from
//! the user, followed by the generation prompt; or around the messages of a conversation.
//!
//! One deviation: `strftime_now` always returns 26 July 2024 (the default date of Llama 3's own
//! template), because a prompt that depends on the date of the run cannot be reproduced.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::jinja::{Conversation, Rendered, Template};
use super::tokenizer::Tokenizer;
use crate::data::error::DataError;
use crate::data::task::Message;
use crate::files;

/// The maximum size of a template file in bytes.
const LONGEST_TEMPLATE: u64 = 1 << 20;

/// The chat template to put around prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChatSetting {
    /// The checkpoint's own (`true`), or none.
    Own(bool),
    /// The template in a file.
    File(PathBuf),
}

impl Default for ChatSetting {
    fn default() -> Self {
        Self::Own(false)
    }
}

impl ChatSetting {
    /// Whether a template is used.
    pub fn is_on(&self) -> bool {
        *self != Self::Own(false)
    }

    /// Checks what can be checked without a checkpoint: that the file exists and contains a
    /// template.
    ///
    /// # Errors
    /// As [`put_into`](Self::put_into).
    pub fn check(&self) -> Result<(), DataError> {
        match self {
            Self::Own(_) => Ok(()),
            Self::File(path) => Template::compile(&files::read_text(path, LONGEST_TEMPLATE)?)
                .map(drop)
                .map_err(failed),
        }
    }

    /// The tokenizer with this template, after compiling the template once to check it.
    ///
    /// # Errors
    /// If the file cannot be read, the checkpoint has no template, or it is not valid.
    pub fn put_into(&self, tokenizer: Tokenizer) -> Result<Tokenizer, DataError> {
        let mut tokenizer = tokenizer;
        if let Self::File(path) = self {
            tokenizer.chat_template = Some(files::read_text(path, LONGEST_TEMPLATE)?);
        }
        if self.is_on() {
            ChatTemplate::of(&tokenizer)?;
        }
        Ok(tokenizer)
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    template: Template,
    /// The named special tokens, with their names.
    tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles the template of a tokenizer.
    ///
    /// # Errors
    /// If the tokenizer has none, or it is not valid Jinja.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let source = tokenizer.chat_template.as_deref();
        let source = source.ok_or_else(|| DataError::NoChatTemplate {
            named: tokenizer.other_templates.clone(),
        })?;
        let template = Template::compile(source).map_err(failed)?;
        let tokens = tokenizer
            .special_tokens()
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .collect();
        Ok(Self { template, tokens })
    }

    /// The text of a conversation in which the user has said `prompt` and the assistant answers
    /// next.
    ///
    /// # Errors
    /// If the template fails or raises an exception.
    pub fn render(&self, prompt: &str) -> Result<String, DataError> {
        self.template.render(prompt, &self.tokens).map_err(failed)
    }

    /// The text of a conversation; with `generation_prompt` the assistant answers next.
    ///
    /// # Errors
    /// If the template fails or raises an exception.
    pub fn render_messages(
        &self,
        messages: &[Message],
        generation_prompt: bool,
    ) -> Result<String, DataError> {
        let rendered = self.beginning(messages, messages.len(), generation_prompt);
        rendered.map(|rendered| rendered.text).map_err(failed)
    }

    /// The first `count` messages of a conversation; with `generation_prompt` the assistant answers
    /// next.
    pub(super) fn beginning(
        &self,
        messages: &[Message],
        count: usize,
        generation_prompt: bool,
    ) -> Result<Rendered, String> {
        let messages: Vec<(&str, &str)> = messages
            .iter()
            .take(count)
            .map(|message| (message.speaker.role(), message.content.as_str()))
            .collect();
        self.template.render_conversation(&Conversation {
            messages: &messages,
            tokens: &self.tokens,
            generation_prompt,
        })
    }

    /// Whether it marks what the assistant says, with `{% generation %}`.
    pub(super) fn marks_generation(&self) -> bool {
        self.template.marks_generation
    }
}

fn failed(reason: String) -> DataError {
    DataError::ChatTemplate { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::speaker::Speaker;
    use tokenizers::models::wordlevel::WordLevel;

    fn template(source: &str) -> Result<ChatTemplate, DataError> {
        let mut tokenizer = Tokenizer::new(tokenizers::Tokenizer::new(WordLevel::default()));
        tokenizer.chat_template = Some(source.into());
        tokenizer.bos_token = Some("<s>".into());
        ChatTemplate::of(&tokenizer)
    }

    #[test]
    fn the_template_of_smollm2_wraps_the_prompt_with_its_default_system_message() {
        let chat = template(
            "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}\
             {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
             {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        );
        let expected = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nIs ice {cold}?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(chat.unwrap().render("Is ice {cold}?").unwrap(), expected);
    }

    #[test]
    fn python_s_methods_dates_and_blocks_work_as_in_transformers() {
        let chat = template(
            "{{- bos_token }}\n{%- if tools is not none %}tools{% endif %}\n{%- set date = strftime_now('%d %b %Y') %}\n\
             {{- date + ' ' + messages[0]['content'].strip() }}\n    {% generation %}\n{% endgeneration %}",
        );
        assert_eq!(
            chat.unwrap().render("  hi ").unwrap().trim_end(),
            "<s>26 Jul 2024 hi"
        );
    }

    #[test]
    fn a_conversation_of_many_messages_renders_within_the_limits() {
        let chat = template(
            "{% set rest = messages[1:] %}{% for m in rest %}{% set c = m.content | trim %}{{ c ~ loop.index }}\
             {% if not loop.last %}{{ m.role[:1] }}{% endif %}{% endfor %}",
        )
        .unwrap();
        let message = |index: usize| match index % 2 {
            0 => Message::of(Speaker::User, " a "),
            _ => Message::of(Speaker::Assistant, " b "),
        };
        let messages: Vec<Message> = (0..1000).map(message).collect();
        let text = chat.render_messages(&messages, false).unwrap();
        assert!(
            text.starts_with("b1aa2u") && text.ends_with("a998ub999"),
            "{text}"
        );
    }

    #[test]
    fn what_is_inside_generation_is_found_and_the_text_is_that_without_marks() {
        let marked = "{% for m in messages %}{{ m.role }}:\n  {% generation %}\n {{ m.content }}\n{% endgeneration %}\n.{% endfor %}";
        let chat = template(marked).unwrap();
        assert!(chat.marks_generation());
        let messages = [
            Message::of(Speaker::Assistant, "é"),
            Message::of(Speaker::User, "b"),
        ];
        let found = chat.beginning(&messages, 2, false).unwrap();
        assert_eq!(found.text, "assistant:\n é\n.user:\n b\n.");
        let spoken: Vec<&str> = found
            .generation
            .iter()
            .map(|range| &found.text[range.clone()])
            .collect();
        assert_eq!(spoken, [" é\n", " b\n"]);
        assert_eq!(chat.render("x").unwrap(), "user:\n x\n.");
    }

    #[test]
    fn a_template_that_is_broken_or_raises_says_so() {
        let message = template("{% if %}").unwrap_err().to_string();
        assert!(
            message.starts_with("the chat template failed: syntax error"),
            "{message}"
        );
        let chat = template("{{ raise_exception('roles must alternate') }}").unwrap();
        assert!(
            chat.render("hi")
                .unwrap_err()
                .to_string()
                .contains("roles must alternate")
        );
        let plain = Tokenizer::new(tokenizers::Tokenizer::new(WordLevel::default()));
        assert!(
            ChatTemplate::of(&plain)
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("off")
        );
    }
}
