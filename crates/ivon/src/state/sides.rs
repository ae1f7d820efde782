//! What an eigenbasis knows of the sides of a matrix: tensors `PATH.left_gram`, `PATH.left_basis`
//! `[w, w]`, and the same of the right side.

use safetensors::tensor::SafeTensors;

use super::Values;
use crate::IvonError;
use crate::basis::check_orthogonal;
use crate::layout::{Bucket, Entry};

/// What is known of a side of width w that is turned.
#[derive(Clone, Debug, PartialEq)]
pub struct SideState {
    /// w.
    pub width: usize,
    /// The average of ḡ ḡᵀ (left) or ḡᵀ ḡ (right), `[w²]`.
    pub gram: Values,
    /// The basis, a vector in each column, `[w²]`; none before there was a gradient.
    pub vectors: Option<Values>,
}

/// Those of one parameter, left and right; none for a side that is not turned.
pub type SideStates = [Option<SideState>; 2];

/// The sides of a matrix by name.
pub(crate) const SIDES: [&str; 2] = ["left", "right"];

/// The path that a tensor of a side belongs to.
pub(super) fn owner(name: &str) -> Option<&str> {
    let (path, part) = name.rsplit_once('.')?;
    let (side, what) = part.split_once('_')?;
    (SIDES.contains(&side) && ["gram", "basis"].contains(&what)).then_some(path)
}

impl SideState {
    /// Its tensors as `[w, w]` in a file, by the end of their names.
    pub(super) fn tensors(&self, side: &str) -> Vec<(String, &Values)> {
        let vectors = self.vectors.as_ref();
        let vectors = vectors.map(|vectors| (format!("{side}_basis"), vectors));
        std::iter::once((format!("{side}_gram"), &self.gram))
            .chain(vectors)
            .collect()
    }

    /// Reads the side of the parameter at `path`; none where the file has none.
    pub(super) fn parse(
        path: &str,
        side: &str,
        tensors: &SafeTensors<'_>,
    ) -> Result<Option<Self>, IvonError> {
        let [gram, vectors] =
            ["gram", "basis"].map(|what| tensors.tensor(&format!("{path}.{side}_{what}")).ok());
        let Some(gram) = gram else {
            return match vectors {
                Some(_) => Err(IvonError::StateMissing {
                    path: format!("{path}.{side}_gram"),
                }),
                None => Ok(None),
            };
        };
        let width = gram.shape().first().copied().unwrap_or(0);
        let found = [Some(&gram), vectors.as_ref()].into_iter().flatten();
        for view in found {
            if view.shape() != [width; 2] {
                return Err(IvonError::StateShape {
                    path: format!("{path}.{side}_gram"),
                    expected: vec![width; 2],
                    found: view.shape().to_vec(),
                });
            }
        }
        let vectors = vectors.map(|view| Values::parse(path, &view));
        Ok(Some(Self {
            width,
            gram: Values::parse(path, &gram)?,
            vectors: vectors.transpose()?,
        }))
    }

    /// Whether this can be the state of a side of `entry` of this width.
    pub(crate) fn check(
        &self,
        side: &'static str,
        width: usize,
        entry: &Entry,
        bucket: &Bucket,
    ) -> Result<(), IvonError> {
        let path = format!("{}.{side}_gram", entry.path);
        self.check_layout(&self.gram, &path, width, bucket)?;
        if let Some(found) = self.gram.iter().find(|value| !value.is_finite()) {
            return Err(IvonError::StateValue {
                what: "gram matrix",
                path,
                found,
                expected: "finite numbers",
            });
        }
        let Some(vectors) = &self.vectors else {
            return Ok(());
        };
        self.check_layout(vectors, &path, width, bucket)?;
        check_orthogonal(&entry.path, side, &vectors.iter().collect::<Vec<_>>())
    }

    /// The values must be those of a matrix `[width²]` in the number type of the bucket.
    fn check_layout(
        &self,
        values: &Values,
        path: &str,
        width: usize,
        bucket: &Bucket,
    ) -> Result<(), IvonError> {
        if self.width != width || values.len() != width * width {
            return Err(IvonError::StateShape {
                path: path.into(),
                expected: vec![width; 2],
                found: vec![self.width; 2],
            });
        }
        let expected = bucket.state_name();
        if values.type_name() != expected {
            return Err(IvonError::StateType {
                path: path.into(),
                expected,
                found: values.type_name().into(),
            });
        }
        Ok(())
    }
}
