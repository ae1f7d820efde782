//! A method's training from its first to its last member: each is a run of its own on the same
//! frozen base.

use std::path::{Path, PathBuf};

use super::{Settings, Setup};
use crate::files;
use crate::lora::Adapter;
use crate::posterior::Posterior;
use crate::train::TrainError;
use crate::train::{self, CHECKPOINTS_FOLDER, Checkpoints, Outcome, Trained, Training};
use crate::watch::{Event, Watch};

/// The folder of the members after the first, in a run's folder.
const MEMBERS_FOLDER: &str = "members";

/// The seed of a member: the first has the run's own; those of runs with seeds below 2³² never
/// meet.
fn member_seed(seed: u64, member: usize) -> u64 {
    seed.wrapping_add((member as u64) << 32)
}

/// Trains all members of a method and gives what each can be drawn from, with how the training
/// ended: the first member's steps, and the outcome of the last that ran. `start` gives the adapter
/// that a member begins with, by its seed; `watch` hears which member an event is of. An
/// interrupted training is taken up by `resume` at the member and the step where it stood.
///
/// # Errors
/// As [`train::train`], and those of [`Settings::start`].
pub fn train_members(
    settings: &dyn Settings,
    training: &Training<'_>,
    start: &dyn Fn(u64) -> Result<Adapter, TrainError>,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(Vec<Box<dyn Posterior>>, Trained), TrainError> {
    let mut posteriors = Vec::new();
    let mut ended: Option<Trained> = None;
    for member in 0..settings.members().max(1) {
        let seed = member_seed(training.seed, member);
        let folder = member_folder(training.folder, member);
        files::create_folder(&folder)?;
        let setup = Setup::new(
            training.config,
            training.goal.examples(),
            training.dropout,
            seed,
        );
        let mut optimizer = settings.start(start(seed)?, &setup)?;
        let checkpoints = Checkpoints::new(
            folder.join(CHECKPOINTS_FOLDER),
            training.config.keep_checkpoints,
        );
        let resume = resume && (member == 0 || checkpoints.newest().is_some());
        let own = Training {
            seed,
            folder: &folder,
            ..*training
        };
        if member > 0 {
            watch(Event::Member(member + 1, settings.members()));
        }
        let trained = train::train(&own, optimizer.as_mut(), resume, watch)?;
        ended = Some(Trained {
            outcome: trained.outcome,
            ..ended.unwrap_or(trained)
        });
        if trained.outcome == Outcome::Interrupted {
            break;
        }
        posteriors.push(optimizer.posterior());
    }
    let ended = ended.ok_or_else(|| TrainError::Optimizer {
        reason: "nothing was trained".into(),
    })?;
    Ok((posteriors, ended))
}

/// The folder of a member in a run's folder: the first has the run's own.
pub fn member_folder(run: &Path, member: usize) -> PathBuf {
    if member == 0 {
        run.into()
    } else {
        run.join(MEMBERS_FOLDER).join((member + 1).to_string())
    }
}
