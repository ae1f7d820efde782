//! `data preview`: a data set as the model will see it.

use ivon_lora::data::{self, DataConfig, Task};
use ivon_lora::run::RunConfig;

use super::{detect_task, open_headers, role_named};
use crate::args::{PreviewArgs, ScreenArgs};
use crate::colour;
use crate::exit::{CliError, Failure};
use crate::render::{Screen, print, write_pretty};
use crate::resolve;

/// Prints the preview.
///
/// # Errors
/// If settings, data or tokenizer are wrong.
pub fn run(args: &PreviewArgs) -> Result<(), Failure> {
    let config = resolve::preview(
        args.config.as_deref(),
        args.model.as_ref(),
        args.data.as_deref(),
        &args.settings,
    )?;
    let role = role_named(&args.role)?;
    let (model, mut settings) = model_and_data(config)?;
    let mut screen = Screen::new(ScreenArgs {
        quiet: args.json,
        json: false,
    });
    if let Some(note) = detect_task(&mut settings)? {
        screen.note(note);
    }
    let task = Task::from_config(&settings)?;
    let dataset = data::load(&settings, &task)?;
    let headers = open_headers(&model, &mut screen)?;
    let tokenizer = headers.checkpoint().tokenizer()?;
    let tokenizer = settings.chat_template.put_into(tokenizer)?;
    screen.close();
    let notes = &dataset.report.notes;
    notes.iter().for_each(|note| screen.note(note.as_str()));
    let warnings = &dataset.report.warnings;
    warnings.iter().for_each(|note| screen.note(note.as_str()));
    let preview = data::preview(
        dataset.required(role)?,
        &dataset.report.dropped,
        &tokenizer,
        settings.encode_options(&task),
        args.count as usize,
    )?;
    if args.json {
        write_pretty(&preview)
    } else {
        print(&preview.to_text(&colour::trained()))
    }
}

/// The model and the data that a run names.
fn model_and_data(config: RunConfig) -> Result<(String, DataConfig), CliError> {
    if config.data.path.as_os_str().is_empty() {
        let hint = "name a folder or a file with `--data`".to_string();
        return Err(CliError::usage("no data are named", Some(hint)));
    }
    let model = config.model.path.ok_or_else(|| {
        let hint = "its tokenizer reads the prompts: name it with `--model`".to_string();
        CliError::usage("no model is named", Some(hint))
    })?;
    Ok((model, config.data))
}
