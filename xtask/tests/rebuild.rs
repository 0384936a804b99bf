//! Builds in real virtual machines: killed, failed, repeated, interrupted by Ctrl-C. The template is small and installs no packages.
//! Requires a base image: `cargo xtask ami build`, then `cargo test -p xtask --test rebuild -- --ignored --nocapture`. `cargo xtask test`
//! runs both.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its observations and fails by panicking")]

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use xtask::process::Cmd;

#[expect(dead_code, reason = "the container test uses the other functions")]
mod support;
use support::Project;

fn step_started(index: u64) -> impl Fn(&Value) -> bool {
    move |e| e["event"] == "step-started" && e["index"] == index
}

#[test]
#[ignore = "boots VMs"]
fn a_build_that_is_killed_interrupted_repeated_and_changed() {
    let project = Project::new("vm");

    println!("SIGKILL in the middle of step 2:");
    project.script("two", "sleep 5");
    let mut build = project.start();
    build.until("step 2 began", step_started(2));
    build.signal(Signal::KILL);
    let (code, steps, last) = build.end();
    assert_eq!((code, steps), (None, vec!["done".to_owned()]), "{last}");

    println!(
        "the next build continues from the layer after step 1; its QEMU crashes and is replaced once; its step 3 fails:"
    );
    // The two streams are read independently; without the pause the last line may arrive before the others.
    project.script("three", "seq 50; sleep 2; echo broken >&2; exit 7");
    let mut build = project.start_with(&["--keep-on-failure"]);
    build.until("boot began", |e| e["event"] == "phase-started" && e["phase"] == "boot");
    project.kill_machine();
    build.until("a second machine was up", |e| e["event"] == "warning");
    build.until("it was kept", |e| e["message"].as_str().is_some_and(|message| message.contains("is kept: ssh ")));
    let login = build.last()["message"].as_str().unwrap().lines().next().unwrap();
    let login = login.split_once("is kept: ").unwrap().1.to_owned();
    let (code, steps, result) = build.end();
    assert_eq!((code, steps), (Some(4), ["up-to-date", "done", "failed"].map(str::to_owned).to_vec()), "{result}");
    let error = result["error"].as_str().unwrap();
    for word in
        ["step three failed", "mini/three.sh", "exit code 7", "broken", "mini.pkr.hcl:17", "cargo xtask ami build mini"]
    {
        assert!(error.contains(word), "`{word}` is not in {error}");
    }
    assert!(!error.contains("│ 10\n") && error.contains("│ 12\n"), "expected the last 40 lines: {error}");

    println!("its machine is kept: {login}");
    let shell = |line: String| Cmd::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(
        shell(format!("{login} cat log")).stdout,
        "one\ntwo\nthree\n",
        "the disk has no changes of the failed step"
    );
    shell(format!("{login} sudo poweroff"));
    let deadline = Instant::now() + Duration::from_secs(120);
    while project.processes().iter().any(|line| line.starts_with("qemu-system")) {
        assert!(Instant::now() < deadline, "the machine does not power off");
        std::thread::sleep(Duration::from_millis(200));
    }

    println!("after the fix only step 3 runs, on a disk that each step wrote to once:");
    project.script("three", "test \"$(tr '\\n' ' ' <~/log)\" = 'one two three '");
    let (code, steps, result) = project.start().end();
    assert_eq!((code, steps), (Some(0), ["up-to-date", "up-to-date", "done"].map(str::to_owned).to_vec()), "{result}");
    assert_eq!(result["ok"], true);
    assert_eq!(project.orphans(), [""; 0]);

    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(project.path("packer-manifest.json")).unwrap()).unwrap();
    let id = result["data"]["image"]["id"].as_str().unwrap();
    assert_eq!(manifest["builds"][0]["artifact_id"], format!("local-1:{id}"));
    let checksum = fs::read_to_string(project.path("mini.sha256")).unwrap();
    assert_eq!(checksum, format!("{}\tdisk.qcow2\n", result["data"]["image"]["content"].as_str().unwrap()));
    assert!(project.path("seen").exists(), "the shell-local post-processor did not run in the project's directory");

    println!("nothing changed:");
    let (code, steps, result) = project.start().end();
    assert_eq!((code, steps.len(), &result["data"]["up_to_date"]), (Some(0), 0, &Value::Bool(true)), "{result}");

    println!("the last script changed again; Ctrl-C while it runs:");
    project.script("three", "sleep 600");
    let mut build = project.start();
    build.until("step 3 began", step_started(3));
    assert!(project.processes().iter().any(|p| p.contains("qemu-system")), "no machine to interrupt");
    build.signal(Signal::INT);
    let interrupted = Instant::now();
    let (code, steps, result) = build.end();
    assert_eq!((code, &result["exit"]), (Some(130), &Value::from(130)), "{result}");
    assert!(interrupted.elapsed().as_secs() < 120, "the build waited until the step ended");
    assert_eq!(steps[..2], ["up-to-date", "up-to-date"]);
    assert_eq!(project.orphans(), [""; 0]);
}
