//! The trainable part: A and B of every adapted linear layer, and what becomes of the tables over the
//! vocabulary, as a Burn module whose parameter paths are the checkpoint's
//! (`layers.0.self_attn.q_proj.lora_A`).

// Fields are named as in the files; the attribute must cover the derived code, hence the whole
// file.
#![allow(non_snake_case)]

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use super::table::AdaptedTable;
use super::{Scaling, Side};
use crate::model::{LinearPath, Projection, Table};

/// The end of the path of a pair's magnitudes.
pub(super) const MAGNITUDES: &str = "lora_magnitude_vector";

/// A and B of one linear layer: y = W x + s · B A dropout(x). With magnitudes m (DoRA, arXiv
/// 2402.09353), row i of W + s · B A is scaled to the length m_i.
#[derive(Module, Debug)]
pub struct LoraPair {
    /// `[r, in]`.
    pub lora_A: Param<Tensor<2>>,
    /// `[out, r]`.
    pub lora_B: Param<Tensor<2>>,
    /// m, `[out, 1]`, if rows have magnitudes of their own.
    pub lora_magnitude_vector: Option<Param<Tensor<2>>>,
    /// An addition that changes the data between A and B, if there is one.
    pub side: Option<Side>,
}

impl LoraPair {
    /// r.
    pub fn rank(&self) -> usize {
        self.lora_A.lazy_shape().dims::<2>()[0]
    }

    /// Its parameters in order, by the ends of their paths: A, B, magnitudes, those of the
    /// side.
    pub fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)> {
        let mut parameters = vec![("lora_A", &self.lora_A), ("lora_B", &self.lora_B)];
        let magnitudes = self.lora_magnitude_vector.iter();
        parameters.extend(magnitudes.map(|magnitudes| (MAGNITUDES, magnitudes)));
        parameters.extend(self.side.iter().flat_map(|side| side.form().parameters()));
        parameters
    }

    /// The same parameters in the same order, mutable.
    fn parameters_mut(&mut self) -> Vec<&mut Param<Tensor<2>>> {
        let mut parameters = vec![&mut self.lora_A, &mut self.lora_B];
        parameters.extend(&mut self.lora_magnitude_vector);
        let side = self.side.iter_mut();
        parameters.extend(side.flat_map(|side| side.form_mut().parameters_mut()));
        parameters
    }

    /// The pair with its parameters changed by `change`, which gets the ends of their paths; ids
    /// are kept.
    ///
    /// # Errors
    /// The first error of `change`.
    pub(super) fn try_map<E>(
        &self,
        mut change: impl FnMut(&str, Tensor<2>) -> Result<Tensor<2>, E>,
    ) -> Result<Self, E> {
        let mut pair = self.clone();
        for (new, (name, old)) in pair.parameters_mut().into_iter().zip(self.parameters()) {
            let tensor = change(name, old.val())?;
            *new = old.clone().map(|_| tensor);
        }
        Ok(pair)
    }
}

/// An adapted linear layer.
#[derive(Clone, Debug)]
pub(super) struct AdaptedLinear {
    pub path: LinearPath,
    pub pair: LoraPair,
}

/// The adapter of a whole decoder. Burn visits its parameters under the paths of its linear layers
/// and tables.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What becomes of the embeddings.
    pub(super) embed_tokens: Option<AdaptedTable>,
    /// What becomes of the output layer.
    pub(super) lm_head: Option<AdaptedTable>,
    /// The adapted linear layers, in the order of the forward pass.
    pub(super) linears: Vec<AdaptedLinear>,
    /// All linear layers of the decoder, adapted or not.
    pub(super) decoder: Arc<[LinearPath]>,
    /// The factor s of B A in each linear layer, see [`super::LoraConfig::scaling`]; a constant, not
    /// a parameter.
    pub scaling: Scaling,
}

impl Adapter {
    /// An adapter on no layer: the decoder is unchanged.
    pub fn empty() -> Self {
        Self {
            embed_tokens: None,
            lm_head: None,
            linears: Vec::new(),
            decoder: Arc::default(),
            scaling: 0.0.into(),
        }
    }

    /// With other factors of B A.
    pub fn with_scaling(self, scaling: impl Into<Scaling>) -> Self {
        Self {
            scaling: scaling.into(),
            ..self
        }
    }

    /// The number of decoder layers, adapted or not; 0 for an empty adapter.
    pub fn layers(&self) -> usize {
        let last = self.decoder.iter().filter_map(|path| path.layer).max();
        last.map_or(0, |last| last + 1)
    }

    /// The adapted linear layers, in the order of the forward pass.
    pub fn pairs(&self) -> impl Iterator<Item = (LinearPath, &LoraPair)> {
        self.linears
            .iter()
            .map(|linear| (linear.path, &linear.pair))
    }

    /// The pair on a linear layer, if it is adapted.
    pub fn pair(&self, layer: Option<usize>, projection: Projection) -> Option<&LoraPair> {
        let place = (layer, projection);
        let found = self
            .linears
            .binary_search_by_key(&place, |linear| (linear.path.layer, linear.path.projection));
        Some(&self.linears[found.ok()?].pair)
    }

    /// The tables that it changes, in the order of the forward pass.
    pub fn tables(&self) -> impl Iterator<Item = &AdaptedTable> {
        self.embed_tokens.iter().chain(&self.lm_head)
    }

    /// What becomes of a table, if it changes it.
    pub fn table(&self, table: Table) -> Option<&AdaptedTable> {
        match table {
            Table::EmbedTokens => self.embed_tokens.as_ref(),
            Table::LmHead => self.lm_head.as_ref(),
        }
    }

    /// With a change of a table in place of the one there is.
    pub(super) fn with_table(mut self, change: AdaptedTable) -> Self {
        match change.table {
            Table::EmbedTokens => self.embed_tokens = Some(change),
            Table::LmHead => self.lm_head = Some(change),
        }
        self
    }

    /// With every pair and every table changed.
    fn map_parts(
        self,
        mut change: impl FnMut(LoraPair) -> LoraPair,
        mut change_table: impl FnMut(AdaptedTable) -> AdaptedTable,
    ) -> Self {
        let linears = self.linears.into_iter().map(|linear| AdaptedLinear {
            pair: change(linear.pair),
            ..linear
        });
        Self {
            embed_tokens: self.embed_tokens.map(&mut change_table),
            linears: linears.collect(),
            lm_head: self.lm_head.map(&mut change_table),
            ..self
        }
    }
}

impl Module for Adapter {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        let pairs = self.pairs();
        let devices = pairs.fold(devices, |devices, (_, pair)| pair.collect_devices(devices));
        let tables = self.tables();
        tables.fold(devices, |devices, table| table.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.map_parts(|pair| pair.fork(device), |table| table.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.map_parts(
            |pair| pair.to_device(device),
            |table| table.to_device(device),
        )
    }

    fn train(self) -> Self {
        self.map_parts(LoraPair::train, AdaptedTable::train)
    }

    fn valid(&self) -> Self {
        let adapter = self.clone();
        adapter.map_parts(|pair| pair.valid(), |table| table.valid())
    }

    fn materialize(self) -> Self {
        self.map_parts(LoraPair::materialize, AdaptedTable::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.embed_tokens
            .iter()
            .for_each(|table| table.visit(visitor));
        for (path, pair) in self.pairs() {
            let path = path.to_string();
            visitor.enter_module(&path, "Adapter");
            pair.visit(visitor);
            visitor.exit_module(&path, "Adapter");
        }
        self.lm_head.iter().for_each(|table| table.visit(visitor));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let embed_tokens = self.embed_tokens.map(|table| table.map(mapper));
        let linears = self.linears.into_iter().map(|linear| {
            let path = linear.path.to_string();
            mapper.enter_module(&path, "Adapter");
            let pair = linear.pair.map(mapper);
            mapper.exit_module(&path, "Adapter");
            AdaptedLinear { pair, ..linear }
        });
        let linears = linears.collect();
        Self {
            embed_tokens,
            linears,
            lm_head: self.lm_head.map(|table| table.map(mapper)),
            decoder: self.decoder,
            scaling: self.scaling,
        }
    }
}
