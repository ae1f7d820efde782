//! The tables over the vocabulary at both ends of a merged model: a base with one for both gets two if
//! the adapter does not change both ends alike.

use burn::tensor::Tensor;

use super::MergeBase;
use crate::lora::{AdaptedTable, Adapter, Companions, HostMatrix, TableChange};
use crate::model::Table;

/// The two tables over the vocabulary in the merged model.
pub struct Ends {
    /// The names of both tensors in the merged model, in the order of [`Table::ALL`].
    names: [String; 2],
    /// The tensors of the base that they are made of.
    pub sources: [String; 2],
    /// Whether the base has one table for both and the merged model two.
    pub untied: bool,
}

impl Ends {
    /// Those of a base with an adapter.
    pub fn of(base: &impl MergeBase, companions: &Companions, adapter: &Adapter) -> Self {
        let names = Table::ALL.map(|table| format!("{}.weight", table.path_in(adapter.module())));
        let there = base.names();
        let [has_embeddings, has_head] = names.each_ref().map(|name| there.contains(name));
        let sources = match (has_embeddings, has_head) {
            (true, false) => [names[0].clone(), names[0].clone()],
            (false, true) => [names[1].clone(), names[1].clone()],
            _ => names.clone(),
        };
        let are_tied = sources[0] == sources[1] || companions.are_tied();
        let changes = Table::ALL.map(|table| adapter.table(table));
        Self {
            names,
            sources,
            untied: are_tied && !are_alike(adapter, changes),
        }
    }

    /// The tensor that the change of a table goes to; none if another one's is the same.
    pub fn target(&self, table: Table) -> Option<&String> {
        let (name, source) = (&self.names[table as usize], &self.sources[table as usize]);
        (self.untied || name == source).then_some(name)
    }

    /// The tensor of the merged model that the base does not have, and that of which it is made.
    pub fn added(&self) -> Option<(&String, &String)> {
        let mut ends = self.names.iter().zip(&self.sources);
        ends.find(|(name, source)| self.untied && name != source)
    }
}

/// Whether both tables change alike, if at all: the factors of one are those of the other
/// transposed, as PEFT's `ensure_weight_tying` keeps them.
fn are_alike(adapter: &Adapter, changes: [Option<&AdaptedTable>; 2]) -> bool {
    let read = |tensor: Tensor<2>| HostMatrix::read("a table", tensor).ok();
    let [Some(embeddings), Some(head)] = changes else {
        return changes.iter().all(Option::is_none);
    };
    match (&embeddings.change, &head.change) {
        (TableChange::Whole(one), TableChange::Whole(other)) => {
            read(one.val()) == read(other.val())
        }
        (TableChange::LowRank { a, b }, TableChange::LowRank { a: c, b: d }) => {
            let scaling = |table| adapter.scaling.of_table(table);
            scaling(Table::EmbedTokens) == scaling(Table::LmHead)
                && read(a.val().transpose()) == read(d.val())
                && read(b.val().transpose()) == read(c.val())
        }
        _ => false,
    }
}
