//! The command `prune`: sets weights of an adapter to zero by |m|/σ; scores it at each share, and
//! writes the pruned adapter.

use std::path::PathBuf;

use super::StudyError;
use super::scored::Scored;
use super::subject::{Subject, SubjectRequest};
use crate::report::{PRUNE_FILE, PrunePoint, PruneReport};
use ivon_lora::bundle::Bundle;
use ivon_lora::files;
use ivon_lora::lora::{Adapter, Draw};
use ivon_lora::metrics::BINS;
use ivon_lora::posterior::{Posterior, only_kept};
use ivon_lora::settings::SettingError;
use ivon_lora::watch::{Event, Progress, Stage, Watch};

/// The inputs of `prune`.
#[derive(Clone, Debug)]
pub struct PruneRequest {
    /// Adapter, base, rows.
    pub subject: SubjectRequest,
    /// The number of shares from none to all, at least 2.
    pub points: usize,
    /// The share of the adapter to write, from 0 to 1, and its folder.
    pub write: Option<(f64, PathBuf)>,
}

/// Scores an adapter at each share of pruned weights, and writes one of them. The result for a run is
/// kept in the run's folder.
///
/// # Errors
/// Whatever is wrong with base, adapter, rows or a file; a point estimate, which has no σ.
pub fn prune(request: &PruneRequest, watch: Watch<'_>) -> Result<PruneReport, StudyError> {
    let subject = Subject::open(&request.subject, watch)?;
    let answerer = &subject.answerer;
    let posterior = answerer.bundle().posterior.as_ref();
    if posterior.variance().is_none() {
        return Err(StudyError::NoPosterior {
            adapter: subject.adapter,
        });
    }
    if posterior.mean().has_magnitudes() {
        let expected =
            "`false`: without its magnitude a row of the base is gone, not only unadapted";
        return Err(SettingError::new("use_dora", "`true` in the adapter", expected).into());
    }
    let mut tables = posterior.mean().tables();
    if let Some(table) = tables.find(|table| table.whole().is_some()) {
        let expected = "an adapter without: a weight of 0 is not the base's";
        let found = format!("`{}` in the adapter", table.table.name());
        return Err(SettingError::new("modules_to_save", found, expected).into());
    }
    let order = pruning_order(posterior)?;
    let report = PruneReport {
        split: subject.scored.name.clone(),
        n: subject.scored.len(),
        bins: BINS,
        weights: order.len(),
        points: points(&subject, &order, request.points.max(2) - 1, watch)?,
    };
    if let Some((share, out)) = &request.write {
        Bundle {
            base_name: Some(answerer.base().record.name.clone()),
            ..answerer.bundle().pruned(&kept(&order, *share), *share)?
        }
        .write(out, None)?;
        watch(Event::Saved(out));
    }
    if let Some(run) = &subject.run {
        let path = run.join(PRUNE_FILE);
        files::write_json(&path, &report)?;
        watch(Event::Saved(&path));
    }
    Ok(report)
}

/// The scores of the rows at the shares 0, 1/last, …, 1.
fn points(
    subject: &Subject,
    order: &[usize],
    last: usize,
    watch: Watch<'_>,
) -> Result<Vec<PrunePoint>, StudyError> {
    let (answerer, set) = (&subject.answerer, &subject.scored);
    let mean = answerer.bundle().posterior.mean();
    let mut progress = Progress::new(Stage::Shares, (last + 1) * set.len(), watch);
    let mut points = Vec::new();
    for point in 0..=last {
        let share = point as f64 / last as f64;
        let draw = Draw::of(only_kept(mean, &kept(order, share))?);
        points.push(PrunePoint {
            share,
            scores: Scored::under(draw, answerer, set, &mut progress)?.scores,
        });
    }
    Ok(points)
}

/// The places of all weights in [`Adapter::flatten`], the one with the smallest |m|/σ first; those with
/// σ = 0 are last, unless m = 0. Weights that tie stay in order.
fn pruning_order(posterior: &dyn Posterior) -> Result<Vec<usize>, StudyError> {
    let variance = posterior
        .variance()
        .map_or_else(|| Ok(Vec::new()), Adapter::flatten)?;
    let ratio = |(mean, variance): (f32, f32)| match mean {
        0.0 => 0.0,
        mean => f64::from(mean.abs()) / f64::from(variance).sqrt(),
    };
    let ratios: Vec<f64> = posterior
        .mean()
        .flatten()?
        .into_iter()
        .zip(variance)
        .map(ratio)
        .collect();
    let mut order: Vec<usize> = (0..ratios.len()).collect();
    order.sort_by(|&a, &b| ratios[a].total_cmp(&ratios[b]));
    Ok(order)
}

/// Which weights are kept if the first `share` of an order is set to zero.
fn kept(order: &[usize], share: f64) -> Vec<bool> {
    let mut is_kept = vec![true; order.len()];
    let count = (share * order.len() as f64).round() as usize;
    order
        .iter()
        .take(count)
        .for_each(|&place| is_kept[place] = false);
    is_kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use ivon_lora::posterior::Gaussian;
    use ivon_lora::testing::tiny::adapter;

    #[test]
    fn the_weights_that_the_posterior_is_least_sure_of_go_first() {
        let mean = adapter(1, "q_proj");
        let values = mean.flatten().unwrap();
        // All of one σ: the order is that of |m|.
        let flat = Gaussian::new(
            mean.clone(),
            mean.clone_with(|_, tensor| tensor * 0.0 + 0.25),
        )
        .unwrap();
        let order = pruning_order(&flat).unwrap();
        let pruned = |order: &[usize], share| only_kept(&mean, &kept(order, share));
        assert!(
            order
                .windows(2)
                .all(|pair| values[pair[0]].abs() <= values[pair[1]].abs())
        );
        let half = pruned(&order, 0.5).unwrap().flatten().unwrap();
        assert_eq!(
            half.iter().filter(|value| **value == 0.0).count(),
            order.len() / 2
        );
        let largest_pruned = order[..order.len() / 2]
            .iter()
            .map(|&place| values[place].abs())
            .fold(0.0, f32::max);
        assert!(
            half.iter()
                .zip(&values)
                .all(|(now, before)| *now == 0.0
                    || (now == before && before.abs() >= largest_pruned))
        );
        assert_eq!(pruned(&order, 0.0).unwrap().flatten().unwrap(), values);
        assert!(
            pruned(&order, 1.0)
                .unwrap()
                .flatten()
                .unwrap()
                .iter()
                .all(|value| *value == 0.0)
        );
        // σ proportional to |m| but for A, whose σ is ten times that: A goes before B.
        let wide = mean.clone_with(|path, tensor| {
            tensor.square() * if path.ends_with("lora_A") { 100.0 } else { 1.0 }
        });
        let order = pruning_order(&Gaussian::new(mean.clone(), wide).unwrap()).unwrap();
        let of_a = 4 * 32;
        assert!(order[..of_a].iter().all(|&place| place < of_a));
    }
}
