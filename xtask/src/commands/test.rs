//! `test`: the whole suite, as CI runs it. Each part is a command a person can run alone; all parts run, then the verdict.

use super::{Context, Finish};
use crate::cli;
use crate::error::{Exit, Result};
use crate::event::{Event, Outcome, Phase};
use crate::process::{Cmd, Ended, TAIL, tail};

/// A part of the suite.
struct Part {
    name: &'static str,
    cmd: Cmd,
    needs_vm: bool,
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Test) -> Result<Finish> {
    super::doctor::ensure(context)?;
    let parts: Vec<Part> = parts(context).into_iter().filter(|p| !(args.no_vm && p.needs_vm)).collect();
    if context.common.dry_run {
        let text = parts.iter().map(|p| format!("{}\n", p.cmd)).collect();
        context.document("plan", serde_json::json!(parts.iter().map(|p| p.cmd.to_string()).collect::<Vec<_>>()), text);
        return Ok(Finish::default());
    }
    let mut failed = Vec::new();
    let mut rows = Vec::new();
    for part in &parts {
        let started = std::time::Instant::now();
        context.events.event(Event::PhaseStarted { phase: Phase::Test, subject: part.name.to_owned() });
        let mut said = Vec::new();
        let ended = part.cmd.stream(None, |stream, line| {
            said.push(line.to_owned());
            context.events.event(Event::StepOutput { name: part.name.to_owned(), stream, line: line.to_owned() });
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let passed = ended == Ended::Code(0);
        let outcome = if passed { Outcome::Done } else { Outcome::Failed };
        let summary = format!("{}: `{}`", part.name, part.cmd);
        context.events.event(Event::PhaseFinished { phase: Phase::Test, outcome, seconds, summary });
        rows.push(serde_json::json!({ "part": part.name, "passed": passed, "seconds": seconds }));
        if !passed {
            failed.push((part, tail(&said.join("\n"), TAIL)));
        }
    }
    if failed.is_empty() {
        return Ok(Finish::new(format!("{} parts passed", parts.len()), serde_json::json!({ "parts": rows })));
    }
    // Hours of output may stand between a part's failure and the end; whoever reads a CI log starts here.
    let ends: Vec<String> = failed.iter().map(|(p, end)| format!("failed: {}\n{end}", p.name)).collect();
    let again: Vec<String> = failed.iter().map(|(p, _)| p.cmd.to_string()).collect();
    Err(Exit::Judged.error(ends.join("\n"), format_args!("run alone: {}", again.join("; "))))
}

fn parts(context: &Context) -> Vec<Part> {
    let cargo = || Cmd::new("cargo").dir(&context.root);
    let part = |name, cmd, needs_vm| Part { name, cmd, needs_vm };
    let in_vm = |test: &str| {
        let args = ["test", "--package", "xtask", "--test", test, "--", "--ignored", "--nocapture", "--test-threads=1"];
        cargo().args(args)
    };
    let mut parts = vec![
        part("format", cargo().args(["fmt", "--all", "--check"]), false),
        part("lint", cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]), false),
        part("unit and integration tests", cargo().args(["test", "--workspace"]), false),
        part("validate", cargo().args(["xtask", "validate"]), false),
        part("pipeline in a VM", cargo().args(["xtask", "--verbose", "ami", "release", "--yes"]), true),
        part("a build killed, interrupted, repeated, changed", in_vm("rebuild"), true),
        part("every check sees its break", in_vm("vm"), true),
    ];
    // Not in any distribution and slow to compile, so it is not asked of everybody.
    if cargo().args(["deny", "--version"]).output().is_ok_and(|f| f.code == 0) {
        let deny = cargo().args(["deny", "check", "bans", "licenses", "sources"]);
        parts.push(part("licences and sources", deny, false));
    }
    parts
}
