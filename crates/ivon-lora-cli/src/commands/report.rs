//! `report`: the folders of runs, or of a comparison → one page, and its plots as files.

use std::path::PathBuf;

use ivon_lora::files;
use ivon_lora_lab::compare::{COMPARISON_FILE, Comparison};
use ivon_lora_lab::report::Figure;
use ivon_lora_lab::report::RunRecord;
use ivon_lora_lab::report::page::{RunPage, runs_figures, runs_html};
use serde_json::json;

use crate::args::ReportArgs;
use crate::exit::Failure;
use crate::names::Flags;
use crate::render::{print, write_line};

/// The page's default name.
pub const FILE: &str = "report.html";

/// Writes the page.
///
/// # Errors
/// If a run cannot be read or a file cannot be written.
pub fn run(args: &ReportArgs) -> Result<(), Failure> {
    if let [folder] = &args.runs[..]
        && folder.join(COMPARISON_FILE).exists()
    {
        let compared = Comparison::read(folder)?;
        return write(
            args,
            &compared.html(),
            &compared.figures(),
            folder.join(FILE),
        );
    }
    let pages = args
        .runs
        .iter()
        .map(|folder| RunRecord::read(folder)?.page())
        .collect::<Result<Vec<RunPage>, _>>()?;
    let (html, figures, default) = match (&pages[..], &args.runs[..]) {
        ([page], [folder]) => (page.html(&Flags), page.figures(), folder.join(FILE)),
        _ => {
            let pages = told_apart(pages, &args.runs);
            (runs_html(&pages), runs_figures(&pages), PathBuf::from(FILE))
        }
    };
    write(args, &html, &figures, default)
}

/// Writes the page and its plots, and prints where they are.
fn write(
    args: &ReportArgs,
    html: &str,
    figures: &[Figure],
    default: PathBuf,
) -> Result<(), Failure> {
    let out = args.out.clone().unwrap_or(default);
    files::write_bytes(&out, html.as_bytes())?;
    let plots = match &args.svg {
        Some(folder) => write_plots(folder.clone(), figures)?,
        None => Vec::new(),
    };
    if args.json {
        let paths: Vec<String> = plots
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return write_line(&json!({ "page": out.display().to_string(), "plots": paths }));
    }
    let beside = args.svg.as_ref().map_or_else(String::new, |folder| {
        format!(" and {} plots in {}", plots.len(), folder.display())
    });
    print(&format!("wrote {}{beside}", out.display()))
}

/// Runs whose folders have the same name are called by their full paths.
fn told_apart(pages: Vec<RunPage>, folders: &[PathBuf]) -> Vec<RunPage> {
    let names: Vec<String> = pages.iter().map(|page| page.name.clone()).collect();
    let name = |index: usize| match names.iter().filter(|name| **name == names[index]).count() {
        1 => names[index].clone(),
        _ => folders[index].display().to_string(),
    };
    pages
        .into_iter()
        .enumerate()
        .map(|(index, page)| RunPage {
            name: name(index),
            ..page
        })
        .collect()
}

/// Writes each plot as a file of its own.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_plots(folder: PathBuf, figures: &[Figure]) -> Result<Vec<PathBuf>, Failure> {
    files::create_folder(&folder)?;
    let mut written = Vec::new();
    for figure in figures {
        let path = folder.join(format!("{}.svg", figure.file));
        files::write_bytes(&path, figure.picture.file().as_bytes())?;
        written.push(path);
    }
    Ok(written)
}
