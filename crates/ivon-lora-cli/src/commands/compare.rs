//! `compare`: a file → runs → one table in every format.

mod scheduler;
mod submit;

use std::path::Path;
use std::time::Duration;

use ivon_lora::files;
use ivon_lora_lab::compare::{
    COMPARISON_FILE, CompareConfig, Comparison, ComparisonResults, RunOutcome, compare, gather,
    list, make_run, plan,
};

use super::{prepare, stop, stopped};
use crate::args::{CompareArgs, ScreenArgs};
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;

/// Runs the comparison.
///
/// # Errors
/// If the file, the rows or the model of a task are wrong, or a result cannot be written; if any
/// run failed, once the others are done; and on a stop by a signal.
pub fn run(args: CompareArgs, signals: &Signals) -> Result<(), Failure> {
    if let Some(packed) = &args.from {
        return again(packed, args.out.as_deref(), args.screen);
    }
    let config = config(&args)?;
    // The devices of the runs are checked when they start.
    let threads = args.threads.or(config.threads());
    prepare("cpu", threads.map(|threads| threads as usize))?;
    if let Some(packed) = &args.pack {
        files::check_can_write(packed)?;
    }
    let mut screen = Screen::new(args.screen);
    if args.list {
        return show_list(&config, &mut screen);
    }
    if let Some(id) = &args.cell {
        return make_cell(&config, id, &mut screen, signals);
    }
    if args.gather {
        return gather_all(&config, &args, &mut screen);
    }
    if let Some(scheduler) = &args.submit {
        return submit::run(&config, &args, scheduler, &mut screen);
    }
    let plan = plan(&config)?;
    if args.dry_run {
        return screen.result("planned", &plan.to_string(), &plan);
    }
    screen.note(plan.to_string());
    let compared = compare(&config, &mut |event| screen.show(&event) && signals.go_on());
    screen.close();
    let results = compared.map_err(|error| stopped(error, signals))?;
    let compared = results.comparison()?;
    write(&config.out, &compared)?;
    show(&compared, Some(&config.out), &mut screen)?;
    pack(&results, args.pack.as_deref(), &mut screen)?;
    if compared.is_interrupted {
        return Err(stop(signals));
    }
    all_succeeded(&compared)
}

/// Packs the results into a file, if one is named.
fn pack(
    results: &ComparisonResults,
    packed: Option<&Path>,
    screen: &mut Screen,
) -> Result<(), Failure> {
    if let Some(packed) = packed {
        results.write(packed)?;
        screen.note(format!("the results are packed in {}", packed.display()));
    }
    Ok(())
}

/// Prints a line for each run.
fn show_list(config: &CompareConfig, screen: &mut Screen) -> Result<(), Failure> {
    let mut runs = list(config)?.into_iter();
    runs.try_for_each(|run| screen.result("run", &run.to_string(), &run))
}

/// Makes one run.
fn make_cell(
    config: &CompareConfig,
    id: &str,
    screen: &mut Screen,
    signals: &Signals,
) -> Result<(), Failure> {
    let made = make_run(config, id, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let not_now = |message, hint: &str| CliError {
        message,
        hint: Some(hint.into()),
        exit: Exit::NotNow,
    };
    match made.map_err(|error| stopped(error, signals))? {
        RunOutcome::Finished => {
            let value = serde_json::json!({ "id": id });
            screen.result("finished", &format!("{id} is finished"), &value)
        }
        RunOutcome::Stopped => Err(stop(signals)),
        RunOutcome::Failed(reason) => Err(CliError {
            message: format!("{id} failed: {reason}"),
            hint: Some("the same command tries it again".into()),
            exit: Exit::Failure,
        }
        .into()),
        RunOutcome::Waits(ids) => {
            let message = format!("{id} waits for {}, which are not finished", shortened(&ids));
            Err(not_now(message, "make them first: `--cell` with each of these ids").into())
        }
        RunOutcome::Elsewhere(reason) => {
            let hint = "try again later; a process that has died is known by its silence, see `--stale-after`";
            Err(not_now(format!("{id} is left alone: {reason}"), hint).into())
        }
    }
}

/// The first of several ids, and how many others there are.
fn shortened(ids: &[String]) -> String {
    match ids {
        [] => "others".into(),
        [one] => format!("`{one}`"),
        [first, others @ ..] => format!("`{first}` and {} others", others.len()),
    }
}

/// Makes the table of what is there.
fn gather_all(
    config: &CompareConfig,
    args: &CompareArgs,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let results = gather(config)?;
    let compared = results.comparison()?;
    write(&config.out, &compared)?;
    show(&compared, Some(&config.out), screen)?;
    pack(&results, args.pack.as_deref(), screen)?;
    if compared.is_interrupted {
        screen.note("not all runs are made yet: `--list` says which are finished");
    }
    all_succeeded(&compared)
}

/// The file of the comparison, with the flags over it.
fn config(args: &CompareArgs) -> Result<CompareConfig, Failure> {
    // Without a file the arguments are refused, unless a packed one is read.
    let file = args.file.clone().unwrap_or_default();
    let mut config = CompareConfig::read(&file)?;
    if let Some(out) = &args.out {
        config.out.clone_from(out);
    }
    match args.stale_after {
        None => {}
        Some(0) => {
            let message = "`--stale-after` is `0`, expected at least 1";
            return Err(CliError::usage(message, None).into());
        }
        Some(seconds) => config.stale_after = Duration::from_secs(seconds.into()),
    }
    if let Some(jobs) = args.jobs {
        config.jobs = jobs as usize;
        config.validate()?;
    }
    Ok(config)
}

/// Fails if any run or file failed.
fn all_succeeded(compared: &Comparison) -> Result<(), Failure> {
    match compared.failed.len() {
        0 => Ok(()),
        count => Err(CliError {
            message: format!("{count} of the comparison's runs and files failed"),
            hint: Some(
                "their reasons stand below the table; the same command tries them again".into(),
            ),
            exit: Exit::Failure,
        }
        .into()),
    }
}

/// Makes the table of packed results again; its formats go into a folder, if one is named.
fn again(packed: &Path, out: Option<&Path>, screen: ScreenArgs) -> Result<(), Failure> {
    let compared = ComparisonResults::read(packed)?.comparison()?;
    if let Some(out) = out {
        files::create_folder(out)?;
        write(out, &compared)?;
    }
    show(&compared, out, &mut Screen::new(screen))
}

/// Shows the table, what is not in it, and where its formats are.
fn show(compared: &Comparison, out: Option<&Path>, screen: &mut Screen) -> Result<(), Failure> {
    let formats = out.map_or_else(String::new, |out| {
        format!("\nthe table in every form is in {}", out.display())
    });
    let (table, failures) = (compared.table.to_text(), failures(compared));
    screen.result("compared", &format!("{table}{failures}{formats}"), compared)
}

/// Writes the table in every format.
fn write(out: &Path, compared: &Comparison) -> Result<(), Failure> {
    let table = &compared.table;
    let json = serde_json::to_string_pretty(compared).map_err(std::io::Error::from)?;
    let forms = [
        ("table.txt", table.to_text()),
        ("table.md", table.to_markdown()),
        ("table.tex", table.to_latex()),
        ("table.csv", table.to_csv()),
        (COMPARISON_FILE, json),
        ("report.html", compared.html()),
    ];
    for (name, text) in forms {
        files::write_bytes(&out.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The runs that are missing from the table, with reasons.
fn failures(compared: &Comparison) -> String {
    compared
        .failed
        .iter()
        .map(|failed| format!("\nfailed: {}: {}\n", failed.name, failed.reason))
        .collect()
}
