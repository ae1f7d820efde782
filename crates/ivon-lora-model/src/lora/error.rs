//! The errors of this room.

use std::path::PathBuf;

use crate::files::FileError;
use crate::sentence::{Sentence, command, sentence, setting};

/// An adapter could not be made, read, written or merged.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// An option has an invalid value.
    #[error("`{option}` must be {expected}, found `{found}`")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The allowed values.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// A regular expression cannot be compiled.
    #[error("`{option}` is not a regular expression: {reason}")]
    Pattern {
        /// The option's name.
        option: &'static str,
        /// The compiler's message, on one line.
        reason: String,
    },
    /// `target_modules` matches no layer.
    #[error("`target_modules` {targets} matches no linear layer among {there_is}")]
    NothingMatches {
        /// Its value.
        targets: String,
        /// The layers there are.
        there_is: String,
    },
    /// A decoder layer that does not exist.
    #[error(
        "`layers_to_transform` names layer {layer}, but the model has \
             {layers} layers, counted from 0"
    )]
    NoSuchLayer {
        /// The layer's index.
        layer: usize,
        /// The number of layers.
        layers: usize,
    },
    /// An adapter folder uses an unsupported option.
    #[error("`{}` has `{key}` = {value}, which is not supported here: {meaning}", path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value as JSON.
        value: String,
        /// What it would mean.
        meaning: &'static str,
    },
    /// A key of a JSON file is missing or has the wrong type.
    #[error("`{}` should have `{key}` as {expected}, found {found}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The expected type.
        expected: &'static str,
        /// Its value as JSON, or `nothing`.
        found: String,
    },
    /// A file cannot be parsed.
    #[error("`{}` is not {expected}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// The parser's message.
        reason: String,
    },
    /// The folder has only weights in the old pickle format.
    #[error("`{}` holds `adapter_model.bin` and no `adapter_model.safetensors`", folder.display())]
    Pickle {
        /// The adapter folder.
        folder: PathBuf,
    },
    /// The path does not contain an adapter.
    #[error("`{}` holds no adapter: found {found}, expected `adapter_config.json`", path.display())]
    NoAdapter {
        /// The path given by the user.
        path: PathBuf,
        /// Its contents.
        found: String,
        /// The location of an adapter, or another suggestion.
        hint: Sentence,
    },
    /// An adapter has more than another program's format has place for.
    #[error("the adapter has {what}, which {format} adapters cannot hold")]
    NotPortable {
        /// The format.
        format: &'static str,
        /// What it has.
        what: &'static str,
    },
    /// An adapter folder of mlx-lm.
    #[error("`{}` is of an adapter of mlx-lm (`fine_tune_type`), expected one of PEFT (`peft_type`)", path.display())]
    Mlx {
        /// The configuration file.
        path: PathBuf,
    },
    /// The file contains whole layers of the model, which are not supported.
    #[error("`{}` holds whole layers of the model beside A and B, which are not read: {layers}", path.display())]
    WholeLayers {
        /// The adapter's file.
        path: PathBuf,
        /// Their paths and shapes.
        layers: String,
    },
    /// The file contains A and B for a layer that cannot be adapted here.
    #[error("`{}` adapts `{module}`, expected linear layers of the decoder and its tables over the vocabulary", path.display())]
    OtherLayer {
        /// The adapter's file.
        path: PathBuf,
        /// The layer's path in the model.
        module: String,
    },
    /// A table over the vocabulary has another number of rows than the base's.
    #[error("`{}` holds `{module}` with {found} rows, but the base's vocabulary has {expected} tokens", path.display())]
    OtherVocabulary {
        /// The adapter's file.
        path: PathBuf,
        /// The table's path in the model.
        module: String,
        /// Its rows.
        found: usize,
        /// The base's.
        expected: usize,
    },
    /// A table of the base that is saved with the adapter is another one than the base's.
    #[error("row {row} of `{name}` in `{}` is another than that of this base", path.display())]
    OtherBaseTable {
        /// The adapter's file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The row, a token.
        row: usize,
    },
    /// A tensor is empty.
    #[error("tensor `{name}` of `{}` is empty (shape {found:?}), expected the numbers of A or B", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A tensor does not belong to an adapted layer.
    #[error("tensor `{name}` in `{}` belongs to no adapted layer of this model: {reason}", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The reason.
        reason: String,
    },
    /// A tensor is missing.
    #[error("tensor `{name}` is missing from `{}`", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor does not have the shape that follows from the model and the rank.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape that follows from the model.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor has a number type that adapters do not use.
    #[error("tensor `{name}` has type {found}, expected F32, F16 or BF16")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A contextual adapter cannot be merged into weights.
    #[error(
        "the adapter predicts a matrix between A and B from each input \
             (C-LoRA): there is no W + s B A to merge"
    )]
    Contextual,
    /// A number is infinite or not a number.
    #[error("tensor `{name}` holds a number that is not finite{}", if *rounded { " once rounded to 16 bits" } else { "" })]
    NotFinite {
        /// The tensor.
        name: String,
        /// Whether it was finite before it was rounded.
        rounded: bool,
    },
    /// The base has no weight of this name.
    #[error("the base has no tensor `{name}` to merge the adapter into")]
    NoBaseTensor {
        /// The weight.
        name: String,
    },
    /// A GGUF file's layers cannot be expressed in a `config.json`.
    #[error(
        "the base has attention windows or rotary embeddings as no `config.json` \
             of its family can say"
    )]
    NoConfig,
    /// The device did not return the data.
    #[error("could not read `{path}` back from the device: {reason}")]
    Device {
        /// The parameter.
        path: String,
        /// The device's message.
        reason: String,
    },
    /// The base could not be read.
    #[error(transparent)]
    Base(Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

const MERGE_WHOLE_LAYERS: &str = "merge it into the base with PEFT \
    (`PeftModel.from_pretrained(base, folder).merge_and_unload()`, the base resized first if its \
    vocabulary was) and go on from the merged model, or train it again without `modules_to_save` \
    and with `save_embedding_layers=False`";
const MERGE_OTHER_LAYERS: &str = "merge it into the base with PEFT \
    (`PeftModel.from_pretrained(base, folder).merge_and_unload()`) and go on from the merged \
    model, or train it again with `target_modules` of the decoder";
const GATHER_WEIGHTS: &str = "DeepSpeed's ZeRO-3 leaves it so where nothing was gathered: save the \
    adapter again with `stage3_gather_16bit_weights_on_model_save`, or take it out of the \
    checkpoint with `zero_to_fp32.py`";

impl LoraError {
    /// The error of an option that is not a regular expression, with the compiler's last line.
    pub(super) fn pattern(option: &'static str, error: &regex::Error) -> Self {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim();
        Self::Pattern {
            option,
            reason: last.trim_start_matches("error: ").into(),
        }
    }

    /// How to convert an adapter of mlx-lm.
    pub(super) fn mlx_hint() -> Sentence {
        sentence!(
            "beside it `adapters.safetensors` of mlx-lm is read; or merge it with `mlx_lm.fuse` and \
             name the result with `{}`",
            setting("model")
        )
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        let hint = match self {
            Self::Option { .. } | Self::Device { .. } | Self::Key { .. } | Self::Base(_) => {
                return None;
            }
            Self::Pattern { .. } => {
                "look-around and back-references are not available; a list of names may do"
            }
            Self::NothingMatches { .. } => {
                "name layers as the checkpoint does, such as `q_proj,v_proj`, or \
                     `all-linear`"
            }
            Self::NoSuchLayer { .. } => "count layers from 0",
            Self::Unsupported { .. } => {
                "train or export the adapter without it, or merge it with PEFT first"
            }
            Self::NoAdapter { hint, .. } => return Some(hint.clone()),
            Self::Mlx { .. } => return Some(Self::mlx_hint()),
            Self::OtherBaseTable { .. } => {
                "name the base that the adapter was trained on, tokens added to it included, or \
                     merge it with PEFT"
            }
            Self::NotPortable { .. } => {
                return Some(sentence!(
                    "`{}` writes a whole model with what the adapter changes",
                    command("merge")
                ));
            }
            Self::WholeLayers { .. } | Self::OtherVocabulary { .. } => MERGE_WHOLE_LAYERS,
            Self::OtherLayer { .. } => MERGE_OTHER_LAYERS,
            Self::Empty { .. } => GATHER_WEIGHTS,
            Self::Malformed { .. } => "was the file copied completely?",
            Self::Pickle { .. } => {
                "convert it with PEFT: `model.save_pretrained(folder, \
                     safe_serialization=True)`"
            }
            Self::UnknownTensor { .. } | Self::Shape { .. } => {
                "does the adapter belong to this base model?"
            }
            Self::MissingTensor { .. } => "does `adapter_config.json` belong to these tensors?",
            Self::Type { .. } => "save the adapter in float32",
            Self::Contextual => {
                return Some(sentence!(
                    "it predicts with `{}` and `{}`",
                    command("predict"),
                    command("evaluate")
                ));
            }
            Self::NotFinite { rounded: true, .. } => "merge into bf16 or f32, whose range is wider",
            Self::NotFinite { rounded: false, .. } => {
                "the training run diverged: use an earlier checkpoint"
            }
            Self::NoBaseTensor { .. } => "is this the base that the adapter was trained on?",
            Self::NoConfig => {
                "merge into the Hugging Face folder of the same model instead of \
                     its GGUF file"
            }
            Self::File(error) => return error.hint(),
        };
        Some(hint.into())
    }
}
