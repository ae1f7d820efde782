//! Which sides of a matrix get a basis of their own: the settings of EVON.

use serde::{Deserialize, Serialize};

/// An eigenbasis for the posterior of each matrix: EVON (arXiv 2606.23357), which is IVON's
/// diagonal update in the eigenbasis of SOAP's factors.
///
/// A matrix M `[m, n]` has the coordinates C = Q_Lᵀ M Q_R, with Q_L and Q_R the eigenvectors of
/// running averages of ḡ ḡᵀ and ḡᵀ ḡ. In C the posterior is diagonal, so in M it is not: where
/// directions of steep and of flat loss lie across the weights, the covariance follows them.
///
/// A side that is not turned has Q = 1. So have parameters that are no matrices: their update is
/// IVON's.
///
/// Where this differs from the published code, and why:
/// - When Q changes, momentum and Hessian are turned into the new basis. There they are left, so that
///   numbers of one basis are read in another. With R = Q_newᵀ Q_old on each side the momentum becomes
///   R_L g R_Rᵀ, the same matrix in the new basis; the Hessian, diagonal in the old basis alone,
///   becomes the diagonal that it has in the new one, (R_L ∘ R_L) h (R_R ∘ R_R)ᵀ.
/// - The averages are of the gradient of the loss and the prior, ḡ + δ m, which is 0 on average at
///   the optimum. There they are of the loss's alone, which is −δ m at the optimum: with few draws of
///   a whole data set that turns the basis towards the mean, away from the curvature.
/// - The first step is taken, in the weights' own coordinates; there it only makes Q. A side gets its
///   Q with the first gradient that is not 0: while an adapter's B is 0 and without noise, A has none.
/// - A step is not whitened by Newton and Schulz's iteration, as it is there unless told otherwise:
///   the step is IVON's, whose fixed point is known.
/// - Nothing is added to h + δ in the denominator: the update rule keeps it positive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EigenbasisConfig {
    /// Which sides of a matrix are turned, [`Sides::Both`].
    pub sides: Sides,
    /// The widest side that is turned, 64. A side of width w costs w² numbers twice over, w² n
    /// multiplications a step, and about w³ on the host for each refresh.
    pub widest_side: usize,
    /// Steps from one refresh of the vectors to the next, 10. At least 1.
    pub basis_interval: u64,
    /// The decay of the averages of ḡ ḡᵀ and ḡᵀ ḡ, in [0, 1); β₂ where there is none. Neither is
    /// ever 1: nothing would be learned of the basis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gram_decay: Option<f64>,
}

/// Which sides of a matrix `[m, n]` are turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sides {
    /// Its rows: Q_L `[m, m]`.
    Left,
    /// Its columns: Q_R `[n, n]`.
    Right,
    /// Both, each where it is not too wide.
    #[default]
    Both,
    /// The narrower of those that can be turned, the left one where they are equally wide: for an
    /// adapter's A `[r, in]` and B `[out, r]` the side of the rank.
    Smaller,
}

impl Default for EigenbasisConfig {
    fn default() -> Self {
        Self {
            sides: Sides::default(),
            widest_side: 64,
            basis_interval: 10,
            gram_decay: None,
        }
    }
}

impl EigenbasisConfig {
    /// The widths of the sides of a parameter that are turned, left and right. A side of width 1
    /// has nothing to turn.
    pub(crate) fn turned(&self, shape: &[usize]) -> [Option<usize>; 2] {
        let &[m, n] = shape else { return [None; 2] };
        let can = |width: usize| (2..=self.widest_side).contains(&width).then_some(width);
        let [left, right] = [can(m), can(n)];
        match self.sides {
            Sides::Left => [left, None],
            Sides::Right => [None, right],
            Sides::Both => [left, right],
            Sides::Smaller => match (left, right) {
                (Some(m), Some(n)) if n < m => [None, right],
                (Some(_), _) => [left, None],
                (None, _) => [None, right],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_turned_if_it_is_asked_for_and_neither_one_wide_nor_too_wide() {
        let turned = |sides, shape: &[usize]| {
            let config = EigenbasisConfig {
                sides,
                widest_side: 8,
                ..EigenbasisConfig::default()
            };
            config.turned(shape)
        };
        assert_eq!(turned(Sides::Both, &[4, 8]), [Some(4), Some(8)]);
        assert_eq!(turned(Sides::Both, &[1, 9]), [None, None]);
        assert_eq!(turned(Sides::Left, &[4, 8]), [Some(4), None]);
        assert_eq!(turned(Sides::Right, &[4, 8]), [None, Some(8)]);
        assert_eq!(turned(Sides::Smaller, &[4, 8]), [Some(4), None]);
        assert_eq!(turned(Sides::Smaller, &[8, 4]), [None, Some(4)]);
        assert_eq!(turned(Sides::Smaller, &[4, 4]), [Some(4), None]);
        assert_eq!(turned(Sides::Smaller, &[1, 4]), [None, Some(4)]);
        assert_eq!(turned(Sides::Smaller, &[100, 4]), [None, Some(4)]);
        for shape in [&[][..], &[4], &[2, 2, 2]] {
            assert_eq!(turned(Sides::Both, shape), [None, None]);
        }
    }
}
