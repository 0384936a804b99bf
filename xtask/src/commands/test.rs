//! `test`: the whole suite, as CI runs it. Each part is a command a person can run alone; all parts run, then the verdict.

use super::{Context, Finish};
use crate::cli;
use crate::error::{Exit, Result};
use crate::event::{Event, Outcome, Phase};
use crate::process::{Background, Cmd, Ended, TAIL, tail};

/// A part of the suite.
struct Part {
    /// For `--part`.
    id: &'static str,
    name: &'static str,
    cmd: Cmd,
    when: When,
}

/// In which suites a part is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Not with `--no-vm`.
    Vm,
    /// Only with `--full`.
    Full,
    /// Only by its name.
    Named,
}

/// Where the EC2 provider is compiled for tests: beside the rest, so that cargo's lock does not make the VM parts wait for it.
const BESIDE: &str = "target/aws";

/// Runs the command.
pub(super) fn run(context: &Context, args: &cli::Test) -> Result<Finish> {
    let wanted = |when: When| match when {
        When::Always => true,
        When::Vm => !args.no_vm,
        When::Full => args.full,
        When::Named => false,
    };
    let all = parts(context);
    if let Some(unknown) = args.parts.iter().find(|name| !all.iter().any(|part| part.id == *name)) {
        let known: Vec<&str> = all.iter().map(|part| part.id).collect();
        return Err(
            Exit::Usage.error(format_args!("no part `{unknown}`"), format_args!("there are: {}", known.join(", ")))
        );
    }
    let chosen =
        |part: &Part| if args.parts.is_empty() { wanted(part.when) } else { args.parts.iter().any(|n| n == part.id) };
    let parts: Vec<Part> = all.into_iter().filter(chosen).collect();
    if context.common.dry_run {
        let text = parts.iter().map(|p| format!("{:12} {}\n", p.id, p.cmd)).collect();
        context.document("plan", serde_json::json!(parts.iter().map(|p| p.cmd.to_string()).collect::<Vec<_>>()), text);
        return Ok(Finish::default());
    }
    match parts.iter().any(|part| matches!(part.when, When::Vm | When::Full)) {
        true => super::doctor::ensure(context)?,
        false => super::doctor::tools(context)?,
    }
    let provider = parts.iter().any(|part| part.id == "aws" || part.id == "aws-lint");
    let _beside = if provider { compile_beside(context)? } else { Vec::new() };
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
        rows.push(serde_json::json!({ "part": part.id, "name": part.name, "passed": passed, "seconds": seconds }));
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

/// Begins to compile the EC2 provider's tests while machines boot, which leaves a processor idle half of the time; whoever runs them
/// later waits for cargo's lock. Ends with the handles.
fn compile_beside(context: &Context) -> Result<Vec<Background>> {
    let log = context.root.join(BESIDE).join("compile.log");
    fs_err::create_dir_all(context.root.join(BESIDE))?;
    let start = |cmd: Cmd| cmd.start(&log);
    [aws(context, "clippy").args(["--all-targets"]), aws(context, "test").args(["--no-run"])]
        .map(start)
        .into_iter()
        .collect()
}

/// cargo on the EC2 provider, after everything else that wants a processor.
fn aws(context: &Context, verb: &str) -> Cmd {
    Cmd::new("nice")
        .args(["-n", "19", "cargo", verb, "--package", "xtask-aws", "--target-dir", BESIDE])
        .env("CARGO_INCREMENTAL", "0")
        .dir(&context.root)
}

fn parts(context: &Context) -> Vec<Part> {
    let cargo = || Cmd::new("cargo").dir(&context.root);
    let part = |id, name, when, cmd| Part { id, name, cmd, when };
    let ignored = ["--", "--ignored", "--nocapture", "--test-threads=1"];
    let in_vm = |test: &str| cargo().args(["test", "--package", "xtask", "--test", test]).args(ignored);
    let on_aws = |test: &str| aws(context, "test").args(["--test", test]).args(ignored);
    let (always, vm, full) = (When::Always, When::Vm, When::Full);
    // They become another user, as the scripts do.
    let root = rustix::process::geteuid().is_root();
    let bats = if root { Cmd::new("bats") } else { Cmd::new("sudo").args(["-n", "bats"]) };
    let mut parts = vec![
        part("format", "format", always, cargo().args(["fmt", "--all", "--check"])),
        part("lint", "lint", always, cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"])),
        part("unit", "unit and integration tests", always, cargo().arg("test")),
        part("validate", "validate", always, cargo().args(["xtask", "validate"])),
        part("agents", "the agents' scripts, as root", always, bats.arg("scripts/tests/agent").dir(&context.root)),
        part("pipeline", "pipeline in a VM", vm, cargo().args(["xtask", "--verbose", "ami", "release", "--yes"])),
        part("rebuild", "a build killed, interrupted, repeated, changed", vm, in_vm("rebuild")),
        part("breaks", "every check sees its break", vm, in_vm("vm")),
        part("workflows", "the release workflow, on local machines", vm, in_vm("workflows")),
        part("documents", "what the pages say of machines", vm, in_vm("documents")),
        part(
            "aws-lint",
            "lint of the EC2 provider",
            always,
            aws(context, "clippy").args(["--all-targets", "--", "-D", "warnings"]),
        ),
        part("aws", "the EC2 provider at an endpoint, with faults", always, aws(context, "test")),
        part("disk", "the state folder's disk is full", full, in_vm("full_disk")),
        part("kill", "a release killed everywhere", full, in_vm("kill")),
        part("aws-kill", "a release on AWS killed everywhere", full, on_aws("kill")),
        part("ssm", "a machine entered without SSH", full, on_aws("ssm")),
        part("packer", "the real Packer, here", full, in_vm("packer")),
        part("aws-release", "releases on AWS, by both engines", full, on_aws("release")),
    ];
    // What a job's summary tells is the pipeline; the commands that tests run by the hundred are not a workflow's.
    for part in parts.iter_mut().filter(|part| part.id != "pipeline") {
        for name in ["GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            part.cmd = part.cmd.clone().env_remove(name);
        }
    }
    // Not in any distribution and slow to compile, so it is not asked of everybody; who names it gets it.
    let here = cargo().args(["deny", "--version"]).output().is_ok_and(|f| f.code == 0);
    if !here {
        let brought = cargo().args(["install", "--locked", "cargo-deny@0.20.2"]);
        parts.push(part("deny", "cargo deny is brought", When::Named, brought));
    }
    let deny = cargo().args(["deny", "check", "bans", "licenses", "sources"]);
    parts.push(part("deny", "licences and sources", if here { always } else { When::Named }, deny));
    parts
}
