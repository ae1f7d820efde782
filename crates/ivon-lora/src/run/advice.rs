//! What the settings of an optimizer mean for a run, said before it starts (methods.md, end of
//! section 1).

use crate::method::Method;
use crate::model::DecoderConfig;
use crate::sentence::{sentence, setting};
use crate::train::{Length, TrainConfig};
use crate::watch::Event;

/// Below this share of A's own spread, draws are as good as the mean.
const NARROW: f64 = 0.1;
/// Above this share, draws drown A.
const WIDE: f64 = 1.25;
/// An entry of B must be able to come this far for B A to matter beside W, as a share of A's
/// spread.
const SHORT: f64 = 0.1;

/// The standard deviation of A's entries at their start, 1/√(3 · inputs), where the inputs are hidden
/// states.
pub(super) fn initial_spread(decoder: &DecoderConfig) -> f64 {
    1.0 / (3.0 * decoder.hidden_size as f64).sqrt()
}

/// Notes and warnings on these settings.
pub fn advice(
    method: &Method,
    config: &TrainConfig,
    length: Length,
    decoder: &DecoderConfig,
) -> Vec<Event<'static>> {
    let Some(ivon) = method.as_ivon() else {
        return Vec::new();
    };
    let spread = initial_spread(decoder);
    let initial = ivon.initial_sd();
    let rates: f64 = (0..length.steps)
        .map(|step| config.schedule.factor(step, length.steps, config.warmup))
        .sum();
    let rescaled = if ivon.rescale_lr {
        ivon.initial_hessian() + ivon.weight_decay
    } else {
        1.0
    };
    let farthest =
        (ivon.clip_radius > 0.0).then_some(ivon.rate() * rescaled * ivon.clip_radius * rates);
    let reach = farthest.map_or("without a limit".into(), |far| format!("at most {far:.2e}"));
    let hessian = match ivon.is_averaged() {
        true => "the Hessian is the average of all squared gradients".into(),
        false => {
            let moved = 1.0 - ivon.hessian_decay().powf(length.steps as f64);
            format!("the Hessian moves {:.2} % of its way", 100.0 * moved)
        }
    };
    let mut said = vec![Event::Note(format!(
        "posterior: σ₀ = {initial:.2e} beside A's initial spread {spread:.2e}; in {} steps a weight can move {reach}; {hessian}",
        length.steps
    ))];
    if let Some(far) = farthest.filter(|far| *far < SHORT * spread) {
        said.push(Event::Warning(sentence!(
            "{}: raise {} to {} or more, or take more steps",
            format!(
                "no weight can move farther than {far:.1e} in {} steps, little beside A's spread of {spread:.1e}",
                length.steps
            ),
            setting("learning_rate"),
            format!("{:.1}", ivon.rate() * SHORT * spread / far)
        )));
    }
    if initial > WIDE * spread {
        said.push(Event::Warning(sentence!(
            "{}: draws will be underconfident and worse than the mean; raise {} or lower {}",
            format!("σ₀ = {initial:.1e} is larger than A's own spread of {spread:.1e}"),
            setting("ess"),
            setting("posterior_sd")
        )));
    }
    if initial < NARROW * spread {
        said.push(Event::Warning(sentence!(
            "{}: draws will hardly differ from the mean; lower {} or raise {} to see uncertainty",
            format!("σ₀ = {initial:.1e} is far below A's spread of {spread:.1e}"),
            setting("ess"),
            setting("posterior_sd")
        )));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::IvonMethodConfig;
    use crate::testing::tiny::decoder;

    fn said(ivon: IvonMethodConfig, steps: u64) -> Vec<String> {
        let config = TrainConfig {
            steps: Some(steps),
            ..TrainConfig::default()
        };
        let wide = DecoderConfig {
            hidden_size: 576,
            ..decoder(2)
        };
        advice(&Method::Ivon(ivon), &config, config.length(100), &wide)
            .into_iter()
            .map(|event| match event {
                Event::Note(text) => text,
                Event::Warning(text) => text.to_string(),
                _ => String::new(),
            })
            .collect()
    }

    #[test]
    fn the_papers_recipe_in_500_steps_cannot_move_far_enough() {
        // Width 576: A's spread is 1/√1728 = 0.0241; 0.03 · 1e-3 · 250.5 = 0.0075 is 31 % of it, 50
        // steps 3 %.
        let recipe = said(IvonMethodConfig::paper(), 500);
        assert!(
            recipe[0].contains("2.41e-2") && recipe[0].contains("at most 7.5"),
            "{recipe:?}"
        );
        let short = said(IvonMethodConfig::paper(), 50);
        assert!(
            short
                .iter()
                .any(|text| text.contains("raise learning_rate")),
            "{short:?}"
        );
    }

    #[test]
    fn a_spread_that_is_too_wide_or_too_narrow_is_said() {
        let with = |posterior_sd| {
            said(
                IvonMethodConfig {
                    posterior_sd: Some(posterior_sd),
                    ..IvonMethodConfig::paper()
                },
                1000,
            )
        };
        assert!(
            with(0.05)
                .iter()
                .any(|text| text.contains("underconfident"))
        );
        assert!(
            with(0.001)
                .iter()
                .any(|text| text.contains("hardly differ"))
        );
        assert_eq!(with(0.01).len(), 1);
    }
}
