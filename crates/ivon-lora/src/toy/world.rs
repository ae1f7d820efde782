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
    pub animals: [Animal; 6],
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

const fn animal(name: &'static str, size: &'static str, food: &'static str) -> Animal {
    Animal { name, size, food }
}

/// Every place with its animals.
pub const PLACES: [Place; 8] = [
    Place {
        name: "forest",
        inside: "in the forest",
        animals: [
            animal("wolf", "big", "meat"),
            animal("bear", "big", "berries"),
            animal("fox", "small", "meat"),
            animal("deer", "big", "leaves"),
            animal("owl", "small", "meat"),
            animal("badger", "small", "berries"),
        ],
    },
    Place {
        name: "sea",
        inside: "in the sea",
        animals: [
            animal("whale", "big", "fish"),
            animal("shark", "big", "meat"),
            animal("crab", "small", "meat"),
            animal("dolphin", "big", "fish"),
            animal("squid", "small", "fish"),
            animal("tuna", "big", "fish"),
        ],
    },
    Place {
        name: "river",
        inside: "in the river",
        animals: [
            animal("otter", "small", "fish"),
            animal("beaver", "small", "leaves"),
            animal("trout", "small", "insects"),
            animal("frog", "small", "insects"),
            animal("heron", "big", "fish"),
            animal("toad", "small", "insects"),
        ],
    },
    Place {
        name: "desert",
        inside: "in the desert",
        animals: [
            animal("camel", "big", "leaves"),
            animal("scorpion", "small", "insects"),
            animal("lizard", "small", "insects"),
            animal("cobra", "small", "meat"),
            animal("jackal", "small", "meat"),
            animal("gecko", "small", "insects"),
        ],
    },
    Place {
        name: "farm",
        inside: "on the farm",
        animals: [
            animal("cow", "big", "grass"),
            animal("pig", "big", "seeds"),
            animal("sheep", "small", "grass"),
            animal("goat", "small", "grass"),
            animal("horse", "big", "grass"),
            animal("hen", "small", "seeds"),
        ],
    },
    Place {
        name: "jungle",
        inside: "in the jungle",
        animals: [
            animal("tiger", "big", "meat"),
            animal("monkey", "small", "leaves"),
            animal("parrot", "small", "seeds"),
            animal("gorilla", "big", "leaves"),
            animal("python", "big", "meat"),
            animal("jaguar", "big", "meat"),
        ],
    },
    Place {
        name: "mountain",
        inside: "on the mountain",
        animals: [
            animal("eagle", "big", "meat"),
            animal("ibex", "big", "grass"),
            animal("marmot", "small", "grass"),
            animal("yak", "big", "grass"),
            animal("condor", "big", "meat"),
            animal("lynx", "small", "meat"),
        ],
    },
    Place {
        name: "city",
        inside: "in the city",
        animals: [
            animal("pigeon", "small", "seeds"),
            animal("rat", "small", "seeds"),
            animal("cat", "small", "fish"),
            animal("dog", "big", "meat"),
            animal("mouse", "small", "seeds"),
            animal("sparrow", "small", "seeds"),
        ],
    },
];

/// Every kind of food.
pub const FOODS: [&str; 7] = ["meat", "fish", "grass", "leaves", "berries", "insects", "seeds"];

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
    fn every_animal_has_one_home_and_every_food_is_eaten() {
        let animals: Vec<&Animal> = PLACES.iter().flat_map(|place| &place.animals).collect();
        assert_eq!(animals.iter().map(|animal| animal.name).collect::<HashSet<_>>().len(), 48);
        assert_eq!(animals.iter().map(|animal| animal.food).collect::<HashSet<_>>(), FOODS.into_iter().collect());
        assert!(animals.iter().all(|animal| ["big", "small"].contains(&animal.size)));
    }

    #[test]
    fn words_are_fitted_into_sentences() {
        assert_eq!([with_article("owl"), with_article("wolf")], ["an owl", "a wolf"]);
        assert_eq!([capital("at noon"), capital("")], ["At noon", ""]);
    }
}
