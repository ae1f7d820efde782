//! The records of a run → findings: what was wrong with it, and what to change.

use ivon_lora::metrics::{Finding, Severity};
use ivon_lora::sentence::{Sentence, sentence, setting};
use ivon_lora::watch::{EvaluationRecord, Record, StepRecord};

/// The settings of a run that findings depend on; each absent if the optimizer has no such setting.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunSettings {
    /// σ₀ = 1/√(ess·(h₀ + δ)), the posterior's standard deviation at the start.
    pub initial_sd: Option<f64>,
    /// The standard deviation of A at the start, 1/√(3·in).
    pub spread_of_a: Option<f64>,
    /// β₂.
    pub beta2: Option<f64>,
}

/// All findings of a run, the most severe first.
pub fn findings(records: &[Record], settings: &RunSettings) -> Vec<Finding> {
    let mut steps = Vec::new();
    let mut evaluations = Vec::new();
    for record in records {
        match record {
            Record::Step(step) => steps.push(step),
            Record::Evaluation(evaluation) => evaluations.push(evaluation),
        }
    }
    // Findings that follow from diverged weights explain nothing, and their remedies would mislead.
    if let Some(found) = ran_away(&steps) {
        return [not_finite(&steps), Some(found)]
            .into_iter()
            .flatten()
            .collect();
    }
    let mut found: Vec<Finding> = [
        not_finite(&steps),
        clipped(&steps),
        loss_not_falling(&steps),
        gradient_vanished(&steps),
        b_at_rest(&steps),
        spread(settings),
        hessian_at_rest(&steps, settings),
        past_the_best(&evaluations),
        samples_worse(&evaluations),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn finding(severity: Severity, what: String, remedy: impl Into<Sentence>) -> Option<Finding> {
    Some(Finding {
        severity,
        what,
        remedy: remedy.into(),
    })
}

fn not_finite(steps: &[&StepRecord]) -> Option<Finding> {
    let bad = |step: &&&StepRecord| {
        ![step.loss, step.gradient_norm, step.update_rms]
            .iter()
            .all(|value| value.is_finite())
    };
    let step = steps.iter().find(bad)?;
    let what = if step.loss.is_finite() {
        "gradient or update"
    } else {
        "loss"
    };
    finding(
        Severity::Problem,
        format!("the {what} is not finite at step {}", step.step),
        "lower the learning rate, or clip the gradient's norm; with IVON a \
             larger ess also narrows the draws",
    )
}

/// A norm of B that means divergence: B starts at 0, and the entries of W are below 1.
const FAR: f64 = 1e3;

fn ran_away(steps: &[&StepRecord]) -> Option<Finding> {
    // NaN counts as far.
    let step = steps
        .iter()
        .find(|step| step.norm_b.is_nan() || step.norm_b > FAR)?;
    let last = steps.last()?;
    let what = format!(
        "the weights ran away: the norm of B is {:.1e} after step {}, and \
             the loss {:.1e} at the end",
        step.norm_b, step.step, last.loss
    );
    finding(
        Severity::Problem,
        what,
        "start anew with a learning rate that is lower by a factor of ten or more",
    )
}

fn clipped(steps: &[&StepRecord]) -> Option<Finding> {
    let share = median(
        steps
            .iter()
            .skip(steps.len() / 2)
            .filter_map(|step| step.clipped_share),
    )?;
    let what = format!(
        "{} of updates are clipped, so that a step's size is the learning \
             rate times clip_radius",
        percent(share)
    );
    match share {
        0.9.. => finding(
            Severity::Warning,
            what,
            "raise the learning rate (or clip_radius): gradients give only the sign now",
        ),
        _ => None,
    }
}

/// Compares the first and the last fifth of the steps, by the standard error of their difference.
fn loss_not_falling(steps: &[&StepRecord]) -> Option<Finding> {
    let part = steps.len() / 5;
    if part < 4 {
        return None;
    }
    let losses = |steps: &[&StepRecord]| {
        mean_and_error(&steps.iter().map(|step| step.loss).collect::<Vec<_>>())
    };
    let ((first, first_error), (last, last_error)) =
        (losses(&steps[..part]), losses(&steps[steps.len() - part..]));
    let margin = 2.0 * first_error.hypot(last_error);
    if last > first + margin {
        let what = format!("the loss rose from {first:.3} to {last:.3}");
        return finding(
            Severity::Problem,
            what,
            "lower the learning rate; with IVON also narrow the draws by a larger ess",
        );
    }
    if last > first - margin {
        let what = format!(
            "the loss has not fallen: {first:.3} in the first fifth of the \
                 steps, {last:.3} in the last (± {margin:.3})"
        );
        return finding(
            Severity::Warning,
            what,
            "raise the learning rate or train for more steps, and look at `data preview`",
        );
    }
    None
}

/// Below this loss, nats, the training rows are memorised.
const LEARNED: f64 = 0.1;

fn gradient_vanished(steps: &[&StepRecord]) -> Option<Finding> {
    let part = steps.len().div_ceil(5);
    let norm = |steps: &[&StepRecord]| median(steps.iter().map(|step| step.gradient_norm));
    let (first, last) = (
        norm(steps.get(..part)?)?,
        norm(steps.get(steps.len() - part..)?)?,
    );
    if last > 1e-3 * first {
        return None;
    }
    let what = format!(
        "the gradient has vanished: its norm fell from {first:.2e} to \
         {last:.2e}"
    );
    let loss = median(steps[steps.len() - part..].iter().map(|step| step.loss))?;
    if loss > LEARNED {
        let what = format!("{what}, and the loss is {loss:.3}: answers are certain, and wrong");
        return finding(
            Severity::Problem,
            what,
            "lower the learning rate: the weights have gone too far for a \
                 gradient to bring them back",
        );
    }
    finding(
        Severity::Warning,
        what,
        "the training rows are learned by heart: stop earlier, or train on more rows",
    )
}

fn b_at_rest(steps: &[&StepRecord]) -> Option<Finding> {
    let last = steps.last()?;
    if last.norm_b != 0.0 {
        return None;
    }
    finding(
        Severity::Problem,
        format!(
            "B is still 0 after step {}: the model is the base",
            last.step
        ),
        "raise the learning rate",
    )
}

fn spread(settings: &RunSettings) -> Option<Finding> {
    let (sd, spread) = (settings.initial_sd?, settings.spread_of_a?);
    let ratio = sd / spread;
    let what = format!(
        "a weight's posterior standard deviation starts at {sd:.2e}, \
             {ratio:.2} times the spread of A ({spread:.2e})"
    );
    if ratio > 1.0 {
        return finding(
            Severity::Warning,
            what,
            sentence!(
                "the draws drown the adapter: raise ess, or name the spread with {}",
                setting("posterior_sd")
            ),
        );
    }
    if ratio < 0.1 {
        return finding(
            Severity::Note,
            what,
            sentence!(
                "samples will hardly differ from the mean: lower ess, name the \
                     spread with {}, or predict with a larger {}",
                setting("posterior_sd"),
                setting("scale")
            ),
        );
    }
    None
}

fn hessian_at_rest(steps: &[&StepRecord], settings: &RunSettings) -> Option<Finding> {
    let last = steps
        .iter()
        .rev()
        .find(|step| step.hessian_ratio.is_some())?;
    let [low, middle, high] = last.hessian_ratio?;
    if [low, high].iter().any(|ratio| (ratio - 1.0).abs() > 0.1) {
        return None;
    }
    let way = settings
        .beta2
        .map(|beta2| 1.0 - beta2.powf(last.step as f64));
    let moved = way.map_or_else(String::new, |way| {
        format!(
            "h moved {} of the way in {} steps: ",
            percent(way),
            last.step
        )
    });
    let what = format!(
        "{moved}h is {middle:.3} times h₀ (90 % of weights: {low:.3} to \
             {high:.3}), so the spread is set by ess·h₀"
    );
    finding(
        Severity::Note,
        what,
        sentence!(
            "choose the spread with {} or the scale; a smaller beta2 lets h \
                 follow the data",
            setting("posterior_sd")
        ),
    )
}

fn past_the_best(evaluations: &[&EvaluationRecord]) -> Option<Finding> {
    let nll = |record: &&EvaluationRecord| record.evaluation.mean.nll;
    let (best, last) = (
        evaluations
            .iter()
            .min_by(|a, b| nll(a).total_cmp(&nll(b)))?,
        evaluations.last()?,
    );
    if best.step == last.step || nll(last) <= 1.05 * nll(best) {
        return None;
    }
    let what = format!(
        "NLL on {} was best at step {} ({:.3}) and ends at {:.3}",
        last.evaluation.split,
        best.step,
        nll(best),
        nll(last)
    );
    finding(
        Severity::Warning,
        what,
        "stop earlier, keep the best checkpoint, or lower the learning rate",
    )
}

fn samples_worse(evaluations: &[&EvaluationRecord]) -> Option<Finding> {
    let last = &evaluations.last()?.evaluation;
    let (mean, sampled) = (last.mean.nll, last.sampled?);
    if sampled.scores.nll <= mean {
        return None;
    }
    let what = format!(
        "averaging {} draws is worse than the mean: NLL {:.3} against {mean:.3}",
        sampled.samples, sampled.scores.nll
    );
    finding(
        Severity::Note,
        what,
        sentence!(
            "predict with a smaller {}, or at the mean; sampling helps only \
                 where the mean is overconfident",
            setting("scale")
        ),
    )
}

/// `98 %`, `0.4 %`.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 10.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Mean and standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ivon_lora::metrics::MainScores;
    use ivon_lora::watch::{Evaluation, SampledScores};

    /// A run whose loss falls from 1 to 0.5, changed step by step.
    fn run(change: impl Fn(&mut StepRecord)) -> Vec<Record> {
        (1..=100)
            .map(|step| {
                let loss = 1.0 - step as f64 / 200.0;
                let mut record = StepRecord {
                    step,
                    loss,
                    gradient_norm: 1.0,
                    update_rms: 1e-4,
                    norm_b: 0.1,
                    ..StepRecord::default()
                };
                change(&mut record);
                Record::Step(record)
            })
            .collect()
    }

    fn evaluation(step: u64, nll: f64, sampled: Option<f64>) -> Record {
        let scores = |nll| MainScores {
            accuracy: 0.5,
            nll,
            ece: 0.1,
            brier: 0.5,
        };
        let sampled = sampled.map(|nll| SampledScores {
            samples: 10,
            scores: scores(nll),
        });
        Record::Evaluation(EvaluationRecord {
            step,
            evaluation: Evaluation {
                split: "tune".into(),
                n: 4,
                mean: scores(nll),
                sampled,
            },
        })
    }

    fn only(records: &[Record], settings: RunSettings) -> Finding {
        let found = findings(records, &settings);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    #[test]
    fn a_good_run_has_no_findings() {
        let settings = RunSettings {
            initial_sd: Some(0.01),
            spread_of_a: Some(0.024),
            beta2: Some(0.99999),
        };
        let records = run(|step| {
            step.clipped_share = Some(0.3);
            step.hessian_ratio = Some([0.5, 1.0, 3.0]);
        });
        assert_eq!(findings(&records, &settings), []);
        assert_eq!(findings(&[], &RunSettings::default()), []);
    }

    #[test]
    fn clipped_updates_ask_for_a_larger_learning_rate() {
        let found = only(
            &run(|step| step.clipped_share = Some(0.98)),
            RunSettings::default(),
        );
        assert!(
            found.what.starts_with("98 % of updates are clipped")
                && found
                    .remedy
                    .to_string()
                    .starts_with("raise the learning rate")
        );
    }

    #[test]
    fn a_hessian_at_rest_says_what_sets_the_spread() {
        let settings = RunSettings {
            beta2: Some(0.99999),
            ..RunSettings::default()
        };
        let found = only(
            &run(|step| step.hessian_ratio = Some([0.99, 1.0, 1.02])),
            settings,
        );
        assert!(
            found
                .what
                .starts_with("h moved 0.1 % of the way in 100 steps: h is 1.000 times h₀"),
            "{}",
            found.what
        );
        assert!(found.what.ends_with("the spread is set by ess·h₀"));
    }

    #[test]
    fn losses_that_rise_or_stay_are_told_apart_from_those_that_fall() {
        let rose = only(
            &run(|step| step.loss = step.step as f64 / 10.0),
            RunSettings::default(),
        );
        assert_eq!(rose.severity, Severity::Problem);
        assert!(
            rose.what.starts_with("the loss rose from 1.050 to 9.050"),
            "{}",
            rose.what
        );
        let flat = only(
            &run(|step| step.loss = 0.7 + 0.1 * (step.step % 2) as f64),
            RunSettings::default(),
        );
        assert!(
            flat.what
                .starts_with("the loss has not fallen: 0.750 in the first fifth"),
            "{}",
            flat.what
        );
    }

    #[test]
    fn what_is_not_finite_comes_first_and_names_its_step() {
        let records = run(|step| {
            step.clipped_share = Some(1.0);
            if step.step == 7 {
                step.gradient_norm = f64::NAN;
            }
        });
        let found = findings(&records, &RunSettings::default());
        assert_eq!(
            found[0].what,
            "the gradient or update is not finite at step 7"
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn vanished_gradients_and_a_b_at_rest_are_seen() {
        let by_heart = run(|step| {
            let left = (-(step.step as f64) / 5.0).exp();
            (step.gradient_norm, step.loss) = (left, left);
        });
        let vanished = only(&by_heart, RunSettings::default());
        assert!(
            vanished
                .remedy
                .to_string()
                .starts_with("the training rows are learned by heart"),
            "{vanished:?}"
        );
        let wrong = only(
            &run(|step| step.gradient_norm = (-(step.step as f64) / 5.0).exp()),
            RunSettings::default(),
        );
        assert!(
            wrong.what.ends_with("answers are certain, and wrong")
                && wrong.remedy.to_string().starts_with("lower"),
            "{wrong:?}"
        );
        let rest = only(&run(|step| step.norm_b = 0.0), RunSettings::default());
        assert_eq!(
            rest.what,
            "B is still 0 after step 100: the model is the base"
        );
    }

    #[test]
    fn weights_that_ran_away_are_all_that_is_said() {
        // As with a learning rate of 1e30: every other finding would be a consequence of it.
        let records = run(|step| {
            (
                step.norm_b,
                step.loss,
                step.gradient_norm,
                step.clipped_share,
            ) = (3e30, 2e30, 0.0, Some(1.0));
        });
        let settings = RunSettings {
            initial_sd: Some(0.1),
            spread_of_a: Some(0.024),
            beta2: Some(0.99999),
        };
        let found = only(&records, settings);
        assert_eq!(
            found.what,
            "the weights ran away: the norm of B is 3.0e30 after step 1, and the loss 2.0e30 at the end"
        );
        assert!(
            found.remedy.contains("lower by a factor of ten"),
            "{found:?}"
        );
    }

    #[test]
    fn the_spread_is_held_against_that_of_a() {
        let settings = |sd| RunSettings {
            initial_sd: Some(sd),
            spread_of_a: Some(0.024),
            beta2: None,
        };
        assert!(
            only(&run(|_| ()), settings(0.048))
                .what
                .contains("2.00 times the spread of A")
        );
        assert!(
            only(&run(|_| ()), settings(0.0003))
                .remedy
                .to_string()
                .starts_with("samples will hardly differ")
        );
    }

    #[test]
    fn evaluations_tell_of_overfitting_and_of_draws_that_do_not_help() {
        let past = only(
            &[evaluation(10, 0.5, None), evaluation(20, 0.8, None)],
            RunSettings::default(),
        );
        assert_eq!(
            past.what,
            "NLL on tune was best at step 10 (0.500) and ends at 0.800"
        );
        let worse = only(&[evaluation(10, 0.5, Some(0.6))], RunSettings::default());
        assert_eq!(
            worse.what,
            "averaging 10 draws is worse than the mean: NLL 0.600 against 0.500"
        );
        assert_eq!(
            findings(&[evaluation(10, 0.5, Some(0.4))], &RunSettings::default()),
            []
        );
    }
}
