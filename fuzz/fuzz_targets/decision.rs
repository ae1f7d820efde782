//! A decision rule in an adapter folder, and what it says about rows.
#![no_main]

use std::path::Path;

use ivon_lora::bundle::{BundleError, DECISION_FILE, Decision};
use ivon_lora::decide::Evidence;
use ivon_lora_fuzz::{check, said, write};

fn parse(folder: &Path, data: &[u8]) {
    write(folder, DECISION_FILE, data);
    let Some(Some(decision)) = said(Decision::read(folder), BundleError::hint) else {
        return;
    };
    let _ = decision.rule.sentence(&decision.answers);
    // Rows with as many choices as there are answers; of a decision without answers each row has its own.
    let choices = match decision.answers.len() {
        0 => 3,
        count => count,
    };
    for certain in 0..choices.min(8) {
        let log = |choice: usize| if choice == certain { -0.1 } else { -3.0 };
        let log_probabilities: Vec<f64> = (0..choices).map(log).collect();
        let evidence = Evidence {
            log_probabilities: &log_probabilities,
            mutual_information: 0.01,
        };
        let _ = decision.rule.verdict(&evidence, decision.costs.as_ref(), 0.5);
        let _ = evidence.case(decision.score, decision.costs.as_ref());
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));
