//! Shared by the kill tests: the smoke spec of a small image, and a loop that kills a command before and after each of its changes.

#![expect(clippy::print_stdout, reason = "the test prints a table of all points")]

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::process::Cmd;

#[path = "stop.rs"]
mod stop;
use stop::stops;

/// Time that a release may take until it stops at a point.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// Smoke spec of the small image: it boots and has Python.
pub(crate) const SPEC: &str = r#"
schema = 1

[instance]
user = "ubuntu"
arch = "x86_64"
os = ["ubuntu 22.04", "ubuntu 24.04", "debian 13"]

[[tool]]
name = "python3"
version = ">=3.10"
"#;

/// Number or content of resources, by name. Must be the same after every release, wherever it was killed.
pub(crate) type EndState = BTreeMap<String, String>;

/// A new environment for one release.
pub(crate) trait Stage: Sized {
    /// Starts a command that stops itself (SIGSTOP) at `pause`, a value of `LEDGER_PAUSE_AT`; if it is empty, the command does not stop.
    fn start(&self, args: &[&str], pause: &str) -> Child;
    /// Runs a command, which must succeed; returns the data of its result.
    fn run(&self, args: &[&str]) -> Value;
    /// The resources that exist.
    fn end_state(&self) -> EndState;
}

/// Kills `release` before and after each of its changes, resumes it, and compares the end state with that of an uninterrupted release.
/// Prints one line per point. `KILL_FROM=7` begins at the seventh change, because all of them take more than an hour. Stops before the
/// first change for which `enough` returns true, if there is one.
pub(crate) fn kill_everywhere<S: Stage>(
    release: &[&str],
    at_least: usize,
    enough: impl Fn(&Value) -> bool,
    new_stage: impl Fn() -> S,
) {
    let (uninterrupted, calls) = {
        let (stage, started) = (new_stage(), Instant::now());
        stage.run(release);
        println!("an uninterrupted release takes {:.0} s", started.elapsed().as_secs_f64());
        (stage.end_state(), changes(&stage, &first_run(&stage)))
    };
    println!("uninterrupted: {uninterrupted:#?}");
    let from: usize = std::env::var("KILL_FROM").map_or(1, |n| n.parse().unwrap());
    let last = calls.iter().position(enough).unwrap_or(calls.len());
    assert!(last >= at_least, "{last} changes, expected at least {at_least}: {calls:#?}");
    let mut wrong = Vec::new();
    for n in from..=last {
        for when in ["before", "after"] {
            wrong.extend(kill(&new_stage(), release, &format!("{when}:{n}"), &uninterrupted));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The id of the stage's first run, which is the release.
fn first_run<S: Stage>(stage: &S) -> String {
    stage.run(&["ami", "runs"])["runs"][0]["run"]["id"].as_str().unwrap().to_owned()
}

/// The changes of a run, in order.
fn changes<S: Stage>(stage: &S, run: &str) -> Vec<Value> {
    stage.run(&["ami", "show", run])["calls"].as_array().unwrap().clone()
}

/// Kills the release at `point` and resumes it. Returns the end state if it differs from that of an uninterrupted release.
fn kill<S: Stage>(stage: &S, release: &[&str], point: &str, uninterrupted: &EndState) -> Option<String> {
    let started = Instant::now();
    let mut child = stage.start(release, point);
    assert!(stops(&mut child, TIMEOUT), "it did not stop at {point}");
    Cmd::new("kill").args(["-KILL", &child.id().to_string()]).read().unwrap();
    child.wait().unwrap();
    let run = first_run(stage);
    let last = changes(stage, &run).pop().unwrap();
    stage.run(&["ami", "resume", &run]);
    let ended = stage.end_state();
    let right = ended == *uninterrupted;
    let (action, subject) = (last["action"].as_str().unwrap(), last["subject"].as_str().unwrap_or_default());
    let (seconds, outcome) = (started.elapsed().as_secs_f64(), if right { "as uninterrupted" } else { "WRONG" });
    println!("{point:10} {action:36} {subject:48} {seconds:6.1} s  {outcome}");
    (!right).then(|| format!("{point} {action} {subject}: {ended:#?}"))
}
