//! `doctor`: which host tools are here, which are missing, what brings them; `--install` brings them.

use super::{Context, Finish};
use crate::cli;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::preflight::{self, Found, Need};
use crate::process::{Ended, TAIL, tail};
use crate::toolchain;

/// What this program and its judge take when they are compiled.
const COMPILED_GIB: u64 = 3;

/// Brings what is missing if we may, and is an error if something needed stays missing.
pub(super) fn ensure(context: &Context) -> Result<()> {
    phase(context.events.as_ref(), Phase::Doctor, "host tools", || {
        let found = look();
        let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
        let mut summary = format!("{} tools found", found.len());
        if !missing.is_empty() {
            if !(context.common.yes || rustix::process::geteuid().is_root()) {
                let needed: Vec<&Found> = missing.iter().copied().filter(|f| f.need != Need::Checks).collect();
                if !needed.is_empty() {
                    return Err(incomplete(&needed));
                }
                // What only checks need is left out, and they say so.
                space(context)?;
                return Ok(((), Outcome::Done, format!("{} tools found, {} missing", found.len(), missing.len())));
            }
            install(context, &missing)?;
            let again = look();
            let still: Vec<&Found> = again.iter().filter(|f| f.version.is_none() && f.need != Need::Checks).collect();
            if !still.is_empty() {
                return Err(incomplete(&still));
            }
            summary = format!("{} tools found, {} of them installed now", again.len(), missing.len());
        }
        space(context)?;
        Ok::<_, Error>(((), Outcome::Done, summary))
    })
}

fn look() -> Vec<Found> {
    preflight::look(toolchain::facts().is_ok_and(|f| f.target_installed || (f.debian && f.musl_gcc)))
}

fn install(context: &Context, missing: &[&Found]) -> Result<()> {
    let Some(manager) = preflight::manager() else { return Err(incomplete(missing)) };
    for cmd in preflight::install(missing, manager, rustix::process::geteuid().is_root()) {
        context.events.event(Event::Note { message: cmd.to_string() });
        let mut said = Vec::new();
        let ended = cmd.stream(None, |_, line| {
            said.push(line.to_owned());
            context.events.event(Event::Progress { phase: Phase::Doctor, message: line.to_owned(), fraction: None });
        })?;
        if ended != Ended::Code(0) {
            let output = tail(&said.join("\n"), TAIL);
            return Err(
                Exit::Precondition.error(format_args!("`{cmd}` failed ({ended:?}):\n{output}"), "run it by hand")
            );
        }
    }
    Ok(())
}

fn incomplete(missing: &[&Found]) -> Error {
    let names: Vec<&str> = missing.iter().map(|f| f.program.as_str()).collect();
    let root = rustix::process::geteuid().is_root();
    let hint = match preflight::manager() {
        Some(manager) => {
            let lines: Vec<String> =
                preflight::install(missing, manager, root).iter().map(ToString::to_string).collect();
            format!("`cargo xtask doctor --install` runs: {}", lines.join(" && "))
        }
        None => "neither apt-get, dnf nor brew is here: install them in the way of this system".to_owned(),
    };
    Exit::Precondition.error(format_args!("missing on this host: {}", names.join(", ")), hint)
}

/// A first build begins with a base image, which takes minutes; without room for the rest it had better not begin. Later builds
/// know better what they need, and say so themselves.
fn space(context: &Context) -> Result<()> {
    // A mistake in `ami.toml` is told by whoever reads it next; the tools are here all the same.
    let Ok(config) = context.config() else { return Ok(()) };
    let state = context.state(&config)?;
    if state.is_new()? {
        state.require_space((config.local.build_gib + COMPILED_GIB) << 30, "a first build")?;
    }
    Ok(())
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Doctor) -> Result<Finish> {
    let mut found = look();
    let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
    if args.install && !missing.is_empty() {
        install(context, &missing)?;
        found = look();
    }
    let width = found.iter().map(|f| f.program.len()).max().unwrap_or(0);
    let text = found.iter().map(|f| {
        let mark = if f.version.is_some() { "✓" } else { "✗" };
        format!("{mark} {:width$}  {}\n", f.program, f.version.as_deref().unwrap_or("missing"))
    });
    let text: String = text.collect();
    context.document("tools", serde_json::json!(found), text);
    space(context)?;
    let missing: Vec<&Found> = found.iter().filter(|f| f.version.is_none()).collect();
    if !missing.is_empty() {
        return Err(incomplete(&missing));
    }
    Ok(Finish::new("every tool is here", serde_json::json!({ "tools": found })))
}
