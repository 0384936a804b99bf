//! From the process to a command and back: parse, listen for signals, dispatch, tell the result. Both binaries begin here.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser as _;

use super::{Context, Finish, Provider, conclude, project_root};
use crate::cli::{Cli, Format};
use crate::error::{Exit, Result};
use crate::event::{Event, Events};
use crate::ledger::RunOutcome;
use crate::report::{self, Annotations, Human, Json, Verbosity};
use crate::story::Recorder;
use crate::{process, signals};

/// Runs the command line with this provider.
pub fn start<P: Provider>(provider: &P) -> ExitCode {
    let cli = Cli::parse();
    let format = cli.common.format;
    let events: Events = match format {
        Format::Json => Arc::new(Json::default()),
        Format::Human if cli.common.quiet => Arc::new(Human::new(Verbosity::Quiet)),
        Format::Human if cli.common.verbose => Arc::new(Human::new(Verbosity::Verbose)),
        Format::Human => Arc::new(Human::new(Verbosity::Normal)),
    };
    let events: Events = match std::env::var("GITHUB_ACTIONS") {
        Ok(said) if said == "true" => Arc::new(Annotations::new(events)),
        _ => events,
    };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let quoted: Vec<String> = words.iter().map(|word| process::quote(word)).collect();
    let line = format!("cargo xtask {}", quoted.join(" "));
    let recorder = Arc::new(Recorder::new(&line, events));
    let events: Events = Arc::clone(&recorder) as Events;
    let context = Context {
        root: project_root(),
        common: cli.common.clone(),
        events: Arc::clone(&events),
        // A variable that is not UTF-8 cannot be one of ours.
        env: std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        line,
        words,
        run: OnceLock::new(),
        about: Arc::default(),
    };
    let result = signals::listen().and_then(|()| super::run(cli, &context, provider));
    let result = written_down(&context, result);
    let code = result.as_ref().map_or_else(|error| error.exit() as u8, |_| 0);
    conclude::conclude(&context, recorder.story(), &result);
    events.event(match result {
        Ok(finish) => Event::Result { ok: true, exit: 0, summary: finish.summary, error: None, data: finish.data },
        Err(error) => Event::Result {
            ok: false,
            exit: code,
            summary: error.to_string(),
            error: Some(report::render(&error)),
            data: serde_json::Value::Null,
        },
    });
    ExitCode::from(code)
}

/// Writes the end of the command's run into the ledger. A run whose end cannot be written down counts as cut off, so that is told.
fn written_down(context: &Context, result: Result<Finish>) -> Result<Finish> {
    let (outcome, summary) = match &result {
        Ok(finish) => (RunOutcome::Done, finish.summary.clone()),
        Err(error) if error.exit() == Exit::Interrupted => (RunOutcome::Interrupted, error.to_string()),
        Err(error) => (RunOutcome::Failed, error.to_string()),
    };
    match (context.end_run(outcome, &summary), result) {
        (Err(error), Ok(_)) => Err(error),
        (_, result) => result,
    }
}
