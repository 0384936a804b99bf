//! A release on AWS that is killed before and after every mutating call, and then resumed: it ends in the same state as an undisturbed
//! release, without duplicate or orphaned resources.
//!
//! The endpoint is moto, the machines are real and restored from a saved state, the template is a small one.
//! `cargo test -p xtask-aws --test kill -- --ignored --nocapture`, or `cargo xtask test --full`.

#![expect(clippy::unwrap_used, reason = "a test prints its progress and stops at the first failure")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_ec2::types::Reservation;
use serde_json::Value;

mod support;
#[path = "support/frozen.rs"]
mod frozen;
#[path = "support/poller.rs"]
mod poller;
use frozen::{RestoredMachine, SavedMachine};
#[path = "../../tests/support/points.rs"]
mod points;
use points::{EndState, SPEC, Stage, kill_everywhere};
use poller::Poller;
use support::{Moto, free_port, inventory, owner, root};

const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1"];
const KEY: &str = "AKIARELEASE000000000";

const CONFIG: &str = r#"
[images.tiny]
template = "tiny.pkr.hcl"
version = "1.0.0"
smoke = "tiny.toml"
source_local = "qemu.tiny"
source_aws = "amazon-ebs.tiny"

[regions]
local = ["local-1"]
aws = ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1"]

[channels.staging]
env_file = "staging.env"
ssm_prefix = "/tiny"
"#;

const TEMPLATE: &str = r#"
source "qemu" "tiny" {
  ssh_username = "ubuntu"
}

source "amazon-ebs" "tiny" {
  region        = "us-east-1"
  instance_type = "t3.medium"
  ssh_username  = "ubuntu"
  ami_name      = "tiny-v1.0.0-${formatdate("YYYYMMDD-hhmm", timestamp())}"
  imds_support  = "v2.0"

  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters = {
      name = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
    }
  }

  temporary_security_group_source_cidrs = ["127.0.0.1/32"]
  shutdown_behavior                     = "terminate"
}

build {
  sources = ["source.qemu.tiny", "source.amazon-ebs.tiny"]

  provisioner "shell" {
    inline = ["echo one | sudo tee /etc/one"]
  }
}
"#;

/// Runs restored machines for instances at the endpoint, one at a time on one port.
fn run_machines(url: String, frozen: Arc<SavedMachine>, dir: PathBuf, port: u16) -> Poller {
    Poller::start(Duration::from_millis(200), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ec2 = owner(&url).ec2(REGIONS[0]);
        let mut machines: HashMap<String, Option<RestoredMachine>> = HashMap::new();
        move || {
            let answer = runtime.block_on(ec2.describe_instances().send()).unwrap();
            let instances: Vec<_> = answer.reservations().iter().flat_map(Reservation::instances).collect();
            // Free the port before the next machine uses it.
            for instance in &instances {
                let state = instance.state().unwrap().name().unwrap().as_str();
                if let Some(machine) = machines.get_mut(instance.instance_id().unwrap()).filter(|_| state != "running")
                {
                    machine.take();
                }
            }
            for instance in instances {
                let id = instance.instance_id().unwrap();
                let running = instance.state().unwrap().name().unwrap().as_str() == "running";
                if running && !machines.contains_key(id) {
                    let call = ec2.describe_key_pairs().key_names(instance.key_name().unwrap());
                    let found = runtime.block_on(call.include_public_key(true).send()).unwrap();
                    let public = found.key_pairs()[0].public_key().unwrap().trim().to_owned();
                    machines.insert(id.to_owned(), Some(frozen.thaw(&dir.join(id), &public, port)));
                }
            }
        }
    })
}

/// An account, its machines, and a project that is released to it.
struct Account {
    // Dropped before the endpoint that it polls.
    _machines: Poller,
    moto: Moto,
    dir: tempfile::TempDir,
    port: u16,
    before: BTreeMap<String, usize>,
}

impl Account {
    fn new(frozen: &Arc<SavedMachine>) -> Self {
        let (moto, dir, port) = (Moto::start(), tempfile::tempdir().unwrap(), free_port());
        let machines = run_machines(moto.url.clone(), Arc::clone(frozen), dir.path().join("machines"), port);
        let state =
            std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or_else(|| root().join(".agent-ami"), PathBuf::from);
        for part in ["scripts", "smoke", "xtask", "Cargo.toml", "Cargo.lock"] {
            symlink(root().join(part), dir.path().join(part)).unwrap();
        }
        fs::create_dir_all(dir.path().join("state")).unwrap();
        symlink(state.join("bin"), dir.path().join("state/bin")).unwrap();
        for (name, text) in [("ami.toml", CONFIG), ("tiny.pkr.hcl", TEMPLATE), ("tiny.toml", SPEC)] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let before = Self::inventory(&moto);
        Self { _machines: machines, moto, dir, port, before }
    }

    fn inventory(moto: &Moto) -> BTreeMap<String, usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(inventory(&owner(&moto.url), &REGIONS.map(str::to_owned)))
    }
}

impl Stage for Account {
    #[expect(clippy::disallowed_methods, reason = "a process that is watched and killed")]
    fn start(&self, args: &[&str], pause: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
        command.args(args).args(["--on", "aws", "--format", "json", "--yes", "--state", "state"]);
        command.env("AWS_ENDPOINT_URL", &self.moto.url).env("AWS_ACCESS_KEY_ID", KEY);
        command.env("AWS_SECRET_ACCESS_KEY", "test").env("AGENT_AMI_AWS_SSH_HOST", "127.0.0.1");
        command.env("AGENT_AMI_AWS_SSH_PORT", self.port.to_string()).env("AGENT_AMI_AWS_SSH_CIDRS", "127.0.0.1/32");
        command.env("CARGO_MANIFEST_DIR", self.dir.path().join("xtask")).env("LEDGER_PAUSE_AT", pause);
        command.env_remove("AGENT_AMI_LOCAL_STATE_DIR").current_dir(self.dir.path());
        command.stdout(fs::File::create(self.dir.path().join("out")).unwrap()).stderr(Stdio::inherit()).spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Value {
        let code = self.start(args, "").wait().unwrap().code();
        let stdout = fs::read_to_string(self.dir.path().join("out")).unwrap();
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or("{}")).unwrap();
        assert_eq!(code, Some(0), "{args:?}: {}", last["error"].as_str().unwrap_or_default());
        last["data"].clone()
    }

    fn end_state(&self) -> EndState {
        let mut state = EndState::new();
        for (kind, n) in Self::inventory(&self.moto) {
            let n = n - self.before.get(&kind).copied().unwrap_or_default();
            if n > 0 {
                state.insert(kind, n.to_string());
            }
        }
        let images = self.run(&["ami", "list"])["images"].clone();
        let history = self.run(&["ami", "history", "--channel", "staging"]);
        state.insert("promotions".to_owned(), history["history"].as_array().unwrap().len().to_string());
        for region in REGIONS {
            let id = &history["now"][region];
            let exists = images.as_array().unwrap().iter().any(|i| i["id"] == *id && i["region"] == region);
            state.insert(format!("staging in {region}"), format!("image exists: {exists}"));
        }
        let gc = self.run(&["ami", "gc"])["decisions"].clone();
        let removals = gc.as_array().unwrap().iter().filter(|d| d["action"] != "keep").count();
        state.insert("removals planned by gc".to_owned(), removals.to_string());
        state
    }
}

fn base_disk(root: &Path) -> PathBuf {
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or_else(|| root.join(".agent-ami"), PathBuf::from);
    let bases = fs::read_dir(state.join("base")).unwrap();
    bases.flatten().map(|e| e.path().join("disk.qcow2")).find(|d| d.exists()).unwrap()
}

#[test]
#[ignore = "boots a VM and restores a hundred"]
fn a_release_killed_at_any_call_ends_as_an_undisturbed_one() {
    let place = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let frozen = Arc::new(SavedMachine::make(&base_disk(&root()), place.path()));
    println!("the machine is saved after {:.0} s", started.elapsed().as_secs_f64());
    kill_everywhere(&["ami", "release", "--engine", "native"], 20, |_| false, || Account::new(&frozen));
}
