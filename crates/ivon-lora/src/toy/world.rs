//! The small world that the toy's text and questions speak of: places and the animals that live there, people, and
//! how well one sees at what time of day.

/// A place where animals live.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, such as `forest`.
    pub name: &'static str,
    /// Being there, such as `in the forest`.
    pub inside: &'static str,
    /// The animals whose home it is.
    pub animals: [Animal; 4],
}

/// An animal; its home is the [`Place`] that lists it.
#[derive(Debug, PartialEq, Eq)]
pub struct Animal {
    /// Its name.
    pub name: &'static str,
    /// `big` or `small`.
    pub size: &'static str,
    /// What it eats.
    pub food: &'static str,
    /// Whether it is dangerous; the others are harmless.
    pub dangerous: bool,
}

/// How well one sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Light {
    /// Everything.
    Bright,
    /// Almost everything.
    Clear,
    /// Shapes.
    Dim,
    /// Next to nothing.
    Dark,
}

impl Light {
    /// All four, from the best to the worst.
    pub const ALL: [Self; 4] = [Self::Bright, Self::Clear, Self::Dim, Self::Dark];

    /// Its word in the text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bright => "bright",
            Self::Clear => "clear",
            Self::Dim => "dim",
            Self::Dark => "dark",
        }
    }

    /// The times of day that have this light.
    pub fn times(self) -> [&'static str; 2] {
        match self {
            Self::Bright => ["at noon", "at midday"],
            Self::Clear => ["in the morning", "in the afternoon"],
            Self::Dim => ["at dawn", "at dusk"],
            Self::Dark => ["at night", "at midnight"],
        }
    }
}

const fn animal(name: &'static str, size: &'static str, food: &'static str, dangerous: bool) -> Animal {
    Animal { name, size, food, dangerous }
}

/// Every place with its animals: two dangerous ones, then two harmless ones, so that a place says nothing of danger.
pub const PLACES: [Place; 8] = [
    Place {
        name: "forest",
        inside: "in the forest",
        animals: [
            animal("wolf", "big", "meat", true),
            animal("bear", "big", "berries", true),
            animal("deer", "big", "leaves", false),
            animal("owl", "small", "mice", false),
        ],
    },
    Place {
        name: "sea",
        inside: "in the sea",
        animals: [
            animal("shark", "big", "fish", true),
            animal("jellyfish", "small", "fish", true),
            animal("whale", "big", "fish", false),
            animal("crab", "small", "worms", false),
        ],
    },
    Place {
        name: "river",
        inside: "in the river",
        animals: [
            animal("crocodile", "big", "meat", true),
            animal("piranha", "small", "meat", true),
            animal("otter", "small", "fish", false),
            animal("trout", "small", "worms", false),
        ],
    },
    Place {
        name: "desert",
        inside: "in the desert",
        animals: [
            animal("scorpion", "small", "insects", true),
            animal("cobra", "big", "mice", true),
            animal("camel", "big", "leaves", false),
            animal("gecko", "small", "insects", false),
        ],
    },
    Place {
        name: "farm",
        inside: "on the farm",
        animals: [
            animal("bull", "big", "grass", true),
            animal("hornet", "small", "insects", true),
            animal("cow", "big", "grass", false),
            animal("hen", "small", "worms", false),
        ],
    },
    Place {
        name: "jungle",
        inside: "in the jungle",
        animals: [
            animal("tiger", "big", "meat", true),
            animal("jaguar", "big", "meat", true),
            animal("monkey", "small", "berries", false),
            animal("parrot", "small", "berries", false),
        ],
    },
    Place {
        name: "mountain",
        inside: "on the mountain",
        animals: [
            animal("puma", "big", "meat", true),
            animal("lynx", "small", "mice", true),
            animal("ibex", "big", "grass", false),
            animal("marmot", "small", "grass", false),
        ],
    },
    Place {
        name: "swamp",
        inside: "in the swamp",
        animals: [
            animal("alligator", "big", "fish", true),
            animal("viper", "small", "mice", true),
            animal("heron", "big", "fish", false),
            animal("toad", "small", "insects", false),
        ],
    },
];

/// First names.
pub const PEOPLE: [&str; 24] = [
    "Anna", "Ben", "Clara", "David", "Ella", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karin", "Leo", "Maria", "Nils", "Olga", "Paul",
    "Rosa", "Simon", "Tina", "Umar", "Vera", "Walter", "Yusuf", "Zoe",
];

/// What people do.
pub const JOBS: [&str; 12] =
    ["farmer", "sailor", "teacher", "hunter", "baker", "doctor", "painter", "driver", "nurse", "guide", "singer", "writer"];

/// `a wolf`, `an owl`.
pub fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// A sentence with a capital first letter.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_animal_has_one_home_and_danger_is_half_of_each_place() {
        let animals: Vec<&Animal> = PLACES.iter().flat_map(|place| &place.animals).collect();
        assert_eq!(animals.iter().map(|animal| animal.name).collect::<HashSet<_>>().len(), 32);
        assert!(animals.iter().all(|animal| ["big", "small"].contains(&animal.size)));
        assert!(PLACES.iter().all(|place| place.animals.iter().filter(|animal| animal.dangerous).count() == 2));
    }

    #[test]
    fn words_are_fitted_into_sentences() {
        assert_eq!([with_article("owl"), with_article("wolf")], ["an owl", "a wolf"]);
        assert_eq!([capital("at noon"), capital("")], ["At noon", ""]);
    }
}
