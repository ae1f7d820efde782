//! The training of a method's members, one after the other: each is a training of its own on the
//! same frozen base.

use std::path::{Path, PathBuf};

use super::{Members, Settings, Setup};
use crate::files;
use crate::lora::Adapter;
use crate::posterior::Posterior;
use crate::ranks::Team;
use crate::train::{
    CHECKPOINTS_FOLDER, Checkpoints, Outcome, TrainError, Training, TrainingEnd, training_loop,
};
use crate::watch::{Event, Watch};

/// The folder in a run's folder of the members after the first.
const MEMBERS_FOLDER: &str = "members";

/// The seed of a member; the first has the run's. Members of runs with seeds below 2³² never share
/// one.
fn member_seed(seed: u64, member: usize) -> u64 {
    seed.wrapping_add((member as u64) << 32)
}

/// Trains all members of a method. Gives each of them, and how the training ended: with the first
/// member's steps and the outcome of the last that ran. After an interruption the last one is
/// unfinished and the rest are missing. `start` gives the adapter that the member of a seed begins
/// with; `watch` hears which member an event is of. With `resume`, an interrupted training goes on at
/// the member and the step that it had reached.
///
/// # Errors
/// As [`training_loop`], and those of [`Settings::start`].
pub fn train_members(
    settings: &dyn Settings,
    training: &Training<'_>,
    start: &dyn Fn(u64) -> Result<Adapter, TrainError>,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(Members, TrainingEnd), TrainError> {
    let training = MemberTraining {
        settings,
        training,
        start,
        resume,
    };
    let (first, mut end) = training.run(0, watch)?;
    let mut members = Members::new(first);
    for member in 1..settings.members() {
        if end.outcome == Outcome::Interrupted {
            break;
        }
        let (posterior, last) = training.run(member, watch)?;
        members.push(posterior);
        end.outcome = last.outcome;
    }
    Ok((members, end))
}

/// What the trainings of all members have in common.
struct MemberTraining<'a> {
    settings: &'a dyn Settings,
    training: &'a Training<'a>,
    start: &'a dyn Fn(u64) -> Result<Adapter, TrainError>,
    resume: bool,
}

impl MemberTraining<'_> {
    /// Trains one member.
    fn run(
        &self,
        member: usize,
        watch: Watch<'_>,
    ) -> Result<(Box<dyn Posterior>, TrainingEnd), TrainError> {
        let Training {
            config,
            goal,
            dropout,
            ..
        } = *self.training;
        let seed = member_seed(self.training.seed, member);
        let folder = member_folder(self.training.folder, member);
        if self.training.team.is_none_or(Team::writes) {
            files::create_folder(&folder)?;
        }
        let setup = Setup {
            examples: goal.predictions(),
            weight_of_squares: goal.weight_of_squares(),
            ..Setup::new(config, goal.examples(), dropout, seed)
        };
        let mut optimizer = self.settings.start((self.start)(seed)?, &setup)?;
        let checkpoints = folder.join(CHECKPOINTS_FOLDER);
        let checkpoints = Checkpoints::new(checkpoints, config.keep_checkpoints);
        let resume = self.resume && (member == 0 || checkpoints.newest().is_some());
        let own = Training {
            seed,
            folder: &folder,
            ..*self.training
        };
        if member > 0 {
            watch(Event::Member(member + 1, self.settings.members()));
        }
        let end = training_loop(&own, optimizer.as_mut(), resume, watch)?;
        Ok((optimizer.posterior(), end))
    }
}

/// The folder of a member; the first has the run's.
pub fn member_folder(run: &Path, member: usize) -> PathBuf {
    if member == 0 {
        run.into()
    } else {
        run.join(MEMBERS_FOLDER).join((member + 1).to_string())
    }
}
