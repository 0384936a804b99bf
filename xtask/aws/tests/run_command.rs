//! Work on a real machine by Systems Manager alone: commands, streams, files, timeouts and a restart, without a key and an open port.
//!
//! The endpoint is moto, the agent in the machine is a small stand-in for amazon-ssm-agent that polls the endpoint for commands.
//! `cargo test -p xtask-aws --test run_command -- --ignored --nocapture`; needs a base image, which `cargo xtask ami build` creates.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test prints its progress and stops at the first failure"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use xtask::cloud::{BuilderKind, Cloud as _, Machine as _, Start};
use xtask::event::Stream;
use xtask::process::{Cmd, Ended};
use xtask::ssm::{ASK_POLICY, ManagedNodes as _, Target, in_bash, policy};
use xtask::state::{RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;
use xtask_aws::settings::Via;
use xtask_aws::ssm::Ssm;

mod support;
#[path = "support/machine_host.rs"]
mod machine_host;
#[path = "support/settings.rs"]
mod settings;
use machine_host::{Plan, base_disk, run_machines};
#[path = "support/poller.rs"]
mod poller;
use support::{Moto, clients, free_port, inventory, owner, root};

/// Installs a unit like the one of the package, with a program that only sleeps.
const AGENT_UNIT: &str = "\
printf '[Service]\nExecStart=/bin/sleep infinity\nRestart=on-failure\nRestartPreventExitStatus=194\nRestartSec=15min\n' |
  sudo tee /etc/systemd/system/amazon-ssm-agent.service >/dev/null
sudo systemctl daemon-reload && sudo systemctl start amazon-ssm-agent.service";

/// Kills the unit's process; fails unless the unit runs another process within a minute.
const KILLED_AND_BACK: &str = "\
pid() { systemctl show --property MainPID --value amazon-ssm-agent.service; }
before=$(pid); sudo kill -KILL $before
for n in $(seq 60); do now=$(pid); test $now != 0 && test $now != $before && exit 0; sleep 1; done; exit 1";

#[test]
#[ignore = "boots a VM"]
fn a_machine_is_worked_on_without_ssh() {
    let (moto, dir) = (Moto::start(), tempfile::tempdir().unwrap());
    let region = "us-east-1".to_owned();
    let _machines = run_machines(Plan {
        url: moto.url.clone(),
        regions: vec![region.clone()],
        base_ami: "ami-0jammynew00000002".to_owned(),
        base_disk: base_disk(&root()),
        dir: dir.path().join("machines"),
        port: free_port(),
        agents_port: moto.agents_port,
    });
    let mut by_ssm = settings::settings(&[region.as_str()]);
    by_ssm.via = Via::Ssm;
    by_ssm.patience.command = Duration::from_secs(1);
    by_ssm.boot_timeout = Duration::from_secs(600);
    let driver = Arc::new(Driver::new().unwrap());
    let left = || driver.finish(inventory(&owner(&moto.url), std::slice::from_ref(&region)));
    let before = left();
    let state = State::open(dir.path().join("state")).unwrap();
    let run = Arc::new(state.begin_run(RunRequest { command: "test", words: &[], on: "aws" }).unwrap());
    let ec2 = Ec2::new(Arc::clone(&driver), &clients(&moto.url, Vec::new()), by_ssm, &state, Some(run));

    let source = settings::source();
    let last = std::cell::RefCell::new(String::new());
    let on_progress = |message: &str| {
        let what = message.split(",").next().unwrap_or_default().to_owned();
        if last.replace(what.clone()) != what {
            println!("{message}");
        }
    };
    let base = ec2.base(&source, &on_progress).unwrap();
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    let mut machine = ec2.start_builder(start, &on_progress).unwrap();
    let now = left();
    assert!(!now.keys().any(|k| k.starts_with("key pairs") || k.starts_with("security groups")), "{now:?}");

    let remote = machine.remote();
    assert_eq!(remote.read("id -un").unwrap(), "ubuntu\n");
    let finished = remote.output("cat; echo problem >&2; exit 3", b"from here").unwrap();
    assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (3, "from here", "problem\n"));
    let ends_itself = "pgrep -f agent-ami-deadline";
    remote.read(ends_itself).unwrap();
    println!("output longer than the limit of Run Command:");
    let long = remote.read("seq 20000").unwrap();
    assert_eq!(long.lines().count(), 20000);
    assert!(long.ends_with("\n20000\n"));

    println!("lines arrive while the command runs:");
    let mut seen: Vec<(Stream, String)> = Vec::new();
    let ended = remote.stream("echo one; sleep 3; echo two >&2; printf three; exit 7", None, &mut |stream, line| {
        seen.push((stream, line.to_owned()));
    });
    assert_eq!(ended.unwrap(), Some(Ended::Code(7)));
    let lines: BTreeMap<String, Stream> = seen.iter().map(|(s, l)| (l.clone(), *s)).collect();
    assert_eq!(
        lines,
        [("one", Stream::Stdout), ("two", Stream::Stderr), ("three", Stream::Stdout)]
            .map(|(l, s)| (l.to_owned(), s))
            .into()
    );
    let ended = remote.stream("sleep 601", Some(Duration::from_secs(2)), &mut |_, _| {}).unwrap();
    assert_eq!(ended, Some(Ended::TimedOut));
    assert_ne!(remote.output("pgrep -fx 'sleep 601'", b"").unwrap().code, 0, "the command that timed out still runs");

    println!("files and directories are uploaded with their modes:");
    let kit = dir.path().join("kit");
    std::fs::create_dir_all(kit.join("below")).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(kit.join("below/noise"), &bytes).unwrap();
    remote.upload(&kit, "/var/tmp/").unwrap();
    let sum = xtask::recipe::Digest::of(&bytes).to_string();
    assert!(remote.read("sha256sum /var/tmp/kit/below/noise").unwrap().starts_with(&sum));
    remote.put(b"#!/bin/sh\necho it runs\n", "/tmp/it", 0o755).unwrap();
    assert_eq!(remote.read("/tmp/it").unwrap(), "it runs\n");

    println!("the agent is kept alive, by Run Command:");
    remote.read(AGENT_UNIT).unwrap();
    let send = Cmd::new("curl").args(["-sf", "-X", "PUT", "--data"]);
    let id = machine.id().to_owned();
    let node = json!({ "Region": region, "PingStatus": "Online", "Tags": {}, "PlatformType": "Linux" }).to_string();
    send.arg(node).arg(format!("http://127.0.0.1:{}/{id}", moto.agents_port)).read().unwrap();
    let node_clients = clients(&moto.url, Vec::new());
    let managed_nodes = Ssm::new(&driver, node_clients, &[region.as_str().into()], Duration::from_secs(1));
    let nodes = managed_nodes.nodes(&[Target::Id(id)]).unwrap();
    let script = std::fs::read_to_string(root().join("scripts/agent/ssm-keepalive.sh")).unwrap();
    let run_script =
        |script: &str| managed_nodes.run(&nodes, script, Duration::from_secs(120), &|_| {}).unwrap().remove(0);
    assert_eq!(policy(&run_script(ASK_POLICY).stdout).brief(), "on-failure after 15min, may give up");
    let first = run_script(&in_bash(&script));
    println!("{}{}", first.stdout, first.stderr);
    assert!(first.is_good() && first.stdout.starts_with("changed=yes\n"), "{first:?}");
    assert!(first.stdout.contains("active=active restart=always after=10s start-limit=0 not-after=194"), "{first:?}");
    let again = run_script(&in_bash(&script));
    assert!(again.is_good() && again.stdout.starts_with("changed=no\n"), "{again:?}");
    assert_eq!(policy(&run_script(ASK_POLICY).stdout).brief(), "always after 10s");
    println!("systemd restarts the agent each time it is killed:");
    for _ in 0..3 {
        remote.read(KILLED_AND_BACK).unwrap();
    }

    println!("a command that restarts the machine does not fail:");
    let ended = remote.stream("sudo systemctl reboot; sleep 600", None, &mut |_, _| {}).unwrap();
    assert_eq!(ended, None);
    machine.reboot_finished(&on_progress).unwrap();
    assert_eq!(machine.remote().read("test -e /run/agent-ami-ssm && echo here").unwrap(), "here\n");
    machine.remote().read(ends_itself).unwrap();
    machine.end().unwrap();
    assert_eq!(left(), before);
}
