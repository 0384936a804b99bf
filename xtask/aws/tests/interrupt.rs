//! Ctrl-C during a copy: every call that was sent gets its response, which is in the ledger before the command ends.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use xtask::cloud::{BuilderKind, Cloud as _, Start};
use xtask::state::{RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::capture;
use settings::{settings, source};
use support::{Moto, clients, root};

/// The number of calls of an action in the ledger, and how many of them have a result.
fn counted(ledger: &Connection, action: &str) -> (i64, i64) {
    let sql = "SELECT count(*), count(settled) FROM call WHERE action = ?1";
    ledger.query_row(sql, [action], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a process that is watched and interrupted")]
fn started(moto: &Moto, state: &std::path::Path, image: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
    command.args(["ami", "copy", image, "--on", "aws", "--state"]).arg(state).current_dir(root());
    command.env("AWS_ENDPOINT_URL", &moto.url).env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command
        .env("CARGO_MANIFEST_DIR", root().join("xtask"))
        .env("AGENT_AMI_REGIONS_AWS", "us-east-1,us-west-2,eu-west-1");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn every_copy_that_was_sent_has_its_result_in_the_ledger() {
    // Each call takes 1.5 seconds.
    let moto = Moto::start_with(&[("LATENCY_MS", "1500"), ("COPY_SECONDS", "600")]);
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path().join("state")).unwrap();
    let run = Arc::new(state.begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap());
    let driver = Arc::new(Driver::new().unwrap());
    let ec2 = Ec2::new(driver, &clients(&moto.url, Vec::new()), settings(&["us-east-1"]), &state, Some(run));
    let source = source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    let machine = ec2.begin(start, &|_| {}).unwrap();
    let image = ec2.capture(machine, &base, &capture(&source), &|_| {}).unwrap();

    let mut child = started(&moto, &dir.path().join("state"), &image.id.0);
    let ledger = Connection::open(dir.path().join("state/ledger.db")).unwrap();
    ledger.busy_timeout(Duration::from_secs(20)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while counted(&ledger, "ec2:CopyImage") == (0, 0) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no copy was started");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    xtask::process::Cmd::new("kill").args(["-INT", &pid]).read().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (begun, settled) = counted(&ledger, "ec2:CopyImage");
    assert!(begun > 0 && begun == settled, "{begun} copies were sent, {settled} results are in the ledger");
    let ids: Vec<String> = {
        let mut statement = ledger.prepare("SELECT ids FROM call WHERE action = 'ec2:CopyImage'").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert!(ids.iter().all(|ids| ids.contains("ami-")), "{ids:?}");
}
