//! Copy and promotion on AWS that are killed before and after every mutating call, and then resumed: they end in the same state as
//! undisturbed ones, without duplicate or orphaned resources. No machine is needed; `kill.rs` tests a whole release.

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::Command;
use serde_json::Value;
use xtask::cloud::{Cloud as _, Image};
use xtask::stage::smoke::{DOCUMENT, passes};
use xtask_aws::record;

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
#[path = "../../tests/support/stopped.rs"]
mod stopped;
use account::Account;
use stopped::Stopped;
use support::{Moto, root};

const REGIONS: &str = "us-east-1,us-west-2,eu-west-1";
/// Number of concurrent tests. They wait most of the time, for EC2's eventual consistency.
const AT_ONCE: usize = 6;

/// An account with an image that passed its smoke test, and a state directory.
struct Place {
    account: Account,
    image: Image,
}

impl Place {
    fn new(copied: bool) -> Self {
        let account = Account::at(Moto::start_with(&[]));
        let owners = account.owners();
        let image = account.build(&owners).unwrap();
        let spec = xtask::recipe::Digest::of(&std::fs::read(root().join("smoke/specs/locus-agent.toml")).unwrap());
        let tags = BTreeMap::from([
            ("agent-ami:smoke".to_owned(), "passed 2026-11-21T10:00:00Z".to_owned()),
            ("agent-ami:smoke-spec".to_owned(), spec.to_string()),
            ("agent-ami:smoke-passes".to_owned(), passes(&["t3.micro".to_owned()], true).join(", ")),
        ]);
        let smoke_record = record::smoke_record(&tags, image.content).unwrap();
        owners.put_document(&image, DOCUMENT, &serde_json::to_vec(&smoke_record).unwrap()).unwrap();
        let place = Self { account, image };
        if copied {
            place.run(&["ami", "copy", &place.image.id.0]);
        }
        place
    }

    fn command(&self, args: &[&str], pause: &str) -> Command {
        let dir = self.account.dir.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
        command.args(args).args(["--on", "aws", "--yes", "--format", "json", "--state"]).arg(dir.join("killed"));
        command.env("AWS_ENDPOINT_URL", &self.account.moto.url).env("AWS_ACCESS_KEY_ID", support::PIPELINE);
        command
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AGENT_AMI_REGIONS_AWS", REGIONS)
            .env("LEDGER_PAUSE_AT", pause);
        command.env("AGENT_AMI_CHANNELS_STAGING_ENV_FILE", dir.join("staging.env"));
        command.env("CARGO_MANIFEST_DIR", root().join("xtask")).env_remove("GITHUB_OUTPUT").current_dir(root());
        command
    }

    /// Runs a command that must succeed; returns the data of its result.
    fn run(&self, args: &[&str]) -> Value {
        let ended = self.command(args, "").output().unwrap();
        let stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or("{}")).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {last:#}");
        last["data"].clone()
    }

    /// The number of mutating calls in the run of a command.
    fn changes(&self, command: &str) -> usize {
        let runs = self.run(&["ami", "runs"])["runs"].clone();
        let is_it = |run: &&Value| run["run"]["command"].as_str().unwrap().contains(command);
        let run = runs.as_array().unwrap().iter().find(is_it).unwrap();
        self.run(&["ami", "show", run["run"]["id"].as_str().unwrap()])["calls"].as_array().unwrap().len()
    }

    fn end_state(&self) -> Value {
        let history = self.run(&["ami", "history", "--channel", "staging"]);
        let gc = self.run(&["ami", "gc"])["decisions"].clone();
        let removals = gc.as_array().unwrap().iter().filter(|d| d["action"] != "keep").count();
        let marks = self.account.owners().marks(&self.image).unwrap().into_keys().collect::<Vec<_>>();
        serde_json::json!({
            "left": self.account.left(),
            "promotions": history["history"].as_array().unwrap().len(),
            "regions": history["now"].as_object().unwrap().len(),
            "removals planned by gc": removals,
            "marks": marks,
        })
    }
}

fn killed_everywhere(command: &[&str], copied: bool, fewest: usize) {
    let args = |place: &Place| -> Vec<String> {
        command
            .iter()
            .map(|word| if *word == "IMAGE" { place.image.id.0.clone() } else { (*word).to_owned() })
            .collect()
    };
    let (undisturbed, changes) = {
        let place = Place::new(copied);
        let words = args(&place);
        place.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        (place.end_state(), place.changes(command[1]))
    };
    assert!(changes >= fewest, "only {changes} changes");
    let points: Vec<String> = (1..=changes).flat_map(|n| [format!("before:{n}"), format!("after:{n}")]).collect();
    let next = AtomicUsize::new(0);
    let one = || {
        while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let place = Place::new(copied);
            let words = args(&place);
            Stopped::start(&place.command(&words.iter().map(String::as_str).collect::<Vec<_>>(), point)).kill();
            place.run(&["ami", "resume"]);
            assert_eq!(place.end_state(), undisturbed, "{point}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(one);
        }
    });
}

#[test]
fn a_copy_that_is_killed_at_any_call_is_resumed() {
    killed_everywhere(&["ami", "copy", "IMAGE"], false, 2);
}

#[test]
fn a_promotion_that_is_killed_at_any_call_is_resumed() {
    killed_everywhere(&["ami", "promote", "IMAGE", "--channel", "staging"], true, 10);
}
