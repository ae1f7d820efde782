//! `compare`: a file → runs → one table in every format.

use std::path::Path;

use ivon_lora::files;
use ivon_lora_lab::compare::{
    COMPARISON_FILE, CompareConfig, Comparison, ComparisonResults, compare, plan,
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
    if compared.is_interrupted {
        return Err(stop(signals));
    }
    if let Some(packed) = &args.pack {
        results.write(packed)?;
        screen.note(format!("the results are packed in {}", packed.display()));
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
