//! A model without the values of its weights, which stay on the hub if they are there.

use super::checkpoint::Checkpoint;
use super::error::ModelError;
use super::hub::{self, HubName, HubSettings, Purpose};
use crate::watch::Watch;

/// An open model whose weights may not be available.
#[derive(Debug)]
pub struct ModelHeaders {
    checkpoint: Checkpoint,
    #[cfg(feature = "hub")]
    beginnings: Option<hub::headers::TemporaryFolder>,
}

impl ModelHeaders {
    /// Opens a model by name, as [`Checkpoint::open_with`] does; from the hub only the small files
    /// and the headers of the weights are downloaded.
    ///
    /// # Errors
    /// As [`Checkpoint::open_with`]; a missing tokenizer is not an error.
    pub fn open(name: &str, settings: &HubSettings, listen: Watch<'_>) -> Result<Self, ModelError> {
        let Some(hub_name) = HubName::where_nothing_is(name, settings)? else {
            return Self::whole(Checkpoint::open_with(name, settings, listen));
        };
        #[cfg(feature = "hub")]
        if !settings.offline {
            let (path, beginnings) = hub::headers::locate(&hub_name, settings, listen)?;
            let checkpoint = Checkpoint::open_located(&path, &hub_name)?;
            return Ok(Self {
                checkpoint,
                beginnings,
            });
        }
        let path = hub::locate(&hub_name, settings, Purpose::Merge, listen)?;
        Self::whole(Checkpoint::open_located(&path, &hub_name))
    }

    fn whole(checkpoint: Result<Checkpoint, ModelError>) -> Result<Self, ModelError> {
        Ok(Self {
            checkpoint: checkpoint?,
            #[cfg(feature = "hub")]
            beginnings: None,
        })
    }

    /// The model. Its tensors have their names, shapes and encodings; their values are zeros unless
    /// [`ModelHeaders::has_weights`].
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether the weights are available locally.
    pub fn has_weights(&self) -> bool {
        #[cfg(feature = "hub")]
        return self.beginnings.is_none();
        #[cfg(not(feature = "hub"))]
        true
    }
}
