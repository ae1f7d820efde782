//! One run → its page.

use std::borrow::Cow;

use super::examples::ExampleRow;
use super::figures::{self, Part};
use super::{Distribution, RunPage};
use crate::report::html::{
    Cell, Section, document, figures as grid, note, paragraph, plain_table, settings, table,
};
use crate::report::plot::escape;
use ivon_lora::answer::{AnswerReport, TextReport};
use ivon_lora::bundle::AdapterSummary;
use ivon_lora::metrics::{
    Finding, Scores, Severity, class_table, confusion_table, majority_sentence,
};
use ivon_lora::sentence::{Names, sentence, setting};

/// The page.
pub fn html(run: &RunPage, names: &dyn Names) -> String {
    let mut sections = Vec::new();
    let mut add = |id: &str, title: &str, html: String| {
        if !html.is_empty() {
            sections.push(Section::new(id, title, html));
        }
    };
    add("scores", "Scores", scores(run));
    add("classes", "Classes", classes(run));
    let answers = run.texts.as_ref().and_then(|texts| texts.answers.as_ref());
    add(
        "answers",
        "Written answers",
        answers.map_or_else(String::new, written),
    );
    add("findings", "Findings", findings(&run.findings, names));
    for (part, figures) in figures::all(run) {
        let (id, title, words) = about(part, run);
        let html = paragraph(&words) + &grid(&figures) + &tables(part, run);
        add(id, title, html);
    }
    add("examples", "Examples", examples(run, names));
    if !run.settings.is_empty() {
        add("configuration", "Configuration", settings(&run.settings));
    }
    document(
        "a run of ivon-lora",
        &run.name,
        &run.sentence,
        &run.facts,
        &sections,
    )
}

/// Id, title and text of a part.
fn about(part: Part, run: &RunPage) -> (&'static str, &'static str, Cow<'static, str>) {
    let (id, title, words) = match part {
        Part::Calibration => (
            "calibration",
            "Calibration",
            "How often answers of one confidence are right. On the broken line confidence and accuracy agree; below it the model is surer \
             than it is right. Whiskers are 95 % intervals of the accuracy in a bin; a bin of few examples says little.",
        ),
        Part::Confidence => (
            "confidence",
            "Confidence",
            "How sure the answers are, the right ones on top of the wrong ones.",
        ),
        Part::Selective => (
            "selective",
            "Leaving the least certain out",
            "When only the surest share is answered and the rest goes to someone else, this is how often what is answered is wrong.",
        ),
        Part::Training => (
            "training",
            "Training",
            "What the steps did, and how the scores on tune followed.",
        ),
        Part::Posterior => {
            return (
                "posterior",
                "Weights and posterior",
                weights(run.adapter.as_ref()).into(),
            );
        }
        Part::Scale => (
            "scale",
            "Scale of the posterior",
            "The posterior's variance multiplied by τ: scores with more and more draws averaged. τ is chosen on rows of its own.",
        ),
        Part::Prune => (
            "prune",
            "Pruning",
            "Scores when the weights are set to zero that the posterior is least sure of.",
        ),
        Part::Shift => (
            "shift",
            "Other data",
            "Sets that the run was not trained for, below its own held-out rows. An uncertainty that knows what the model does not know is \
             larger there: AUROC is how often a row of the set is less certain than a held-out one; 0.5 says nothing.",
        ),
    };
    (id, title, words.into())
}

/// The text above the pictures of the weights.
fn weights(adapter: Option<&AdapterSummary>) -> String {
    let Some(posterior) = adapter.and_then(AdapterSummary::posterior_in_words) else {
        return "Where the adapter has learned. It is a point estimate: there is no posterior."
            .into();
    };
    match adapter.is_some_and(AdapterSummary::has_sigma) {
        true => format!(
            "Where the adapter has learned, and how far each layer's weights may move without a loss that the data would notice. \
             The posterior is {posterior}."
        ),
        false => format!(
            "Where the adapter has learned. The posterior is {posterior}. Its file has no width of single weights that could be drawn."
        ),
    }
}

/// The tables below the pictures of a part.
fn tables(part: Part, run: &RunPage) -> String {
    match (part, &run.shift) {
        (Part::Shift, Some(report)) => {
            plain_table(&report.scores()) + &plain_table(&report.detection())
        }
        _ => String::new(),
    }
}

fn scores(run: &RunPage) -> String {
    if let Some(report) = &run.texts {
        return text_scores(report);
    }
    if run.distributions.is_empty() {
        return note("There is no evaluation: the run has not ended.");
    }
    let n = run.distributions[0].scores.n;
    let bins = run.distributions[0].scores.num_bins;
    let ece = format!("ECE ({bins} bins)");
    let head = [
        "",
        "accuracy",
        "NLL, nats",
        &ece,
        "ECE floor",
        "ECE, equal mass",
        "Brier",
        "area, selective",
    ];
    let scaled = run.at_temperature.iter();
    let scaled = scaled.map(|(name, scores)| score_cells(name, scores));
    let rows = run.distributions.iter().map(row).chain(scaled);
    let rows: Vec<_> = rows.map(|cells| (cells, None)).collect();
    let calibration = run.calibration.as_ref();
    let calibration = calibration.map(|sentence| note(&first_up(sentence)));
    paragraph(&format!(
        "{n} examples of {}.{}",
        scored_rows(run),
        answers_with(run)
    )) + &table(&head, 1, &rows)
        + &calibration.unwrap_or_default()
        + &note(
            "Below each score its 95 % bootstrap interval over examples. NLL, ECE and Brier: lower is better. The floor is the ECE that a \
             perfectly calibrated model with these confidences would show on so many examples; an ECE near it is no sign of miscalibration.",
        )
}

/// The scores of the tokens of texts.
fn text_scores(report: &TextReport) -> String {
    let in_words = match report.samples {
        0 => String::new(),
        _ => " Under draws a token's probability is the mean over draws.".into(),
    };
    paragraph(&format!("{}.{in_words}", report.rows_named()))
        + &plain_table(&report.table())
        + &note(
            "In brackets the 95 % bootstrap interval over whole texts. NLL, perplexity, bits per byte and ECE: lower is better.",
        )
}

/// How near written answers are to their references, and which uncertainties find the wrong ones.
fn written(report: &AnswerReport) -> String {
    let AnswerReport {
        prompts,
        samples,
        right,
        right_from,
        ..
    } = report;
    paragraph(&format!(
        "{prompts} prompts, {samples} samples for each. {right} of the answers at the mean are right: their {} is {right_from} or more.",
        report.quality.name()
    )) + &plain_table(&report.chosen_table())
        + &plain_table(&report.uncertainty_table())
        + &note(
            "AUROC: how often a wrong answer is less certain than a right one. PRR: the share of the way from a random to a perfect \
             order of rejection. AURC and error at 80 %: lower is better.",
        )
}

/// The split that was scored, and the source of its rows.
fn scored_rows(run: &RunPage) -> String {
    match &run.source {
        Some(source) => format!("{}, {source}", run.split),
        None => run.split.clone(),
    }
}

/// Which distribution the run answers with, if there are several.
fn answers_with(run: &RunPage) -> String {
    match run.recommended() {
        Some(one) if run.distributions.len() > 1 => {
            format!(" The run answers with: {}.", one.name)
        }
        _ => String::new(),
    }
}

/// The cells of a distribution in the table of scores.
pub fn row(one: &Distribution) -> Vec<Cell> {
    score_cells(&one.name, &one.scores)
}

fn score_cells(name: &str, scores: &Scores) -> Vec<Cell> {
    let with = |value: f64, [low, high]: [f64; 2]| {
        Cell::with(format!("{value:.3}"), format!("{low:.3} – {high:.3}"))
    };
    vec![
        Cell::of(name),
        with(scores.accuracy, scores.intervals.accuracy),
        with(scores.nll, scores.intervals.nll),
        with(scores.ece, scores.intervals.ece),
        Cell::of(format!("{:.3}", scores.ece_floor)),
        Cell::of(format!("{:.3}", scores.ece_equal_mass)),
        with(scores.brier, scores.intervals.brier),
        Cell::of(format!("{:.3}", scores.selective_area)),
    ]
}

/// Precision, recall and F1 of each class, and the confusion matrix, for the distribution that the run
/// answers with.
fn classes(run: &RunPage) -> String {
    let chosen = run.recommended().or_else(|| run.distributions.last());
    let Some((one, classes)) = chosen.and_then(|one| Some((one, one.scores.classes.as_ref()?)))
    else {
        return String::new();
    };
    let matrix = confusion_table(classes, &run.answers).map_or_else(String::new, |found| {
        format!(
            "<h3>Confusion matrix</h3>{}",
            note("Rows by their label, columns by the answer that they are given.")
        ) + &plain_table(&found)
    });
    paragraph(&format!(
        "Of {}: {}. Macro F1 {:.3}.",
        one.name,
        majority_sentence(classes, &run.answers),
        classes.macro_f1
    )) + &plain_table(&class_table(classes, &run.answers))
        + &matrix
}

fn findings(findings: &[Finding], names: &dyn Names) -> String {
    if findings.is_empty() {
        return note("Nothing to remark.");
    }
    let items = findings.iter().map(|finding| finding_item(finding, names));
    let items: String = items.collect();
    format!("<ul class=\"findings\">{items}</ul>")
}

fn finding_item(finding: &Finding, names: &dyn Names) -> String {
    let tone = match finding.severity {
        Severity::Problem => 5,
        Severity::Warning => 1,
        Severity::Note => 2,
    };
    let name = finding.severity.name();
    format!(
        "<li class=\"tone-{tone}\"><b>{name}</b><p>{}</p><p class=\"remedy\">{}</p></li>",
        escape(&first_up(&finding.what)),
        escape(&first_up(&finding.remedy.written(names)))
    )
}

/// A sentence with a capital letter and a full stop.
fn first_up(sentence: &str) -> String {
    // The Hessian's h is a symbol and stays lower-case.
    if sentence.starts_with("h ") {
        return format!("{sentence}.");
    }
    let mut letters = sentence.chars();
    let first = letters
        .next()
        .map_or_else(String::new, |letter| letter.to_uppercase().to_string());
    format!("{first}{}.", letters.as_str())
}

fn examples(run: &RunPage, names: &dyn Names) -> String {
    let rows = &run.examples;
    if rows.uncertain.is_empty() {
        return String::new();
    }
    let has_text = rows.uncertain.iter().any(|row| row.text.is_some());
    let mut html = String::new();
    if !has_text {
        let said = sentence!(
            "By id; a run with {} keeps the prompts as well.",
            setting("include_text")
        );
        html += &note(&said.written(names));
    }
    html += "<h3>The most confidently wrong</h3>";
    html += &if rows.wrong.is_empty() {
        note("No answer is wrong.")
    } else {
        example_table(&rows.wrong)
    };
    html += "<h3>The most uncertain</h3>";
    html += &example_table(&rows.uncertain);
    html
}

fn example_table(rows: &[ExampleRow]) -> String {
    let has_draws = rows
        .iter()
        .any(|row| row.mutual_information > 0.0 || row.disagreement > 0.0);
    let mut head = vec![
        "example",
        "answer",
        "right is",
        "confidence",
        "entropy, nats",
    ];
    if has_draws {
        head.extend(["of it the weights'", "draws that disagree"]);
    }
    let rows = rows.iter();
    let rows = rows.map(|row| (example_cells(row, has_draws), row.text.clone()));
    table(&head, 3, &rows.collect::<Vec<_>>())
}

fn example_cells(row: &ExampleRow, has_draws: bool) -> Vec<Cell> {
    let right = row.label.clone().unwrap_or_else(|| "not known".into());
    let mut cells = vec![
        Cell::of(&row.id),
        Cell::of(&row.answer),
        Cell::of(right),
        Cell::of(format!("{:.1} %", 100.0 * row.confidence)),
        Cell::of(format!("{:.3}", row.entropy)),
    ];
    if has_draws {
        cells.push(Cell::of(format!("{:.4}", row.mutual_information)));
        cells.push(Cell::of(format!("{:.0} %", 100.0 * row.disagreement)));
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use ivon_lora::posterior::PosteriorKind;

    fn spread(content: Option<&str>) -> AdapterSummary {
        let said = |content: &str| BTreeMap::from([("content".to_string(), content.to_string())]);
        let (beside, layers) = Default::default();
        AdapterSummary {
            parameters: 0,
            beside,
            posterior: content.map(said),
            layers,
            tables: Vec::new(),
        }
    }

    #[test]
    fn the_page_says_of_each_kind_what_its_posterior_is() {
        for kind in PosteriorKind::ALL {
            let said = weights(Some(&spread(Some(kind.tag()))));
            assert!(
                said.contains(kind.stored().words) && !said.contains("point estimate"),
                "{said}"
            );
        }
        let said = weights(Some(&spread(Some("prophecy"))));
        assert!(
            said.contains("The posterior is of a kind that is not built in, `prophecy`"),
            "{said}"
        );
        assert!(weights(Some(&spread(None))).contains("point estimate: there is no posterior"));
    }
}
