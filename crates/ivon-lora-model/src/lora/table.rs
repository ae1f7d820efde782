//! What an adapter does to a table over the vocabulary: two factors whose product is added to it,
//! or another table in its place (PEFT's `modules_to_save`).
//!
//! PEFT stores the factors of the embeddings the other way round, as `lora_embedding_A` `[r, V]`
//! and `lora_embedding_B` `[H, r]`; those of the output layer are A and B of a linear layer. Either
//! way s · R C is added to the table, with a row of R `[V, r]` for each token, and C `[r, H]`.

use burn::module::{Devices, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{HostMatrix, LoraError};
use crate::model::{DecoderConfig, Table};

/// The names of the factors of the embeddings.
pub(super) const EMBEDDING_FACTORS: [&str; 2] = ["lora_embedding_A", "lora_embedding_B"];
const OUTPUT_FACTORS: [&str; 2] = ["lora_A", "lora_B"];
/// The end of the path of a whole table.
pub(super) const WHOLE: &str = "weight";

/// A table that an adapter changes.
#[derive(Clone, Debug)]
pub struct AdaptedTable {
    /// The table.
    pub table: Table,
    /// What becomes of it.
    pub change: TableChange,
}

/// What becomes of a table.
#[derive(Clone, Debug)]
pub enum TableChange {
    /// The product of two factors is added to it.
    LowRank {
        /// `[r, V]` for the embeddings, `[r, H]` for the output layer.
        a: Param<Tensor<2>>,
        /// `[H, r]` for the embeddings, `[V, r]` for the output layer.
        b: Param<Tensor<2>>,
    },
    /// Another table stands in its place, `[V, H]`.
    Whole(Param<Tensor<2>>),
}

/// The names of the factors of a table, A and B.
pub(super) fn factors(table: Table) -> [&'static str; 2] {
    match table {
        Table::EmbedTokens => EMBEDDING_FACTORS,
        Table::LmHead => OUTPUT_FACTORS,
    }
}

/// The shapes of A and B.
pub(super) fn factor_shapes(table: Table, decoder: &DecoderConfig, rank: usize) -> [[usize; 2]; 2] {
    let (vocabulary, hidden) = (decoder.vocab_size, decoder.hidden_size);
    match table {
        Table::EmbedTokens => [[rank, vocabulary], [hidden, rank]],
        Table::LmHead => [[rank, hidden], [vocabulary, rank]],
    }
}

impl AdaptedTable {
    /// Two factors.
    pub(super) fn low_rank(table: Table, [a, b]: [HostMatrix; 2], device: &Device) -> Self {
        let change = TableChange::LowRank {
            a: a.parameter(device),
            b: b.parameter(device),
        };
        Self { table, change }
    }

    /// Another table.
    pub(super) fn saved(table: Table, values: HostMatrix, device: &Device) -> Self {
        let change = TableChange::Whole(values.parameter(device));
        Self { table, change }
    }

    /// Its parameters in order, by the ends of their paths.
    pub fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)> {
        match &self.change {
            TableChange::LowRank { a, b } => {
                let [first, second] = factors(self.table);
                vec![(first, a), (second, b)]
            }
            TableChange::Whole(weight) => vec![(WHOLE, weight)],
        }
    }

    /// The table in place of the base's, `[V, H]`, if there is one.
    pub fn whole(&self) -> Option<&Param<Tensor<2>>> {
        match &self.change {
            TableChange::Whole(weight) => Some(weight),
            TableChange::LowRank { .. } => None,
        }
    }

    /// The path of one of its parameters, such as `embed_tokens.lora_embedding_A`.
    pub fn part(&self, part: &str) -> String {
        format!("{}.{part}", self.table.name())
    }

    /// Whether any of its parameters is tracked.
    pub fn is_tracked(&self) -> bool {
        let mut parameters = self.parameters().into_iter();
        parameters.any(|(_, parameter)| parameter.val().is_tracked())
    }

    /// R for these tokens, `[tokens, r]`; none if there is a whole table.
    pub(crate) fn factor_rows(&self, tokens: &[u32]) -> Option<Tensor<2>> {
        let TableChange::LowRank { a, b } = &self.change else {
            return None;
        };
        Some(match self.table {
            Table::EmbedTokens => a.val().select(1, indices(tokens, &a.val())).transpose(),
            Table::LmHead => b.val().select(0, indices(tokens, &b.val())),
        })
    }

    /// C, `[r, H]`; none if there is a whole table.
    pub(crate) fn factor_columns(&self) -> Option<Tensor<2>> {
        let TableChange::LowRank { a, b } = &self.change else {
            return None;
        };
        Some(match self.table {
            Table::EmbedTokens => b.val().transpose(),
            Table::LmHead => a.val(),
        })
    }

    /// The rows of these tokens of a table in place of the base's, `[tokens, H]`; none if there are
    /// factors.
    pub(crate) fn whole_rows(&self, tokens: &[u32]) -> Option<Tensor<2>> {
        let weight = self.whole()?.val();
        Some(weight.clone().select(0, indices(tokens, &weight)))
    }

    /// With its parameters changed by `change`, which gets the ends of their paths; ids are kept.
    ///
    /// # Errors
    /// The first error of `change`.
    pub(super) fn try_map<E>(
        &self,
        mut change: impl FnMut(&str, Tensor<2>) -> Result<Tensor<2>, E>,
    ) -> Result<Self, E> {
        let mut changed = |name, parameter: &Param<Tensor<2>>| {
            let tensor = change(name, parameter.val())?;
            Ok(parameter.clone().map(|_| tensor))
        };
        let [first, second] = factors(self.table);
        Ok(Self {
            table: self.table,
            change: match &self.change {
                TableChange::LowRank { a, b } => TableChange::LowRank {
                    a: changed(first, a)?,
                    b: changed(second, b)?,
                },
                TableChange::Whole(weight) => TableChange::Whole(changed(WHOLE, weight)?),
            },
        })
    }

    /// With each parameter changed by `change`, which gets the ends of their paths.
    fn map_parameters(
        self,
        mut change: impl FnMut(&'static str, Param<Tensor<2>>) -> Param<Tensor<2>>,
    ) -> Self {
        let [first, second] = factors(self.table);
        Self {
            table: self.table,
            change: match self.change {
                TableChange::LowRank { a, b } => TableChange::LowRank {
                    a: change(first, a),
                    b: change(second, b),
                },
                TableChange::Whole(weight) => TableChange::Whole(change(WHOLE, weight)),
            },
        }
    }

    /// What the matrices that `take` returns for its paths do to a table; none if it returns none.
    ///
    /// # Errors
    /// [`LoraError::MissingTensor`] for one factor alone, [`LoraError::Shape`] if a matrix does not
    /// fit the decoder.
    pub(super) fn from_matrices(
        table: Table,
        decoder: &DecoderConfig,
        device: &Device,
        take: &mut dyn FnMut(&str) -> Option<HostMatrix>,
    ) -> Result<Option<Self>, LoraError> {
        let path = |part: &str| format!("{}.{part}", table.name());
        if let Some(weight) = take(&path(WHOLE)) {
            weight.check_shape(&path(WHOLE), [decoder.vocab_size, decoder.hidden_size])?;
            return Ok(Some(Self::saved(table, weight, device)));
        }
        let names = factors(table).map(path);
        match names.each_ref().map(|name| take(name)) {
            [None, None] => Ok(None),
            [Some(a), Some(b)] => {
                let shapes = factor_shapes(table, decoder, a.shape[0].max(1));
                a.check_shape(&names[0], shapes[0])?;
                b.check_shape(&names[1], shapes[1])?;
                Ok(Some(Self::low_rank(table, [a, b], device)))
            }
            [a, _] => {
                let [first, second] = names;
                Err(LoraError::MissingTensor {
                    path: "the adapter".into(),
                    name: if a.is_some() { second } else { first },
                })
            }
        }
    }
}

/// Tokens as indices, beside a tensor.
fn indices(tokens: &[u32], beside: &Tensor<2>) -> Tensor<1, Int> {
    let tokens: Vec<i64> = tokens.iter().map(|&token| token.into()).collect();
    let len = tokens.len();
    let device = beside.device().without_autodiff();
    Tensor::from_data(TensorData::new(tokens, [len]), &device)
}

impl Module for AdaptedTable {
    fn collect_devices(&self, devices: Devices) -> Devices {
        let parameters = self.parameters().into_iter();
        parameters.fold(devices, |devices, (_, parameter)| {
            parameter.collect_devices(devices)
        })
    }

    fn fork(self, device: &Device) -> Self {
        self.map_parameters(|_, parameter| parameter.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_parameters(|_, parameter| parameter.to_device(device))
    }

    fn train(self) -> Self {
        self.map_parameters(|_, parameter| Module::train(parameter))
    }

    fn valid(&self) -> Self {
        self.clone()
            .map_parameters(|_, parameter| Module::valid(&parameter))
    }

    fn materialize(self) -> Self {
        self.map_parameters(|_, parameter| Module::materialize(parameter))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.enter_module(self.table.name(), "AdaptedTable");
        for (name, parameter) in self.parameters() {
            visitor.enter_module(name, "AdaptedTable");
            parameter.visit(visitor);
            visitor.exit_module(name, "AdaptedTable");
        }
        visitor.exit_module(self.table.name(), "AdaptedTable");
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let table = self.table.name();
        mapper.enter_module(table, "AdaptedTable");
        let mapped = self.map_parameters(|name, parameter| {
            mapper.enter_module(name, "AdaptedTable");
            let mapped = Module::map(parameter, mapper);
            mapper.exit_module(name, "AdaptedTable");
            mapped
        });
        mapper.exit_module(table, "AdaptedTable");
        mapped
    }
}
