//! The adapter's tensors one by one, in one fixed order and under one name each: for files, draws
//! and tests.
//!
//! Order: decoder layers from the bottom, in each the projections of [`Projection::ALL`], A before
//! B, and the network between them, if there is one, behind. It is the order in which Burn visits
//! the module, too.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Adapter, Context, Flip, LayerAdapter, LoraError, LoraPair, Projection};
use crate::model::DecoderConfig;

/// What stands before a parameter's path, and after it, in PEFT's files.
pub(super) const PEFT_PREFIX: &str = "base_model.model.model.";
pub(super) const PEFT_SUFFIX: &str = ".weight";
/// The end of the path of noise on A, which no file has.
const FLIP: &str = "flip.noise";

/// A matrix on the host, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct HostMatrix {
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// `rows · columns` numbers.
    pub values: Vec<f32>,
}

/// The path of A (`lora_A`), B (`lora_B`) or a part of the network between them (`context.inner`,
/// `context.outer`) of a layer, such as `layers.0.self_attn.q_proj.lora_A`.
pub fn parameter_path(layer: usize, projection: Projection, factor: &str) -> String {
    format!("layers.{layer}.{}.{factor}", projection.path())
}

/// The name of a parameter in `adapter_model.safetensors`.
pub fn peft_name(path: &str) -> String {
    format!("{PEFT_PREFIX}{path}{PEFT_SUFFIX}")
}

impl Adapter {
    /// The adapted layers in order.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, Projection, &LoraPair)> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            Projection::ALL.into_iter().filter_map(move |projection| {
                layer.pair(projection).map(|pair| (index, projection, pair))
            })
        })
    }

    /// Every parameter with its path, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (String, &Param<Tensor<2>>)> {
        self.pairs().flat_map(|(layer, projection, pair)| {
            let factors = [("lora_A", &pair.lora_A), ("lora_B", &pair.lora_B)];
            let context = pair.context.iter().flat_map(|context| {
                Context::PARTS
                    .into_iter()
                    .zip([&context.inner, &context.outer])
            });
            let flip = pair.flip.iter().map(|flip| (FLIP, &flip.noise));
            factors
                .into_iter()
                .chain(context)
                .chain(flip)
                .map(move |(name, parameter)| (parameter_path(layer, projection, name), parameter))
        })
    }

    /// An adapter whose pairs are what `change` makes of these.
    pub(super) fn map_pairs(
        &self,
        mut change: impl FnMut(usize, Projection, &LoraPair) -> LoraPair,
    ) -> Self {
        let changed = |(index, layer): (usize, &LayerAdapter)| {
            LayerAdapter::from_pairs(|projection| {
                layer
                    .pair(projection)
                    .map(|pair| change(index, projection, pair))
            })
        };
        Self {
            layers: self.layers.iter().enumerate().map(changed).collect(),
            scaling: self.scaling,
        }
    }

    /// The number of trainable numbers.
    pub fn parameter_count(&self) -> usize {
        self.parameters()
            .map(|(_, parameter)| parameter.lazy_shape().num_elements())
            .sum()
    }

    /// Every parameter as it lies on the host, by path, in order.
    ///
    /// # Errors
    /// If the device does not give its data back.
    pub fn to_matrices(&self) -> Result<Vec<(String, HostMatrix)>, LoraError> {
        self.parameters()
            .map(|(path, parameter)| to_matrix(&path, parameter.val()).map(|matrix| (path, matrix)))
            .collect()
    }

    /// All numbers, one parameter after the other, each row by row.
    ///
    /// # Errors
    /// If the device does not give its data back.
    pub fn flatten(&self) -> Result<Vec<f32>, LoraError> {
        Ok(self
            .to_matrices()?
            .into_iter()
            .flat_map(|(_, matrix)| matrix.values)
            .collect())
    }

    /// The first decoder layer with a number other than 0; that behind the last one where there is
    /// none.
    ///
    /// # Errors
    /// If the device does not give its data back.
    pub fn first_layer_other_than_zero(&self) -> Result<usize, LoraError> {
        for (layer, projection, pair) in self.pairs() {
            for (name, parameter) in [("lora_A", &pair.lora_A), ("lora_B", &pair.lora_B)] {
                let matrix = to_matrix(&parameter_path(layer, projection, name), parameter.val())?;
                if matrix.values.iter().any(|value| *value != 0.0) {
                    return Ok(layer);
                }
            }
        }
        Ok(self.layers.len())
    }

    /// The adapter ready to be differentiated by its weights from decoder layer `first` on; those
    /// below are constants.
    pub fn tracked_from(&self, first: usize) -> Self {
        let mut adapter = self.clone().train();
        for layer in adapter.layers.iter_mut().take(first) {
            *layer = layer.clone().no_grad();
        }
        adapter
    }

    /// An adapter whose parameters are what `change` makes of these, path by path; they keep their
    /// ids.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn try_map<E>(
        &self,
        mut change: impl FnMut(&str, Tensor<2>) -> Result<Tensor<2>, E>,
    ) -> Result<Self, E> {
        let mut renew =
            |path: String, parameter: &Param<Tensor<2>>| -> Result<Param<Tensor<2>>, E> {
                let tensor = change(&path, parameter.val())?;
                Ok(parameter.clone().map(|_| tensor))
            };
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let mut pairs = Vec::new();
            for projection in Projection::ALL {
                if let Some(pair) = layer.pair(projection) {
                    #[allow(non_snake_case)]
                    let lora_A = renew(parameter_path(index, projection, "lora_A"), &pair.lora_A)?;
                    #[allow(non_snake_case)]
                    let lora_B = renew(parameter_path(index, projection, "lora_B"), &pair.lora_B)?;
                    let part =
                        |part: usize| parameter_path(index, projection, Context::PARTS[part]);
                    let context = match &pair.context {
                        None => None,
                        Some(Context { inner, outer, draw }) => Some(Context {
                            inner: renew(part(0), inner)?,
                            outer: renew(part(1), outer)?,
                            draw: *draw,
                        }),
                    };
                    let flip = match &pair.flip {
                        None => None,
                        Some(Flip { noise, signs }) => Some(Flip {
                            noise: renew(parameter_path(index, projection, FLIP), noise)?,
                            signs: *signs,
                        }),
                    };
                    pairs.push((
                        projection,
                        LoraPair {
                            lora_A,
                            lora_B,
                            context,
                            flip,
                        },
                    ));
                }
            }
            layers.push(layer_of(pairs));
        }
        Ok(Self {
            layers,
            scaling: self.scaling,
        })
    }

    /// As [`try_map`](Self::try_map), for a change that cannot fail.
    pub fn clone_with(&self, mut change: impl FnMut(&str, Tensor<2>) -> Tensor<2>) -> Self {
        match self.try_map(|path, tensor| Ok::<_, std::convert::Infallible>(change(path, tensor))) {
            Ok(adapter) => adapter,
            Err(never) => match never {},
        }
    }

    /// An adapter of these parameters, by path, with the factor `scaling` before B A; every adapted layer has its A and its B, and may
    /// have both parts of a network between them.
    ///
    /// # Errors
    /// [`LoraError::UnknownTensor`] for a path that this decoder does not have,
    /// [`LoraError::MissingTensor`] for half a pair, [`LoraError::Shape`] where A is not `[r, in]`,
    /// B not `[out, r]`, or a network not for this r.
    pub fn from_matrices(
        mut matrices: BTreeMap<String, HostMatrix>,
        scaling: f64,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, LoraError> {
        let mut layers = Vec::with_capacity(decoder.num_hidden_layers);
        for layer in 0..decoder.num_hidden_layers {
            let mut pairs = Vec::new();
            for projection in Projection::ALL {
                let paths =
                    ["lora_A", "lora_B"].map(|factor| parameter_path(layer, projection, factor));
                match (matrices.remove(&paths[0]), matrices.remove(&paths[1])) {
                    (None, None) => {}
                    (Some(a), Some(b)) => {
                        check_pair(&paths, &a, &b, projection.shape(decoder))?;
                        let parts =
                            Context::PARTS.map(|part| parameter_path(layer, projection, part));
                        let found = parts.each_ref().map(|part| matrices.remove(part));
                        let context = Context::from_matrices(&parts, found, a.shape[0], device)?;
                        pairs.push((
                            projection,
                            LoraPair {
                                lora_A: parameter(a, device),
                                lora_B: parameter(b, device),
                                context,
                                flip: None,
                            },
                        ));
                    }
                    (a, _) => {
                        let [first, second] = paths;
                        return Err(LoraError::MissingTensor {
                            path: "the adapter".into(),
                            name: if a.is_some() { second } else { first },
                        });
                    }
                }
            }
            layers.push(layer_of(pairs));
        }
        match matrices.into_keys().next() {
            None => Ok(Self { layers, scaling }),
            Some(name) => Err(LoraError::UnknownTensor {
                path: "the adapter".into(),
                name,
                reason: format!(
                    "it has {} layers of {}",
                    decoder.num_hidden_layers,
                    Projection::ALL.map(Projection::path).join(", ")
                ),
            }),
        }
    }
}

/// A trainable parameter on `device` with these numbers.
pub(super) fn parameter(matrix: HostMatrix, device: &Device) -> Param<Tensor<2>> {
    Param::from_tensor(Tensor::from_data(
        TensorData::new(matrix.values, matrix.shape),
        device,
    ))
}

/// A tensor's numbers on the host.
pub(crate) fn to_matrix(path: &str, tensor: Tensor<2>) -> Result<HostMatrix, LoraError> {
    let failed = |reason: String| LoraError::Device {
        path: path.into(),
        reason,
    };
    let shape = tensor.dims();
    let data = tensor
        .try_into_data_as::<f32>()
        .map_err(|error| failed(error.to_string()))?;
    let values = data
        .try_into_vec::<f32>()
        .map_err(|error| failed(error.to_string()))?;
    Ok(HostMatrix { shape, values })
}

fn layer_of(mut pairs: Vec<(Projection, LoraPair)>) -> LayerAdapter {
    LayerAdapter::from_pairs(|projection| {
        pairs
            .iter()
            .position(|(there, _)| *there == projection)
            .map(|index| pairs.swap_remove(index).1)
    })
}

/// A must be `[r, in]` and B `[out, r]` with one r.
fn check_pair(
    paths: &[String; 2],
    a: &HostMatrix,
    b: &HostMatrix,
    [out, inputs]: [usize; 2],
) -> Result<(), LoraError> {
    let rank = a.shape[0].max(1);
    for (path, found, expected) in [
        (&paths[0], a.shape, [rank, inputs]),
        (&paths[1], b.shape, [out, rank]),
    ] {
        if found != expected {
            return Err(LoraError::Shape {
                name: path.clone(),
                expected: expected.into(),
                found: found.into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleVisitor, ParamId};

    use super::super::tiny::{adapter, decoder};
    use super::*;

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
            adapter.map_pairs(|_, _, pair| pair.clone()),
            ivon::paths::replace(trained, |_, _, _: &[usize]| None),
        ];
        assert!(made.iter().all(|adapter| adapter.scaling == 0.37));
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
