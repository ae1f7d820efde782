//! `rank`: rows in the order of a score.

use ivon_lora::answer::{
    AnswerError, AnswerOptions, Answerer, RankedBy, RankedRow, labelled_files,
};
use ivon_lora::data::DataError;
use ivon_lora::metrics::Table;
use ivon_lora::watch::Watch;

use super::evaluate::{answer_options, limit, split};
use super::{Place, prepare_for, stopped};
use crate::args::RankArgs;
use crate::exit::{CliError, Failure};
use crate::render::{Screen, print, write_line};
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// Orders the rows.
///
/// # Errors
/// If base model, adapter, rows or a flag are wrong, and on a stop by a signal.
pub fn run(args: RankArgs, signals: &Signals) -> Result<(), Failure> {
    let by = ranked_by(&args.by)?;
    let options = answer_options(&args.task, &args.prediction)?;
    split(&args.prediction)?;
    limit(&args.prediction)?;
    prepare_for(&args.prediction)?;
    let mut screen = Screen::beside_lines(args.screen);
    let place = Place::of(args.adapter.clone(), &mut screen)?;
    let ranked = rank(&place, &options, &args, by, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let mut rows = ranked.map_err(|error| stopped(error, signals))?;
    rows.truncate(args.top.map_or(usize::MAX, |top| top as usize));
    if args.screen.json {
        for row in &rows {
            write_line(&serde_json::to_value(row).map_err(std::io::Error::from)?)?;
        }
        return Ok(());
    }
    print(table(&rows, by).to_text().trim_end())
}

fn rank(
    place: &Place,
    options: &AnswerOptions,
    args: &RankArgs,
    by: RankedBy,
    watch: Watch<'_>,
) -> Result<Vec<RankedRow>, AnswerError> {
    let answerer = Answerer::open(&place.base, &place.adapter, options, watch)?;
    let reader = answerer.task_reader();
    let (name, source) = labelled_files(&args.data, args.prediction.split.as_deref(), reader, &[])?;
    let most = args.prediction.eval_limit.map(|limit| limit as usize);
    let set = answerer.example_set(&name, source, most, watch)?;
    match set.is_empty() {
        true => Err(DataError::EmptySet {
            what: format!("`{}`", args.data.display()),
        }
        .into()),
        false => answerer.rank(&set, by, watch),
    }
}

/// A line for each row.
fn table(rows: &[RankedRow], by: RankedBy) -> Table {
    let score = format!("{}, nats", by.name());
    let head = ["", "row", &score, "label", "answer", "confidence"];
    let line = |(place, row): (usize, &RankedRow)| {
        vec![
            (place + 1).to_string(),
            row.id.clone(),
            format!("{:.3}", row.score),
            row.label.clone().unwrap_or_default(),
            row.answer.clone(),
            format!("{:.3}", row.confidence),
        ]
    };
    Table {
        head: head.map(String::from).into(),
        rows: rows.iter().enumerate().map(line).collect(),
    }
}

fn ranked_by(name: &str) -> Result<RankedBy, CliError> {
    let names = RankedBy::ALL.map(RankedBy::name);
    let found = RankedBy::ALL.into_iter().find(|by| by.name() == name);
    found.ok_or_else(|| {
        let message = format!(
            "`--by` is `{name}`, expected one of `{}`",
            names.join("`, `")
        );
        CliError::usage(message, did_you_mean(name, names))
    })
}
