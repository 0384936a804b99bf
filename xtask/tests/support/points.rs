//! What the kill tests share: a small image, a process that stops itself, and the way through all points at which one can be killed.

#![expect(clippy::print_stdout, reason = "the table of all points is what the test is run for")]

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::process::Cmd;

#[path = "stop.rs"]
mod stop;
use stop::comes_to_a_stop;

/// How long a release may take to come to a point.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What the small image is judged by: it boots, and it is an image.
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

/// By what it is, how many there are or what it says: the same after every release, whenever that was killed.
pub(crate) type EndState = BTreeMap<String, String>;

/// A fresh place for one release.
pub(crate) trait Stage: Sized {
    /// Starts a command; it stops itself at `pause`, as `LEDGER_PAUSE_AT` has it, unless that is empty.
    fn start(&self, args: &[&str], pause: &str) -> Child;
    /// Runs a command to its end, which must be a good one; its result's data.
    fn run(&self, args: &[&str]) -> Value;
    /// What is there.
    fn end_state(&self) -> EndState;
}

/// Kills `release` before and after each of its changes, finishes it, and holds the end against an undisturbed release's. Prints a line a point.
/// `KILL_FROM=7` begins at the seventh change: the whole takes more than an hour. Ends at the change, if there is one, of which `enough` says that
/// it is another series' affair.
pub(crate) fn kill_everywhere<S: Stage>(
    release: &[&str],
    fewest: usize,
    enough: impl Fn(&Value) -> bool,
    place: impl Fn() -> S,
) {
    let (undisturbed, calls) = {
        let (stage, started) = (place(), Instant::now());
        stage.run(release);
        println!("an undisturbed release takes {:.0} s", started.elapsed().as_secs_f64());
        (stage.end_state(), changes(&stage, &first_run(&stage)))
    };
    println!("undisturbed: {undisturbed:#?}");
    let from: usize = std::env::var("KILL_FROM").map_or(1, |n| n.parse().unwrap());
    let last = calls.iter().position(enough).unwrap_or(calls.len());
    assert!(last >= fewest, "a release changes more than {last} things: {calls:#?}");
    let mut wrong = Vec::new();
    for n in from..=last {
        for when in ["before", "after"] {
            wrong.extend(kill(&place(), release, &format!("{when}:{n}"), &undisturbed));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The id of a place's first run: the release.
fn first_run<S: Stage>(stage: &S) -> String {
    stage.run(&["ami", "runs"])["runs"][0]["run"]["id"].as_str().unwrap().to_owned()
}

/// What a run changed, in order.
fn changes<S: Stage>(stage: &S, run: &str) -> Vec<Value> {
    stage.run(&["ami", "show", run])["calls"].as_array().unwrap().clone()
}

/// What is wrong after it was killed and finished, if anything is.
fn kill<S: Stage>(stage: &S, release: &[&str], point: &str, undisturbed: &EndState) -> Option<String> {
    let started = Instant::now();
    let mut child = stage.start(release, point);
    assert!(comes_to_a_stop(&mut child, PATIENCE), "it never came to {point}");
    Cmd::new("kill").args(["-KILL", &child.id().to_string()]).read().unwrap();
    child.wait().unwrap();
    let run = first_run(stage);
    let last = changes(stage, &run).pop().unwrap();
    stage.run(&["ami", "resume", &run]);
    let ended = stage.end_state();
    let right = ended == *undisturbed;
    let (action, subject) = (last["action"].as_str().unwrap(), last["subject"].as_str().unwrap());
    let (seconds, outcome) = (started.elapsed().as_secs_f64(), if right { "as undisturbed" } else { "WRONG" });
    println!("{point:10} {action:36} {subject:48} {seconds:6.1} s  {outcome}");
    (!right).then(|| format!("{point} {action} {subject}: {ended:#?}"))
}
