//! The adapter's parameters one by one, in a fixed order and with a fixed name each: for files,
//! draws and tests.
//!
//! The order: that of the forward pass, from the embeddings over the linear layers to the output
//! layer, in each the order of [`LoraPair::parameters`] or [`AdaptedTable::parameters`]. Burn visits
//! the module in the same order.

use std::collections::BTreeMap;
use std::convert::Infallible;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::adapter::{AdaptedLinear, MAGNITUDES};
use super::table::{AdaptedTable, EMBEDDING_FACTORS, WHOLE};
use super::target::{linear_names, partial_targets, portable_targets};
use super::{Adapter, HostMatrix, LoraError, LoraPair, Scaling, Side};
use crate::model::{DecoderConfig, LANGUAGE_MODEL, LinearPath, MODEL, Table};

/// The prefix and the suffix of all names in PEFT's files.
pub(super) const PEFT_MODEL: &str = "base_model.model.";
pub(super) const PEFT_SUFFIX: &str = ".weight";
/// The paths at which a model has its decoder; the last one before transformers 4.52.
pub(super) const MODULES: [&str; 3] = [LANGUAGE_MODEL, MODEL, "language_model.model"];

/// The name of a parameter in `adapter_model.safetensors` of a language model.
pub fn peft_name(path: &str) -> String {
    peft_name_in(MODEL, path)
}

/// The name of a parameter of the decoder at `module` in its model.
pub(super) fn peft_name_in(module: &str, path: &str) -> String {
    let suffix = match has_no_suffix(path) || path.ends_with(PEFT_SUFFIX) {
        true => "",
        false => PEFT_SUFFIX,
    };
    match is_of_head(path) {
        true => format!("{PEFT_MODEL}{path}{suffix}"),
        false => format!("{PEFT_MODEL}{module}.{path}{suffix}"),
    }
}

/// The parameters of a table, by path.
fn table_parameters(table: &AdaptedTable) -> impl Iterator<Item = (String, &Param<Tensor<2>>)> {
    let parameters = table.parameters().into_iter();
    parameters.map(|(part, parameter)| (table.part(part), parameter))
}

/// Whether PEFT stores the parameter at `path` without a suffix.
fn has_no_suffix(path: &str) -> bool {
    let part = path.rsplit_once('.').map_or(path, |(_, part)| part);
    part == MAGNITUDES || EMBEDDING_FACTORS.contains(&part)
}

/// Whether a parameter is one of the output layer, which stands beside the decoder.
fn is_of_head(path: &str) -> bool {
    of_table(path).is_some_and(|(table, _)| table == Table::LmHead)
}

/// The table that the parameter at `path` belongs to, if it belongs to one, and which of its
/// parameters it is.
pub(super) fn of_table(path: &str) -> Option<(Table, &str)> {
    let part = |table: Table| path.strip_prefix(table.name())?.strip_prefix('.');
    let mut tables = Table::ALL.into_iter();
    tables.find_map(|table| Some((table, part(table)?)))
}

/// Whether a parameter is a table as a whole.
pub(super) fn is_whole_table(path: &str) -> bool {
    of_table(path).is_some_and(|(_, part)| part == WHOLE)
}

/// The path of a parameter with this name, wherever the model has its decoder.
pub(super) fn path_of_peft_name(name: &str) -> Option<&str> {
    let inner = name.strip_prefix(PEFT_MODEL)?;
    let in_module = |module: &&str| inner.strip_prefix(*module)?.strip_prefix('.');
    let in_decoder = || MODULES.iter().find_map(in_module);
    let path = match is_of_head(inner) {
        true => inner,
        false => in_decoder()?,
    };
    match path.strip_suffix(PEFT_SUFFIX) {
        Some(_) if is_whole_table(path) => Some(path),
        None if !has_no_suffix(path) => None,
        without => without.or(Some(path)),
    }
}

impl Adapter {
    /// Every parameter with its path, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (String, &Param<Tensor<2>>)> {
        let of_pairs = self.pairs().flat_map(|(path, pair)| {
            let parameters = pair.parameters().into_iter();
            parameters.map(move |(part, parameter)| (path.part(part), parameter))
        });
        let before = self.embed_tokens.iter().flat_map(table_parameters);
        let after = self.lm_head.iter().flat_map(table_parameters);
        before.chain(of_pairs).chain(after)
    }

    /// An adapter with every pair changed by `change`, in order.
    ///
    /// # Errors
    /// The first error of `change`.
    fn try_map_pairs<E>(
        &self,
        mut change: impl FnMut(LinearPath, &LoraPair) -> Result<LoraPair, E>,
    ) -> Result<Self, E> {
        let changed = self.pairs().map(|(path, pair)| {
            let pair = change(path, pair)?;
            Ok(AdaptedLinear { path, pair })
        });
        Ok(Self {
            linears: changed.collect::<Result<_, E>>()?,
            ..self.clone()
        })
    }

    /// With the sides that `side` returns for the path of each pair, in place of the existing ones.
    pub fn with_sides(&self, mut side: impl FnMut(&str, &LoraPair) -> Option<Side>) -> Self {
        let changed = self.try_map_pairs(|path, pair| {
            Ok::<_, Infallible>(LoraPair {
                side: side(&path.to_string(), pair),
                ..pair.clone()
            })
        });
        match changed {
            Ok(adapter) => adapter,
            Err(never) => match never {},
        }
    }

    /// Without sides.
    pub fn without_sides(&self) -> Self {
        self.with_sides(|_, _| None)
    }

    /// Whether any pair has a side.
    pub fn has_sides(&self) -> bool {
        self.pairs().any(|(_, pair)| pair.side.is_some())
    }

    /// The path of the decoder in its model.
    pub(super) fn module(&self) -> &'static str {
        self.decoder.first().map_or(MODEL, |path| path.module)
    }

    /// Whether any pair has magnitudes.
    pub fn has_magnitudes(&self) -> bool {
        self.pairs()
            .any(|(_, pair)| pair.lora_magnitude_vector.is_some())
    }

    /// The number of trainable values.
    pub fn parameter_count(&self) -> usize {
        self.parameters()
            .map(|(_, parameter)| parameter.lazy_shape().num_elements())
            .sum()
    }

    /// Every parameter on the host, by path, in order.
    ///
    /// # Errors
    /// If the device does not return its data.
    pub fn to_matrices(&self) -> Result<Vec<(String, HostMatrix)>, LoraError> {
        self.parameters()
            .map(|(path, parameter)| {
                HostMatrix::read(&path, parameter.val()).map(|matrix| (path, matrix))
            })
            .collect()
    }

    /// All values, concatenated parameter by parameter, each row by row.
    ///
    /// # Errors
    /// If the device does not return its data.
    pub fn flatten(&self) -> Result<Vec<f32>, LoraError> {
        Ok(self
            .to_matrices()?
            .into_iter()
            .flat_map(|(_, matrix)| matrix.values)
            .collect())
    }

    /// The index of the first decoder layer with a nonzero value, 0 if the change of the embeddings
    /// has one; the number of layers if there is none, or only the output layer's has one.
    ///
    /// # Errors
    /// If the device does not return its data.
    pub fn first_layer_other_than_zero(&self) -> Result<usize, LoraError> {
        let of_table = self.embed_tokens.iter().flat_map(AdaptedTable::parameters);
        let of_pairs = self.pairs().flat_map(|(path, pair)| {
            let parameters = pair.parameters().into_iter();
            parameters.map(move |(_, parameter)| (path.first_layer(), parameter))
        });
        let of_table = of_table.map(|(_, parameter)| (0, parameter));
        for (layer, parameter) in of_table.chain(of_pairs) {
            let matrix = HostMatrix::read("the adapter", parameter.val())?;
            if matrix.values.iter().any(|value| *value != 0.0) {
                return Ok(layer);
            }
        }
        Ok(self.layers())
    }

    /// The shortest `target_modules` list and `layers_to_transform` of PEFT that select exactly its
    /// linear layers and the tables with A and B.
    pub(super) fn portable_targets(&self) -> (Vec<String>, Option<Vec<usize>>) {
        let targets: Vec<_> = self.pairs().map(|(path, _)| path).collect();
        let tables: Vec<Table> = self.tables_where(|table| table.whole().is_none());
        portable_targets(&targets, &tables, &self.decoder)
    }

    /// The names of the tables that it has as a whole, their full paths in a multimodal model.
    pub(super) fn whole_tables(&self) -> Vec<String> {
        let tables = self.tables_where(|table| table.whole().is_some());
        let name = |table: Table| match self.module() {
            MODEL => table.name().into(),
            module => table.path_in(module),
        };
        tables.into_iter().map(name).collect()
    }

    fn tables_where(&self, is_one: impl Fn(&AdaptedTable) -> bool) -> Vec<Table> {
        let tables = self.tables().filter(|table| is_one(table));
        tables.map(|table| table.table).collect()
    }

    /// A note on each of its targets that only some layers of the decoder have.
    pub fn notes(&self, decoder: &DecoderConfig) -> Vec<String> {
        let targets: Vec<_> = self.pairs().map(|(path, _)| path).collect();
        partial_targets(&targets, decoder)
    }

    /// The adapter with its weights tracked for differentiation from decoder layer `first` on;
    /// those below are constants.
    pub fn tracked_from(&self, first: usize) -> Self {
        let mut adapter = self.clone().train();
        if first > 0 {
            adapter.embed_tokens = adapter.embed_tokens.map(AdaptedTable::no_grad);
        }
        for linear in &mut adapter.linears {
            if linear.path.first_layer() < first {
                linear.pair = linear.pair.clone().no_grad();
            }
        }
        adapter
    }

    /// An adapter with every parameter changed by `change`, which gets its path; ids are kept.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn try_map<E>(
        &self,
        mut change: impl FnMut(&str, Tensor<2>) -> Result<Tensor<2>, E>,
    ) -> Result<Self, E> {
        let of_table = |table: &Option<AdaptedTable>, change: &mut dyn FnMut(&str, _) -> _| {
            let changed = |table: &AdaptedTable| {
                table.try_map(|part, tensor| change(&table.part(part), tensor))
            };
            table.as_ref().map(changed).transpose()
        };
        let embed_tokens = of_table(&self.embed_tokens, &mut change)?;
        let pairs = self.try_map_pairs(|path, pair| {
            pair.try_map(|part, tensor| change(&path.part(part), tensor))
        })?;
        Ok(Self {
            embed_tokens,
            lm_head: of_table(&self.lm_head, &mut change)?,
            ..pairs
        })
    }

    /// [`try_map`](Self::try_map) for a change that cannot fail.
    pub fn clone_with(&self, mut change: impl FnMut(&str, Tensor<2>) -> Tensor<2>) -> Self {
        match self.try_map(|path, tensor| Ok::<_, Infallible>(change(path, tensor))) {
            Ok(adapter) => adapter,
            Err(never) => match never {},
        }
    }

    /// An adapter from its parameters by path, with `scaling` as the factors of B A. Every adapted
    /// projection has A and B, and may have magnitudes and all parameters of a side; a table has A
    /// and B, or is there as a whole.
    ///
    /// # Errors
    /// [`LoraError::UnknownTensor`] for a path that this decoder does not have,
    /// [`LoraError::MissingTensor`] for an incomplete pair, [`LoraError::Shape`] if A is not `[r,
    /// in]`, B not `[out, r]`, or the side does not fit this r.
    pub fn from_matrices(
        mut matrices: BTreeMap<String, HostMatrix>,
        scaling: impl Into<Scaling>,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, LoraError> {
        let (mut linears, all) = (Vec::new(), decoder.linears());
        for &(path, shape) in &all {
            let take = &mut |path: &str| matrices.remove(path);
            let pair = read_pair(&path.to_string(), shape.shape, device, take)?;
            linears.extend(pair.map(|pair| AdaptedLinear { path, pair }));
        }
        let take = &mut |path: &str| matrices.remove(path);
        let embed_tokens = AdaptedTable::from_matrices(Table::EmbedTokens, decoder, device, take)?;
        let lm_head = AdaptedTable::from_matrices(Table::LmHead, decoder, device, take)?;
        match matrices.into_keys().next() {
            None => Ok(Self {
                embed_tokens,
                lm_head,
                linears,
                decoder: all.into_iter().map(|(path, _)| path).collect(),
                scaling: scaling.into(),
            }),
            Some(name) => Err(LoraError::UnknownTensor {
                path: "the adapter".into(),
                name,
                reason: format!(
                    "it has {} layers of {}",
                    decoder.num_hidden_layers,
                    linear_names(decoder)
                ),
            }),
        }
    }
}

/// The pair of the linear layer at `path`, of shape `[out, in]`, from the matrices that `take`
/// returns; none if there is neither A nor B.
fn read_pair(
    path: &str,
    [outputs, inputs]: [usize; 2],
    device: &Device,
    take: &mut dyn FnMut(&str) -> Option<HostMatrix>,
) -> Result<Option<LoraPair>, LoraError> {
    let names = ["lora_A", "lora_B"].map(|part| format!("{path}.{part}"));
    let (a, b) = match names.each_ref().map(|name| take(name)) {
        [None, None] => return Ok(None),
        [Some(a), Some(b)] => (a, b),
        [a, _] => {
            let [first, second] = names;
            return Err(LoraError::MissingTensor {
                path: "the adapter".into(),
                name: if a.is_some() { second } else { first },
            });
        }
    };
    let rank = a.shape[0].max(1);
    a.check_shape(&names[0], [rank, inputs])?;
    b.check_shape(&names[1], [outputs, rank])?;
    let name = format!("{path}.{MAGNITUDES}");
    let magnitudes = take(&name);
    if let Some(magnitudes) = &magnitudes {
        magnitudes.check_shape(&name, [outputs, 1])?;
    }
    let side = Side::from_matrices(path, a.shape[0], device, take)?;
    Ok(Some(LoraPair {
        lora_A: a.parameter(device),
        lora_B: b.parameter(device),
        lora_magnitude_vector: magnitudes.map(|magnitudes| magnitudes.parameter(device)),
        side,
    }))
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleVisitor, ParamId};

    use super::super::side::{CloraStart, Flipout, Signs};
    use super::*;
    use crate::testing::tiny::{adapter, decoder};

    #[derive(Default)]
    struct Visited {
        path: Vec<String>,
        seen: Vec<(String, ParamId)>,
    }

    impl ModuleVisitor for Visited {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.seen.push((self.path.join("."), parameter.id));
        }
    }

    #[test]
    fn burn_visits_the_same_paths_in_the_same_order() {
        let adapter = adapter(2, "all-linear");
        let mut visited = Visited::default();
        adapter.visit(&mut visited);
        let ours: Vec<_> = adapter
            .parameters()
            .map(|(path, parameter)| (path, parameter.id))
            .collect();
        assert_eq!(ours.len(), 28);
        assert_eq!(visited.seen, ours);
    }

    #[test]
    fn burn_visits_tables_at_both_ends_and_mapping_reaches_them() {
        let adapter = adapter(1, "q_proj,embed_tokens,lm_head");
        let mut visited = Visited::default();
        adapter.visit(&mut visited);
        let ours: Vec<_> = adapter
            .parameters()
            .map(|(path, parameter)| (path, parameter.id))
            .collect();
        assert_eq!(visited.seen, ours);
        let paths: Vec<_> = ours.iter().map(|(path, _)| path.as_str()).collect();
        let expected = [
            "embed_tokens.lora_embedding_A",
            "embed_tokens.lora_embedding_B",
            "layers.0.self_attn.q_proj.lora_A",
            "layers.0.self_attn.q_proj.lora_B",
            "lm_head.lora_A",
            "lm_head.lora_B",
        ];
        assert_eq!(paths, expected);
        let numbers = adapter.flatten().unwrap();
        let doubled = adapter.clone_with(|_, tensor| tensor * 2.0);
        let expected: Vec<f32> = numbers.iter().map(|number| number * 2.0).collect();
        assert_eq!(doubled.flatten().unwrap(), expected);
        let replaced = ivon::paths::replace(adapter.clone().train(), |path, _, _: &[usize]| {
            (path == "lm_head.lora_B").then(|| Tensor::zeros([96 * 4], &Device::flex()))
        });
        let last = replaced.to_matrices().unwrap().pop().unwrap().1;
        assert!(last.values.iter().all(|value| *value == 0.0));
        for name in paths.iter().map(|path| peft_name(path)) {
            let path = path_of_peft_name(&name).unwrap();
            assert!(paths.contains(&path), "{name}");
        }
        let name = "base_model.model.model.embed_tokens.weight";
        assert_eq!(path_of_peft_name(name), Some("embed_tokens.weight"));
        assert_eq!(peft_name("embed_tokens.weight"), name);
    }

    /// With a side of each kind: noise on q of layer 0, a network on q of layer 1.
    fn with_both_sides() -> Adapter {
        let device = Device::flex();
        let signs = Signs {
            seed: 1,
            step: 0,
            draw: 0,
        };
        let start = CloraStart {
            hidden: 5,
            sd: 0.1,
            seed: 2,
        };
        adapter(2, "q_proj,v_proj").with_sides(|path, pair| {
            if !path.ends_with("q_proj") {
                return None;
            }
            let (rank, noise) = (pair.rank(), HostMatrix::read(path, pair.lora_A.val()));
            Some(match path.starts_with("layers.0") {
                true => Side::Flipout(Flipout::new(noise.unwrap(), signs, &device)),
                false => Side::Clora(start.network(path, rank, &device)),
            })
        })
    }

    #[test]
    fn burn_visits_what_stands_beside_a_and_b_in_the_same_order_and_mapping_reaches_it() {
        let adapter = with_both_sides();
        let mut visited = Visited::default();
        adapter.visit(&mut visited);
        let (paths, ids): (Vec<_>, Vec<_>) = adapter
            .parameters()
            .map(|(path, parameter)| (path, parameter.id))
            .unzip();
        let seen: Vec<_> = visited.seen.into_iter().map(|(_, id)| id).collect();
        assert_eq!((seen, paths.len()), (ids, 8 + 1 + 2));
        assert_eq!(paths[2], "layers.0.self_attn.q_proj.flip.noise");
        assert_eq!(paths[7], "layers.1.self_attn.q_proj.context.inner");
        let mut mapped = Vec::new();
        let doubled = adapter.clone_with(|path, tensor| {
            mapped.push(path.to_string());
            tensor * 2.0
        });
        assert_eq!(mapped, paths);
        let expected: Vec<f32> = adapter.flatten().unwrap().iter().map(|x| x * 2.0).collect();
        assert_eq!(doubled.flatten().unwrap(), expected);
    }

    #[test]
    fn a_mapped_adapter_keeps_ids_and_paths() {
        let adapter = adapter(2, "all-linear");
        let doubled = adapter.clone_with(|_, tensor| tensor * 2.0);
        let numbers = adapter.flatten().unwrap();
        assert_eq!(numbers.len(), adapter.parameter_count());
        assert_eq!(
            doubled.flatten().unwrap(),
            numbers
                .iter()
                .map(|number| number * 2.0)
                .collect::<Vec<_>>()
        );
        for ((path, before), (other, after)) in adapter.parameters().zip(doubled.parameters()) {
            assert_eq!((path, before.id), (other, after.id));
        }
    }

    #[test]
    fn the_factor_is_kept_by_all_that_is_made_of_an_adapter() {
        let adapter = adapter(1, "q_proj").with_scaling(0.37);
        let trained = adapter.clone().train();
        let made = [
            adapter.valid(),
            trained.tracked_from(0),
            adapter.clone_with(|_, tensor| tensor * 2.0),
            adapter.with_sides(|_, pair| pair.side.clone()),
            ivon::paths::replace(trained, |_, _, _: &[usize]| None),
        ];
        assert!(made.iter().all(|adapter| adapter.scaling == 0.37.into()));
    }

    #[test]
    fn matrices_make_the_same_adapter_again() {
        let adapter = adapter(2, "q_proj");
        let matrices: BTreeMap<_, _> = adapter.to_matrices().unwrap().into_iter().collect();
        let again =
            Adapter::from_matrices(matrices.clone(), 2.0, &decoder(2), &Device::flex()).unwrap();
        assert_eq!(again.to_matrices().unwrap(), adapter.to_matrices().unwrap());

        let mut half = matrices.clone();
        half.remove("layers.1.self_attn.q_proj.lora_B");
        let message = Adapter::from_matrices(half, 2.0, &decoder(2), &Device::flex())
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "tensor `layers.1.self_attn.q_proj.lora_B` is missing from `the adapter`"
        );

        let message = Adapter::from_matrices(matrices.clone(), 2.0, &decoder(1), &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("tensor `layers.1.self_attn.q_proj.lora_A` in `the adapter` belongs to no adapted layer"), "{message}");

        let mut wide = matrices;
        wide.insert(
            "layers.0.self_attn.q_proj.lora_A".into(),
            HostMatrix {
                shape: [4, 5],
                values: vec![0.0; 20],
            },
        );
        let message = Adapter::from_matrices(wide, 2.0, &decoder(2), &Device::flex())
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "tensor `layers.0.self_attn.q_proj.lora_A` has shape [4, 5], expected [4, 32]"
        );
    }
}
