//! `ssm status`, `ssm keepalive` and `ssm install` at an endpoint over HTTP, with EC2 and hybrid nodes, some of which fail.
//!
//! The nodes are simulated. Tests on real machines run the scripts themselves (`tests/run_command.rs`, the smoke checks).

#![expect(clippy::unwrap_used, reason = "a test prints its progress and stops at the first failure")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::process::Cmd;

mod support;
use support::{Moto, root};

const KEPT: &str = "changed=yes\nunit=amazon-ssm-agent.service load=loaded active=active restart=always after=10s start-limit=0 not-after=194\n";
const SHY: &str = "unit=amazon-ssm-agent.service restart=on-failure after=15min start-limit=10s\n";

/// The behavior of a simulated node when it gets a script.
#[derive(Clone, Copy)]
enum Behavior {
    /// Exit code, standard output, standard error.
    Returns(i32, &'static str, &'static str),
    /// It takes the script and never returns a result.
    Hangs,
}

/// An endpoint with simulated nodes, and a state directory.
struct Place {
    moto: Moto,
    dir: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    agents: Vec<std::thread::JoinHandle<()>>,
}

impl Place {
    fn new() -> Self {
        Self { moto: Moto::start(), dir: tempfile::tempdir().unwrap(), stop: Arc::default(), agents: Vec::new() }
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.moto.agents_port)
    }

    /// Registers a node with the tag `ManagedBy=agent-ami`, which the policy requires for commands.
    fn node(&self, id: &str, region: &str, ping: &str, role: &str) {
        let node = json!({
            "Region": region, "PingStatus": ping, "Tags": { "Role": role, "ManagedBy": "agent-ami" }, "AgentVersion": "3.3.40.0", "PlatformType": "Linux",
            "PlatformName": "Ubuntu", "PlatformVersion": "22.04", "ComputerName": format!("host-{role}"), "LastPingDateTime": 1_795_305_600,
        });
        send("PUT", &self.at(id), &node);
    }

    /// Starts a node that accepts commands.
    fn agent(&mut self, id: &str, region: &str, role: &str, behavior: Behavior) {
        self.node(id, region, "Online", role);
        let (url, stop) = (self.at(id), Arc::clone(&self.stop));
        self.agents.push(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let body = Cmd::new("curl").args(["-sf", &url]).read().unwrap_or_default();
                if let (Ok(command), Behavior::Returns(code, stdout, stderr)) =
                    (serde_json::from_str::<Value>(&body), behavior)
                {
                    let done = json!({ "code": code, "stdout": stdout, "stderr": stderr });
                    send("POST", &format!("{url}/{}", command["id"].as_str().unwrap()), &done);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }));
    }

    #[expect(clippy::disallowed_methods, reason = "the program under test, with its own environment")]
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
        command.args(["ssm"]).args(args).arg("--state").arg(self.dir.path()).current_dir(root());
        command.env("CARGO_MANIFEST_DIR", root().join("xtask")).env("AWS_ENDPOINT_URL", &self.moto.url);
        command.env("AWS_ACCESS_KEY_ID", "AKIAFLEET00000000000").env("AWS_SECRET_ACCESS_KEY", "test");
        command.output().unwrap()
    }

    /// The exit code, and the last line of JSON.
    fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(&[args, &["--format", "json", "--yes"]].concat());
        let stdout = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), serde_json::from_str(stdout.lines().last().unwrap()).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.agents.drain(..).for_each(|agent| drop(agent.join()));
    }
}

fn send(verb: &str, url: &str, body: &Value) {
    Cmd::new("curl").args(["-sf", "-X", verb, "--data", &body.to_string(), url]).read().unwrap();
}

const WEB: &str = "i-0aaaaaaaaaaaaaaa1";
const HYBRID: &str = "mi-0bbbbbbbbbbbbbbb2";
const BROKEN: &str = "i-0ccccccccccccccc3";
const AWAY: &str = "i-0ddddddddddddddd4";
const SILENT: &str = "mi-0eeeeeeeeeeeeeee5";

#[test]
fn status_lists_every_node_and_fails_if_one_is_not_online() {
    let mut place = Place::new();
    place.agent(WEB, "us-east-1", "web", Behavior::Returns(0, KEPT, ""));
    place.agent(HYBRID, "eu-west-1", "soc", Behavior::Returns(0, SHY, ""));
    let (code, result) = place.json(&["status"]);
    assert_eq!(code, Some(0), "{result}");
    let nodes = result["data"]["nodes"].as_array().unwrap();
    let brief: Vec<_> =
        nodes.iter().map(|n| (n["id"].as_str().unwrap(), n["policy"]["restart"].as_str().unwrap())).collect();
    assert_eq!(brief, [(HYBRID, "on-failure"), (WEB, "always")], "in the order of regions");
    assert_eq!((nodes[1]["ping"].as_str(), nodes[1]["agent"].as_str()), (Some("Online"), Some("3.3.40.0")));
    assert_eq!(
        (nodes[1]["system"].as_str(), nodes[1]["last_ping"].as_str()),
        (Some("Ubuntu 22.04"), Some("2026-11-22T00:00:00Z"))
    );

    place.node(AWAY, "us-east-1", "ConnectionLost", "web");
    let output = place.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let (table, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    println!("{table}");
    let row =
        |id: &str| table.lines().find(|l| l.starts_with(id)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        row(WEB),
        format!("{WEB} us-east-1 Online 2026-11-22 00:00:00 3.3.40.0 Ubuntu 22.04 host-web always after 10s")
    );
    assert!(row(HYBRID).ends_with("on-failure after 15min, may give up"), "{table}");
    assert!(
        row(AWAY)
            .ends_with("ConnectionLost 2026-11-22 00:00:00 3.3.40.0 Ubuntu 22.04 host-web unknown: ConnectionLost"),
        "{table}"
    );
    assert!(stderr.contains(&format!("{AWAY} is ConnectionLost")), "{stderr}");

    let (code, result) = place.json(&["status", "--target", "tag:Role=soc", "--no-policy"]);
    assert_eq!((code, result["data"]["nodes"].as_array().unwrap().len()), (Some(0), 1), "{result}");
    let (code, result) = place.json(&["status", "--region", "us-west-2"]);
    assert_eq!(code, Some(3), "{result}");
}

#[test]
fn all_pages_of_nodes_are_read() {
    let place = Place::new();
    for n in 0..120 {
        place.node(&format!("i-0{n:016x}"), "us-east-1", "Inactive", "many");
    }
    let (code, result) = place.json(&["status", "--no-policy", "--region", "us-east-1"]);
    assert_eq!(code, Some(1), "{result}");
    assert_eq!(result["error"].as_str().unwrap().matches("is Inactive").count(), 120);
}

#[test]
fn keepalive_reports_every_target_and_fails_if_one_fails() {
    let mut place = Place::new();
    place.agent(WEB, "us-east-1", "web", Behavior::Returns(0, KEPT, ""));
    place.agent(HYBRID, "eu-west-1", "soc", Behavior::Returns(0, KEPT, ""));
    let (code, result) = place.json(&["keepalive", "--target", WEB, "--target", HYBRID]);
    assert_eq!(code, Some(0), "{result}");
    assert_eq!(result["summary"], "systemd restarts the agent on all 2 nodes");

    place.agent(
        BROKEN,
        "us-east-1",
        "web",
        Behavior::Returns(1, "changed=no\n", "ssm-keepalive: it is not kept alive\n"),
    );
    place.agent(SILENT, "eu-west-1", "web", Behavior::Hangs);
    place.node(AWAY, "us-east-1", "ConnectionLost", "web");
    let output =
        place.run(&["keepalive", "--target", "tag:Role=web", "--target", HYBRID, "--timeout", "1s", "--yes", "-v"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    println!("{stderr}");
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    for line in [
        "2 of 5 nodes succeeded".to_owned(),
        format!("{AWAY} is ConnectionLost: no command can be sent to it"),
        format!("{BROKEN}: Failed, exit code 1: ssm-keepalive: it is not kept alive"),
        format!("{SILENT}: TimedOut: no answer within 30 s"),
        "restart=always after=10s start-limit=0 not-after=194".to_owned(),
    ] {
        assert!(stderr.contains(&line), "{line}");
    }
}

#[test]
fn nothing_is_sent_to_an_unknown_target_or_without_confirmation() {
    let mut place = Place::new();
    place.agent(WEB, "us-east-1", "web", Behavior::Returns(0, KEPT, ""));
    let sends =
        |place: &Place| place.moto.calls("AKIAFLEET00000000000").get("ssm:SendCommand").copied().unwrap_or_default();
    let (code, result) = place.json(&["keepalive", "--target", WEB, "--target", "mi-0ffffffffffffffff"]);
    assert_eq!(code, Some(3), "{result}");
    assert!(result["error"].as_str().unwrap().contains("no managed node mi-0ffffffffffffffff"), "{result}");
    assert_eq!(place.run(&["keepalive", "--target", WEB]).status.code(), Some(3), "there is no terminal to confirm on");
    let plan = place.run(&["keepalive", "--target", WEB, "--dry-run"]);
    assert!(plan.status.success());
    assert!(String::from_utf8(plan.stdout).unwrap().contains("Restart=always"));
    assert_eq!(place.run(&["keepalive", "--target", "web-1"]).status.code(), Some(2));
    assert_eq!(sends(&place), 0);
    // Commands are in the ledger.
    assert_eq!(place.json(&["keepalive", "--target", WEB]).0, Some(0));
    assert_eq!(sends(&place), 1);
    let ledger = xtask::state::State::open(Path::new(place.dir.path()).to_owned()).unwrap();
    let runs = ledger.ledger().runs().unwrap();
    let calls = ledger.ledger().calls(&runs.last().unwrap().id).unwrap();
    assert_eq!(
        calls.iter().map(|c| (c.action.as_str(), c.subject.as_deref().unwrap_or_default())).collect::<Vec<_>>(),
        [("ssm:SendCommand", WEB)]
    );
}

#[test]
fn install_succeeds_only_if_a_node_returns_the_expected_checksum() {
    let mut place = Place::new();
    let plan = place.run(&["install", "--target", WEB, "--dry-run"]);
    assert_eq!(plan.status.code(), Some(3), "a node that does not exist");
    place.agent(WEB, "us-east-1", "web", Behavior::Returns(0, "installed=0000\n", ""));
    let (code, result) = place.json(&["install", "--target", WEB]);
    assert_eq!(code, Some(4), "{result}");
    assert!(
        result["summary"]
            .as_str()
            .unwrap()
            .contains("the script ran, but reported installed=0000, expected installed="),
        "{result}"
    );
    let plan = place.run(&["install", "--target", WEB, "--dry-run"]);
    let text = String::from_utf8(plan.stdout).unwrap();
    let sum = text.lines().find_map(|l| l.strip_prefix("sum=")).unwrap().to_owned();
    let stdout: &'static str = format!("installed={sum}\n").leak();
    place.agent(HYBRID, "eu-west-1", "soc", Behavior::Returns(0, stdout, ""));
    let (code, result) = place.json(&["install", "--target", HYBRID]);
    assert_eq!(code, Some(0), "{result}");
    assert_eq!(result["summary"], "the dispatch scripts are installed on all 1 nodes");
}
