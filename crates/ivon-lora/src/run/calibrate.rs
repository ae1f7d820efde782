//! What is chosen on *calibrate* after training: mean or samples, and the temperature of each; nothing
//! if there are too few rows to choose by.

use super::RunError;
use crate::answer::{AnswerRule, Temperatures, labels};
use crate::bundle::{Calibration, PredictWith};
use crate::data::Encoded;
use crate::metrics::{NoTemperature, Predictions, Temperature, fit_temperature, mean_of_draws};
use crate::predict::SetProbabilities;
use crate::watch::Event;

/// What was chosen, and notes and warnings about it.
pub(super) struct CalibrateChoice {
    pub rule: AnswerRule,
    pub events: Vec<Event<'static>>,
}

impl CalibrateChoice {
    /// Chooses by the predictions of labelled rows: samples if their NLL is lower by more than a
    /// standard error.
    ///
    /// # Errors
    /// If a row has no label or is not a distribution.
    pub fn on(examples: &[Encoded], evaluated: SetProbabilities) -> Result<Self, RunError> {
        let labels = labels(examples)?;
        let draws = evaluated.draws.len();
        let sampled = match draws {
            0 => None,
            _ => {
                let average = mean_of_draws(&evaluated.draws)?;
                Some(Predictions::new(average, labels.clone())?)
            }
        };
        let mean = Predictions::new(evaluated.mean, labels)?;
        let predict_with = PredictWith::preferred_by(&mean, sampled.as_ref());
        let fitted = fit(&mean, sampled.as_ref());
        let sampled = sampled.as_ref().zip(Some(draws));
        let note = Event::Note(sentence(&mean, sampled, &fitted, predict_with));
        let (temperatures, warning) = match fitted {
            Ok(fitted) => (Some(temperatures(mean.len(), fitted)), None),
            Err(reason) => (None, Some(no_temperature(&reason))),
        };
        let rule = AnswerRule {
            predict_with,
            temperatures,
        };
        let events = [note].into_iter().chain(warning).collect();
        Ok(Self { rule, events })
    }
}

/// What was found on calibrate, in a sentence.
fn sentence(
    mean: &Predictions,
    sampled: Option<(&Predictions, usize)>,
    fitted: &Result<(Temperature, Option<Temperature>), NoTemperature>,
    predict_with: PredictWith,
) -> String {
    let rows = mean.len();
    let mut said = format!("calibrate: {rows} rows, NLL {:.3} at the mean", mean.nll());
    let temperature = |of: &Temperature| {
        let [low, high] = of.interval;
        format!(", T = {:.2} ({low:.2} to {high:.2})", of.value)
    };
    if let Ok((at_mean, _)) = fitted {
        said += &temperature(at_mean);
    }
    let Some((sampled, draws)) = sampled else {
        return said;
    };
    said += &format!("; {:.3} with {draws} samples", sampled.nll());
    if let Ok((_, Some(of_samples))) = fitted {
        said += &temperature(of_samples);
    }
    said + match predict_with {
        PredictWith::Samples => "; answers come from the samples",
        PredictWith::Mean if sampled.nll() < mean.nll() => {
            "; answers come from the mean, since the rows cannot tell whether samples are better"
        }
        PredictWith::Mean => "; answers come from the mean",
    }
}

fn no_temperature(reason: &NoTemperature) -> Event<'static> {
    let warning = format!(
        "calibrate: no temperature is taken: {reason}; confidences stay as the model has them"
    );
    Event::Warning(warning.into())
}

/// The temperatures of mean and samples, with the evidence for them.
fn temperatures(
    rows: usize,
    (at_mean, of_samples): (Temperature, Option<Temperature>),
) -> Temperatures {
    Temperatures {
        mean: at_mean.value,
        samples: of_samples.as_ref().map_or(1.0, |found| found.value),
        calibration: Some(Calibration {
            rows,
            interval: at_mean.interval,
            interval_of_samples: of_samples.map(|found| found.interval),
        }),
    }
}

/// The temperatures of mean and samples, both or neither, so that confidences of the two are
/// comparable.
fn fit(
    mean: &Predictions,
    sampled: Option<&Predictions>,
) -> Result<(Temperature, Option<Temperature>), NoTemperature> {
    Ok((
        fit_temperature(mean)?,
        sampled.map(fit_temperature).transpose()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Choices, Target};
    use crate::metrics::log_softmax;

    /// Rows of which every `every`-th is wrong at the logit that `logit` gives it, at the mean and
    /// in one draw.
    fn calibrated(count: usize, every: usize, logits: [f64; 2]) -> (CalibrateChoice, Vec<String>) {
        let example = |row: usize| Encoded {
            id: row.to_string(),
            key: row as u64,
            tokens: vec![1],
            target: Target::Choice {
                choices: Choices::Tokens(vec![2, 3]),
                label: Some(usize::from(row % every == every - 1)),
            },
        };
        let examples: Vec<Encoded> = (0..count).map(example).collect();
        let rows = |logit: f64| vec![log_softmax(&[logit, 0.0], 1.0); count];
        let evaluated = SetProbabilities {
            mean: rows(logits[0]),
            draws: vec![rows(logits[1])],
            ..SetProbabilities::default()
        };
        let found = CalibrateChoice::on(&examples, evaluated).unwrap();
        let words = |event: &Event<'_>| match event {
            Event::Note(text) => format!("note: {text}"),
            Event::Warning(text) => format!("warning: {text}"),
            _ => String::new(),
        };
        let said = found.events.iter().map(words).collect();
        (found, said)
    }

    #[test]
    fn rows_without_a_mistake_choose_neither_a_temperature_nor_samples() {
        let (found, said) = calibrated(20, 100, [3.0, 4.0]);
        assert_eq!(
            (found.rule.predict_with, found.rule.temperatures),
            (PredictWith::Mean, None)
        );
        assert_eq!(
            said,
            [
                "note: calibrate: 20 rows, NLL 0.049 at the mean; 0.018 with 1 samples; answers come from the mean, since the rows cannot \
                 tell whether samples are better",
                "warning: calibrate: no temperature is taken: 20 rows with 0 wrong answers cannot carry a choice, expected at least 20 \
                 rows, and 5 right answers and 5 wrong ones among them; confidences stay as the model has them"
            ]
        );
    }

    #[test]
    fn samples_that_are_clearly_better_are_taken_and_both_temperatures_come_with_their_rows() {
        // A quarter is wrong: right at ln 3 = 1.1, far too sure at 6.
        let (found, said) = calibrated(400, 4, [6.0, 1.1]);
        assert_eq!(
            (found.rule.predict_with, said.len()),
            (PredictWith::Samples, 1)
        );
        let temperatures = found.rule.temperatures.unwrap();
        assert!(
            temperatures.mean > 3.0 && (temperatures.samples - 1.0).abs() < 0.1,
            "{temperatures:?}"
        );
        let calibration = temperatures.calibration.unwrap();
        assert_eq!(calibration.rows, 400);
        assert!(
            calibration.interval[0] < temperatures.mean
                && temperatures.mean < calibration.interval[1]
        );
        let sentence = temperatures.sentence();
        assert!(
            sentence.starts_with(
                "the temperatures rest on 400 rows of calibrate: 95 % interval of the mean's "
            ),
            "{sentence}"
        );
    }
}
