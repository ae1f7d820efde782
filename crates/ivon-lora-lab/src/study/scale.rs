//! The command `scale`: scores an adapter at values of τ from 0 to an end, and writes the τ that is best
//! on calibrate into the adapter.

use super::StudyError;
use super::scored::Scored;
use super::subject::{Subject, SubjectRequest};
use crate::report::{SCALE_FILE, ScaleChoice, ScalePoint, ScaleReport, ScaleTrials, prefixes};
use ivon_lora::answer::ExampleSet;
use ivon_lora::bundle::write_scale;
use ivon_lora::files;
use ivon_lora::metrics::BINS;
use ivon_lora::posterior::Spread;
use ivon_lora::predict::EvaluationOptions;
use ivon_lora::settings::SettingError;
use ivon_lora::watch::{Event, Progress, Stage, Watch};

/// The inputs of `scale`.
#[derive(Clone, Debug)]
pub struct ScaleRequest {
    /// Adapter, base, rows.
    pub subject: SubjectRequest,
    /// The largest τ, above 0.
    pub end: f64,
    /// The number of values of τ from 0 to the end, at least 2.
    pub points: usize,
    /// Whether the chosen τ is written into the adapter.
    pub write: bool,
}

/// Scores an adapter at each τ. The result for a run is kept in the run's folder.
///
/// # Errors
/// Whatever is wrong with base, adapter or rows; if the adapter is a point estimate; with `write`, if
/// there are no rows to choose on.
pub fn scale(request: &ScaleRequest, watch: Watch<'_>) -> Result<ScaleReport, StudyError> {
    let subject = Subject::open(&request.subject, watch)?;
    let options = *subject.answerer.options();
    check_draws(&subject)?;
    if request.write && subject.calibrate.is_none() {
        return Err(StudyError::NothingToChooseOn);
    }
    let scales = request.scales();
    let mut sweep = Sweep {
        subject: &subject,
        scales: &scales,
        watch,
    };
    let choice = match &subject.calibrate {
        None => None,
        Some(set) => sweep.choice(set)?,
    };
    let set = &subject.scored;
    let prefixes = prefixes(options.samples);
    let points = sweep.points(set, Stage::Scales, &prefixes, &mut |_, _| ())?;
    let report = ScaleReport {
        split: set.name.clone(),
        n: set.len(),
        bins: BINS,
        seed: options.seed,
        points,
        choice,
    };
    if let Some(choice) = report.choice.as_ref().filter(|_| request.write) {
        write_choice(&subject, choice, watch)?;
    }
    if let Some(run) = &subject.run {
        let path = run.join(SCALE_FILE);
        files::write_json(&path, &report)?;
        watch(Event::Saved(&path));
    }
    Ok(report)
}

impl ScaleRequest {
    /// The values of τ.
    fn scales(&self) -> Vec<f64> {
        let last = self.points.max(2) - 1;
        (0..=last)
            .map(|point| self.end * point as f64 / last as f64)
            .collect()
    }
}

/// Checks that the adapter has draws.
fn check_draws(subject: &Subject) -> Result<(), StudyError> {
    if subject.answerer.options().samples > 0 {
        return Ok(());
    }
    Err(match subject.answerer.bundle().posterior.spread() {
        Spread::None => StudyError::NoPosterior {
            adapter: subject.adapter.clone(),
        },
        _ => StudyError::Setting(SettingError::new("samples", "`0`", "at least 1")),
    })
}

/// Writes the chosen τ into the adapter's folder.
fn write_choice(
    subject: &Subject,
    choice: &ScaleChoice,
    watch: Watch<'_>,
) -> Result<(), StudyError> {
    if let Some(reason) = &choice.refused {
        return Err(StudyError::TooLittleToChooseOn {
            split: choice.split.clone(),
            reason: reason.clone(),
        });
    }
    let samples = subject.answerer.options().samples;
    for path in write_scale(&subject.adapter, choice.scale, samples)? {
        watch(Event::Saved(&path));
    }
    Ok(())
}

/// A sweep over the scales.
struct Sweep<'a> {
    subject: &'a Subject,
    scales: &'a [f64],
    watch: Watch<'a>,
}

impl Sweep<'_> {
    /// The choice of τ on these rows.
    fn choice(&mut self, set: &ExampleSet) -> Result<Option<ScaleChoice>, StudyError> {
        let options = *self.subject.answerer.options();
        let (mut losses, mut ground) = (Vec::new(), None);
        let points = self.points(
            set,
            Stage::ChoosingOnCalibrate,
            &[options.samples],
            &mut |_, scored| {
                losses.push(scored.losses.clone());
                // Wrong answers are those of the mean, which is the first.
                ground.get_or_insert(scored.ground);
            },
        )?;
        let Some(ground) = ground else {
            return Ok(None);
        };
        Ok(ScaleChoice::new(ScaleTrials {
            split: set.name.clone(),
            points,
            losses,
            ground,
            default: options.scale,
        }))
    }

    /// The scores at each scale with each number of draws; `see` is called with the scores for the last of
    /// these numbers.
    fn points(
        &mut self,
        set: &ExampleSet,
        what: Stage,
        prefixes: &[usize],
        see: &mut dyn FnMut(f64, &Scored),
    ) -> Result<Vec<ScalePoint>, StudyError> {
        let answerer = &self.subject.answerer;
        let own = *answerer.options();
        let total = set.len() * (1 + self.passes() * (self.scales.len() - 1));
        let mut progress = Progress::new(what, total, &mut *self.watch);
        let mut found = Vec::new();
        for &scale in self.scales {
            // At 0 every draw is the mean.
            let samples = if scale == 0.0 { 0 } else { own.samples };
            let options = EvaluationOptions {
                scale,
                samples,
                ..own
            };
            let scored = Scored::under_first(prefixes, answerer, set, &options, &mut progress)?;
            for (&prefix, scored) in prefixes.iter().zip(&scored) {
                found.push(ScalePoint {
                    scale,
                    samples: prefix,
                    scores: scored.scores,
                });
            }
            if let Some(last) = scored.last() {
                see(scale, last);
            }
        }
        Ok(found)
    }

    /// How often each row is run at one scale.
    fn passes(&self) -> usize {
        let answerer = &self.subject.answerer;
        let samples = answerer.options().samples;
        match answerer.task().is_text() {
            true => samples,
            // And at the mean.
            false => samples + 1,
        }
    }
}
