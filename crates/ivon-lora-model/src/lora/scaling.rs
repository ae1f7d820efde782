//! The factor s of y = W x + s · B A x, which may differ between linear layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{LinearPath, Projection, Table};

/// The factor of B A in every linear layer: a constant, not a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// That of the layers that have none of their own.
    general: f64,
    own: Arc<BTreeMap<(Option<usize>, Projection), f64>>,
    /// Those of the tables, in the order of [`Table::ALL`].
    tables: [f64; 2],
}

impl From<f64> for Scaling {
    /// One factor for all layers.
    fn from(general: f64) -> Self {
        Self {
            general,
            own: Arc::default(),
            tables: [general; 2],
        }
    }
}

impl Scaling {
    /// With the factors of single layers, and those of the tables in the order of [`Table::ALL`].
    pub(super) fn with(
        general: f64,
        own: impl Iterator<Item = (LinearPath, f64)>,
        tables: [f64; 2],
    ) -> Self {
        let own = own.filter(|(_, factor)| *factor != general);
        Self {
            general,
            own: Arc::new(
                own.map(|(path, factor)| ((path.layer, path.projection), factor))
                    .collect(),
            ),
            tables,
        }
    }

    /// The factor in the linear layer at `path`.
    pub fn of(&self, path: LinearPath) -> f64 {
        let own = self.own.get(&(path.layer, path.projection));
        own.copied().unwrap_or(self.general)
    }

    /// The factor of what is added to a table.
    pub fn of_table(&self, table: Table) -> f64 {
        self.tables[table as usize]
    }
}
