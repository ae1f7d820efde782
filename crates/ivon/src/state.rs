//! The optimizer's state on the host, by parameter path, and as a safetensors file.
//!
//! Tensors `PATH.momentum` and `PATH.hessian` in the parameter's shape; metadata `format`,
//! `version`, `step` and `config` (the settings as JSON).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::Difference;
use crate::layout::{Bucket, Entry};
use crate::{IvonConfig, IvonError};

const FORMAT: &str = "ivon-state";
const VERSION: &str = "1";

/// What [`Ivon`](crate::Ivon) needs to continue, beside the mean: made by
/// [`Ivon::state`](crate::Ivon::state), taken by [`Ivon::restore`](crate::Ivon::restore).
#[derive(Clone, Debug, PartialEq)]
pub struct IvonState {
    /// The settings it was written with. Change them here to go on with others on purpose.
    pub config: IvonConfig,
    /// Steps taken.
    pub step: u64,
    /// Momentum and Hessian of each trainable parameter, by path.
    pub parameters: BTreeMap<String, ParameterState>,
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

/// Numbers in the type that the optimizer keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of parameters in f32 and narrower types.
    F32(Vec<f32>),
    /// Of parameters in f64.
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

    /// Each number, widened.
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
    /// Whether this can be the state of `entry`.
    pub(crate) fn check(&self, entry: &Entry, bucket: &Bucket) -> Result<(), IvonError> {
        let path = || entry.path.clone();
        if self.shape != entry.shape {
            return Err(IvonError::StateShape {
                path: path(),
                expected: entry.shape.clone(),
                found: self.shape.clone(),
            });
        }
        let expected = if bucket.state_type == DType::F64 {
            "f64"
        } else {
            "f32"
        };
        let decay = bucket.settings.weight_decay;
        let parts: [(_, _, _, &dyn Fn(f64) -> bool); 2] = [
            (
                "momentum",
                &self.momentum,
                "finite numbers",
                &f64::is_finite,
            ),
            (
                "hessian",
                &self.hessian,
                "finite numbers above −δ",
                &|h| h.is_finite() && h + decay > 0.0,
            ),
        ];
        for (what, values, range, holds) in parts {
            if values.type_name() != expected {
                return Err(IvonError::StateType {
                    path: path(),
                    expected,
                    found: values.type_name().into(),
                });
            }
            if values.len() != entry.length {
                return Err(IvonError::StateShape {
                    path: path(),
                    expected: entry.shape.clone(),
                    found: vec![values.len()],
                });
            }
            if let Some(found) = values.iter().find(|&value| !holds(value)) {
                return Err(IvonError::StateValue {
                    what,
                    path: path(),
                    found,
                    expected: range,
                });
            }
        }
        Ok(())
    }
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
                tensors.push((
                    format!("{path}.{what}"),
                    values.dtype(),
                    &state.shape,
                    values.bytes(),
                ));
            }
        }
        let mut views = Vec::new();
        for (name, dtype, shape, bytes) in &tensors {
            let view = TensorView::new(*dtype, shape.to_vec(), bytes).map_err(format_error)?;
            views.push((name.as_str(), view));
        }
        safetensors::serialize(views, Some(metadata)).map_err(format_error)
    }

    /// The state from the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`IvonError::StateFormat`] if they are none, or of another format or version;
    /// [`IvonError::StateMissing`], [`StateShape`](IvonError::StateShape) or
    /// [`StateType`](IvonError::StateType) if the tensors are not what they should be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IvonError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format_error)?;
        let empty = HashMap::new();
        let metadata = header.metadata().as_ref().unwrap_or(&empty);
        let entry = |key: &str| {
            let found = metadata.get(key).map(String::as_str);
            found.ok_or_else(|| IvonError::StateFormat {
                reason: format!("its metadata lack `{key}`"),
            })
        };
        for (key, expected) in [("format", FORMAT), ("version", VERSION)] {
            let found = entry(key)?;
            if found != expected {
                return Err(IvonError::StateFormat {
                    reason: format!("`{key}` is `{found}`, expected `{expected}`"),
                });
            }
        }
        let step = entry("step")?.parse().map_err(|_| IvonError::StateFormat {
            reason: "`step` is no whole number".into(),
        })?;
        let config: IvonConfig = serde_json::from_str(entry("config")?).map_err(format_error)?;
        config.validate()?;

        let tensors = SafeTensors::deserialize(bytes).map_err(format_error)?;
        let mut parameters = BTreeMap::new();
        for (name, momentum) in tensors.tensors() {
            let Some(path) = name.strip_suffix(".momentum") else {
                // A Hessian comes with its momentum; anything else is foreign.
                let partner = name
                    .strip_suffix(".hessian")
                    .map(|path| format!("{path}.momentum"));
                if partner.is_some_and(|partner| tensors.tensor(&partner).is_ok()) {
                    continue;
                }
                return Err(IvonError::StateFormat {
                    reason: format!("it has an unexpected tensor `{name}`"),
                });
            };
            let missing = |_| IvonError::StateMissing {
                path: format!("{path}.hessian"),
            };
            let hessian = tensors
                .tensor(&format!("{path}.hessian"))
                .map_err(missing)?;
            if hessian.shape() != momentum.shape() {
                let (expected, found) = (momentum.shape().to_vec(), hessian.shape().to_vec());
                return Err(IvonError::StateShape {
                    path: path.into(),
                    expected,
                    found,
                });
            }
            let state = ParameterState {
                shape: momentum.shape().to_vec(),
                momentum: Values::parse(path, &momentum)?,
                hessian: Values::parse(path, &hessian)?,
            };
            parameters.insert(path.to_string(), state);
        }
        Ok(Self {
            config,
            step,
            parameters,
        })
    }

    /// Writes the state to a file: under a temporary name first, so that an older file stays whole
    /// until the new one is complete.
    ///
    /// # Errors
    /// If the operating system refuses.
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
    let differing = saved
        .iter()
        .filter(|(name, value)| here.get(*name) != Some(value));
    let describe = |(name, value): (&String, &serde_json::Value)| Difference {
        name: name.clone(),
        saved: value.to_string(),
        here: here.get(name).map(ToString::to_string).unwrap_or_default(),
    };
    let mut found: Vec<Difference> = differing.map(describe).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}
