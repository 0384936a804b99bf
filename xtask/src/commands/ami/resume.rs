//! `ami resume`: the same command again under the same run id. What it made is found by token, name and tags; what was temporary
//! is taken away first.

use std::sync::{Arc, OnceLock};

use clap::Parser as _;

use crate::cli::{self, Ami, Cli, Command, Common};
use crate::cloud::{Cloud, Orphan};
use crate::commands::{Context, Finish, Provider, exec_aws, secrets};
use crate::config::Config;
use crate::error::{Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::ledger::RunRecord;
use crate::state::{Run, State};

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Resume) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    if args.if_any && cut_off(&state)?.is_empty() {
        return Ok(Finish::new("no run was cut off", serde_json::json!({ "run": null })));
    }
    let record = wanted(&state, args.run.as_deref())?;
    if record.on != provider.on().name() {
        return exec_aws::run(context);
    }
    if context.common.dry_run {
        let text = format!("take away what {} left behind, then\n{}\n", record.id, record.command);
        context.document("plan", serde_json::json!({ "run": record }), text);
        return Ok(Finish::default());
    }
    let (again, inner) = taken_up(context, provider, &config, &state, &record)?;
    crate::commands::run(again, &inner, provider)
}

/// Takes a run up: its command, and the context in which it runs under its old id.
pub fn taken_up<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    state: &State,
    record: &RunRecord,
) -> Result<(Cli, Context)> {
    let words = secrets::restored(&record.words, &context.env)?;
    let again = again(&RunRecord { words, ..record.clone() })?;
    let run = context.resume_run(state, record)?;
    take_away(context, &provider.open(context, config, state, Some(Arc::clone(&run)))?, &run)?;
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

/// A release like this one that was cut off, if the person who asks for this one wants it finished instead. Nobody there to ask: it is
/// finished, because that ends the same.
pub fn offered(context: &Context, state: &State, on: cli::On, args: &cli::Release) -> Result<Option<RunRecord>> {
    if context.run.get().is_some() {
        return Ok(None);
    }
    let same = |record: &RunRecord| {
        record.on == on.name()
            && again(record).is_ok_and(|cli| matches!(cli.command, Command::Ami(Ami::Release(then)) if then == *args))
    };
    let Some(record) = cut_off(state)?.into_iter().rev().find(same) else { return Ok(None) };
    if !context.agrees(&format!("{} was cut off at {}. Finish it instead of beginning anew?", record.id, record.began))
    {
        return Ok(None);
    }
    context.events.event(Event::Note { message: format!("{} was cut off and is taken up again", record.id) });
    Ok(Some(record))
}

/// The run that was named, or the newest that was cut off.
fn wanted(state: &State, named: Option<&str>) -> Result<RunRecord> {
    let hint = "`cargo xtask ami runs` lists them";
    let record = match named {
        Some(id) => state.ledger().run(id)?.ok_or_else(|| Exit::Usage.error(format_args!("no run `{id}`"), hint))?,
        None => {
            let cut_off = cut_off(state)?.pop();
            cut_off.ok_or_else(|| Exit::Usage.error("no run was cut off", hint))?
        }
    };
    let alive = state.is_alive(&record.id)?;
    if !record.is_unfinished(alive) {
        let message = format!("there is nothing to finish: {} is {}", record.id, record.standing(alive));
        return Err(Exit::Usage.error(message, format_args!("to do the same again: {}", record.command)));
    }
    Ok(record)
}

/// The runs whose process died, oldest first.
pub fn cut_off(state: &State) -> Result<Vec<RunRecord>> {
    let mut found = Vec::new();
    for record in state.ledger().runs()? {
        if record.ended.is_none() && !state.is_alive(&record.id)? {
            found.push(record);
        }
    }
    Ok(found)
}

/// The command of a run, as it was typed then.
pub fn again(record: &RunRecord) -> Result<Cli> {
    let words = std::iter::once("cargo xtask").chain(record.words.iter().map(String::as_str));
    Cli::try_parse_from(words).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        let hint = "the program has changed since; type the command as it is written now";
        Exit::Usage.error(format_args!("{} cannot be taken up again as `{}`: {first}", record.id, record.command), hint)
    })
}

/// Takes away the temporary things of a run: a machine in an unknown state is worth less than the minutes to start another.
fn take_away<C: Cloud>(context: &Context, cloud: &C, run: &Run) -> Result<()> {
    let events = context.events.as_ref();
    phase(events, Phase::Cleanup, run.id(), || {
        let mut left: Vec<Orphan> = cloud.orphans()?;
        left.retain(|l| l.run.as_deref() == Some(run.id()) && l.kind.is_temporary());
        for orphan in &left {
            let message = format!("taking away {} {}", orphan.kind.name(), orphan.id);
            events.event(Event::Progress { phase: Phase::Cleanup, message, fraction: None });
            cloud.take_away(orphan)?;
        }
        let outcome = if left.is_empty() { Outcome::UpToDate } else { Outcome::Done };
        Ok(((), outcome, format!("{} temporary things of {} taken away", left.len(), run.id())))
    })
}
