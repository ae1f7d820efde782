//! `decide`: a rule that says when to answer, its promise, and how it does on test.

use std::path::Path;

use ivon_lora::decide::{DecisionScore, Limit, Nonconformity, Promise};
use ivon_lora::files;
use ivon_lora_lab::report::DecideReport;
use ivon_lora_lab::study::{self, DecideRequest, DecisionForm, NamedCosts};

use super::subject;
use super::{prepare_for, stopped};
use crate::args::DecideArgs;
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// The probability with which a threshold keeps its promise, if none is named.
const CONFIDENCE: f64 = 0.9;
/// The largest file of costs.
const LARGEST_COSTS: u64 = 1 << 20;
/// The word for sets that cover each class by itself.
const CLASS_CONDITIONAL: &str = "class-conditional";

/// Finds a rule.
///
/// # Errors
/// If flags, base model, adapter, rows or a file are wrong, and on a stop by a signal. That no rule
/// can promise what was asked is a result.
pub fn run(args: DecideArgs, signals: &Signals) -> Result<(), Failure> {
    let form = form(&args)?;
    check_share("choosing-share", args.choosing_share)?;
    let costs = args.costs.as_deref().map(read_costs).transpose()?;
    let subject = subject::request(&args.subject, &args.task, &args.prediction)?;
    prepare_for(&args.prediction)?;
    let mut screen = Screen::new(args.screen);
    let request = DecideRequest {
        subject,
        form,
        costs,
        share: args.choosing_share,
        seed: args.division_seed,
        write: !args.dry_run,
    };
    let report = study::decide(&request, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let report = report.map_err(|error| stopped(error, signals))?;
    screen.result("decided", &text(&report), &report)
}

/// The sentences of a report, and the table of what is realised.
fn text(report: &DecideReport) -> String {
    let sentences = report.sentences().join("\n");
    if report.realised.is_empty() {
        return sentences;
    }
    format!(
        "{sentences}\n\n{} ({} examples)\n{}",
        report.split,
        report.n,
        report.table().to_text()
    )
}

/// The form of the rule.
fn form(args: &DecideArgs) -> Result<DecisionForm, CliError> {
    if let Some(how) = &args.sets {
        return sets(args, how);
    }
    let scores = args.score.iter().map(|name| score(name));
    let scores = scores.collect::<Result<Vec<_>, _>>()?;
    if let Some(at_most) = args.max_cost_per_case.filter(|_| args.in_expectation) {
        let [score] = scores[..] else {
            return Err(CliError::usage(
                "`--in-expectation` takes one `--score`: to choose among several by the same rows would break the promise",
                None,
            ));
        };
        return Ok(DecisionForm::ExpectedCost { at_most, score });
    }
    let limits = [
        args.max_error.map(Limit::Error),
        args.max_cost.map(Limit::Cost),
        args.max_cost_per_case.map(Limit::CostPerCase),
    ];
    let limits: Vec<Limit> = limits.into_iter().flatten().collect();
    let recalls = args.min_recall.iter().map(|given| recall(given));
    let recalls = recalls.collect::<Result<Vec<_>, _>>()?;
    if limits.is_empty() && recalls.is_empty() {
        return Err(CliError::usage(
            "nothing says what the rule must promise",
            Some("the largest error among answered cases is `--max-error 0.05`, sets of answers are `--sets lac`".into()),
        ));
    }
    Ok(DecisionForm::Threshold {
        limits,
        recalls,
        confidence: args.confidence.unwrap_or(CONFIDENCE),
        scores,
        per_class: args.per_class,
    })
}

/// The sets of answers of this name.
fn sets(args: &DecideArgs, how: &str) -> Result<DecisionForm, CliError> {
    let known = Nonconformity::ALL.map(|one| (one.name(), one));
    let named = known.iter().find(|(name, _)| *name == how);
    let nonconformity = match named {
        Some((_, one)) => *one,
        None if how == CLASS_CONDITIONAL => Nonconformity::Lac,
        None => {
            let names = known
                .iter()
                .map(|(name, _)| *name)
                .chain([CLASS_CONDITIONAL]);
            return Err(unknown("sets", how, &names.collect::<Vec<_>>()));
        }
    };
    Ok(DecisionForm::Sets {
        nonconformity,
        coverage: args.coverage,
        promise: args
            .confidence
            .map_or(Promise::InExpectation, Promise::WithProbability),
        per_class: args.per_class || how == CLASS_CONDITIONAL,
    })
}

fn score(name: &str) -> Result<DecisionScore, CliError> {
    let mut scores = DecisionScore::ALL.into_iter();
    let found = scores.find(|score| score.name() == name);
    found.ok_or_else(|| unknown("score", name, &DecisionScore::ALL.map(DecisionScore::name)))
}

fn unknown(flag: &str, found: &str, names: &[&str]) -> CliError {
    let message = format!(
        "`--{flag}` is `{found}`, expected one of `{}`",
        names.join("`, `")
    );
    CliError::usage(message, did_you_mean(found, names.iter().copied()))
}

/// `CLASS=X`.
fn recall(given: &str) -> Result<(String, f64), CliError> {
    let parts = given.rsplit_once('=');
    let read = parts.and_then(|(class, share)| Some((class.to_string(), share.parse().ok()?)));
    read.ok_or_else(|| {
        CliError::usage(
            format!("`--min-recall` is `{given}`, expected CLASS=X, such as `Yes=0.95`"),
            None,
        )
    })
}

/// Checks a share of rows; none may be left for the rule at 1.
fn check_share(flag: &str, share: f64) -> Result<(), CliError> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    Err(CliError::usage(
        format!("`--{flag}` is `{share}`, expected a number from 0, below 1"),
        None,
    ))
}

/// The costs in a file.
fn read_costs(path: &Path) -> Result<NamedCosts, CliError> {
    let text = files::read_text(path, LARGEST_COSTS)?;
    serde_json::from_str(&text).map_err(|error| CliError {
        message: format!("`{}` holds no costs: {error}", path.display()),
        hint: Some(
            "it is a JSON object of objects: `{\"right answer\": {\"given answer\": 2.5}}`".into(),
        ),
        exit: Exit::File,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recall_names_a_class_and_a_share() {
        assert_eq!(recall("a=b=0.9").unwrap(), ("a=b".to_string(), 0.9));
        assert_eq!(
            recall("0.9").unwrap_err().message,
            "`--min-recall` is `0.9`, expected CLASS=X, such as `Yes=0.95`"
        );
        assert_eq!(
            score("confidance").unwrap_err().to_string(),
            "error: `--score` is `confidance`, expected one of `confidence`, `entropy`, `mutual-information`, `expected-cost`\n\n\
             hint: did you mean `confidence`?"
        );
    }
}
