//! `ami resume`: deletes the temporary resources of an interrupted run, then runs its command again under the same run id. What the run had
//! made already is found by client token, name and tags.

use std::sync::{Arc, OnceLock};

use clap::Parser as _;

use crate::cli::{self, Ami, Cli, Command, Common};
use crate::cloud::{Cloud, Orphan};
use crate::commands::{Context, Finish, Provider, exec, secrets};
use crate::config::Config;
use crate::error::{Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::ledger::RunRecord;
use crate::state::{Run, State};

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Resume) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    if args.if_any && interrupted(&state)?.is_empty() {
        return Ok(Finish::new("no run was interrupted", serde_json::json!({ "run": null })));
    }
    let record = select(&state, args.run.as_deref())?;
    if record.on != provider.on().name() {
        return exec::aws(context);
    }
    if context.common.dry_run {
        let text = format!("delete the temporary resources of {}, then run\n{}\n", record.id, record.command);
        context.document("plan", serde_json::json!({ "run": record }), text);
        return Ok(Finish::default());
    }
    let (again, inner) = prepare(context, provider, &config, &state, &record)?;
    crate::commands::run(again, &inner, provider)
}

/// Prepares a run to be resumed: deletes its temporary resources, and returns its command and a context with the old run id.
pub fn prepare<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    state: &State,
    record: &RunRecord,
) -> Result<(Cli, Context)> {
    let words = secrets::restored(&record.words, &context.env)?;
    let again = again(&RunRecord { words, ..record.clone() })?;
    let run = context.resume_run(state, record)?;
    delete_temporary(context, &provider.open(context, config, state, Some(Arc::clone(&run)))?, &run)?;
    let inner = Context {
        root: context.root.clone(),
        common: Common { via: again.common.via, on: again.common.on, ..context.common.clone() },
        events: Arc::clone(&context.events),
        env: context.env.clone(),
        line: record.command.clone(),
        words: record.words.clone(),
        run: OnceLock::from(run),
        about: Arc::clone(&context.about),
    };
    Ok((again, inner))
}

/// An interrupted release with the same arguments, if the user agrees to resume it instead of starting a new one. Without a terminal it is
/// resumed, because the result is the same.
pub fn offered(context: &Context, state: &State, on: cli::On, args: &cli::Release) -> Result<Option<RunRecord>> {
    if context.run.get().is_some() {
        return Ok(None);
    }
    let same = |record: &RunRecord| {
        record.on == on.name()
            && again(record).is_ok_and(|cli| matches!(cli.command, Command::Ami(Ami::Release(then)) if then == *args))
    };
    let Some(record) = interrupted(state)?.into_iter().rev().find(same) else { return Ok(None) };
    let question = format!("{} began at {} and was interrupted. Resume it?", record.id, record.began);
    if !context.agrees(&question) {
        return Ok(None);
    }
    context.events.event(Event::Note { message: format!("{} was interrupted and is resumed", record.id) });
    Ok(Some(record))
}

/// The run with the given id, or else the newest interrupted one.
fn select(state: &State, requested: Option<&str>) -> Result<RunRecord> {
    let hint = "list the runs with `cargo xtask ami runs`";
    let record = match requested {
        Some(id) => state.ledger().run(id)?.ok_or_else(|| Exit::Usage.error(format_args!("no run `{id}`"), hint))?,
        None => {
            let newest = interrupted(state)?.pop();
            newest.ok_or_else(|| Exit::Usage.error("no run was interrupted", hint))?
        }
    };
    let alive = state.is_alive(&record.id)?;
    if !record.is_unfinished(alive) {
        let message = format!("nothing to resume: {} is {}", record.id, record.standing(alive));
        return Err(Exit::Usage.error(message, format_args!("run the command again: {}", record.command)));
    }
    Ok(record)
}

/// The runs whose process died before they ended, oldest first.
pub fn interrupted(state: &State) -> Result<Vec<RunRecord>> {
    let mut found = Vec::new();
    for record in state.ledger().runs()? {
        if record.ended.is_none() && !state.is_alive(&record.id)? {
            found.push(record);
        }
    }
    Ok(found)
}

/// Parses the command line of a run.
pub fn again(record: &RunRecord) -> Result<Cli> {
    let words = std::iter::once("cargo xtask").chain(record.words.iter().map(String::as_str));
    Cli::try_parse_from(words).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        let hint = "enter the command in its current syntax, which has changed since the run";
        Exit::Usage.error(format_args!("{} cannot be resumed as `{}`: {first}", record.id, record.command), hint)
    })
}

/// Deletes the temporary resources of a run, also its machine: the state of the machine is unknown, and another one starts in minutes.
fn delete_temporary<C: Cloud>(context: &Context, cloud: &C, run: &Run) -> Result<()> {
    let events = context.events.as_ref();
    phase(events, Phase::Cleanup, run.id().as_str(), || {
        let mut orphans: Vec<Orphan> = cloud.orphans()?;
        orphans.retain(|l| l.run.as_ref() == Some(run.id()) && l.kind.is_temporary());
        for orphan in &orphans {
            let message = format!("deleting {} {}", orphan.kind.name(), orphan.id);
            events.event(Event::Progress { phase: Phase::Cleanup, message, fraction: None });
            cloud.remove_orphan(orphan)?;
        }
        let outcome = if orphans.is_empty() { Outcome::UpToDate } else { Outcome::Done };
        Ok(((), outcome, format!("{} temporary resources of {} deleted", orphans.len(), run.id())))
    })
}
