//! What the kill tests share: a small image, a process that stops itself, and the way through all points at which one can be killed.

#![expect(clippy::print_stdout, reason = "the table of all points is what the test is run for")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::process::Cmd;

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
/// `KILL_FROM=7` begins at the seventh change: the whole takes more than an hour.
pub(crate) fn kill_everywhere<S: Stage>(release: &[&str], fewest: u32, place: impl Fn() -> S) {
    let undisturbed = {
        let (stage, started) = (place(), Instant::now());
        stage.run(release);
        println!("an undisturbed release takes {:.0} s", started.elapsed().as_secs_f64());
        stage.end_state()
    };
    println!("undisturbed: {undisturbed:#?}");
    let from = std::env::var("KILL_FROM").map_or(1, |n| n.parse().unwrap());
    let mut wrong = Vec::new();
    for n in from.. {
        let came = ["before", "after"].iter().filter(|when| {
            let killed = kill(&place(), release, &format!("{when}:{n}"), &undisturbed);
            wrong.extend(killed.clone().flatten());
            killed.is_some()
        });
        if came.count() == 0 {
            assert!(n > fewest, "a release changes more than {n} things");
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `None` if the release ended before it came to the point; else what is wrong after it was killed and finished.
fn kill<S: Stage>(stage: &S, release: &[&str], point: &str, undisturbed: &EndState) -> Option<Option<String>> {
    let started = Instant::now();
    let mut child = stage.start(release, point);
    if !stopped(&mut child) {
        return None;
    }
    Cmd::new("kill").args(["-KILL", &child.id().to_string()]).read().unwrap();
    child.wait().unwrap();
    let runs = stage.run(&["ami", "runs"])["runs"].clone();
    let id = runs[0]["run"]["id"].as_str().unwrap().to_owned();
    let calls = stage.run(&["ami", "show", &id])["calls"].clone();
    let last = calls.as_array().unwrap().last().unwrap().clone();
    stage.run(&["ami", "resume", &id]);
    let ended = stage.end_state();
    let right = ended == *undisturbed;
    let (action, subject) = (last["action"].as_str().unwrap(), last["subject"].as_str().unwrap());
    let (seconds, verdict) = (started.elapsed().as_secs_f64(), if right { "as undisturbed" } else { "WRONG" });
    println!("{point:10} {action:36} {subject:48} {seconds:6.1} s  {verdict}");
    Some((!right).then(|| format!("{point} {action} {subject}: {ended:#?}")))
}

/// Waits until the process has stopped itself; false if it ended without.
fn stopped(child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(1200);
    loop {
        // proc_pid_stat(5): the state stands after the name's closing bracket.
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) {
            return true;
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "an undisturbed release ends well");
            return false;
        }
        assert!(Instant::now() < deadline, "it neither stops nor ends");
        std::thread::sleep(Duration::from_millis(20));
    }
}
