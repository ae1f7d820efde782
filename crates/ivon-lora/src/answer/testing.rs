//! What tests of this room ask: the toy with an adapter whose weights vary.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::answerer::Answerer;
use super::options::AnswerOptions;
use crate::bundle::{DECISION_FORMAT, Decision, DecisionPredictions, Division, PredictWith};
use crate::decide::{Cutoff, DecisionScore, Limit, Promise, Rule, ThresholdRule};
use ivon_lora_toy as toy;

pub const PROMPT: &str =
    "At dusk, Anna the farmer met an owl in the forest. Question: Did it attack? Answer:";

/// The toy with an untrained adapter whose weights vary.
pub fn toy_folder() -> (tempfile::TempDir, String, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join(toy::NAME);
    toy::write_model(&base).unwrap();
    let base = base.display().to_string();
    let adapter = folder.path().join("adapter");
    toy::testing::write_untrained_adapter(&base, &adapter).unwrap();
    (folder, base, adapter)
}

/// An answerer that is opened without a warning.
pub fn open(base: &str, adapter: &Path) -> Answerer {
    let options = AnswerOptions::default();
    let mut said = Vec::new();
    let answerer = Answerer::open(base, adapter, &options, &mut |event| {
        said.push(format!("{event:?}"));
        true
    });
    assert!(said.is_empty(), "{said:?}");
    answerer.unwrap()
}

pub fn row(report: &str, label: u8) -> serde_json::Map<String, serde_json::Value> {
    let row = json!({ "report": report, "label": label });
    row.as_object().unwrap().clone()
}

/// A rule of this threshold on the confidence at the mean.
pub fn decision(cutoff: Cutoff, answers: &[String]) -> Decision {
    let rule = Rule::Threshold(ThresholdRule {
        score: DecisionScore::Confidence,
        cutoffs: vec![cutoff],
        limits: vec![Limit::Error(0.1)],
        promise: Promise::WithProbability(0.9),
        rows: 100,
        answered: 50,
    });
    Decision {
        format_version: DECISION_FORMAT,
        program_version: "0".into(),
        promise: rule.sentence(answers),
        rule,
        costs: None,
        answers: answers.to_vec(),
        predictions: DecisionPredictions {
            predict_with: PredictWith::Mean,
            temperature: 1.0,
            samples: 2,
            scale: 0.5,
            seed: 9,
        },
        division: Division {
            rows: "calibrate".into(),
            seed: 0,
            share: 0.25,
            choosing: 30,
            ruling: 100,
        },
        score: DecisionScore::Confidence,
        certainties: vec![0.6; 10],
        weights: None,
    }
}
