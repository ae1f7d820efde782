//! The checkpoint's own chat template around a prompt, as `transformers` renders it.
//!
//! The prompt is the one message of the user; the template adds what makes the assistant speak. Two departures,
//! with their reasons: `strftime_now` always says 26 July 2024 (the date that Llama 3's own template falls back to),
//! since a prompt that changes with the day of the run cannot be repeated; and `{% generation %}` marks, which only
//! matter for training on whole chats, are taken out.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, context};
use regex::Regex;

use super::error::DataError;
use super::tokenizer::Tokenizer;
use crate::guard::{Panicked, guard};

/// The longest template that is compiled, in bytes.
const LONGEST_TEMPLATE: usize = 1 << 20;

const NAME: &str = "chat";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// Compiles the template of a tokenizer.
    ///
    /// # Errors
    /// If the tokenizer has none, or it is not valid Jinja.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let source = tokenizer.chat_template.as_deref().ok_or(DataError::NoChatTemplate)?;
        if source.len() > LONGEST_TEMPLATE {
            return Err(DataError::ChatTemplate { reason: format!("it has {} bytes, expected at most {LONGEST_TEMPLATE}", source.len()) });
        }
        let mut environment = Environment::new();
        let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(blocks);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| fixed_date(&format));
        static GENERATION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{%-?\s*(end)?generation\s*-?%\}").ok());
        let source = GENERATION.as_ref().map_or_else(|| source.into(), |marks| marks.replace_all(source, "").into_owned());
        guard("minijinja", || environment.add_template_owned(NAME, source)).map_err(panicked)?.map_err(failed)?;
        Ok(Self {
            environment,
            bos_token: tokenizer.bos_token.clone().unwrap_or_default(),
            eos_token: tokenizer.eos_token.clone().unwrap_or_default(),
        })
    }

    /// The text of a conversation in which the user has said `prompt` and the assistant is to answer.
    ///
    /// # Errors
    /// If the template fails, or raises an exception of its own.
    pub fn render(&self, prompt: &str) -> Result<String, DataError> {
        let values = context! {
            messages => [context! { role => "user", content => prompt }],
            add_generation_prompt => true,
            bos_token => self.bos_token.clone(),
            eos_token => self.eos_token.clone(),
            tools => (),
            documents => (),
        };
        let render = || self.environment.get_template(NAME).and_then(|template| template.render(values));
        guard("minijinja", render).map_err(panicked)?.map_err(failed)
    }
}

fn failed(error: minijinja::Error) -> DataError {
    DataError::ChatTemplate { reason: error.to_string() }
}

fn panicked(panicked: Panicked) -> DataError {
    DataError::ChatTemplate { reason: panicked.to_string() }
}

/// `strftime` for 26 July 2024, 12:00:00.
fn fixed_date(format: &str) -> String {
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => text.push_str("26"),
            Some('b' | 'h') => text.push_str("Jul"),
            Some('B') => text.push_str("July"),
            Some('Y') => text.push_str("2024"),
            Some('y') => text.push_str("24"),
            Some('m') => text.push_str("07"),
            Some('a') => text.push_str("Fri"),
            Some('A') => text.push_str("Friday"),
            Some('j') => text.push_str("208"),
            Some('H' | 'I') => text.push_str("12"),
            Some('M' | 'S') => text.push_str("00"),
            Some('p') => text.push_str("PM"),
            Some('F') => text.push_str("2024-07-26"),
            Some('T') => text.push_str("12:00:00"),
            Some(other) if other != '%' => text.extend(['%', other]),
            _ => text.push('%'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(chat.unwrap().render("  hi ").unwrap().trim_end(), "<s>26 Jul 2024 hi");
    }

    #[test]
    fn a_template_that_is_broken_or_raises_says_so() {
        let message = template("{% if %}").unwrap_err().to_string();
        assert!(message.starts_with("the model's chat template failed: syntax error"), "{message}");
        let chat = template("{{ raise_exception('roles must alternate') }}").unwrap();
        assert!(chat.render("hi").unwrap_err().to_string().contains("roles must alternate"));
        let plain = Tokenizer::new(tokenizers::Tokenizer::new(WordLevel::default()));
        assert!(ChatTemplate::of(&plain).unwrap_err().hint().unwrap().contains("off"));
    }
}
