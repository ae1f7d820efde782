//! Files → examples → prompts and choices → tokens → packed batches.
//!
//! ```no_run
//! use ivon_lora_model::data::{DataConfig, Role, Task, Tokenizer, encode_all, load};
//! # fn run(tokenizer: &Tokenizer) -> Result<(), ivon_lora_model::data::DataError> {
//! let config = DataConfig { path: "data/sst2".into(), task: Some("sst2".into()), ..DataConfig::default() };
//! let task = Task::from_config(&config)?;
//! let dataset = load(&config, &task)?;
//! let train = encode_all(dataset.required(Role::Train)?, tokenizer, config.encode_options(&task))?;
//! # Ok(())
//! # }
//! ```

mod role;
mod place;
mod speaker;
mod error;
mod hint;
mod read;
mod task;
mod folder;
mod account;
mod source;
mod split;
mod tokens;
mod config;
mod load_report;
mod first_rows;
mod roles;
mod dataset;
mod known_rows;
mod preview;

pub use account::{Drops, Tally};
pub use config::DataConfig;
pub use dataset::sha256;
pub use dataset::{Dataset, RoleIds, assemble, load};
pub use error::{DataError, TokenizerError};
pub use first_rows::unlike_the_whole;
pub use folder::{Split, SplitFiles, find_files};
pub use known_rows::{KnownRows, Overlap, RowSet};
pub use load_report::{FileReport, LoadReport};
pub use place::Place;
pub use preview::{ExampleView, Lengths, Marks, Preview, TextCounts, TokenView, preview};
pub use read::{
    Continue, Format, Row, Rows, Stream, StreamFormat, StreamLines, for_each_row, read_first_rows,
    read_rows, stream,
};
pub use role::Role;
pub use roles::divide;
pub use source::{Source, load_file, load_file_by, load_file_filled};
pub use speaker::{MessageFault, Speaker};
pub use task::{
    CUSTOM, Content, Document, DropReason, Example, Form, LabelReading, LossOn, Message, Part,
    Prompt, Question, Refusal, RowOutcome, Scoring, Task, TaskReader, TextFields, names, questions,
};
pub use tokens::{
    Batch, ChatSetting, ChatTemplate, Choices, DroppedExample, EncodeOptions, Encoded, EncodedSet,
    Segment, Target, TextTarget, Tokenizer, batch_indices, encode_all, encode_any,
};
