//! A model: architecture, parameters, encodings, size, tokenizer, chat template.

use std::collections::BTreeMap;

use ivon_lora::model::{Checkpoint, DecoderConfig};
use serde::Serialize;

use super::composition::{bases, composition, ends};
use super::{Overview, pairs};
use crate::args::ScreenArgs;
use crate::commands::open_headers;
use crate::exit::Failure;
use crate::render::{Screen, bytes, count};

/// Information on a model, without loading it.
#[derive(Debug, Serialize)]
pub struct Model {
    name: String,
    config: DecoderConfig,
    parameters: u64,
    bytes: u64,
    /// Tensors and bytes of each encoding.
    encodings: BTreeMap<String, (usize, u64)>,
    /// Tensors that the decoder needs but whose encoding is not supported, by encoding.
    not_read: BTreeMap<String, usize>,
    tokenizer: Tokens,
    /// `None` if the weights are not on this machine.
    fingerprint: Option<String>,
}

/// Information on the tokenizer, or what is wrong with it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Tokens {
    Read {
        tokens: usize,
        bos_token: Option<String>,
        eos_token: Option<String>,
        chat_template: bool,
    },
    Unusable {
        error: String,
    },
}

/// Reads headers and tokenizer.
///
/// # Errors
/// If there is no such model, or it is malformed or not supported.
pub fn inspect(name: &str) -> Result<Model, Failure> {
    let mut screen = Screen::new(ScreenArgs::default());
    let headers = open_headers(name, &mut screen)?;
    let checkpoint = headers.checkpoint();
    screen.close();
    let (mut encodings, mut not_read) = (BTreeMap::<String, (usize, u64)>::new(), BTreeMap::new());
    let needed = checkpoint.names();
    for tensor in checkpoint.raw() {
        let entry = encodings.entry(tensor.kind.clone()).or_default();
        *entry = (entry.0 + 1, entry.1 + tensor.bytes.len() as u64);
        if needed.contains(&tensor.name) && checkpoint.tensor(&tensor.name).is_err() {
            *not_read.entry(tensor.kind).or_default() += 1;
        }
    }
    Ok(Model {
        name: checkpoint.display_name().into(),
        config: checkpoint.config().clone(),
        parameters: checkpoint.parameters(),
        bytes: encodings.values().map(|(_, bytes)| bytes).sum(),
        encodings,
        not_read,
        tokenizer: tokens(checkpoint),
        fingerprint: if headers.has_weights() {
            Some(checkpoint.fingerprint()?)
        } else {
            None
        },
    })
}

fn tokens(checkpoint: &Checkpoint) -> Tokens {
    match checkpoint.tokenizer() {
        Ok(tokenizer) => Tokens::Read {
            tokens: tokenizer.vocabulary_size(),
            chat_template: tokenizer.chat_template.is_some(),
            bos_token: tokenizer.bos_token,
            eos_token: tokenizer.eos_token,
        },
        Err(error) => Tokens::Unusable {
            error: error.to_string(),
        },
    }
}

impl Overview for Model {
    fn text(&self) -> String {
        let mut lines = vec![
            ("model", self.name.clone()),
            ("architecture", self.config.model_type.clone()),
            ("parameters", count(self.parameters)),
            ("in the file", self.in_the_file()),
        ];
        lines.extend(self.unreadable().map(|said| ("not read here", said)));
        lines.extend(shape(&self.config));
        lines.extend(self.tokenizer.lines());
        let unknown = "not known before the weights are downloaded".to_string();
        lines.push(("fingerprint", self.fingerprint.clone().unwrap_or(unknown)));
        pairs(&lines)
    }
}

impl Model {
    /// The size of the file, and of the tensors of each encoding.
    fn in_the_file(&self) -> String {
        let encodings: Vec<String> = self
            .encodings
            .iter()
            .map(|(name, (tensors, size))| format!("{name}: {tensors} tensors, {}", bytes(*size)))
            .collect();
        format!("{} ({})", bytes(self.bytes), encodings.join("; "))
    }

    /// The tensors that cannot be read, if any.
    fn unreadable(&self) -> Option<String> {
        let kinds: Vec<String> = self
            .not_read
            .iter()
            .map(|(kind, tensors)| format!("{kind} ({tensors} tensors)"))
            .collect();
        (!kinds.is_empty())
            .then(|| format!("{}: the model cannot be used as it is", kinds.join(", ")))
    }
}

/// The decoder's shape.
fn shape(config: &DecoderConfig) -> Vec<(&'static str, String)> {
    let tied = match config.tie_word_embeddings {
        true => ", output tied to the embeddings",
        false => "",
    };
    let layers = format!(
        "{} of width {}",
        config.num_hidden_layers, config.hidden_size
    );
    let mut lines = vec![("layers", layers)];
    lines.extend(composition(config));
    lines.extend([
        (
            "positions",
            format!("{}{}", config.max_position_embeddings, bases(config)),
        ),
        ("vocabulary", format!("{}{tied}", config.vocab_size)),
    ]);
    lines.extend(ends(config).map(|said| ("ends", said)));
    lines
}

impl Tokens {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let (tokens, bos, eos, chat_template) = match self {
            Self::Unusable { error } => return vec![("tokenizer", error.clone())],
            Self::Read {
                tokens,
                bos_token,
                eos_token,
                chat_template,
            } => (tokens, bos_token, eos_token, chat_template),
        };
        let special = |token: &Option<String>| match token {
            Some(token) => format!("`{token}`"),
            None => "none".into(),
        };
        let said = format!(
            "{tokens} tokens, begins with {}, ends with {}",
            special(bos),
            special(eos)
        );
        let chat_template = if *chat_template { "yes" } else { "no" };
        vec![("tokenizer", said), ("chat template", chat_template.into())]
    }
}
