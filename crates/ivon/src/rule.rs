//! The update rule as pure functions of tensors; everything else in this crate is bookkeeping.
//!
//! Source: Shen et al., "Variational Learning is Effective for Large Deep Networks" (arXiv
//! 2402.17641), Algorithm 1. N is the effective sample size, δ the weight decay, h the Hessian, g
//! the momentum, m the mean, t the step counted from 1. All functions are elementwise and take any
//! rank: `[...]` in, `[...]` out.

use burn::tensor::Tensor;

/// Variance of the posterior: σ² = 1/(N (h + δ)).
pub fn variance<const D: usize>(
    hessian: Tensor<D>,
    effective_sample_size: f64,
    weight_decay: f64,
) -> Tensor<D> {
    plus(hessian, weight_decay)
        .mul_scalar(effective_sample_size)
        .recip()
}

/// New momentum: g ← β₁ g + (1 − β₁) ḡ, with ḡ the mean gradient over the draws.
pub fn momentum<const D: usize>(momentum: Tensor<D>, gradient: Tensor<D>, beta1: f64) -> Tensor<D> {
    momentum.mul_scalar(beta1) + gradient.mul_scalar(1.0 - beta1)
}

/// Price's estimate of the Hessian: ĥ = c̄ · (h + δ) · N, with c̄ the mean over the draws of ε · ĝ
/// and ε the noise that was added to the mean (z σ, not z).
pub fn price<const D: usize>(
    product: Tensor<D>,
    hessian: Tensor<D>,
    effective_sample_size: f64,
    weight_decay: f64,
) -> Tensor<D> {
    plus(hessian, weight_decay) * product.mul_scalar(effective_sample_size)
}

/// The squared-gradient estimate of the Hessian: ĥ = s̄ · N, with s̄ the mean over the draws of ĝ².
pub fn gradsq<const D: usize>(square: Tensor<D>, effective_sample_size: f64) -> Tensor<D> {
    square.mul_scalar(effective_sample_size)
}

/// The empirical Fisher estimate of the Hessian of a single example: ĥ = b · s̄, with s̄ the mean
/// over the draws of ĝ² and b the number of examples that ĝ averages: where the gradients of the
/// examples are independent with a mean near 0, E(ĝ²) is 1/b of that of one.
pub fn fisher<const D: usize>(square: Tensor<D>, examples: f64) -> Tensor<D> {
    square.mul_scalar(examples)
}

/// The weighted average of the estimates of steps 1 to t, that of step i with weight β₂ᵗ⁻ⁱ:
/// h ← h + w (ĥ − h), w = (1 − β₂)/(1 − β₂ᵗ). At t = 1 it is the first estimate.
pub fn average<const D: usize>(
    hessian: Tensor<D>,
    estimate: Tensor<D>,
    beta2: f64,
    step: u64,
) -> Tensor<D> {
    let weight = (1.0 - beta2) / (1.0 - beta2.powf(step as f64));
    hessian.mul_scalar(1.0 - weight) + estimate.mul_scalar(weight)
}

/// Direction of the normalised update: ρ (g/(1 − β₁ᵗ) + δ m)/√(s + ε²), with s = h/b the average of
/// the squared gradients, ρ the size of a step before the learning rate, and ε = 1e-8, as Adam's.
pub fn normalized<const D: usize>(
    gradient: Tensor<D>,
    hessian: Tensor<D>,
    examples: f64,
    radius: f64,
) -> Tensor<D> {
    gradient.mul_scalar(radius) / hessian.div_scalar(examples).add_scalar(1e-16).sqrt()
}

/// An estimate clipped to ± `limit` · |h|, elementwise.
pub fn limited<const D: usize>(estimate: Tensor<D>, hessian: Tensor<D>, limit: f64) -> Tensor<D> {
    let bound = hessian.abs().mul_scalar(limit);
    estimate.min_pair(bound.clone()).max_pair(-bound)
}

/// New Hessian from the old one and this step's estimate:
/// h ← β₂ h + (1 − β₂) ĥ + ½ (1 − β₂)² (h − ĥ)² / (h + δ).
///
/// Computed as h + (h + δ) (x + ½ x²) with x = (1 − β₂)(ĥ − h)/(h + δ), which is the same: h + δ is
/// multiplied by 1 + x + ½ x² ≥ ½ and stays positive, whatever the estimate.
pub fn hessian<const D: usize>(
    hessian: Tensor<D>,
    estimate: Tensor<D>,
    beta2: f64,
    weight_decay: f64,
) -> Tensor<D> {
    let precision = plus(hessian.clone(), weight_decay);
    let x = ((estimate - hessian.clone()) / precision.clone()).mul_scalar(1.0 - beta2);
    hessian + (x.clone().mul_scalar(0.5).add_scalar(1.0) * x) * precision
}

/// Direction of the mean's update, before clipping: (g/(1 − β₁ᵗ) + δ m)/(h + δ), with the *updated*
/// h. `debias` is 1 − β₁ᵗ, or 1 where debiasing is off.
pub fn direction<const D: usize>(
    mean: Tensor<D>,
    momentum: Tensor<D>,
    hessian: Tensor<D>,
    debias: f64,
    weight_decay: f64,
) -> Tensor<D> {
    gradient(mean, momentum, debias, weight_decay) / plus(hessian, weight_decay)
}

/// The gradient that the mean descends: g/(1 − β₁ᵗ) + δ m. `debias` is 1 − β₁ᵗ, or 1 where
/// debiasing is off.
pub fn gradient<const D: usize>(
    mean: Tensor<D>,
    momentum: Tensor<D>,
    debias: f64,
    weight_decay: f64,
) -> Tensor<D> {
    let gradient = if debias == 1.0 {
        momentum
    } else {
        momentum.div_scalar(debias)
    };
    if weight_decay == 0.0 {
        gradient
    } else {
        gradient + mean.mul_scalar(weight_decay)
    }
}

/// New mean: m ← m − lr′ · clip(direction, ±clip radius). The caller clips, because it counts the
/// clipped elements.
pub fn mean<const D: usize>(
    mean: Tensor<D>,
    clipped_direction: Tensor<D>,
    learning_rate: f64,
) -> Tensor<D> {
    mean - clipped_direction.mul_scalar(learning_rate)
}

/// `tensor + number`, without a pass over the tensor where the number is 0 (as the weight decay of
/// adapters is).
pub(crate) fn plus<const D: usize>(tensor: Tensor<D>, number: f64) -> Tensor<D> {
    if number == 0.0 {
        tensor
    } else {
        tensor.add_scalar(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, TensorData};

    fn tensor(values: &[f64]) -> Tensor<1> {
        Tensor::from_data(TensorData::from(values), (&Device::flex(), DType::F64))
    }

    fn close(found: Tensor<1>, expected: &[f64]) {
        let found: Vec<f64> = found.into_data().try_into_vec().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn the_variance_is_the_inverse_of_the_scaled_precision() {
        close(variance(tensor(&[0.5, 1.5]), 10.0, 0.5), &[0.1, 0.05]);
    }

    #[test]
    fn the_momentum_is_a_moving_average() {
        close(
            momentum(tensor(&[1.0, 0.0]), tensor(&[3.0, -1.0]), 0.75),
            &[1.5, -0.25],
        );
    }

    #[test]
    fn the_hessian_agrees_with_its_formula_as_published() {
        let (beta2, decay) = (0.9, 0.1);
        let (h, estimate) = ([0.5, 2.0, 0.01], [3.0, -40.0, 100.0]);
        let expected: Vec<f64> = h
            .iter()
            .zip(estimate)
            .map(|(&h, e)| {
                beta2 * h
                    + (1.0 - beta2) * e
                    + 0.5 * (1.0 - beta2) * (1.0 - beta2) * (h - e) * (h - e) / (h + decay)
            })
            .collect();
        close(
            hessian(tensor(&h), tensor(&estimate), beta2, decay),
            &expected,
        );
    }

    #[test]
    fn an_estimate_is_clipped_to_a_multiple_of_the_hessian_on_both_sides() {
        let (estimate, hessian) = (
            tensor(&[5.0, -5.0, 1.5, -9.0]),
            tensor(&[1.0, 2.0, 1.0, -3.0]),
        );
        close(limited(estimate, hessian, 2.0), &[2.0, -4.0, 1.5, -6.0]);
    }

    #[test]
    fn the_precision_at_least_halves_whatever_the_estimate() {
        let estimates: Vec<f64> = (-200..200).map(|x| f64::from(x) * 0.5).collect();
        let new = hessian(
            Tensor::ones([400], (&Device::flex(), DType::F64)),
            tensor(&estimates),
            0.9,
            0.0,
        );
        let least = new.min().into_scalar::<f64>();
        assert!((least - 0.5).abs() < 1e-12, "{least}");
    }

    #[test]
    fn the_mean_moves_against_the_debiased_gradient_and_the_decayed_weight() {
        // (0.2/0.1 + 0.5·4)/(1.5 + 0.5) = 2
        let direction = direction(tensor(&[4.0]), tensor(&[0.2]), tensor(&[1.5]), 0.1, 0.5);
        close(direction.clone(), &[2.0]);
        close(mean(tensor(&[4.0]), direction, 0.25), &[3.5]);
    }
}
