//! Adapter folders: PEFT's two files, the posterior, what they were made for, and a model card. All
//! that reads, writes, changes or describes such a folder is here.

mod error;
mod sidecar;
mod posterior_file;
mod card;
mod folder;
mod summary;
mod locate;

pub use card::{CardFacts, MODEL_CARD_FILE, model_card, write_model_card};
pub use error::BundleError;
pub use folder::{Bundle, read_mergeable, write_scale};
pub use locate::{locate_adapter, named_base};
pub use posterior_file::{
    POSTERIOR_FILE, POSTERIOR_FORMAT, load_posterior, read_stored, write_posterior, write_stored,
};
pub use sidecar::{
    AnswerWord, BaseFingerprint, BaseRecord, Calibration, PredictWith, SIDECAR_FILE,
    SIDECAR_FORMAT, Sidecar,
};
pub use summary::{AdapterSummary, LayerSummary, WeightSummary, summarise};
