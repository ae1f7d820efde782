//! Adapter folders: PEFT's two files, the posterior, what they were made for, and a model card. All
//! that reads, writes, changes or describes such a folder is here.

mod error;
mod sidecar;
mod posterior_file;
mod decision_file;
mod card;
mod folder;
mod drawn;
mod summary;
mod locate;

pub use card::CardFacts;
pub use decision_file::{DECISION_FILE, DECISION_FORMAT, Decision, DecisionPredictions, Division};
pub use error::BundleError;
pub use folder::{Bundle, read_mergeable, write_scale};
pub use locate::{locate_adapter, named_base};
pub use posterior_file::{POSTERIOR_FILE, load_posterior, weights_hash};
pub(crate) use posterior_file::{read_stored, write_posterior};

pub use sidecar::{
    AnswerWord, BaseFingerprint, BaseRecord, Calibration, PredictWith, SIDECAR_FILE,
    SIDECAR_FORMAT, Sidecar,
};
pub use summary::{AdapterSummary, LayerSummary, WeightSummary, summarise};
