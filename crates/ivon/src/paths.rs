//! The float parameters of a module by path, read and replaced as flat tensors.
//!
//! Burn's visitors are generic over the rank of each tensor, so a closure cannot be one. Flattened
//! (`[...]` → `[number of elements]`), all parameters have one type and fit in a list.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// A float parameter of a module.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Names of fields and indices of `Vec`s joined with dots; an `Option` adds nothing.
    pub path: String,
    /// Burn's id of the parameter; the places of a tied parameter share it.
    pub id: ParamId,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether gradients are kept for it.
    pub trainable: bool,
    /// Its values, without autodiff, `[number of elements]`, in row-major order.
    pub values: Tensor<1>,
}

/// All float parameters, in the order of the module's fields.
pub fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    collect(module, |_| true)
}

/// The float parameters that keep gradients, in the order of the module's fields. Empty for a
/// module that is not on an autodiff device.
pub fn trainable_parameters<M: Module>(module: &M) -> Vec<Parameter> {
    collect(module, |trainable| trainable)
}

/// The module with the values of parameters replaced: `replace` gets the path, id and shape of each
/// float parameter and returns its new values, flat `[number of elements]`, or `None` to leave it
/// as it is.
///
/// A replaced parameter has its old id and shape and keeps gradients if it did. The values may have
/// another float type, and may be on the module's device with or without autodiff.
///
/// # Panics
/// If `replace` returns another number of elements.
pub fn replace<M: Module>(
    module: M,
    replace: impl FnMut(&str, ParamId, &[usize]) -> Option<Tensor<1>>,
) -> M {
    module.map(&mut Replacer {
        path: Vec::new(),
        replace,
    })
}

fn collect<M: Module>(module: &M, keep: impl Fn(bool) -> bool) -> Vec<Parameter> {
    let mut collector = Collector {
        path: Vec::new(),
        keep,
        found: Vec::new(),
    };
    module.visit(&mut collector);
    collector.found
}

struct Collector<F> {
    path: Vec<String>,
    keep: F,
    found: Vec<Parameter>,
}

impl<F: Fn(bool) -> bool> ModuleVisitor for Collector<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let trainable = param.is_require_grad();
        if !(self.keep)(trainable) {
            return;
        }
        let values = param.val().inner();
        let shape = values.shape().to_vec();
        let path = self.path.join(".");
        self.found.push(Parameter {
            path,
            id: param.id,
            shape,
            trainable,
            values: flatten(values),
        });
    }
}

struct Replacer<F> {
    path: Vec<String>,
    replace: F,
}

impl<F: FnMut(&str, ParamId, &[usize]) -> Option<Tensor<1>>> ModuleMapper for Replacer<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = (self.replace)(&self.path.join("."), param.id, &param.shape()) else {
            return param;
        };
        let (id, old, mapper) = param.consume();
        // `from_inner` would lift the new values with Burn's default checkpointing strategy, but a
        // parameter and its inputs must have the same one: that of the device it was made on.
        let strategy = old.gradient_checkpointing_strategy();
        let mut new = values.inner().reshape(old.shape());
        if let Some(strategy) = strategy {
            new = new
                .autodiff()
                .with_gradient_checkpointing_strategy(strategy)
                .set_require_grad(old.is_require_grad());
        }
        Param::from_mapped_value(id, new, mapper)
    }
}

/// Gradients by parameter, each with its original shape and flattened.
pub(crate) type FlatGradients = HashMap<ParamId, (Vec<usize>, Tensor<1>)>;

/// The gradients of a module's float parameters.
pub(crate) fn flat_gradients<M: Module>(module: &M, gradients: GradientsParams) -> FlatGradients {
    let mut collector = GradientCollector {
        gradients,
        found: HashMap::new(),
    };
    module.visit(&mut collector);
    collector.found
}

struct GradientCollector {
    gradients: GradientsParams,
    found: FlatGradients,
}

impl ModuleVisitor for GradientCollector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let gradient = gradient.inner();
            self.found
                .insert(param.id, (gradient.shape().to_vec(), flatten(gradient)));
        }
    }
}

/// `[...]` → `[number of elements]`, row-major.
pub(crate) fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Net {
        layers: Vec<Linear>,
        extra: Option<Param<Tensor<1>>>,
        scale: f64,
    }

    fn net(device: &Device) -> Net {
        Net {
            layers: vec![
                LinearConfig::new(2, 3).init(device),
                LinearConfig::new(3, 1).with_bias(false).init(device),
            ],
            extra: Some(Param::from_data([1.0, 2.0], device)),
            scale: 2.0,
        }
    }

    #[test]
    fn paths_name_fields_and_indices_and_see_through_options() {
        let net = net(&Device::flex().autodiff());
        let found: Vec<_> = parameters(&net)
            .into_iter()
            .map(|p| (p.path, p.shape))
            .collect();
        let expected = [
            ("layers.0.weight", vec![2, 3]),
            ("layers.0.bias", vec![3]),
            ("layers.1.weight", vec![3, 1]),
            ("extra", vec![2]),
        ];
        assert_eq!(
            found,
            expected.map(|(path, shape)| (path.to_string(), shape))
        );
    }

    #[test]
    fn only_parameters_that_keep_gradients_are_trainable() {
        let mut net = net(&Device::flex().autodiff());
        net.layers[0] = net.layers[0].clone().no_grad();
        let paths: Vec<_> = trainable_parameters(&net)
            .into_iter()
            .map(|p| p.path)
            .collect();
        assert_eq!(paths, ["layers.1.weight", "extra"]);
        assert!(trainable_parameters(&net.valid()).is_empty());
    }

    #[test]
    fn a_replaced_parameter_keeps_its_id_whether_it_trains_and_its_strategy() {
        let device = Device::flex().autodiff().gradient_checkpointing();
        let old = net(&device);
        let new = replace(old.clone(), |path, _, _| {
            (path == "extra").then(|| Tensor::from_data([5.0, 6.0], &Device::flex()))
        });
        let (old, new) = (old.extra.unwrap(), new.extra.unwrap());
        assert_eq!(new.id, old.id);
        assert!(new.is_require_grad());
        assert_eq!(
            new.val().gradient_checkpointing_strategy(),
            old.val().gradient_checkpointing_strategy()
        );
        assert_eq!(
            new.val().into_data().try_into_vec::<f32>().unwrap(),
            [5.0, 6.0]
        );
        assert_eq!(
            old.val().into_data().try_into_vec::<f32>().unwrap(),
            [1.0, 2.0]
        );
    }
}
