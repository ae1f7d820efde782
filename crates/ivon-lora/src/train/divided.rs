//! The objective of a step that several ranks take together: each evaluates a part of the step's
//! examples, and losses and gradients are summed in one list of numbers.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use super::{Evidence, Objective, OwnPart, TrainError};
use crate::lora::Adapter;
use crate::ranks::Team;

/// A part of a step's examples, and the ranks that have the other parts. Its only micro-batch are the
/// examples of all ranks.
pub struct DividedObjective<'a> {
    /// The own part; without a micro-batch where there are fewer examples than ranks.
    own: Box<dyn Objective + 'a>,
    /// The weight of the own part: its number of examples, or the weights of its tokens.
    weight: f64,
    team: &'a Team<'a>,
    /// The number of the first own micro-batch among those of the step, and how many these are, if the
    /// part consists of whole ones.
    whole: Option<[u64; 2]>,
}

impl<'a> DividedObjective<'a> {
    /// The objective whose own part is `own`, of this weight.
    pub fn new(
        own: Box<dyn Objective + 'a>,
        weight: f64,
        team: &'a Team<'a>,
        whole: Option<[u64; 2]>,
    ) -> Self {
        Self {
            own,
            weight,
            team,
            whole,
        }
    }

    /// Loss and gradients of the own part times its weight.
    fn own_sums(&mut self, adapter: &Adapter, draw: u64) -> Result<Sums, TrainError> {
        let mut sums = Sums::new(adapter);
        for micro_batch in 0..self.own.micro_batches() {
            let weight = self.own.share(micro_batch) * self.weight;
            let evidence = self.own.evaluate(adapter, micro_batch, draw)?;
            sums.add(adapter, evidence, weight)?;
        }
        Ok(sums)
    }
}

impl Objective for DividedObjective<'_> {
    fn micro_batches(&self) -> usize {
        1
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    /// Of the own part.
    fn tokens(&self) -> usize {
        self.own.tokens()
    }

    fn evaluate(&mut self, adapter: &Adapter, _: usize, draw: u64) -> Result<Evidence, TrainError> {
        let own = self.own_sums(adapter, draw);
        let (mut sums, error) = match own {
            Ok(sums) => (sums, None),
            Err(error) => (Sums::new(adapter), Some(error)),
        };
        let summed = self.team.sum_step(&mut sums.0, error.is_some());
        match error {
            Some(error) => Err(error),
            None => {
                summed?;
                sums.evidence(adapter)
            }
        }
    }

    fn own_part(&mut self) -> Option<OwnPart<'_>> {
        let [first, of] = self.whole?;
        Some(OwnPart {
            objective: self.own.as_mut(),
            weight: self.weight,
            first,
            of,
            team: self.team,
        })
    }
}

/// Sums over micro-batches, each times its weight: the weights, the losses, for each parameter how often
/// it had a gradient, and the gradients end to end.
struct Sums(Vec<f32>);

/// Weight and loss.
const SCALARS: usize = 2;

impl Sums {
    /// Of no micro-batch.
    fn new(adapter: &Adapter) -> Self {
        let elements: usize = adapter.parameters().map(|(_, one)| length(one)).sum();
        Self(vec![0.0; SCALARS + adapter.parameters().count() + elements])
    }

    /// Adds a micro-batch.
    fn add(
        &mut self,
        adapter: &Adapter,
        mut evidence: Evidence,
        weight: f64,
    ) -> Result<(), TrainError> {
        let (scalars, rest) = self.0.split_at_mut(SCALARS);
        scalars[0] += weight as f32;
        scalars[1] += (weight * evidence.loss) as f32;
        let (present, mut gradients) = rest.split_at_mut(adapter.parameters().count());
        for ((_, parameter), present) in adapter.parameters().zip(present) {
            let (sums, after) = gradients.split_at_mut(length(parameter));
            gradients = after;
            let Some(gradient) = evidence.gradients.remove::<2>(parameter.id) else {
                continue;
            };
            *present += 1.0;
            let gradient = gradient.into_data().try_to_vec::<f32>();
            let gradient = gradient.map_err(|error| TrainError::Device {
                reason: error.to_string(),
            })?;
            let pairs = sums.iter_mut().zip(gradient);
            pairs.for_each(|(sum, value)| *sum += weight as f32 * value);
        }
        Ok(())
    }

    /// The weighted means: the mean loss of all ranks' examples, and its gradients.
    fn evidence(self, adapter: &Adapter) -> Result<Evidence, TrainError> {
        let (scalars, rest) = self.0.split_at(SCALARS);
        let weight = f64::from(scalars[0]);
        if weight <= 0.0 {
            return Err(TrainError::Optimizer {
                reason: "the step has no examples".into(),
            });
        }
        let (present, mut gradients) = rest.split_at(adapter.parameters().count());
        let mut found = GradientsParams::new();
        for ((_, parameter), present) in adapter.parameters().zip(present) {
            let (sums, after) = gradients.split_at(length(parameter));
            gradients = after;
            if *present > 0.0 {
                let mean = |sum: &f32| (f64::from(*sum) / weight) as f32;
                let values: Vec<f32> = sums.iter().map(mean).collect();
                let like = parameter.val().inner();
                let data = TensorData::new(values, like.dims());
                found.register(parameter.id, Tensor::<2>::from_data(data, &like.device()));
            }
        }
        Ok(Evidence {
            loss: f64::from(scalars[1]) / weight,
            gradients: found,
        })
    }
}

/// The number of a parameter's elements.
fn length(parameter: &Param<Tensor<2>>) -> usize {
    parameter.val().dims().iter().product()
}
