//! The optimizer's state on the host, by parameter path, and as a safetensors file.
//!
//! Tensors `PATH.momentum` and `PATH.hessian` in the parameter's shape, with an eigenbasis those of
//! its sides; metadata `format`, `version`, `step` and `config` (the settings as JSON).

mod sides;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::Difference;
use crate::layout::{Bucket, Entry};
use crate::{IvonConfig, IvonError};

pub(crate) use sides::SIDES;
pub use sides::{SideState, SideStates};

const FORMAT: &str = "ivon-state";
const VERSION: &str = "1";

/// What [`Ivon`](crate::Ivon) needs to continue, beside the mean: made by
/// [`Ivon::state`](crate::Ivon::state), read by [`Ivon::restore`](crate::Ivon::restore).
#[derive(Clone, Debug, PartialEq)]
pub struct IvonState {
    /// The settings it was made with. To continue with other settings, change them here.
    pub config: IvonConfig,
    /// Steps taken.
    pub step: u64,
    /// Momentum and Hessian of each trainable parameter, by path.
    pub parameters: BTreeMap<String, ParameterState>,
    /// The sides of each matrix that has an eigenbasis, by path.
    pub sides: BTreeMap<String, SideStates>,
}

/// The state of one parameter, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterState {
    /// The parameter's shape.
    pub shape: Vec<usize>,
    /// g.
    pub momentum: Values,
    /// h.
    pub hessian: Values,
}

/// Numbers in the type of the optimizer's state.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// For parameters in f32 and narrower types.
    F32(Vec<f32>),
    /// For parameters in f64.
    F64(Vec<f64>),
}

impl Values {
    pub(crate) fn read(flat: Tensor<1>) -> Self {
        let kind = flat.dtype();
        let data = flat.into_data();
        if kind == DType::F64 {
            Self::F64(data.iter().collect())
        } else {
            Self::F32(data.iter().collect())
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers as f64.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        let (narrow, wide) = match self {
            Self::F32(values) => (values.as_slice(), &[][..]),
            Self::F64(values) => (&[][..], values.as_slice()),
        };
        narrow
            .iter()
            .map(|&value| f64::from(value))
            .chain(wide.iter().copied())
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(values[range].to_vec()),
            Self::F64(values) => Self::F64(values[range].to_vec()),
        }
    }

    pub(crate) fn append_to(&self, numbers: &mut Vec<f64>) {
        numbers.extend(self.iter());
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Self::F64(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    fn parse(path: &str, view: &TensorView<'_>) -> Result<Self, IvonError> {
        let bytes = view.data();
        match view.dtype() {
            Dtype::F32 => Ok(Self::F32(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| f32::from_le_bytes(bytes))
                    .collect(),
            )),
            Dtype::F64 => Ok(Self::F64(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| f64::from_le_bytes(bytes))
                    .collect(),
            )),
            other => Err(IvonError::StateType {
                path: path.into(),
                expected: "f32 or f64",
                found: other.to_string(),
            }),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }
}

impl ParameterState {
    /// Refuses a state that cannot be the one of `entry`.
    pub(crate) fn check(&self, entry: &Entry, bucket: &Bucket) -> Result<(), IvonError> {
        if self.shape != entry.shape {
            return Err(IvonError::StateShape {
                path: entry.path.clone(),
                expected: entry.shape.clone(),
                found: self.shape.clone(),
            });
        }
        let added = bucket.settings.added();
        let is_precision = |h: f64| h.is_finite() && h + added > 0.0;
        let state_value = |what, found, expected| IvonError::StateValue {
            what,
            path: entry.path.clone(),
            found,
            expected,
        };
        check_layout(&self.momentum, entry, bucket)?;
        if let Some(found) = self.momentum.iter().find(|g| !g.is_finite()) {
            return Err(state_value("momentum", found, "finite numbers"));
        }
        check_layout(&self.hessian, entry, bucket)?;
        if let Some(found) = self.hessian.iter().find(|&h| !is_precision(h)) {
            return Err(state_value("hessian", found, "finite numbers above −δ"));
        }
        Ok(())
    }
}

/// The values must have the number type of the bucket and the length of the parameter.
fn check_layout(values: &Values, entry: &Entry, bucket: &Bucket) -> Result<(), IvonError> {
    let expected = bucket.state_name();
    if values.type_name() != expected {
        return Err(IvonError::StateType {
            path: entry.path.clone(),
            expected,
            found: values.type_name().into(),
        });
    }
    if values.len() != entry.length {
        return Err(IvonError::StateShape {
            path: entry.path.clone(),
            expected: entry.shape.clone(),
            found: vec![values.len()],
        });
    }
    Ok(())
}

impl IvonState {
    /// The state as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`IvonError::StateFormat`] if the tensors contradict their shapes, which those of an
    /// optimizer never do.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IvonError> {
        let config = serde_json::to_string(&self.config).map_err(format_error)?;
        let text = |key: &str, value: &str| (key.to_string(), value.to_string());
        let metadata = HashMap::from([
            text("format", FORMAT),
            text("version", VERSION),
            text("step", &self.step.to_string()),
            text("config", &config),
        ]);
        let mut tensors = Vec::new();
        for (path, state) in &self.parameters {
            for (what, values) in [("momentum", &state.momentum), ("hessian", &state.hessian)] {
                tensors.push((format!("{path}.{what}"), state.shape.clone(), values));
            }
        }
        tensors.extend(self.side_tensors());
        let tensors: Vec<_> = tensors
            .into_iter()
            .map(|(name, shape, values)| (name, values.dtype(), shape, values.bytes()))
            .collect();
        let mut views = Vec::new();
        for (name, dtype, shape, bytes) in &tensors {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(format_error)?;
            views.push((name.as_str(), view));
        }
        safetensors::serialize(views, Some(metadata)).map_err(format_error)
    }

    /// The tensors of the sides: name, shape and values.
    fn side_tensors(&self) -> Vec<(String, Vec<usize>, &Values)> {
        let mut tensors = Vec::new();
        for (path, states) in &self.sides {
            for (side, state) in SIDES.iter().zip(states) {
                let Some(state) = state else { continue };
                let named = state.tensors(side).into_iter();
                let shape = vec![state.width; 2];
                tensors.extend(
                    named.map(|(what, values)| (format!("{path}.{what}"), shape.clone(), values)),
                );
            }
        }
        tensors
    }

    /// The state from the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`IvonError::StateFormat`] if they are not such a file or have another format or version;
    /// [`IvonError::StateMissing`], [`StateShape`](IvonError::StateShape) or
    /// [`StateType`](IvonError::StateType) if a tensor is missing or does not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IvonError> {
        let (step, config) = read_metadata(bytes)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(format_error)?;
        let (mut parameters, mut sides) = (BTreeMap::new(), BTreeMap::new());
        for (name, momentum) in tensors.tensors() {
            if let Some(path) = name.strip_suffix(".momentum") {
                let state = read_parameter(path, &momentum, &tensors)?;
                parameters.insert(path.to_string(), state);
                let [left, right] = SIDES.map(|side| SideState::parse(path, side, &tensors));
                let states = [left?, right?];
                if states.iter().any(Option::is_some) {
                    sides.insert(path.to_string(), states);
                }
                continue;
            }
            // A Hessian and the sides are read with their momentum.
            let momentum = name
                .strip_suffix(".hessian")
                .or_else(|| sides::owner(&name))
                .map(|path| format!("{path}.momentum"));
            if momentum.is_none_or(|momentum| tensors.tensor(&momentum).is_err()) {
                return Err(IvonError::StateFormat {
                    reason: format!("it has an unexpected tensor `{name}`"),
                });
            }
        }
        Ok(Self {
            config,
            step,
            parameters,
            sides,
        })
    }

    /// Writes the state to a file: under a temporary name first, so that an existing file stays
    /// intact until the new one is complete.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), IvonError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let written = (|| {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })();
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            IvonError::File {
                action: "write",
                path: path.into(),
                source,
            }
        })
    }

    /// Reads a state from a file.
    ///
    /// # Errors
    /// If the file cannot be read, and as [`from_bytes`](Self::from_bytes).
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IvonError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| IvonError::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        Self::from_bytes(&bytes)
    }
}

/// The step count and the settings, from the metadata of the file.
fn read_metadata(bytes: &[u8]) -> Result<(u64, IvonConfig), IvonError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format_error)?;
    let empty = HashMap::new();
    let metadata = header.metadata().as_ref().unwrap_or(&empty);
    let entry = |key: &str| {
        let found = metadata.get(key).map(String::as_str);
        found.ok_or_else(|| format_error(format!("its metadata lack `{key}`")))
    };
    for (key, expected) in [("format", FORMAT), ("version", VERSION)] {
        let found = entry(key)?;
        if found != expected {
            return Err(format_error(format!(
                "`{key}` is `{found}`, expected `{expected}`"
            )));
        }
    }
    let step = entry("step")?
        .parse()
        .map_err(|_| format_error("`step` is no whole number"))?;
    let config: IvonConfig = serde_json::from_str(entry("config")?).map_err(format_error)?;
    config.validate()?;
    Ok((step, config))
}

/// The state of the parameter at `path`, of which `momentum` is the momentum.
fn read_parameter(
    path: &str,
    momentum: &TensorView<'_>,
    tensors: &SafeTensors<'_>,
) -> Result<ParameterState, IvonError> {
    let name = format!("{path}.hessian");
    let Ok(hessian) = tensors.tensor(&name) else {
        return Err(IvonError::StateMissing { path: name });
    };
    if hessian.shape() != momentum.shape() {
        return Err(IvonError::StateShape {
            path: path.into(),
            expected: momentum.shape().to_vec(),
            found: hessian.shape().to_vec(),
        });
    }
    Ok(ParameterState {
        shape: momentum.shape().to_vec(),
        momentum: Values::parse(path, momentum)?,
        hessian: Values::parse(path, &hessian)?,
    })
}

fn format_error(error: impl std::fmt::Display) -> IvonError {
    IvonError::StateFormat {
        reason: error.to_string(),
    }
}

/// The settings that differ, field by field, in alphabetical order.
pub(crate) fn differences(saved: &IvonConfig, here: &IvonConfig) -> Vec<Difference> {
    let fields = |config: &IvonConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (saved, here) = (fields(saved), fields(here));
    let names: BTreeSet<&String> = saved.keys().chain(here.keys()).collect();
    // A setting that is written only where it is given counts as `null` elsewhere.
    let value = |fields: &serde_json::Map<String, serde_json::Value>, name: &String| {
        fields.get(name).cloned().unwrap_or_default().to_string()
    };
    let difference = |name: &String| Difference {
        name: name.clone(),
        saved: value(&saved, name),
        here: value(&here, name),
    };
    let differences = names.into_iter().map(difference);
    differences
        .filter(|difference| difference.saved != difference.here)
        .collect()
}
