//! Running averages of ḡ ḡᵀ and ḡᵀ ḡ of each matrix, and the basis that their eigenvectors are.
//!
//! Source: SOAP (Vyas et al., arXiv 2409.11321), which EVON (arXiv 2606.23357) follows: first all
//! eigenvectors, then every few steps one step of the power method and a QR decomposition.
//!
//! A side is turned as soon as its average is not 0. Until then it has Q = 1: while an adapter's B
//! is 0 and nothing is drawn, the gradient of its A is exactly 0, and says nothing of a basis.
//!
//! Where the published code leaves momentum and Hessian as they are when Q changes, so that numbers
//! of one basis are read in another, they are turned here, with R = Q_newᵀ Q_old on each side: the
//! momentum to R_L g R_Rᵀ, which is the same matrix in the new basis; the Hessian, which is diagonal
//! in the old basis alone, to the diagonal that it has in the new one, (R_L ∘ R_L) h (R_R ∘ R_R)ᵀ.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData, Transaction};

use crate::basis::{Basis, Rotation};
use crate::layout::{Bucket, Entry, Flats, Layout};
use crate::paths::flatten;
use crate::state::{SIDES, SideState, SideStates, Values};
use crate::symmetric::{power_step, sorted_eigenvectors, transposed_product};
use crate::{IvonConfig, IvonError};

/// The averages of the sides of one parameter `[m, n]`, left `[m, m]` and right `[n, n]`; none for a
/// side that is not turned.
pub(crate) type SideGrams = [Option<Tensor<2>>; 2];

/// The averages of all parameters of a layout.
#[derive(Clone, Debug)]
pub(crate) struct Grams {
    basis_interval: u64,
    decay: f64,
    pub sides: Vec<SideGrams>,
}

/// A new basis, and the way to it.
pub(crate) struct Refreshed {
    pub basis: Basis,
    /// Q_newᵀ Q_old on each side; absent where that is 1.
    pub turns: Basis,
}

impl Grams {
    /// Those before the first step: 0, and none without an eigenbasis.
    pub fn new(config: &IvonConfig, layout: &Layout) -> Self {
        let eigenbasis = config.eigenbasis.as_ref();
        let zeros = |entry: &Entry| {
            let bucket = &layout.buckets[entry.bucket];
            let turned = eigenbasis.map_or([None; 2], |config| config.turned(&entry.shape));
            turned.map(|width| {
                Some(Tensor::zeros(
                    [width?; 2],
                    (&bucket.device, bucket.state_type),
                ))
            })
        };
        Self {
            basis_interval: eigenbasis.map_or(1, |config| config.basis_interval),
            decay: eigenbasis
                .and_then(|config| config.gram_decay)
                .unwrap_or(config.beta2),
            sides: layout.entries.iter().map(zeros).collect(),
        }
    }

    /// G ← β G + (1 − β) ḡ ḡᵀ on the left and with ḡᵀ ḡ on the right, in the weights' own
    /// coordinates; parameters without a gradient keep theirs.
    ///
    /// NOTE: ḡ is here the gradient of the loss and the prior, ḡ + δ m, which is 0 on average at the
    /// optimum. That of the loss alone is −δ m there, and its square would turn the basis towards
    /// the mean, away from the curvature that the draws show.
    pub fn observed(
        &self,
        layout: &Layout,
        gradient: &Flats,
        mean: &Flats,
        present: &[bool],
    ) -> Self {
        let of = |(entry, sides): (usize, &SideGrams)| {
            let shape = layout.entries[entry].shape.as_slice();
            let &[m, n] = shape else {
                return sides.clone();
            };
            if !present[entry] || sides.iter().all(Option::is_none) {
                return sides.clone();
            }
            let decay = layout.settings(entry).weight_decay;
            let mut gradient = layout.part(gradient, entry);
            if decay != 0.0 {
                gradient = gradient + layout.part(mean, entry).mul_scalar(decay);
            }
            let gradient = gradient.reshape([m, n]);
            let average = |gram: &Option<Tensor<2>>, half: Tensor<2>| {
                let square = |half: Tensor<2>| half.clone().matmul(half.transpose());
                gram.clone().map(|gram| {
                    gram.mul_scalar(self.decay) + square(half).mul_scalar(1.0 - self.decay)
                })
            };
            let [left, right] = sides;
            [
                average(left, gradient.clone()),
                average(right, gradient.transpose()),
            ]
        };
        Self {
            sides: self.sides.iter().enumerate().map(of).collect(),
            ..*self
        }
    }

    /// The basis after step `step`, where it is another than before: a side that has one is
    /// refreshed every few steps, a side that has none gets one as soon as its average is not 0.
    pub fn refreshed(&self, layout: &Layout, basis: &Basis, step: u64) -> Option<Refreshed> {
        let due = step.is_multiple_of(self.basis_interval);
        let asked: Vec<Side> = self
            .sides
            .iter()
            .zip(&basis.rotations)
            .enumerate()
            .flat_map(|(entry, (grams, rotation))| sides(entry, grams, rotation))
            .filter(|side| due || side.vectors.is_none())
            .collect();
        if asked.is_empty() {
            return None;
        }
        let mut read = read(&asked).into_iter();
        let mut refreshed = Refreshed {
            basis: basis.clone(),
            turns: Basis::identity(layout),
        };
        let mut any = false;
        for side in asked {
            let gram = numbers(read.next());
            let old = side.vectors.is_some().then(|| numbers(read.next()));
            let bucket = &layout.buckets[layout.entries[side.entry].bucket];
            let Some((new, turn)) = turned(&gram, old, bucket.state_type) else {
                continue;
            };
            let place = |rotations: &mut Vec<Rotation>, matrix: Vec<f64>| {
                let rotation = &mut rotations[side.entry];
                let matrix = square_tensor(matrix, bucket);
                match side.right {
                    true => rotation.right = Some(matrix),
                    false => rotation.left = Some(matrix),
                }
            };
            place(&mut refreshed.basis.rotations, new);
            place(&mut refreshed.turns.rotations, turn);
            any = true;
        }
        any.then_some(refreshed)
    }

    /// The sides of each matrix that is turned, by path.
    pub fn saved(&self, layout: &Layout, basis: &Basis) -> BTreeMap<String, SideStates> {
        let entries = layout.entries.iter().zip(&self.sides);
        entries
            .zip(&basis.rotations)
            .map(|((entry, [left, right]), rotation)| {
                let states = [
                    side_state(left.as_ref(), rotation.left.as_ref()),
                    side_state(right.as_ref(), rotation.right.as_ref()),
                ];
                (entry.path.clone(), states)
            })
            .filter(|(_, states)| states.iter().any(Option::is_some))
            .collect()
    }

    /// The basis and the averages that were saved.
    ///
    /// # Errors
    /// If a side is missing, is not turned here, or cannot be.
    pub fn restored(
        &self,
        layout: &Layout,
        saved: &BTreeMap<String, SideStates>,
    ) -> Result<(Basis, Self), IvonError> {
        if let Some(path) = self.foreign_side(layout, saved) {
            return Err(IvonError::UnknownParameter { path });
        }
        let (mut basis, mut grams) = (Basis::identity(layout), self.clone());
        for (place, entry) in layout.entries.iter().enumerate() {
            let rotation = &mut basis.rotations[place];
            let vectors = [&mut rotation.left, &mut rotation.right];
            let bucket = &layout.buckets[entry.bucket];
            for (side, vectors) in vectors.into_iter().enumerate() {
                let Some(gram) = &mut grams.sides[place][side] else {
                    continue;
                };
                let states = saved.get(&entry.path);
                let state = states.and_then(|states| states[side].as_ref());
                let state = state.ok_or_else(|| IvonError::StateMissing {
                    path: gram_name(&entry.path, side),
                })?;
                state.check(SIDES[side], gram.dims()[0], entry, bucket)?;
                *gram = square_tensor(state.gram.iter().collect(), bucket);
                let saved = state.vectors.as_ref();
                *vectors = saved.map(|values| square_tensor(values.iter().collect(), bucket));
            }
        }
        Ok((basis, grams))
    }

    /// The name of a saved side that is turned in no parameter here.
    fn foreign_side(
        &self,
        layout: &Layout,
        saved: &BTreeMap<String, SideStates>,
    ) -> Option<String> {
        let turned = |path: &str, side: usize| {
            let entries = layout.entries.iter().zip(&self.sides);
            let mut of_path = entries.filter(|(entry, _)| entry.path == path);
            of_path.any(|(_, sides)| sides[side].is_some())
        };
        let sides = saved.iter().flat_map(|(path, states)| {
            let there = (0..2).filter(|&side| states[side].is_some());
            there.map(move |side| (path, side))
        });
        let mut foreign = sides.filter(|(path, side)| !turned(path, *side));
        foreign.next().map(|(path, side)| gram_name(path, side))
    }
}

fn gram_name(path: &str, side: usize) -> String {
    format!("{path}.{}_gram", SIDES[side])
}

/// What is saved of a side; none where it is not turned.
fn side_state(gram: Option<&Tensor<2>>, vectors: Option<&Tensor<2>>) -> Option<SideState> {
    let read = |matrix: &Tensor<2>| Values::read(flatten(matrix.clone()));
    gram.map(|gram| SideState {
        width: gram.dims()[0],
        gram: read(gram),
        vectors: vectors.map(read),
    })
}

/// A side that is turned.
struct Side {
    entry: usize,
    right: bool,
    gram: Tensor<2>,
    /// Its vectors, once there are any.
    vectors: Option<Tensor<2>>,
}

/// The average of each side and, where there are any, its vectors, read from the device at once.
fn read(sides: &[Side]) -> Vec<TensorData> {
    let register = |reading: Transaction, side: &Side| {
        let reading = reading.register(side.gram.clone());
        match &side.vectors {
            Some(vectors) => reading.register(vectors.clone()),
            None => reading,
        }
    };
    sides
        .iter()
        .fold(Transaction::default(), register)
        .execute()
}

fn sides(
    entry: usize,
    grams: &SideGrams,
    rotation: &Rotation,
) -> impl Iterator<Item = Side> + use<> {
    let [left, right] = grams.clone();
    let side = |right: bool, gram: Option<Tensor<2>>, vectors: &Option<Tensor<2>>| {
        let vectors = vectors.clone();
        gram.map(|gram| Side {
            entry,
            right,
            gram,
            vectors,
        })
    };
    [
        side(false, left, &rotation.left),
        side(true, right, &rotation.right),
    ]
    .into_iter()
    .flatten()
}

/// New vectors from the average and the vectors so far, and Q_newᵀ Q_old; none while the average is
/// 0.
fn turned(gram: &[f64], old: Option<Vec<f64>>, kind: DType) -> Option<(Vec<f64>, Vec<f64>)> {
    let n = gram.len().isqrt();
    // Rounding on the device may leave the halves a little different.
    let gram: Vec<f64> = (0..n * n)
        .map(|at| 0.5 * (gram[at] + gram[at % n * n + at / n]))
        .collect();
    let mut new = match &old {
        Some(old) => power_step(&gram, old, n),
        None if gram.iter().all(|&value| value == 0.0) => return None,
        None => sorted_eigenvectors(gram, n),
    };
    // As they will be kept, so that the turn leads from what was kept to what is.
    if kind != DType::F64 {
        new.iter_mut()
            .for_each(|value| *value = f64::from(*value as f32));
    }
    let turn = match &old {
        Some(old) => transposed_product(&new, old, n),
        // Q_newᵀ 1.
        None => (0..n * n).map(|at| new[at % n * n + at / n]).collect(),
    };
    Some((new, turn))
}

fn numbers(data: Option<TensorData>) -> Vec<f64> {
    data.map_or_else(Vec::new, |data| data.iter::<f64>().collect())
}

/// Numbers `[n²]` of the host as a matrix of the bucket.
fn square_tensor(values: Vec<f64>, bucket: &Bucket) -> Tensor<2> {
    let n = values.len().isqrt();
    Tensor::from_data(
        TensorData::new(values, [n, n]),
        (&bucket.device, bucket.state_type),
    )
}
