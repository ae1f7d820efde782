//! Answered prompts → how near the answers are to their references, by how they were chosen, and how
//! well each uncertainty finds those that are wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::answered_prompt::AnsweredPrompt;
use crate::metrics::text::{
    AnswerScores, JudgedAnswers, ReferredAnswers, Similarity, UncertaintyScores,
};
use crate::metrics::{Bootstrap, ScoreWithInterval, Table};

/// When an answer is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// By what an answer is compared with the nearest reference.
    pub quality: Similarity,
    /// The least quality of a right answer; by default 1 by exact match and 0.5 by the others.
    pub right_from: Option<f64>,
}

impl Judgement {
    /// The least quality of a right answer.
    pub fn right_from(&self) -> f64 {
        let default = match self.quality {
            Similarity::Exact => 1.0,
            _ => 0.5,
        };
        self.right_from.unwrap_or(default)
    }
}

/// A way to choose an answer, and how near the chosen ones are to their references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenAnswers {
    /// How they were chosen.
    pub name: String,
    /// How near they are.
    pub scores: AnswerScores,
}

/// The scores of written answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerReport {
    /// Number of prompts.
    pub prompts: usize,
    /// Answers to each under draws.
    pub samples: usize,
    /// When an answer is right.
    pub quality: Similarity,
    /// The least quality of a right answer.
    pub right_from: f64,
    /// Number of right answers at the mean.
    pub right: usize,
    /// The answers at the mean, one of those under draws, their vote, and the best of them.
    pub chosen: Vec<ChosenAnswers>,
    /// How well each uncertainty finds wrong answers at the mean.
    pub uncertainties: Vec<UncertaintyScores>,
}

/// An uncertainty of an answer: larger is less certain, none where there are no samples.
struct Measure {
    name: &'static str,
    /// Whether it is 1 − the probability that the answer is right.
    is_probability: bool,
    of: fn(&AnsweredPrompt) -> Option<f64>,
}

const fn measure(name: &'static str, of: fn(&AnsweredPrompt) -> Option<f64>) -> Measure {
    Measure {
        name,
        is_probability: false,
        of,
    }
}

const fn probability(name: &'static str, of: fn(&AnsweredPrompt) -> Option<f64>) -> Measure {
    Measure {
        name,
        is_probability: true,
        of,
    }
}

/// In the order of the table.
const MEASURES: [Measure; 15] = [
    probability("1 - p, mean", |a| Some(1.0 - a.sum.log_probability.exp())),
    probability("1 - p, draws", |a| {
        Some(1.0 - a.sum.log_probability_mean.exp())
    }),
    measure("-ln p per token, mean", |a| {
        Some(-a.per_token.log_probability)
    }),
    measure("-ln p per token, draws", |a| {
        Some(-a.per_token.log_probability_mean)
    }),
    measure("entropy, sum", |a| Some(a.sum.entropy)),
    measure("entropy per token", |a| Some(a.per_token.entropy)),
    measure("aleatoric per token", |a| Some(a.per_token.aleatoric)),
    measure("mutual information, sum", |a| {
        Some(a.sum.mutual_information)
    }),
    measure("mutual information per token", |a| {
        Some(a.per_token.mutual_information)
    }),
    measure("pairwise KL per token", |a| Some(a.per_token.pairwise_kl)),
    measure("disagreement per token", |a| Some(a.per_token.disagreement)),
    probability("1 - share of samples", |a| Some(1.0 - a.support?)),
    measure("semantic entropy", |a| {
        Some(a.consensus.as_ref()?.semantic_entropy)
    }),
    measure("1 - expected utility", |a| Some(1.0 - a.expected_utility?)),
    probability("1 - P(True)", |a| Some(1.0 - a.p_true)),
];

impl AnswerReport {
    /// The report on these answers, of which there is at least one.
    pub fn new(answered: &[AnsweredPrompt], judgement: &Judgement, bootstrap: &Bootstrap) -> Self {
        let nearest = |prompt: &AnsweredPrompt| {
            let references = &prompt.references;
            judgement.quality.of_nearest(&prompt.answer, references)
        };
        let judged = JudgedAnswers::new(
            answered.iter().map(nearest).collect(),
            judgement.right_from(),
        );
        let found = |measure: &Measure| {
            let values: Option<Vec<f64>> = answered.iter().map(measure.of).collect();
            let values = values.filter(|values| varies(values))?;
            Some(judged.found_by(measure.name, &values, measure.is_probability, bootstrap))
        };
        Self {
            prompts: answered.len(),
            samples: answered.first().map_or(0, |prompt| prompt.samples.len()),
            quality: judgement.quality,
            right_from: judgement.right_from(),
            right: judged.right.iter().filter(|right| **right).count(),
            chosen: chosen(answered, bootstrap),
            uncertainties: MEASURES.iter().filter_map(found).collect(),
        }
    }

    /// How near the chosen answers are to their references.
    pub fn chosen_table(&self) -> Table {
        let head = ["", "exact match", "token F1", "ROUGE-L", "chrF2"];
        let row = |chosen: &ChosenAnswers| {
            let AnswerScores {
                exact_match,
                token_f1,
                rouge_l,
                chrf,
            } = chosen.scores;
            let scores = [exact_match, token_f1, rouge_l, chrf].map(|score| score.to_string());
            std::iter::once(chosen.name.clone()).chain(scores).collect()
        };
        Table {
            head: head.map(String::from).to_vec(),
            rows: self.chosen.iter().map(row).collect(),
        }
    }

    /// How well uncertainties find wrong answers.
    pub fn uncertainty_table(&self) -> Table {
        let head = [
            "uncertainty of the answer at the mean",
            "AUROC",
            "PRR",
            "PRR to 0.5",
            "AURC",
            "error at 80 %",
            "ECE (10 bins)",
        ];
        let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
        let row = |scores: &UncertaintyScores| {
            let known = |score: Option<ScoreWithInterval>| {
                score.map_or("–".into(), |score| score.to_string())
            };
            vec![
                scores.name.clone(),
                known(scores.auroc),
                known(scores.prr),
                known(scores.prr_half),
                number(Some(scores.aurc)),
                number(Some(scores.error_at_80)),
                number(scores.ece),
            ]
        };
        Table {
            head: head.map(String::from).to_vec(),
            rows: self.uncertainties.iter().map(row).collect(),
        }
    }
}

/// Whether values differ at all: what is the same for all answers orders none.
fn varies(values: &[f64]) -> bool {
    values.iter().any(|value| *value != values[0])
}

/// The scores of the answers at the mean, and with samples of one of them, their vote and the best.
fn chosen(answered: &[AnsweredPrompt], bootstrap: &Bootstrap) -> Vec<ChosenAnswers> {
    type Choice = fn(&AnsweredPrompt) -> Option<Vec<&str>>;
    let choices: [(&str, Choice); 4] = [
        ("at the mean", |prompt| Some(vec![&prompt.answer])),
        ("one sample", |prompt| {
            let samples: Vec<&str> = prompt.samples.iter().map(String::as_str).collect();
            (!samples.is_empty()).then_some(samples)
        }),
        ("vote of samples", |prompt| Some(vec![prompt.vote()?])),
        ("minimum Bayes risk", |prompt| Some(vec![prompt.best()?])),
    ];
    let scores = |(name, choice): (&str, Choice)| {
        let referred = answered.iter().map(|prompt| {
            Some(ReferredAnswers {
                answers: choice(prompt)?,
                references: &prompt.references,
            })
        });
        let referred: Option<Vec<ReferredAnswers<'_>>> = referred.collect();
        Some(ChosenAnswers {
            name: name.into(),
            scores: AnswerScores::of(&referred?, bootstrap),
        })
    };
    choices.into_iter().filter_map(scores).collect()
}

impl fmt::Display for AnswerReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = match self.samples {
            0 => String::new(),
            samples => format!(", {samples} samples each"),
        };
        writeln!(formatter, "answers to {} prompts{samples}", self.prompts)?;
        writeln!(formatter, "{}", self.chosen_table().to_text())?;
        writeln!(
            formatter,
            "{} of {} answers at the mean are right: {} at least {}",
            self.right,
            self.prompts,
            self.quality.name(),
            self.right_from
        )?;
        write!(formatter, "{}", self.uncertainty_table().to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::FinishReason;
    use crate::metrics::text::Agreement;
    use crate::predict::WrittenScores;

    fn answered(answer: &str, reference: &str, samples: &[&str], log_p: f64) -> AnsweredPrompt {
        let scores = WrittenScores {
            log_probability: log_p,
            log_probability_mean: log_p,
            ..WrittenScores::default()
        };
        let prompt = AnsweredPrompt {
            id: answer.into(),
            references: vec![reference.into()],
            answer: answer.into(),
            finish_reason: FinishReason::Stop,
            sum: scores,
            per_token: scores,
            p_true: 0.5,
            samples: samples.iter().map(|text| text.to_string()).collect(),
            consensus: None,
            support: None,
            expected_utility: None,
        };
        prompt.compared(&Agreement::default())
    }

    #[test]
    fn a_vote_can_be_right_where_the_mean_is_wrong() {
        let prompts = [
            answered("red", "blue", &["blue", "blue", "red"], -2.0),
            answered("green", "green", &["green", "green", "green"], -0.1),
        ];
        let report = AnswerReport::new(&prompts, &Judgement::default(), &Bootstrap::default());
        let exact = |place: usize| report.chosen[place].scores.exact_match.value;
        assert_eq!([exact(0), exact(2), exact(3)], [0.5, 1.0, 1.0]);
        assert!((exact(1) - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!((report.right, report.samples), (1, 3));
        let auroc = |name: &str| {
            let found = report.uncertainties.iter().find(|u| u.name == name);
            found.and_then(|found| found.auroc).map(|auroc| auroc.value)
        };
        for name in ["1 - p, mean", "1 - share of samples", "semantic entropy"] {
            assert_eq!(auroc(name), Some(1.0), "{name}");
        }
        // The same for both answers: it orders nothing, and is left away.
        assert_eq!(auroc("1 - P(True)"), None);
        let text = report.to_string();
        assert!(text.contains("1 of 2 answers"), "{text}");
    }

    #[test]
    fn without_samples_only_the_answer_at_the_mean_is_scored() {
        let prompts = [answered("red", "red car", &[], -2.0)];
        let judgement = Judgement {
            quality: Similarity::F1,
            right_from: None,
        };
        let report = AnswerReport::new(&prompts, &judgement, &Bootstrap::default());
        assert_eq!((report.chosen.len(), report.right), (1, 1));
    }
}
