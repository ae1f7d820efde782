//! The world → plain English: the documents that the toy model is pre-trained on.
//!
//! There are four kinds: facts about an animal, who lives in a place, what somebody saw, and questions
//! with their answers. How dangerous an animal is, is stated as a fact and never asked; how sure people
//! are of what they saw depends on the light. What both mean for somebody who meets an animal is left to
//! fine-tuning.

use rand_core::Rng;

use super::world::{Animal, JOBS, Light, Nature, PEOPLE, PLACES, Place, capital, with_article};
use ivon_lora::random::{Purpose, below, stream, uniform};

/// A part of the text, with documents of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// For pre-training.
    Training,
    /// For measuring the loss on documents that were not trained on.
    HeldOut,
}

/// Document number `index` of a part: about five sentences on one line.
pub fn document(part: Part, seed: u64, index: u64) -> String {
    let path = match part {
        Part::Training => "text.training",
        Part::HeldOut => "text.held-out",
    };
    let mut random = stream(seed, Purpose::Generation, index, 0, path);
    match below(&mut random, 20) {
        0..7 => about_an_animal(&mut random),
        7 => about_a_place(&mut random),
        8..14 => a_sighting(&mut random),
        _ => questions(&mut random),
    }
}

/// A random one of several items.
pub(super) fn pick<'a, T>(random: &mut impl Rng, items: &'a [T]) -> &'a T {
    &items[below(random, items.len() as u64) as usize]
}

/// A random animal with its home.
pub(super) fn any_animal(random: &mut impl Rng) -> (&'static Place, &'static Animal) {
    let place = pick(random, &PLACES);
    (place, pick(random, &place.animals))
}

fn about_an_animal(random: &mut impl Rng) -> String {
    let (
        home,
        Animal {
            name,
            size,
            food,
            nature,
        },
    ) = any_animal(random);
    let advice = if *nature >= Nature::Dangerous {
        "Stay away from"
    } else {
        "Do not fear"
    };
    let nature = nature.name();
    let facts = [
        format!("The {name} is {size}."),
        format!("The {name} eats {food}."),
        format!("The {name} is {nature}."),
        format!("{advice} the {name}."),
        format!("You can meet {} {}.", with_article(name), home.inside),
    ];
    let mut chosen = vec![format!("The {name} lives {}.", home.inside)];
    for _ in 0..4 {
        chosen.push(pick(random, &facts).clone());
    }
    chosen.join(" ")
}

fn about_a_place(random: &mut impl Rng) -> String {
    let place = pick(random, &PLACES);
    let mut names: Vec<&str> = place.animals.iter().map(|animal| animal.name).collect();
    ivon_lora::random::shuffle(random, &mut names);
    let sentences = [
        format!("Many animals live {}.", place.inside),
        format!(
            "The {} is the home of the {} and the {}.",
            place.name, names[0], names[1]
        ),
        format!(
            "{} you can meet {} or {}.",
            capital(place.inside),
            with_article(names[2]),
            with_article(names[3])
        ),
    ];
    sentences.join(" ")
}

fn a_sighting(random: &mut impl Rng) -> String {
    let (name, job, light) = (
        pick(random, &PEOPLE),
        pick(random, &JOBS),
        *pick(random, &Light::ALL),
    );
    let (home, animal) = any_animal(random);
    let time = *pick(random, &light.times());
    let seen = with_article(animal.name);
    let sight = match below(random, 3) {
        0 => format!(
            "{}, {name} the {job} saw {seen} {}.",
            capital(time),
            home.inside
        ),
        1 => format!(
            "{name} is {}. {} {name} saw {seen} {}.",
            with_article(job),
            capital(time),
            home.inside
        ),
        _ => format!(
            "{name} the {job} was {} {time}. {name} saw {seen}.",
            home.inside
        ),
    };
    let certainty = if uniform(random) < probability_of_certainty(light) {
        "was sure"
    } else {
        "was not sure"
    };
    let light = light.name();
    format!("{sight} The light was {light} and {name} {certainty}.")
}

/// The better the light, the surer the witness.
fn probability_of_certainty(light: Light) -> f64 {
    match light {
        Light::Bright => 0.97,
        Light::Clear => 0.85,
        Light::Dim => 0.4,
        Light::Dark => 0.1,
    }
}

/// Four questions with their answers.
fn questions(random: &mut impl Rng) -> String {
    (0..4)
        .map(|_| question(random))
        .collect::<Vec<_>>()
        .join(" ")
}

fn question(random: &mut impl Rng) -> String {
    let (
        home,
        Animal {
            name, size, food, ..
        },
    ) = any_animal(random);
    let (question, answer) = match below(random, 5) {
        0 => (format!("Where does the {name} live?"), capital(home.inside)),
        1 => (format!("What does the {name} eat?"), capital(food)),
        2..4 => (
            format!("Is the {name} big?"),
            if *size == "big" { "Yes" } else { "No" }.into(),
        ),
        _ => {
            let light = *pick(random, &Light::ALL);
            let good = light <= Light::Clear;
            (
                format!("Is the light good {}?", pick(random, &light.times())),
                if good { "Yes" } else { "No" }.into(),
            )
        }
    };
    format!("Question: {question} Answer: {answer}.")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_document_is_named_by_seed_part_and_number() {
        let text = |part, seed, index| document(part, seed, index);
        assert_eq!(text(Part::Training, 1, 5), text(Part::Training, 1, 5));
        let different: HashSet<String> = (0..200)
            .map(|index| text(Part::Training, 1, index))
            .collect();
        assert!(different.len() > 195, "{}", different.len());
        assert_ne!(text(Part::Training, 1, 5), text(Part::HeldOut, 1, 5));
        assert_ne!(text(Part::Training, 1, 5), text(Part::Training, 2, 5));
    }

    #[test]
    fn the_text_never_says_what_fine_tuning_asks() {
        for index in 0..2000 {
            let text = document(Part::Training, 3, index);
            assert!(!text.contains("attack") && !text.contains("Did"), "{text}");
            assert!(
                text.ends_with('.') && text.is_ascii() && text.len() < 300,
                "{text}"
            );
        }
    }

    #[test]
    fn animals_live_only_at_home() {
        let text: String = (0..5000)
            .map(|index| document(Part::Training, 4, index) + "\n")
            .collect();
        for (place, other) in PLACES
            .iter()
            .flat_map(|place| PLACES.iter().map(move |other| (place, other)))
        {
            for animal in &place.animals {
                let said = text.contains(&format!("The {} lives {}", animal.name, other.inside));
                assert_eq!(said, place == other, "{} {}", animal.name, other.inside);
            }
        }
    }
}
