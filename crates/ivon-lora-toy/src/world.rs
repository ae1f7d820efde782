//! The small world of the toy's text and questions: places and the animals that live there, people, and
//! how well one can see at what time of day.

/// A place where animals live.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, such as `forest`.
    pub name: &'static str,
    /// How to say where it is, such as `in the forest`.
    pub inside: &'static str,
    /// The animals that live there.
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
    /// How dangerous it is.
    pub nature: Nature,
}

/// How dangerous an animal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nature {
    /// It hardly ever attacks.
    Harmless,
    /// It attacks when it is cornered.
    Shy,
    /// It attacks more often than not.
    Dangerous,
    /// It nearly always attacks.
    Deadly,
}

impl Nature {
    /// All four, from the least to the most dangerous.
    pub const ALL: [Self; 4] = [Self::Harmless, Self::Shy, Self::Dangerous, Self::Deadly];

    /// Its word in the text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Shy => "shy",
            Self::Dangerous => "dangerous",
            Self::Deadly => "deadly",
        }
    }
}

/// How well one can see.
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

const fn animal(
    name: &'static str,
    size: &'static str,
    food: &'static str,
    nature: Nature,
) -> Animal {
    Animal {
        name,
        size,
        food,
        nature,
    }
}

/// Every place with its animals, one of each nature, so that the place says nothing about danger.
pub const PLACES: [Place; 8] = [
    Place {
        name: "forest",
        inside: "in the forest",
        animals: [
            animal("deer", "big", "leaves", Nature::Harmless),
            animal("owl", "small", "mice", Nature::Shy),
            animal("bear", "big", "berries", Nature::Dangerous),
            animal("wolf", "big", "meat", Nature::Deadly),
        ],
    },
    Place {
        name: "sea",
        inside: "in the sea",
        animals: [
            animal("crab", "small", "worms", Nature::Harmless),
            animal("whale", "big", "fish", Nature::Shy),
            animal("jellyfish", "small", "fish", Nature::Dangerous),
            animal("shark", "big", "fish", Nature::Deadly),
        ],
    },
    Place {
        name: "river",
        inside: "in the river",
        animals: [
            animal("trout", "small", "worms", Nature::Harmless),
            animal("otter", "small", "fish", Nature::Shy),
            animal("piranha", "small", "meat", Nature::Dangerous),
            animal("crocodile", "big", "meat", Nature::Deadly),
        ],
    },
    Place {
        name: "desert",
        inside: "in the desert",
        animals: [
            animal("gecko", "small", "insects", Nature::Harmless),
            animal("camel", "big", "leaves", Nature::Shy),
            animal("scorpion", "small", "insects", Nature::Dangerous),
            animal("cobra", "big", "mice", Nature::Deadly),
        ],
    },
    Place {
        name: "farm",
        inside: "on the farm",
        animals: [
            animal("hen", "small", "worms", Nature::Harmless),
            animal("cow", "big", "grass", Nature::Shy),
            animal("bull", "big", "grass", Nature::Dangerous),
            animal("hornet", "small", "insects", Nature::Deadly),
        ],
    },
    Place {
        name: "jungle",
        inside: "in the jungle",
        animals: [
            animal("parrot", "small", "berries", Nature::Harmless),
            animal("monkey", "small", "berries", Nature::Shy),
            animal("jaguar", "big", "meat", Nature::Dangerous),
            animal("tiger", "big", "meat", Nature::Deadly),
        ],
    },
    Place {
        name: "mountain",
        inside: "on the mountain",
        animals: [
            animal("marmot", "small", "grass", Nature::Harmless),
            animal("ibex", "big", "grass", Nature::Shy),
            animal("lynx", "small", "mice", Nature::Dangerous),
            animal("puma", "big", "meat", Nature::Deadly),
        ],
    },
    Place {
        name: "swamp",
        inside: "in the swamp",
        animals: [
            animal("toad", "small", "insects", Nature::Harmless),
            animal("heron", "big", "fish", Nature::Shy),
            animal("alligator", "big", "fish", Nature::Dangerous),
            animal("viper", "small", "mice", Nature::Deadly),
        ],
    },
];

/// First names.
pub const PEOPLE: [&str; 24] = [
    "Anna", "Ben", "Clara", "David", "Ella", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karin",
    "Leo", "Maria", "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina", "Umar", "Vera", "Walter",
    "Yusuf", "Zoe",
];

/// The jobs of people.
pub const JOBS: [&str; 12] = [
    "farmer", "sailor", "teacher", "hunter", "baker", "doctor", "painter", "driver", "nurse",
    "guide", "singer", "writer",
];

/// `a wolf`, `an owl`.
pub fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

/// A sentence with a capital first letter.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_animal_has_one_home_and_every_place_has_all_natures() {
        let animals: Vec<&Animal> = PLACES.iter().flat_map(|place| &place.animals).collect();
        assert_eq!(
            animals
                .iter()
                .map(|animal| animal.name)
                .collect::<HashSet<_>>()
                .len(),
            32
        );
        assert!(
            animals
                .iter()
                .all(|animal| ["big", "small"].contains(&animal.size))
        );
        assert!(
            PLACES
                .iter()
                .all(|place| place.animals.each_ref().map(|animal| animal.nature) == Nature::ALL)
        );
    }

    #[test]
    fn words_are_fitted_into_sentences() {
        assert_eq!(
            [with_article("owl"), with_article("wolf")],
            ["an owl", "a wolf"]
        );
        assert_eq!([capital("at noon"), capital("")], ["At noon", ""]);
    }
}
