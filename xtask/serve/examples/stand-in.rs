//! Stands in for `xtask` in tests of the queue: its builds take a fraction of a second and make no disk. Runs, locks, the ledger, signals and the
//! output are those of `xtask`, so that being killed and resumed means the same.
//!
//! Each build adds lines to the file `stand-in.log` in the state directory: `begin RUN` for each process, `image RUN` when it has made its image.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for tests, whose output is that of `xtask`")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use serde_json::json;
use xtask::cli::{Ami, Cli, Command};
use xtask::ledger::RunOutcome;
use xtask::signals;
use xtask::state::{Run, RunRequest, State};

/// Time that a build takes, in steps of this many milliseconds.
const STEP: u64 = 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cli = Cli::parse();
    let dir = cli.common.state.clone().unwrap();
    signals::listen().unwrap();
    if cli.common.supervised.is_some() {
        signals::stop_at_eof().unwrap();
    }
    let state = State::open(&dir).unwrap();
    let (exit, summary, data) = match cli.command {
        Command::Ami(Ami::Build(args)) => {
            let request = RunRequest { command: "build", words: &words, on: "local" };
            let run = state.begin_run_as(cli.common.supervised.clone().unwrap(), request).unwrap();
            build(
                &dir,
                &run,
                args.build.vars.iter().find(|(name, _)| name == "node_version").map(|(_, value)| value.as_str()),
            )
        }
        Command::Ami(Ami::Resume(args)) => {
            let record = state.ledger().run(&args.run.unwrap()).unwrap().unwrap();
            let value =
                record.words.iter().find_map(|word| word.strip_prefix("--var=node_version=")).map(str::to_owned);
            let run = state.resume_run(&record).unwrap();
            build(&dir, &run, value.as_deref())
        }
        Command::Ami(Ami::List(_)) => (0, String::new(), list(&dir)),
        Command::Ami(Ami::Delete(args)) => {
            let kept: String =
                log(&dir).lines().filter(|l| !args.image.ends_with(&l[6..])).map(|l| format!("{l}\n")).collect();
            std::fs::write(dir.join("stand-in.log"), kept).unwrap();
            (0, format!("deleted {}", args.image), json!({ "deleted": args.image }))
        }
        Command::Ami(Ami::Plan(args)) => match args.build.provider.as_deref() {
            Some("cursor") => (2, "provider `cursor` is not supported".to_owned(), json!(null)),
            _ => (0, String::new(), json!(null)),
        },
        Command::Ami(Ami::Show(_)) => (0, String::new(), json!({ "smoke": null })),
        _ => (0, "done".to_owned(), json!(null)),
    };
    let error = (exit != 0).then(|| summary.clone());
    println!(
        "{}",
        json!({ "event": "result", "ok": exit == 0, "exit": exit, "summary": summary, "error": error, "data": data })
    );
    ExitCode::from(exit)
}

/// `value` is what the build does: `fail`, `die` (once for each run), `lines` (a long log), or a number of milliseconds.
fn build(dir: &Path, run: &Run, value: Option<&str>) -> (u8, String, serde_json::Value) {
    add(dir, &format!("begin {}", run.id()));
    println!("{}", json!({ "event": "run-started", "run": run.id(), "command": "build" }));
    let took = value.and_then(|value| value.parse().ok()).unwrap_or(200);
    for step in 0..took / STEP {
        println!(
            "{}",
            json!({ "event": "step-output", "name": "work", "stream": "stdout", "line": format!("step {step}\u{1b}[31m <b>") })
        );
        if signals::pause(Duration::from_millis(STEP)).is_err() {
            run.end(RunOutcome::Interrupted, "interrupted").unwrap();
            return (130, "interrupted".to_owned(), json!(null));
        }
    }
    match value {
        Some("fail") => {
            run.end(RunOutcome::Failed, "the step `work` failed").unwrap();
            return (4, "the step `work` failed".to_owned(), json!(null));
        }
        Some("die") if run.resumed() == 0 => std::process::abort(),
        Some("always-die") => std::process::abort(),
        Some("lines") => (0..5000).for_each(|n| {
            println!(
                "{}",
                json!({ "event": "step-output", "name": "work", "stream": "stdout", "line": format!("line {n}") })
            );
        }),
        _ => {}
    }
    let id = format!("ami-local-{}", run.id());
    add(dir, &format!("image {}", run.id()));
    run.ledger().note(run.id(), "image", &id).unwrap();
    run.end(RunOutcome::Done, "built").unwrap();
    (0, format!("built: {id}"), json!({ "image": { "id": id } }))
}

fn add(dir: &Path, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("stand-in.log")).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("stand-in.log")).unwrap_or_default()
}

/// The images by the log; the one in the file `promoted` is in the channel `staging`.
fn list(dir: &Path) -> serde_json::Value {
    let promoted = std::fs::read_to_string(PathBuf::from(dir).join("promoted")).unwrap_or_default();
    let (mut images, mut uses) = (Vec::new(), serde_json::Map::new());
    for run in log(dir).lines().filter_map(|line| line.strip_prefix("image ")) {
        let id = format!("ami-local-{run}");
        let digest = "0".repeat(64);
        images.push(json!({
            "schema": 1, "id": id, "name": format!("default-ec2-{run}"), "region": "local-1", "image": "default-ec2", "version": "1.0.0",
            "created": "2026-11-28T09:00:00Z", "recipe_hash": digest, "base": { "name": "debian-13", "id": "debian-13", "digest": digest },
            "content": digest, "disk_bytes": 1, "copied_from": null, "run": run, "engine": "native", "agent": "codex",
            "builder": { "machine_id": "", "host_keys": [] }, "tags": {},
        }));
        let channels: &[&str] = if promoted.trim() == id { &["staging"] } else { &[] };
        uses.insert(id, json!({ "channels": channels, "smoke_passed": null }));
    }
    json!({ "images": images, "damaged": 0, "uses": uses })
}
