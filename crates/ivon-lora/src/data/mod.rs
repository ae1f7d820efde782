//! Files → examples → prompts and choices → tokens → packed batches.
//!
//! ```no_run
//! use ivon_lora::data::{DataConfig, Role, Task, Tokenizer, encode_all, load};
//! # fn run(tokenizer: &Tokenizer) -> Result<(), ivon_lora::data::DataError> {
//! let config = DataConfig { path: "data/sst2".into(), task: Some("sst2".into()), ..DataConfig::default() };
//! let task = Task::from_config(&config)?;
//! let dataset = load(&config, &task)?;
//! let train = encode_all(dataset.required(Role::Train)?, tokenizer, config.encode_options(&task))?;
//! # Ok(())
//! # }
//! ```

mod account;
mod batch;
mod chat;
mod jinja;
mod config;
mod dataset;
mod encode;
mod encoded;
mod error;
mod example;
mod folder;
mod known;
mod label;
mod official;
mod order;
mod preview;
mod prompt;
mod question;
mod read;
mod source;
mod split;
mod task;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use account::{Counted, Drops};
pub use batch::{Batch, Segment};
pub use chat::{ChatSetting, ChatTemplate};
pub use config::DataConfig;
pub(crate) use dataset::sha256;
pub use dataset::{Dataset, FileReport, LoadReport, RoleIds, assemble, load};
pub use encode::{
    DroppedExample, EncodeOptions, EncodedSet, Encoder, Outcome, encode_all, encode_any,
};
pub use encoded::{Choices, Encoded};
pub use error::{DataError, Place};
pub use example::{DropReason, Example};
pub use folder::{Split, SplitFiles, find_files};
pub use known::{KnownRows, MOST_HASHES, Overlap, RowSet};
pub use label::LabelReading;
pub use order::{EpochOrder, batch_indices};
pub use preview::{ExampleView, Lengths, Preview, TokenView, preview};
pub use prompt::{Part, Prompt};
pub use question::{Question, Refusal, questions};
pub use read::{
    Continue, EXTENSIONS, Format, LARGEST_FILE, LONGEST_LINE, Row, Rows, Stream, StreamFormat,
    StreamLines, for_each_row, read_first_rows, read_rows, stream,
};
pub use source::{Source, load_file, load_file_by, load_file_filled};
pub use split::{Role, Ties, carve};
pub use task::{CUSTOM, Form, Made, Prepared, Scoring, Task, names};
pub use tokenizer::{Tokenizer, TokenizerError};
