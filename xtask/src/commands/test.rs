//! `test`: the whole suite, as CI runs it. Each part is a command a person can run alone; all parts run, several at a time where they do
//! not compete, then the verdict.

use std::fmt::Write as _;

use super::{Context, Finish};
use crate::cli;
use crate::error::{Exit, Result};
use crate::process::Cmd;
use crate::report::clock;

mod schedule;
mod side_by_side;

use schedule::{Needs, Takes};
use side_by_side::Ran;

/// A part of the suite.
struct Part {
    /// Its name for `--part`, what it takes, what it follows.
    needs: Needs,
    name: &'static str,
    cmd: Cmd,
    /// What is run where the part that it follows has failed.
    otherwise: Option<Cmd>,
    when: When,
}

impl Part {
    /// A part that takes nothing and follows none.
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

    /// Takes a variable away from whatever it runs.
    fn env_remove(mut self, name: &str) -> Self {
        self.cmd = self.cmd.env_remove(name);
        self.otherwise = self.otherwise.map(|cmd| cmd.env_remove(name));
        self
    }
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

/// Has Clippy's driver compile the workspace's crates. Lints and tests are then one compilation, and share all dependencies.
const LINTED: [&str; 2] = ["--config", ".ci/lint.toml"];

/// Runs the command.
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

/// The parts that were asked for.
fn chosen(all: Vec<Part>, args: &cli::Test) -> Result<Vec<Part>> {
    if let Some(unknown) = args.parts.iter().find(|name| !all.iter().any(|part| part.needs.id == *name)) {
        let known: Vec<&str> = all.iter().map(|part| part.needs.id).collect();
        return Err(
            Exit::Usage.error(format_args!("no part `{unknown}`"), format_args!("there are: {}", known.join(", ")))
        );
    }
    let wanted = |when: When| match when {
        When::Always => true,
        When::Vm => !args.no_vm,
        When::Full => args.full,
        When::Named => false,
    };
    let named = |part: &Part| args.parts.iter().any(|name| name == part.needs.id);
    Ok(all.into_iter().filter(|part| if args.parts.is_empty() { wanted(part.when) } else { named(part) }).collect())
}

/// All parts with their times, for a person.
fn table(parts: &[Part], ran: &[Ran], seconds: f64) -> String {
    let mut text = String::new();
    for (part, ran) in parts.iter().zip(ran) {
        let mark = if ran.passed { "✓" } else { "✗" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark} {:12} {:>10}  {}", part.needs.id, clock(ran.seconds), part.name);
    }
    let _ = writeln!(text, "  {:12} {:>10}  parts that do not compete run side by side", "all", clock(seconds));
    text
}

/// The line at the end, or an error that names what failed.
fn outcome(parts: &[Part], ran: &[Ran]) -> Result<String> {
    let failed: Vec<(&Part, &Ran)> = parts.iter().zip(ran).filter(|(_, ran)| !ran.passed).collect();
    if failed.is_empty() {
        return Ok(format!("{} parts passed", parts.len()));
    }
    // Hours of output may stand between a part's failure and the end; whoever reads a CI log starts here.
    let ends: Vec<String> = failed.iter().map(|(part, ran)| format!("failed: {}\n{}", part.name, ran.end)).collect();
    let again: Vec<String> = failed.iter().map(|(_, ran)| ran.cmd.to_string()).collect();
    Err(Exit::ImageFailed.error(ends.join("\n"), format_args!("run alone: {}", again.join("; "))))
}

/// Commands of cargo in the project.
fn cargo(context: &Context) -> Cmd {
    Cmd::new("cargo").without_our_crate().dir(&context.root)
}

/// cargo on the EC2 provider, after everything else that wants a processor.
fn aws(context: &Context) -> Cmd {
    Cmd::new("nice").args(["-n", "19", "cargo"]).without_our_crate().dir(&context.root)
}

fn parts(context: &Context) -> Vec<Part> {
    use Takes::{Compiler, Lock, Machines, Program};
    let (always, vm, full) = (When::Always, When::Vm, When::Full);
    let part = Part::new;
    let cargo = || cargo(context);
    // Where the lint has failed its crate is not compiled: rustc alone compiles it, so that its tests run all the same.
    let tests = |part: Part, cargo: Cmd, lint, args: &[&str]| {
        let otherwise = cargo.clone().arg("test").args(args);
        Part { cmd: cargo.arg("test").args(LINTED).args(args), ..part }.after(lint).otherwise(otherwise)
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
    // They become another user, as the scripts do.
    let root = rustix::process::geteuid().is_root();
    let bats = if root { Cmd::new("bats") } else { Cmd::new("sudo").args(["-n", "bats"]) };
    let lint = ["--all-targets", "--keep-going"];
    let provider = ["--package", "xtask-aws"];
    // In this order they are begun, as far as what they take is free.
    let mut parts = vec![
        part("format", "format", always, cargo().args(["fmt", "--all", "--check"])),
        part("lint", "lint", always, cargo().arg("build").args(LINTED).args(lint)).takes(&[Compiler, Program]),
        part("validate", "validate", always, cargo().args(["xtask", "validate"])).takes(&[Lock, Program]),
        tests(
            part("unit", "unit and integration tests", always, cargo()).takes(&[Lock, Program]),
            cargo(),
            "lint",
            &[],
        ),
        part(
            "agents",
            "the agents' scripts and apt, as root",
            always,
            bats.args(["scripts/tests/agent", "scripts/tests/provision"]).dir(&context.root),
        ),
        part(
            "pipeline",
            "the pipeline: a release",
            vm,
            cargo().args(["xtask", "--verbose", "ami", "release", "--yes"]),
        )
        .takes(&[Lock, Program, Machines]),
        in_vm("rebuild", "a build killed, interrupted, repeated, changed", vm, "rebuild"),
        in_vm("container", "a container build killed anywhere, and what it reaches", vm, "container"),
        in_vm("breaks", "every check sees its break", vm, "vm"),
        in_vm("workflows", "the release workflow, on local machines", vm, "workflows"),
        in_vm("documents", "what the pages say of machines", vm, "documents"),
        part(
            "aws-lint",
            "lint of the EC2 provider",
            always,
            aws(context).arg("build").args(LINTED).args(provider).args(lint),
        )
        .takes(&[Compiler]),
        tests(
            part("aws", "the EC2 provider at an endpoint, with faults", always, cargo()).takes(&[Lock]),
            aws(context),
            "aws-lint",
            &provider,
        ),
        in_vm("disk", "the state folder's disk is full", full, "full_disk"),
        in_vm("equality", "a container's image is a virtual machine's", full, "equality"),
        in_vm("kill", "a release killed everywhere", full, "kill"),
        on_aws("aws-kill", "a release on AWS killed everywhere", "kill"),
        on_aws("ssm", "a machine entered without SSH", "ssm"),
        in_vm("packer", "the real Packer, here", full, "packer"),
        on_aws("aws-release", "releases on AWS, by both engines", "release"),
    ];
    parts.extend(deny(&cargo()));
    // What a job's summary tells is the pipeline; the commands that tests run by the hundred are not a workflow's.
    let hidden = ["GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"];
    let quiet = |part: Part| hidden.iter().fold(part, |part, name| part.env_remove(name));
    parts.into_iter().map(|part| if part.needs.id == "pipeline" { part } else { quiet(part) }).collect()
}

/// cargo-deny is in no distribution and slow to compile, so it is not asked of everybody; who names the part gets it.
fn deny(cargo: &Cmd) -> Vec<Part> {
    let here = cargo.clone().args(["deny", "--version"]).output().is_ok_and(|f| f.code == 0);
    let check = cargo.clone().args(["deny", "check", "bans", "licenses", "sources"]);
    let when = if here { When::Always } else { When::Named };
    let check = Part::new("deny", "licences and sources", when, check).takes(&[Takes::Lock]).after("deny");
    if here {
        return vec![check];
    }
    let install = cargo.clone().args(["install", "--locked", "cargo-deny@0.20.2"]);
    vec![Part::new("deny", "cargo deny is installed", When::Named, install).takes(&[Takes::Compiler]), check]
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
            "  all            2 m 34 s  parts that do not compete run side by side",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn what_failed_is_named_with_its_end_and_the_command() {
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
