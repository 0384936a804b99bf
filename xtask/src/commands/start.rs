//! The entry point of both binaries: parses the command line, installs the signal handlers, runs the command and reports its result.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser as _;

use super::log::{self, StepLog};
use super::{Context, Finish, Provider, conclude, project_root, secrets};
use crate::cli::{Cli, Format};
use crate::config::{Config, Overrides};
use crate::error::{Exit, Result};
use crate::event::clean::Cleaner;
use crate::event::{Event, Events};
use crate::ledger::RunOutcome;
use crate::report::{self, Annotations, Human, Json, Verbosity};
use crate::run_report::Recorder;
use crate::{process, signals};

/// Runs the command line with this provider, and returns the exit code.
pub fn start<P: Provider>(provider: &P) -> ExitCode {
    let cli = Cli::parse();
    let format = cli.common.format;
    let on_runner = std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true");
    let events: Events = match format {
        Format::Json => Arc::new(Json::default()),
        Format::Human if on_runner => Arc::new(Human::new(verbosity(&cli)).on_runner()),
        Format::Human => Arc::new(Human::new(verbosity(&cli))),
    };
    let events: Events = if on_runner { Arc::new(Annotations::new(events)) } else { events };
    let env: BTreeMap<String, String> =
        // Variables that are not UTF-8 are skipped: no setting is read from one.
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let root = project_root();
    let overrides = Overrides { state_dir: cli.common.state.clone(), ..Overrides::default() };
    let config = Config::load(&root, &overrides, &env).ok();
    let words = secrets::hide(&cli, &std::env::args().skip(1).collect::<Vec<_>>(), &root, config.as_ref());
    let quoted: Vec<String> = words.iter().map(|word| process::quote(word)).collect();
    let line = format!("cargo xtask {}", quoted.join(" "));
    let logs = config.map(|config| root.join(config.local.state_dir).join(log::DIR));
    let events: Events = Arc::new(StepLog::new(logs, events));
    let recorder = Arc::new(Recorder::new(&line, events));
    let events: Events = Arc::new(Cleaner::new(Arc::clone(&recorder) as Events));
    let context = Context {
        root,
        common: cli.common.clone(),
        events: Arc::clone(&events),
        env,
        line,
        words,
        run: OnceLock::new(),
        about: Arc::default(),
    };
    let supervised = context.common.supervised.is_some();
    let listening = signals::listen().and_then(|()| if supervised { signals::stop_at_eof() } else { Ok(()) });
    let result = listening.and_then(|()| super::run(cli, &context, provider));
    let result = record_end(&context, result);
    let code = result.as_ref().map_or_else(|error| error.exit() as u8, |_| 0);
    conclude::conclude(&context, recorder.run_report(), &result);
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

fn verbosity(cli: &Cli) -> Verbosity {
    match (cli.common.quiet, cli.common.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    }
}

/// Writes the end of the run to the ledger. A failure to do so is an error, because a run without an end counts as interrupted.
fn record_end(context: &Context, result: Result<Finish>) -> Result<Finish> {
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
