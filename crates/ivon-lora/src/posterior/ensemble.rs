//! An ensemble (Lakshminarayanan et al., arXiv 1612.01474): several adapters of one base, each of
//! them a draw.

use burn::tensor::Device;

use super::noise::check_scale;
use super::weights::{check_parameters, only_kept};
use super::{Draw, Posterior, PosteriorError, Spread, Stored, StoredKind};
use crate::lora::Adapter;
use crate::model::DecoderConfig;

const CONTENT: &str = "members";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "an ensemble: each member is a draw, and the first of them is shown here",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Ensemble::from_stored(
            mean, stored, decoder, device,
        )?))
    },
};
/// The most members of a file.
const MAX_MEMBERS: usize = 10_000;

/// Its members. A and B of separate runs have no useful mean, so the first member stands for all
/// where a single adapter is needed.
#[derive(Clone, Debug)]
pub struct Ensemble {
    first: Adapter,
    others: Vec<Adapter>,
}

impl Ensemble {
    /// The ensemble of these members.
    ///
    /// # Errors
    /// If a member has other parameters than the first.
    pub fn new(first: Adapter, others: Vec<Adapter>) -> Result<Self, PosteriorError> {
        others
            .iter()
            .try_for_each(|member| check_parameters("a member", &first, member))?;
        Ok(Self { first, others })
    }

    fn from_stored(
        first: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let count: usize = stored.number("members", "a whole number")?;
        if !(1..=MAX_MEMBERS).contains(&count) {
            return Err(stored.wrong("members", format!("from 1 to {MAX_MEMBERS}")));
        }
        let others = (1..count)
            .map(|member| stored.adapter(&prefix(member), &first.scaling, decoder, device))
            .collect::<Result<_, _>>()?;
        Self::new(first, others)
    }
}

/// The prefix of a member's matrices; the first member is in `adapter_model.safetensors`.
fn prefix(member: usize) -> String {
    format!("member.{member}.")
}

impl Posterior for Ensemble {
    /// Draw `sample` is member `sample`, counted modulo their number; at τ = 0 it is the first.
    fn draw(&self, sample: u64, _: u64, scale: f64) -> Result<Draw, PosteriorError> {
        check_scale(scale)?;
        let member = if scale == 0.0 {
            0
        } else {
            (sample % (self.others.len() as u64 + 1)) as usize
        };
        let adapter = member
            .checked_sub(1)
            .and_then(|place| self.others.get(place))
            .unwrap_or(&self.first);
        Ok(Draw::of(adapter.clone()))
    }

    fn mean(&self) -> &Adapter {
        &self.first
    }

    fn variance(&self) -> Option<&Adapter> {
        None
    }

    fn spread(&self) -> Spread {
        Spread::Members(self.others.len() + 1)
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let others = self
            .others
            .iter()
            .map(|member| only_kept(member, kept))
            .collect::<Result<_, _>>()?;
        Ok(Box::new(Self {
            first: only_kept(&self.first, kept)?,
            others,
        }))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let stored = Stored::new(CONTENT).with("members", self.others.len() + 1);
        let with = |stored: Stored, (place, member): (usize, &Adapter)| {
            stored.with_adapter(&prefix(place + 1), member)
        };
        self.others
            .iter()
            .enumerate()
            .try_fold(stored, with)
            .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::{adapter, decoder};

    fn moved(by: f64) -> Adapter {
        adapter(2, "q_proj").clone_with(|_, tensor| tensor + by)
    }

    #[test]
    fn each_member_is_a_draw_and_reads_back() {
        let members = Ensemble::new(moved(0.0), vec![moved(1.0), moved(2.0)]).unwrap();
        let stored = members.stored().unwrap().unwrap();
        let again =
            Ensemble::from_stored(moved(0.0), &stored, &decoder(2), &Device::flex()).unwrap();
        for sample in 0..6 {
            let expected = moved((sample % 3) as f64).flatten().unwrap();
            assert_eq!(
                members
                    .draw(sample, 9, 1.0)
                    .unwrap()
                    .adapter
                    .flatten()
                    .unwrap(),
                expected
            );
            assert_eq!(
                again
                    .draw(sample, 3, 0.5)
                    .unwrap()
                    .adapter
                    .flatten()
                    .unwrap(),
                expected
            );
        }
        assert_eq!(
            members.draw(2, 9, 0.0).unwrap().adapter.flatten().unwrap(),
            moved(0.0).flatten().unwrap()
        );
        assert_eq!(
            (
                members.spread(),
                members.spread().draws(10),
                members.spread().draws(2)
            ),
            (Spread::Members(3), 3, 2)
        );
    }

    #[test]
    fn members_must_be_alike_and_as_many_as_the_file_says() {
        let other = Ensemble::new(moved(0.0), vec![adapter(2, "v_proj")])
            .unwrap_err()
            .to_string();
        assert!(
            other.starts_with("a member has `layers.0.self_attn.v_proj.lora_A`"),
            "{other}"
        );
        let stored = Ensemble::new(moved(0.0), vec![moved(1.0)])
            .unwrap()
            .stored()
            .unwrap()
            .unwrap();
        let refused = |count: &str| {
            let stored = stored.clone().with("members", count);
            Ensemble::from_stored(moved(0.0), &stored, &decoder(2), &Device::flex())
                .unwrap_err()
                .to_string()
        };
        assert!(
            refused("0").contains("expected from 1 to 10000")
                && refused("x").contains("expected a whole number")
        );
        assert!(refused("3").starts_with("a member has nothing more"));
    }
}
