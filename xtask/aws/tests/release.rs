//! Whole releases on AWS by both engines: the endpoint is moto, the machines and Packer are real, the template is the project's own.
//!
//! Each takes as long as a build without cached layers. `cargo test -p xtask-aws --test release -- --ignored --nocapture --test-threads=1`,
//! or `cargo xtask test --full`. Needs a base image, which `cargo xtask ami build` creates.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test prints its progress and stops at the first failure"
)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use xtask::process::Cmd;
use xtask_aws::policy;

mod support;
#[path = "../../tests/support/follow.rs"]
mod follow;
#[path = "support/machine_host.rs"]
mod machine_host;
use follow::follow;
use machine_host::{Plan, base_disk, run_machines};
#[path = "support/poller.rs"]
mod poller;
use poller::Poller;
use support::{Moto, added, free_port, inventory, owner, root};

const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1"];

/// Access key of the releases, to distinguish their calls from those of the test.
const KEY: &str = "AKIARELEASE000000000";

/// The endpoint with machines behind it, and a state directory for the release.
struct Stage {
    // Dropped before the endpoint that it polls.
    _machines: Poller,
    moto: Moto,
    port: u16,
    dir: tempfile::TempDir,
    before: BTreeMap<String, usize>,
}

impl Stage {
    fn new() -> Self {
        let (moto, dir, port) = (Moto::start(), tempfile::tempdir().unwrap(), free_port());
        let machines = run_machines(Plan {
            url: moto.url.clone(),
            regions: vec![REGIONS[0].to_owned()],
            base_ami: "ami-0jammynew00000002".to_owned(),
            base_disk: base_disk(&root()),
            dir: dir.path().join("machines"),
            port,
            agents_port: moto.agents_port,
        });
        let before = Self::inventory(&moto);
        Self { _machines: machines, moto, port, dir, before }
    }

    #[expect(clippy::disallowed_methods, reason = "the command line as a user starts it")]
    fn run(&self, args: &[&str], env: &[(&str, String)]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
        command
            .args(args)
            .args(["--on", "aws", "--format", "json", "--yes", "--state"])
            .arg(self.dir.path().join("state"))
            .env("AWS_ENDPOINT_URL", &self.moto.url)
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AGENT_AMI_AWS_SSH_HOST", "127.0.0.1")
            .env("AGENT_AMI_AWS_SSH_PORT", self.port.to_string())
            .env("AGENT_AMI_AWS_SSH_CIDRS", "127.0.0.1/32")
            .env("AGENT_AMI_CHANNELS_STAGING_ENV_FILE", self.dir.path().join("staging.env"))
            .env("AGENT_AMI_CHANNELS_PRODUCTION_ENV_FILE", self.dir.path().join("production.env"))
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(root());
        let (code, last) = follow(&mut command);
        assert_eq!(code, Some(0), "{last:#}");
        last
    }

    /// The resources that have been added since the start.
    fn left(&self) -> BTreeMap<String, usize> {
        added(Self::inventory(&self.moto), &self.before)
    }

    fn inventory(moto: &Moto) -> BTreeMap<String, usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(inventory(&owner(&moto.url), &REGIONS.map(str::to_owned)))
    }
}

impl Stage {
    /// Checks the channel and the remaining resources after a release, and that the policy allows all calls.
    fn assert_released(&self) {
        let promoted = std::fs::read_to_string(self.dir.path().join("staging.env")).unwrap();
        println!("{promoted}");
        for region in REGIONS {
            let name = format!("LOCUS_AMI_ID_{}=ami-", region.to_uppercase().replace('-', "_"));
            assert!(promoted.contains(&name), "{name} is not in\n{promoted}");
        }
        let expected = REGIONS.iter().flat_map(|r| [(format!("images in {r}"), 1), (format!("snapshots in {r}"), 1)]);
        assert_eq!(self.left(), expected.collect());
        for (call, times) in self.moto.calls(KEY) {
            println!("{times:5} {call}");
            assert!(policy::allows(&call), "{call} is not in `cargo xtask iam-policy`");
        }
    }
}

#[test]
#[ignore = "boots VMs and builds the whole image"]
fn a_release_on_aws_by_the_native_engine() {
    let stage = Stage::new();
    let result = stage.run(&["ami", "release", "--engine", "native"], &[]);
    assert_eq!(result["ok"], true);
    stage.assert_released();
    let before = stage.moto.calls(KEY);
    let started = Instant::now();
    let again = stage.run(&["ami", "build", "--engine", "native"], &[]);
    assert_eq!(again["data"]["up_to_date"], true);
    println!("{:8.1} s  up to date", started.elapsed().as_secs_f64());
    let made = stage.moto.calls(KEY).into_iter().filter(|(call, n)| before.get(call) != Some(n));
    let mutating: Vec<String> =
        made.map(|(call, _)| call).filter(|c| !c.contains(":Describe") && !c.contains(":Get")).collect();
    // moto logs a DryRun like the call itself, so there were no permission checks, either.
    assert!(mutating.is_empty(), "an unchanged build made {mutating:?}");
}

#[test]
#[ignore = "builds Packer, boots VMs and builds the whole image"]
fn a_release_on_aws_by_packer() {
    let tools = root().join(".agent-ami/packer-tools");
    Cmd::new(root().join(".ci/packer/provide")).arg(&tools).read().unwrap();
    let stage = Stage::new();
    let env = [
        ("AGENT_AMI_PACKER_BINARY_PATH", tools.join("packer").display().to_string()),
        ("PACKER_PLUGIN_PATH", tools.join("plugins").display().to_string()),
        ("AGENT_AMI_PACKER_BUILD_TIMEOUT_SECS", "3600".to_owned()),
    ];
    let result = stage.run(&["ami", "release", "--engine", "packer"], &env);
    assert_eq!((&result["ok"], &result["data"]["image"]["engine"]), (&Value::Bool(true), &Value::from("packer")));
    stage.assert_released();
}
