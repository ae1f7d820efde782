//! `serve`: a base and adapters → a server, until a signal.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ivon_lora::answer::Base;
use ivon_lora::model::Purpose;
use ivon_lora_serve::{Limits, Log, LogLine, Models, ServedAdapter, Server};

use super::writing::{base_options, prepare_base, wrong_flag};
use super::{base_for, check_scale, fetch_adapter, open};
use crate::args::ServeArgs;
use crate::exit::{CliError, Failure};
use crate::render::Screen;
use crate::signals::Signals;

/// The environment variable with the token.
const TOKEN: &str = "IVON_LORA_TOKEN";

/// The largest file with a token, bytes.
const LONGEST_TOKEN: u64 = 4096;

/// Serves until a signal.
///
/// # Errors
/// If a flag, the base or an adapter is wrong, or the address cannot be used.
pub fn run(args: &ServeArgs, signals: &Signals) -> Result<(), Failure> {
    let limits = limits(args)?;
    check_scale(args.scale)?;
    let token = token(args.token_file.as_deref())?;
    let base_options = base_options(&args.base)?;
    prepare_base(&args.base)?;
    let mut screen = Screen::new(args.screen);
    let adapters = adapters(args, &mut screen)?;
    let model = match adapters.first() {
        Some(first) => base_for(args.model.clone(), &first.folder)?,
        None => args.model.clone().unwrap_or_default(),
    };
    let checkpoint = open(&model, Purpose::Run, &mut screen)?;
    let base = Base::load(&checkpoint, &base_options)?;
    let mut models = Models::new(limits)?;
    let watch = &mut |event: ivon_lora::watch::Event<'_>| screen.show(&event);
    for adapter in &adapters {
        models.add_adapter(adapter, &base, watch)?;
    }
    models.add_base(&args.base_name, &base, watch)?;
    drop(base);
    let address = address(&args.host, args.port);
    let server = Server::listen(models, &address, token.as_deref(), log(args.log_requests))?;
    announce(&server, args, token.is_some(), &mut screen)?;
    screen.close();
    let signals = signals.clone();
    server.run(move || signals.go_on())?;
    Ok(())
}

fn limits(args: &ServeArgs) -> Result<Limits, CliError> {
    let limits = Limits {
        body: args.max_body,
        rows: args.max_rows,
        tokens: args.max_tokens,
        texts: args.max_texts,
        waiting: args.max_waiting,
        together: args.together,
        seconds: args.timeout,
    };
    limits.validate().map_err(wrong_flag)?;
    Ok(limits)
}

/// The adapters of the flags.
fn adapters(args: &ServeArgs, screen: &mut Screen) -> Result<Vec<ServedAdapter>, CliError> {
    let served = |flag: &String| {
        let (name, folder) = named(flag);
        Ok(ServedAdapter {
            name,
            folder: fetch_adapter(&folder, screen)?,
            samples: args.samples.map(|samples| samples as usize),
            scale: args.scale,
        })
    };
    args.adapter.iter().map(served).collect()
}

/// `NAME=FOLDER`, or a folder whose run's name it is.
fn named(flag: &str) -> (String, PathBuf) {
    let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '\\']);
    match flag.split_once('=').filter(|(name, _)| is_name(name)) {
        Some((name, folder)) => (name.into(), folder.into()),
        None => (run_name(Path::new(flag)), flag.into()),
    }
}

/// The name of a folder, or of the run that it is the adapter of.
fn run_name(folder: &Path) -> String {
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let own = name(folder).unwrap_or_else(|| "adapter".into());
    match own.as_str() {
        "adapter" => folder.parent().and_then(name).unwrap_or(own),
        _ => own,
    }
}

/// The token of the file, or of the environment.
fn token(file: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(file) = file else {
        return Ok(std::env::var(TOKEN).ok().filter(|token| !token.is_empty()));
    };
    let text = ivon_lora::files::read_text(file, LONGEST_TOKEN)?;
    match text.trim() {
        "" => Err(CliError::usage(
            format!("`{}` is empty, expected a token", file.display()),
            None,
        )),
        token => Ok(Some(token.into())),
    }
}

fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Says where the server listens, and warns if anybody may ask it.
fn announce(
    server: &Server,
    args: &ServeArgs,
    has_token: bool,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let address = server.address()?;
    screen.note(format!("listening on http://{address}"));
    let is_local = args.host == "localhost"
        || args
            .host
            .parse::<IpAddr>()
            .is_ok_and(|host| host.is_loopback());
    if !is_local && !has_token {
        let warning =
            "everybody who reaches this address may ask: a token keeps others out (`--token-file`)";
        screen.show(&ivon_lora::watch::Event::Warning(warning.into()));
    }
    Ok(())
}

/// A line for each request on standard error, if they are wanted.
fn log(is_wanted: bool) -> Log {
    Arc::new(move |line: &LogLine| {
        if is_wanted {
            let LogLine {
                method,
                path,
                status,
                milliseconds,
            } = line;
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "{method} {path} {status} {milliseconds} ms");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_has_the_name_that_it_is_given_or_that_of_its_run() {
        let of = |flag| {
            let (name, folder) = named(flag);
            (name, folder.display().to_string())
        };
        let pair = |name: &str, folder: &str| (name.to_string(), folder.to_string());
        assert_eq!(of("a=runs/b/adapter"), pair("a", "runs/b/adapter"));
        assert_eq!(of("runs/b/adapter"), pair("b", "runs/b/adapter"));
        assert_eq!(of("runs/b"), pair("b", "runs/b"));
        assert_eq!(of("./lr=0.1/b"), pair("b", "./lr=0.1/b"));
    }

    #[test]
    fn an_address_of_colons_stands_in_brackets() {
        assert_eq!(address("::1", 80), "[::1]:80");
        assert_eq!(address("127.0.0.1", 80), "127.0.0.1:80");
    }
}
