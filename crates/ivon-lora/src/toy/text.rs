//! The world → plain English: the text that the toy model is pre-trained on, document by document.
//!
//! There are four kinds: what is known of an animal, who lives in a place, somebody's walk, and questions with their
//! answers. Walks end in a sighting, in which the animal is one of the place; how sure people are depends on the
//! light. Nothing here asks whether a report is true: that is what fine-tuning is for.

use rand_core::Rng;

use super::world::{Animal, FOODS, JOBS, Light, PEOPLE, PLACES, Place, capital, with_article};
use crate::random::{Purpose, below, stream, uniform};

/// A part of the endless text; each has documents of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To pre-train on.
    Training,
    /// To measure by what was not trained on.
    HeldOut,
}

/// Document number `index` of a part: some five sentences on one line.
pub fn document(part: Part, seed: u64, index: u64) -> String {
    let path = match part {
        Part::Training => "text.training",
        Part::HeldOut => "text.held-out",
    };
    let mut random = stream(seed, Purpose::Generation, index, 0, path);
    match below(&mut random, 10) {
        0..2 => about_an_animal(&mut random),
        2..3 => about_a_place(&mut random),
        3..6 => a_walk(&mut random),
        _ => questions(&mut random),
    }
}

/// One of several.
pub(super) fn pick<'a, T>(random: &mut impl Rng, items: &'a [T]) -> &'a T {
    &items[below(random, items.len() as u64) as usize]
}

/// An animal with its home.
pub(super) fn any_animal(random: &mut impl Rng) -> (&'static Place, &'static Animal) {
    let place = pick(random, &PLACES);
    (place, pick(random, &place.animals))
}

/// A place that is not `home`.
pub(super) fn elsewhere(random: &mut impl Rng, home: &Place) -> &'static Place {
    loop {
        let place = pick(random, &PLACES);
        if place != home {
            return place;
        }
    }
}

fn about_an_animal(random: &mut impl Rng) -> String {
    let (home, Animal { name, size, food }) = any_animal(random);
    let other = elsewhere(random, home);
    let named = with_article(name);
    let facts = [
        format!("The {name} is {size}."),
        format!("The {name} eats {food}."),
        format!("The home of the {name} is the {}.", home.name),
        format!("You can meet {named} {}.", home.inside),
        format!("The {name} lives {}, not {}.", home.inside, other.inside),
        format!("There is no {name} {}.", other.inside),
    ];
    let mut chosen = vec![format!("The {name} lives {}.", home.inside)];
    for _ in 0..3 {
        chosen.push(pick(random, &facts).clone());
    }
    chosen.join(" ")
}

fn about_a_place(random: &mut impl Rng) -> String {
    let place = pick(random, &PLACES);
    let mut names: Vec<&str> = place.animals.iter().map(|animal| animal.name).collect();
    crate::random::shuffle(random, &mut names);
    let sentences = [
        format!("Many animals live {}.", place.inside),
        format!("The {} is the home of the {}, the {} and the {}.", place.name, names[0], names[1], names[2]),
        format!("{} you can meet {} or {}.", capital(place.inside), with_article(names[3]), with_article(names[4])),
    ];
    sentences.join(" ")
}

fn a_walk(random: &mut impl Rng) -> String {
    let (name, job, light) = (pick(random, &PEOPLE), pick(random, &JOBS), *pick(random, &Light::ALL));
    let (place, Animal { name: animal, size, .. }) = any_animal(random);
    let time = pick(random, &light.times()).to_string();
    let first = match below(random, 3) {
        0 => format!("{name} is {}. {} {name} was {}.", with_article(job), capital(&time), place.inside),
        1 => format!("{}, {name} the {job} was {}.", capital(&time), place.inside),
        _ => format!("{name} the {job} was {} {time}.", place.inside),
    };
    // The better the light, the surer the witness.
    let sure = match light {
        Light::Bright => 0.97,
        Light::Clear => 0.85,
        Light::Dim => 0.4,
        Light::Dark => 0.1,
    };
    let ending = if uniform(random) < sure { "was sure" } else { "was not sure" };
    let sight = match below(random, 3) {
        0 => format!("The light was {}.", light.name()),
        1 => format!("{name} saw {}.", with_article(&format!("{size} {animal}"))),
        _ => format!("{name} wrote a report."),
    };
    format!("{first} {sight} {name} saw {} and {ending}.", with_article(animal))
}

/// Three questions with their answers.
fn questions(random: &mut impl Rng) -> String {
    (0..3).map(|_| question(random)).collect::<Vec<_>>().join(" ")
}

fn question(random: &mut impl Rng) -> String {
    let (home, animal) = any_animal(random);
    let truth = below(random, 2) == 0;
    let name = animal.name;
    let place = if truth { home } else { elsewhere(random, home) };
    let question = match below(random, 8) {
        0..2 => format!("Does the {name} live {}?", place.inside),
        2..4 => format!("Is the {} the home of the {name}?", place.name),
        4 => format!("Is there {} {}?", with_article(name), place.inside),
        5 => {
            let other = if animal.size == "big" { "small" } else { "big" };
            format!("Is the {name} {}?", if truth { animal.size } else { other })
        }
        6 => {
            let others: Vec<&str> = FOODS.into_iter().filter(|food| *food != animal.food).collect();
            let wrong = *pick(random, &others);
            format!("Does the {name} eat {}?", if truth { animal.food } else { wrong })
        }
        _ => {
            let light = *pick(random, &Light::ALL);
            let others: Vec<Light> = Light::ALL.into_iter().filter(|other| *other != light).collect();
            let named = if truth { light } else { *pick(random, &others) };
            format!("Is the light {} {}?", named.name(), pick(random, &light.times()))
        }
    };
    format!("Question: {question} Answer: {}.", if truth { "Yes" } else { "No" })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_document_is_named_by_seed_part_and_number() {
        let text = |part, seed, index| document(part, seed, index);
        assert_eq!(text(Part::Training, 1, 5), text(Part::Training, 1, 5));
        let different: HashSet<String> = (0..200).map(|index| text(Part::Training, 1, index)).collect();
        assert!(different.len() > 195, "{}", different.len());
        assert_ne!(text(Part::Training, 1, 5), text(Part::HeldOut, 1, 5));
        assert_ne!(text(Part::Training, 1, 5), text(Part::Training, 2, 5));
    }

    #[test]
    fn the_text_never_says_what_fine_tuning_asks() {
        for index in 0..2000 {
            let text = document(Part::Training, 3, index);
            assert!(!text.contains("true") && !text.contains("Report"), "{text}");
            assert!(text.ends_with('.') && text.is_ascii() && text.len() < 400, "{text}");
        }
    }

    #[test]
    fn animals_are_seen_only_at_home() {
        for place in &PLACES {
            for animal in &place.animals {
                for other in PLACES.iter().filter(|other| *other != place) {
                    let claim = format!("The {} lives {}", animal.name, other.inside);
                    assert!((0..3000).all(|index| !document(Part::Training, 4, index).contains(&claim)), "{claim}");
                }
            }
        }
    }
}
