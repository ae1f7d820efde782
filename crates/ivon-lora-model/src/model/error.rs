//! The errors of this room, with a hint for each.

use crate::files::FileError;
use crate::sentence::{Sentence, sentence, setting_to};

/// A checkpoint could not be found, read or understood.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The name is neither a folder, a file nor a hub name.
    #[error(
        "there is no model `{name}`, expected a folder, a `.gguf` file or a \
             hub name such as `org/name`"
    )]
    NotFound {
        /// The name given by the user.
        name: String,
    },
    /// A folder or file exists, but is not a checkpoint.
    #[error("`{path}` holds no model: found {found}, expected {expected}")]
    NoModel {
        /// The folder or file.
        path: String,
        /// Its contents.
        found: String,
        /// The contents of a checkpoint.
        expected: &'static str,
    },
    /// The model's family is not supported.
    #[error("model type `{found}` of `{file}` is not supported, supported are {}", supported.join(", "))]
    Architecture {
        /// The file that names the family.
        file: String,
        /// The family.
        found: String,
        /// The families supported in this kind of file.
        supported: Vec<&'static str>,
    },
    /// A setting of the model is missing, out of range, or not supported by the decoder.
    #[error("`{field}` in `{file}` is {found}, expected {expected}")]
    Setting {
        /// The file.
        file: String,
        /// The key.
        field: String,
        /// Its value, or that it is missing.
        found: String,
        /// The allowed values.
        expected: String,
    },
    /// The file does not conform to its format.
    #[error("`{file}` is malformed: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The violated rule, what was expected and found.
        reason: String,
    },
    /// The file is truncated.
    #[error("`{file}` is cut short: {what} ends at byte {expected}, the file at byte {found}")]
    Truncated {
        /// The file.
        file: String,
        /// The part that extends beyond the end.
        what: String,
        /// The required size in bytes.
        expected: u64,
        /// The actual size in bytes.
        found: u64,
    },
    /// A part of a split model is unexpected, or other parts do not fit.
    #[error("`{file}` is {found}, expected {expected}")]
    Split {
        /// The file.
        file: String,
        /// What it is.
        found: String,
        /// What it should be, or what should be beside it.
        expected: String,
        /// What the user can do.
        hint: Sentence,
    },
    /// A file named in an index is missing.
    #[error("`{index}` names `{file}`, which is not beside it")]
    MissingShard {
        /// The index.
        index: String,
        /// The file.
        file: String,
    },
    /// The model has another head than an output layer over the vocabulary.
    #[error(
        "`{file}` is no language model: it has {found}, expected \
             `lm_head.weight`, or `tie_word_embeddings` in its config.json"
    )]
    OtherHead {
        /// The model.
        file: String,
        /// The head, and the class from which the model was saved.
        found: String,
    },
    /// A tensor of the architecture is missing.
    #[error("tensor `{name}` is missing from `{file}`")]
    MissingTensor {
        /// The checkpoint's file.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A tensor does not have the shape that follows from the configuration.
    #[error("tensor `{name}` of `{file}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The checkpoint's file.
        file: String,
        /// The tensor.
        name: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor has an unsupported encoding.
    #[error("tensor `{name}` of `{file}` is stored as {found}, supported are {supported}")]
    Encoding {
        /// The checkpoint's file.
        file: String,
        /// The tensor.
        name: String,
        /// The encoding.
        found: String,
        /// The supported encodings.
        supported: &'static str,
    },
    /// A tensor's rows cannot be rounded to blocks.
    #[error(
        "tensor `{name}` has rows of {columns} numbers, expected a multiple of 32 to round them to blocks of Q8_0"
    )]
    NotInBlocks {
        /// The tensor.
        name: String,
        /// Numbers in a row.
        columns: usize,
    },
    /// The checkpoint's tokenizer is missing or unusable.
    #[error("the tokenizer of `{file}` cannot be used: {reason}")]
    Tokenizer {
        /// The file, or the model.
        file: String,
        /// Why.
        reason: String,
    },
    /// The callback of a download asked to stop.
    #[error("the download of `{file}` was stopped")]
    Stopped {
        /// The file's name in the repository.
        file: String,
    },
    /// A hub name could not be resolved to files.
    #[error("model `{name}`: {reason}")]
    Hub {
        /// The hub name.
        name: String,
        /// The reason.
        reason: String,
        /// What the user can do.
        hint: Sentence,
    },
}

impl ModelError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        Some(match self {
            Self::File(error) => return error.hint(),
            Self::NotFound { .. } => {
                "check the spelling; a relative path starts where the command is \
                 run"
                .into()
            }
            Self::NoModel { found, .. } if found.contains(".bin") => {
                "convert it with transformers: `model.save_pretrained(folder, \
                     safe_serialization=True)`"
                    .into()
            }
            Self::NoModel { found, .. } if found.contains(".gguf") => {
                "name one of the files instead of the folder".into()
            }
            Self::NoModel { .. } => {
                "name the folder that holds config.json and the safetensors, or a \
                 `.gguf` file"
                    .into()
            }
            Self::Architecture { .. } => "choose a model of one of these families".into(),
            Self::Setting { .. } => {
                "the decoder cannot compute what this setting asks for; choose \
                     another model, or correct the file"
                    .into()
            }
            Self::Malformed { .. } => "download or convert the file again".into(),
            Self::Truncated { .. } => {
                "the download or copy stopped early; fetch the file again".into()
            }
            Self::MissingShard { .. } => {
                "fetch the missing file, or remove the index if all weights are in \
                 one `model.safetensors`"
                    .into()
            }
            Self::OtherHead { .. } => {
                "name the language model that it was made from: a head for classes \
                 or embeddings is not read"
                    .into()
            }
            Self::MissingTensor { .. } | Self::Shape { .. } | Self::Encoding { .. } => {
                return self.hint_on_tensors();
            }
            Self::NotInBlocks { .. } => sentence!(
                "round the base with `{}` instead",
                setting_to("base_precision", "bf16")
            ),
            Self::Tokenizer { reason, .. } if reason.contains("no `tokenizer.json`") => {
                "save it with transformers: \
                     `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`"
                    .into()
            }
            Self::Tokenizer { .. } => "take tokenizer and model from the same release".into(),
            Self::Stopped { .. } => {
                "the same command goes on where it stopped: what has come is kept".into()
            }
            Self::Hub { hint, .. } | Self::Split { hint, .. } => hint.clone(),
        })
    }

    /// Hints on tensors that do not fit the configuration, or cannot be read.
    fn hint_on_tensors(&self) -> Option<Sentence> {
        Some(match self {
            Self::MissingTensor { name, .. } if name == "lm_head.weight" => {
                "set `tie_word_embeddings` in config.json if the model has no \
                     output layer of its own"
                    .into()
            }
            Self::MissingTensor { .. } => {
                "do the configuration and all of the weights belong to the same \
                 model?"
                    .into()
            }
            Self::Shape { found, .. } if found.contains(&0) => {
                "it is empty, as DeepSpeed's ZeRO-3 leaves it where nothing was \
                     gathered: save with `stage3_gather_16bit_weights_on_model_save`, \
                     or run `zero_to_fp32.py` on the checkpoint"
                    .into()
            }
            Self::Shape { name, .. }
                if name.ends_with("embed_tokens.weight") || name == "lm_head.weight" =>
            {
                "`vocab_size` and `hidden_size` of the configuration are not those \
                     of the weights: do both belong to the same model?"
                    .into()
            }
            Self::Shape { .. } => "does the configuration belong to these weights?".into(),
            Self::Encoding { supported, .. } if supported.contains("Q4_0") => {
                "take another file of the same model, such as its Q8_0 or Q4_K_M, \
                     or make one with llama.cpp's `llama-quantize`"
                    .into()
            }
            Self::Encoding { .. } => "convert the model to one of these first".into(),
            _ => return None,
        })
    }
}
