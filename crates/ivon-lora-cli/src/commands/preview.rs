//! `data preview`: a data set as the model will see it.

use ivon_lora::data::{self, DataConfig, Role, Task};

use super::{detect_task, open_headers};
use crate::args::{PreviewArgs, ScreenArgs};
use crate::exit::{CliError, Exit, Failure};
use crate::render::{Screen, print, write_pretty};
use crate::resolve;
use crate::suggest::did_you_mean;

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
    let role = role(&args.role)?;
    let mut settings: DataConfig = config.data;
    if settings.path.as_os_str().is_empty() {
        return Err(CliError::usage(
            "no data are named",
            Some("name a folder or a file with `--data`".into()),
        )
        .into());
    }
    let model = config.model.path.ok_or_else(|| {
        CliError::usage(
            "no model is named",
            Some("its tokenizer reads the prompts: name it with `--model`".into()),
        )
    })?;
    let mut screen = Screen::new(ScreenArgs {
        quiet: args.json,
        json: false,
    });
    if let Some(note) = detect_task(&mut settings)? {
        screen.note(note);
    }
    let task = Task::from_config(&settings)?;
    let dataset = data::load(&settings, &task)?;
    let tokenizer = settings.chat_template.put_into(
        open_headers(&model, &mut screen)?
            .checkpoint()
            .tokenizer()?,
    )?;
    screen.close();
    dataset
        .report
        .notes
        .iter()
        .for_each(|note| screen.note(note.as_str()));
    let examples = dataset.required(role)?;
    let preview = data::preview(
        examples,
        &dataset.report.dropped,
        &tokenizer,
        settings.encode_options(&task),
        args.count as usize,
    )?;
    if args.json {
        write_pretty(&preview)
    } else {
        print(&preview.to_string())
    }
}

fn role(name: &str) -> Result<Role, CliError> {
    Role::ALL
        .into_iter()
        .find(|role| role.name() == name)
        .ok_or_else(|| {
            let names = Role::ALL.map(Role::name);
            let message = format!(
                "`--role` is `{name}`, expected one of `{}`",
                names.join("`, `")
            );
            CliError {
                hint: did_you_mean(name, names),
                exit: Exit::Usage,
                message,
            }
        })
}
