//! The world → questions for fine-tuning, with noisy labels whose noise is known.
//!
//! A report says who met which animal where and when; the question is whether it attacked. Nature and
//! light determine only how likely that is: the label is drawn with [`probability_of_attack`]. So no
//! model can be right more often than that, or more confident with good reason. Names, jobs and places
//! are irrelevant.

use std::collections::HashSet;

use serde_json::json;

use super::text::{any_animal, pick};
use super::world::{JOBS, Light, Nature, PEOPLE, capital, with_article};
use ivon_lora::data::Role;
use ivon_lora::random::{Purpose, below, stream, uniform};

/// The prompt; its field is `report`.
pub const PROMPT: &str = "{report} Question: Did it attack? Answer:";
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

/// The probability that an animal attacks, 1 / (1 + e⁻ˣ) with x = nature (−3, −1, 1, 3) + darkness
/// (−1.5, −0.5, 0.5, 1.5): from 0.01 for a harmless animal at noon through 0.38 and 0.62 to 0.99
/// for a deadly one at night.
pub fn probability_of_attack(nature: Nature, light: Light) -> f64 {
    let nature = match nature {
        Nature::Harmless => -3.0,
        Nature::Shy => -1.0,
        Nature::Dangerous => 1.0,
        Nature::Deadly => 3.0,
    };
    let darkness = match light {
        Light::Bright => -1.5,
        Light::Clear => -0.5,
        Light::Dim => 0.5,
        Light::Dark => 1.5,
    };
    1.0 / (1.0 + f64::exp(-nature - darkness))
}

/// A question with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Such as `test-17`.
    pub id: String,
    /// Such as `At dusk, Anna the farmer met an owl in the forest.`
    pub report: String,
    /// The light at the time of the report.
    pub light: Light,
    /// How dangerous the animal is.
    pub nature: Nature,
    /// The index of the label among [`ANSWERS`].
    pub label: usize,
}

impl Question {
    /// Question number `index` of an endless sequence, before it has a place in a role; all natures and
    /// all lights are equally frequent.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut random = stream(seed, Purpose::Generation, index, 0, "questions");
        let (name, job, light) = (
            pick(&mut random, &PEOPLE),
            pick(&mut random, &JOBS),
            *pick(&mut random, &Light::ALL),
        );
        let time = *pick(&mut random, &light.times());
        let (home, animal) = any_animal(&mut random);
        let met = with_article(animal.name);
        let report = match below(&mut random, 3) {
            0 => format!(
                "{}, {name} the {job} met {met} {}.",
                capital(time),
                home.inside
            ),
            1 => format!("{name} the {job} met {met} {} {time}.", home.inside),
            _ => format!(
                "{name} the {job} was {} {time}. {name} met {met}.",
                home.inside
            ),
        };
        let attacks = uniform(&mut random) < probability_of_attack(animal.nature, light);
        Self {
            id: index.to_string(),
            report,
            light,
            nature: animal.nature,
            label: usize::from(attacks),
        }
    }

    /// The probability of the label `Yes`, given everything that the report says.
    pub fn probability_yes(&self) -> f64 {
        probability_of_attack(self.nature, self.light)
    }

    /// −ln of the probability of the label that was drawn, nats: the loss of a model that knows all that
    /// can be known.
    pub fn bayes_nll(&self) -> f64 {
        let yes = self.probability_yes();
        -(if self.label == 1 { yes } else { 1.0 - yes }).ln()
    }

    /// Whether the likelier answer is the label that was drawn.
    pub fn bayes_correct(&self) -> bool {
        (self.probability_yes() > 0.5) == (self.label == 1)
    }

    /// The question as a row of a JSONL file: the fields of the task, and what only the generator knows.
    pub(crate) fn to_json(&self) -> String {
        let row = json!({"id": self.id, "report": self.report, "label": ANSWERS[self.label],
            "nature": self.nature.name(), "light": self.light.name(), "probability_yes": self.probability_yes()});
        row.to_string()
    }
}

/// All questions of a role. No report occurs twice, neither within a role nor in two of them.
pub fn questions(role: Role, seed: u64) -> Vec<Question> {
    let mut asked = HashSet::new();
    let mut fresh = (0..)
        .map(|index| Question::new(seed, index))
        .filter(|question| asked.insert(question.report.clone()));
    // The roles follow one another in the endless sequence.
    let before: u64 = Role::ALL
        .into_iter()
        .take_while(|other| *other != role)
        .map(count)
        .sum();
    let own = fresh
        .by_ref()
        .skip(before as usize)
        .take(count(role) as usize);
    own.enumerate()
        .map(|(place, question)| Question {
            id: format!("{role}-{}", place + 1),
            ..question
        })
        .collect()
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
        assert_ne!(
            questions(Role::Tune, 1)[3].report,
            questions(Role::Tune, 2)[3].report
        );
        assert_eq!(questions(Role::Tune, 1)[3].id, "tune-4");
        let all: Vec<String> = Role::ALL
            .into_iter()
            .flat_map(|role| questions(role, 1))
            .map(|question| question.report)
            .collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(
            all.len() as u64,
            Role::ALL.into_iter().map(count).sum::<u64>()
        );
    }

    #[test]
    fn labels_are_yes_as_often_as_claimed() {
        let questions = many();
        for (nature, light) in Nature::ALL
            .into_iter()
            .flat_map(|nature| Light::ALL.map(|light| (nature, light)))
        {
            let cell: Vec<&Question> = questions
                .iter()
                .filter(|question| (question.nature, question.light) == (nature, light))
                .collect();
            // 500 expected in each of sixteen cells, standard deviation 22.
            assert!(
                (410..590).contains(&cell.len()),
                "{nature:?} {light:?} {}",
                cell.len()
            );
            let (n, p) = (cell.len() as f64, probability_of_attack(nature, light));
            let yes = cell.iter().filter(|question| question.label == 1).count() as f64;
            let deviations = (yes - n * p) / (n * p * (1.0 - p)).sqrt();
            assert!(
                deviations.abs() < 3.5,
                "{nature:?} {light:?}: {yes} of {n}, {deviations} standard deviations from {p}"
            );
        }
    }

    #[test]
    fn what_is_knowable_is_as_claimed() {
        let questions = many();
        let mean = |of: &dyn Fn(&Question) -> f64| {
            questions.iter().map(of).sum::<f64>() / questions.len() as f64
        };
        let cells: Vec<f64> = Nature::ALL
            .into_iter()
            .flat_map(|nature| Light::ALL.map(|light| probability_of_attack(nature, light)))
            .collect();
        let over_cells = |of: fn(f64) -> f64| cells.iter().map(|&p| of(p)).sum::<f64>() / 16.0;
        let (accuracy, loss) = (
            over_cells(|p| p.max(1.0 - p)),
            over_cells(|p| -p * p.ln() - (1.0 - p) * (1.0 - p).ln()),
        );
        // Eight pairs of cells: σ(4.5), 2 σ(2.5), σ(3.5), 2 σ(1.5), 2 σ(0.5).
        assert!(
            (accuracy - 0.836).abs() < 1e-3 && (loss - 0.3757).abs() < 1e-3,
            "{accuracy} {loss}"
        );
        assert!(
            (mean(&|question| f64::from(u8::from(question.bayes_correct()))) - accuracy).abs()
                < 0.015
        );
        assert!((mean(&Question::bayes_nll) - loss).abs() < 0.02);
    }

    #[test]
    fn a_row_says_the_report_the_label_and_the_noise() {
        let question = Question {
            id: "test-1".into(),
            report: "r".into(),
            light: Light::Dark,
            nature: Nature::Shy,
            label: 0,
        };
        let (row, yes) = (question.to_json(), question.probability_yes());
        assert!(
            row.starts_with(r#"{"id":"test-1","report":"r","label":"No","nature":"shy","light":"dark","probability_yes":0.622"#),
            "{row}"
        );
        assert!(
            (question.bayes_nll() + (1.0 - yes).ln()).abs() < 1e-12 && !question.bayes_correct()
        );
    }
}
