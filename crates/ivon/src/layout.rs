//! The layout of the trainable parameters: many small tensors concatenated into a few long ones.
//!
//! An adapter has hundreds of small tensors, and an update takes some thirty operations: on
//! buckets, a few dozen kernel launches instead of thousands. Parameters share a bucket when they
//! share device, float type and settings; the arithmetic is elementwise, so the buckets never
//! change a result.

use std::collections::HashMap;

use burn::module::{Module, ParamId};
use burn::tensor::{DType, Device, Distribution, Element, Tensor, TensorData};

use crate::config::{IvonConfig, Resolved};
use crate::noise::Address;
use crate::paths::{Parameter, replace};
use crate::{IvonError, NoiseSource};

/// A bucket takes no further parameters once it holds this many elements: on a GPU enough to hide
/// the launch overhead, and below the length (4 Mi) from which Flex splits sums by thread. Between
/// 16 Ki and 1 Mi a CPU step takes the same time.
const BUCKET: usize = 1 << 20;

/// One flat tensor for each bucket, `[elements of the bucket]`.
pub(crate) type Flats = Vec<Tensor<1>>;

/// A trainable parameter and its place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub path: String,
    pub id: ParamId,
    pub shape: Vec<usize>,
    pub bucket: usize,
    pub offset: usize,
    pub length: usize,
}

/// The common properties of a bucket's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub device: Device,
    pub parameter_type: DType,
    /// The wider of f32 and the parameters' type.
    pub state_type: DType,
    pub settings: Resolved,
    pub length: usize,
    /// Indices of its parameters, in order.
    pub entries: Vec<usize>,
}

impl Bucket {
    /// What the state's type is called.
    pub fn state_name(&self) -> &'static str {
        match self.state_type {
            DType::F64 => "f64",
            _ => "f32",
        }
    }
}

/// The places of all trainable parameters of a module.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub entries: Vec<Entry>,
    pub buckets: Vec<Bucket>,
    index: HashMap<ParamId, usize>,
}

impl Layout {
    /// Lays out `parameters`; a tied parameter is placed once.
    pub fn new(parameters: &[Parameter], config: &IvonConfig) -> Self {
        let mut layout = Self {
            entries: Vec::new(),
            buckets: Vec::new(),
            index: HashMap::new(),
        };
        for parameter in parameters {
            let length = parameter.shape.iter().product();
            if length == 0 || layout.index.contains_key(&parameter.id) {
                continue;
            }
            let bucket = layout.bucket_for(parameter, Resolved::at(config, &parameter.path));
            let entry = Entry {
                path: parameter.path.clone(),
                id: parameter.id,
                shape: parameter.shape.clone(),
                bucket,
                offset: layout.buckets[bucket].length,
                length,
            };
            layout.buckets[bucket].length += length;
            layout.buckets[bucket].entries.push(layout.entries.len());
            layout.index.insert(parameter.id, layout.entries.len());
            layout.entries.push(entry);
        }
        layout
    }

    fn bucket_for(&mut self, parameter: &Parameter, settings: Resolved) -> usize {
        let (device, parameter_type) = (parameter.values.device(), parameter.values.dtype());
        let open = self.buckets.iter().rposition(|bucket| {
            bucket.device == device
                && bucket.parameter_type == parameter_type
                && bucket.settings == settings
                && bucket.length < BUCKET
        });
        open.unwrap_or_else(|| {
            let state_type = if parameter_type == DType::F64 {
                DType::F64
            } else {
                DType::F32
            };
            self.buckets.push(Bucket {
                device,
                parameter_type,
                state_type,
                settings,
                length: 0,
                entries: Vec::new(),
            });
            self.buckets.len() - 1
        })
    }

    /// The index of the parameter with this id.
    pub fn find(&self, id: ParamId) -> Option<usize> {
        self.index.get(&id).copied()
    }

    /// Number of elements of all parameters.
    pub fn elements(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.length).sum()
    }

    /// Flat tensors in the state's type, from the values `[length]` of each parameter by index.
    pub fn gather(&self, mut values: impl FnMut(usize) -> Tensor<1>) -> Flats {
        let gathered = self.buckets.iter().map(|bucket| {
            let parts = bucket.entries.iter().map(|&entry| {
                values(entry)
                    .cast(bucket.state_type)
                    .to_device(&bucket.device)
            });
            join(parts.collect())
        });
        gathered.collect()
    }

    /// The part of the flat tensors that belongs to a parameter, `[length]`.
    pub fn part(&self, flats: &[Tensor<1>], entry: usize) -> Tensor<1> {
        let Entry {
            bucket,
            offset,
            length,
            ..
        } = self.entries[entry];
        flats[bucket].clone().narrow(0, offset, length)
    }

    /// The module with its trainable parameters taken from the flat tensors, each in its own float
    /// type.
    pub fn write<M: Module>(&self, module: M, flats: &[Tensor<1>]) -> M {
        let typed: Flats = flats
            .iter()
            .zip(&self.buckets)
            .map(|(flat, bucket)| flat.clone().cast(bucket.parameter_type))
            .collect();
        replace(module, |_, id, _| {
            self.find(id).map(|entry| self.part(&typed, entry))
        })
    }

    /// For each parameter its part of `new` where `chosen`, else of `old`.
    pub fn choose(&self, chosen: &[bool], new: Flats, old: impl Fn(usize) -> Tensor<1>) -> Flats {
        if chosen.iter().all(|&chosen| chosen) {
            return new;
        }
        self.gather(|entry| {
            if chosen[entry] {
                self.part(&new, entry)
            } else {
                old(entry)
            }
        })
    }

    /// The settings of a parameter.
    pub fn settings(&self, entry: usize) -> &Resolved {
        &self.buckets[self.entries[entry].bucket].settings
    }

    /// Zeros for a parameter, `[length]`.
    pub fn zeros(&self, entry: usize) -> Tensor<1> {
        let bucket = &self.buckets[self.entries[entry].bucket];
        Tensor::zeros(
            [self.entries[entry].length],
            (&bucket.device, bucket.state_type),
        )
    }

    /// Standard normals for every parameter, from the host's stream at `address` or from each
    /// device.
    pub fn normals(&self, source: NoiseSource, address: Address) -> Flats {
        if source == NoiseSource::Device {
            let standard = Distribution::Normal(0.0, 1.0);
            return self
                .buckets
                .iter()
                .map(|b| Tensor::random([b.length], standard, (&b.device, b.state_type)))
                .collect();
        }
        let mut flats: Vec<Vec<f32>> = self
            .buckets
            .iter()
            .map(|bucket| vec![0.0; bucket.length])
            .collect();
        let mut parameters = Vec::with_capacity(self.entries.len());
        for (bucket, normals) in self.buckets.iter().zip(&mut flats) {
            let mut rest = normals.as_mut_slice();
            for entry in bucket.entries.iter().map(|&entry| &self.entries[entry]) {
                let (part, after) = rest.split_at_mut(entry.length);
                parameters.push((entry.path.as_str(), part));
                rest = after;
            }
        }
        address.fill_all(parameters);
        flats
            .into_iter()
            .zip(&self.buckets)
            .map(|(normals, bucket)| upload(normals, bucket))
            .collect()
    }

    /// Standard normals supplied by the caller for each path and shape, row-major.
    pub fn supplied_normals(
        &self,
        mut supply: impl FnMut(&str, &[usize]) -> Vec<f64>,
    ) -> Result<Flats, IvonError> {
        let flats = self.buckets.iter().map(|bucket| {
            let mut normals = Vec::with_capacity(bucket.length);
            for entry in bucket.entries.iter().map(|&entry| &self.entries[entry]) {
                let supplied = supply(&entry.path, &entry.shape);
                if supplied.len() != entry.length {
                    let (expected, found) = (entry.length, supplied.len());
                    return Err(IvonError::NormalsLength {
                        path: entry.path.clone(),
                        expected,
                        found,
                    });
                }
                normals.extend(supplied);
            }
            Ok(upload(normals, bucket))
        });
        flats.collect()
    }
}

/// Host numbers `[length]` as a tensor on the bucket's device.
pub(crate) fn upload<E: Element>(values: Vec<E>, bucket: &Bucket) -> Tensor<1> {
    let length = values.len();
    Tensor::from_data(
        TensorData::new(values, [length]),
        (&bucket.device, bucket.state_type),
    )
}

/// The concatenation of the tensors.
fn join(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    if parts.len() == 1 {
        parts.remove(0)
    } else {
        Tensor::cat(parts, 0)
    }
}

/// The sum of all elements `[1]`, in pieces so short that Flex does not split them by thread: the
/// order of the additions does not depend on the number of threads.
pub(crate) fn total(flat: Tensor<1>) -> Tensor<1> {
    const PIECE: usize = 1 << 20;
    let length = flat.shape().num_elements();
    if length <= PIECE {
        return flat.sum();
    }
    let pieces = (0..length).step_by(PIECE).map(|start| {
        flat.clone()
            .narrow(0, start, PIECE.min(length - start))
            .sum()
    });
    Tensor::cat(pieces.collect(), 0).sum()
}
