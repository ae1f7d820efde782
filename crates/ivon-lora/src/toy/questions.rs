//! The world → questions for fine-tuning, with labels that are noisy by nature and whose noise is known.
//!
//! A report says who saw which animal where and when; the question is whether it was dangerous. That depends on the
//! animal, but people mistake what they see, the more so the worse the light: the label is the animal's own danger,
//! turned over with the probability [`flip_probability`]. So no model can be right more often, or surer with reason,
//! than [`Question::probability_yes`] lets it be.

use std::collections::HashSet;

use serde_json::json;

use super::text::{any_animal, pick};
use super::world::{JOBS, Light, PEOPLE, capital, with_article};
use crate::data::Role;
use crate::random::{Purpose, below, stream, uniform};

/// The prompt; its field is `report`.
pub const PROMPT: &str = "{report} Question: Was it dangerous? Answer:";
/// The answers in the order of the labels.
pub const ANSWERS: [&str; 2] = ["No", "Yes"];

/// The number of questions of a role.
pub fn count(role: Role) -> u64 {
    match role {
        Role::Train => 400,
        Role::Tune => 200,
        Role::Calibrate => 200,
        Role::Test => 1000,
    }
}

/// The probability with which the label is the opposite of what the animal named in the report speaks for.
pub fn flip_probability(light: Light) -> f64 {
    match light {
        Light::Bright => 0.02,
        Light::Clear => 0.10,
        Light::Dim => 0.25,
        Light::Dark => 0.45,
    }
}

/// A question with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Such as `test-17`.
    pub id: String,
    /// Such as `At dusk, Anna the farmer saw an owl in the forest.`
    pub report: String,
    /// The light at the time of the report.
    pub light: Light,
    /// Whether the animal that the report names is dangerous.
    pub dangerous: bool,
    /// The index of the label among [`ANSWERS`].
    pub label: usize,
}

impl Question {
    /// Question number `index` of an endless row, before it has a place in a role; half of all animals are dangerous, and each light is as frequent as any other.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut random = stream(seed, Purpose::Generation, index, 0, "questions");
        let (name, job, light) = (pick(&mut random, &PEOPLE), pick(&mut random, &JOBS), *pick(&mut random, &Light::ALL));
        let time = *pick(&mut random, &light.times());
        let (home, animal) = any_animal(&mut random);
        let seen = with_article(animal.name);
        let report = match below(&mut random, 3) {
            0 => format!("{}, {name} the {job} saw {seen} {}.", capital(time), home.inside),
            1 => format!("{name} the {job} saw {seen} {} {time}.", home.inside),
            _ => format!("{name} the {job} was {} {time}. {name} saw {seen}.", home.inside),
        };
        let flipped = uniform(&mut random) < flip_probability(light);
        Self { id: index.to_string(), report, light, dangerous: animal.dangerous, label: usize::from(animal.dangerous != flipped) }
    }

    /// The probability of the label `Yes`, given everything that the report says.
    pub fn probability_yes(&self) -> f64 {
        let flip = flip_probability(self.light);
        if self.dangerous { 1.0 - flip } else { flip }
    }

    /// −ln of the probability of the label that was drawn, nats: the loss of a model that knows everything there is
    /// to know.
    pub fn bayes_nll(&self) -> f64 {
        let yes = self.probability_yes();
        -(if self.label == 1 { yes } else { 1.0 - yes }).ln()
    }

    /// Whether the likelier answer is the label that was drawn.
    pub fn bayes_correct(&self) -> bool {
        (self.probability_yes() > 0.5) == (self.label == 1)
    }

    /// The question as a row of a JSONL file: what the task reads, and beside it what only the generator knows.
    pub fn to_json(&self) -> String {
        let row = json!({"id": self.id, "report": self.report, "label": ANSWERS[self.label],
            "light": self.light.name(), "probability_yes": self.probability_yes()});
        row.to_string()
    }
}

/// All questions of a role. No report is asked twice, in no role and in none of the others.
pub fn questions(role: Role, seed: u64) -> Vec<Question> {
    let mut asked = HashSet::new();
    let mut fresh = (0..).map(|index| Question::new(seed, index)).filter(|question| asked.insert(question.report.clone()));
    // The roles follow one another in the endless row.
    let before: u64 = Role::ALL.into_iter().take_while(|other| *other != role).map(count).sum();
    let own = fresh.by_ref().skip(before as usize).take(count(role) as usize);
    own.enumerate().map(|(place, question)| Question { id: format!("{role}-{}", place + 1), ..question }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many() -> Vec<Question> {
        (0..8000).map(|index| Question::new(7, index)).collect()
    }

    #[test]
    fn a_question_is_named_by_seed_role_and_number_and_asked_once() {
        assert_eq!(questions(Role::Tune, 1), questions(Role::Tune, 1));
        assert_ne!(questions(Role::Tune, 1)[3].report, questions(Role::Tune, 2)[3].report);
        assert_eq!(questions(Role::Tune, 1)[3].id, "tune-4");
        let all: Vec<String> = Role::ALL.into_iter().flat_map(|role| questions(role, 1)).map(|question| question.report).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(all.len() as u64, Role::ALL.into_iter().map(count).sum::<u64>());
    }

    #[test]
    fn labels_are_turned_over_as_often_as_claimed() {
        let questions = many();
        for light in Light::ALL {
            for dangerous in [false, true] {
                let cell: Vec<&Question> =
                    questions.iter().filter(|question| question.light == light && question.dangerous == dangerous).collect();
                // 1,000 expected in each of eight cells, standard deviation 30.
                assert!((850..1150).contains(&cell.len()), "{light:?} {dangerous} {}", cell.len());
                let (n, p) = (cell.len() as f64, flip_probability(light));
                let flipped = cell.iter().filter(|question| !question.bayes_correct()).count() as f64;
                let deviations = (flipped - n * p) / (n * p * (1.0 - p)).sqrt();
                assert!(deviations.abs() < 3.5, "{light:?} {dangerous}: {flipped} of {n}, {deviations} standard deviations from {p}");
            }
        }
    }

    #[test]
    fn nothing_but_danger_and_light_moves_the_probability() {
        let questions = many();
        for question in &questions {
            let flip = flip_probability(question.light);
            assert!(question.probability_yes() == if question.dangerous { 1.0 - flip } else { flip });
        }
        let mean = |of: &dyn Fn(&Question) -> f64| questions.iter().map(of).sum::<f64>() / questions.len() as f64;
        // Expected accuracy: 1 − mean of 0.02, 0.10, 0.25, 0.45; expected loss: the mean of their binary entropies.
        assert!((mean(&|question| f64::from(u8::from(question.bayes_correct()))) - 0.795).abs() < 0.015);
        let entropy = |p: f64| -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
        let expected = Light::ALL.into_iter().map(|light| entropy(flip_probability(light)) / 4.0).sum::<f64>();
        assert!((expected - 0.418).abs() < 0.001 && (mean(&Question::bayes_nll) - expected).abs() < 0.02, "{expected}");
    }

    #[test]
    fn a_row_says_the_report_the_label_and_the_noise() {
        let question = Question { id: "test-1".into(), report: "r".into(), light: Light::Dark, dangerous: false, label: 1 };
        assert_eq!(question.to_json(), r#"{"id":"test-1","report":"r","label":"Yes","light":"dark","probability_yes":0.45}"#);
        assert!((question.bayes_nll() - 0.799).abs() < 1e-3 && !question.bayes_correct());
    }
}
