//! Copies of one image to twelve regions, by agent-ami, by a shell script with the AWS CLI, and by Canonical's awspub.
//!
//! All three use the same endpoint, which delays each response by 50 ms and keeps a copy pending for a minute. Measures the wall time until
//! the image is available in every region, and the number of API calls. `cargo bench --profile dev -p xtask-aws --bench copy`; five
//! minutes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints its results, stops at the first failure, and starts programs as a user does"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use xtask::cloud::{BuilderKind, Capture, Cloud as _, EngineKind, Identity, Image, Start};
use xtask::recipe::Digest;
use xtask::state::{RunRequest, State};
use xtask_aws::cloud::Ec2;
use xtask_aws::drive::Driver;

#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/support/settings.rs"]
mod settings;
use support::{Moto, clients, provided, root};

const HOME: &str = "us-east-1";
const REGIONS: [&str; 12] = [
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-central-1",
    "eu-north-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
];

/// Access key of the measured tools, to distinguish their calls from those of the setup.
const KEY: &str = "AKIABENCH00000000000";

/// awspub without its upload, which the other tools do not need.
const AWSPUB: &str = r#"
import pathlib
from awspub.context import Context
from awspub.image import Image
Image(Context(pathlib.Path("config.yaml"), None), "bench").create()
"#;

/// Starts the copies one after the other, then waits for them one after the other (`docs/src/reference-image.md#copying-to-regions`).
const SCRIPT: &str = r#"
set -eu
for region in $REGIONS; do
  id=$(aws ec2 copy-image --source-region us-east-1 --source-image-id "$AMI" --name "$NAME" --region "$region" --query ImageId --output text)
  echo "$region $id" >>ids
done
while read -r region id; do aws ec2 wait image-available --image-ids "$id" --region "$region"; done <ids
"#;

/// Returns the command that copies an image, to be run in this directory.
type Tool<'a> = &'a dyn Fn(&Moto, &Path, &Image) -> Command;

fn main() {
    // `cargo test --benches` and similar commands request a list of the benchmarks; there is none.
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let tools = provided("bench");
    let tested: [(&str, Tool<'_>); 3] = [
        ("agent-ami", &|_, dir, image| ours(dir, image)),
        ("bash and AWS CLI", &|_, _, image| script(&tools, image)),
        ("awspub", &|moto, dir, image| awspub(&tools, moto, dir, image)),
    ];
    println!("{:20} {:>8} {:>8}", "", "seconds", "calls");
    for (name, command) in tested {
        let moto = Moto::unrestricted(&[("LATENCY_MS", "50"), ("COPY_SECONDS", "60")]);
        let dir = tempfile::tempdir().unwrap();
        let image = image(&moto, dir.path());
        let mut command = command(&moto, dir.path(), &image);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.current_dir(dir.path()).env("AWS_ENDPOINT_URL", &moto.url).env("AWS_DEFAULT_REGION", HOME);
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", "test");
        let started = Instant::now();
        let status = command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).status().unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let output = || std::fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(status.success(), "{name}: {status}\n{}", output());
        let calls: usize = moto.calls(KEY).values().sum();
        println!("{name:20} {seconds:8.1} {calls:8}");
        println!("{:20} {:?}", "", moto.calls(KEY));
    }
}

/// An image in the home region. There is no machine behind the endpoint, so the builder is not connected to.
fn image(moto: &Moto, dir: &Path) -> Image {
    let driver = Arc::new(Driver::new().unwrap());
    let state = State::open(dir.join("state")).unwrap();
    let run = Arc::new(state.begin_run(RunRequest { command: "bench", words: &[], on: "aws" }).unwrap());
    let ec2 = Ec2::new(driver, &clients(&moto.url, Vec::new()), settings::settings(&[HOME]), &state, Some(run));
    let source = settings::source();
    let base = ec2.base(&source, &|_| {}).unwrap();
    let machine = ec2
        .begin(Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None }, &|_| {})
        .unwrap();
    let capture = Capture {
        image: "locus-agent".to_owned(),
        version: "1.0.0".to_owned(),
        recipe_hash: Digest::of(b"bench"),
        engine: EngineKind::Native,
        built_in: BuilderKind::Instance,
        agent: Some("all".to_owned()),
        template: None,
        region: HOME.into(),
        builder: Identity::default(),
        source: Some(source),
    };
    ec2.capture(machine, &base, &capture, &|_| {}).unwrap()
}

fn ours(dir: &Path, image: &Image) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-aws"));
    command.args(["ami", "copy", &image.id.0, "--on", "aws", "--state"]).arg(dir.join("state"));
    command
        .env("CARGO_MANIFEST_DIR", root().join("xtask"))
        .env("AGENT_AMI_REGIONS_AWS", format!("{HOME},{}", REGIONS.join(",")));
    command
}

fn script(tools: &Path, image: &Image) -> Command {
    let mut command = Command::new("bash");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    command.args(["-c", SCRIPT]).env("PATH", path).env("REGIONS", REGIONS.join(" "));
    command.env("AMI", &image.id.0).env("NAME", &image.name);
    command
}

/// The home snapshot exists already under the name that awspub looks for, so only the copies to other regions are measured.
fn awspub(tools: &Path, moto: &Moto, dir: &Path, image: &Image) -> Command {
    let disk = b"a disk";
    std::fs::write(dir.join("disk.vmdk"), disk).unwrap();
    let aws = |args: &[&str]| {
        let done = Command::new(tools.join("aws"))
            .args(args)
            .args(["--region", HOME, "--endpoint-url", &moto.url])
            .env("AWS_ACCESS_KEY_ID", "setup")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    aws(&["s3api", "create-bucket", "--bucket", "bench"]);
    let mapping = "Images[0].BlockDeviceMappings[0].Ebs.SnapshotId";
    let snapshot = aws(&["ec2", "describe-images", "--image-ids", &image.id.0, "--query", mapping, "--output", "text"]);
    let name = format!("Key=Name,Value={}", Digest::of(disk));
    aws(&["ec2", "create-tags", "--resources", snapshot.trim(), "--tags", &name]);
    let config = serde_json::json!({ "awspub": {
        "source": { "path": "disk.vmdk", "architecture": "x86_64" },
        "s3": { "bucket_name": "bench" },
        "images": { "bench": { "description": "bench", "boot_mode": "uefi-preferred", "regions": REGIONS } },
    } });
    // JSON is YAML.
    std::fs::write(dir.join("config.yaml"), config.to_string()).unwrap();
    let mut command = Command::new(tools.join("python"));
    command.args(["-c", AWSPUB]);
    command
}
