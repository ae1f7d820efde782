//! Settings that nobody gave, from what is known before the first step.
//!
//! The published recipe belongs to runs of 10,000 steps: in a short one its updates, clipped to
//! one size, lead nowhere, and its Hessian does not move. The rule takes the average of squared
//! gradients as Hessian, which has moved after the first batch, and normalises updates by it, so
//! that the learning rate alone says how far a weight goes. How it was found and what it does on
//! tasks that it was not found on: docs/defaults.md.

use ivon::MeanUpdate;

use super::config::{HessianEstimate, IvonMethodConfig, Recipe};
use crate::method::settings::Setup;

/// The size of a step, before the schedule, in a run of at most [`STEPS`] steps: twice that is worse in
/// runs of 40 steps, too.
const STEP: f64 = 2e-3;
/// The steps of the longest run in which it is that.
const STEPS: f64 = 200.0;
/// The power of the number of steps by which steps become shorter in longer runs: half at 1,000.
const POWER: f64 = 0.43;
/// σ₀ as a share of A's initial spread.
const SPREAD: f64 = 0.5;
/// The effective sample size, by which curvature counts beside σ₀.
const EXAMPLES: f64 = 1e7;

/// The settings with nothing left open, and a line for each that was chosen, with its reason.
/// `spread` is the standard deviation of A's entries at their start.
pub(super) fn chosen(
    given: &IvonMethodConfig,
    setup: &Setup,
    spread: f64,
) -> (IvonMethodConfig, Vec<String>) {
    let mut chosen = given.clone();
    let mut reasons = Vec::new();
    if given.recipe == Recipe::Paper || given.frozen_hessian {
        fill(&mut chosen, &IvonMethodConfig::paper());
        return (chosen, reasons);
    }
    choose_update(&mut chosen, &mut reasons);
    if chosen.update == Some(MeanUpdate::Newton) {
        // The sizes below are those of normalised steps.
        fill(&mut chosen, &IvonMethodConfig::paper());
        return (chosen, reasons);
    }
    choose_learning_rate(&mut chosen, setup.steps, &mut reasons);
    choose_spread(&mut chosen, spread, &mut reasons);
    (chosen, reasons)
}

/// Takes from `recipe` whatever is open.
fn fill(settings: &mut IvonMethodConfig, recipe: &IvonMethodConfig) {
    settings.learning_rate = settings.learning_rate.or(recipe.learning_rate);
    if settings.posterior_sd.is_none() {
        settings.ess = settings.ess.or(recipe.ess);
    }
    settings.hess_init = settings.hess_init.or(recipe.hess_init);
    settings.beta2 = settings.beta2.or(recipe.beta2);
    settings.update = settings.update.or(recipe.update);
    settings.hess_approx = settings.hess_approx.or(recipe.hess_approx);
}

/// Normalised by the average of squared gradients, unless another estimate or update is asked for.
fn choose_update(settings: &mut IvonMethodConfig, reasons: &mut Vec<String>) {
    let by_fisher = matches!(settings.hess_approx, None | Some(HessianEstimate::Fisher));
    if settings.update.is_none() {
        settings.update = Some(match by_fisher && settings.clip_radius > 0.0 {
            true => MeanUpdate::Normalized,
            false => MeanUpdate::Newton,
        });
    }
    if settings.update == Some(MeanUpdate::Newton) {
        return;
    }
    let both = settings.hess_approx.is_none() && settings.beta2.is_none();
    settings.hess_approx = Some(HessianEstimate::Fisher);
    let beta2 = *settings.beta2.get_or_insert(0.999);
    if both {
        reasons.push(format!(
            "update normalized, hess_approx fisher, beta2 {beta2}: curvature from the squared \
             gradients of all steps, which is there after the first, and steps of a size that no \
             loss changes"
        ));
    }
}

fn choose_learning_rate(settings: &mut IvonMethodConfig, steps: u64, reasons: &mut Vec<String>) {
    if settings.learning_rate.is_some() {
        return;
    }
    let step = step_size(steps);
    let rate = step / settings.clip_radius;
    settings.learning_rate = Some(rate);
    reasons.push(format!(
        "learning_rate {rate:.3}: with clip_radius {} a weight with a steady gradient moves {step:.1e} \
         a step, {:.2} in {steps} steps at a linear schedule",
        settings.clip_radius,
        step * steps as f64 / 2.0
    ));
}

/// The size of a step of a run so long.
fn step_size(steps: u64) -> f64 {
    STEP * (STEPS / steps.max(1) as f64).min(1.0).powf(POWER)
}

/// h₀ and ess so that σ₀ is `posterior_sd`, or else a share of A's spread.
fn choose_spread(settings: &mut IvonMethodConfig, spread: f64, reasons: &mut Vec<String>) {
    let deviation = settings.posterior_sd.unwrap_or(SPREAD * spread);
    let precision = 1.0 / (deviation * deviation);
    let ess = settings.ess.unwrap_or(EXAMPLES);
    let is_given =
        settings.posterior_sd.is_some() || (settings.hess_init.is_some() && settings.ess.is_some());
    if settings.hess_init.is_none() {
        // A strong prior alone may give more precision than that.
        let least = 1e-3 * precision / ess;
        settings.hess_init = Some((precision / ess - settings.weight_decay).max(least));
        if settings.posterior_sd.is_none() {
            settings.ess = Some(ess);
        }
    } else if settings.posterior_sd.is_none() && settings.ess.is_none() {
        settings.ess = Some(precision / (settings.initial_hessian() + settings.weight_decay));
    }
    if !is_given {
        reasons.push(format!(
            "posterior_sd {deviation:.2e}: {SPREAD} of A's initial spread of {spread:.2e}, where no \
             gradient has shown any curvature (ess {:.1e}, hess_init {:.1e})",
            settings.effective_sample_size(),
            settings.initial_hessian()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(steps: u64) -> Setup {
        Setup {
            seed: 0,
            steps,
            steps_per_epoch: 50,
            batch_size: 4,
            accumulation: 1,
            examples: 200,
            dropout: 0.1,
            weight_of_squares: 1.0,
        }
    }

    fn by_rule(given: IvonMethodConfig) -> (IvonMethodConfig, Vec<String>) {
        chosen(&given, &setup(200), 0.024)
    }

    #[test]
    fn without_settings_steps_and_spread_follow_from_the_run() {
        let (chosen, reasons) = by_rule(IvonMethodConfig::default());
        assert_eq!(chosen.update, Some(MeanUpdate::Normalized));
        assert_eq!(chosen.hess_approx, Some(HessianEstimate::Fisher));
        assert!((chosen.rate() - 2.0).abs() < 1e-12);
        assert!((chosen.initial_sd() - 0.012).abs() < 1e-12);
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert_eq!(step_size(10), STEP);
        assert!((step_size(1000) / STEP - 0.5).abs() < 1e-3);
    }

    #[test]
    fn what_is_given_stays_and_the_rest_agrees_with_it() {
        let (chosen, reasons) = by_rule(IvonMethodConfig {
            learning_rate: Some(0.1),
            posterior_sd: Some(0.03),
            hess_init: Some(1e-3),
            beta2: Some(0.99),
            ..IvonMethodConfig::default()
        });
        assert_eq!((chosen.rate(), chosen.hessian_decay()), (0.1, 0.99));
        assert!((chosen.initial_sd() - 0.03).abs() < 1e-12);
        assert_eq!(chosen.initial_hessian(), 1e-3);
        assert!(reasons.is_empty(), "{reasons:?}");
        let (ess, _) = by_rule(IvonMethodConfig {
            ess: Some(1e6),
            ..IvonMethodConfig::default()
        });
        assert_eq!(ess.ess, Some(1e6));
        assert!((ess.initial_sd() - 0.012).abs() < 1e-12);
    }

    #[test]
    fn the_paper_s_recipe_another_update_and_a_frozen_hessian_are_left_to_the_paper() {
        let paper = IvonMethodConfig {
            recipe: Recipe::Paper,
            ..IvonMethodConfig::default()
        };
        assert_eq!(by_rule(paper).0, IvonMethodConfig::paper());
        let price = IvonMethodConfig {
            hess_approx: Some(HessianEstimate::Price),
            ..IvonMethodConfig::default()
        };
        assert_eq!(by_rule(price).0.update, Some(MeanUpdate::Newton));
        let frozen = IvonMethodConfig {
            frozen_hessian: true,
            ..IvonMethodConfig::default()
        };
        assert_eq!(by_rule(frozen).0.rate(), 0.03);
    }

    #[test]
    fn chosen_settings_are_valid_and_choosing_again_changes_nothing() {
        use crate::method::Settings;
        for steps in [1, 40, 200, 10_000] {
            let (once, _) = chosen(&IvonMethodConfig::default(), &setup(steps), 0.009);
            once.validate().unwrap();
            let (twice, reasons) = chosen(&once, &setup(7), 0.1);
            assert_eq!(twice, once);
            assert!(reasons.is_empty() && once.open_settings().is_empty());
        }
    }
}
