//! `test`: runs the test suite, as CI does. Each part is a command that can also be run alone. Parts that require no common resource run at
//! the same time. All parts run, even if one fails.

use std::fmt::Write as _;

use super::{Context, Finish};
use crate::cli;
use crate::error::{Exit, Result};
use crate::process::Cmd;
use crate::report::clock;

mod schedule;
mod side_by_side;
mod tools;

use schedule::{Needs, Takes};
use side_by_side::Ran;

/// A part of the suite.
struct Part {
    /// Its name for `--part`, the resources it requires, and the part that it runs after.
    needs: Needs,
    name: &'static str,
    cmd: Cmd,
    /// The command that is run instead if the part that it runs after has failed.
    otherwise: Option<Cmd>,
    when: When,
}

impl Part {
    /// A part that requires no resource and runs after no other part.
    fn new(id: &'static str, name: &'static str, when: When, cmd: Cmd) -> Self {
        Self { needs: Needs { id, takes: &[], after: None }, name, cmd, otherwise: None, when }
    }

    fn takes(mut self, takes: &'static [Takes]) -> Self {
        self.needs.takes = takes;
        self
    }

    fn after(mut self, id: &'static str) -> Self {
        self.needs.after = Some(id);
        self
    }

    fn otherwise(mut self, cmd: Cmd) -> Self {
        self.otherwise = Some(cmd);
        self
    }

    /// Removes an environment variable from its commands.
    fn env_remove(mut self, name: &str) -> Self {
        self.cmd = self.cmd.env_remove(name);
        self.otherwise = self.otherwise.map(|cmd| cmd.env_remove(name));
        self
    }
}

/// When a part runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Without `--no-vm`.
    Vm,
    /// Only with `--full`.
    Full,
    /// Only if `--part` names it.
    Named,
}

/// Compiles the workspace's crates with Clippy's driver, so that lints and tests share one compilation.
const LINTED: [&str; 2] = ["--config", ".ci/lint.toml"];

/// Refuses a stale lock file.
const LOCKED: [&str; 1] = ["--locked"];

pub(super) fn run(context: &Context, args: &cli::Test) -> Result<Finish> {
    let parts = chosen(parts(context), args)?;
    if context.common.dry_run {
        let text = parts.iter().map(|p| format!("{:12} {}\n", p.needs.id, p.cmd)).collect();
        context.document("plan", serde_json::json!(parts.iter().map(|p| p.cmd.to_string()).collect::<Vec<_>>()), text);
        return Ok(Finish::default());
    }
    match parts.iter().any(|part| matches!(part.when, When::Vm | When::Full)) {
        true => super::doctor::ensure(context)?,
        false => super::doctor::tools(context)?,
    }
    crate::toolchain::ensure_components()?;
    let started = std::time::Instant::now();
    let ran = side_by_side::run(&parts, context.events.as_ref())?;
    let seconds = started.elapsed().as_secs_f64();
    let rows: Vec<serde_json::Value> = parts
        .iter()
        .zip(&ran)
        .map(|(part, ran)| {
            serde_json::json!({ "part": part.needs.id, "name": part.name, "passed": ran.passed, "seconds": ran.seconds })
        })
        .collect();
    let data = serde_json::json!({ "parts": rows, "seconds": seconds });
    context.document("parts", data.clone(), table(&parts, &ran, seconds));
    outcome(&parts, &ran).map(|summary| Finish::new(summary, data))
}

/// The parts that the arguments select.
fn chosen(all: Vec<Part>, args: &cli::Test) -> Result<Vec<Part>> {
    if let Some(unknown) = args.parts.iter().find(|name| !all.iter().any(|part| part.needs.id == *name)) {
        let known: Vec<&str> = all.iter().map(|part| part.needs.id).collect();
        return Err(
            Exit::Usage.error(format_args!("no part `{unknown}`"), format_args!("use one of: {}", known.join(", ")))
        );
    }
    let included = |when: When| match when {
        When::Always => true,
        When::Vm => !args.no_vm,
        When::Full => args.full,
        When::Named => false,
    };
    let named = |part: &Part| args.parts.iter().any(|name| name == part.needs.id);
    Ok(all.into_iter().filter(|part| if args.parts.is_empty() { included(part.when) } else { named(part) }).collect())
}

/// A table of all parts with their times.
fn table(parts: &[Part], ran: &[Ran], seconds: f64) -> String {
    let mut text = String::new();
    for (part, ran) in parts.iter().zip(ran) {
        let mark = if ran.passed { "✓" } else { "✗" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark} {:12} {:>10}  {}", part.needs.id, clock(ran.seconds), part.name);
    }
    let _ = writeln!(text, "  {:12} {:>10}  elapsed time; parts run in parallel", "all", clock(seconds));
    text
}

/// The summary, or an error that names the failed parts.
fn outcome(parts: &[Part], ran: &[Ran]) -> Result<String> {
    let failed: Vec<(&Part, &Ran)> = parts.iter().zip(ran).filter(|(_, ran)| !ran.passed).collect();
    if failed.is_empty() {
        return Ok(format!("{} parts passed", parts.len()));
    }
    // The last lines of each failed part are repeated here, because hours of output may follow them in a CI log.
    let ends: Vec<String> = failed.iter().map(|(part, ran)| format!("failed: {}\n{}", part.name, ran.end)).collect();
    let again: Vec<String> = failed.iter().map(|(_, ran)| ran.cmd.to_string()).collect();
    Err(Exit::ImageFailed.error(ends.join("\n"), format_args!("run alone: {}", again.join("; "))))
}

/// cargo in the project's directory.
fn cargo(context: &Context) -> Cmd {
    Cmd::new("cargo").without_our_crate().dir(&context.root)
}

/// cargo for the EC2 provider, with the lowest priority (nice(1)), because it runs beside other parts.
fn aws(context: &Context) -> Cmd {
    Cmd::new("nice").args(["-n", "19", "cargo"]).without_our_crate().dir(&context.root)
}

fn parts(context: &Context) -> Vec<Part> {
    use Takes::{Compiler, Lock, Machines, Program};
    let (always, vm, full) = (When::Always, When::Vm, When::Full);
    let part = Part::new;
    let cargo = || cargo(context);
    // Clippy's driver does not compile a crate with a finding. If the lint part fails, rustc compiles it, so that its tests still run.
    let tests = |part: Part, cargo: Cmd, lint, args: &[&str]| {
        let otherwise = cargo.clone().arg("test").args(args);
        Part { cmd: cargo.arg("test").args(LOCKED).args(LINTED).args(args), ..part }.after(lint).otherwise(otherwise)
    };
    let ignored = ["--", "--ignored", "--nocapture", "--test-threads=1"];
    let in_vm = |id, name, when, test| {
        let args = [&["--test", test][..], &ignored].concat();
        tests(part(id, name, when, cargo()).takes(&[Lock, Program, Machines]), cargo(), "lint", &args)
    };
    let on_aws = |id, name, test| {
        let args = [&["--package", "xtask-aws", "--test", test][..], &ignored].concat();
        tests(part(id, name, full, cargo()).takes(&[Lock, Machines]), aws(context), "aws-lint", &args)
    };
    // The tests switch users as the scripts do, so they require root.
    let root = rustix::process::geteuid().is_root();
    let bats = if root { Cmd::new("bats") } else { Cmd::new("sudo").args(["-n", "bats"]) };
    let lint = ["--all-targets", "--keep-going"];
    let provider = ["--package", "xtask-aws"];
    let serve = ["--package", "xtask-serve"];
    // Parts start in this order, when the resources that they require are free.
    let mut parts = vec![
        part("format", "format", always, cargo().args(["fmt", "--all", "--check"])),
        part("lint", "lint", always, cargo().arg("build").args(LOCKED).args(LINTED).args(lint))
            .takes(&[Compiler, Program]),
        part("validate", "validate", always, cargo().args(["xtask", "validate"])).takes(&[Lock, Program]),
        tests(
            part("unit", "unit and integration tests", always, cargo()).takes(&[Lock, Program]),
            cargo(),
            "lint",
            &[],
        ),
        part(
            "agents",
            "scripts of the agents and of the provisioning, as root",
            always,
            bats.args(["scripts/tests/agent", "scripts/tests/provision"]).dir(&context.root),
        ),
        part("pipeline", "pipeline: a release", vm, cargo().args(["xtask", "--verbose", "ami", "release", "--yes"]))
            .takes(&[Lock, Program, Machines]),
        in_vm("rebuild", "builds that are killed, interrupted, repeated and changed", vm, "rebuild"),
        in_vm("container", "container builds: killed at any point, and their isolation", vm, "container"),
        in_vm("breaks", "each smoke check detects what it checks for", vm, "vm"),
        in_vm("workflows", "release workflow on local machines", vm, "workflows"),
        in_vm("documents", "commands in the documentation that start machines", vm, "documents"),
        part(
            "default-ec2",
            "build of the image default-ec2",
            vm,
            cargo().args(["xtask", "--verbose", "ami", "build", "default-ec2", "--provider", "all", "--yes"]),
        )
        .takes(&[Lock, Program, Machines]),
        part("breaks-ec2", "each smoke check of default-ec2 detects what it checks for", vm, {
            let cargo = cargo().env("AGENT_AMI_BREAKS_IMAGE", "default-ec2").arg("test").args(LOCKED).args(LINTED);
            cargo.args(["--test", "vm"]).args(ignored).arg("every_check")
        })
        .after("default-ec2")
        .takes(&[Lock, Program, Machines]),
        part(
            "aws-lint",
            "lint of the EC2 provider",
            always,
            aws(context).arg("build").args(LOCKED).args(LINTED).args(provider).args(lint),
        )
        .takes(&[Compiler]),
        tests(
            part("aws", "EC2 provider against an endpoint, with injected faults", always, cargo()).takes(&[Lock]),
            aws(context),
            "aws-lint",
            &provider,
        ),
        part(
            "serve-lint",
            "lint of the images API",
            always,
            aws(context).arg("build").args(LOCKED).args(LINTED).args(serve).args(lint),
        )
        .takes(&[Compiler]),
        tests(
            part("serve", "images API: queue, HTTP, PostgreSQL, a browser", always, cargo()).takes(&[Lock]),
            aws(context),
            "serve-lint",
            &serve,
        ),
        part("serve-build", "build of default-ec2 through the images API", vm, {
            let cargo = aws(context).arg("test").args(LOCKED).args(LINTED).args(serve);
            cargo.args(["--test", "real"]).args(ignored)
        })
        .after("default-ec2")
        .takes(&[Lock, Program, Machines]),
        in_vm("disk", "full disk of the state directory", full, "full_disk"),
        in_vm("equality", "images built in a container and in a virtual machine are equal", full, "equality"),
        in_vm("kill", "a release killed at every point", full, "kill"),
        on_aws("aws-kill", "a release on AWS killed at every point", "kill"),
        on_aws("ssm", "connection to a machine without SSH", "run_command"),
        in_vm("packer", "Packer on local machines", full, "packer"),
        on_aws("aws-release", "releases on AWS with both engines", "release"),
    ];
    parts.push(tools::msrv(context));
    parts.extend(tools::parts(context));
    // Only the pipeline part writes to the job summary; the hundreds of commands that tests run must not.
    let hidden = ["GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"];
    let quiet = |part: Part| hidden.iter().fold(part, |part, name| part.env_remove(name));
    parts.into_iter().map(|part| if part.needs.id == "pipeline" { part } else { quiet(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &'static str, name: &'static str) -> Part {
        Part::new(id, name, When::Always, Cmd::new("true"))
    }

    fn ran(passed: bool, seconds: f64, end: &str) -> Ran {
        Ran { passed, seconds, end: end.to_owned(), cmd: Cmd::new("cargo").arg("test") }
    }

    #[test]
    fn all_parts_are_in_the_table_with_their_times() {
        let parts = [part("format", "format"), part("unit", "unit and integration tests")];
        let text = table(&parts, &[ran(true, 1.24, ""), ran(false, 154.0, "")], 154.2);
        let lines = [
            "✓ format            1.2 s  format",
            "✗ unit           2 m 34 s  unit and integration tests",
            "  all            2 m 34 s  elapsed time; parts run in parallel",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_failed_part_is_named_with_its_last_lines_and_its_command() {
        let parts = [part("format", "format"), part("unit", "unit tests")];
        assert_eq!(outcome(&parts, &[ran(true, 1.0, ""), ran(true, 1.0, "")]).unwrap(), "2 parts passed");
        let error = outcome(&parts, &[ran(true, 1.0, "fine"), ran(false, 1.0, "assertion failed")]).unwrap_err();
        assert_eq!(
            (error.exit(), error.to_string().as_str()),
            (Exit::ImageFailed, "failed: unit tests\nassertion failed")
        );
        assert!(crate::error::plain(&error).contains("run alone: cargo test"));
    }
}
