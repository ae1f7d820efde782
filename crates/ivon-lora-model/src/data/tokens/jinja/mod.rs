//! Jinja templates rendered as in transformers: minijinja, corrected where it differs from Python,
//! and with limits on time, memory and depth, because templates are untrusted.
//!
//! A template that transformers renders is rendered identically or refused; one that transformers
//! refuses may be rendered (for example, types are compared less strictly here).

mod limits;
mod numbers;
mod objects;
mod text;
mod printf;
mod functions;
mod collections;
mod methods;
mod filters;
mod stored;
mod generation;
mod lexer;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};

use crate::guard::guard;

/// The number of steps a template may take; a step pays for 64 bytes of text.
const STEPS: u64 = 100_000;
/// The number of steps that it may take more for each message after the first.
const STEPS_PER_MESSAGE: u64 = 2_000;
/// The maximum number of frames of loops, blocks and macros.
const DEEPEST_FRAMES: usize = 200;
/// The stack on which a template is parsed and run; only the part used costs memory.
const STACK: usize = 64 << 20;
const NAME: &str = "template";

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// The length of its source.
    bytes: usize,
    /// Whether it marks what the assistant says, with `{% generation %}`.
    pub marks_generation: bool,
}

/// What a template is rendered with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation<'a> {
    /// The role and the content of each message.
    pub messages: &'a [(&'a str, &'a str)],
    /// The named special tokens.
    pub tokens: &'a [(String, String)],
    /// Whether the start of the assistant's next message follows.
    pub generation_prompt: bool,
}

/// A rendered template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The text.
    pub text: String,
    /// The bytes of the text that are inside `{% generation %}`, in ascending order.
    pub generation: Vec<Range<usize>>,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// A message if it is not valid Jinja, too large or too deep.
    pub fn compile(source: &str) -> Result<Self, String> {
        apart(|| {
            let mut environment = environment()?;
            let rewritten = source::rewritten(source)?;
            environment
                .add_template_owned(NAME, rewritten.text)
                .map_err(|error| message_of(&error))?;
            Ok(Self {
                environment,
                bytes: source.len(),
                marks_generation: rewritten.marks_generation,
            })
        })
    }

    /// Renders the template with one message of the user, the named special tokens, and a
    /// generation prompt.
    ///
    /// # Errors
    /// A message if the template fails, raises an exception, or does not end.
    pub fn render(&self, prompt: &str, tokens: &[(String, String)]) -> Result<String, String> {
        let conversation = Conversation {
            messages: &[("user", prompt)],
            tokens,
            generation_prompt: true,
        };
        let values = conversation.values(false);
        apart(|| self.text(values, &conversation))
    }

    /// Renders the template with a conversation, and finds what it marks as said by the assistant.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_conversation(&self, conversation: &Conversation<'_>) -> Result<Rendered, String> {
        conversation.check_marks()?;
        let values = conversation.values(true);
        let marked = apart(|| self.text(values, conversation))?;
        generation::separated(&marked)
    }

    fn text(&self, values: Value, conversation: &Conversation<'_>) -> Result<String, String> {
        let mut environment = self.environment.clone();
        let further = conversation.messages.len().saturating_sub(1) as u64;
        let steps =
            STEPS + further * STEPS_PER_MESSAGE + (self.bytes + conversation.bytes()) as u64 / 4;
        environment.set_fuel(Some(steps));
        let template = environment
            .get_template(NAME)
            .map_err(|error| message_of(&error))?;
        template.render(values).map_err(|error| message_of(&error))
    }
}

impl Conversation<'_> {
    /// The bytes of all contents.
    fn bytes(&self) -> usize {
        self.messages.iter().map(|(_, content)| content.len()).sum()
    }

    /// The variables of transformers' `apply_chat_template`, and those that the rewritten source
    /// reads.
    fn values(&self, marked: bool) -> Value {
        let text = |text: &str| Value::from(text);
        let message = |(role, content): &(&str, &str)| {
            let fields = [("role", text(role)), ("content", text(content))];
            objects::Dict::of(fields.map(|(key, value)| (text(key), value)))
        };
        let mut values: BTreeMap<&str, Value> = self
            .tokens
            .iter()
            .map(|(name, token)| (name.as_str(), text(token)))
            .collect();
        let messages: Vec<Value> = self.messages.iter().map(message).collect();
        values.extend([
            ("messages", Value::from(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(self.generation_prompt)),
            (stored::GIVEN_MESSAGES, Value::from(self.messages.len())),
            (stored::GIVEN_BYTES, Value::from(self.bytes())),
            (generation::IS_MARKED, Value::from(marked)),
        ]);
        Value::from_pairs(values)
    }

    /// Refuses contents with the characters that mark what the assistant says.
    fn check_marks(&self) -> Result<(), String> {
        let contents = self.messages.iter().map(|(_, content)| *content);
        let tokens = self.tokens.iter().map(|(_, token)| token.as_str());
        let mut texts = contents.chain(tokens);
        match texts.any(|text| text.contains(generation::MARKS)) {
            true => Err("a message has one of the noncharacters U+FDD0 and U+FDD1".into()),
            false => Ok(()),
        }
    }
}

/// The environment of transformers' `apply_chat_template`.
fn environment() -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| message_of(&error))?);
    environment.set_recursion_limit(DEEPEST_FRAMES);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, _, value| {
        let text = text::text(value)?;
        Ok(out.write_str(&text)?)
    });
    environment.add_function("raise_exception", functions::raise_exception);
    environment.add_function("strftime_now", functions::strftime_now);
    environment.add_function("range", objects::Range::called);
    environment.add_function("cycler", objects::Cycler::called);
    environment.add_function("joiner", objects::Joiner::called);
    environment.add_function(source::CONCATENATED, functions::concatenated);
    environment.add_function("dict", functions::dict);
    environment.add_function(source::DICT, functions::literal);
    environment.add_function(source::PRODUCT, functions::product);
    environment.add_function(source::REMAINDER, functions::remainder);
    environment.add_function(source::SUM, functions::sum);
    environment.add_function(source::STORED, stored::stored);
    environment.add_function(source::ATTRIBUTE, stored::attribute);
    environment.add_function(source::GENERATION, generation::mark);
    filters::add(&mut environment);
    Ok(environment)
}

/// The message of an error.
fn message_of(error: &minijinja::Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => {
            "it takes more steps, or makes more text, than a prompt needs".into()
        }
        _ => error.to_string(),
    }
}

/// Runs `work` on a thread whose stack is deep enough for the limits.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let guarded = || guard("minijinja", work).map_err(|error| error.to_string());
        let thread = thread.spawn_scoped(scope, guarded);
        let thread =
            thread.map_err(|error| format!("a thread for it cannot be started, {error}"))?;
        thread
            .join()
            .map_err(|_| "the template engine stopped".to_string())??
    })
}

#[cfg(test)]
mod tests;
