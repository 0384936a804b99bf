//! The commands of this binary.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser as _;
use xtask::cli::{Ami, BuildCommand, Cli, Command, Format, Serve, ServeCommand, Status};
use xtask::commands::{Finish, project_root};
use xtask::config::{Config, Overrides};
use xtask::error::{Exit, Result};
use xtask::event::{Document, Event, Observer};
use xtask::report::{Human, Json, Verbosity, render};

use crate::settings::{DIR, Settings};

mod queue;
mod serve;

/// Runs the command line, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let events: Box<dyn Observer> = match cli.common.format {
        Format::Json => Box::new(Json::default()),
        Format::Human => Box::new(Human::new(Verbosity::Normal)),
    };
    let result = run(&cli, events.as_ref());
    let code = result.as_ref().map_or_else(|error| error.exit() as u8, |_| 0);
    events.event(match result {
        Ok(finish) => Event::Result { ok: true, exit: 0, summary: finish.summary, error: None, data: finish.data },
        Err(error) => Event::Result {
            ok: false,
            exit: code,
            summary: error.to_string(),
            error: Some(render(&error)),
            data: serde_json::Value::Null,
        },
    });
    ExitCode::from(code)
}

fn run(cli: &Cli, events: &dyn Observer) -> Result<Finish> {
    let env: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let root = project_root();
    let overrides = Overrides { state_dir: cli.common.state.clone(), ..Overrides::default() };
    let config = Config::load(&root, &overrides, &env)?;
    let args = match &cli.command {
        Command::Serve(args) => args,
        Command::Ami(Ami::Build(BuildCommand { build, .. })) => {
            let settings = Settings::new(&config, cli.common.on, &Serve::default(), root)?;
            return runtime()?.block_on(queue::add(&config, &settings, &cli.common, build, events));
        }
        Command::Ami(Ami::Status(Status { build: Some(id) })) => {
            let settings = Settings::new(&config, cli.common.on, &Serve::default(), root)?;
            return runtime()?.block_on(queue::show(&settings, id, events));
        }
        _ => return Err(Exit::Usage.error("this program does not have the command", "run `cargo xtask`")),
    };
    match &args.command {
        None => serve::run(&config, cli, args, root, events),
        Some(ServeCommand::Token(token)) => {
            serve::token::run(token, &root.join(&config.local.state_dir).join(DIR), events)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Emits the requested output of a command, as text and as data.
fn document(events: &dyn Observer, kind: &str, data: serde_json::Value, text: String) {
    events.event(Event::Document(Document { kind: kind.to_owned(), data, text }));
}
